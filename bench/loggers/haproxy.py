from . import Logger, requests
from ..field import free_port


# One thread: of several, one that meets another in a write to the log tries 200 times, and then drops its line, on any disk.
def haproxy(appends):
    return lambda outage: start(outage, appends)


def start(outage, appends):
    port, configuration = free_port(), outage.folder / "haproxy.cfg"
    configuration.write_text(
        "global\n  log stdout format raw local0\n  nbthread 1\n  maxconn 100\ndefaults\n  mode http\n  log global\n  option httplog\n"
        "  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n"
        f"frontend f\n  bind 127.0.0.1:{port}\n  http-request return status 200\n"
    )
    outage.serve(["haproxy", "-db", "-f", configuration], port, appends=appends)
    return requests(port)


ALONE = "it takes O_APPEND from its standard output (fcntl F_SETFL), which then is as after `> log`: a result"
LOGGERS = [
    Logger("HAProxy, log stdout >> log 2>&1", "a request", ("haproxy",), haproxy("12")),
    Logger("HAProxy, log stdout >> log", "a request", ("haproxy",), haproxy("1"), left_alone=ALONE),
]
