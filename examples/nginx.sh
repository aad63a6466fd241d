#!/bin/sh
# nginx with 200 clients that stay connected, under a soft limit of 64 descriptors.  usage: examples/nginx.sh [without]
set -eu
PATH=$PATH:/usr/sbin:/sbin
guard="${TIDEOVER:-tideover} run --"
[ "${1:-}" != without ] || guard=

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
temporary=$(for kind in client_body proxy fastcgi uwsgi scgi; do echo "${kind}_temp_path $work/$kind;"; done)
cat >"$work/nginx.conf" <<CONF
daemon off; worker_processes 1; pid $work/pid; error_log $work/error.log;
events { worker_connections 1024; }
http { access_log off; $temporary server { listen 127.0.0.1:$port backlog=512; location / { return 200 "well\n"; } } }
CONF

# In its systemd unit:  Environment=LD_PRELOAD=/usr/local/lib/libtideover.so  and  LimitNOFILE=64:4096
# shellcheck disable=SC2086,SC3045 # $guard is several words or none; dash and busybox have -S
(ulimit -Sn 64 && exec $guard nginx -e "$work/error.log" -c "$work/nginx.conf") &
server=$!

python3 - "$port" <<'CLIENTS'
import socket, sys, time
def connect():
    for _ in range(600):  # it is starting
        try:
            return socket.create_connection(("127.0.0.1", int(sys.argv[1])))
        except ConnectionRefusedError:
            time.sleep(0.1)
    sys.exit("nginx does not listen")
clients = [connect() for _ in range(200)]
for client in clients:
    client.sendall(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n")
answered = 0
for client in clients:
    client.settimeout(15 if answered == clients.index(client) else 0.05)
    try:
        answered += client.recv(4096).startswith(b"HTTP/1.1 200")
    except TimeoutError:
        pass
print(answered, "of", len(clients), "clients were answered")
sys.exit(answered != len(clients))
CLIENTS
