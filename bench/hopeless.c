/* One thread, no descriptor left, nothing that could free one: how long open takes to say so.
 * hopeless N   prints N times, microseconds; the first is the first failure of the process. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

int main(int argc, char **argv)
{
    int n = argc == 2 ? atoi(argv[1]) : 0;
    /* Up to the last number, so that the first failure is among the measured. */
    for (int fd = 0; fd >= 0 && fd < 63;)
        fd = open("/dev/null", O_RDONLY);
    for (int i = 0; i < n; i++) {
        double begin = now();
        int fd = open("/dev/null", O_RDONLY);
        double end = now();
        if (fd >= 0 || errno != EMFILE)
            return 1;
        printf("%.2f ", end - begin);
    }
    return 0;
}
