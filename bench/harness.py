"""What the parts of scripts/bench share: rows of a table, programs in an almost empty environment, instruction counts."""

import ctypes
import os
import re
import resource
import signal
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
EATMYDATA = Path("/usr/lib/x86_64-linux-gnu/libeatmydata.so")
TIMEOUT = 300
PR_SET_CHILD_SUBREAPER = 36
BATCH = 100  # calls in a batch of bench/calls.c
# Set by scripts/bench and scripts/field: the rows so far, a folder for this run, a copy of the library, one of the command (field).
rows, work, library, command = [], None, None, None
# {section: {figure: {preload: value}}}, for the plots.
charts = {}


def row(section, figure, measured, target="", met=None):
    rows.append((section, figure, measured, target, {None: "", True: "met", False: "MISSED"}[met]))
    print(f"  {figure:<68} {measured:>30}  {target:<14} {rows[-1][4]}", flush=True)


def section(title):
    print(f"\n{title}", flush=True)
    return title


def run(command, preload=None, limit=None, settings=()):
    """Standard output of a program in an almost empty environment, with soft = hard = limit descriptors."""
    environment = {"PATH": os.environ["PATH"], **dict(settings)}
    if preload:
        environment["LD_PRELOAD"] = str(preload)

    def restrict():
        if limit:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    done = subprocess.run(
        [str(part) for part in command], env=environment, preexec_fn=restrict, capture_output=True, text=True, timeout=TIMEOUT
    )
    if done.returncode:
        raise RuntimeError(f"{command} failed ({done.returncode}): {done.stderr.strip()[-300:]}")
    return done


def adopt():
    """What programs leave behind becomes a child of this process, so that end_children finds it."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_children():
    """Ends all children of this process. To be called while none is waited for."""
    while left := Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        for pid in left:
            os.kill(int(pid), signal.SIGKILL)
            os.waitpid(int(pid), 0)


def numbers(done):
    return [float(word) for word in done.stdout.split()]


def p99(values):
    return sorted(values)[min(len(values) - 1, len(values) * 99 // 100)]


def instructions(command, preload=None, function=None, settings=()):
    """Instructions in user space, of the whole program or of one function and all that it calls."""
    tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={work}/callgrind"]
    if function:
        tool.append(f"--toggle-collect={function}")
    return int(re.search(r"Collected : (\d+)", run([*tool, *command], preload, settings=settings).stderr)[1])
