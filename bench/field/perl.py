from . import Program

FILES = 200
# FileCache closes a third of its files when it has `maxopen` of them.
SCRIPT = """
use FileCache maxopen => 100;
no strict 'refs';
for my $round (0 .. 4) { for my $i (0 .. %d) { my $path = "$ARGV[0]/out.$i"; if (eval { cacheout $path }) { print $path "$round $i\\n" } } }
"""


def run(trial):
    trial.command(["perl", "-e", SCRIPT % (FILES - 1), trial.folder])
    files = sorted(trial.folder.glob("out.*"))
    trial.wrote(files)
    lines = sum(file.read_bytes().count(b"\n") for file in files)
    return lines, 5 * FILES - lines


PROGRAM = Program("Perl, FileCache", "200 output files by turns, in a cache that holds more than the limit allows", ("perl",), 64, run, short=False)
