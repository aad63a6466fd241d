import shutil
import subprocess

from . import Logger, fed, payload
from ..field import free_port
from ..field.postgresql import AS_USER, BIN


def prepare(folder):
    if AS_USER:
        shutil.chown(folder, "postgres", "postgres")
    subprocess.run([*AS_USER, BIN[0] / "initdb", "-D", folder / "db", "-A", "trust", "--no-sync"], check=True, capture_output=True)


def postgresql(destination):
    def start(outage):
        port, at = free_port(), outage.folder
        # Its owner must be the server.
        outage.log.unlink()
        settings = {
            "listen_addresses": "127.0.0.1", "unix_socket_directories": at, "fsync": "off", "logging_collector": "on", "log_statement": "all",
            "log_destination": destination, "log_directory": outage.disk, "log_filename": outage.log.name, "log_rotation_age": 0, "log_rotation_size": 0,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        outage.serve([*AS_USER, BIN[0] / "postgres", "-D", outage.data / "db", "-p", port, *options], port, end=2)
        client = ["psql", "-X", "-q", "-o", "/dev/null", "-h", "127.0.0.1", "-p", port, "-U", "postgres", "postgres"]
        # A backend hands its lines to the collector, which writes them when it gets to it.
        return fed(outage, client, lambda n: f"select '{payload(n)}';", "\\! touch {}", 0.2, preload=False)

    return start


NEEDS = ("psql", "setpriv", *map(str, BIN or ["/usr/lib/postgresql"]))
LOGGERS = [Logger("PostgreSQL, logging collector", "a statement, which the collector is told by a pipe", NEEDS, postgresql("stderr"), prepare)]
