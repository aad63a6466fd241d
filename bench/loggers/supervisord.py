import os

from . import Logger, fed

CHILD = r"""import sys
for line in open(sys.argv[1]):
    line = line.rstrip("\n")
    if line.startswith(":"): open(line[1:], "w").close()
    else: print(line, flush=True)
"""


def start(outage):
    """supervisord logs what a child of it says, which reads the lines from a named pipe."""
    pipe, script, configuration = outage.folder / "pipe", outage.folder / "child.py", outage.folder / "supervisord.conf"
    os.mkfifo(pipe)
    script.write_text(CHILD)
    at = outage.folder
    configuration.write_text(
        f"[supervisord]\nnodaemon=true\nlogfile={at}/log\npidfile={at}/pid\n[program:app]\ncommand=/usr/bin/python3 {script} {pipe}\n"
        f"stdout_logfile={outage.log}\nstdout_logfile_maxbytes=0\nredirect_stderr=true\nautorestart=false\n"
    )
    outage.launch(["/usr/bin/supervisord", "-c", configuration])
    return fed(outage, ["sh", "-c", f"exec cat > {pipe}"], preload=False)


LOGGERS = [Logger("supervisord, stdout_logfile", "a line that a child has printed", ("/usr/bin/supervisord",), start)]
