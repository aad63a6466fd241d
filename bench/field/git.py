import subprocess

from . import Program

PACKS = 150


def prepare(folder):
    script = (
        "git init -q . && git config user.email a@b && git config user.name a && git config gc.auto 0 && "
        f"for i in $(seq {PACKS}); do echo $i > f$i && git add f$i && git commit -q -m $i && git repack -q; done"
    )
    subprocess.run(["sh", "-c", script], cwd=folder, check=True, capture_output=True)


def run(trial):
    status = trial.command(["git", "-C", trial.data, "log", "--format=%s", "-p"], trial.folder / "said")
    lines = (trial.folder / "said").read_text().splitlines()
    found = sum(1 for line in lines if line.startswith("diff --git"))
    return found, PACKS - found + (status != 0)


PROGRAM = Program("git", "git log over 150 packs: closes one when it can't open another", ("git",), 64, run, prepare=prepare, short=False)
