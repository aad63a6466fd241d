"""The part `evidence` of scripts/bench: programs that handle EMFILE themselves (bench/field) are no worse off with the library."""

import os
import resource
import statistics
import subprocess
import time

from . import field, harness
from .harness import row, section

SHORT = bool(os.environ.get("SHORT"))
ROUNDS = 3 if SHORT else 5
# No column is worse than plain by more than this part of it, or by so much.
PART, SECONDS = 0.10, 0.5


def measured(program, soft, hard, library, data, number):
    """(seconds, answers, errors, seconds of CPU) of one run."""
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
    return took if trial.seconds is None else trial.seconds, answers, errors, trial.cpu


def worse(plain, ours):
    """The columns that are worse than plain by more than they may."""
    found = []
    # Who answers more may take longer, and need more CPU, in proportion.
    more = max(1, ours[1] / plain[1]) if plain[1] else 1
    for column, name in [(0, "time"), (3, "CPU")]:
        if ours[column] > max(plain[column] * more * (1 + PART), plain[column] * more + SECONDS):
            found.append(name)
    if ours[1] < plain[1] * (1 - PART):
        found.append("answers")
    # Of what was asked a hundredth is chance: who came first.
    if ours[2] > max(plain[2] * (1 + PART), plain[2] + (plain[1] + plain[2]) / 100):
        found.append("errors")
    return found


def beside(title, program, data, soft, hard):
    """Plain and preloaded by turns, and a row of the medians."""
    runs = {None: [], harness.library: []}
    for number in range(ROUNDS):
        for library in list(runs) if number % 2 == 0 else list(runs)[::-1]:
            runs[library].append(measured(program, soft, hard, library, data, f"{soft}.{hard}.{number}.{bool(library)}"))
    plain, ours = ([statistics.median(column) for column in zip(*several)] for several in runs.values())
    bad = worse(plain, ours)
    ratio = ours[0] / plain[0] if plain[0] else 1
    shown = (
        f"{plain[0]:.2f} -> {ours[0]:.2f} s ({ratio:.2f}, {ours[0] - plain[0]:+.2f} s); answers {plain[1]:.0f} -> {ours[1]:.0f}; "
        f"errors {plain[2]:.0f} -> {ours[2]:.0f}; CPU {plain[3]:.2f} -> {ours[3]:.2f} s"
    )
    figure = f"{program.name}: {program.kind}" + (f" (worse: {', '.join(bad)})" if bad else "")
    row(title, figure, shown, "none worse", not bad)


def evidence():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the clients are here
    wanted = [word.lower() for word in os.environ.get("ONLY", "").split(",") if word]
    harness.work.chmod(0o755)
    chosen = [p for p in field.programs() if (any(w in p.name.lower() for w in wanted) if wanted else p.short or not SHORT)]
    print(f"  plain -> preloaded, medians of {ROUNDS} runs each, by turns", flush=True)
    prepared = {}
    for is_equal in (True, False):
        title = section(f"Programs that handle EMFILE themselves, soft limit {'=' if is_equal else '<'} hard limit")
        for program in chosen:
            if program.lacking():
                row(title, program.name, f"not here: {', '.join(program.lacking())}")
                continue
            try:
                if program.name not in prepared:
                    data = harness.work / f"field-{len(list(harness.work.glob('field-*')))}"
                    data.mkdir()
                    data.chmod(0o755)
                    program.prepare(data)
                    prepared[program.name] = data
                beside(title, program, prepared[program.name], program.soft, program.soft if is_equal else program.hard)
            except (RuntimeError, OSError, subprocess.SubprocessError) as e:
                row(title, program.name, f"could not be measured: {e}", "none worse", False)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
