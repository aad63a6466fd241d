"""A level-triggered epoll server at its limit, with clients that wait to be accepted; as many servers are written.

exhausted.py SECONDS   prints its seconds of CPU, and how often accept failed
"""
import os, select, socket, sys, time

server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen(200)
server.setblocking(False)
child = os.fork()
if child == 0:
    import resource

    # The clients need descriptors that the server has not.
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    waiting = []
    while len(waiting) < 25:
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(server.getsockname())
        waiting.append(one)
    time.sleep(float(sys.argv[1]) + 5)
    os._exit(0)
poll = select.epoll()
poll.register(server, select.EPOLLIN)
held = [open("/dev/null") for _ in range(20)]
clients, failed, end = [], 0, time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    for fd, _ in poll.poll(0.1):
        try:
            clients.append(server.accept()[0])
        except BlockingIOError:
            pass
        except OSError:
            failed += 1
os.kill(child, 9)
print(time.process_time(), failed)
