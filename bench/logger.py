"""A program that logs as fast as it can: logger.py LOG RESULT LINES, lines of about 100 bytes; lines per second go to RESULT."""
import logging, sys, time

path, result, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
logging.basicConfig(handlers=[logging.FileHandler(path)], level="INFO", format="%(asctime)s %(levelname)s %(message)s")
text = "x" * 60
begin = time.monotonic()
for i in range(count):
    logging.info("%08d %s", i, text)
took = time.monotonic() - begin
with open(result, "w") as f:
    print(count / took, file=f)
