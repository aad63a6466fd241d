import socket

from . import Logger, asked, payload
from ..field import free_port


def connect(n):
    """An MQTT CONNECT packet of a client whose name is line n's payload."""
    name = payload(n).encode()
    body = b"\0\4MQTT\4\2\0\x3c" + len(name).to_bytes(2, "big") + name
    return b"\x10" + bytes([len(body)]) + body


def start(outage):
    port, configuration = free_port(), outage.folder / "mosquitto.conf"
    configuration.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nlog_dest file {outage.log}\nlog_type notice\npersistence false\n")
    outage.serve(["mosquitto", "-c", configuration], port)

    def ask(n):
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            client.sendall(connect(n))
            client.recv(4)
            client.sendall(b"\xe0\0")  # DISCONNECT
            client.recv(4)

    return asked(ask, 0.2)


LOGGERS = [Logger("mosquitto, log_dest file", "two lines, of a client that comes and goes", ("mosquitto",), start)]
