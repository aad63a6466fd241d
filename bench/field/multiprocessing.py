from . import Program

TASKS = 40
# Two descriptors for each child: that of its pipe and that by which its end is seen. One that can not be had is gone without.
SCRIPT = """
import multiprocessing, time
def square(i, to):
    time.sleep(0.1)
    to.send(i * i)
if __name__ == '__main__':
    children, failed = [], 0
    for i in range(%d):
        try:
            mine, other = multiprocessing.Pipe(False)
            child = multiprocessing.Process(target=square, args=(i, other))
            child.start()
            other.close()
            children.append((i, mine, child))
        except OSError:
            failed += 1
    print(sum(mine.recv() == i * i for i, mine, _ in children), failed)
    for _, _, child in children: child.join()
"""


def run(trial):
    script = trial.folder / "script.py"
    script.write_text(SCRIPT % TASKS)
    trial.command(["/usr/bin/python3", script], trial.folder / "said")
    said = (trial.folder / "said").read_text().split()
    return (int(said[0]), int(said[1])) if said else (0, TASKS)


PROGRAM = Program("Python, multiprocessing", "40 processes at once, with a pipe and a sentinel each", ("/usr/bin/python3",), 48, run, short=False)
