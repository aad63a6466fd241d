from . import Program

JOBS = 120


def prepare(folder):
    targets = " ".join(f"t{i}" for i in range(JOBS))
    (folder / "Makefile").write_text(f"all: {targets}\n{targets}:\n\t@echo $@ begins; sleep 0.3; echo $@ ends\n")


def run(trial):
    status = trial.command(["make", "-O", f"-j{JOBS}", "-f", trial.data / "Makefile"], trial.folder / "said")
    said = (trial.folder / "said").read_text().splitlines()
    # -O promises that the lines of a target stand together.
    together = sum(f"{first} {then}" == f"{first.split()[0]} begins {first.split()[0]} ends" for first, then in zip(said, said[1:]))
    return (together, JOBS - together) if status == 0 else (0, JOBS)


PROGRAM = Program("make", "120 jobs with -O: a file for the output of each", ("make",), 64, run, prepare=prepare, short=False)
