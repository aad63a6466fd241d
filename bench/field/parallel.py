from . import Program

JOBS = 60


def run(trial):
    trial.command(["parallel", "--will-cite", "-j", JOBS, "-k", "echo {} begins; sleep 0.2; echo {} ends", ":::", *range(JOBS)], trial.folder / "said")
    said = (trial.folder / "said").read_text()
    right = sum(f"{i} begins\n{i} ends\n" in "\n" + said for i in range(JOBS))
    return right, JOBS - right


PROGRAM = Program("GNU parallel", "tries how many files it may open, and starts so many jobs at once", ("parallel",), 64, run, short=False)
