from . import Logger, requests
from ..field import free_port


def nginx(access, error):
    """access: where requests are logged; error: where errors are; "off" for neither."""

    def start(outage):
        port, at = free_port(), outage.folder
        temporary = "".join(f"{name}_temp_path {at}/{name}; " for name in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
        configuration = at / "nginx.conf"
        configuration.write_text(
            f"daemon off; user root; worker_processes 1; pid {at}/pid; error_log {error.format(outage.log)}; events {{ }}\n"
            f"http {{ access_log {access.format(outage.log)}; {temporary} server {{ listen 127.0.0.1:{port}; root {at}/none; }} }}\n"
        )
        outage.serve(["nginx", "-p", at, "-e", "stderr", "-c", configuration], port)
        return requests(port)

    return start


LOGGERS = [
    Logger("nginx, access log", "a request", ("nginx",), nginx("{}", "stderr crit")),
    Logger("nginx, error log", "a request for a file that is not there", ("nginx",), nginx("off", "{} error")),
]
