from . import Program

SCRIPT = """
const fs = require('fs').promises;
const all = Array.from({length: 400}, (_, i) => fs.open(process.argv[1] + '/' + i).then(f => 1, e => 0));
Promise.all(all).then(r => { const n = r.reduce((a, b) => a + b); console.log(n, 400 - n); process.exit(0); });
"""


def prepare(folder):
    for i in range(400):
        (folder / str(i)).write_text(f"{i}\n")


def run(trial):
    trial.command(["node", "-e", SCRIPT, trial.data], trial.folder / "said")
    said = (trial.folder / "said").read_text().split()
    return (int(said[0]), int(said[1])) if said else (0, 400)


PROGRAM = Program("Node", "400 promises of open files; those that fail are gone without", ("node",), 64, run, prepare=prepare)
