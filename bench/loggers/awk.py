from . import Logger, fed

SCRIPT = """/^:/ { mark = substr($0, 2); printf "" > mark; close(mark); next } { print >> log_; fflush(log_) }"""


def awk(name, *options):
    return lambda outage: fed(outage, [name, *options, "-v", f"log_={outage.log}", SCRIPT])


LOGGERS = [
    Logger("gawk, print >> log", "print and fflush", ("gawk",), awk("gawk")),
    Logger("mawk, print >> log", "print and fflush", ("mawk",), awk("mawk", "-W", "interactive")),
]
