import socket
import time

from . import Logger, line

ALONE = "a syslog daemon has its own answer: it tries again"


def start(outage):
    inbox, configuration = outage.folder / "in", outage.folder / "rsyslog.conf"
    configuration.write_text(
        f'global(workDirectory="{outage.folder}")\nmodule(load="imuxsock" SysSock.Use="off")\n'
        f'input(type="imuxsock" Socket="{inbox}" RateLimit.Interval="0")\n*.* {outage.log}\n'
    )
    outage.serve(["rsyslogd", "-n", "-f", configuration, "-i", outage.folder / "pid"], inbox.exists)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    client.connect(str(inbox))

    def say(numbers):
        for n in numbers:
            client.send(f"<13>Jan  1 00:00:00 app: {line(n)}".encode())
        time.sleep(0.5)
        return True

    return say


LOGGERS = [Logger("rsyslogd, a file", "a message", ("rsyslogd",), start, left_alone=ALONE)]
