from . import Program, crowd, free_port, server_behind


def run(trial):
    """Behind it a server in this process, which has descriptors enough."""
    port = free_port()
    configuration = trial.folder / "tinyproxy.conf"
    configuration.write_text(f"Port {port}\nListen 127.0.0.1\nTimeout 30\nMaxClients 500\nLogLevel Critical\n")
    with server_behind() as ask:
        trial.serve(["tinyproxy", "-d", "-c", configuration], port)
        return crowd(trial, port, 80, ask, b"200 OK")


PROGRAM = Program("tinyproxy", "a proxy with a thread per client, each of which needs a second descriptor", ("tinyproxy",), 48, run)
