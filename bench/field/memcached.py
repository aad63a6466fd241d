from . import Program, crowd, free_port


def run(trial):
    port = free_port()
    words = ["memcached", "-u", "root", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-c", "500", "-t", "2"]
    # At its start it wants as many descriptors as clients may come.
    trial.restrict(trial.serve(words, port, limits=(1024, 20000)))
    return crowd(trial, port, 200, b"version\r\n", b"VERSION")


PROGRAM = Program("memcached", "a cache that listens no more at its limit", ("memcached",), 64, run, short=False)
