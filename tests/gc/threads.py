# Eight threads drop 2,000 files each in cycles; with "pool", the threads are those of a ThreadPool.
import gc, sys, threading
from multiprocessing.pool import ThreadPool

gc.set_threshold(10 ** 7)


class Session(object):
    def __init__(self):
        self.me = self
        self.file = open('/etc/passwd')


def work(_):
    failed = 0
    for _ in range(2000):
        try:
            Session()
        except OSError as error:
            failed += 1
            why = str(error)
    return (failed, why) if failed else (0, '')


if 'pool' in sys.argv:
    with ThreadPool(8) as pool:
        results = pool.map(work, range(8), 1)
else:
    results = []
    threads = [threading.Thread(target=lambda: results.append(work(0))) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
failed = sum(result[0] for result in results)
print('opened', 16000 - failed, *{result[1] for result in results if result[0]})
sys.stdout.flush()
sys.stdin.read()
sys.exit(failed > 0)
