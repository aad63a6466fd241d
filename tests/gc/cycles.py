# Drops N objects of a kind without closing them, each in a cycle that only the collector finds. Then waits to be looked at.
#   cycles.py KIND N [nogc]
import gc, os, select, socket, subprocess, sys, tempfile


class Session(object):
    def __init__(self, resource):
        self.resource = resource
        self.handlers = [self.on_data]  # self -> list -> bound method -> self

    def on_data(self):
        return self.resource


def pipe():
    return [os.fdopen(fd) for fd in os.pipe()]


def event_loop():
    import asyncio
    loop = asyncio.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    return loop


KINDS = {
    'file': lambda: open('/etc/passwd'),
    'socket': socket.socket,
    'pair': socket.socketpair,
    'pipe': pipe,
    'popen': lambda: subprocess.Popen(['true'], stdout=subprocess.PIPE),
    'temporary': tempfile.TemporaryFile,
    'scandir': lambda: os.scandir('/etc'),
    'epoll': select.epoll,
    'dup': lambda: os.fdopen(os.dup(0)),
    'loop': event_loop,
}

kind, count = sys.argv[1], int(sys.argv[2])
if 'nogc' in sys.argv:
    gc.disable()
elif kind != 'file':
    gc.set_threshold(10 ** 7)  # 'file' shows what happens with the usual thresholds
for i in range(count):
    Session(KINDS[kind]())
print('done', i + 1)
sys.stdout.flush()
sys.stdin.read()
