from . import Logger, fed

SCRIPT = """set log [open [lindex $argv 0] a]
fconfigure $log -buffering line
while {[gets stdin line] >= 0} {
    if {[string index $line 0] eq ":"} { close [open [string range $line 1 end] w] } elseif {[catch {puts $log $line} error]} { puts stderr $error }
}"""


def prepare(folder):
    (folder / "script.tcl").write_text(SCRIPT)


LOGGERS = [Logger("Tcl, puts", "a channel with line buffering", ("tclsh8.6",), lambda o: fed(o, ["tclsh8.6", o.data / "script.tcl", o.log]), prepare)]
