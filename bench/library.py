"""Parts of scripts/bench about the library itself: its calls, its start, its memory, its waits, its way with a full disk."""

import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from . import harness
from .harness import BATCH, EATMYDATA, HERE, TIMEOUT, instructions, numbers, p99, row, run, section

def calls():
    title = section("Success path: instructions added to a call (callgrind)")
    targets = {"write": 15, "open": 40, "close": 40, "close-client": 40, "socket": 40, "accept4": 40, "connect": 40}
    said = {
        "fcntl": "fcntl(F_GETFL)", "poll": "poll of one descriptor", "epoll_wait": "epoll_wait without waiting",
        "close-client": "close of a socket that accept4 gave", "open-higher": "open that returns the highest number so far",
    }
    for call in dict.fromkeys([*targets, *said]):
        batches = 10
        plain, ours = (instructions([harness.work / "calls", call, batches], lib, "measured") for lib in (None, harness.library))
        added = (ours - plain) / (batches * BATCH)
        target = targets.get(call)
        row(title, said.get(call, call), f"{added:.1f}", f"<= {target}" if target else "", added <= target if target else None)


def start():
    title = section("Start-up: added to the plain program, from start to end")
    kinds = {"plain": ""}
    if not EATMYDATA.exists():
        row(title, f"{EATMYDATA.name} is not here: apt install eatmydata", "no ratio", "<= 1.5", False)
    else:
        kinds["libeatmydata"] = f"LD_PRELOAD={EATMYDATA}"
    kinds |= {
        "libtideover": f"LD_PRELOAD={harness.library}",
        "libtideover, TIDEOVER_PAGE=0": f"LD_PRELOAD={harness.library} TIDEOVER_PAGE=0",
        "libtideover, TIDEOVER_DISABLE=1": f"LD_PRELOAD={harness.library} TIDEOVER_DISABLE=1",
    }
    # cat opens a file: what is put off until the first descriptor shows there.
    for command, rounds, target in [("/bin/true", 2500, 1.2), ("/bin/cat /dev/null", 1500, None)]:
        lines = run([harness.work / "start", rounds, command, *kinds.values()]).stdout.splitlines()
        took = {kind: [float(word) for word in line.split()] for kind, line in zip(kinds, lines)}

        def added(kind, part=slice(None)):
            return statistics.median(took[kind][part]) - statistics.median(took["plain"][part])

        row(title, f"{command}, plain: median", f"{statistics.median(took['plain']):.0f} us")
        for kind in list(kinds)[1:]:
            row(title, f"{command}, {kind}", f"+{added(kind):.0f} us")
        fifths = [slice(i * rounds // 5, (i + 1) * rounds // 5) for i in range(5)]
        for kind in list(kinds)[2:4] if "libeatmydata" in kinds else []:
            ratio = added(kind) / added("libeatmydata")
            spread = [added(kind, part) / added("libeatmydata", part) for part in fifths]
            shown = f"{ratio:.2f} ({min(spread):.2f} to {max(spread):.2f})"
            met = ratio <= target if target and kind == "libtideover" else None
            row(title, f"{command}, {kind}: ratio (range of 5 parts)", shown, "" if met is None else f"<= {target}", met)
    plain = instructions(["/bin/true"])
    for kind, environment in list(kinds.items())[1:]:
        settings = dict(word.split("=", 1) for word in environment.split())
        count = instructions(["/bin/true"], settings.pop("LD_PRELOAD"), settings=settings)
        row(title, f"/bin/true, {kind}: instructions", f"+{count - plain:,}")


def private_dirty(preload):
    """KiB that are this process's alone: anonymous memory and written pages of private mappings, and our shared page. Not
    Private_Dirty of the whole: it counts pages of a file that is not on the disk yet, and the library has just been copied."""
    environment = {"LD_PRELOAD": str(preload)} if preload else {}
    program = subprocess.Popen([harness.work / "idle"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    program.stdout.readline()
    smaps = Path(f"/proc/{program.pid}/smaps").read_text()
    program.communicate(timeout=TIMEOUT)
    mappings = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", smaps, flags=re.M)
    fields = {True: "Private_Dirty", False: "Anonymous"}
    sizes = (re.search(rf"^{fields['/tideover.' in m]}:\s+(\d+) kB", m, re.M) for m in mappings if m)
    return sum(int(size[1]) for size in sizes)


def memory():
    title = section("Memory")
    plain, ours = (statistics.median(private_dirty(lib) for _ in range(9)) for lib in (None, harness.library))
    row(title, "dirty private pages added", f"{ours - plain:.0f} KiB", "<= 64 KiB", ours - plain <= 64)
    size = harness.library.stat().st_size
    row(title, "library file", f"{size:,} bytes", "<= 524,288", size <= 512 << 10)


def wake():
    title = section("Descriptors at soft = hard = 64")
    n, parts, ours, semaphore = 400, 4, [], []
    for _ in range(parts):
        ours += numbers(run([harness.work / "wake", "close", n], harness.library, 64))
        semaphore += numbers(run([harness.work / "wake", "semaphore", n], None, 64))
    mid = statistics.median(ours)
    row(title, "close to return of a blocked open, 31 blocked: median", f"{mid:.1f} us", "<= 50 us", mid <= 50)
    row(title, "close to return of a blocked open, 31 blocked: p99", f"{p99(ours):.0f} us")
    shown = f"{statistics.median(semaphore):.1f} us, p99 {p99(semaphore):.0f} us"
    row(title, "close to return of a blocked open, by a futex semaphore in the program itself: median", shown)
    row(title, "ratio of the medians", f"{mid / statistics.median(semaphore):.2f}")
    shares = [[float(word) for word in line.split()] for line in run([harness.work / "wake", "share", 3], harness.library, 64).stdout.splitlines()]
    had, longest, failed = zip(*shares)
    row(title, "32 threads share 8 for 3 s: descriptors had by each", f"{min(had):.0f} to {max(had):.0f}")
    row(title, "32 threads share 8 for 3 s: longest wait of any thread", f"{max(longest) / 1e3:.1f} ms")
    row(title, "32 threads share 8 for 3 s: opens that failed", f"{sum(failed):.0f} of {sum(had):.0f}", "0", sum(failed) == 0)


def hopeless():
    title = section("Hopeless open of a single-threaded program, soft = hard = 64")
    n = 2000
    plain, ours = (numbers(run([harness.work / "hopeless", n], lib, 64)) for lib in (None, harness.library))
    row(title, "until EMFILE, plain: median, p99", f"{statistics.median(plain):.2f} us, {p99(plain):.2f} us")
    row(title, "preloaded: median", f"{statistics.median(ours):.2f} us")
    row(title, "preloaded: p99", f"{p99(ours):.2f} us", "<= 1000 us", p99(ours) <= 1000)
    first = [numbers(run([harness.work / "hopeless", 1], harness.library, 64))[0] for _ in range(25)]
    row(title, "preloaded: first failure of a process, with its message", f"{statistics.median(first):.0f} us")


def backoff():
    title = section("Python program with threads, soft = hard = 64: from close to open file")
    script = HERE / "bench/backoff.py"
    plain = numbers(run([sys.executable, script, "sleep", 16], None, 64))
    ours = numbers(run([sys.executable, script, "plain", 16], harness.library, 64))
    row(title, "catches EMFILE, sleeps 0.5 s, tries again: median", f"{statistics.median(plain):.0f} ms")
    row(title, "just opens, preloaded: median", f"{statistics.median(ours):.2f} ms")


# $1: mount point of a new tmpfs that is then filled; the rest: the command. The namespace, and the mount, end with it.
FULL = 'mount -t tmpfs -o size=256k tideover-bench "$1" && { head -c 1M /dev/zero >"$1/filler"; } 2>&-; shift; exec env "$@"'
PLENTY = {"TIDEOVER_FALLBACK_LIMIT": "100G/min", "TIDEOVER_FALLBACK": "stdout"}
LINE = 100  # bytes


def unshare():
    """The command that gives a mount namespace here; None if none does."""
    flags = ["-m"] if os.geteuid() == 0 else ["-Urm"]
    works = shutil.which("unshare") and subprocess.run(["unshare", *flags, "true"], capture_output=True).returncode == 0
    return ["unshare", *flags] if works else None


def on_full_disk(command, preload=None, reader=True, tracer=()):
    """Runs a program with a full tmpfs at work/disk. Returns the figures in work/result, and how many bytes came out of its
    standard output, a pipe: None if the program itself reads it, at the descriptor that is its last argument."""
    (harness.work / "disk").mkdir(exist_ok=True)
    settings = {"PATH": os.environ["PATH"]}
    if preload:
        settings |= PLENTY | {"LD_PRELOAD": preload}
        if os.geteuid():
            settings["TIDEOVER_PAGE_DIR"] = harness.work  # in the namespace we are root, to whom the usual folder may belong
    take, give = os.pipe()
    drain = subprocess.Popen(["wc", "-c"], stdin=take, stdout=subprocess.PIPE, text=True) if reader else None
    words = [*unshare(), "sh", "-c", FULL, "sh", harness.work / "disk", *(f"{k}={v}" for k, v in settings.items()), *tracer, *command]
    words += [] if reader else [take]
    try:
        done = subprocess.run(
            [str(word) for word in words], stdout=give, stderr=subprocess.PIPE, text=True, pass_fds=[take], timeout=TIMEOUT
        )
    finally:
        os.close(give)
        os.close(take)
    came = int(drain.communicate(timeout=TIMEOUT)[0]) if reader else None
    if done.returncode:
        raise RuntimeError(f"{command} failed ({done.returncode}): {done.stderr.strip()[-300:]}")
    return [float(word) for word in (harness.work / "result").read_text().split()], came


def calls_of_a_line(log):
    """The system calls of a diverted line as strace sees them, the write to standard output being the last, most frequent first.
    Those of the lines that the program itself sends there are one bare write."""
    trace = harness.work / "strace"
    on_full_disk([harness.work / "diverted", "lines", log, harness.work / "result", 1, 200], harness.library, tracer=["strace", "-o", trace])
    pieces, piece = {}, ()
    for name, first in re.findall(r"^(\w+)\((\w*)", trace.read_text(), re.M):
        piece += (name,)
        if first == "1" and "write" in name:
            pieces[piece] = pieces.get(piece, 0) + 1
            piece = ()
    del pieces["write",]
    return sorted((count, piece) for piece, count in pieces.items() if count > 5)[::-1]


def logs():
    title = section("Logs on a healthy disk: instructions (callgrind)")
    batches = 10
    for call, said in {"fprintf-flush": "fprintf of 100 bytes and fflush", "fprintf": "fprintf of 100 bytes, buffered"}.items():
        plain, ours = (instructions([harness.work / "calls", call, batches], lib, "measured") for lib in (None, harness.library))
        each = [count / (batches * BATCH) for count in (plain, ours)]
        shown = f"{each[0]:.0f} -> {each[1]:.0f}: {ours / plain:.3f}"
        row(title, f"{said}: plain -> preloaded", shown, "<= 1.01", ours <= 1.01 * plain)

    title = section("Logs on a full disk (tmpfs), to standard output, a pipe")
    if not unshare():
        row(title, "no mount namespace here (root, or unshare -Urm): nothing measured", "skipped")
        return
    log, result = harness.work / "disk/app.log", harness.work / "result"
    # A reader wakes up at each line, or has no time to: which of the two lasts for a whole run, and moves both sides. So several
    # runs. Without one, it is what the calls cost.
    for reader, runs, said in [(False, 3, "emptied after each batch"), (True, 9, "wc reads it")]:
        ratios, medians, missing, rounds, batch = [], [], 0, 100, 200
        for _ in range(runs):
            both, came = on_full_disk([harness.work / "diverted", "lines", log, result, rounds, batch], harness.library, reader)
            medians.append([statistics.median(both[side::2]) for side in (0, 1)])
            ratios.append(medians[-1][0] / medians[-1][1])
            missing += (rounds + 2) * 2 * batch * LINE - came if reader else 0
        ours, plain = (statistics.median(side) for side in zip(*medians))
        row(title, f"a line diverted / written to a pipe, {said}: medians", f"{ours:.0f} / {plain:.0f} ns")
        ratio = statistics.median(ratios)
        shown = f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        row(title, f"a line diverted, {said}: ratio (range of {runs} runs)", shown, "<= 1.0", ratio <= 1.0)
        if reader:
            row(title, f"a line diverted, {said}: bytes that the reader did not get", f"{missing:,}")
    prices, _ = on_full_disk([harness.work / "diverted", "prices", log, result, rounds, batch], reader=False)
    write, nowait, ask = (statistics.median(prices[call::3]) for call in range(3))
    row(title, "the kernel's price of a write to that pipe, no library", f"{write:.0f} ns")
    shown = f"{ask:.0f} ns: {(write + ask) / write:.2f} with a write"
    row(title, "the price of fcntl(F_GETSIG), which asks whether it is that log", shown)
    shown = f"{nowait - write:+.0f} ns: {(nowait + ask) / write:.2f} with both"
    row(title, "the price of pwritev2(RWF_NOWAIT), which neither blocks nor signals", shown)
    if shutil.which("strace"):
        for count, made in calls_of_a_line(log):
            row(title, f"system calls of a diverted line: {' '.join(made)}", f"{len(made)} ({count} times)")
    rounds = 50
    found, _ = on_full_disk([harness.work / "diverted", "back", log, result, rounds, harness.work / "disk/filler"], harness.library)
    row(title, "back in the file 100 ms after space is free", f"{sum(found):.0f} of {rounds}", "all", sum(found) == rounds == len(found))
    loggers = {
        "C, fprintf, line buffered": ([harness.work / "diverted", "fprintf"], 100_000),
        "Python, logging.FileHandler": ([sys.executable, HERE / "bench/logger.py"], 10_000),
    }
    for said, (command, lines) in loggers.items():
        rates, lost = {"file": [], "pipe": []}, 0
        for _ in range(7):
            rate, came = on_full_disk([*command, log, result, lines], harness.library)
            rates["file"] += rate
            rate, piped = on_full_disk([*command, "/proc/self/fd/1", result, lines])
            rates["pipe"] += rate
            lost += piped - came
        ours, plain = (statistics.median(rates[kind]) for kind in rates)
        ratios = [to_file / to_pipe for to_file, to_pipe in zip(*rates.values())]
        ratio = statistics.median(ratios)
        row(title, f"{said}: lines/s to the full disk / to a pipe", f"{ours:,.0f} / {plain:,.0f}")
        shown = f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        row(title, f"{said}: ratio (range of {len(ratios)} pairs)", shown, ">= 0.95", ratio >= 0.95)
        row(title, f"{said}: bytes that the reader did not get", f"{lost:,}")
