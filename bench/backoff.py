"""A thread needs a file when all descriptors are taken; another thread closes one at a random moment of the next 0.4 s.

backoff.py sleep N   as programs do it without help: catch EMFILE, sleep 0.5 s, try again
backoff.py retry N   the decorator of a forensic tool: collect garbage, wait 0.5 s, twice as long each time up to 10 s, 5 tries
backoff.py plain N   just open
Prints N times from the close to the file being open, milliseconds.
"""
import errno, gc, random, sys, threading, time


def open_sleeping():
    while True:
        try:
            return open("/dev/null")
        except OSError as e:
            if e.errno != errno.EMFILE:
                raise
            time.sleep(0.5)


def open_with_retry():
    wait = 0.5
    for attempt in range(6):
        try:
            return open("/dev/null")
        except OSError as e:
            if e.errno != errno.EMFILE or attempt == 5:
                raise
            gc.collect()
            time.sleep(wait)
            wait = min(2 * wait, 10)


opener = {"sleep": open_sleeping, "retry": open_with_retry, "plain": lambda: open("/dev/null")}[sys.argv[1]]
random.seed(1)
files = []
while not files or files[-1].fileno() < 63:
    files.append(open("/dev/null"))
for _ in range(int(sys.argv[2])):
    closed_at = []

    def close_one():
        time.sleep(0.05 + 0.35 * random.random())
        closed_at.append(time.monotonic())
        files.pop(0).close()

    other = threading.Thread(target=close_one)
    other.start()
    files.append(opener())
    print((time.monotonic() - closed_at[0]) * 1e3)
    other.join()
