from . import HTTP, Program, crowd, free_port

# One thread accepts, four workers answer, each answer needs a file.
SCRIPT = """
import concurrent.futures, selectors, socket, sys
def answer(client):
    with client:
        try:
            client.recv(999)
            with open('/etc/passwd') as file: client.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n' + file.read().encode())
        except OSError:
            try: client.sendall(b'HTTP/1.0 503 Busy\\r\\n\\r\\n')
            except OSError: pass
listener = socket.create_server(('127.0.0.1', int(sys.argv[1])), backlog=500)
listener.setblocking(False)
watched = selectors.DefaultSelector()
watched.register(listener, selectors.EVENT_READ)
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    while watched.select():
        try: client, _ = listener.accept()
        except OSError: continue
        client.setblocking(True)
        pool.submit(answer, client)
"""


def run(trial):
    port = free_port()
    trial.serve(["/usr/bin/python3", "-c", SCRIPT, str(port)], port)
    return crowd(trial, port, 150, *HTTP)


PROGRAM = Program("Python, a thread pool", "a pool server whose workers open a file for each answer", ("/usr/bin/python3",), 40, run)
