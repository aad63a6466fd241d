from . import Program, crowd, free_port

MODULES = "/usr/lib/apache2/modules"


def prepare(folder):
    (folder / "index.html").write_text("x" * 1000)


def run(trial):
    port, at = free_port(), trial.folder
    modules = "".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so\n" for name in ["mpm_event", "authz_core", "dir"])
    configuration = at / "apache.conf"
    configuration.write_text(
        f"ServerRoot {at}\nServerName localhost\nListen 127.0.0.1:{port}\nPidFile {at}/pid\nDocumentRoot {trial.data}\n{modules}"
        f"StartServers 1\nServerLimit 1\nThreadsPerChild 64\nMaxRequestWorkers 64\nMinSpareThreads 1\nMaxSpareThreads 64\n"
        f"Mutex file:{at}\nDefaultRuntimeDir {at}\nErrorLog {at}/error\nKeepAliveTimeout 5\nListenBacklog 500\nDirectoryIndex index.html\n"
    )
    trial.serve(["apache2", "-D", "FOREGROUND", "-f", configuration], port)
    return crowd(trial, port, 150, b"GET / HTTP/1.0\r\n\r\n", b"200 OK")


PROGRAM = Program("Apache", "a web server of 64 threads, each of which needs a file besides its client", ("apache2", MODULES), 48, run, prepare=prepare, short=False)
