/* How long /bin/true takes, in several environments by turns.
 * start ROUNDS ENV...   ENV: variables separated by blanks, may be empty. Prints a line of ROUNDS microseconds for each. */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

enum { MOST = 16, VARIABLES = 8 };

static double once(char **environment)
{
    char *arguments[] = { "true", NULL };
    struct timespec begin, end;
    pid_t child;
    int status = -1;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    if (posix_spawn(&child, "/bin/true", NULL, NULL, arguments, environment) == 0)
        waitpid(child, &status, 0);
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (status != 0)
        exit(1);
    return (end.tv_sec - begin.tv_sec) * 1e6 + (end.tv_nsec - begin.tv_nsec) / 1e3;
}

int main(int argc, char **argv)
{
    int rounds = argc > 2 ? atoi(argv[1]) : 0, kinds = argc - 2;
    static char *environments[MOST][VARIABLES + 1];
    if (rounds <= 0 || kinds > MOST)
        return 2;
    for (int k = 0; k < kinds; k++) {
        int n = 0;
        for (char *word = strtok(argv[2 + k], " "); word && n < VARIABLES; word = strtok(NULL, " "))
            environments[k][n++] = word;
    }
    double *took = malloc(sizeof *took * rounds * kinds);
    for (int round = -20; round < rounds; round++)
        for (int i = 0; i < kinds; i++) {
            /* Each comes after each of the others equally often. */
            int k = (i + round + 20) % kinds;
            if ((round + 20) / kinds % 2)
                k = kinds - 1 - k;
            double t = once(environments[k]);
            if (round >= 0)
                took[k * rounds + round] = t;
        }
    for (int k = 0; k < kinds; k++)
        for (int round = 0; round < rounds; round++)
            printf("%.1f%c", took[k * rounds + round], round == rounds - 1 ? '\n' : ' ');
    return 0;
}
