import socket
import subprocess

from . import Logger, asked, payload
from ..field import free_port


def start(outage):
    port, at = free_port(), outage.folder
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", at / "key"], check=True, stdin=subprocess.DEVNULL)
    (at / "conf").write_text(f"Port {port}\nListenAddress 127.0.0.1\nHostKey {at}/key\nPidFile none\nUsePAM no\nMaxStartups 1000\n")
    outage.serve(["/usr/sbin/sshd", "-D", "-f", at / "conf", "-E", outage.log], port)

    def ask(n):
        # It notes what a client calls itself if that is no version of SSH.
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            client.sendall(f"{payload(n)}\r\n".encode())
            while client.recv(1000):
                pass

    return asked(ask, 0.2)


LOGGERS = [Logger("sshd -E log", "a client that speaks no SSH: a process of its own", ("/usr/sbin/sshd", "ssh-keygen"), start, several=True, each=50)]
