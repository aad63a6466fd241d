import subprocess

from . import Program

OBJECTS = 300


def prepare(folder):
    source = "".join(f".globl f{i}\n.section .text.f{i},\"ax\"\nf{i}: .long {i}\n" for i in range(OBJECTS))
    for i, text in enumerate(source.split(".globl ")[1:]):
        subprocess.run(["as", "-o", folder / f"{i}.o"], input=f".globl {text}", text=True, check=True)


def linker(name, kind, command):
    """A program that links all objects by this command."""

    def run(trial):
        objects = sorted(trial.data.glob("*.o"))
        status = trial.command([command, "-shared", "-o", trial.folder / "linked.so", *objects])
        trial.command(["nm", "-D", "--defined-only", trial.folder / "linked.so"], trial.folder / "said", limits=(1024, 1024))
        found = sum(" T f" in line for line in (trial.folder / "said").read_text().splitlines()) if status == 0 else 0
        return found, OBJECTS - found

    return Program(name, kind, (command, "as", "nm"), 64, run, prepare=prepare, short=False)


PROGRAM = linker("ld", "a linker of 300 objects keeps an eighth of the limit open", "ld.bfd")
