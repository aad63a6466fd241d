/* tideover.h: the C API of libtideover.so, and the layout of its shared page. C99 and C++.
 *
 * Two ways to use it:
 *   link with it:          cc prog.c -ltideover
 *   use it if it is there: all functions are declared weak, so a program that was linked without the library runs, and
 *                          finds them NULL unless the library was preloaded:  if (tideover_version) ...
 * A linker that is run with --as-needed drops a library that is only referred to weakly; define TIDEOVER_STRONG before
 * including this file for ordinary declarations.
 *
 * All functions may be called from any thread. None sets errno unless it is said here.
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

/* Version of the library that is loaded: "0.1.0". */
TIDEOVER_API const char *tideover_version(void);

/* ---- Descriptors in use ------------------------------------------------------------------------------------------- */

struct tideover_fd_usage {
    uint64_t used;      /* descriptors open now */
    uint64_t soft;      /* RLIMIT_NOFILE, soft */
    uint64_t hard;      /* RLIMIT_NOFILE, hard */
    double percent;     /* used of soft, 0 to 100 and above */
    uint64_t available; /* soft - used, at least 0 */
};

/* Fills in *to. 0, or -1 if the limits can't be read. Needs no descriptor. */
TIDEOVER_API int tideover_fd_usage(struct tideover_fd_usage *to);

/* ---- Reclaimers --------------------------------------------------------------------------------------------------- */

/* What a reclaimer is told. `size` is that of the struct in the library's version; read no further. */
struct tideover_pressure {
    uint32_t size;
    int32_t error;    /* EMFILE or ENFILE */
    const char *call; /* the call that found no descriptor: "open", "accept4" ... valid during the call */
    uint64_t used, soft, hard;
};

/* Frees descriptors that can be done without, and returns how many it freed; 0 or less: none.
 *
 * It runs on the thread that needs the descriptor, inside its open(2), accept(2) ...: it must not take a lock that such
 * a thread may hold, must not throw, and must return. One thread at a time runs reclaimers. A descriptor that it opens
 * itself gets the plain error when there is none. Thread cancellation is off meanwhile. */
typedef long (*tideover_reclaim_fn)(void *context, const struct tideover_pressure *pressure);

/* Adds a reclaimer. Higher priorities run first, and the first that frees something ends the round. `name` is for the
 * caller's own reading. 0, or -1 when there are 32 already or `function` is NULL. */
TIDEOVER_API int tideover_register_reclaimer(const char *name, tideover_reclaim_fn function, void *context, int priority);

/* Removes it. 0, or -1 if there is none of this function and context. It may be running on another thread still. */
TIDEOVER_API int tideover_unregister_reclaimer(tideover_reclaim_fn function, void *context);

/* ---- Retrying ----------------------------------------------------------------------------------------------------- */

/* How long to wait, where waiting can help. NULL instead of a policy means the settings (TIDEOVER_MAX_RETRIES ...). */
struct tideover_retry_policy {
    uint32_t max_retries;     /* waits before giving up; 0: only reclaim */
    uint32_t initial_wait_ms; /* first wait, milliseconds; any close in the process ends a wait at once */
    uint32_t max_wait_ms;     /* no wait is longer */
    uint32_t reserved;        /* 0 */
    double multiplier;        /* each wait is this many times the one before, at least 1.0 */
    double jitter;            /* and varies by this part of itself, 0.0 to 1.0 */
};

/* Returns less than 0 and sets errno on failure. */
typedef long (*tideover_operation)(void *context);

/* Calls operation(context), and calls it again after whatever helps while it fails with EMFILE or ENFILE. What it calls does
 * not wait by itself meanwhile, so it must return, not longjmp. Returns its last answer, and leaves errno as it set it; when
 * nothing helped, the first failure's errno. NULL instead of an operation: -1, EINVAL. */
TIDEOVER_API long tideover_retry(tideover_operation operation, void *context, const struct tideover_retry_policy *policy);

/* open(2) and fopen(3) with a policy of their own. errno as theirs. */
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
    uint32_t size;      /* of this struct in the library's version */
    uint32_t kind;      /* enum tideover_event_kind */
    int32_t error;      /* errno of the first failure, or 0 */
    int32_t fd;         /* descriptor, or -1 */
    uint32_t outcome;   /* enum tideover_outcome */
    uint32_t tries;     /* retries */
    uint64_t waited_ns; /* since the first failure */
};

/* Called on the thread that the event happened on, inside the hooked call: async-signal-safe code only, no locks that
 * such a thread may hold. */
typedef void (*tideover_event_fn)(const struct tideover_event *event, void *context);

/* Adds a listener, for good. 0, or -1 when there are 8 already or `function` is NULL. */
TIDEOVER_API int tideover_on_event(tideover_event_fn function, void *context);

/* ---- Logs --------------------------------------------------------------------------------------------------------- */

/* 1 if this descriptor's file is a log whose disk is full, so that its lines go elsewhere; else 0. */
TIDEOVER_API int tideover_log_degraded(int fd);

/* ---- The shared page ---------------------------------------------------------------------------------------------- */

/* Each guarded process keeps its counters in a file of 4 KiB, <TIDEOVER_PAGE_DIR>/tideover.<uid>/<pid>. Native byte order.
 * The file is empty until the process has something to count. Every field is written atomically by itself; read(2) the file rather than map it, and believe nothing in it. */

#define TIDEOVER_PAGE_MAGIC "TIDEOVER" /* the first eight bytes */
#define TIDEOVER_PAGE_LAYOUT 1
#define TIDEOVER_PAGE_SIZE 4096
#define TIDEOVER_PAGE_SHARDS 8
#define TIDEOVER_PAGE_EVENTS 16
#define TIDEOVER_PAGE_SETTINGS 48

/* In this order, one uint64_t each. Sections and names are those of `tideover stat --json`. */
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
    uint64_t degraded, degraded_since, enospc, edquot, diverted_writes, diverted_bytes, diverted_lines, dropped_bytes,
        recoveries, cleaned_files, cleaned_bytes, full_waits;
    /* calls */
    uint64_t bypassed;
};

struct tideover_page_event {
    uint64_t sequence; /* number of the event from 1; 0 while it is being written */
    uint64_t at_ns;    /* CLOCK_REALTIME */
    uint64_t waited_ns;
    uint32_t kind;
    int32_t error;
    int32_t fd;
    uint32_t tries;
    uint32_t outcome;
    char call[20]; /* zero-padded */
};

struct tideover_page {
    uint64_t magic;
    uint32_t layout, size;
    uint32_t pid;
    uint32_t state;           /* 0 being filled in, 1 live */
    uint64_t started_boot_ns; /* CLOCK_BOOTTIME when the page was made */
    uint64_t started_ns;      /* CLOCK_REALTIME */
    uint32_t uid, reserved;
    char version[16]; /* zero-padded, as is program */
    char program[64];
    struct tideover_counters counters;
    uint64_t unused[7];
    struct {
        uint64_t opened, closed, reserved[6];
    } shards[TIDEOVER_PAGE_SHARDS]; /* calls.opened and calls.closed are the sums */
    uint64_t settings[TIDEOVER_PAGE_SETTINGS];
    uint8_t sources[TIDEOVER_PAGE_SETTINGS];
    uint32_t settings_count, reserved2;
    uint64_t last_event;
    struct tideover_page_event events[TIDEOVER_PAGE_EVENTS]; /* number n is at (n - 1) % TIDEOVER_PAGE_EVENTS */
    uint64_t refusals[64];    /* why files were not taken for logs; names in docs/counters.md */
    struct {
        uint64_t runs, ns, freed, skipped;
    } collectors[8];    /* garbage collected: python, jvm, ruby, guile, php */
    uint64_t skips[24]; /* why none was; names in docs/counters.md */
    uint64_t rest[80];
};

/* The live page of this process, to be read only. Never NULL: without a shared page it is a private one. */
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
