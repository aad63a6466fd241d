"""A server on level-triggered epoll as many are written: a failed accept is left for the next round."""

import select
import socket
import sys

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=1024)
listener.setblocking(False)
epoll = select.epoll()
epoll.register(listener, select.EPOLLIN)
clients = {}
while True:
    for fd, _ in epoll.poll():
        if fd == listener.fileno():
            try:
                client, _ = listener.accept()
            except OSError:
                continue
            client.setblocking(False)
            clients[client.fileno()] = client
            epoll.register(client, select.EPOLLIN)
            continue
        try:
            asked = clients[fd].recv(4096)
        except ConnectionError:
            asked = b""
        if asked:
            clients[fd].send(b"HTTP/1.1 204 No Content\r\n\r\n")
        else:
            clients.pop(fd).close()
