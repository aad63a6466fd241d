import os
import subprocess

from . import Program, crowd, free_port

SOURCE = """package main

import (
	"net"
	"net/http"
	"os"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		os.Exit(1)
	}
	http.Serve(listener, http.HandlerFunc(func(to http.ResponseWriter, _ *http.Request) { to.Write([]byte("ok")) }))
}
"""


def prepare(folder):
    (folder / "server.go").write_text(SOURCE)
    settings = {**os.environ, "CGO_ENABLED": "0", "GOCACHE": str(folder / "cache"), "GO111MODULE": "off", "GOFLAGS": ""}
    subprocess.run(["go", "build", "-o", folder / "server", folder / "server.go"], check=True, env=settings, capture_output=True)


def run(trial):
    port = free_port()
    trial.serve([trial.data / "server", port], port)
    # Go raises its soft limit at its start.
    trial.restrict(trial.running[-1][0])
    return crowd(trial, port, 150, b"GET / HTTP/1.0\r\n\r\n", b"200 OK")


PROGRAM = Program("Go, a server", "a static program, which the library can't reach", ("go",), 40, run, prepare=prepare, short=False)
