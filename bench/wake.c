/* Threads that want a descriptor at a hard limit of 64.
 * wake close N       31 threads are blocked in open. One descriptor is closed at a time, N times, and nothing else until
 *                    somebody has it. Prints the N times from just before close to just after the open, microseconds.
 * wake semaphore N   31 threads wait for a semaphore that the program itself makes of a futex, which is raised at each close: how fast
 *                    this machine wakes a thread without the library. Prints N times, too.
 * wake share S       32 threads share 8 descriptors for S seconds: open, hold 100 us, close. Prints for each thread how many
 *                    it had, its longest wait in microseconds, and how many opens failed. */
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

enum { LIMIT = 64, THREADS = 32 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void rest(int microseconds)
{
    struct timespec t = { 0, microseconds * 1000L };
    nanosleep(&t, NULL);
}

static int open_one(void) { return open("/dev/null", O_RDONLY); }

/* The semaphore. */
static _Atomic int units, by_semaphore;
static void down(void)
{
    for (;;) {
        int have = units;
        if (have > 0 && atomic_compare_exchange_weak(&units, &have, have - 1))
            return;
        if (have == 0)
            syscall(SYS_futex, &units, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    }
}
static void up(void)
{
    units++;
    syscall(SYS_futex, &units, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* One descriptor at a time. */
static _Atomic int taken = -1, failures;
static double taken_at;
static void *taker(void *none)
{
    for (;;) {
        if (by_semaphore)
            down();
        int fd = open_one();
        double at = now();
        if (fd < 0) {
            failures++;
            continue;
        }
        taken_at = at;
        taken = fd;
    }
    return none;
}

static int hand_out(int n)
{
    int fd = -1;
    for (int next = 0; next >= 0; next = open_one())
        if ((fd = next) == LIMIT - 1)
            break;
    for (int i = 1; i < THREADS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, taker, NULL))
            return 1;
    }
    rest(50000);
    for (int i = 0; i < n; i++) {
        double closed_at = now();
        close(fd);
        if (by_semaphore)
            up();
        for (int looks = 0; (fd = taken) < 0; looks++) {
            if (looks == 50000)
                return 1;
            rest(100);
        }
        taken = -1;
        printf("%.1f ", taken_at - closed_at);
        rest(1000);
    }
    printf("\n");
    fflush(stdout);
    _exit(failures != 0);
}

/* Eight for all. */
static _Atomic int over;
static struct share { long had, failed; double longest; } shares[THREADS];
static void *sharer(void *own)
{
    struct share *share = own;
    while (!over) {
        double begin = now();
        int fd = open_one();
        double waited = now() - begin;
        if (waited > share->longest)
            share->longest = waited;
        if (fd < 0) {
            share->failed++;
            continue;
        }
        share->had++;
        rest(100);
        close(fd);
    }
    return NULL;
}

static int share_out(int seconds)
{
    pthread_t threads[THREADS];
    for (int fd = 0; fd >= 0 && fd < LIMIT - 9;)
        fd = open_one();
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, sharer, &shares[i]))
            return 1;
    sleep(seconds);
    over = 1;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        printf("%ld %.0f %ld\n", shares[i].had, shares[i].longest, shares[i].failed);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    /* LD_PRELOAD is there: the limit is the one that the program was started with. */
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_max != LIMIT)
        return 2;
    if (strcmp(argv[1], "share") == 0)
        return share_out(atoi(argv[2]));
    by_semaphore = strcmp(argv[1], "semaphore") == 0;
    return hand_out(atoi(argv[2]));
}
