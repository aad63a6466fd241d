import random
import subprocess

from . import Program

VOLUMES = 120


def prepare(folder):
    (folder / "whole").write_bytes(random.Random(1).randbytes(VOLUMES * 1000))
    subprocess.run(["7zz", "a", "-bd", "-mx0", "-v1000b", folder / "archive.7z", folder / "whole"], check=True, capture_output=True)


def run(trial):
    trial.command(["7zz", "x", "-bd", f"-o{trial.folder}", trial.data / "archive.7z.001"])
    got = trial.folder / "whole"
    found = got.stat().st_size // 1000 if got.exists() else 0
    if got.exists():
        trial.wrote([got])
    return found, VOLUMES - found


PROGRAM = Program("7-Zip", "an archive in 120 volumes, all open at once", ("7zz",), 64, run, prepare=prepare, short=False)
