from . import HTTP, Program, crowd, free_port

SCRIPT = """
const fs = require('fs'), http = require('http');
http.createServer((request, answer) => fs.readFile('/etc/passwd', (error, text) => {
    answer.writeHead(error ? 503 : 200); answer.end(text);
})).listen(Number(process.argv[1]), '127.0.0.1', 1000);
"""


def run(trial):
    port = free_port()
    trial.serve(["node", "-e", SCRIPT, port], port)
    return crowd(trial, port, 200, *HTTP)


PROGRAM = Program("Node, a web server", "a server that closes clients it can't have, and answers 503 without its file", ("node",), 48, run, short=False)
