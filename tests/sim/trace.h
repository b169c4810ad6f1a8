/* trace.h - one history: its seed, whether it failed and why, and the trace that -v prints.
 * Thread: one; one history at a time. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct clock;

struct history {
    uint64_t seed;
    uint64_t cut; /* systematic runs: the effect at which the machine dies; 0: the seed decides */
    bool verbose, failed;
    char why[400];
    const struct clock *clock; /* virtual; may be NULL before there is a disk */
    const char *who;           /* whose turn it is, in a world of several nodes; NULL or empty: nobody's */
    const char *kind;          /* of history; NULL: there is one kind */
};

extern struct history history;

/* The first failure is kept; the workload looks at history.failed and ends. */
__attribute__((format(printf, 1, 2))) void history_fail(const char *fmt, ...);
__attribute__((format(printf, 1, 2))) void history_trace(const char *fmt, ...);

#define trace(...)                                                                                                     \
    do {                                                                                                               \
        if (history.verbose)                                                                                           \
            history_trace(__VA_ARGS__);                                                                                \
    } while (0)
