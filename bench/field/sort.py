from . import Program

FILES, LINES = 300, 200


def prepare(folder):
    inputs = []
    for i in range(FILES):
        (folder / f"in.{i}").write_text("".join(f"{n * FILES + (i * 7) % FILES:08d} {i}\n" for n in range(LINES)))
        inputs.append(f"in.{i}")
    (folder / "expected").write_text("".join(sorted("".join((folder / name).read_text() for name in inputs).splitlines(True))))


def run(trial):
    inputs = sorted(trial.data.glob("in.*"))
    status = trial.command(["sort", "-m", "-T", trial.folder, *inputs], trial.folder / "sorted")
    is_same = status == 0 and (trial.folder / "sorted").read_bytes() == (trial.data / "expected").read_bytes()
    return (FILES, 0) if is_same else (0, FILES)


PROGRAM = Program("sort", "a merge of 300 files, in more steps where not all can be open", ("sort",), 12, run, prepare=prepare, short=False)
