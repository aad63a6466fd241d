from . import Logger, requests
from ..field import free_port


def start(outage):
    port, at = free_port(), outage.folder
    configuration = at / "lighttpd.conf"
    configuration.write_text(
        f'server.bind = "127.0.0.1"\nserver.port = {port}\nserver.document-root = "{at}"\nserver.modules = ("mod_accesslog")\n'
        f'server.errorlog = "{at}/error.log"\naccesslog.filename = "{outage.log}"\n'
    )
    outage.serve(["lighttpd", "-D", "-f", configuration], port)
    # It writes what it has collected when that is 8 KiB, and every four seconds.
    return requests(port, 4.5)


LOGGERS = [Logger("lighttpd, access log", "a request, written with others after some seconds", ("lighttpd",), start)]
