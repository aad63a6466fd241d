from . import HTTP, Program, crowd, free_port


def run(trial):
    port, configuration = free_port(), trial.folder / "haproxy.cfg"
    configuration.write_text(
        "global\n  nbthread 2\n  maxconn 400\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n"
        f"frontend f\n  bind 127.0.0.1:{port} backlog 500\n  http-request return status 200\n"
    )
    # At its start it wants as many descriptors as clients may come.
    trial.restrict(trial.serve(["haproxy", "-db", "-f", configuration], port, limits=(1024, 20000)), more=30)
    return crowd(trial, port, 200, *HTTP)


PROGRAM = Program("HAProxy", "a proxy that pauses its listener for 100 ms at its limit", ("haproxy",), 64, run, short=False)
