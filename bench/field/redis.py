from . import Program, crowd, free_port


def run(trial):
    port = free_port()
    words = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--maxclients", "400", "--tcp-backlog", "500", "--dir", trial.folder]
    # At its start it lowers the number of clients to what its limit lets in.
    trial.restrict(trial.serve(words, port, limits=(1024, 20000)), more=30)
    return crowd(trial, port, 200, b"PING\r\n", b"+PONG")


PROGRAM = Program("Redis", "an event loop whose accept fails while clients wait", ("redis-server",), 64, run, short=False)
