from . import Program

FILES = 300


def run(trial):
    script = f"BEGIN {{ for (r = 0; r < 5; r++) for (i = 0; i < {FILES}; i++) print r, i > (\"out.\" i) }}"
    trial.command(["gawk", script])
    trial.wrote(sorted(trial.folder.glob("out.*")))
    lines = sum(path.read_bytes().count(b"\n") for path in trial.folder.glob("out.*"))
    return lines, 5 * FILES - lines


PROGRAM = Program("gawk", "300 output files: closes the one that was used longest ago", ("gawk",), 64, run, short=False)
