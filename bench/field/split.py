from . import Program

PARTS, LINES = 200, 40_000


def prepare(folder):
    (folder / "input").write_text("".join(f"{i}\n" for i in range(LINES)))


def run(trial):
    trial.command(["split", "-a", "4", "-d", "-n", f"r/{PARTS}", trial.data / "input", "part."])
    trial.wrote(sorted(trial.folder.glob("part.*")))
    right = sum(
        int(line) % PARTS == int(path.suffix[1:]) for path in trial.folder.glob("part.*") for line in path.read_text().splitlines()
    )
    return right, LINES - right


PROGRAM = Program("split", "200 outputs in turn: closes some when it can't open another", ("split",), 64, run, prepare=prepare, short=False)
