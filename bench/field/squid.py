import http.server
import threading

from . import Program, crowd, free_port


def run(trial):
    """Behind it a server in this process, which has descriptors enough."""
    port, at, behind = free_port(), trial.folder, Server(("127.0.0.1", 0), Behind)
    threading.Thread(target=behind.serve_forever, daemon=True).start()
    configuration = at / "squid.conf"
    configuration.write_text(
        f"http_port 127.0.0.1:{port}\nhttp_access allow all\naccess_log none\ncache_log {at}/cache.log\npid_filename {at}/pid\n"
        f"cache deny all\nnetdb_filename none\nicon_directory {at}\nmime_table /dev/null\n"
        f"coredump_dir {at}\nshutdown_lifetime 0 seconds\ncache_mem 1 MB\npinger_enable off\nvisible_hostname localhost\n"
    )
    try:
        trial.serve(["squid", "-N", "-n", f"field{port}", "-f", configuration], port)
        ask = f"GET http://127.0.0.1:{behind.server_port}/ HTTP/1.0\r\n\r\n".encode()
        return crowd(trial, port, 150, ask, b"behind", quiet=4)  # it pauses for a second or two
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


PROGRAM = Program("squid", "a proxy that keeps descriptors back, and lets clients wait", ("squid",), 128, run, short=False)
