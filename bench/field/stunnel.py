import http.server
import ssl
import subprocess
import threading

from . import Program, crowd, free_port


def prepare(folder):
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run([*words, "-keyout", folder / "key", "-out", folder / "certificate"], check=True, capture_output=True)


def run(trial):
    """Behind it a TLS server in this process, which has descriptors enough."""
    port, behind = free_port(), Server(("127.0.0.1", 0), Behind)
    behind.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    behind.tls.load_cert_chain(trial.data / "certificate", trial.data / "key")
    threading.Thread(target=behind.serve_forever, daemon=True).start()
    configuration = trial.folder / "stunnel.conf"
    configuration.write_text(
        f"foreground = yes\npid =\ndebug = crit\n[out]\nclient = yes\naccept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{behind.server_port}\n"
    )
    try:
        trial.serve(["stunnel", configuration], port)
        return crowd(trial, port, 60, b"GET / HTTP/1.0\r\n\r\n", b"200 OK")
    finally:
        behind.shutdown()
        behind.server_close()


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 500  # a short backlog would be what is measured

    def finish_request(self, request, client_address):
        with self.tls.wrap_socket(request, server_side=True) as inner:
            super().finish_request(inner, client_address)

    def handle_error(self, request, client_address):
        pass  # a client that was sent away before it had said anything


class Behind(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"behind")

    def log_message(self, *_):
        pass


PROGRAM = Program("stunnel", "a TLS tunnel with a thread, and two descriptors, for each client", ("stunnel", "openssl"), 64, run, prepare=prepare, short=False)
