from . import Logger, fed, payload
from ..field.mariadb import prepare

NEEDS = ("/usr/sbin/mariadbd", "mariadb")


def mariadb(*options):
    def start(outage):
        inbox = outage.folder / "s"
        words = ["/usr/sbin/mariadbd", "--no-defaults", "--user=root", f"--datadir={outage.data}/db", f"--socket={inbox}", "--skip-networking"]
        more = ["--skip-grant-tables", f"--pid-file={outage.folder}/pid", f"--tmpdir={outage.folder}", "--innodb-buffer-pool-size=8M"]
        outage.serve([*words, *more, *(option.format(outage.log) for option in options)], inbox.exists)
        client = ["mariadb", "--no-defaults", "--batch", "--silent", "--unbuffered", "--force", f"--socket={inbox}"]
        return fed(outage, client, lambda n: f"select '{payload(n)}';", "\\! touch {}", 0.1, preload=False)

    return start


LOGGERS = [
    Logger("MariaDB, general log", "a statement; a buffer of 8 KiB", NEEDS, mariadb("--general-log=1", "--general-log-file={}"), prepare),
    Logger("MariaDB, slow query log", "a statement and what it took", NEEDS,
           mariadb("--slow-query-log=1", "--long-query-time=0", "--slow-query-log-file={}"), prepare),
]
