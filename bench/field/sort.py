from . import Program

FILES = 400


def prepare(folder):
    for i in range(FILES):
        (folder / str(i)).write_text("".join(f"{j * FILES + i:08}\n" for j in range(50)))


def run(trial):
    trial.command(["sort", "-m", "--batch-size=1000", "--parallel=2", *(trial.data / str(i) for i in range(FILES))], trial.folder / "said")
    lines = (trial.folder / "said").read_text().splitlines()
    right = len(lines) if lines == sorted(lines) else 0
    return right, 50 * FILES - right


PROGRAM = Program("sort", "merges 400 files: as many at a time as it can open", ("sort",), 64, run, prepare=prepare)
