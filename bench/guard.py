"""What `tideover guard` takes for idle targets, what it saves of a server that spins, and what it costs healthy servers: python3 bench/guard.py"""

import math
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TIDEOVER = os.environ.get("TIDEOVER_TEST_BIN", ROOT / "target/release/tideover")
TARGETS, SECONDS = 200, 30
# Rounds with new servers, and bursts of load on each server in a round.
ROUNDS, BURSTS = int(os.environ.get("GUARD_ROUNDS", 6)), 10


def ran(pid):
    """Seconds of CPU of a process."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percent(pid, seconds):
    """Part of a core that a process uses during so many seconds."""
    begin, before = time.monotonic(), ran(pid)
    time.sleep(seconds)
    return (ran(pid) - before) * 100 / (time.monotonic() - begin)


def guard(pages, *words):
    """A guard whose state is in a folder of its own."""
    return subprocess.Popen([TIDEOVER, "guard", "--page-dir", pages, *words], stdout=subprocess.DEVNULL)


def idle(pages):
    """The guard's own CPU for targets that do nothing."""
    targets = [subprocess.Popen(["sleep", "600"]) for _ in range(TARGETS)]
    own = guard(pages, "--park", "--idle", "1m", *[str(target.pid) for target in targets])
    try:
        time.sleep(5)
        print(f"{TARGETS} idle targets: the guard uses {percent(own.pid, SECONDS):.2f} % of a core")
    finally:
        own.terminate()
        own.wait()
        for target in targets:
            target.kill()
            target.wait()


def spinning(pages):
    """A static epoll server at its limit, without and with --park."""
    program = pathlib.Path(pages) / "spins"
    source = ROOT / "tests/fixtures/guard_spins.c"
    flags = ["-static", "-O1", "-D_GNU_SOURCE", "-pthread", f"-I{ROOT / 'include'}"]
    subprocess.run(["cc", *flags, "-o", program, source], check=True)
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    server = subprocess.Popen([program], stdout=subprocess.PIPE, text=True, preexec_fn=limit)
    port = int(server.stdout.readline().split()[1])
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    plain = percent(server.pid, 5)
    own = guard(pages, "--park", str(server.pid))
    try:
        time.sleep(3)
        parked = percent(server.pid, 10)
        print(f"a server that spins: {plain:.1f} % of a core without, {parked:.1f} % with --park")
    finally:
        own.terminate()
        own.wait()
        server.kill()
        server.wait()
        for client in clients:
            client.close()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Server:
    """A server, and its children, that answers at a port."""

    def __init__(self, command, port):
        self.port = port
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        self.pids = [self.process.pid, *map(int, children)]

    def ran(self):
        """Nanoseconds of CPU of all threads."""
        threads = [thread for pid in self.pids for thread in pathlib.Path(f"/proc/{pid}/task").iterdir()]
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def nginx(folder):
    port, own = free_port(), pathlib.Path(tempfile.mkdtemp(dir=folder))
    own.joinpath("index.html").write_text("x" * 1000)
    temporary = " ".join(f"{name}_temp_path {own}/{name};" for name in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
    own.joinpath("conf").write_text(
        f"daemon off; worker_processes 1; pid {own}/pid; error_log {own}/error.log; user root; events {{ worker_connections 900; }}\n"
        f"http {{ access_log {own}/access.log; {temporary} server {{ listen 127.0.0.1:{port}; root {own}; }} }}\n"
    )
    return Server([shutil.which("nginx"), "-e", f"{own}/error.log", "-c", f"{own}/conf"], port)


def wrk(server):
    """Requests of a burst, each on a connection of its own."""
    words = ["wrk", "-t1", "-c32", "-d1", "-H", "Connection: close", f"http://127.0.0.1:{server.port}/"]
    return int(re.search(r"(\d+) requests in", subprocess.run(words, capture_output=True, text=True, check=True).stdout)[1])


def redis(_folder):
    port = free_port()
    return Server(["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"], port)


def redis_benchmark(server):
    words = ["redis-benchmark", "-p", str(server.port), "-c", "50", "-n", "40000", "-t", "set", "--csv"]
    subprocess.run(words, capture_output=True, check=True)
    return 40000


def median(ratios):
    """The median, and between which order statistics it is found 19 times of 20."""
    ratios = sorted(ratios)
    away = round(0.98 * math.sqrt(len(ratios)))
    low, high = ratios[max(0, len(ratios) // 2 - away)], ratios[min(len(ratios) - 1, len(ratios) // 2 + away)]
    return f"{statistics.median(ratios):.4f} (95 %: {low:.4f} to {high:.4f})"


def healthy(folder, name, start, load):
    """Two servers at once, one of them guarded; a burst of load on each in random order makes a pair."""
    speeds, costs = [], []
    for _ in range(ROUNDS):
        # The one that is started first may have the better place in memory.
        servers = {kind: start(folder) for kind in random.sample(["plain", "guarded"], 2)}
        own = guard(folder, "--park", "--idle", "1m", *map(str, servers["guarded"].pids))
        try:
            time.sleep(2)
            for burst in range(-1, BURSTS):
                seen = {}
                for kind in random.sample(list(servers), 2):
                    server = servers[kind]
                    begin, before = time.monotonic(), server.ran()
                    requests = load(server)
                    seen[kind] = requests / (time.monotonic() - begin), (server.ran() - before) / requests
                if burst >= 0:
                    speeds.append(seen["guarded"][0] / seen["plain"][0])
                    costs.append(seen["guarded"][1] / seen["plain"][1])
        finally:
            own.terminate()
            own.wait()
            for server in servers.values():
                server.stop()
    print(f"{name}, guarded against plain, {len(costs)} pairs: CPU per request {median(costs)}, speed {median(speeds)}", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        idle(folder)
        spinning(folder)
        healthy(folder, "nginx, a connection for each request", nginx, wrk)
        healthy(folder, "redis-server, SET", redis, redis_benchmark)
