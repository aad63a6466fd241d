from . import Logger, fed

SCRIPT = """
import logging, logging.handlers, sys
log = sys.argv[1]
{put}
for line in sys.stdin:
    line = line.rstrip('\\n')
    if line.startswith(':'): open(line[1:], 'w').close()
    else: put(line)
"""
HANDLER = "logging.basicConfig(handlers=[logging.{}], level='INFO', format='%(asctime)s %(message)s')\nput = logging.info"
EACH = """
def put(line):
    try:
        with open(log, 'a') as file: file.write(line + '\\n')
    except OSError as e: print(e, file=sys.stderr)
"""
ASYNC = """
import atexit, queue
waiting = queue.Queue()
listener = logging.handlers.QueueListener(waiting, logging.FileHandler(log))
listener.start()
atexit.register(listener.stop)
logging.basicConfig(handlers=[logging.handlers.QueueHandler(waiting)], level='INFO', format='%(message)s')
put = logging.info
"""


def python(put, *options, **more):
    """start() of a script that defines put(line); the log's path is in `log`."""

    return lambda outage: fed(outage, ["/usr/bin/python3", *options, "-c", SCRIPT.format(put=put), outage.log], **more)


NEEDS = ("/usr/bin/python3",)
LOGGERS = [
    Logger("Python, FileHandler", "a record of logging", NEEDS, python(HANDLER.format("FileHandler(log)"))),
    Logger("Python, RotatingFileHandler", "a record; a new file each 16 KiB", NEEDS,
           python(HANDLER.format("handlers.RotatingFileHandler(log, maxBytes=16384, backupCount=20)"))),
    Logger("Python, WatchedFileHandler", "a record of logging", NEEDS, python(HANDLER.format("handlers.WatchedFileHandler(log)"))),
    Logger("Python, QueueListener", "a record that a second thread writes", NEEDS, python(ASYNC, pause=0.1)),
    Logger("Python, print >> log", "a line printed to standard output", NEEDS, python("def put(line): print(line, flush=True)", appends="1")),
    Logger("Python -u, print >> log", "a write for the text and one for the newline", NEEDS,
           python("def put(line): print(line, flush=True)", "-u", appends="1")),
    Logger("Python, logging 2>> log", "a record on standard error", NEEDS, python(HANDLER.format("StreamHandler()"), appends="2")),
    Logger("Python, open for each line", "a line appended to a file that is opened for it", NEEDS, python(EACH)),
]
