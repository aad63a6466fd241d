from . import Program

SCRIPT = """
$kept = []; $without = 0;
for ($i = 0; $i < 1000; $i++) {
    if ($file = @fopen($argv[1], 'r')) { $kept[] = $file; } else { $without++; }
}
echo count($kept), ' ', $without;
"""


def run(trial):
    trial.command(["php", "-n", "-r", SCRIPT, "/etc/passwd"], trial.folder / "said")
    said = (trial.folder / "said").read_text().split()
    return (int(said[0]), int(said[1])) if said else (0, 1000)


PROGRAM = Program("PHP, a batch", "keeps all of its files open, and goes without some", ("php",), 64, run, short=False)
