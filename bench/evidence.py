"""The part `evidence` of scripts/bench: programs that handle EMFILE themselves (bench/field) are no worse off with the library."""

import contextlib
import math
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from . import field, harness
from .harness import row, section

SHORT = bool(os.environ.get("SHORT"))
ROUNDS = 3 if SHORT else 5
# No column is worse than plain by more than this part of it, or by so much.
PART, SECONDS = 0.10, 0.5


@dataclass
class Run:
    """What one run of a program came to. seconds, cpu: seconds; latencies: seconds until each answer; output: a digest, or None."""

    seconds: float
    answers: int
    errors: int
    cpu: float
    latencies: list
    output: str | None


def measured(program, soft, hard, library, data, number):
    folder = harness.work / f"{data.name}.{number}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o1777)
    trial = field.Trial(data, folder, soft, hard, library)
    try:
        begin = time.monotonic()
        answers, errors = program.run(trial)
        took = time.monotonic() - begin
    finally:
        trial.stop()
    shutil.rmtree(folder, ignore_errors=True)
    return Run(took if trial.seconds is None else trial.seconds, answers, errors, trial.cpu, sorted(trial.latencies), trial.output)


def worse(plain, ours):
    """The columns that are worse than plain by more than they may, of (seconds, answers, errors, seconds of CPU, and perhaps seconds of latency)
    each."""
    found = []
    # Who answers more may take longer, and need more CPU, in proportion.
    more = max(1, ours[1] / plain[1]) if plain[1] else 1
    for column, name, part in [(0, "time", more), (3, "CPU", more), (4, "latency", 1)]:
        if len(plain) > column and ours[column] > max(plain[column] * part * (1 + PART), plain[column] * part + SECONDS):
            found.append(name)
    if ours[1] < plain[1] * (1 - PART):
        found.append("answers")
    # Of what was asked a hundredth is chance: who came first.
    if ours[2] > max(plain[2] * (1 + PART), plain[2] + (plain[1] + plain[2]) / 100):
        found.append("errors")
    return found


def by_turns(program, data, soft, hard, numbers):
    """The runs of a program, plain and preloaded by turns: two lists. numbers: of the rounds, which tell their folders apart."""
    runs = {None: [], harness.library: []}
    for number in numbers:
        for library in list(runs) if number % 2 == 0 else list(runs)[::-1]:
            runs[library].append(measured(program, soft, hard, library, data, f"{soft}.{hard}.{number}.{bool(library)}"))
    return list(runs.values())


def medians(both):
    """For plain and preloaded: (seconds, answers, errors, seconds of CPU, seconds of latency). The latency is the time by which so many
    clients had their answers: 99 % of those that had one in the run in which the fewest had. A client that gets no answer has no latency."""
    counted = math.ceil(0.99 * min(len(run.latencies) for runs in both for run in runs))
    found = []
    for runs in both:
        columns = zip(*((run.seconds, run.answers, run.errors, run.cpu, run.latencies[counted - 1] if counted else 0) for run in runs))
        found.append(tuple(statistics.median(column) for column in columns))
    return found


def beside(title, program, data, soft, hard):
    """Plain and preloaded by turns, and a row of the medians."""
    plain, ours = (columns[:4] for columns in medians(by_turns(program, data, soft, hard, range(ROUNDS))))
    bad = worse(plain, ours)
    ratio = ours[0] / plain[0] if plain[0] else 1
    shown = (
        f"{plain[0]:.2f} -> {ours[0]:.2f} s ({ratio:.2f}, {ours[0] - plain[0]:+.2f} s); answers {plain[1]:.0f} -> {ours[1]:.0f}; "
        f"errors {plain[2]:.0f} -> {ours[2]:.0f}; CPU {plain[3]:.2f} -> {ours[3]:.2f} s"
    )
    figure = f"{program.name}: {program.kind}" + (f" (worse: {', '.join(bad)})" if bad else "")
    row(title, figure, shown, "none worse", not bad)


@contextlib.contextmanager
def many_descriptors():
    """The clients are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Prepared:
    """What a program's runs read, made at the first need."""

    def __init__(self):
        self.folders = {}

    def of(self, program):
        if program.name not in self.folders:
            folder = Path(tempfile.mkdtemp(prefix="field-", dir=harness.work))
            folder.chmod(0o755)
            program.prepare(folder)
            self.folders[program.name] = folder
        return self.folders[program.name]


def evidence():
    wanted = [word.lower() for word in os.environ.get("ONLY", "").split(",") if word]
    harness.work.chmod(0o755)
    chosen = [p for p in field.programs() if (any(w in p.name.lower() for w in wanted) if wanted else p.short or not SHORT)]
    print(f"  plain -> preloaded, medians of {ROUNDS} runs each, by turns", flush=True)
    prepared = Prepared()
    with many_descriptors():
        for is_equal in (True, False):
            title = section(f"Programs that handle EMFILE themselves, soft limit {'=' if is_equal else '<'} hard limit")
            for program in chosen:
                if program.lacking():
                    row(title, program.name, f"not here: {', '.join(program.lacking())}")
                    continue
                try:
                    beside(title, program, prepared.of(program), program.soft, program.soft if is_equal else program.hard)
                except (RuntimeError, OSError, subprocess.SubprocessError) as e:
                    row(title, program.name, f"could not be measured: {e}", "none worse", False)
