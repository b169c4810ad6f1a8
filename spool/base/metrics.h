/* metrics.h - counters and gauges from one table (metrics.def), for Prometheus.
 * Counters: each thread adds to a slot of its own (no shared cache line); metrics_read sums them.  Gauges: one atomic.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum metric {
#define X(id, kind, name, help) id,
#include "spool/base/metrics.def"
#undef X
    METRIC_COUNT
};

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE };

struct metric_info {
    enum metric_kind kind;
    const char *name, *help;
};

extern const struct metric_info metric_infos[METRIC_COUNT];

/* Counter; any thread. */
void metric_add(enum metric m, uint64_t n);
/* Gauge; any thread. */
void metric_set(enum metric m, uint64_t v);
uint64_t metric_read(enum metric m);
/* Prometheus text exposition format 0.0.4 of all metrics into buf (NUL-terminated); returns the length needed without
 * the NUL, as snprintf does. */
size_t metrics_text(char *buf, size_t cap);
/* docs/metrics.md, whole. */
void metrics_doc(FILE *out);
