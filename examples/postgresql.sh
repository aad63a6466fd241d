#!/bin/sh
# PostgreSQL, whose log collector's disk is full: no line of the log is lost.  usage: examples/postgresql.sh [without]
# Needs root, for a disk of its own (in a mount namespace) and the user postgres.
set -eu
if [ "${NAMESPACE:-}" != own ]; then
    NAMESPACE=own exec unshare -m sh "$0" "$@"
fi
guard="${TIDEOVER:-tideover} run --"
[ "${1:-}" != without ] || guard=
bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | tail -n 1)

work=$(mktemp -d)
server=
clean_up() {
    [ -z "$server" ] || stop || true
    umount -l "$work/log" 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM
chmod 755 "$work"
mkdir "$work/log"
mount -t tmpfs -o size=256k tmpfs "$work/log"
chown postgres "$work" "$work/log"
as_postgres() { (cd "$work" && exec setpriv --reuid=postgres --regid=postgres --clear-groups "$@"); }
stop() { as_postgres "$bin/pg_ctl" -D "$work/data" -m fast -s stop && wait "$server"; }
as_postgres "$bin/initdb" -A trust --no-sync -D "$work/data" >/dev/null

# In its systemd unit:  Environment=LD_PRELOAD=/usr/local/lib/libtideover.so
# Here its standard output is appended to a log, as a service manager may do, so that lines may go there.
# The log collector runs with standard output on /dev/null; the library knows what the server's was.
# shellcheck disable=SC2086 # $guard is several words or none
as_postgres $guard "$bin/postgres" -D "$work/data" -c listen_addresses= -c "unix_socket_directories=$work" -c fsync=off \
    -c logging_collector=on -c log_statement=all -c "log_directory=$work/log" -c log_filename=postgresql.log >>"$work/journal.log" 2>"$work/errors" &
server=$!
ask() { as_postgres "$bin/psql" -X -q -o /dev/null -h "$work" postgres; }
i=0
until echo 'select 1' | ask 2>/dev/null; do
    i=$((i + 1))
    { [ $i -lt 300 ] && kill -0 "$server" 2>/dev/null; } || { cat "$work/errors" >&2; exit 1; }
    sleep 0.2
done

line() { printf "select 'statement %04d';\n" "$1"; }
lines() { seq "$1" "$2" | while read -r n; do line "$n"; done; }
lines 1 100 | ask
dd if=/dev/zero of="$work/log/filler" bs=1k 2>/dev/null || true # another program fills the disk
lines 101 200 | ask
sleep 2 # the log collector writes later than the server
rm "$work/log/filler"
lines 201 300 | ask
stop
server=

# A line may begin in the file and end on standard output; the note in the file says where.
log=$work/log/postgresql.log
elsewhere=$(wc -l <"$work/journal.log")
there=$({
    sed '/^tideover: disk full/,$d' "$log" | head -c -1
    cat "$work/journal.log"
    sed '1,/^tideover: disk full/d' "$log"
} | grep -o "statement: select 'statement [0-9]*" | sort -u | wc -l)
echo "$there of 300 statements are logged, $elsewhere of them on standard output"
[ "$there" = 300 ]
