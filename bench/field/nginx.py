from . import HTTP, Program, crowd, free_port


def prepare(folder):
    (folder / "index.html").write_text("x" * 1000)


def run(trial):
    port, at = free_port(), trial.folder
    temporary = "".join(f"{name}_temp_path {at}/{name}; " for name in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
    configuration = at / "nginx.conf"
    configuration.write_text(
        f"daemon off; user root; worker_processes 1; pid {at}/pid; error_log {at}/error.log crit; events {{ worker_connections 500; }}\n"
        f"http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port} backlog=1024; root {trial.data}; }} }}\n"
    )
    trial.serve(["nginx", "-c", configuration], port)
    return crowd(trial, port, 200, *HTTP)


PROGRAM = Program("nginx", "a web server that pauses its listener", ("nginx",), 64, run, prepare=prepare, short=False)
