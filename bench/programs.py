"""Parts of scripts/bench that set the library beside the preloads that people trust already, and programs beside themselves."""

import math
import os
import random
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from . import harness
from .harness import BATCH, EATMYDATA, HERE, TIMEOUT, instructions, numbers, row, run, section

LIB = Path("/usr/lib/x86_64-linux-gnu")
OTHERS = {
    "libeatmydata": EATMYDATA, "libfaketime": LIB / "faketime/libfaketimeMT.so.1", "libfiu": Path("/usr/lib/fiu/fiu_posix_preload.so"),
    "socket_wrapper": LIB / "libsocket_wrapper.so", "jemalloc": LIB / "libjemalloc.so.2",
}


def preloads():
    """{name: library or None}: without, with ours, with each of the others that is here."""
    return {"plain": None, "tideover": harness.library, **{name: path for name, path in OTHERS.items() if path.exists()}}


def settings(name):
    # socket_wrapper wants a folder, and then keeps sockets in it.
    if name == "socket_wrapper":
        folder = harness.work / "sockets"
        folder.mkdir(mode=0o700, exist_ok=True)
        return {"SOCKET_WRAPPER_DIR": str(folder)}
    return {}


def columns(title, figure, found, unit="", target=None, digits=0):
    """A row with a figure of each preload, and the first bar chart's numbers: {name: value}."""
    harness.charts.setdefault(title, {})[figure] = found
    shown = ", ".join(f"{name} {value:,.{digits}f}{unit}" for name, value in found.items())
    met = None if target is None else found["tideover"] - found["plain"] <= target
    row(title, figure, shown, "" if target is None else f"plain + {target}", met)


def neighbours():
    title = section("Beside other preloads: instructions of a call (callgrind)")
    calls = {"write": 15, "open+close": 80, "socket+close": 80, "accept+close": 80, "fprintf-flush": None}
    for call, target in calls.items():
        found = {}
        for name, library in preloads().items():
            if name == "jemalloc":
                continue  # no call of its own here
            try:
                found[name] = instructions([harness.work / "calls", call, 10], library, "measured", settings(name)) / (10 * BATCH)
            except (RuntimeError, subprocess.TimeoutExpired):
                pass  # libfaketime and valgrind do not go together everywhere
        columns(title, call, found, target=target)

    title = section("Beside other preloads: nanoseconds of a call (median of 9 runs by turns)")
    for call in calls:
        took = {name: [] for name in preloads() if name != "jemalloc"}
        for _ in range(9):
            for name in took:
                took[name] += numbers(run([harness.work / "calls", call, 100], preloads()[name], settings=settings(name)))
        columns(title, call, {name: statistics.median(values) for name, values in took.items()})


def by_turns(rounds, command, kinds):
    """{kind: microseconds of each run of a command}, the environments by turns."""
    lines = run([harness.work / "start", rounds, command, *kinds.values()]).stdout.splitlines()
    return {kind: [float(word) for word in line.split()] for kind, line in zip(kinds, lines)}


def startup():
    title = section("Start-up beside other preloads: microseconds added (medians, by turns)")
    # python3 by its real path: a pyenv puts a shell script in the way.
    commands = {"/bin/true": 600, "/bin/bash -c :": 400, f"{os.path.realpath('/usr/bin/python3')} -c pass": 60}
    for command, rounds in commands.items():
        kinds = {
            name: " ".join([f"LD_PRELOAD={library}" if library else "", *(f"{k}={v}" for k, v in settings(name).items())]).strip()
            for name, library in preloads().items()
        }
        took = by_turns(rounds, command, kinds)
        plain = statistics.median(took["plain"])
        added = {name: statistics.median(values) - plain for name, values in took.items() if name != "plain"}
        harness.charts.setdefault(title, {})[command] = added
        shown = ", ".join(f"{name} +{value:,.0f}" for name, value in added.items())
        ratio = added["tideover"] / added["libeatmydata"] if "libeatmydata" in added else None
        met = ratio <= 1.2 if ratio and command == "/bin/true" else None
        row(title, command, f"plain {plain:,.0f}; {shown}", "" if met is None else "<= 1.2 x libeatmydata", met)
        if ratio:
            row(title, f"{command}: tideover / libeatmydata", f"{ratio:.2f}")


def timed(command, preload, cwd=None, environment=()):
    before = time.monotonic()
    settings = {"PATH": os.environ["PATH"], "HOME": str(harness.work), **dict(environment)}
    if preload:
        settings["LD_PRELOAD"] = str(preload)
    done = subprocess.run(command, cwd=cwd, env=settings, capture_output=True, timeout=600)
    if done.returncode:
        raise RuntimeError(f"{command} failed ({done.returncode}): {done.stderr[-300:]}")
    return time.monotonic() - before


def pairs(title, figure, measure, count, better="low", target=None, library=None):
    """Plain and preloaded by turns, `count` pairs; the row is the median ratio, and its range."""
    library = library or harness.library
    ratios, plains = [], []
    for i in range(count):
        first, second = (None, library) if i % 2 else (library, None)
        a, b = measure(first), measure(second)
        ours, plain = (b, a) if i % 2 else (a, b)
        plains.append(plain)
        ratios.append(plain / ours if better == "low" else ours / plain)
    ratio = statistics.median(ratios)
    met = None if target is None else ratio >= target
    shown = f"{ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f}; plain {statistics.median(plains):,.4g})"
    row(title, f"{figure}: speed against plain, {count} pairs", shown, "" if target is None else f">= {target}", met)


def loads():
    def beside(title, figure, *rest):
        """What a start of each program costs shows here; so does that of a preload that people know."""
        pairs(title, figure, *rest)
        if EATMYDATA.exists():
            pairs(title, f"{figure}, libeatmydata instead", *rest, library=EATMYDATA)

    title = section("Whole programs, plain and preloaded by turns")
    forks = "import os, time\nn = 0\nend = time.monotonic() + 1.5\nwhile time.monotonic() < end:\n os.waitpid(os.posix_spawn('/bin/true', ['true'], os.environ), 0)\n n += 1\nprint(n / 1.5)"
    python = os.path.realpath("/usr/bin/python3")
    beside(title, "fork and exec of /bin/true per second", lambda lib: numbers(run([python, "-c", forks], lib))[0], 9, "high")

    tree = harness.work / "tree"
    script = "git init -q . && for i in $(seq 100); do mkdir -p d$i; for j in $(seq 100); do echo $i.$j > d$i/$j; done; done && git add . && git -c user.name=a -c user.email=a@b commit -qm a"
    tree.mkdir()
    timed(["sh", "-c", script], None, tree)
    beside(title, "git status of 10,000 files", lambda lib: timed(["git", "status", "--short"], lib, tree), 201)

    sources = HERE / "target/compat/src/bash"
    if not sources.is_dir():
        row(title, "make -j2 of bash from its source", "not here: scripts/compat --only build fetches it")
        return
    shutil.copytree(sources, harness.work / "bash")
    timed(["sh", "-c", "CFLAGS=-O0 ./configure -q --disable-nls"], None, harness.work / "bash")
    beside(title, "make -j2 of bash from its source", lambda lib: timed(["sh", "-c", "make clean; make -j2"], lib, harness.work / "bash"), 5)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Server:
    """A server in its own process group, with the library or without."""

    def __init__(self, command, port, preload, end=signal.SIGTERM):
        self.port, self.end = port, end
        environment = {"PATH": os.environ["PATH"]} | ({"LD_PRELOAD": str(preload)} if preload else {})
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{command[0]} does not answer")

    def stop(self):
        self.process.send_signal(self.end)
        self.process.wait(TIMEOUT)


def side_by_side(title, figure, start, measure, rounds, bursts):
    """Servers without a preload, with ours and with libeatmydata all run at once; bursts of load go to each by turns. New servers
    in each round, for where the loader puts things matters too. A row for each preload: the median ratio of a burst, its range."""
    kinds = {"plain": None, "tideover": harness.library} | ({"libeatmydata": EATMYDATA} if EATMYDATA.exists() else {})
    took = {kind: [] for kind in kinds}
    for _ in range(rounds):
        servers = {kind: start(kind, kinds[kind]) for kind in kinds}
        for burst in range(-1, bursts):
            for kind in random.sample(list(kinds), len(kinds)):
                speed = measure(servers[kind])
                if burst >= 0:
                    took[kind].append(speed)
        for server in servers.values():
            server.stop()
    for kind in list(kinds)[1:]:
        ratios = sorted(ours / plain for ours, plain in zip(took[kind], took["plain"]))
        # The order statistics between which the median is found 19 times of 20.
        away = round(0.98 * math.sqrt(len(ratios)))
        ratio, low, high = statistics.median(ratios), ratios[len(ratios) // 2 - away], ratios[len(ratios) // 2 + away]
        shown = f"{ratio:.3f} (95 %: {low:.3f} to {high:.3f}; plain {statistics.median(took['plain']):,.4g})"
        label = f"{figure}, {rounds} x {bursts} bursts: speed against plain" + ("" if kind == "tideover" else f", {kind} instead")
        row(title, label, shown, *((">= 0.99", ratio >= 0.99) if kind == "tideover" else ()))


def servers():
    title = section("Servers under load, plain and preloaded by turns: the median burst is the figure")
    www = harness.work / "www"
    www.mkdir()
    (www / "index.html").write_text("x" * 1000)

    def nginx(kind, library):
        port, folder = free_port(), harness.work / f"nginx-{kind}"
        folder.mkdir(exist_ok=True)
        conf = folder / "nginx.conf"
        conf.write_text(
            f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; user root; events {{ worker_connections 900; }}\n"
            f"http {{ access_log {folder}/access.log; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;"
            f" uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; server {{ listen 127.0.0.1:{port}; root {www}; }} }}\n"
        )
        return Server(["/usr/sbin/nginx", "-c", str(conf)], port, library)

    def wrk(server):
        # A connection for each request: accept, open, close in each.
        said = run(["wrk", "-t1", "-c32", "-d1", "-H", "Connection: close", f"http://127.0.0.1:{server.port}/"]).stdout
        return float(re.search(r"Requests/sec: *([\d.]+)", said)[1])

    def redis(kind, library):
        port = free_port()
        return Server(["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"], port, library)

    def redis_benchmark(server):
        said = run(["redis-benchmark", "-p", server.port, "-c", "50", "-n", "40000", "-t", "set", "--csv"]).stdout
        return float(said.splitlines()[-1].split(",")[1].strip('"'))

    for name, start, measure, tools in [
        ("nginx with wrk, a connection for each request", nginx, wrk, ["/usr/sbin/nginx", "wrk"]),
        ("redis-benchmark, SET", redis, redis_benchmark, ["redis-server", "redis-benchmark"]),
    ]:
        if all(shutil.which(tool) for tool in tools):
            side_by_side(title, name, start, measure, 8, 10)
        else:
            row(title, name, f"needs {' and '.join(tools)}")
    postgres = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if os.geteuid() == 0 else []
    if not postgres:
        row(title, "pgbench", "needs postgresql, and root to become its user")
        return
    data = harness.work / "pg"
    data.mkdir()
    shutil.chown(data, "postgres", "postgres")
    harness.work.chmod(0o755)
    as_user = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups"]

    def postgresql(kind, library):
        folder, port = data / kind, free_port()
        new = not folder.exists()
        if new:
            run([*as_user, postgres[-1] / "initdb", "-D", folder, "-A", "trust", "--no-sync"])
        options = ["-k", str(data), "-p", str(port), "-c", "fsync=off", "-c", "listen_addresses=127.0.0.1"]
        server = Server([*as_user, str(postgres[-1] / "postgres"), "-D", str(folder), *options], port, library, signal.SIGINT)
        if new:
            run([*as_user, "pgbench", "-h", "127.0.0.1", "-p", port, "-i", "-q", "postgres"])
        return server

    def pgbench(server):
        # A connection for each transaction: a fork of the server, and its files, each time.
        said = run([*as_user, "pgbench", "-h", "127.0.0.1", "-p", server.port, "-S", "-C", "-c4", "-t100", "postgres"]).stdout
        return float(re.search(r"tps = ([\d.]+)", said)[1])

    side_by_side(title, "pgbench -S -C", postgresql, pgbench, 16, 10)


def recovery():
    title = section("Recovery: from the freed descriptor to the blocked call's return")
    # As a forensic tool's decorator does: collect garbage, wait 0.5 s, then twice as long each time up to 10 s.
    script = HERE / "bench/backoff.py"
    retry = numbers(run([sys.executable, script, "retry", 12], None, 64))
    ours = numbers(run([sys.executable, script, "plain", 40], harness.library, 64))
    row(title, "Python that catches EMFILE, collects garbage, waits 0.5 s and tries again: median", f"{statistics.median(retry):.0f} ms")
    row(title, "Python, just opens, preloaded: median", f"{statistics.median(ours) * 1000:.0f} us")
    direct = numbers(run([harness.work / "wake", "close", 500], harness.library, 64))
    row(title, "C, just opens, preloaded: median", f"{statistics.median(direct):.1f} us")
    ratio = statistics.median(retry) * 1000 / statistics.median(direct)
    row(title, "retry in Python / blocked call in C", f"{ratio:,.0f} times", ">= 1,000", ratio >= 1000)
    ratio = statistics.median(retry) / statistics.median(ours)
    row(title, "retry in Python / blocked call in Python", f"{ratio:,.0f} times")
    node = shutil.which("node")
    module = HERE / "target/bench/node_modules/graceful-fs"
    if node and not module.is_dir() and shutil.which("npm"):
        module.parent.parent.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--silent", "--no-save", "--prefix", module.parent.parent, "graceful-fs@4.2.11"]
        subprocess.run(command, capture_output=True, timeout=TIMEOUT)
    if node and module.is_dir():
        times = numbers(run([node, HERE / "bench/graceful.js", module, 30], None, 64))
        row(title, "Node with graceful-fs, whose queue sees the close: median", f"{statistics.median(times) * 1000:.0f} us")
    else:
        row(title, "Node with graceful-fs", "needs node and npm")

    title = section("CPU of an epoll server at its limit (32 descriptors, 100 clients), seconds in 4")
    used = {}
    for name, library in [("plain", None), ("preloaded", harness.library)]:
        used[name] = numbers(run([sys.executable, HERE / "bench/exhausted.py", 4], library, 32))
        row(title, name, f"{used[name][0]:.2f} s of CPU, {used[name][1]:.0f} failed accepts")
    row(title, "preloaded / plain", f"{used['preloaded'][0] / used['plain'][0]:.3f}", "<= 0.2", used["preloaded"][0] <= 0.2 * used["plain"][0])


def operators():
    """scripts/bench-cli: the command with many guarded processes."""
    title = section("The command, with 500 guarded processes")
    command = [HERE / "scripts/bench-cli", "--lib", harness.library]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600, check=True)
    for line in done.stdout.splitlines():
        figure, measured, target, verdict = line.split("\t")
        row(title, figure, measured, target, {"met": True, "MISSED": False}.get(verdict))
