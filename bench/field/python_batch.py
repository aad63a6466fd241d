from . import Program

# A progress thread sleeps; the batch wants all of its inputs open at once, and goes without those that it can't have.
SCRIPT = """
import sys, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
kept, without = [], 0
for i in range(300):
    try: kept.append(open(f'{sys.argv[1]}/{i}'))
    except OSError: without += 1
print(len(kept), without)
"""


def prepare(folder):
    for i in range(300):
        (folder / str(i)).write_text(f"{i}\n")


def run(trial):
    trial.command(["/usr/bin/python3", "-c", SCRIPT, trial.data], trial.folder / "said")
    said = (trial.folder / "said").read_text().split()
    return (int(said[0]), int(said[1])) if said else (0, 300)


PROGRAM = Program("Python, a batch", "a batch with an idle thread goes without some inputs", ("/usr/bin/python3",), 64, run, prepare=prepare)
