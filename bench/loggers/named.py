import socket

from . import Logger, asked
from .dnsmasq import question
from ..field import free_port


def start(outage):
    port, at = free_port(), outage.folder
    (at / "named.conf").write_text(
        f'options {{ directory "{at}"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; pid-file none; recursion no; '
        f'session-keyfile none; managed-keys-directory "{at}"; dnssec-validation no; }};\ncontrols {{ }};\n'
        f'logging {{ channel q {{ file "{outage.log}"; print-time yes; }}; category queries {{ q; }}; }};\n'
    )
    outage.serve(["/usr/sbin/named", "-f", "-c", at / "named.conf", "-n", "1"], port)
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(5)

    def ask(n):
        client.sendto(question(n), ("127.0.0.1", port))
        client.recv(1000)

    return asked(ask, 0.2)


LOGGERS = [Logger("BIND named, query log", "a query", ("/usr/sbin/named",), start)]
