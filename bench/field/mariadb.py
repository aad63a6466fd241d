import subprocess
import threading
import time

from . import Program

TABLES = 150


def prepare(folder):
    common = ["--no-defaults", "--user=root", f"--datadir={folder}/db"]
    (folder / "db").mkdir()
    script = "create database mysql; create database test; use test;\n" + "".join(f"create table t{i} (a int) engine=innodb; insert into t{i} values ({i});\n" for i in range(TABLES))
    subprocess.run(["/usr/sbin/mariadbd", *common, "--bootstrap", "--skip-grant-tables"], input=script, text=True, check=True, capture_output=True)


def run(trial):
    """One client opens all tables, eight others ask what needs none."""
    inbox = trial.folder / "s"
    words = ["/usr/sbin/mariadbd", "--no-defaults", "--user=root", f"--datadir={trial.data}/db", f"--socket={inbox}", "--skip-networking"]
    more = ["--skip-grant-tables", f"--pid-file={trial.folder}/pid", "--table-open-cache=400", "--innodb-open-files=400", f"--tmpdir={trial.folder}"]
    trial.serve([*words, *more], inbox.exists, limits=(1024, 20000))
    client = ["mariadb", "--no-defaults", "--force", "-N", "-S", str(inbox), "test"]
    found = []

    def ask(script):
        done = subprocess.run(client, input=script, text=True, capture_output=True, timeout=120)
        found.append(len(done.stdout.split()))

    opens = "".join(f"select a from t{i};\n" for i in range(TABLES))
    with trial.clock():
        threads = [threading.Thread(target=ask, args=(script,)) for script in [opens, *["select 1;\n" * 100] * 8]]
        for thread in threads:
            thread.start()
            time.sleep(0.02)
        for thread in threads:
            thread.join()
    return sum(found), TABLES + 800 - sum(found)


PROGRAM = Program("MariaDB", "a database that opens tables at its limit, and queries that need none", ("/usr/sbin/mariadbd", "mariadb"), 72, run, prepare=prepare)
