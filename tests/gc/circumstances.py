# A program that is at its limit with garbage, in circumstances of its own: circumstances.py CASE
import gc, os, sys, threading

gc.set_threshold(10 ** 7)


class Session(object):
    def __init__(self):
        self.me = self
        self.file = open('/etc/passwd')


def leak(count=200):
    for _ in range(count):
        Session()


def imports():
    import importlib
    names = ['wave', 'plistlib', 'mailbox', 'zipapp', 'colorsys', 'sched', 'netrc', 'fileinput']
    for name in names * 20:
        leak(3)
        sys.modules.pop(name, None)
        importlib.import_module(name)


def fork_child():
    for _ in range(20):
        Session()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            leak()
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    leak()
    if status:
        sys.exit('the child failed: %d' % status)


def pool_task(_):
    leak()
    return os.getpid()


def processes():
    import multiprocessing
    with multiprocessing.get_context('fork').Pool(2) as pool:
        print(len(pool.map(pool_task, range(6), 1)), 'tasks')


def coroutines():
    import asyncio

    async def handle():
        here = asyncio.current_task()
        session = Session()
        await asyncio.sleep(0)
        return here, session

    async def main():
        for _ in range(40):
            await asyncio.gather(*[handle() for _ in range(10)])

    asyncio.run(main())


def streams():
    # A client that forgets its connections, and the server with it.
    import asyncio

    async def main():
        async def answer(reader, writer):
            Session()
            writer.write(b'hello\n')
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, '127.0.0.1', 0)
        for _ in range(100):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert await asyncio.wait_for(reader.readline(), 5) == b'hello\n'
            writer.close()
            await writer.wait_closed()

    asyncio.run(main())


def atexit_handler():
    import atexit

    def last():
        try:
            leak()
        except OSError as error:
            print(error, flush=True)
            os._exit(1)

    atexit.register(last)


def exceptions():
    # What is being handled stays.
    try:
        1 / 0
    except ZeroDivisionError as error:
        leak()
        assert sys.exc_info()[1] is error


def finalizer_opens():
    opened = []

    class Late(object):
        def __init__(self):
            self.me = self

        def __del__(self):
            try:
                open('/etc/passwd').close()
                opened.append(True)
            except OSError:
                opened.append(False)

    for _ in range(200):
        Session()
        Late()
    print('finalizers that opened a file:', len(opened))


def finalizer_locks():
    # The opener holds the lock that finalizers take: one that a thread may take twice.
    lock = threading.RLock()

    class Locking(Session):
        def __del__(self):
            with lock:
                pass

    with lock:
        for _ in range(200):
            Locking()


def finalizer_tries():
    # One that it may not: what natively would be a deadlock at the next collection is one now. With a timeout, it ends.
    lock = threading.Lock()
    late = []

    class Locking(Session):
        def __del__(self):
            late.append(lock.acquire(timeout=0.001))

    with lock:
        for _ in range(200):
            Locking()
    assert not any(late)


def finalizer_interrupts():
    # A signal that comes during a collection is delivered.
    import signal
    got = []
    signal.signal(signal.SIGWINCH, lambda *_: got.append(1))

    class Signalling(object):
        def __init__(self):
            self.me = self

        def __del__(self):
            os.kill(os.getpid(), signal.SIGWINCH)

    for _ in range(100):
        Session()
        Signalling()
    assert got


def finalizer_raises():
    class Raising(object):
        def __init__(self):
            self.me = self

        def __del__(self):
            raise ValueError('from a finalizer')

    sys.unraisablehook = lambda _: None
    for _ in range(100):
        Session()
        Raising()


def warnings_are_errors():
    import warnings
    warnings.simplefilter('error')
    sys.unraisablehook = lambda _: None
    leak()


def daemons():
    # Threads that are in a collection, or on their way to one, when the interpreter ends: it ends them when they want its lock.
    def work():
        while True:
            try:
                Session()
            except OSError:
                pass

    for _ in range(8):
        threading.Thread(target=work, daemon=True).start()
    import time
    time.sleep(0.05)
    print('done')
    sys.exit()


globals()[sys.argv[1]]()
print('done')
sys.stdout.flush()
