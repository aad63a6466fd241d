from . import Logger, requests
from ..field import free_port


def start(outage):
    port, at = free_port(), outage.folder
    configuration = at / "squid.conf"
    configuration.write_text(
        f"http_port 127.0.0.1:{port}\nhttp_access allow all\naccess_log stdio:{outage.log}\ncache_log {at}/cache.log\npid_filename {at}/pid\n"
        f"buffered_logs off\ncache deny all\nnetdb_filename none\nicon_directory {at}\nmime_table /dev/null\n"
        f"coredump_dir {at}\nshutdown_lifetime 0 seconds\nforwarded_for off\ncache_mem 1 MB\npinger_enable off\nvisible_hostname localhost\n"
    )
    outage.serve(["squid", "-N", "-f", configuration], port)
    return requests(port, 0.3, "http://127.0.0.1:1")


LOGGERS = [Logger("squid, access log", "a request", ("squid",), start)]
