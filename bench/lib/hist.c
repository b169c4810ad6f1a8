/* hist.c - the log-linear histogram of hist.h. */
#include "bench/lib/hist.h"

static unsigned step_of(uint64_t v)
{
    if (v < HIST_SUB)
        return (unsigned)v;
    unsigned top = 63 - (unsigned)__builtin_clzll(v);
    unsigned row = top - HIST_SUB_BITS + 1;
    if (row >= HIST_ROWS)
        return HIST_ROWS * HIST_SUB - 1;
    return row * HIST_SUB + (unsigned)(v >> (row - 1)) - HIST_SUB;
}

static uint64_t step_end(unsigned step)
{
    unsigned row = step / HIST_SUB, sub = step % HIST_SUB;
    if (row == 0)
        return sub;
    return ((uint64_t)(HIST_SUB + sub + 1) << (row - 1)) - 1;
}

void hist_add(struct hist *h, uint64_t v)
{
    h->n++;
    h->sum += v;
    if (v > h->max)
        h->max = v;
    h->count[step_of(v)]++;
}

void hist_merge(struct hist *into, const struct hist *from)
{
    into->n += from->n;
    into->sum += from->sum;
    if (from->max > into->max)
        into->max = from->max;
    for (unsigned i = 0; i < HIST_ROWS * HIST_SUB; i++)
        into->count[i] += from->count[i];
}

uint64_t hist_quantile(const struct hist *h, double share)
{
    uint64_t want = (uint64_t)(share * (double)h->n + 0.999999), seen = 0;
    for (unsigned i = 0; i < HIST_ROWS * HIST_SUB; i++) {
        seen += h->count[i];
        if (seen >= want && seen > 0)
            return step_end(i) < h->max ? step_end(i) : h->max;
    }
    return h->max;
}

uint64_t hist_mean(const struct hist *h)
{
    return h->n ? h->sum / h->n : 0;
}
