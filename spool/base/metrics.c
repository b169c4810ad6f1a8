#include "spool/base/metrics.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

const struct metric_info metric_infos[METRIC_COUNT] = {
#define COUNTER                 METRIC_COUNTER
#define GAUGE                   METRIC_GAUGE
#define X(id, kind, name, help) [id] = {kind, name, help},
#include "spool/base/metrics.def"
#undef X
#undef COUNTER
#undef GAUGE
};

/* One block a thread, written by it alone; never freed, so that what an ended thread counted stays counted. */
struct metric_block {
    struct metric_block *next;
    atomic_uint_fast64_t v[METRIC_COUNT];
};

static _Atomic(struct metric_block *) blocks;
static atomic_uint_fast64_t gauges[METRIC_COUNT];
static _Thread_local struct metric_block *mine;

static struct metric_block *metric_block_new(void)
{
    struct metric_block *b = calloc(1, sizeof *b);
    if (!b)
        abort();
    b->next = atomic_load(&blocks);
    while (!atomic_compare_exchange_weak(&blocks, &b->next, b))
        ;
    return b;
}

void metric_add(enum metric m, uint64_t n)
{
    if (!mine)
        mine = metric_block_new();
    uint64_t v = atomic_load_explicit(&mine->v[m], memory_order_relaxed);
    atomic_store_explicit(&mine->v[m], v + n, memory_order_relaxed);
}

void metric_set(enum metric m, uint64_t v)
{
    atomic_store_explicit(&gauges[m], v, memory_order_relaxed);
}

uint64_t metric_read(enum metric m)
{
    if (metric_infos[m].kind == METRIC_GAUGE)
        return atomic_load_explicit(&gauges[m], memory_order_relaxed);
    uint64_t sum = 0;
    for (struct metric_block *b = atomic_load(&blocks); b; b = b->next)
        sum += atomic_load_explicit(&b->v[m], memory_order_relaxed);
    return sum;
}

size_t metrics_text(char *buf, size_t cap)
{
    size_t at = 0;
    if (cap > 0)
        buf[0] = 0;
    for (int m = 0; m < METRIC_COUNT; m++) {
        const struct metric_info *i = &metric_infos[m];
        int n = snprintf(at < cap ? buf + at : NULL, at < cap ? cap - at : 0, "# HELP %s %s\n# TYPE %s %s\n%s %llu\n",
                         i->name, i->help, i->name, i->kind == METRIC_COUNTER ? "counter" : "gauge", i->name,
                         (unsigned long long)metric_read((enum metric)m));
        at += (size_t)n;
    }
    return at;
}

void metrics_doc(FILE *out)
{
    fputs("# Metrics\n\nServed for Prometheus on `http://127.0.0.1:8025/metrics` (`admin.http`) and on the admin "
          "socket.\n"
          "Counters start at zero with the daemon. This page is made from `spool/base/metrics.def` by `make docs`.\n\n"
          "| name | kind | what it says |\n|---|---|---|\n",
          out);
    for (int m = 0; m < METRIC_COUNT; m++)
        fprintf(out, "| `%s` | %s | %s |\n", metric_infos[m].name,
                metric_infos[m].kind == METRIC_COUNTER ? "counter" : "gauge", metric_infos[m].help);
}
