"""Real programs that handle EMFILE themselves, one small file each: what is installed, at which limits it runs, what it does, and how
well it went. A file has one PROGRAM; bench/evidence.py runs it plain and preloaded by turns.

PROGRAM.run(trial) starts the program by trial.command (to its end) or trial.serve, and returns (answers, errors): what was done
and what was not. trial.clock() is around what is timed, else it is all of run. PROGRAM.prepare(folder) makes once what all runs read.
What it has written and can be compared, it names by trial.command(output=...) or trial.wrote; clients' latencies are those of crowd."""

import contextlib
import hashlib
import http.server
import importlib
import os
import pkgutil
import resource
import selectors
import shutil
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

CAP = 12 if os.environ.get("SHORT") else 60  # seconds after which a command or a crowd is given up


@dataclass
class Program:
    """soft: the soft limit on descriptors; hard: the hard one, where it is higher than the soft one. needs: commands or files. short: part
    of the short form."""

    name: str
    kind: str
    needs: tuple
    soft: int
    run: Callable
    hard: int = 20000
    prepare: Callable = lambda folder: None
    short: bool = True

    def lacking(self):
        path = os.environ["PATH"] + ":/usr/sbin:/sbin"
        return [what for what in self.needs if not (Path(what).exists() if what.startswith("/") else shutil.which(what, path=path))]


@dataclass
class Trial:
    """One run of a program. data: what prepare made; folder: new and empty, for this run. latencies: seconds until each answer. output: a
    digest of what the program has written; None if nothing is to be compared."""

    data: Path
    folder: Path
    soft: int
    hard: int
    library: Path
    cpu: float = 0.0
    seconds: float | None = None
    running: list = field(default_factory=list)
    latencies: list = field(default_factory=list)
    output: str | None = None

    def _start(self, words, limits=None, environment=(), **more):
        path = os.environ["PATH"] + ":/usr/sbin:/sbin"
        settings = {"PATH": path, "HOME": str(self.folder), "LC_ALL": "C.UTF-8", "TIDEOVER_PAGE_DIR": str(self.folder), **dict(environment)}
        if self.library:
            settings["LD_PRELOAD"] = str(self.library)
        soft, hard = limits or (self.soft, self.hard)

        def restrict():
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

        more = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL, "cwd": self.folder} | more
        return subprocess.Popen([str(word) for word in words], env=settings, preexec_fn=restrict, start_new_session=True, **more)

    def _end(self, process, patience):
        """Waits for it, and counts its CPU and that of what it has waited for."""
        deadline = time.monotonic() + patience
        while True:
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > deadline:
                os.killpg(process.pid, signal.SIGKILL)
                _, status, used = os.wait4(process.pid, 0)
                break
            time.sleep(0.005)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.cpu += used.ru_utime + used.ru_stime

    def command(self, words, output=None, **more):
        """Runs it to its end; returns its exit status, -9 if it took too long. output: a file for what it prints."""
        with open(output or os.devnull, "w") as to, open(self.folder / "errors", "w") as errors:
            process = self._start(words, stdout=to, stderr=errors, **more)
            self._end(process, CAP)
        if output:
            self.wrote([output])
        return process.returncode

    def wrote(self, paths):
        """These files are what the program has written: with the library it writes the same bytes, unless something failed."""
        digest = hashlib.sha256((self.output or "").encode())
        for path in paths:
            # The files are in a folder of this run's, whose name may stand in them.
            digest.update(Path(path).read_bytes().replace(str(self.folder).encode(), b"FOLDER") + b"\0")
        self.output = digest.hexdigest()

    def errors(self):
        """What the last command said on standard error."""
        return (self.folder / "errors").read_text(errors="replace")

    def serve(self, words, ready, limits=None, end=signal.SIGTERM, **more):
        """Starts a server, and waits until ready() is true, or a port answers. limits: those of its start; see restrict."""
        with open(self.folder / "server.log", "w") as log:
            process = self._start(words, limits, stdout=log, stderr=log, **more)
        self.running.append((process, end))
        is_ready = ready if callable(ready) else lambda: answers(ready)
        deadline = time.monotonic() + CAP
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{words[0]} does not start: {(self.folder / 'server.log').read_text(errors='replace')[-300:]}")
            time.sleep(0.02)
        return process

    def restrict(self, process, more=None):
        """Sets the limits of a running server. more: so many descriptors more than it has, rather than the soft limit of the table."""
        soft = self.soft if more is None else len(os.listdir(f"/proc/{process.pid}/fd")) + more
        # A program may have lowered its hard limit.
        hard = min(self.hard if self.hard > self.soft else soft, resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[1])
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (min(soft, hard), hard))

    @contextlib.contextmanager
    def clock(self):
        begin = time.monotonic()
        yield
        self.seconds = time.monotonic() - begin

    def stop(self):
        for process, end in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, end)  # Popen.send_signal would wait for a process that has ended
            self._end(process, 10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class _Behind(http.server.ThreadingHTTPServer):
    request_queue_size = 500  # a short backlog would be what is measured


class _Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"behind")

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def server_behind():
    """A web server for a proxy to ask, without limits of its own: the request to send to the proxy. It answers `behind`."""
    with _Behind(("127.0.0.1", 0), _Answer) as behind:
        threading.Thread(target=behind.serve_forever, daemon=True).start()
        try:
            yield f"GET http://127.0.0.1:{behind.server_port}/ HTTP/1.0\r\n\r\n".encode()
        finally:
            behind.shutdown()


HTTP = (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"200 OK")


def crowd(trial, port, count, ask, answer, stay=False, quiet=1.5):
    """So many clients at once: each connects, asks, and leaves when it has its answer, or stays until the end. Over when nobody waits any more,
    or nothing has happened for `quiet` seconds. Timed until the last answer. Returns (answered, not answered)."""
    selector, heard, answered = selectors.DefaultSelector(), {}, 0
    begin = last = time.monotonic()
    for _ in range(count):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))
        heard[client] = b""
        selector.register(client, selectors.EVENT_WRITE)
    waiting, staying = count, []
    while waiting and time.monotonic() - last < quiet and time.monotonic() - begin < CAP:
        for key, events in selector.select(0.2):
            client = key.fileobj
            over = got = False
            try:
                if events & selectors.EVENT_WRITE:
                    client.send(ask)
                    selector.modify(client, selectors.EVENT_READ)
                    continue
                data = client.recv(65536)
                heard[client] += data
                got = answer in heard[client]
                over = got or not data
            except OSError:
                over = True
            if over:
                selector.unregister(client)
                waiting -= 1
                if got:
                    answered += 1
                    last = time.monotonic()
                    trial.latencies.append(last - begin)
                if got and stay:
                    staying.append(client)
                else:
                    client.close()
    trial.seconds = last - begin
    for client in heard:
        client.close()
    selector.close()
    return answered, count - answered


def programs():
    """All of them, by name."""
    found = [importlib.import_module(f"{__name__}.{module.name}").PROGRAM for module in pkgutil.iter_modules(__path__)]
    return sorted(found, key=lambda program: program.name.lower())
