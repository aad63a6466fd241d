"""Part of scripts/bench: what the library adds to the start of interpreters, and to a shell that starts many commands."""

import os
import re
import shutil
import statistics
import subprocess
import tempfile

from . import harness
from .harness import EATMYDATA, instructions, row, run, section

# Six commands as scripts have them: most open a file, and have a redirection.
ROUND = """/bin/true
/bin/ls / >/dev/null
/bin/cat /etc/passwd >/dev/null
/bin/grep -c root /etc/passwd >/dev/null
/bin/date >/dev/null
/bin/sed -n 1p /etc/passwd >/dev/null
"""
COMMANDS = 2000
PARTS = 5  # of the runs; the ratio's range is that of these


def programs():
    """{what it is called: (command, runs in each environment, target for the ratio, may callgrind run it?)}. Real paths: a pyenv puts a
    shell script in the way."""
    tree = harness.work / "small"
    tree.mkdir()
    git = os.path.realpath("/usr/bin/git" if os.path.exists("/usr/bin/git") else shutil.which("git") or "")
    for i in range(100):
        (tree / str(i)).write_text(f"{i}\n")
    run([git, "init", "-q", tree])
    run([git, "-C", tree, "add", "."])
    run([git, "-C", tree, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"])
    script = harness.work / "commands.sh"
    script.write_text(ROUND * (COMMANDS // 6) + "/bin/true\n" * (COMMANDS % 6))
    found = {
        "python3 -c pass": ([os.path.realpath("/usr/bin/python3"), "-c", "pass"], 400, 1.5, True),
        "node -e 0": ([os.path.realpath(shutil.which("node") or ""), "-e", "0"], 80, None, False),
        "java -version": ([os.path.realpath(shutil.which("java") or ""), "-version"], 50, None, False),
        "git status": ([git, "-C", tree, "status", "--porcelain"], 400, None, True),
        f"a shell that starts {COMMANDS:,} commands": (["/bin/sh", script], 8, 1.3, False),
    }
    return {said: about for said, about in found.items() if os.access(about[0][0], os.X_OK) and os.path.isfile(about[0][0])}


def by_turns(rounds, command, environments):
    """[environment: microseconds of each run], and the same list of processor time, that of its children included."""
    said = run([harness.work / "start", rounds, " ".join(map(str, command)), *environments]).stdout.splitlines()
    took = [[float(word) for word in line.split()] for line in said]
    return took[:len(environments)], took[len(environments):]


def calls(command, settings):
    """{system call: how often it is made}, by a program and its children: medians of three runs."""
    runs = []
    for _ in range(3):
        table = harness.work / "strace"
        given = [word for name, value in settings.items() for word in ["-E", f"{name}={value}"]]
        run(["strace", "-f", "-c", "-o", table, *given, *command])
        lines = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", table.read_text(), re.M)
        runs.append({name: int(count) for count, name in lines if name != "total"})
    return {name: statistics.median(each.get(name, 0) for each in runs) for name in set().union(*runs)}


def difference(plain, with_it):
    """How many calls more, and which: `+12: mmap 4, openat 3, ...`."""
    more = {name: with_it.get(name, 0) - plain.get(name, 0) for name in {*plain, *with_it}}
    named = ", ".join(f"{name} {count:+.0f}" for name, count in sorted(more.items(), key=lambda of: (-of[1], of[0])) if count)
    return f"{sum(more.values()):+.0f}: {named}"


def counts_instructions():
    """Can perf count the instructions of a program here? Virtual machines often have no counters."""
    perf = shutil.which("perf")
    done = perf and subprocess.run([perf, "stat", "-e", "instructions:u", "true"], capture_output=True, text=True)
    return bool(done) and done.returncode == 0 and "<not" not in done.stderr


def instructions_of(command, settings, by_perf):
    if not by_perf:
        others = {name: value for name, value in settings.items() if name != "LD_PRELOAD"}
        return instructions(command, settings.get("LD_PRELOAD"), settings=others)
    given = [f"{name}={value}" for name, value in settings.items()]
    said = run(["perf", "stat", "-x,", "-e", "instructions:u", "env", *given, *command]).stderr
    return int(said.splitlines()[-1].split(",")[0])


def times(title, said, command, rounds, target, has_ratio, kinds):
    """Rows of what is added to a run, in microseconds and processor time."""
    environments = [" ".join(f"{name}={value}" for name, value in settings.items()) for settings in kinds.values()]
    each = COMMANDS if "commands" in said else 1
    for unit, took in zip(["", ", processor time"], by_turns(rounds, command, environments)):
        took = dict(zip(kinds, took))

        def added(kind, part=slice(None)):
            # Of runs beside each other: what else the machine does moves both.
            return statistics.median(ours - plain for ours, plain in zip(took[kind][part], took["plain"][part])) / each

        plain = statistics.median(took["plain"]) / each
        shown = ", ".join(f"{kind} {added(kind):+,.0f}" for kind in list(kinds)[1:])
        row(title, f"{said}{unit}, us{' a command' if each > 1 else ''}", f"plain {plain:,.0f}; {shown}")
        # The spread of what node and java take is larger than what is added.
        if not unit or not has_ratio or "libeatmydata" not in kinds:
            continue
        parts = [slice(i * rounds // PARTS, (i + 1) * rounds // PARTS) for i in range(PARTS)]
        ratio, spread = added("tideover") / added("libeatmydata"), [added("tideover", p) / added("libeatmydata", p) for p in parts]
        shown = f"{ratio:.2f} ({min(spread):.2f} to {max(spread):.2f})"
        row(title, f"{said}{unit}: tideover / libeatmydata (range of {PARTS} parts)", shown, f"<= {target}" if target else "",
            ratio <= target if target else None)


def beside(title, said, command, kinds):
    """Rows of the system calls that are added."""
    plain = calls(command, kinds["plain"])
    for kind in list(kinds)[1:]:
        row(title, f"{said}, system calls: {kind}", difference(plain, calls(command, kinds[kind])))


def measure(pages):
    title = section("Start of interpreters: added to the plain program, medians by turns")
    # A folder of its own: what earlier programs have left in the usual one would be looked at, too.
    kinds = {"plain": {}, "tideover": {"LD_PRELOAD": harness.library, "TIDEOVER_PAGE_DIR": pages}}
    if EATMYDATA.exists():
        kinds["libeatmydata"] = {"LD_PRELOAD": EATMYDATA}
    by_perf = counts_instructions()
    for said, (command, rounds, target, may_valgrind) in programs().items():
        times(title, said, command, rounds, target, bool(target) or may_valgrind, kinds)
        if may_valgrind or by_perf:
            found = {kind: instructions_of(command, settings, by_perf) for kind, settings in kinds.items()}
            shown = ", ".join(f"{kind} +{found[kind] - found['plain']:,}" for kind in list(kinds)[1:])
            # callgrind slows a program down so much that it is not a short-lived one any more, and gets a page.
            how = "perf" if by_perf else "callgrind, in which it lasts and gets a page"
            row(title, f"{said}, instructions in user space ({how})", f"plain {found['plain']:,}; {shown}")
        if shutil.which("strace") and "commands" not in said:
            beside(title, said, command, kinds)
    if shutil.which("strace"):
        beside(title, "a shell that starts six commands", ["/bin/sh", "-c", ROUND], kinds)


def interpreters():
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="tideover-bench.", dir=shared) as pages:
        measure(pages)
