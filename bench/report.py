"""What scripts/field prints and writes: a row for each program, docs/field.md, and the table of loggers in docs/logs.md."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from . import evidence, limits, outage
from .loggers import Logger

HEAD = f"""# Real programs at their limits

Written by `make field WRITE=1`; `make field ONLY=nginx,git` measures some of the programs, `make field SHORT=1` ten of them within three
minutes, which `make check` does, too. Each program is a small file in bench/field, each logger one in bench/loggers.

Each program runs under a limit on descriptors that it reaches, without the library and with it by turns. In the first table the soft limit is
also the hard limit: nothing can be raised, and what is left is to free descriptors, to wait for one, or to return the error at once. In the
second one the hard limit is higher, and the library may raise the soft one. *Plain -> with the library* in each column:

| column | is |
|---|---|
| limit | the soft limit, and the hard one where it is higher |
| done | what was asked of the program and was done: clients answered, files, lines, queries |
| errors | what was asked and was not done |
| seconds | until all was done or given up |
| CPU | seconds of CPU of the program and its children |
| latency | where there are clients: seconds until 99 % of those that are answered in either case had their answer |
| output | where the program writes something: is it, with the library, what it writes where no limit is reached? *incomplete*: something failed, also with the library |
| verdict | **met**: no column is worse than plain by more than {evidence.PART:.0%} or {evidence.SECONDS} s (who does more may take longer in proportion; a hundredth of what was asked is chance). Else **MISSED**, and what is worse |

Figures are medians of {limits.ROUNDS} runs on each side; where a column is worse, of {3 * limits.ROUNDS}.
"""
START, END = "<!-- written by make field -->", "<!-- end of what make field writes -->"


def machine():
    model = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.M)
    return f"{os.cpu_count()} x {model[1].strip() if model else os.uname().machine}, Linux {os.uname().release}, {os.confstr('CS_GNU_LIBC_VERSION')}"


@dataclass
class Logged:
    """A logger through outages. plain, ours: outage.Kept; bad: what is worse than it may be."""

    logger: Logger
    plain: outage.Kept
    ours: outage.Kept
    bad: list


def verdict(row):
    if row.bad:
        return f"MISSED: {', '.join(row.bad)}"
    return "no worse" if isinstance(row, Logged) and row.logger.left_alone else "met"


def two(plain, ours, form):
    return f"{plain:{form}} -> {ours:{form}}"


def cells(row):
    """The columns of a row, as texts."""
    if isinstance(row, Logged):
        return [row.logger.name, row.logger.kind, *logged_cells(row), verdict(row)]
    done, errors, seconds, cpu = (two(row.plain[i], row.ours[i], form) for i, form in [(1, ".0f"), (2, ".0f"), (0, ".2f"), (3, ".2f")])
    latency = two(row.plain[4], row.ours[4], ".2f") if row.plain[4] or row.ours[4] else ""
    return [row.name, row.kind, row.limits, done, errors, seconds, cpu, latency, row.output, verdict(row)]


def logged_cells(row):
    def state(kept):
        counts = [(kept.missing, "missing"), (kept.doubled, "doubled"), (kept.disordered, "out of order"), (kept.torn, "torn")]
        said = ", ".join(f"{count} {what}" for count, what in counts if count) or "whole"
        return said + (", some by `tideover clean`" if kept.left_held else "")

    ended = two(row.plain.status, row.ours.status, "d") if row.plain.status or row.ours.status else "0"
    return [str(row.plain.lines), state(row.plain), state(row.ours), ended, two(row.plain.seconds, row.ours.seconds, ".2f")]


def line(row):
    """A row for the terminal."""
    if isinstance(row, Logged):
        count, plain, ours, ended, seconds = logged_cells(row)
        return f"{row.logger.name:<30} of {count}: plain {plain}; ours {ours}; exit {ended}; {seconds} s  {verdict(row)}"
    name, _, _, done, errors, seconds, cpu, latency, output, said = cells(row)
    more = (f"; latency {latency} s" if latency else "") + (f"; output {output}" if output else "")
    return f"{name:<26} done {done}; errors {errors}; {seconds} s; CPU {cpu} s{more}  {said}"


def saved(tables, logged):
    """Sentences that add up what the library has saved."""
    said = []
    for title, rows in tables.items():
        plain, ours = sum(row.plain[2] for row in rows), sum(row.ours[2] for row in rows)
        asked = sum(row.plain[1] + row.plain[2] for row in rows)
        better = sum(1 for row in rows if row.ours[2] < row.plain[2])
        bad = sum(1 for row in rows if row.bad)
        said.append(
            f"{title}: of {asked:,.0f} things asked of {len(rows)} programs, {plain:,.0f} failed without the library and {ours:,.0f} with it; "
            f"{better} programs did more, {bad} were worse in a column."
        )
    if logged:
        lossy = [row for row in logged if not row.plain.is_whole()]
        mended = sum(1 for row in lossy if row.ours.is_whole(row.logger.several))
        lines, plain, ours = (sum(of) for of in zip(*((row.plain.lines, row.plain.missing, row.ours.missing) for row in logged)))
        bad = sum(1 for row in logged if row.bad)
        said.append(
            f"Logs: of {lines:,} lines of {len(logged)} loggers, {plain:,} were missing without the library and {ours:,} with it. "
            f"{len(lossy)} logs were not whole without it, of which {mended} were whole and in order with it; {bad} were worse than they may be."
        )
    return said


def sums(tables, logged):
    """{what was measured: (without the library, with it)}, for README.md."""
    found = {}
    for title, rows in tables.items():
        asked, plain, ours = (sum(of) for of in zip(*((row.plain[1] + row.plain[2], row.plain[2], row.ours[2]) for row in rows)))
        limits = title.lower().replace("limit = hard", "limit that is also the hard").replace("limit < hard", "limit below the hard")
        found[f"{len(rows)} programs at a {limits}: what failed, of {asked:,.0f} things asked of them"] = (f"{plain:,.0f}", f"{ours:,.0f}")
    if logged:
        lines, plain, ours = (sum(of) for of in zip(*((row.plain.lines, row.plain.missing, row.ours.missing) for row in logged)))
        whole = (sum(1 for row in logged if kept(row).is_whole(row.logger.several)) for kept in (lambda row: row.plain, lambda row: row.ours))
        found[f"{len(logged)} loggers through two outages of the disk: lines missing, of {lines:,}"] = (f"{plain:,}", f"{ours:,}")
        found["their logs that are whole and in order"] = tuple(str(count) for count in whole)
    return found


def write_sums(path, found):
    """Puts the sums into README.md; those of what was not measured now stay."""
    before, rest = path.read_text().split(START)
    old, after = rest.split(END)
    rows = {cells[1].strip(): (cells[2].strip(), cells[3].strip()) for line in old.splitlines()[4:] if len(cells := line.split("|")) == 5}
    # A row is known by its words: the numbers in it change.
    words = {re.sub(r"[\d,]+", "", name): name for name in rows}
    for name, values in found.items():
        rows.pop(words.get(re.sub(r"[\d,]+", "", name)), None)
        rows[name] = values
    order = sorted(rows, key=lambda name: ("whole" in name, "outages" in name, "below" in name))
    table = ["| | without the library | with it |", "|---|---|---|", *(f"| {name} | {' | '.join(rows[name])} |" for name in order)]
    path.write_text(f"{before}{START}\n\n" + "\n".join(table) + f"\n\n{END}{after}")


def summary(tables, logged):
    return "\n".join([machine(), *saved(tables, logged)])


def table(head, rows):
    # A bar would begin another cell.
    texts = [" | ".join(cell.replace("|", "\\|") for cell in cells(row)) for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {text} |" for text in texts)])


def left_out(missing, broken):
    absent = [f"Not installed where this was measured: {name} ({', '.join(lacks)})." for name, lacks in missing]
    return absent + [f"Could not be measured: {name} ({why.splitlines()[0] if why else 'no reason given'})." for name, why in broken]


def document(tables, missing, broken):
    """The text of docs/field.md."""
    head = ["program", "what it does", "limit", "done", "errors", "seconds", "CPU", "latency", "output", "verdict"]
    parts = [HEAD, f"Measured on {machine()}.", *saved(tables, []), "What loggers keep on full disks is in [logs.md](logs.md#loggers-through-outages)."]
    parts += [f"\n## {title}\n\n{table(head, rows)}" for title, rows in tables.items()]
    parts += left_out(missing, broken)
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def write_logs(path, logged, missing, broken):
    """Puts the table of loggers between its markers in docs/logs.md."""
    head = ["logger", "a line is", "lines", "without the library", "with it", "exit status", "seconds", "verdict"]
    several = [row.logger.name for row in logged if row.logger.several]
    alone = [f"- {row.logger.name}: {row.logger.left_alone}." for row in logged if row.logger.left_alone]
    parts = [f"Measured on {machine()}.", *saved({}, logged), table(head, logged)]
    parts += ["Written by several processes: " + ", ".join(several) + "."] if several else []
    parts += ["Left alone by the library:", "\n".join(alone)] if alone else []
    parts += left_out(missing, broken)
    before, rest = path.read_text().split(START)
    path.write_text(f"{before}{START}\n\n" + "\n\n".join(parts) + f"\n\n{END}{rest.split(END)[1]}")
