#!/bin/sh
# The Debian packages that tideover's demo, tests and measurements run; works on Debian 12 (bookworm) and 13 (trixie).
#
# usage: scripts/deps.sh [SET]             installs what of the set is missing; prints nothing when nothing is
#        scripts/deps.sh --list [SET]      prints the names of the set's packages, one a line
#        scripts/deps.sh --missing [SET]   prints those that are missing here, one a line
#        scripts/deps.sh --verify [SET]    asks apt for each package of the set; names the unknown ones and exits 1
#
# SET is demo, test, check (every test; the default), bench, compat, field, servers, deb, release or arm64. Each of them contains those before
# it in the order demo, test, check; bench, compat, field and servers each contain check. deb is what `make deb` needs, release what `make
# release`, `make rpm`, `make wheel` and `make image` need, arm64 what `make arm64-root`, `make arm64` and `make arm64-test` need, and nothing else.
#
# Installing needs root and apt-get; without them the command to run is printed, and the exit status is 1. Rust is not among the
# packages: rustup installs it. Nor is what every Debian has ("Essential: yes": bash, coreutils, tar, util-linux ...).
set -eu

# One row per package: its name, then a file or command that shows that it is there. A command may also have come from
# elsewhere (a git in /usr/local/bin is as good as Debian's). A package whose name depends on the release has its names joined
# by "|": the first one that apt knows on this machine is taken.
demo='
gcc                 command gcc
libc6-dev           file    /usr/include/stdio.h
make                command make
mount               command mount
nginx               command nginx
procps              command ps
python3             file    /usr/bin/python3
'

# `make test`: unit tests, C programs, everyday programs.
test='
btrfs-progs         command mkfs.btrfs
busybox-static      command busybox
e2fsprogs           command mkfs.ext4
fish                command fish
fiu-utils           command fiu-run
g++                 command g++
git                 command git
logrotate           command logrotate
musl                file    /lib/ld-musl-*.so.1
perl                command perl
redis-server        command redis-server
redis-tools         command redis-cli
rsync               command rsync
shellcheck          command shellcheck
sqlite3             command sqlite3
tmux                command tmux
xfsprogs            command mkfs.xfs
zsh                 command zsh
'

# `make check`: every test, and the short form of `make compat`.
check='
apache2-bin         command apache2
binutils            command readelf
bzip2               command bzip2
chromium            command chromium
curl                command curl
debootstrap         command debootstrap
docker-compose      command docker-compose
dpkg-dev            command dpkg-shlibdeps
ecj                 command ecj
fakeroot            command fakeroot
gawk                command gawk
gcc-aarch64-linux-gnu command aarch64-linux-gnu-gcc
gdb                 command gdb
golang-go           command go
guile-3.0           command guile
iproute2            command ip
libeatmydata1       library libeatmydata.so
libjemalloc2        library libjemalloc.so.2
libjetty9-java      file    /usr/share/java/jetty9-server.jar
liblog4j2-java      file    /usr/share/java/log4j-core.jar
libmimalloc2.0|libmimalloc3 library libmimalloc.so.[23]*
libnetty-java       file    /usr/share/java/netty-transport.jar
libpython3.11-testsuite|libpython3.13-testsuite|libpython3-testsuite file /usr/lib/python3*/test/test_os.py
libtcmalloc-minimal4|libtcmalloc-minimal4t64 library libtcmalloc_minimal.so.4
libuv1-dev          file    /usr/include/uv.h
lighttpd            command lighttpd
lintian             command lintian
lua5.4              command lua5.4
man-db              command man
mandoc              command mandoc
mariadb-client-core command mariadb
mariadb-server-core command mariadbd
memcached           command memcached
musl-tools          command musl-gcc
nodejs              command node
openjdk-17-jre-headless|openjdk-21-jre-headless command java
openssh-client      command ssh-keygen
openssh-server      command sshd
openssl             command openssl
php-cli             command php
pkg-config          command pkg-config
podman              command podman
postgresql          file    /usr/lib/postgresql/*/bin/postgres
prometheus          command prometheus
prometheus-alertmanager command prometheus-alertmanager
python3-git         file    /usr/lib/python3/dist-packages/git
python3-grpcio      file    /usr/lib/python3/dist-packages/grpc
python3-pip         file    /usr/lib/python3/dist-packages/pip
python3-plyvel      file    /usr/lib/python3/dist-packages/plyvel
python3-venv        file    /usr/lib/python3*/ensurepip/__init__.py
python3-yaml        file    /usr/lib/python3/dist-packages/yaml
rocksdb-tools       command ldb
rpm                 command rpmbuild
ruby                command ruby
runc                command runc
strace              command strace
systemd             command systemd-analyze
user-mode-linux     command linux.uml
valgrind            command valgrind
wget                command wget
xz-utils            command xz
'

# What `make deb` calls.
deb='
dpkg-dev            command dpkg-shlibdeps
'

# What `make servers` measures with.
servers='
wrk                 command wrk
'

# What `make compat` runs in full.
compat='
bison               command bison
cron                command cron
dbus                command dbus-daemon
gettext             command msgfmt
tcl8.6              command tclsh8.6
wrk                 command wrk
'

# What `make bench` compares with.
bench='
dnsmasq-base        command dnsmasq
erlang-base         command erl
libfaketime         library faketime/libfaketimeMT.so.1
libsocket-wrapper   library libsocket_wrapper.so
nscd                command nscd
npm                 command npm
postgresql-client   command pgbench
rpcbind             command rpcbind
rsyslog             command rsyslogd
slapd               command slapd
snmpd               command snmpd
supervisor          command supervisord
tinyproxy           command tinyproxy
wrk                 command wrk
'

# What `make field` runs at limits and on full disks.
field='
7zip                command 7zz
beanstalkd          command beanstalkd
bind9               command named
dnsmasq-base        command dnsmasq
erlang-base         command erl
gunicorn            file    /usr/bin/gunicorn
haproxy             command haproxy
liblog-log4perl-perl file   /usr/share/perl5/Log/Log4perl.pm
liblogback-java     file    /usr/share/java/logback-classic.jar
libspdlog-dev       file    /usr/include/spdlog
mawk                command mawk
mosquitto           command mosquitto
ninja-build         command ninja
parallel            command parallel
postgresql-client   command psql
python3-loguru      file    /usr/lib/python3/dist-packages/loguru
ripgrep             command rg
rsyslog             command rsyslogd
slapd               command slapd
squid               command squid
supervisor          command supervisord
tcl8.6              command tclsh8.6
tinyproxy           command tinyproxy
unbound             command unbound
'

# What `make release` and its parts need; podman and runc to try the image.
release='
binutils            command readelf
busybox-static      command busybox
debootstrap         command debootstrap
dpkg-dev            command dpkg-shlibdeps
gcc                 command gcc
libc6-dev           file    /usr/include/stdio.h
make                command make
mount               command mount
musl-tools          command musl-gcc
podman              command podman
python3             file    /usr/bin/python3
python3-venv        file    /usr/lib/python3*/ensurepip/__init__.py
rpm                 command rpmbuild
runc                command runc
'

# What `make arm64-root`, `make arm64` and `make arm64-test` run.
arm64='
binutils            command readelf
busybox-static      command busybox
debootstrap         command debootstrap
e2fsprogs           command mke2fs
python3             file    /usr/bin/python3
python3-pip         file    /usr/lib/python3/dist-packages/pip
qemu-system-arm     command qemu-system-aarch64
xz-utils            command xz
'

usage() {
    sed -n '4,7s/^# //p' "$0" >&2
    exit 2
}

rows() {
    case $1 in
    demo) echo "$demo" ;;
    test) echo "$demo$test" ;;
    check) echo "$demo$test$check" ;;
    servers) echo "$demo$test$check$servers" ;;
    compat) echo "$demo$test$check$compat" ;;
    bench) echo "$demo$test$check$bench" ;;
    field) echo "$demo$test$check$field" ;;
    deb) echo "$deb" ;;
    release) echo "$release" ;;
    arm64) echo "$arm64" ;;
    esac | grep .
}

# Is it there?  have command gcc / have file /usr/bin/python3 / have library libfiu.so.0
have() {
    case $1 in
    # Servers and mkfs are in /usr/sbin, which is not in every user's PATH.
    command) (PATH=$PATH:/usr/sbin:/sbin && command -v "$2" >/dev/null 2>&1) ;;
    file) any "$2" ;;
    library) any "/usr/lib/$2" "/usr/lib64/$2" "/usr/lib/*-linux-gnu/$2" "/usr/local/lib/$2" ;;
    esac
}

# Is there a file of one of these patterns?
any() {
    for pattern; do
        for found in $pattern; do
            [ ! -e "$found" ] || return 0
        done
    done
    return 1
}

# Of the given names those that apt could install, one a line; nothing where there is no apt.
known() {
    { LC_ALL=C apt-cache policy "$@" 2>/dev/null || true; } |
        awk '/^[^ ]/ { sub(/:$/, ""); name = $0 } /^  Candidate:/ && $2 != "(none)" { print name }'
}

# Reads rows; prints one name for each: the first one that apt knows, or else the first one.
names() {
    table=$(cat)
    # shellcheck disable=SC2046 # package names
    candidates=$(known $(printf '%s\n' "$table" | awk 'index($1, "|") { gsub(/\|/, " ", $1); print $1 }'))
    printf '%s\n' "$table" | awk -v candidates="$candidates" '
        BEGIN { count = split(candidates, names); for (i = 1; i <= count; i++) known[names[i]] = 1 }
        NF {
            count = split($1, names, "|")
            taken = names[1]
            for (i = count; i > 0; i--) if (names[i] in known) taken = names[i]
            print taken
        }'
}

missing() {
    rows "$1" | while read -r package kind what; do
        have "$kind" "$what" || echo "$package $kind $what"
    done
}

list() { rows "$1" | names; }

unknown() {
    # shellcheck disable=SC2046 # package names
    list "$1" | grep -vxF "$(known $(list "$1"))" || true
}

verify() {
    [ -n "$(unknown "$1")" ] || return 0
    # On a new machine apt knows none before that.
    if [ "$(id -u)" = 0 ]; then apt-get update -qq; fi
    left=$(unknown "$1" | tr '\n' ' ')
    [ -n "$left" ] || return 0
    echo "apt knows no package of these names: $left" >&2
    return 1
}

# Debian starts a server when it is installed. A policy says no for the time of the installation, unless there is one.
start_no_servers() {
    policy=/usr/sbin/policy-rc.d
    [ ! -e "$policy" ] || return 0
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

install_missing() {
    [ -n "$(missing "$1")" ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        wanted=$(missing "$1" | names | tr '\n' ' ')
        echo "missing: $wanted" >&2
        echo "run: sudo apt-get update && sudo apt-get install -y --no-install-recommends $wanted" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    # Before the names are asked for: on a new machine apt knows none.
    apt-get update -qq
    wanted=$(missing "$1" | names | tr '\n' ' ')
    echo "installing: $wanted"
    start_no_servers
    # shellcheck disable=SC2086 # a list of package names
    apt-get install -y -qq --no-install-recommends $wanted >/dev/null
    left=$(missing "$1" | names | tr '\n' ' ')
    if [ -n "$left" ]; then
        echo "installed, but still not found: $left" >&2
        exit 1
    fi
}

action=install_missing
case ${1-} in
--list) action=list && shift ;;
--missing) action=show_missing && shift ;;
--verify) action=verify && shift ;;
-*) usage ;;
esac
[ $# -le 1 ] || usage
set=${1:-check}
case $set in
demo | test | check | bench | compat | field | servers | deb | release | arm64) ;;
*) usage ;;
esac
show_missing() { missing "$1" | names; }
$action "$set"
