# alive.py LIVE ROUNDS: all descriptors are in use and needed. Each round does a fixed amount of work, and a call that fails.
import sys, time

live = [[i] for i in range(int(sys.argv[1]))]
kept = []
try:
    while True:
        kept.append(open('/etc/hostname'))
except OSError:
    pass
failed, begun = 0, time.process_time()
for _ in range(int(sys.argv[2])):
    sum(i * i for i in range(20000))
    try:
        open('/etc/hostname')
    except OSError:
        failed += 1
print(time.process_time() - begun, failed, flush=True)
sys.stdin.read()
