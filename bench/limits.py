"""Programs of bench/field at limits that bite, plain against preloaded, one row each. For scripts/field; bench/evidence.py measures them."""

from dataclasses import dataclass

from . import evidence

ROUNDS = 3
NO_LIMIT = 20000  # descriptors: none of the programs reaches that


@dataclass
class Row:
    """plain, ours: (seconds, answers, errors, seconds of CPU, seconds of latency). output: "" if the program writes nothing that can be
    compared, else what came of it. bad: the columns that are worse."""

    name: str
    kind: str
    limits: str
    plain: tuple
    ours: tuple
    output: str
    bad: list
    rounds: int


def reference(program, data):
    """A digest of what the program writes where no limit bites; None if it writes nothing, or not the same each time."""
    first = evidence.measured(program, NO_LIMIT, NO_LIMIT, None, data, "reference.0")
    if first.output is None or first.errors:
        return None
    return first.output if evidence.measured(program, NO_LIMIT, NO_LIMIT, None, data, "reference.1").output == first.output else None


def compared(program, data, soft, hard, wanted):
    """The Row of a program at these limits. wanted: its reference. What is worse is measured once more, and all runs count then."""
    both = evidence.by_turns(program, data, soft, hard, range(ROUNDS))
    columns = evidence.medians(both)
    if evidence.worse(*columns):
        both = [a + b for a, b in zip(both, evidence.by_turns(program, data, soft, hard, range(ROUNDS, 3 * ROUNDS)))]
        columns = evidence.medians(both)
    bad, output = evidence.worse(*columns), ""
    if wanted is not None:
        faultless = [run for run in both[1] if not run.errors]
        # Where something failed something is missing, plain or preloaded.
        output = "identical" if faultless else "incomplete"
        if any(run.output != wanted for run in faultless):
            output = "DIFFERENT"
            bad.append("output")
    limits = f"{soft}" if soft == hard else f"{soft} < {hard}"
    return Row(program.name, program.kind, limits, *columns, output, bad, len(both[0]))
