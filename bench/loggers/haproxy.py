from . import Logger, requests
from ..field import free_port


def start(outage):
    port, configuration = free_port(), outage.folder / "haproxy.cfg"
    configuration.write_text(
        "global\n  log stdout format raw local0\n  maxconn 100\ndefaults\n  mode http\n  log global\n  option httplog\n"
        "  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n"
        f"frontend f\n  bind 127.0.0.1:{port}\n  http-request return status 200\n"
    )
    outage.serve(["haproxy", "-db", "-f", configuration], port, appends="1")
    return requests(port)


LOGGERS = [Logger("HAProxy, log stdout >> log", "a request", ("haproxy",), start)]
