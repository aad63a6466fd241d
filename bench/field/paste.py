from . import Program

FILES, LINES = 200, 20


def prepare(folder):
    for i in range(FILES):
        (folder / f"{i:03}").write_text("".join(f"{i} {line}\n" for line in range(LINES)))


def run(trial):
    trial.command(["paste", *sorted(trial.data.iterdir())], trial.folder / "said")
    found = (trial.folder / "said").read_bytes().replace(b"\t", b"\n").count(b"\n")
    return found, FILES * LINES - found


PROGRAM = Program("paste", "200 files side by side, all open at once: ends at the first that it can't open", ("paste",), 64, run, prepare=prepare, short=False)
