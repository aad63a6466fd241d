from . import Program

JOBS = 120


def prepare(folder):
    builds = "".join(f"build t{i}: r\n" for i in range(JOBS))
    (folder / "build.ninja").write_text("rule r\n  command = sleep 0.2; echo > $out\n" + builds)


def run(trial):
    trial.command(["ninja", f"-j{JOBS}", "-f", trial.data / "build.ninja"], trial.folder / "said")
    made = len(list(trial.folder.glob("t[0-9]*")))
    return made, JOBS - made


PROGRAM = Program("ninja", "120 jobs, a pipe for each: ends when it can't make another", ("ninja",), 64, run, prepare=prepare, short=False)
