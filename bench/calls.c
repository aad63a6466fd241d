/* Makes one call many times, inside measured() only: callgrind counts the instructions there (--toggle-collect=measured).
 * calls NAME BATCHES   each batch is 100 calls; a batch before the first is not counted, so that nothing is new.
 * Prints the nanoseconds of a call in the median batch. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 100 };
static int made[BATCH], clients[BATCH], listener, file, epoll;
static FILE *stream;
static char text[91];

static void must(int ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static int do_open(int i) { return made[i] = open("/dev/null", O_RDONLY); }
static int do_close(int i) { return close(made[i]); }
static int do_socket(int i) { return made[i] = socket(AF_UNIX, SOCK_STREAM, 0); }
static int do_accept4(int i) { return made[i] = accept4(listener, NULL, NULL, SOCK_CLOEXEC); }
static int do_open_close(int i) { return (void)i, close(open("/dev/null", O_RDONLY)); }
static int do_socket_close(int i) { return (void)i, close(socket(AF_UNIX, SOCK_STREAM, 0)); }
static int do_accept4_close(int i) { return (void)i, close(accept4(listener, NULL, NULL, SOCK_CLOEXEC)); }
static struct sockaddr_un name;
static socklen_t name_size = sizeof name;
static int do_connect(int i) { return connect(clients[i], (struct sockaddr *)&name, name_size); }
static int do_write(int i) { return (void)i, (int)write(file, "x", 1); }
static int do_fcntl(int i) { return (void)i, fcntl(file, F_GETFL); }
static int do_poll(int i)
{
    struct pollfd one = { listener, POLLIN, 0 };
    return (void)i, poll(&one, 1, 0);
}
static int do_epoll_wait(int i)
{
    struct epoll_event event;
    return (void)i, epoll_wait(epoll, &event, 1, 0);
}
static int do_fprintf(int i) { return fprintf(stream, "%08d %.*s\n", i, 90, text); }
static int do_fprintf_flush(int i) { return do_fprintf(i) < 0 ? -1 : fflush(stream); }

static void nothing(void) {}
static void open_all(void) { for (int i = 0; i < BATCH; i++) must(do_open(i) >= 0, "open"); }
static void close_all(void) { for (int i = 0; i < BATCH; i++) close(made[i]); }
static void close_both(void) { for (int i = 0; i < BATCH; i++) close(made[i]), close(clients[i]); }
static void make_clients(void)
{
    must(getsockname(listener, (struct sockaddr *)&name, &name_size) == 0, "getsockname");
    for (int i = 0; i < BATCH; i++)
        clients[i] = socket(AF_UNIX, SOCK_STREAM, 0);
}
static void connect_all(void)
{
    make_clients();
    for (int i = 0; i < BATCH; i++)
        must(do_connect(i) == 0, "connect");
}
static void close_clients(void) { for (int i = 0; i < BATCH; i++) close(clients[i]); }
static void accept_all(void) { for (int i = 0; i < BATCH; i++) must(do_accept4(i) >= 0, "accept4"); }
static void accept_and_close(void) { accept_all(), close_both(); }
static void connect_and_accept(void) { connect_all(), accept_all(); }

static const struct call {
    const char *name;
    void (*before)(void);
    int (*call)(int);
    void (*after)(void);
} calls[] = {
    { "open", nothing, do_open, close_all },
    { "close", open_all, do_close, nothing },
    { "close-client", connect_and_accept, do_close, close_clients },
    { "socket", nothing, do_socket, close_all },
    { "accept4", connect_all, do_accept4, close_both },
    { "open+close", nothing, do_open_close, nothing },
    { "socket+close", nothing, do_socket_close, nothing },
    { "accept+close", connect_all, do_accept4_close, close_clients },
    { "connect", make_clients, do_connect, accept_and_close },
    { "write", nothing, do_write, nothing },
    { "fcntl", nothing, do_fcntl, nothing },
    { "poll", nothing, do_poll, nothing },
    { "epoll_wait", nothing, do_epoll_wait, nothing },
    /* Never closes: each number is the highest so far. */
    { "open-higher", nothing, do_open, nothing },
    /* Lines of 100 bytes. */
    { "fprintf", nothing, do_fprintf, nothing },
    { "fprintf-flush", nothing, do_fprintf_flush, nothing },
};

__attribute__((noinline)) static int measured(int (*call)(int))
{
    int failed = 0;
    for (int i = 0; i < BATCH; i++)
        failed |= call(i) < 0;
    return failed;
}

static int compare(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

int main(int argc, char **argv)
{
    const struct call *chosen = NULL;
    for (size_t i = 0; argc == 3 && i < sizeof calls / sizeof *calls; i++)
        if (strcmp(calls[i].name, argv[1]) == 0)
            chosen = &calls[i];
    if (!chosen)
        return 2;

    struct sockaddr_un any = { .sun_family = AF_UNIX };
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    must(bind(listener, (struct sockaddr *)&any, sizeof any.sun_family) == 0 && listen(listener, BATCH) == 0, "listen");
    file = open("/dev/null", O_WRONLY);
    epoll = epoll_create1(0);
    if (strncmp(chosen->name, "fprintf", 7) == 0) {
        char name[4096];
        snprintf(name, sizeof name, "%s.log", argv[0]);
        memset(text, 'x', 90);
        must((stream = fopen(name, "a")) != NULL, name);
    }

    chosen->before();
    for (int i = 0; i < BATCH; i++)
        must(chosen->call(i) >= 0, chosen->name);
    chosen->after();
    int batches = atoi(argv[2]);
    double *took = calloc(batches + 1, sizeof *took);
    for (int i = 0; i < batches; i++) {
        struct timespec begin, end;
        chosen->before();
        clock_gettime(CLOCK_MONOTONIC, &begin);
        must(!measured(chosen->call), chosen->name);
        clock_gettime(CLOCK_MONOTONIC, &end);
        chosen->after();
        took[i] = ((end.tv_sec - begin.tv_sec) * 1e9 + (end.tv_nsec - begin.tv_nsec)) / BATCH;
    }
    qsort(took, batches, sizeof *took, compare);
    printf("%.1f\n", took[batches / 2]);
    return 0;
}
