# The second half of scripts/demo: nginx on a full disk. Runs in a mount namespace of its own, so that its disk is gone with it.
# usage: sh demo-disk.sh FOLDER PYTHON TIDEOVER   (FOLDER: empty, removed by the caller)
set -eu
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
PATH=$PATH:/usr/sbin:/sbin

work=$1 python=$2 tideover=$3
disk=$work/disk
server='' reader=''
clean_up() {
    [ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true
    [ -z "$reader" ] || { kill "$reader" && wait "$reader"; } 2>/dev/null || true
    umount "$disk" 2>/dev/null || true
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

say() { printf '   %s\n' "$*"; }

# In a user namespace we are root here, to whom the folder of the first half does not belong.
TIDEOVER_PAGE_DIR=$work/pages
export TIDEOVER_PAGE_DIR
mkdir "$disk" "$TIDEOVER_PAGE_DIR"
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
temporary=$(for kind in client_body proxy fastcgi uwsgi scgi; do echo "${kind}_temp_path $work/$kind;"; done)
cat >"$work/nginx.conf" <<CONF
daemon off; user root; worker_processes 1; pid $work/pid; error_log stderr alert;
events { }
http {
    log_format numbered '\$time_iso8601 \$request_uri \$status';
    access_log $disk/access.log numbered;
    $temporary
    server {
        listen 127.0.0.1:$port;
        location / { return 204; }
        location = /unlogged { access_log off; return 204; }
    }
}
CONF

# Requests FIRST to LAST, one line in the log for each; says how many were answered. After the one that is not logged, the
# worker has written the lines of all before.
requests() {
    "$python" - "$port" "$@" <<'PY'
import http.client, sys
port, first, last = map(int, sys.argv[1:])
answered = 0
for path in [f"/request/{n:04}" for n in range(first, last + 1)] + ["/unlogged"]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    client.request("GET", path)
    answered += client.getresponse().status == 204
    client.close()
print(f"   requests {first} to {last}: {answered - 1} of {last - first + 1} answered")
PY
}

# Where are the lines of requests 1 to 400?
account() {
    "$python" - "$disk/access.log" "$work/stdout" <<'PY'
import re, sys
log, out = (open(path).read() for path in sys.argv[1:])
whole = re.compile(r"^\S+ /request/(\d{4}) 204$", re.M)
numbers = {place: whole.findall(text) for place, text in [("in the log", log), ("on stdout", out)]}
# At most one line begins in the file and ends on standard output.
first, newline, _ = out.partition("\n")
if newline and not whole.match(first):
    numbers["begun in the log, ended on stdout"] = [
        found[1] for line in log.split("\n") if not whole.match(line) for found in [whole.match(line + first)] if found
    ]
for place, found in numbers.items():
    print(f"   {place + ':':<36}{len(found):4} lines")
# What is in the log in the end, and in no other place, is what counts.
found = numbers["in the log"]
lost = 400 - len(set(found))
print(f"   {'of 400 requests, in the log:':<36}{lost:4} lines lost, {len(found) - len(set(found))} doubled")
sys.exit(lost > 0)
PY
}

# Starts nginx below the given command, with its standard output in a pipe, as in a container.
start() {
    rm -f "$work/pipe" "$work/stdout" "$work/errors"
    mount -t tmpfs -o size=256k,mode=755 tideover-demo "$disk"
    mkfifo "$work/pipe"
    cat <"$work/pipe" >"$work/stdout" &
    reader=$!
    "$@" nginx -p "$work" -e stderr -c "$work/nginx.conf" >"$work/pipe" 2>"$work/errors" &
    server=$!
    tries=0
    until requests 1 0 >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" = 50 ] || ! kill -0 "$server" 2>/dev/null; then
            echo "   nginx does not start:" >&2
            tail -n 5 "$work/errors" | show >&2
            exit 1
        fi
        sleep 0.1
    done
}

stop() {
    if kill "$server"; then wait "$server" || true; fi
    server=
    wait "$reader"
    reader=
}

fill() {
    # By another process, until not a byte more goes in.
    head -c 1M /dev/zero 2>/dev/null >"$disk/somebody-elses-file" || true
    say "another process fills the disk: $(df --output=avail "$disk" | tail -n 1 | tr -d ' ') KiB free"
}

free() {
    rm "$disk/somebody-elses-file"
    say "space is freed: $(df --output=avail "$disk" | tail -n 1 | tr -d ' ') KiB free"
    # nginx does not even try for the rest of the second in which a write failed.
    sleep 1.2
}

step "3. nginx logs 400 numbered requests to a disk of 256 KiB that is full during 200 of them, without tideover"
start env
requests 1 100
fill
requests 101 300
free
requests 301 400
stop
account && { echo "   Nothing was lost: this demo proves nothing here." >&2; exit 1; }
say "on stderr, once a minute at most:"
grep -m 1 -E 'No space left|incomplete' "$work/errors" | sed "s/ while logging.*/ .../; s|$work|...|" | show
umount "$disk"

step "   The same nginx with it:  tideover run --fallback stdout -- nginx ..."
say "Its standard output is a pipe, which could be data for all that the library knows: --fallback stdout says that it is"
say "not. In a container, a systemd unit, a terminal or with 2>&1 the library finds that out, and needs no flag."
start "$tideover" run --fallback stdout --
requests 1 100
fill
requests 101 300
say "on stdout, while the disk is full:"
{ sed -n 2,3p "$work/stdout"; echo ...; tail -n 1 "$work/stdout"; } | show
free
requests 301 400
say "in the log, behind the lines that are put back:"
grep -A 1 '^tideover: ' "$disk/access.log" | show
# The worker, which is the one that logs.
worker=$(ps -o pid= --ppid "$server" | tr -d ' ')
"$tideover" stat "$worker" --json >"$work/stat"
stop
account
say "on stderr:"
grep '^tideover\[.*access.log' "$work/errors" | sed "s|$work|...|" | show
say "and 'tideover stat $worker --json' of the worker said:"
"$python" -c '
import json, sys
logs = json.load(sys.stdin)["logs"]
kept = "degraded", "enospc", "diverted_lines", "dropped_bytes", "recoveries", "put_back_bytes", "held_bytes"
print("   | logs ", "  ".join(f"{name} {logs[name]}" for name in kept))
' <"$work/stat"
