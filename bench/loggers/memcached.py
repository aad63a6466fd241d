from . import Logger, asked, exchange, payload
from ..field import free_port


def start(outage):
    port = free_port()
    outage.serve(["memcached", "-u", "root", "-l", "127.0.0.1", "-p", port, "-U", "0", "-t", "1", "-vv"], port, appends="2")
    return asked(lambda n: exchange(port, f"get {payload(n)}\r\nquit\r\n"))


LOGGERS = [Logger("memcached -vv 2>> log", "a command", ("memcached",), start)]
