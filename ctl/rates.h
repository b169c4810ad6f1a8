/* rates.h - how much a second, over the last minute: counters sampled by a thread of its own.
 * Thread: rates_open and rates_close from one; rates_read from any. */
#pragma once
#include "spool/base/clock.h"
#include "spool/base/metrics.h"

#include <stdbool.h>

struct rates;

/* counters: n of them, at most RATES_MAX; copied. */
#define RATES_MAX 8
int rates_open(struct rates **r_r, const enum metric *counters, size_t n, const struct clock *clock);
void rates_close(struct rates **r);
/* per_s_r[n]; returns the seconds they were taken over, 0 at the very start (then all are 0). */
double rates_read(struct rates *r, double *per_s_r);
