/* How long a command takes from start to end, in several environments by turns.
 * start ROUNDS COMMAND ENV...   COMMAND: path and arguments, ENV: variables, each separated by blanks; ENV may be empty.
 * Prints a line of ROUNDS microseconds for each environment, then a line of the processor time of each run, its children's included. */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

enum { MOST = 16, WORDS = 8 };
static char *command[WORDS + 1];

static void split(char *text, char **words)
{
    int n = 0;
    for (char *word = strtok(text, " "); word && n < WORDS; word = strtok(NULL, " "))
        words[n++] = word;
}

static double microseconds(struct timeval time) { return time.tv_sec * 1e6 + time.tv_usec; }

/* Microseconds from start to end; *processor: in user space and in the kernel. */
static double once(char **environment, double *processor)
{
    struct rusage used;
    struct timespec begin, end;
    pid_t child;
    int status = -1;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    if (posix_spawn(&child, command[0], NULL, NULL, command, environment) == 0)
        wait4(child, &status, 0, &used);
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (status != 0)
        exit(1);
    *processor = microseconds(used.ru_utime) + microseconds(used.ru_stime);
    return (end.tv_sec - begin.tv_sec) * 1e6 + (end.tv_nsec - begin.tv_nsec) / 1e3;
}

int main(int argc, char **argv)
{
    int rounds = argc > 3 ? atoi(argv[1]) : 0, kinds = argc - 3, unmeasured = rounds < 20 ? 1 : 20;
    static char *environments[MOST][WORDS + 1];
    if (rounds <= 0 || kinds > MOST)
        return 2;
    split(argv[2], command);
    for (int k = 0; k < kinds; k++)
        split(argv[3 + k], environments[k]);
    double *took = malloc(sizeof *took * rounds * kinds * 2), *processor = took + rounds * kinds;
    for (int round = -unmeasured; round < rounds; round++)
        for (int i = 0; i < kinds; i++) {
            /* Each comes after each of the others equally often. */
            int k = (i + round + unmeasured) % kinds;
            if ((round + unmeasured) / kinds % 2)
                k = kinds - 1 - k;
            double used, t = once(environments[k], &used);
            if (round >= 0) {
                took[k * rounds + round] = t;
                processor[k * rounds + round] = used;
            }
        }
    for (int k = 0; k < kinds * 2; k++)
        for (int round = 0; round < rounds; round++)
            printf("%.1f%c", took[k * rounds + round], round == rounds - 1 ? '\n' : ' ');
    return 0;
}
