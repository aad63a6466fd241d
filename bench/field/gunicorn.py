from . import HTTP, Program, crowd, free_port

APP = """def app(environ, start_response):
    with open('/etc/passwd', 'rb') as file:
        said = file.read()
    start_response('200 OK', [('Content-Length', str(len(said)))])
    return [said]
"""


def run(trial):
    port = free_port()
    (trial.folder / "served.py").write_text(APP)
    words = ["/usr/bin/gunicorn", "--worker-class", "gthread", "--workers", "1", "--threads", "4", "--backlog", "500", "--bind", f"127.0.0.1:{port}"]
    trial.serve([*words, "--log-level", "critical", "served:app"], port)
    return crowd(trial, port, 150, *HTTP)


PROGRAM = Program("gunicorn", "a WSGI server of four threads, which open a file for each answer", ("/usr/bin/gunicorn",), 40, run, short=False)
