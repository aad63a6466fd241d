from . import HTTP, Program, crowd, free_port


# As `python3 -m http.server`, with a backlog that is long enough: else the load is a test of TCP's retransmissions.
SCRIPT = """
import http.server, sys
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 500
class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_): pass
Server(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
"""


def prepare(folder):
    (folder / "index.html").write_text("x" * 1000)


def run(trial):
    port = free_port()
    trial.serve(["/usr/bin/python3", "-c", SCRIPT, str(port)], port, cwd=trial.data)
    return crowd(trial, port, 120, *HTTP)


PROGRAM = Program("Python, http.server", "a thread per client, each opens a file", ("/usr/bin/python3",), 40, run, prepare=prepare, short=False)
