"""A worker with 100 threads, each of which holds a file for a moment, under a hard limit of 64 descriptors.

usage: sh -c 'ulimit -n 64; exec tideover run -- python3 examples/python-worker.py'
In its systemd unit:  Environment=LD_PRELOAD=/usr/local/lib/libtideover.so
"""

import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

THREADS = 100
JOBS = 1000
together = threading.Barrier(THREADS)


def job(number):
    """Write a result to a file, read it back, and close the file."""
    if number < THREADS:
        together.wait()
    try:
        with tempfile.TemporaryFile("w+", dir=folder) as result:
            result.write(f"result {number}\n")
            result.seek(0)
            time.sleep(0.005)
            return None if result.read() == f"result {number}\n" else "lost"
    except OSError as error:
        return error


with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(THREADS) as pool:
    failures = [error for error in pool.map(job, range(JOBS)) if error]
    print(JOBS - len(failures), "of", JOBS, "jobs done", *failures[:1])
    sys.exit(bool(failures))
