import socket
import time

from . import Program

FILES, ROUNDS = 120, 5


def run(trial):
    inbox, folder = trial.folder / "in", trial.folder
    configuration = folder / "rsyslog.conf"
    configuration.write_text(
        f'global(workDirectory="{folder}")\nmodule(load="imuxsock" SysSock.Use="off")\ninput(type="imuxsock" Socket="{inbox}" RateLimit.Interval="0")\n'
        f'template(name="each" type="string" string="{folder}/%programname%.log")\n'
        '*.* action(type="omfile" dynaFile="each" dynaFileCacheSize="1000" asyncWriting="off")\n'
    )
    trial.serve(["rsyslogd", "-n", "-f", configuration, "-i", folder / "pid"], inbox.exists)

    def there():
        return sum(path.read_bytes().count(b"\n") for path in folder.glob("app*.log"))

    with trial.clock():
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.connect(str(inbox))
            for i in range(FILES * ROUNDS):
                client.send(f"<13>Jan  1 00:00:00 app{i % FILES}: line {i}".encode())
        lines, last = 0, time.monotonic()
        # Until nothing has come for a second.
        while lines < FILES * ROUNDS and time.monotonic() - last < 1:
            time.sleep(0.05)
            if (now := there()) > lines:
                lines, last = now, time.monotonic()
    return lines, FILES * ROUNDS - lines


PROGRAM = Program("rsyslogd", "a syslog daemon with a file for each of 120 programs", ("rsyslogd",), 64, run)
