# leak.py LIVE OPENS close|leak|collect: keeps LIVE objects, opens a file OPENS times, and closes it, leaves it in a cycle, or does that
# and collects before a limit of 64 is reached.
import gc, sys, time

live = [[i] for i in range(int(sys.argv[1]))]


class Session(object):
    def __init__(self, close):
        self.file = open('/etc/hostname')
        self.handlers = [self.on_data]
        self.on_data()
        if close:
            self.file.close()

    def on_data(self):
        return self.file.read()


close, begun = sys.argv[3] == 'close', time.process_time()
for i in range(int(sys.argv[2])):
    Session(close)
    if sys.argv[3] == 'collect' and i % 58 == 57:
        gc.collect()
print(time.process_time() - begun, flush=True)
sys.stdin.read()
