from . import Logger, fed

EACH = """while IFS= read -r line; do case $line in :*) : > "${line#:}" ;; *) echo "$line" >> "$1" ;; esac; done; exit 0"""
ONCE = """exec >> "$1"; while IFS= read -r line; do case $line in :*) : > "${line#:}" ;; *) echo "$line" ;; esac; done; exit 0"""
CRON = """while IFS= read -r line; do case $line in :*) : > "${line#:}" ;; *) sh -c 'echo "$1"; echo "done: $1" >&2' job "$line" >> "$1" 2>&1 ;; esac; done; exit 0"""
FISH = """while read line; if string match -q ':*' -- $line; true > (string sub -s 2 -- $line); else; echo $line >> $argv[1]; end; end; exit 0"""


def shell(script, *words):
    return lambda outage: fed(outage, [*words, "-c", script, words[0], outage.log])


LOGGERS = [
    Logger("bash, echo >> log", "a file opened for each line", ("bash",), shell(EACH, "bash")),
    Logger("bash, exec >> log", "echo, standard output being the log", ("bash",), shell(ONCE, "bash")),
    Logger("dash, echo >> log", "a file opened for each line", ("dash",), shell(EACH, "dash")),
    Logger("zsh, echo >> log", "a file opened for each line", ("zsh",), shell(EACH, "zsh")),
    Logger("busybox sh, echo >> log", "a file opened for each line", ("busybox",), shell(EACH, "busybox", "sh"),
           left_alone="Debian's busybox is a static program: the library is not in it"),
    Logger("fish, echo >> log", "a file opened for each line", ("fish",), lambda o: fed(o, ["fish", "--no-config", "-c", FISH, o.log])),
    Logger("a cron job, >> log 2>&1", "two lines of a new process, one on standard error", ("sh",), shell(CRON, "sh"), several=True),
]
