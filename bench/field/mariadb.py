import contextlib
import subprocess
import threading
import time

from . import CAP, Program

TABLES = 150


def prepare(folder):
    common = ["--no-defaults", "--user=root", f"--datadir={folder}/db"]
    (folder / "db").mkdir()
    script = "create database mysql;\ncreate database test;\nuse test;\n" + "".join(f"create table t{i} (a int) engine=myisam;\ninsert into t{i} values ({i});\n" for i in range(TABLES))
    subprocess.run(["/usr/sbin/mariadbd", *common, "--bootstrap", "--skip-grant-tables"], input=script, text=True, check=True, capture_output=True)


def run(trial):
    """Eight clients ask what needs no table, one begins to open all tables a little later, when 15 descriptors are left."""
    inbox = trial.folder / "s"
    words = ["/usr/sbin/mariadbd", "--no-defaults", "--user=root", f"--datadir={trial.data}/db", f"--socket={inbox}", "--skip-networking"]
    more = ["--skip-grant-tables", f"--pid-file={trial.folder}/pid", "--table-open-cache=400", "--innodb-open-files=400", f"--tmpdir={trial.folder}"]
    server = trial.serve([*words, *more], inbox.exists, limits=(1024, 20000))
    client = ["mariadb", "--no-defaults", "--force", "-N", "-S", str(inbox), "test"]
    found = []

    def ask(script):
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(client, input=script, text=True, capture_output=True, timeout=CAP)
            found.append(done.stdout.split().count("1") if "sleep" in script else len(done.stdout.split()))

    opens = "".join(f"select a from t{i};\n" for i in range(TABLES))
    with trial.clock():
        unrelated = "select sleep(0.5);\n" + "select 1, sleep(0.005);\n" * 100
        threads = [threading.Thread(target=ask, args=(script,)) for script in [*[unrelated] * 8, opens]]
        for thread in threads[:-1]:
            thread.start()
        time.sleep(0.3)
        trial.restrict(server, 15)
        threads[-1].start()
        for thread in threads:
            thread.join()
    return sum(found), TABLES + 800 - sum(found)


PROGRAM = Program("MariaDB", "a database that opens tables at its limit, and queries that need none", ("/usr/sbin/mariadbd", "mariadb"), 72, run, prepare=prepare)
