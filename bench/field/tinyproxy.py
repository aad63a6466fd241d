import http.server
import threading

from . import Program, crowd, free_port


def run(trial):
    """Behind it a server in this process, which has descriptors enough."""
    port, behind = free_port(), Server(("127.0.0.1", 0), Behind)
    threading.Thread(target=behind.serve_forever, daemon=True).start()
    configuration = trial.folder / "tinyproxy.conf"
    configuration.write_text(f"Port {port}\nListen 127.0.0.1\nTimeout 30\nMaxClients 500\nLogLevel Critical\n")
    try:
        trial.serve(["tinyproxy", "-d", "-c", configuration], port)
        ask = f"GET http://127.0.0.1:{behind.server_port}/ HTTP/1.0\r\n\r\n".encode()
        return crowd(trial, port, 80, ask, b"200 OK")
    finally:
        behind.shutdown()
        behind.server_close()


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 500  # a short backlog would be what is measured


class Behind(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"behind")

    def log_message(self, *_):
        pass


PROGRAM = Program("tinyproxy", "a proxy with a thread per client, each of which needs a second descriptor", ("tinyproxy",), 48, run)
