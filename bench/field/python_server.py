from . import HTTP, Program, crowd, free_port


def prepare(folder):
    (folder / "index.html").write_text("x" * 1000)


def run(trial):
    port = free_port()
    trial.serve(["/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", str(port)], port, cwd=trial.data)
    return crowd(trial, port, 120, *HTTP)


PROGRAM = Program("Python, http.server", "a thread per client, each opens a file", ("/usr/bin/python3",), 40, run, prepare=prepare)
