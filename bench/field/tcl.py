from . import HTTP, Program, crowd, free_port

SCRIPT = """
proc accepted {client host port} {
    fconfigure $client -blocking 0 -translation binary
    fileevent $client readable [list asked $client]
}
proc asked {client} {
    if {[catch {read $client} said] || $said eq ""} { catch {close $client}; return }
    after 10 [list answer $client]
}
proc answer {client} {
    catch {puts -nonewline $client "HTTP/1.0 200 OK\\r\\n\\r\\n"}
    catch {close $client}
}
socket -server accepted -myaddr 127.0.0.1 [lindex $argv 0]
vwait forever
"""


def run(trial):
    port = free_port()
    (trial.folder / "server.tcl").write_text(SCRIPT)
    trial.serve(["tclsh8.6", trial.folder / "server.tcl", port], port)
    return crowd(trial, port, 150, *HTTP)


PROGRAM = Program("Tcl, a server", "an event loop that says nothing of an accept that failed", ("tclsh8.6",), 40, run, short=False)
