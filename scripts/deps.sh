#!/bin/sh
# Installs the Debian packages that `make test`, `make demo` and `make bench` need.
#
# Silent when nothing is missing. As root on a system with apt-get it installs what is missing; otherwise it prints the
# command to run and exits 1. Rust itself is not its business: see https://rustup.rs.
set -eu

# One line per package: the package, then a file or command that shows that it is there. A command may also have come from
# elsewhere (a git in /usr/local/bin is as good as Debian's).
needed='
gcc                 command gcc
libc6-dev           file    /usr/include/stdio.h
libc-dev-bin        command gencat
make                command make
musl                file    /lib/ld-musl-*.so.1
iproute2            command ip
xz-utils            command xz
bzip2               command bzip2
openssh-client      command ssh-keygen
openssl             command openssl
libpython3-testsuite file   /usr/lib/python3*/test/test_os.py
binutils            command readelf
python3             file    /usr/bin/python3
python3-pip         file    /usr/lib/python3/dist-packages/pip
bash                command bash
tar                 command tar
findutils           command find
coreutils           command timeout
util-linux          command unshare
mount               command mount
procps              command ps
git                 command git
python3-git         file    /usr/lib/python3/dist-packages/git
sqlite3             command sqlite3
redis-server        command redis-server
redis-tools         command redis-cli
fakeroot            command fakeroot
eatmydata           command eatmydata
libeatmydata1       library libeatmydata.so
fiu-utils           command fiu-run
libfiu0             library libfiu.so.0
libjemalloc2        library libjemalloc.so.2
libtcmalloc-minimal4 library libtcmalloc_minimal.so.4
libmimalloc2.0      library libmimalloc.so.2.0
valgrind            command valgrind
user-mode-linux     command linux.uml
strace              command strace
gdb                 command gdb
g++                 command g++
e2fsprogs           file    /usr/sbin/mkfs.ext4
xfsprogs            file    /usr/sbin/mkfs.xfs
btrfs-progs         file    /usr/sbin/mkfs.btrfs
dash                command dash
zsh                 command zsh
perl                command perl
gawk                command gawk
lua5.4              command lua5.4
ruby                command ruby
php-cli             command php
nodejs              command node
guile-3.0           command guile
openjdk-17-jre-headless command java
ecj                 command ecj
liblog4j2-java      file    /usr/share/java/log4j-core.jar
nginx               file    /usr/sbin/nginx
apache2-bin         file    /usr/sbin/apache2
postgresql          file    /usr/lib/postgresql/*/bin/postgres
mariadb-server-core file    /usr/sbin/mariadbd
mariadb-client-core command mariadb
logrotate           file    /usr/sbin/logrotate
python3-plyvel      file    /usr/lib/python3/dist-packages/plyvel
rocksdb-tools       command ldb
lighttpd            file    /usr/sbin/lighttpd
memcached           command memcached
libjetty9-java      file    /usr/share/java/jetty9-server.jar
libnetty-java       file    /usr/share/java/netty-transport.jar
python3-grpcio      file    /usr/lib/python3/dist-packages/grpc
libuv1-dev          file    /usr/include/uv.h
wget                command wget
curl                command curl
prometheus          command prometheus
chromium            command chromium
tmux                command tmux
dpkg-dev            command dpkg-shlibdeps
pkg-config          command pkg-config
lintian             command lintian
man-db              command man
mandoc              command mandoc
fish                command fish
systemd             command systemd-analyze
shellcheck          command shellcheck
debootstrap         file    /usr/sbin/debootstrap
busybox-static      command busybox
musl-tools          command musl-gcc
podman              command podman
runc                file    /usr/sbin/runc
docker-compose      command docker-compose
golang-go           command go
'
# What `make servers` measures besides, or measures with.
[ "${1-}" != servers ] || needed="$needed
wrk                 command wrk
"

# What `make compat` runs besides.
[ "${1-}" != compat ] || needed="$needed
dpkg-dev            command dpkg-source
tcl8.6              command tclsh8.6
gettext             command msgfmt
bison               command bison
chromium            command chromium
memcached           command memcached
openssh-server      file    /usr/sbin/sshd
openssh-client      command ssh
dbus                command dbus-daemon
cron                file    /usr/sbin/cron
wrk                 command wrk
"
# What `make bench` compares with.
[ "${1-}" != bench ] || needed="$needed
wrk                 command wrk
libfaketime         library faketime/libfaketimeMT.so.1
libsocket-wrapper   library libsocket_wrapper.so
postgresql-client   command pgbench
npm                 command npm
"

# Is it there?  have command gcc / have file /usr/bin/python3 / have library libfiu.so.0
have() {
    case $1 in
    command) command -v "$2" >/dev/null 2>&1 ;;
    file)
        # shellcheck disable=SC2086 # a pattern
        for found in $2; do
            [ ! -e "$found" ] || return 0
        done
        return 1
        ;;
    library)
        for folder in /usr/lib /usr/lib64 /usr/lib/*-linux-gnu /usr/local/lib; do
            [ ! -e "$folder/$2" ] || return 0
        done
        return 1
        ;;
    esac
}

missing() {
    printf '%s\n' "$needed" | while read -r package kind what; do
        [ -z "$package" ] || have "$kind" "$what" || printf ' %s' "$package"
    done
}

wanted=$(missing)
[ -n "$wanted" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "missing:$wanted" >&2
    echo "run: sudo apt-get update && sudo apt-get install -y --no-install-recommends$wanted" >&2
    exit 1
fi

echo "installing:$wanted"
export DEBIAN_FRONTEND=noninteractive

# Debian starts a server when it is installed. A policy says no for the time of the installation, unless there is one.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

apt-get update -qq
# shellcheck disable=SC2086 # a list of package names
apt-get install -y -qq --no-install-recommends $wanted >/dev/null

wanted=$(missing)
if [ -n "$wanted" ]; then
    echo "installed, but still not found:$wanted" >&2
    exit 1
fi
