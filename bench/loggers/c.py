from . import FIXTURES, Logger, fed, made

WAYS = {
    "line": "fprintf to a line-buffered FILE", "full": "fprintf and fflush", "later": "a FILE that is flushed when it is full",
    "write": "one write(2)", "writev": "one writev(2) of three pieces", "dprintf": "dprintf(3)", "reopen": "fopen, fputs, fclose",
    "stdout": "standard output after freopen(3)",
}
compiled = made("cc", "-std=gnu11", "-O1", "-D_GNU_SOURCE", "-pthread", "-I", FIXTURES, "-o", "FOLDER/appends", FIXTURES / "disk_append.c")


def in_c(how):
    return lambda outage: fed(outage, [outage.data / "appends", how, outage.log])


LOGGERS = [Logger(f"C, {how}", kind, ("cc",), in_c(how), compiled) for how, kind in WAYS.items()]
