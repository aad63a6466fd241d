import os

from . import Program

DEPTH = 200


def prepare(folder):
    home = os.getcwd()
    os.chdir(folder)
    for i in range(DEPTH):
        with open(f"file{i}", "w") as file:
            file.write("x" * 100)
        os.mkdir("directory")
        os.chdir("directory")
    os.chdir(home)


def run(trial):
    # By name, each folder is entered before its file is read.
    status = trial.command(["tar", "-c", "--sort=name", "-f", trial.folder / "archive", "-C", trial.data, "."])
    trial.command(["tar", "-t", "-f", trial.folder / "archive"], trial.folder / "listed")
    listed = (trial.folder / "listed").read_text().splitlines()
    found = len(listed) if status == 0 else 0
    return found, 2 * DEPTH + 1 - found


PROGRAM = Program("tar", "a tree 200 folders deep: closes the upper ones when it can't open the next", ("tar",), 64, run, prepare=prepare, short=False)
