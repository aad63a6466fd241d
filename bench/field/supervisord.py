import signal
import time

from . import Program

CHILDREN = 40


def run(trial):
    sections = "".join(f"[program:p{i}]\ncommand=/bin/sh -c 'echo > {trial.folder}/up.{i}; exec sleep 60'\nstartretries=1\nstartsecs=0\n" for i in range(CHILDREN))
    configuration = trial.folder / "supervisord.conf"
    configuration.write_text(f"[supervisord]\nnodaemon=true\nlogfile={trial.folder}/log\npidfile={trial.folder}/pid\nchildlogdir={trial.folder}\nminfds=32\n{sections}")

    def up():
        return sum(1 for _ in trial.folder.glob("up.*"))

    with trial.clock():
        trial.serve(["/usr/bin/supervisord", "-c", configuration], lambda: (trial.folder / "log").exists(), end=signal.SIGKILL)
        count, last = 0, time.monotonic()
        while count < CHILDREN and time.monotonic() - last < 2:
            time.sleep(0.05)
            if (now := up()) > count:
                count, last = now, time.monotonic()
    trial.seconds -= time.monotonic() - last
    return count, CHILDREN - count


PROGRAM = Program("supervisord", "a supervisor with three pipes for each of 40 programs", ("/usr/bin/supervisord",), 96, run, short=False)
