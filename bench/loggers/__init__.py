"""Programs that log, one small file each: what is installed, how the program is started, and how it is made to log a numbered line. A file
has a list LOGGERS; bench/outage.py runs each of them plain and preloaded on a small filesystem that is full twice while the program goes on.

LOGGER.start(outage) starts the program, whose log is outage.log, and returns a function say(numbers): it has the lines of these numbers
logged and returns when the program has dealt with them; False if the program is gone. LOGGER.prepare(folder) makes once what all runs read."""

import contextlib
import importlib
import itertools
import os
import pkgutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from ..field import CAP, Program, Trial, answers
from ..harness import HERE

PATIENCE = 20  # seconds, for the lines from one change of the disk to the next
FIXTURES = HERE / "tests/fixtures"


@dataclass
class Logger:
    """name: of the program and its way to log; kind: what a line is. needs, short: as Program has them. left_alone: why the library does
    nothing for this one, which then must not be worse than plain, and need not be whole. several: several processes write the log; lines of
    different ones may then change places, and a line that the full disk has cut may stand twice, its beginning and further down the whole.
    each: lines from one change of the disk to the next."""

    name: str
    kind: str
    needs: tuple
    start: Callable
    prepare: Callable = lambda folder: None
    left_alone: str = ""
    several: bool = False
    each: int = 200
    lacking = Program.lacking


def payload(n):
    """Line n, recognised whatever a program puts around it; it may stand in a URL, an SQL string and a user's name."""
    return f"~{n:05}.the-quick-brown-fox-jumps-over-the-lazy-dog-and-goes.{n:05}~"


def line(n):
    """Line n for a program that writes what it is given, without a newline."""
    return f"INFO app: request {payload(n)} ok"


@dataclass
class Outage(Trial):
    """One run of a logger. disk: a filesystem that is full for a while; log: on it, there and empty at the start."""

    disk: Path = None
    log: Path = None

    def launch(self, words, appends="", end=signal.SIGTERM, preload=True, **more):
        """Starts a program. appends: "1", "2" or "12", the descriptors of it that are the log, opened to append; what else it says goes to
        server.log. end: the signal that ends it, unless its standard input is a pipe, at whose end it has to exit."""
        with open(self.folder / "server.log", "ab") as said, open(self.log if appends else os.devnull, "ab") as log:
            more = {"stdout": log if "1" in appends else said, "stderr": log if "2" in appends else said} | more
            if preload:
                process = self._start(words, **more)
            else:
                process = subprocess.Popen([str(word) for word in words], start_new_session=True, cwd=self.folder, **more)
        self.running.append((process, end))
        return process

    def until(self, is_so, process, patience=PATIENCE):
        """Waits until it is so; False if the process ends before, or after so many seconds."""
        deadline = time.monotonic() + patience
        while not is_so():
            # The process stays a zombie: its exit status and CPU are asked for at the end.
            has_ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if has_ended or time.monotonic() > deadline:
                return is_so()
            time.sleep(0.002)
        return True

    def serve(self, words, ready, **more):
        """Starts a server, and waits until ready() is true or a port answers."""
        process = self.launch(words, **more)
        if not self.until(ready if callable(ready) else lambda: answers(ready), process, CAP):
            raise RuntimeError(f"{words[0]} does not start: {(self.folder / 'server.log').read_text(errors='replace')[-300:]}")
        return process

    def finish(self):
        """Ends the program; returns its exit status. What was started first is the program; what was started later ends before it."""
        for process, end in reversed(self.running):
            if process.stdin:
                with contextlib.suppress(OSError):
                    process.stdin.close()
            else:
                os.kill(process.pid, end)
            self._end(process, 10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        status = self.running[0][0].returncode
        self.running.clear()
        return status


def fed(outage, words, line=line, mark=":{}", pause=0.0, **more):
    """A program that logs each line of its standard input, and makes the file PATH at a line ":PATH". Returns its say(). pause: seconds after
    which all lines are written where another thread or process does that."""
    process = outage.launch(words, stdin=subprocess.PIPE, **more)
    count = itertools.count()

    def say(numbers):
        path = outage.folder / f"mark.{next(count)}"
        text = "".join(f"{line(n)}\n" for n in numbers) + mark.format(path) + "\n"
        try:
            process.stdin.write(text.encode())
            process.stdin.flush()
        except BrokenPipeError:
            return False
        goes_on = outage.until(path.exists, process)
        time.sleep(pause)
        return goes_on

    return say


def asked(ask, pause=0.05):
    """say() of a server that logs each question. ask(n) asks line n; pause: seconds in which the server has logged what it has answered."""

    def say(numbers):
        try:
            for n in numbers:
                ask(n)
        except OSError:
            return False
        time.sleep(pause)
        return True

    return say


def exchange(port, text, wait=True):
    """Sends a text to a port of 127.0.0.1; returns all of the answer."""
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(text.encode())
        answer = b""
        while wait and (piece := client.recv(65536)):
            answer += piece
    return answer


def requests(port, pause=0.05, before=""):
    """say() of a web server that logs each request. before: what stands before the path."""
    return asked(lambda n: exchange(port, f"GET {before}/{payload(n)} HTTP/1.0\r\nHost: localhost\r\n\r\n"), pause)


def made(*words):
    """A prepare() that runs a command; FOLDER in a word is the folder."""

    def prepare(folder):
        command = [str(word).replace("FOLDER", str(folder)) for word in words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stderr[-300:]}")

    return prepare


def loggers():
    """All of them, by name."""
    found = [logger for module in pkgutil.iter_modules(__path__) for logger in importlib.import_module(f"{__name__}.{module.name}").LOGGERS]
    return sorted(found, key=lambda logger: logger.name.lower())
