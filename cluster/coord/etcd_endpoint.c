/* etcd_endpoint.c - which member of etcd is asked: the next one after each failure, a pause after a round of them. */
#include "cluster/coord/etcd_int.h"
#include "spool/base/log.h"
#include "spool/base/metrics.h"

#include <stdio.h>

enum { BACKOFF_MIN_MS = 100, BACKOFF_MAX_MS = 2000 };

uint64_t etcd_backoff_us(struct etcd *e, unsigned round)
{
    uint64_t max_ms = e->keepalive_ms / 2 < BACKOFF_MAX_MS ? e->keepalive_ms / 2 : BACKOFF_MAX_MS;
    uint64_t ms = round < 6 ? (uint64_t)BACKOFF_MIN_MS << round : BACKOFF_MAX_MS;
    uint64_t us = (ms < max_ms ? ms : max_ms) * 1000;
    return us / 2 + rng_below(&e->rng, us / 2 + 1);
}

void etcd_reachable_set(struct etcd *e, bool reachable, const char *why)
{
    struct coord_info *i = &e->info;
    bool same = i->reachable == reachable && (reachable || strcmp(i->why, why) == 0);
    char quoted[ETCD_WHY_MAX * 2];
    if (i->reachable != reachable || i->calls == 0)
        i->since_us = clock_boot_us(e->clock);
    snprintf(i->why, sizeof i->why, "%s", why);
    i->reachable = reachable;
    metric_set(M_COORD_REACHABLE, reachable);
    if (same)
        return;
    if (reachable)
        log_info("coord.reachable", "endpoint=%s", e->endpoints[e->current]);
    else
        log_warning("coord.unreachable", "why=%s", log_quote(slice_str(why), quoted, sizeof quoted));
}

void etcd_endpoint_failed(struct etcd *e, uint64_t turn, const char *why)
{
    char quoted[ETCD_WHY_MAX * 2];
    if (turn != e->turn)
        return;
    e->turn++;
    e->fails++;
    snprintf(e->failed_why, sizeof e->failed_why, "%s", why);
    if (e->fails <= e->endpoints_n)
        log_warning("coord.endpoint_failed", "endpoint=%s why=%s", e->endpoints[e->current],
                    log_quote(slice_str(why), quoted, sizeof quoted));
    e->current = (e->current + 1) % e->endpoints_n;
    if (e->fails % e->endpoints_n == 0)
        e->retry_us = clock_boot_us(e->clock) + etcd_backoff_us(e, (unsigned)(e->fails / e->endpoints_n) - 1);
}

void etcd_endpoint_ok(struct etcd *e)
{
    e->fails = 0;
    e->retry_us = 0;
    e->failed_why[0] = 0;
}
