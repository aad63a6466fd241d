from . import Program

FILES = 300
SCRIPT = """
const fs = require('fs');
let whole = 0, failed = 0;
for (let i = 0; i < %d; i++) {
  let bytes = 0;
  fs.createReadStream(process.argv[1] + '/' + i)
    .on('data', piece => { bytes += piece.length; })
    .on('error', () => { failed++; })
    .on('end', () => { if (bytes === 200000) whole++; });
}
process.on('exit', () => console.log(whole, failed));
""" % FILES


def prepare(folder):
    for i in range(FILES):
        (folder / str(i)).write_text("x" * 200000)


def run(trial):
    trial.command(["node", "-e", SCRIPT, trial.data], trial.folder / "said")
    said = (trial.folder / "said").read_text().split()
    return (int(said[0]), FILES - int(said[0])) if said else (0, FILES)


PROGRAM = Program("Node, streams", "300 streams at once, without those whose file can't be opened", ("node",), 64, run, prepare=prepare, short=False)
