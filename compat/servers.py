"""Servers started as init scripts start them: they answer, reload, stop, and leave nothing behind."""

from .harness import need, suite
from .programs import steady

# Each script runs as pid 2 of a sandbox with a network of its own, in an empty folder $D that everyone may enter.
PROLOGUE = r"""
set -u; D=$PWD; umask 022; chmod 755 . ..
tries() { for _ in $(seq 100); do "$@" >/dev/null 2>&1 && return 0; sleep .1; done; echo "never: $*"; return 1; }
gone() { ! kill -0 "$1" 2>/dev/null; }
stop() { kill -"$1" "$2"; tries gone "$2" && echo stopped; }
descriptors() { ls -l /proc/"$1"/fd | sed -n 's/.* \([0-9]* -> .*\)/\1/p' | sed 's/\[[0-9]*\]//; s/anon_inode://; s/[0-9]\{4,\}/N/g' | sort | uniq -c; }
limits() { grep 'open files' /proc/"$1"/limits; }
"""

SERVERS = {
    "nginx": r"""
cat > conf <<X
worker_processes 2; pid $D/pid; error_log $D/error.log; user root;
events { worker_connections 200; }
http { access_log $D/access.log; client_body_temp_path $D/b; proxy_temp_path $D/p; fastcgi_temp_path $D/f; uwsgi_temp_path $D/u; scgi_temp_path $D/s;
  server { listen 127.0.0.1:8080; root $D/www; location /up { proxy_pass http://127.0.0.1:8080/; } } }
X
mkdir www; seq 100000 > www/n; nginx -t -c $D/conf 2>&1; nginx -c $D/conf; tries curl -sf 127.0.0.1:8080/n
for i in $(seq 30); do curl -s 127.0.0.1:8080/n; done | md5sum; curl -s 127.0.0.1:8080/up/n | md5sum; curl -so /dev/null -w '%{http_code}\n' 127.0.0.1:8080/none
descriptors $(cat pid); limits $(cat pid); mv access.log old.log; nginx -s reopen -c $D/conf; tries test -e access.log; curl -s 127.0.0.1:8080/n | md5sum; tries grep -q n access.log
nginx -s reload -c $D/conf; sleep 1; curl -s 127.0.0.1:8080/n | md5sum; wrk -t1 -c50 -d1 http://127.0.0.1:8080/n 2>&1 | grep -ci 'socket errors'
stop QUIT $(cat pid); wc -l < old.log; pgrep -c nginx""",
    "apache2": r"""
M=/usr/lib/apache2/modules; mkdir www; seq 100000 > www/n
cat > conf <<X
ServerRoot $D
ServerName x
Listen 127.0.0.1:8080
PidFile $D/pid
ErrorLog $D/error.log
LoadModule mpm_event_module $M/mod_mpm_event.so
LoadModule authz_core_module $M/mod_authz_core.so
LoadModule cgid_module $M/mod_cgid.so
LoadModule alias_module $M/mod_alias.so
ScriptAlias /cgi $D/cgi
ScriptSock $D/cgisock
DocumentRoot $D/www
User www-data
Group www-data
CustomLog "|/bin/cat >> $D/access.log" "%r %s"
X
printf '#!/bin/sh\necho; echo from cgi; ulimit -Sn\n' > cgi; chmod 755 cgi
apache2 -f $D/conf -k start; tries curl -sf 127.0.0.1:8080/n; for i in $(seq 30); do curl -s 127.0.0.1:8080/n; done | md5sum; curl -s 127.0.0.1:8080/cgi
apache2 -f $D/conf -k graceful; sleep 1; tries curl -sf 127.0.0.1:8080/n; stop TERM $(cat pid); sort access.log | uniq -c | sed 's/ [0-9]* GET/ N GET/'; tries sh -c '! pgrep apache2'; pgrep -c apache2""",
    "redis": r"""
redis-server --port 7777 --bind 127.0.0.1 --daemonize yes --pidfile $D/pid --logfile $D/redis.log --dir $D --appendonly yes --unixsocket $D/sock
tries redis-cli -p 7777 ping; redis-cli -p 7777 set a 1; redis-benchmark -p 7777 -c 50 -n 5000 -q -t set,lpush >/dev/null 2>&1; echo $?; redis-cli -p 7777 bgrewriteaof; redis-cli -p 7777 dbsize; redis-cli -s $D/sock incr a
redis-cli -p 7777 config get maxclients; limits $(cat pid); redis-cli -p 7777 bgsave; tries test -e dump.rdb; sleep .5; redis-cli -p 7777 shutdown; tries sh -c '! pgrep redis-server'
redis-server --port 7777 --bind 127.0.0.1 --daemonize yes --pidfile $D/pid --logfile $D/redis.log --dir $D --appendonly yes; tries redis-cli -p 7777 get a; redis-cli -p 7777 get a; descriptors $(cat pid) | grep -v eventpoll; stop TERM $(cat pid)""",
    "postgresql": r"""
P=$(echo /usr/lib/postgresql/*/bin); install -d -o postgres -g postgres pg; as() { setpriv --reuid postgres --regid postgres --init-groups env LD_PRELOAD="${LD_PRELOAD:-}" HOME=$D/pg "$@"; }
as $P/initdb -D $D/pg/data -A trust --no-sync >/dev/null 2>&1; echo $?; cd pg
as $P/pg_ctl -D $D/pg/data -l $D/pg/log -o "-k $D/pg -c listen_addresses= -c logging_collector=off -c fsync=on" -w start >/dev/null; echo $?
q() { as psql -h $D/pg -d postgres -Atc "$1"; }; q 'create table t as select generate_series(1, 20000) x'; q 'select sum(x) from t'; for i in $(seq 10); do q "insert into t values ($i)" & done; wait; q 'select count(*) from t'
as pgbench -h $D/pg -i -q postgres >/dev/null 2>&1; as pgbench -h $D/pg -c 8 -j 2 -t 50 postgres 2>/dev/null | grep -E 'processed|failed'; as pg_dump -h $D/pg -t t postgres | grep -v restrict | sort | md5sum; q 'show max_files_per_process'; q 'vacuum full t; '; as $P/pg_ctl -D $D/pg/data -w restart >/dev/null; q 'select sum(x) from t'
as $P/pg_ctl -D $D/pg/data -m fast -w stop; grep -c -E 'PANIC|FATAL' $D/pg/log; as $P/pg_controldata -D $D/pg/data | grep state""",
    "memcached": r"""
memcached -u root -d -l 127.0.0.1 -p 11222 -c 2000 -P $D/pid; say() { printf "$1" | timeout 5 bash -c 'exec 3<>/dev/tcp/127.0.0.1/11222; cat >&3; timeout 1 cat <&3'; }
tries say 'version\r\nquit\r\n'; say 'set a 0 0 3\r\nabc\r\nget a\r\nquit\r\n'; for i in $(seq 40); do say 'get a\r\nquit\r\n' & done | sort | uniq -c; limits $(cat pid); stop TERM $(cat pid)""",
    "sshd": r"""
mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N '' -f host; ssh-keygen -q -t ed25519 -N '' -f user; cp user.pub authorized
printf 'Port 2222\nListenAddress 127.0.0.1\nHostKey %s/host\nPidFile %s/pid\nAuthorizedKeysFile %s/authorized\nStrictModes no\nUsePAM no\nSubsystem sftp internal-sftp\n' $D $D $D > conf
/usr/sbin/sshd -f conf -E sshd.log; O="-o StrictHostKeyChecking=no -o UserKnownHostsFile=$D/known -o LogLevel=ERROR -i user"; tries ssh $O -p 2222 root@127.0.0.1 true
ssh $O -p 2222 root@127.0.0.1 'echo in; ulimit -Sn; seq 50000' | md5sum; ssh $O -tt -p 2222 root@127.0.0.1 'tty | sed s/[0-9]//g'; seq 100000 > f; scp -q $O -P 2222 f root@127.0.0.1:$D/g; cmp f g && echo copied
ssh $O -p 2222 -fN -M -S ctl -L 3333:127.0.0.1:2222 root@127.0.0.1; for i in 1 2 3 4 5; do ssh $O -S ctl root@x echo muxed; done; ssh -S ctl -O exit x 2>&1; stop TERM $(cat pid); grep -c 'Accepted publickey' sshd.log""",
    "dbus": r"""
dbus-daemon --session --fork --print-pid=5 --print-address=6 5>pid 6>address; export DBUS_SESSION_BUS_ADDRESS=$(cat address)
dbus-send --session --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.ListNames | grep -c string; for i in $(seq 30); do dbus-send --session --dest=org.freedesktop.DBus --print-reply / org.freedesktop.DBus.GetId >/dev/null & done; wait; stop TERM $(cat pid)""",
    "cron": r"""
mkdir -p tabs; mount -t tmpfs tmpfs /var/spool/cron/crontabs; printf '* * * * * echo ran >> %s/ran\n' $D > tabs/t; crontab tabs/t; crontab -l; mount -t tmpfs tmpfs /run; cron; sleep 1; pgrep -c cron; stop TERM $(cat /run/crond.pid)""",
    "mariadb": r"""
mkdir data; mariadb-install-db --no-defaults --user=root --datadir=$D/data --auth-root-authentication-method=normal >/dev/null 2>&1; echo $?
mariadbd --no-defaults --user=root --datadir=$D/data --socket=$D/s --skip-networking --pid-file=$D/data/pid --log-error=$D/data/err.log & tries mariadb --no-defaults -uroot -S $D/s -e 'select 1'
q() { mariadb --no-defaults -uroot -S $D/s -BNe "$1" test 2>&1; }; mariadb --no-defaults -uroot -S $D/s -e 'create database if not exists test'; q 'create table t(a int primary key auto_increment, b text) engine=innodb'; for i in $(seq 20); do q "insert into t(b) select repeat('x', $i) from seq_1_to_100" & done; for p in $(jobs -p | tail -n +2); do wait $p; done
q 'select count(*) from t'; q "show variables like 'open_files_limit'"; q 'check table t'; mariadb-admin --no-defaults -uroot -S $D/s shutdown; tries sh -c '! pgrep mariadbd'; grep -c ERROR data/err.log""",
    "php, python, ruby, node": r"""
mkdir www; echo '<?php echo array_sum(range(1, 100)), file_get_contents("n");' > www/i.php; echo 7 > www/n; cd www
php -S 127.0.0.1:8001 >/dev/null 2>&1 & P=$!; python3 -m http.server -b 127.0.0.1 8002 >/dev/null 2>&1 & Q=$!
node -e 'require("http").createServer((q, r) => require("fs").createReadStream("n").pipe(r)).listen(8003, "127.0.0.1")' & N=$!
ruby -rsocket -e 's = TCPServer.new("127.0.0.1", 8004); loop { Thread.start(s.accept) { |c| c.gets; c.write "HTTP/1.0 200 OK\r\n\r\n", File.read("n"); c.close } }' & R=$!
for u in 8001/i.php 8002/n 8003/ 8004/; do tries curl -sf 127.0.0.1:$u; for i in $(seq 20); do curl -s 127.0.0.1:$u & done | sort | uniq -c; done; for p in $P $Q $N $R; do stop TERM $p; done 2>/dev/null""",
    "syslog, logger, logrotate": r"""
mkdir log; python3 -c 'import socket, sys, os
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1]); n = 0
while n < 100: n += s.recv(9999).count(b"message")
open("got", "w").write(str(n))' $D/socket & tries test -S socket; for i in $(seq 100); do logger -u $D/socket message $i; done; tries test -s got; cat got; echo
seq 1000 > log/a.log; printf '%s/log/*.log { rotate 3\n compress\n create 600\n postrotate\n echo rotated >> %s/post\n endscript\n }\n' $D $D > conf; for i in 1 2 3 4 5; do seq $i > log/a.log; logrotate -f -s state conf; done; ls log; cat post; zcat log/a.log.1.gz""",
}
FIRST = {
    "nginx": "nginx", "apache2": "apache2-bin", "redis": "redis-server", "memcached": "memcached", "sshd": "openssh-server",
    "dbus": "dbus", "cron": "cron", "mariadb": "mariadb-server-core", "postgresql": "postgresql",
}
COMMAND = {"redis": "redis-server", "dbus": "dbus-daemon", "mariadb": "mariadbd", "postgresql": "psql"}


@suite("servers", "nginx, Apache, Redis, PostgreSQL, MariaDB, memcached, sshd, dbus, cron, logrotate: start, work, reload, stop", SERVERS)
def servers(unit, side):
    if unit in FIRST:
        need((COMMAND.get(unit, unit), FIRST[unit]))
    folder = side.path("d")
    folder.mkdir()
    side.folder.chmod(0o755)
    done = side.run(["bash", "-c", PROLOGUE + SERVERS[unit]], cwd=folder, timeout=150)
    return {"end": done.end, "output": steady(done.output)}
