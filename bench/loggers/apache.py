from . import Logger, requests
from ..field import free_port

MODULES = "/usr/lib/apache2/modules"


def start(outage):
    port, at = free_port(), outage.folder
    modules = "".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so\n" for name in ["mpm_prefork", "authz_core"])
    configuration = at / "apache.conf"
    configuration.write_text(
        f"ServerRoot {at}\nServerName localhost\nListen 127.0.0.1:{port}\nPidFile {at}/pid\nDocumentRoot {at}\n{modules}"
        f"StartServers 1\nMinSpareServers 1\nMaxSpareServers 1\nServerLimit 1\nMaxRequestWorkers 1\nMutex file:{at}\nDefaultRuntimeDir {at}\n"
        f'ErrorLog {at}/error\nLogLevel crit\nLogFormat "%h %t \\"%r\\" %>s" short\nCustomLog {outage.log} short\n'
    )
    outage.serve(["apache2", "-D", "FOREGROUND", "-f", configuration], port)
    return requests(port, 0.3)


LOGGERS = [Logger("Apache, access log", "a request", ("apache2", MODULES), start)]
