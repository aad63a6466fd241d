import os
import shutil
import signal
import subprocess
from pathlib import Path

from . import Program, free_port

BIN = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]
AS_USER = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups"] if os.geteuid() == 0 else []
TABLES = 150


def prepare(folder):
    if AS_USER:
        shutil.chown(folder, "postgres", "postgres")
    subprocess.run([*AS_USER, BIN[0] / "initdb", "-D", folder / "db", "-A", "trust", "--no-sync"], check=True, capture_output=True)
    script = "".join(f"create table t{i} as select {i} as a;\n" for i in range(TABLES))
    single = [*AS_USER, BIN[0] / "postgres", "--single", "-D", folder / "db", "postgres"]
    subprocess.run(single, input=script, text=True, check=True, capture_output=True)


def run(trial):
    port = free_port()
    trial.folder.chmod(0o777)
    options = ["-c", "fsync=off", "-c", f"unix_socket_directories={trial.folder}", "-c", "listen_addresses=127.0.0.1", "-c", "max_files_per_process=64"]
    trial.serve([*AS_USER, BIN[0] / "postgres", "-D", trial.data / "db", "-p", str(port), *options], port, end=signal.SIGINT)
    script = "".join(f"select a from t{i};\n" for i in range(TABLES)) * 3
    command = ["psql", "-q", "-A", "-t", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "postgres"]
    with trial.clock():
        done = subprocess.run(command, input=script, text=True, capture_output=True, timeout=120)
    found = len(done.stdout.split())
    return found, 3 * TABLES - found


PROGRAM = Program("PostgreSQL", "a database that opens 150 tables at its limit", ("psql", "setpriv", *map(str, BIN or ["/usr/lib/postgresql"])), 80, run, prepare=prepare, short=False)
