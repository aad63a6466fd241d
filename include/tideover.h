/* tideover.h: the C API of libtideover.so, and the layout of its shared page. C99 and C++.
 *
 * There are two ways to use it:
 *   link with it:           cc prog.c -ltideover
 *   use it if it is loaded: all functions are declared weak, so a program that was linked without the library runs, and the
 *                           functions are NULL unless the library was preloaded:  if (tideover_version) ...
 * A linker that is run with --as-needed drops a library that is referred to by weak symbols only; define TIDEOVER_STRONG
 * before including this file for ordinary declarations.
 *
 * All functions may be called from any thread. None sets errno unless its comment says so.
 */
#ifndef TIDEOVER_H
#define TIDEOVER_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#if defined(TIDEOVER_STRONG) || !defined(__GNUC__)
#define TIDEOVER_API extern
#else
#define TIDEOVER_API extern __attribute__((weak))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Version of the library that is loaded, such as "0.1.0". Never NULL; valid for the life of the process. */
TIDEOVER_API const char *tideover_version(void);

/* ---- Descriptors in use ------------------------------------------------------------------------------------------- */

struct tideover_fd_usage {
    uint64_t used;      /* descriptors open now */
    uint64_t soft;      /* RLIMIT_NOFILE, soft */
    uint64_t hard;      /* RLIMIT_NOFILE, hard */
    double percent;     /* 100 * used / soft; above 100 if the limit was lowered */
    uint64_t available; /* soft - used, or 0 if that is negative */
};

/* Fills in *to. Returns 0, or -1 if the limits can't be read. Needs no descriptor. */
TIDEOVER_API int tideover_fd_usage(struct tideover_fd_usage *to);

/* Fills in *to, unless it is NULL. Returns 1 if at least this part of the soft limit is in use (0.7: 70 %), 0 if less is, or -1 if the
 * limits can't be read. */
TIDEOVER_API int tideover_check_fd_usage(double threshold, struct tideover_fd_usage *to);

/* ---- Reclaimers --------------------------------------------------------------------------------------------------- */

/* What a reclaimer is told. */
struct tideover_pressure {
    uint32_t size;    /* of this struct in the library's version, in bytes: read no further */
    int32_t error;    /* EMFILE or ENFILE */
    const char *call; /* the call that found no descriptor: "open", "accept4" ...; valid while the reclaimer runs */
    uint64_t used, soft, hard; /* as in struct tideover_fd_usage */
};

/* Closes descriptors that the program can do without, and returns how many it closed; 0 or less means none.
 *
 * It runs on the thread that needs the descriptor, inside that thread's open(2), accept(2) ...: it must not take a lock that
 * such a thread may hold, must not throw, and must return. One thread at a time runs reclaimers. If a reclaimer opens a
 * descriptor itself and none is free, it gets the original error. Thread cancellation is disabled while it runs. */
typedef long (*tideover_reclaim_fn)(void *context, const struct tideover_pressure *pressure);

/* Adds a reclaimer. Reclaimers of higher priority run first; after one that closed something, no further one runs. The library
 * does not use `name`. Returns 0, or -1 if 32 are registered already or `function` is NULL. */
TIDEOVER_API int tideover_register_reclaimer(const char *name, tideover_reclaim_fn function, void *context, int priority);

/* Removes a reclaimer. Returns 0, or -1 if none has this function and context. It may still be running on another thread when
 * this returns. */
TIDEOVER_API int tideover_unregister_reclaimer(tideover_reclaim_fn function, void *context);

/* ---- Retrying ----------------------------------------------------------------------------------------------------- */

/* How long to wait, where waiting can help. NULL instead of a policy: as the settings say (TIDEOVER_MAX_RETRIES ...). */
struct tideover_retry_policy {
    uint32_t max_retries;     /* waits before giving up; 0: reclaim, but never wait */
    uint32_t initial_wait_ms; /* longest first wait, in milliseconds; any close in the process ends a wait at once */
    uint32_t max_wait_ms;     /* longest of all waits, in milliseconds */
    uint32_t size;            /* sizeof(struct tideover_retry_policy); 0: the fields up to and with jitter are set */
    double multiplier;        /* each wait is this many times as long as the one before; at least 1.0 */
    double jitter;            /* and varies at random by up to this part of itself; 0.0 to 1.0 */
    uint32_t trigger_gc;      /* 0: the language runtime's garbage is not collected for this call */
};

/* An operation that tideover_retry repeats. On failure it returns less than 0 and sets errno. */
typedef long (*tideover_operation)(void *context);

/* Calls operation(context). While that fails with EMFILE or ENFILE, frees descriptors or waits, and calls it again. Calls that the
 * operation makes do not wait by themselves meanwhile; the operation must return, not longjmp. Returns the operation's last
 * result, with errno as the operation set it; if nothing helped, errno is that of the first failure. If operation is NULL,
 * returns -1 and sets errno to EINVAL. */
TIDEOVER_API long tideover_retry(tideover_operation operation, void *context, const struct tideover_retry_policy *policy);

/* open(2) and fopen(3) with a policy of their own. They return, and set errno, as those do. */
TIDEOVER_API int tideover_open(const char *path, int flags, unsigned mode, const struct tideover_retry_policy *policy);
TIDEOVER_API FILE *tideover_fopen(const char *path, const char *mode, const struct tideover_retry_policy *policy);

/* ---- Events ------------------------------------------------------------------------------------------------------- */

enum tideover_event_kind {
    TIDEOVER_WARNING = 1,   /* usage passed TIDEOVER_FD_WARN; fd is how many descriptors are in use */
    TIDEOVER_CRITICAL = 2,  /* usage passed TIDEOVER_FD_CRITICAL; fd is how many descriptors are in use */
    TIDEOVER_EXHAUSTED = 3, /* a call found no descriptor (connect: no port, or not its turn), and its error was passed on */
    TIDEOVER_RECOVERED = 4, /* a call found no descriptor (connect: no port, or not its turn), and then succeeded */
    TIDEOVER_DEGRADED = 5,  /* the filesystem of a log is full */
    TIDEOVER_RESTORED = 6,  /* the filesystem of a log has space again */
    TIDEOVER_RAISED = 7,    /* the soft limit was raised; fd is the new one */
    TIDEOVER_PARKED = 8,    /* a listener is parked: its clients wait for descriptors */
    TIDEOVER_SHED = 9       /* clients are turned away; tries is how many so far, fd the listener */
};

enum tideover_outcome {
    TIDEOVER_OUTCOME_NONE = 0,         /* the event is not about a call */
    TIDEOVER_OUTCOME_RAISED = 1,       /* succeeded after the soft limit was raised */
    TIDEOVER_OUTCOME_RECLAIMED = 2,    /* succeeded after a reclaimer freed descriptors */
    TIDEOVER_OUTCOME_WAITED = 3,       /* succeeded after a wait, or because another thread closed a descriptor meanwhile */
    TIDEOVER_OUTCOME_HOPELESS = 4,     /* failed at once: nothing could be freed, and waiting could not help */
    TIDEOVER_OUTCOME_GAVE_UP = 5,      /* failed after all waits */
    TIDEOVER_OUTCOME_BREAKER_OPEN = 6, /* failed at once, because too many waits before it were in vain */
    TIDEOVER_OUTCOME_INTERRUPTED = 7,  /* failed because a signal handler without SA_RESTART ran during the wait */
    TIDEOVER_OUTCOME_OTHER_ERROR = 8,  /* the next try failed with another error, which was passed on */
    TIDEOVER_OUTCOME_PARKED = 9        /* accept answered EAGAIN: its client waits */
};

struct tideover_event {
    uint32_t size;      /* of this struct in the library's version, in bytes */
    uint32_t kind;      /* enum tideover_event_kind */
    int32_t error;      /* errno of the first failure, or 0 */
    int32_t fd;         /* descriptor, or what the kind says, or -1 */
    uint32_t outcome;   /* enum tideover_outcome */
    uint32_t tries;     /* how often the call was made again */
    uint64_t waited_ns; /* nanoseconds since the first failure */
};

/* Called on the thread on which the event happened, inside the intercepted call: it must be async-signal-safe
 * (signal-safety(7)) and take no lock that such a thread may hold. `event` is valid while it runs. */
typedef void (*tideover_event_fn)(const struct tideover_event *event, void *context);

/* Adds a function that is called for each event; it can't be removed. Returns 0, or -1 if there are 8 already or `function` is
 * NULL. */
TIDEOVER_API int tideover_on_event(tideover_event_fn function, void *context);

/* ---- Logs --------------------------------------------------------------------------------------------------------- */

/* Returns 1 if the descriptor's file is a log whose disk is full, so that its lines go elsewhere; else 0. */
TIDEOVER_API int tideover_log_degraded(int fd);

/* ---- The shared page ---------------------------------------------------------------------------------------------- */

/* Each guarded process (one that has the library loaded) keeps its counters in a file of 4 KiB, its page:
 * <TIDEOVER_PAGE_DIR>/tideover.<uid>/<pid>, in native byte order. The file is empty, or missing, until the process has
 * something to count. Every field is written atomically by itself, the page as a whole is not. Read the file by read(2)
 * rather than mmap(2), and trust nothing in it: its owner may have written anything. */

#define TIDEOVER_PAGE_MAGIC "TIDEOVER" /* the first eight bytes */
#define TIDEOVER_PAGE_LAYOUT 2
#define TIDEOVER_PAGE_SIZE 4096
#define TIDEOVER_PAGE_SHARDS 8
#define TIDEOVER_PAGE_EVENTS 16
#define TIDEOVER_PAGE_SETTINGS 64

/* In this order, one uint64_t each. Sections and names are those of `tideover stat --json`; docs/counters.md says what each
 * means. */
struct tideover_counters {
    /* descriptors */
    uint64_t soft_limit, hard_limit, high_water, raised_from;
    /* exhaustion */
    uint64_t emfile, enfile, recovered, gave_up, waits, wait_ns, reclaims, reclaimed, gc_runs, gc_ns, breaker_trips,
        breaker_open;
    /* connections */
    uint64_t accepted, clients, parked, unparked, shed, refused, idle_closed, outgoing, limited, connect_timeouts,
        ports_exhausted, phantom;
    /* logs */
    uint64_t degraded, degraded_since, enospc, edquot, other_full, diverted_writes, diverted_bytes, diverted_lines,
        dropped_lines, dropped_bytes, recovery_attempts, recoveries, cleaned_files, cleaned_bytes, full_waits;
    /* calls */
    uint64_t bypassed, other_limits, lost_in_messages;
    /* logs */
    uint64_t held_bytes, put_back_bytes, not_held_bytes, rotated, ballast_bytes;
};

struct tideover_page_event {
    uint64_t sequence; /* number of the event from 1; 0 while it is being written */
    uint64_t at_ns;    /* CLOCK_REALTIME, in nanoseconds */
    uint64_t waited_ns; /* from here on as in struct tideover_event */
    uint32_t kind;
    int32_t error;
    int32_t fd;
    uint32_t tries;
    uint32_t outcome;
    char call[20]; /* name of the call, padded with zero bytes */
};

struct tideover_page {
    uint64_t magic;
    uint32_t layout, size;
    uint32_t pid;
    uint32_t state;           /* 0: being filled in, 1: complete */
    uint64_t started_boot_ns; /* when the page was made: CLOCK_BOOTTIME, in nanoseconds */
    uint64_t started_ns;      /* when the page was made: CLOCK_REALTIME, in nanoseconds */
    uint32_t uid, reserved;
    char version[16]; /* of the library, padded with zero bytes */
    char program[64]; /* name of the program, padded with zero bytes */
    struct tideover_counters counters;
    uint64_t unused[96 - sizeof(struct tideover_counters) / 8];
    struct {
        uint64_t opened, closed, reserved[6];
    } shards[TIDEOVER_PAGE_SHARDS]; /* calls.opened and calls.closed are the sums */
    uint64_t settings[TIDEOVER_PAGE_SETTINGS];
    uint8_t sources[TIDEOVER_PAGE_SETTINGS];
    uint32_t settings_count, reserved2;
    uint64_t last_event;
    struct tideover_page_event events[TIDEOVER_PAGE_EVENTS]; /* number n is at (n - 1) % TIDEOVER_PAGE_EVENTS */
    uint64_t refusals[64];    /* why files were not taken for logs, in the order of docs/counters.md */
    struct {
        uint64_t runs, ns, freed, skipped;
    } collectors[8];    /* garbage collections: python, jvm, ruby, guile, php; ns: nanoseconds spent in them */
    uint64_t skips[24]; /* why none was run, in the order of docs/counters.md */
    uint32_t control;   /* `tideover control`: lowest byte 1 on, 2 off, 3 reload; above it a count */
    uint32_t obeyed;    /* the control word that the library has obeyed last */
    uint64_t obtainable; /* how many descriptors the process can have; 0: not known */
    uint64_t policy;     /* hash (FNV-1a) of the policy file whose values are in effect; 0: there was none */
    uint64_t pid_namespace; /* inode of its pid namespace, in which it has this pid; 0: not known */
    uint64_t rest[10];
};

/* The page of this process, which goes on changing; only to be read. Never NULL: without a shared page it is one in the
 * process's own memory. */
TIDEOVER_API const struct tideover_page *tideover_page_self(void);

#if defined(__cplusplus) && __cplusplus >= 201103L
static_assert(sizeof(struct tideover_page) == TIDEOVER_PAGE_SIZE, "the layout is part of the interface");
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
_Static_assert(sizeof(struct tideover_page) == TIDEOVER_PAGE_SIZE, "the layout is part of the interface");
#else
typedef char tideover_layout_is_part_of_the_interface[sizeof(struct tideover_page) == TIDEOVER_PAGE_SIZE ? 1 : -1];
#endif

#ifdef __cplusplus
}
#endif

#endif
