import socket

from . import Logger, asked, payload
from ..field import free_port


def start(outage):
    port = free_port()
    words = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--daemonize", "no", "--enable-debug-command", "yes"]
    outage.serve([*words, "--logfile", outage.log], port)
    client = socket.create_connection(("127.0.0.1", port), 5)

    def ask(n):
        client.sendall(f"DEBUG LOG {payload(n)}\r\n".encode())
        client.recv(100)

    return asked(ask)


LOGGERS = [Logger("Redis, logfile", "what DEBUG LOG is told", ("redis-server",), start)]
