import sqlite3

from . import Program

FILES, ROWS = 10, 200


def prepare(folder):
    for i in range(FILES):
        with sqlite3.connect(folder / f"{i}.db") as database:
            database.execute("create table t (n)")
            database.executemany("insert into t values (?)", [(n,) for n in range(ROWS)])


def run(trial):
    copies = [trial.folder / f"{i}.db" for i in range(FILES)]
    for copy in copies:
        copy.write_bytes((trial.data / copy.name).read_bytes())
    script = "".join(f"attach '{copy}' as d{i};" for i, copy in enumerate(copies))
    script += "begin;" + "".join(f"update d{i}.t set n = n + 1000;" for i in range(FILES)) + "commit;"
    trial.command(["sqlite3", ":memory:", script])
    right = 0
    for copy in copies:
        with sqlite3.connect(copy) as database:
            right += database.execute("select count(*) from t where n >= 1000").fetchone()[0]
    return right, FILES * ROWS - right


PROGRAM = Program("SQLite", "a transaction in ten attached files, each with its journal", ("sqlite3",), 20, run, prepare=prepare, short=False)
