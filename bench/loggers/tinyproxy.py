from . import Logger, requests
from ..field import free_port


def start(outage):
    port, configuration = free_port(), outage.folder / "tinyproxy.conf"
    configuration.write_text(f'Port {port}\nListen 127.0.0.1\nTimeout 30\nMaxClients 50\nLogLevel Connect\nLogFile "{outage.log}"\n')
    outage.serve(["tinyproxy", "-d", "-c", configuration], port)
    # Nobody listens at port 1: an answer comes at once.
    return requests(port, 0.2, "http://127.0.0.1:1")


ALONE = "it calls fsync(2) after each line: a file whose writer asks for durability is no log by the rule"
LOGGERS = [Logger("tinyproxy, LogFile", "a request", ("tinyproxy",), start, left_alone=ALONE)]
