/* A server with thousands of clients, at its limit on descriptors or below it.
 * full serve                        an epoll server that sends each byte back; prints its port
 * full load PORT CLIENTS QUEUED     connects CLIENTS, each of which is served, and QUEUED more, which may have to wait; prints "ready". For
 *                                   each line of its standard input that holds a number N: asks N times, a random client each time, a
 *                                   question a millisecond; prints the N times until the answer in microseconds, on one line. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static int serve(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), set = epoll_create1(0);
    struct epoll_event event = { .events = EPOLLIN, .data.fd = listener }, events[256];
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096) || epoll_ctl(set, EPOLL_CTL_ADD, listener, &event))
        return fail("a listener");
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(set, events, 256, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            char byte;
            if (fd == listener) {
                while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    event = (struct epoll_event){ .events = EPOLLIN, .data.fd = fd };
                    epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
                }
            } else if (read(fd, &byte, 1) == 1) {
                if (write(fd, &byte, 1) != 1)
                    close(fd);
            } else {
                close(fd);
            }
        }
    }
}

static int connected(int port, int number)
{
    /* Clients of several addresses: ports of one run out when this is done again and again. */
    struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (unsigned)number / 5000) };
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port) };
    struct linger reset = { 1, 0 };
    int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (fd < 0 || bind(fd, (struct sockaddr *)&from, sizeof from) || connect(fd, (struct sockaddr *)&to, sizeof to))
        return -1;
    return fd;
}

static int ask(int fd)
{
    char byte = '?';
    return write(fd, &byte, 1) == 1 && read(fd, &byte, 1) == 1;
}

static int load(int port, int clients, int queued)
{
    int *fds = malloc((size_t)clients * sizeof *fds);
    for (int i = 0; i < clients; i++)
        if ((fds[i] = connected(port, i)) < 0 || !ask(fds[i]))
            return fail("a client");
    for (int i = 0; i < queued; i++)
        if (connected(port, clients + i) < 0)
            return fail("a client that waits");
    printf("ready\n");
    fflush(stdout);
    char line[32];
    while (fgets(line, sizeof line, stdin)) {
        for (int left = atoi(line); left > 0; left--) {
            double begin = now();
            if (!ask(fds[rand() % clients]))
                return fail("a question");
            printf("%.1f ", now() - begin);
            usleep(1000);
        }
        printf("\n");
        fflush(stdout);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "serve") == 0)
        return serve();
    if (argc == 5 && strcmp(argv[1], "load") == 0)
        return load(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]));
    return 2;
}
