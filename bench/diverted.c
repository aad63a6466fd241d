/* Log lines on a full disk, which the caller has prepared; standard output is where they go. Figures go to the file RESULT.
 * diverted lines LOG RESULT ROUNDS BATCH [FD]   by turns, a batch of lines to LOG and one straight to standard output. With FD, the
 *                                   reading end of standard output, that is emptied after each batch, and nobody else reads.
 *                                   Nanoseconds per line, ROUNDS pairs.
 * diverted prices LOG RESULT ROUNDS BATCH FD    what the system calls of a line cost, each alone: write to standard output; pwritev2 with
 *                                   RWF_NOWAIT to it; fcntl(F_GETSIG) of LOG. Nanoseconds, ROUNDS times three, by turns.
 * diverted back LOG RESULT ROUNDS FILLER        LOG is diverted, FILLER is emptied, 100 ms later a line is written. 1 for each of
 *                                   them that is in LOG, 0 for others.
 * diverted fprintf LOG RESULT LINES             lines, line buffered. Lines per second. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { LENGTH = 100 };
static char line[LENGTH + 1];
static FILE *result;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static void rest(int microseconds)
{
    struct timespec t = { 0, microseconds * 1000L };
    nanosleep(&t, NULL);
}

static long size_of(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 ? (long)status.st_size : -1;
}

static void drain(int fd)
{
    static char away[1 << 16];
    while (fd >= 0 && read(fd, away, sizeof away) == sizeof away)
        ;
}

static int lines(int log, int rounds, int batch, int reader)
{
    if (reader >= 0)
        fcntl(reader, F_SETFL, O_NONBLOCK);
    for (int round = -2; round < rounds; round++) {
        double begin = now();
        for (int i = 0; i < batch; i++)
            if (write(log, line, LENGTH) != LENGTH)
                return 1;
        double diverted = now() - begin;
        drain(reader);
        begin = now();
        /* Not libc's: what is asked is what the system call takes. */
        for (int i = 0; i < batch; i++)
            if (syscall(SYS_write, 1, line, LENGTH) != LENGTH)
                return 1;
        double plain = now() - begin;
        drain(reader);
        if (round >= 0)
            fprintf(result, "%.1f %.1f\n", diverted / batch, plain / batch);
    }
    return size_of(log) != 0;
}

static int prices(int log, int rounds, int batch, int reader)
{
    struct iovec piece = { line, LENGTH };
    /* Linux wakes the reader at each write to a pipe that was ever polled, as the library does before its first line. */
    struct pollfd polled = { 1, POLLOUT, 0 };
    poll(&polled, 1, 0);
    fcntl(reader, F_SETFL, O_NONBLOCK);
    for (int round = -2; round < rounds; round++) {
        double begin = now(), took[3];
        for (int i = 0; i < batch; i++)
            if (syscall(SYS_write, 1, line, LENGTH) != LENGTH)
                return 1;
        took[0] = now() - begin;
        drain(reader);
        begin = now();
        for (int i = 0; i < batch; i++)
            if (syscall(SYS_pwritev2, 1, &piece, 1, -1L, -1L, RWF_NOWAIT) != LENGTH)
                return 1;
        took[1] = now() - begin;
        drain(reader);
        begin = now();
        for (int i = 0; i < batch; i++)
            if (syscall(SYS_fcntl, log, F_GETSIG) < 0)
                return 1;
        took[2] = now() - begin;
        if (round >= 0)
            fprintf(result, "%.1f %.1f %.1f\n", took[0] / batch, took[1] / batch, took[2] / batch);
    }
    return 0;
}

/* The library is not to see these. */
static void fill(const char *path)
{
    static char block[4096];
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    while (syscall(SYS_write, fd, block, sizeof block) > 0)
        ;
    syscall(SYS_close, fd);
}

static int back(int log, const char *name, int rounds, const char *filler)
{
    srandom(1);
    for (int round = 0; round < rounds; round++) {
        if (truncate(name, 0))
            return 1;
        fill(filler);
        /* Until one is elsewhere. */
        for (long before = -1, after = size_of(log); before != after; after = size_of(log)) {
            before = after;
            if (write(log, line, LENGTH) != LENGTH)
                return 1;
        }
        /* The last look at the disk is at any distance from now. */
        for (long turns = random() % 20; turns > 0; turns--) {
            rest(5000);
            if (write(log, line, LENGTH) != LENGTH)
                return 1;
        }
        if (truncate(filler, 0))
            return 1;
        rest(100000);
        long before = size_of(log);
        if (write(log, line, LENGTH) != LENGTH)
            return 1;
        fprintf(result, "%d\n", size_of(log) >= before + LENGTH);
    }
    return 0;
}

static int by_fprintf(const char *name, int count)
{
    FILE *log = fopen(name, "a");
    if (!log || setvbuf(log, NULL, _IOLBF, BUFSIZ))
        return 1;
    double begin = now();
    for (int i = 0; i < count; i++)
        if (fprintf(log, "%08d %.*s\n", i, LENGTH - 10, line) != LENGTH)
            return 1;
    fprintf(result, "%.0f\n", count / (now() - begin) * 1e9);
    return fclose(log) != 0;
}

int main(int argc, char **argv)
{
    if (argc < 5)
        return 2;
    memset(line, 'x', LENGTH - 1);
    line[LENGTH - 1] = '\n';
    result = fopen(argv[3], "w");
    int n = atoi(argv[4]), bad = 2;
    if (strcmp(argv[1], "fprintf") == 0)
        bad = by_fprintf(argv[2], n);
    int log = open(argv[2], O_WRONLY | O_APPEND | O_CREAT, 0644);
    if (strcmp(argv[1], "lines") == 0 && argc > 5)
        bad = lines(log, n, atoi(argv[5]), argc > 6 ? atoi(argv[6]) : -1);
    if (strcmp(argv[1], "prices") == 0 && argc > 6)
        bad = prices(log, n, atoi(argv[5]), atoi(argv[6]));
    if (strcmp(argv[1], "back") == 0 && argc > 5)
        bad = back(log, argv[2], n, argv[5]);
    fclose(result);
    return bad;
}
