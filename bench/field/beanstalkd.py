from . import Program, crowd, free_port


def run(trial):
    port = free_port()
    trial.serve(["beanstalkd", "-l", "127.0.0.1", "-p", port], port)
    return crowd(trial, port, 200, b"stats\r\n", b"OK ")


PROGRAM = Program("beanstalkd", "a queue server whose accept fails while clients wait", ("beanstalkd",), 48, run, short=False)
