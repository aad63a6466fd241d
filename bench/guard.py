"""What `tideover guard` takes for idle targets, and what it saves of a server that spins: python3 bench/guard.py"""

import os
import pathlib
import resource
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TIDEOVER = os.environ.get("TIDEOVER_TEST_BIN", ROOT / "target/release/tideover")
TARGETS, SECONDS = 200, 30


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


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        idle(folder)
        spinning(folder)
