/* Threads that share 8 descriptors at a hard limit: who gets one, and after how long.
 * queue open THREADS HOLD SECONDS        each thread opens a file, holds it for HOLD milliseconds, closes it, and begins anew
 * queue semaphore THREADS HOLD SECONDS   a FIFO semaphore in the program itself keeps those back for whom there is none
 * Prints a line for each thread: how many it had, how many opens failed, its longest wait in milliseconds; and a last line: seconds of
 * CPU of the process while the threads ran, and seconds that passed. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LIMIT = 64, SHARED = 8, MOST = 4096 };

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static void rest(long microseconds)
{
    struct timespec t = { microseconds / 1000000, microseconds % 1000000 * 1000 };
    nanosleep(&t, NULL);
}

/* The semaphore: whoever gives a unit back hands it to the one that has waited longest. */
struct waiter { struct waiter *next; _Atomic int granted; };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct waiter *first, *last;
static int units = SHARED, by_semaphore;

static void down(void)
{
    struct waiter self = { NULL, 0 };
    pthread_mutex_lock(&lock);
    if (units > 0) {
        units--;
        pthread_mutex_unlock(&lock);
        return;
    }
    if (first)
        last->next = &self;
    else
        first = &self;
    last = &self;
    pthread_mutex_unlock(&lock);
    while (!self.granted)
        syscall(SYS_futex, &self.granted, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

static void up(void)
{
    pthread_mutex_lock(&lock);
    struct waiter *next = first;
    if (next)
        first = next->next;
    else
        units++;
    pthread_mutex_unlock(&lock);
    if (next) {
        /* The waiter, and its futex, may be gone once it is granted: a wake-up of nobody is harmless. */
        _Atomic int *granted = &next->granted;
        *granted = 1;
        syscall(SYS_futex, granted, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

static _Atomic int begun, over;
static long hold;
static struct share { long had, failed; double longest; } shares[MOST];

static void *sharer(void *own)
{
    struct share *share = own;
    while (!begun)
        rest(1000);
    while (!over) {
        double begin = now(CLOCK_MONOTONIC);
        if (by_semaphore)
            down();
        int fd = open("/dev/null", O_RDONLY);
        double waited = now(CLOCK_MONOTONIC) - begin;
        if (waited > share->longest)
            share->longest = waited;
        if (fd < 0) {
            share->failed++;
            rest(1000);
            continue;
        }
        share->had++;
        if (!over)
            rest(hold);
        close(fd);
        if (by_semaphore)
            up();
    }
    return NULL;
}

int main(int argc, char **argv)
{
    static pthread_t threads[MOST];
    struct rlimit limit;
    int count = argc == 5 ? atoi(argv[2]) : 0;
    if (count < 1 || count > MOST || getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_max != LIMIT)
        return 2;
    by_semaphore = strcmp(argv[1], "semaphore") == 0;
    hold = atol(argv[3]) * 1000;
    for (int fd = 0; fd >= 0 && fd < LIMIT - SHARED - 1;)
        fd = open("/dev/null", O_RDONLY);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 256 << 10);
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i], &small, sharer, &shares[i]))
            return 1;
    begun = 1;
    double cpu = now(CLOCK_PROCESS_CPUTIME_ID), clock = now(CLOCK_MONOTONIC);
    rest(atol(argv[4]) * 1000000);
    cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    clock = now(CLOCK_MONOTONIC) - clock;
    over = 1;
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        printf("%ld %ld %.1f\n", shares[i].had, shares[i].failed, shares[i].longest);
    }
    printf("%.3f %.3f\n", cpu / 1e3, clock / 1e3);
    return 0;
}
