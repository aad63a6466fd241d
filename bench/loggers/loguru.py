from . import Logger
from .python import python

NEEDS = ("/usr/bin/python3", "/usr/lib/python3/dist-packages/loguru")
PUT = "from loguru import logger\nlogger.remove()\nlogger.add(log{})\nput = logger.info"

LOGGERS = [
    Logger("Python, loguru", "a record", NEEDS, python(PUT.format(""))),
    Logger("Python, loguru with a queue", "a record that a second thread writes", NEEDS, python(PUT.format(", enqueue=True"), pause=0.2)),
]
