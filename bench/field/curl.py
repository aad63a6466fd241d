import http.server
import threading
import time

from . import Program

FILES = 100


def run(trial):
    """From a server in this process, which has descriptors enough."""
    server = Server(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with trial.clock():
            words = ["curl", "-s", "--no-keepalive", "--parallel", "--parallel-immediate", "--parallel-max", FILES]
            trial.command([*words, "-o", f"{trial.folder}/got.#1", f"http://127.0.0.1:{server.server_port}/[1-{FILES}]"])
    finally:
        server.shutdown()
        server.server_close()
    got = sum(path.read_text() == f"answer to /{path.suffix[1:]}" for path in trial.folder.glob("got.*"))
    return got, FILES - got


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 500  # a short backlog would be what is measured


class Slow(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(0.1)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"answer to {self.path}".encode())

    def log_message(self, *_):
        pass


PROGRAM = Program("curl", "100 files at once, a connection and a file for each", ("curl",), 64, run, short=False)
