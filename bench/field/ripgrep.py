from . import Program

DEPTH = 150


def prepare(folder):
    at = folder / "top"
    for i in range(DEPTH):
        at = at / f"d{i}"
        at.mkdir(parents=True)
        for name in "ab":
            (at / name).write_text(f"wanted {i}\n")


def run(trial):
    trial.command(["rg", "--no-config", "-j", "4", "-N", "wanted", trial.data / "top"], trial.folder / "found")
    found = (trial.folder / "found").read_text().count("wanted ")
    return found, 2 * DEPTH - found


PROGRAM = Program("ripgrep", "a search in 150 directories in one another, by four threads", ("rg",), 16, run, prepare=prepare, short=False)
