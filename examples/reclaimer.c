/* A program with a cache of open files: it registers a reclaimer, which closes the oldest, and no open fails with EMFILE.
 *
 *   cc -Iinclude examples/reclaimer.c -o /tmp/reclaimer
 *   (ulimit -n 64; /tmp/reclaimer)                                           fails at its limit
 *   (ulimit -n 64; LD_PRELOAD=target/release/libtideover.so /tmp/reclaimer)  goes on
 */
#include "tideover.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { FILES = 1000 };
static int cache[FILES];
static int oldest, newest; /* cache[oldest .. newest - 1] are open */

/* Runs inside open(2) below, on the same thread: no lock is needed, and close(2) is all it does. */
static long drop_oldest(void *context, const struct tideover_pressure *pressure)
{
    long freed = 0;
    (void)context;
    fprintf(stderr, "%s: %llu of %llu descriptors in use, closing the oldest\n", pressure->call,
            (unsigned long long)pressure->used, (unsigned long long)pressure->soft);
    for (; oldest < newest && freed < 8; oldest++, freed++)
        close(cache[oldest]);
    return freed;
}

int main(void)
{
    if (tideover_register_reclaimer) /* weak: NULL if the library is not loaded */
        tideover_register_reclaimer("file cache", drop_oldest, NULL, 0);
    else
        puts("libtideover.so is not loaded");

    for (newest = 0; newest < FILES; newest++) {
        cache[newest] = open("/dev/null", O_RDONLY);
        if (cache[newest] < 0) {
            perror("open");
            return EXIT_FAILURE;
        }
    }
    printf("opened %d files, %d are still open\n", newest, newest - oldest);
    return EXIT_SUCCESS;
}
