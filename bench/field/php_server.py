from . import HTTP, Program, crowd, free_port


def prepare(folder):
    (folder / "index.php").write_text("<?php readfile('/etc/passwd');")


def run(trial):
    port = free_port()
    trial.serve(["php", "-n", "-S", f"127.0.0.1:{port}", "-t", trial.data], port)
    return crowd(trial, port, 100, *HTTP)


PROGRAM = Program("PHP, a server", "php -S, one thread, which opens a script for each client", ("php",), 40, run, prepare=prepare, short=False)
