"""Loggers (bench/loggers) on a filesystem that is full twice while they go on, plain and preloaded: what their log then holds. For scripts/field."""

import contextlib
import ctypes
import re
import shutil
import subprocess
import time
from collections import Counter
from dataclasses import dataclass

from . import evidence, harness, loggers

SIZE = "512k"
PHASES = 5  # space, full, space, full, space
BACK = 0.15  # seconds from when there is space again to the next line
ROUNDS = 1 if evidence.SHORT else 2
WHOLE = re.compile(r"~(\d{5})\.[a-z-]+\.\1~")
CLONE_NEWNS = 0x20000


@dataclass
class Kept:
    """What a log holds of so many lines, and how the program ended. status: as Popen.returncode; seconds: until it had dealt with all."""

    lines: int
    missing: int
    doubled: int
    disordered: int
    torn: int
    status: int
    seconds: float
    cpu: float
    # Lines that were still held when the program had ended, and that `tideover clean` has put back.
    left_held: bool = False

    def is_whole(self, several=False):
        """several: as Logger has it."""
        if several:
            return not (self.missing or self.doubled) and self.torn <= PHASES // 2
        return not (self.missing or self.doubled or self.disordered or self.torn or self.left_held)

    def columns(self):
        """As evidence.worse has them."""
        return self.seconds, self.lines - self.missing, self.missing + self.doubled + self.disordered + self.torn, self.cpu


def own_mounts():
    """Gives this thread and what it starts a mount namespace of its own: its mounts end with it. False where that is not allowed."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
        return False
    # Servers leave files in /dev/shm when they are killed, and find those of others.
    commands = [["mount", "--make-rprivate", "/"], ["mount", "-t", "tmpfs", "-o", "mode=1777", "tideover-field", "/dev/shm"]]
    return all(subprocess.run(command, capture_output=True).returncode == 0 for command in commands)


@contextlib.contextmanager
def disk(path):
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=1777", "tideover-field", path], check=True, timeout=20)
    try:
        yield
    finally:
        # A process that was just killed may still have files there.
        subprocess.run(["umount", "--lazy", path], check=True, timeout=20)


def fill(path):
    """Writes until there is no space for another byte."""
    with open(path / "filler", "ab", 0) as filler:
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    filler.write(bytes(size))


def text_of(log):
    """What is in a log, after its rotated files, the oldest first."""

    def age(path):
        suffix = path.name[len(log.name) + 1 :]
        return int(suffix) if suffix.isdigit() else 0

    files = sorted((path for path in log.parent.glob(f"{log.name}*") if path == log or path.name[len(log.name) + 1 :].isdigit()), key=age)
    return "".join(path.read_bytes().decode(errors="replace") for path in files[::-1])


def shape(line):
    """A line without what changes from line to line."""
    return re.sub(r"(0x[0-9a-f]+|[\s\d:.,+-])+", "0", WHOLE.sub("LINE", line))


def kept(text, each):
    """(lines, missing, doubled, out of order, torn) of a log. each: as Logger has it. A line is torn if it looks like none of those that were logged before the disk
    was full and holds a piece of one of them, or is the beginning of one. The library's own lines are not looked at."""
    lines = [line for line in text.split("\n") if line and not line.startswith(("tideover", '{"tideover"'))]
    numbers = [int(number) for line in lines for number in WHOLE.findall(line)]
    seen = Counter(numbers)
    # Some programs log each line in two ways.
    times = max(1, min(seen[number] for number in range(1, each + 1)))
    missing = sum(max(0, times - seen[number]) for number in range(1, PHASES * each + 1))
    doubled = sum(max(0, seen[number] - times) for number in range(1, PHASES * each + 1))
    disordered = sum(1 for before, after in zip(numbers, numbers[1:]) if after < before)
    usual = {shape(line) for line in lines if any(int(number) <= each for number in WHOLE.findall(line))}

    def is_torn(looks):
        return looks not in usual and ("~" in looks or "LINE" in looks or any(one.startswith(looks) for one in usual))

    return times * PHASES * each, missing, doubled, disordered, sum(1 for line in lines if is_torn(shape(line)))


def through(logger, library, data, name):
    """One run: Kept."""
    folder = harness.work / f"{data.name}.{name}"
    folder.mkdir()
    folder.chmod(0o1777)
    where = folder / "disk"
    with disk(where):
        outage = loggers.Outage(data, folder, 1024, 20000, library, disk=where, log=where / "app.log")
        outage.log.touch()
        outage.log.chmod(0o666)
        took = 0.0
        try:
            say = logger.start(outage)
            for phase in range(PHASES):
                if phase % 2:
                    fill(where)
                elif phase:
                    (where / "filler").unlink()
                    time.sleep(BACK)
                begin = time.monotonic()
                goes_on = say(range(phase * logger.each + 1, (phase + 1) * logger.each + 1))
                took += time.monotonic() - begin
                if not goes_on:
                    break
            (where / "filler").unlink(missing_ok=True)
            status = outage.finish()
            is_left = any(folder.glob("tideover.*/holds/hold.*"))
            if is_left:
                clean = [harness.command, "clean", "--page-dir", folder]
                subprocess.run(clean, check=True, capture_output=True, timeout=20)
            found = kept(text_of(outage.log), logger.each)
        finally:
            outage.stop()
    shutil.rmtree(folder, ignore_errors=True)
    return Kept(*found, status, took, outage.cpu, is_left)


def worst(runs):
    """Of each count the largest, and the shortest time: other work on the machine only adds to it."""
    columns = [max(getattr(run, name) for run in runs) for name in ("lines", "missing", "doubled", "disordered", "torn")]
    status = next((run.status for run in runs if run.status), 0)
    return Kept(*columns, status, min(run.seconds for run in runs), min(run.cpu for run in runs), any(run.left_held for run in runs))


def worse(logger, plain, ours):
    """What is worse than it may be."""
    bad = evidence.worse(plain.columns(), ours.columns())
    if not logger.left_alone and not ours.is_whole(logger.several):
        bad.append("file not whole")
    if ours.status and not plain.status:
        bad.append("exit status")
    return bad


def compared(logger, data):
    """(plain, preloaded, what is worse than it may be). What is worse is measured again, and all runs count then."""
    runs = {None: [], harness.library: []}
    for number in range(ROUNDS + 2):
        if number >= ROUNDS and not bad:
            break
        for library in list(runs) if number % 2 == 0 else list(runs)[::-1]:
            runs[library].append(through(logger, library, data, f"{number}.{bool(library)}"))
        plain, ours = (worst(several) for several in runs.values())
        bad = worse(logger, plain, ours)
    return plain, ours, bad
