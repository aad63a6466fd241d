from . import Program

JOBS = 120
SCRIPT = """
import concurrent.futures, subprocess, sys
def job(i):
    try:
        done = subprocess.run(['sh', '-c', f'sleep 0.05; echo {i}'], stdin=subprocess.DEVNULL, capture_output=True)
        return done.stdout.strip() == str(i).encode()
    except OSError:
        return False
with concurrent.futures.ThreadPoolExecutor(16) as pool:
    done = sum(pool.map(job, range(%d)))
print(done)
""" % JOBS


def run(trial):
    trial.command(["/usr/bin/python3", "-c", SCRIPT], trial.folder / "said")
    said = (trial.folder / "said").read_text().split()
    return (int(said[0]), JOBS - int(said[0])) if said else (0, JOBS)


PROGRAM = Program("Python, subprocess", "16 threads with a process and its pipes each", ("/usr/bin/python3",), 40, run, short=False)
