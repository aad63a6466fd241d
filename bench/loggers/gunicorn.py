from . import Logger, requests
from ..field import free_port

APP = """def app(environ, start_response):
    start_response('200 OK', [('Content-Length', '2')])
    return [b'ok']
"""


def start(outage):
    port = free_port()
    (outage.folder / "served.py").write_text(APP)
    words = ["/usr/bin/gunicorn", "--workers", "2", "--bind", f"127.0.0.1:{port}", "--access-logfile", outage.log, "--error-logfile", "-"]
    outage.serve([*words, "served:app"], port)
    return requests(port, 0.2)


LOGGERS = [Logger("gunicorn, access log", "a request, logged by one of two processes", ("/usr/bin/gunicorn",), start, several=True)]
