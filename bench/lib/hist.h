/* hist.h - a log-linear histogram of latencies: 64 linear steps in each power of two, so that a percentile is right
 * within 1.6 % from 1 us to an hour, at a fixed size and a few instructions a value.
 * Thread: one owner; hist_merge joins what several threads gathered.  Unit: whatever the caller records (here us). */
#pragma once
#include <stdint.h>

#define HIST_SUB_BITS 6
#define HIST_SUB      (1u << HIST_SUB_BITS)
#define HIST_ROWS     28 /* 64 << 27: above 2 hours in microseconds */

struct hist {
    uint64_t n, sum, max;
    uint64_t count[HIST_ROWS * HIST_SUB];
};

/* Values above the range count in the last step; max stays exact. */
void hist_add(struct hist *h, uint64_t v);
void hist_merge(struct hist *into, const struct hist *from);
/* The smallest value that at least `share` (0..1) of all values do not exceed, rounded up to its step; 0 when empty. */
uint64_t hist_quantile(const struct hist *h, double share);
uint64_t hist_mean(const struct hist *h);
