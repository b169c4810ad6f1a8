/* stats.h - what a queue counts: one array a queue, written by its thread alone, read by any (relaxed).
 * The rows are in stats.def: they make `satchelctl port show`, its help, and docs/dpdk.md. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum stat_id {
#define STAT(id, name, help) STAT_##id,
#include "dataplane/tcp/stats.def"
#undef STAT
    STAT_N
};

struct stats {
    _Atomic uint64_t n[STAT_N];
};

struct stat_row {
    const char *name, *help;
};
/* In the order of enum stat_id (stats.c). */
extern const struct stat_row stat_rows[STAT_N];

/* Says how many there are now; the others only grow. */
static inline bool stat_is_now(enum stat_id id)
{
    return id >= STAT_CONNS;
}

/* One writer: no locked instruction. */
static inline void stat_add(struct stats *s, enum stat_id id, uint64_t n)
{
    atomic_store_explicit(&s->n[id], atomic_load_explicit(&s->n[id], memory_order_relaxed) + n, memory_order_relaxed);
}

static inline void stat_set(struct stats *s, enum stat_id id, uint64_t n)
{
    atomic_store_explicit(&s->n[id], n, memory_order_relaxed);
}

static inline uint64_t stat_get(const struct stats *s, enum stat_id id)
{
    return atomic_load_explicit(&s->n[id], memory_order_relaxed);
}
