from . import Logger, fed, requests
from ..field import free_port

ERROR_LOG = "while (($l = fgets(STDIN)) !== false) { if ($l[0] == ':') touch(rtrim(substr($l, 1))); else error_log($l, 3, $argv[1]); }"
PUT = "while (($l = fgets(STDIN)) !== false) { if ($l[0] == ':') touch(rtrim(substr($l, 1))); else @file_put_contents($argv[1], $l, FILE_APPEND | LOCK_EX); }"


def php(script):
    return lambda outage: fed(outage, ["php", "-n", "-r", script, "--", outage.log])


def server(outage):
    port = free_port()
    (outage.folder / "index.php").write_text("<?php error_log($_SERVER['REQUEST_URI']);")
    options = ["-n", "-d", "log_errors=1", "-d", f"error_log={outage.log}"]
    outage.serve(["php", *options, "-S", f"127.0.0.1:{port}", "-t", outage.folder, outage.folder / "index.php"], port)
    return requests(port)


LOGGERS = [
    Logger("PHP, error_log to a file", "error_log($line, 3, $file)", ("php",), php(ERROR_LOG)),
    Logger("PHP, file_put_contents", "FILE_APPEND | LOCK_EX", ("php",), php(PUT)),
    Logger("PHP, a server's error_log", "a line of the setting error_log for each request", ("php",), server),
]
