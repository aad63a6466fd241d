from . import Program

FILES = 200


def prepare(folder):
    (folder / "input").write_text("a line\n" * 5000)


def run(trial):
    with open(trial.data / "input") as lines:
        # tee writes to those that it could open.
        trial.command(["tee", *(f"copy.{i}" for i in range(FILES))], stdin=lines)
    trial.wrote(sorted(trial.folder.glob("copy.*")))
    wanted = (trial.data / "input").read_bytes()
    same = sum(path.read_bytes() == wanted for path in trial.folder.glob("copy.*"))
    return same, FILES - same


PROGRAM = Program("tee", "200 copies, without those that it can't open", ("tee",), 64, run, prepare=prepare, short=False)
