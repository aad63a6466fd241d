# Descriptors run out in a place where a collection would be dangerous: hazards.py CASE TIMES HELPER. Each time there is garbage that
# holds some. The call must fail as it does natively, at once.
import ctypes, errno, gc, os, sys, threading

case, times, helper = sys.argv[1], int(sys.argv[2]), sys.argv[3]
gc.set_threshold(10 ** 7)
released, held = ctypes.CDLL(helper), ctypes.PyDLL(helper)  # without the interpreter's lock, with it


class Session(object):
    def __init__(self):
        self.me = self
        self.file = open('/etc/passwd')


class Locking(object):
    def __init__(self):
        self.me = self

    def __del__(self):
        released.lock_unlock()


def spin():
    while True:
        pass


def interpreter():
    try:
        import _xxsubinterpreters as interpreters
    except ImportError:
        import _interpreters as interpreters
    interpreters.create()


CASES = {
    'extension_with_lock': held.plain_open,  # a C extension
    'library_without_lock': released.plain_open,  # a library called by one
    'thread_without_lock': released.thread_open,  # a thread of such a library
    'thread_joined_with_lock': held.thread_open,  # the same, while the interpreter waits for it
    'library_with_own_lock': released.locked_open,  # a mutex that a finalizer wants
    'fork_without_lock': released.fork_open,
    'fork_with_lock': held.fork_open,
    'fork_beside_running': released.fork_open,  # the lock is another thread's, who does not exist in the child
    'vfork': released.vfork_open,
    'interpreters': lambda: python_open(),
    'disabled': lambda: python_open(),
    'disabled_by_import': lambda: python_open(),
}


def python_open():
    try:
        os.close(os.open('/etc/passwd', os.O_RDONLY))
        return 0
    except OSError as error:
        return error.errno


if case == 'fork_beside_running':
    threading.Thread(target=spin, daemon=True).start()
if case == 'interpreters':
    interpreter()
if case.startswith('disabled'):
    gc.disable()
answers = {}
for _ in range(times):
    for _ in range(5):
        Session()
    if case == 'library_with_own_lock':
        Locking()
    taken = released.take_all()
    answer = CASES[case]()
    answers[answer] = answers.get(answer, 0) + 1
    released.give_back(taken)
    gc.enable() if case.startswith('disabled') else None
    gc.collect()
    gc.disable() if case.startswith('disabled') else None
print('answers', {errno.errorcode.get(answer, answer): count for answer, count in answers.items()})
sys.stdout.flush()
sys.stdin.read()
os._exit(0)
