from . import Program, crowd, free_port


def prepare(folder):
    (folder / "index.html").write_text("x" * 1000)


def run(trial):
    port, at = free_port(), trial.folder
    configuration = at / "lighttpd.conf"
    configuration.write_text(
        f'server.bind = "127.0.0.1"\nserver.port = {port}\nserver.document-root = "{trial.data}"\nindex-file.names = ("index.html")\n'
        f'server.errorlog = "{at}/error.log"\nserver.listen-backlog = 500\nserver.max-connections = 400\n'
    )
    # It makes its tables as long as its limit is at its start.
    trial.restrict(trial.serve(["lighttpd", "-D", "-f", configuration], port, limits=(1024, 20000)))
    return crowd(trial, port, 200, b"GET / HTTP/1.0\r\n\r\n", b"200 OK")


PROGRAM = Program("lighttpd", "a web server whose limit is lowered while it runs", ("lighttpd",), 48, run, prepare=prepare, short=False)
