"""The part `queue` of scripts/bench: long queues of threads at the limit, and servers that are full."""

import os
import resource
import subprocess
import time
from pathlib import Path

from . import harness
from .harness import TIMEOUT, p99, row, run, section

SHORT = bool(os.environ.get("SHORT"))
# Threads, for how many milliseconds each holds its descriptor, for how many seconds they run. With 8 descriptors a round of all
# threads takes threads * hold / 8: some rounds for each, and waits that are longer than any period by which a library could poll.
QUEUES = [(8, 20, 3), (64, 20, 4), (256, 20, 6), (1000, 20, 10)] if SHORT else [(8, 20, 3), (64, 20, 4), (256, 20, 6), (256, 100, 12), (1000, 20, 15)]
CLIENTS = [1000, 5000, 10000]
QUEUED = 50  # clients that wait in the backlog of a full server
OWN = 8  # descriptors that a server needs besides those of its clients: standard streams, listener, set; some clients fit more


def shared(how, preload, threads, hold, seconds):
    """(turns of each thread, opens that failed, longest wait in ms, CPU as a part of a core)"""
    *lines, last = run([harness.work / "queue", how, threads, hold, seconds], preload, 64).stdout.splitlines()
    had, failed, longest = zip(*([float(word) for word in line.split()] for line in lines))
    cpu, clock = (float(word) for word in last.split())
    return had, sum(failed), max(longest), cpu / clock


def queues():
    for threads, hold, seconds in QUEUES:
        title = section(f"{threads} threads share 8 descriptors at a hard limit, each for {hold} ms at a time, {seconds} s")
        fifo_had, _, fifo_longest, fifo_cpu = shared("semaphore", None, threads, hold, seconds)
        had, failed, longest, cpu = shared("open", harness.library, threads, hold, seconds)
        row(title, f"{threads} threads, {hold} ms: opens refused", f"{failed:.0f} of {failed + sum(had):.0f}", "0", failed == 0)
        least = min(had)
        ratio = max(had) / least if least else float("inf")
        shown = f"{least:.0f} to {max(had):.0f}: {ratio:.2f} (FIFO: {min(fifo_had):.0f} to {max(fifo_had):.0f})"
        # Whoever is caught in the middle of a round has one turn less: with few rounds that is more than the bound.
        row(title, f"{threads} threads, {hold} ms: turns, fewest to most", shown, "<= 1.5", ratio <= 1.5 or max(had) - least <= 1)
        # Where nobody has to wait the scheduler decides: a wait shorter than one hold is none.
        fifo_longest = max(fifo_longest, hold)
        shown = f"{longest:.0f} ms / {fifo_longest:.0f} ms: {longest / fifo_longest:.2f}"
        row(title, f"{threads} threads, {hold} ms: longest wait, FIFO semaphore's", shown, "<= 1.3", longest <= 1.3 * fifo_longest)
        row(title, f"{threads} threads, {hold} ms: descriptors had in all, FIFO semaphore's", f"{sum(had):.0f} / {sum(fifo_had):.0f}")
        row(title, f"{threads} threads, {hold} ms: CPU of the process, FIFO semaphore's", f"{100 * cpu:.1f} % / {100 * fifo_cpu:.1f} % of a core")


class Full:
    """A server with so many clients, full (more wait in its backlog) or with room for more."""

    def __init__(self, clients, full, preload):
        environment = {"PATH": os.environ["PATH"]} | ({"LD_PRELOAD": str(preload)} if preload else {})
        limit = clients + OWN if full else clients + OWN + 1000
        self.server = self.start(["serve"], limit, environment)
        self.port = self.server.stdout.readline().strip()
        self.load = self.start(["load", self.port, str(clients), str(QUEUED)], clients + 200, {"PATH": os.environ["PATH"]})
        if self.load.stdout.readline().strip() != "ready":
            self.stop()
            raise RuntimeError(f"{clients} clients could not connect")

    @staticmethod
    def start(words, limit, environment):
        def restrict():
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

        command = [harness.work / "full", *words]
        return subprocess.Popen(
            command, env=environment, preexec_fn=restrict, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def open_descriptors(self):
        return len(os.listdir(f"/proc/{self.server.pid}/fd"))

    def cpu(self):
        """Nanoseconds of CPU of the server so far."""
        return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{self.server.pid}/task").iterdir())

    def parked(self, seconds):
        """CPU of the server while nobody asks it anything, as a part of a core."""
        before, begin = self.cpu(), time.monotonic()
        time.sleep(seconds)
        return (self.cpu() - before) / 1e9 / (time.monotonic() - begin)

    def latencies(self, count):
        self.load.stdin.write(f"{count}\n")
        self.load.stdin.flush()
        return [float(word) for word in self.load.stdout.readline().split()]

    def stop(self):
        for process in (self.load, self.server):
            process.kill()
            process.wait(TIMEOUT)


def full_servers():
    for clients in CLIENTS:
        title = section(f"An epoll server with {clients:,} clients, at its hard limit and below it")
        if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < clients + 1500 and os.geteuid():
            row(title, f"{clients:,} clients", "not measured: the hard limit on descriptors is lower")
            continue
        servers = {name: Full(clients, full, harness.library) for name, full in [("full", True), ("room", False)]}
        try:
            time.sleep(1)
            if servers["full"].open_descriptors() < clients + OWN - 1:
                raise RuntimeError("the server is not full")
            used = servers["full"].parked(3 if SHORT else 6)
            row(title, f"{clients:,} clients, {QUEUED} wait: CPU of the server, nobody asks", f"{100 * used:.2f} % of a core", "< 1 %", used < 0.01)
            found = {name: [] for name in servers}
            for _ in range(4 if SHORT else 10):
                for name, server in servers.items():
                    found[name] += server.latencies(500)
        finally:
            for server in servers.values():
                server.stop()
        full, room = p99(found["full"]), p99(found["room"])
        shown = f"{full:.0f} us / {room:.0f} us: {full / room:.2f}"
        row(title, f"{clients:,} clients: p99 of served clients, full / not full", shown, "<= 1.5", full <= 1.5 * room)


def queue():
    queues()
    full_servers()
