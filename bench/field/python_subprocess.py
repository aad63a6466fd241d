from . import Program

JOBS = 120
# With more pipes than one, Popen would leak those it has when it can't have the next.
SCRIPT = """
import concurrent.futures, subprocess, time
def job(i):
    while True:
        try:
            done = subprocess.run(['sh', '-c', f'sleep 0.05; echo {i}'], stdout=subprocess.PIPE)
            return done.stdout.strip() == str(i).encode()
        except OSError:
            time.sleep(0.05)
with concurrent.futures.ThreadPoolExecutor(16) as pool:
    done = sum(pool.map(job, range(%d)))
print(done)
""" % JOBS


def run(trial):
    trial.command(["/usr/bin/python3", "-c", SCRIPT], trial.folder / "said")
    said = (trial.folder / "said").read_text().split()
    return (int(said[0]), JOBS - int(said[0])) if said else (0, JOBS)


PROGRAM = Program("Python, subprocess", "16 threads with a process and two pipes each, which try again after 50 ms", ("/usr/bin/python3",), 40, run, short=False)
