/* work.c - the steps of a workload, and the end of one: draining. */
#include "tests/sim/work.h"

#include "spool/base/err.h"
#include "tests/sim/trace.h"

static void step_turn(struct work *w)
{
    house_turn(&w->h, rng_below(w->rng, 20000));
}

static void step_sleep(struct work *w)
{
    simdisk_sleep(w->sd, rng_below(w->rng, 300000));
}

static void step_flush_index(struct work *w)
{
    trace("flush index");
    if (w->h.ix->ops->flush(w->h.ix) != 0)
        history_fail("the index does not flush");
}

static void flush_domain(struct work *w, uint32_t domain)
{
    trace("flush domain %u", domain);
    queue_flush_domain(w->h.q, sim_domain(domain));
    w->flushed[domain] = w->ledger->msgs_n;
    for (uint32_t i = 0; i < w->ledger->msgs_n; i++) {
        struct sim_msg *m = &w->ledger->msgs[i];
        if (m->domain == domain && m->applied && !m->claimed)
            m->due_us = 0;
    }
}

static void step_flush_domain(struct work *w)
{
    flush_domain(w, (uint32_t)rng_below(w->rng, SIM_DOMAINS));
}

static void reclaim(struct work *w, bool pressure)
{
    uint64_t steps = 1 + rng_below(w->rng, 6);
    trace("reclaim, pressure %d", pressure);
    while (steps-- > 0 && house_reclaim(&w->h, pressure) && !simdisk_dead(w->sd))
        house_turn(&w->h, 5000);
}

static void step_reclaim(struct work *w)
{
    reclaim(w, false);
}

static void step_pressure(struct work *w)
{
    reclaim(w, true);
}

static void step_roll(struct work *w)
{
    trace("roll");
    seglog_roll(w->h.log);
}

static void step_refill(struct work *w)
{
    seglog_refill(w->h.log);
}

static void step_fill_disk(struct work *w)
{
    trace("another program fills the disk");
    simdisk_resize(w->sd, simdisk_used(w->sd));
}

static void step_free_disk(struct work *w)
{
    simdisk_resize(w->sd, w->capacity);
}

static const struct {
    uint32_t weight;
    void (*run)(struct work *w);
} steps[] = {
    {30, work_accept_begin}, {20, work_accept_go_on}, {25, work_claim_due}, {45, work_deliver},
    {3, work_claim_delete},  {3, work_claim_release}, {2, work_claim_old},  {2, step_flush_domain},
    {4, step_flush_index},   {10, step_reclaim},      {4, step_pressure},   {5, step_roll},
    {2, step_refill},        {45, step_turn},         {4, step_sleep},      {1, step_fill_disk},
    {3, step_free_disk},
};

void work_step(struct work *w)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        sum += steps[i].weight;
    uint64_t at = rng_below(w->rng, sum);
    size_t i = 0;
    while (at >= steps[i].weight)
        at -= steps[i++].weight;
    steps[i].run(w);
}

void work_begin(struct work *w)
{
    memset(w->accepts, 0, sizeof w->accepts);
    memset(w->claims, 0, sizeof w->claims);
    memset(w->flushed, 0, sizeof w->flushed);
}

/* ---- draining */

static bool over(struct work *w)
{
    return history.failed || simdisk_dead(w->sd);
}

static void drain_round(struct work *w)
{
    for (uint32_t d = 0; d < SIM_DOMAINS; d++)
        flush_domain(w, d);
    for (uint32_t i = 0; i < w->ledger->msgs_n && !over(w); i++) {
        struct sim_msg *m = &w->ledger->msgs[i];
        if (m->applied && !m->claimed && m->moving == 0 && !work_deliver_id(w, m))
            return;
    }
}

/* Whatever the disk's state was: mail that is stored can be delivered, and delivering makes room. */
static void drain_messages(struct work *w)
{
    struct queue_stat st;
    for (int i = 0; i < 60 && !over(w); i++) {
        drain_round(w);
        house_settle(&w->h);
        queue_stat(w->h.q, &st);
        if (st.messages == 0)
            return;
        reclaim(w, true);
        house_settle(&w->h);
    }
    if (!over(w))
        history_fail("the bags do not drain: %llu messages stay", (unsigned long long)st.messages);
}

/* With no mail left, DONEs and the segments they held go, one after the other. */
static void drain_segments(struct work *w)
{
    struct seglog_info info;
    for (int i = 0; i < 60 && !over(w); i++) {
        seglog_roll(w->h.log);
        for (int k = 0; k < 100 && house_reclaim(&w->h, true) && !over(w); k++)
            house_turn(&w->h, 5000);
        house_settle(&w->h);
        seglog_info(w->h.log, &info);
        if (info.used_segments <= 3)
            return;
    }
    if (!over(w))
        history_fail("an empty spool keeps %u segments", info.used_segments);
}

void work_finish(struct work *w)
{
    work_claims_drop(w);
    for (int i = 0; i < 100 && !over(w); i++) {
        work_accept_go_on(w);
        house_settle(&w->h);
    }
    work_begin(w);
}

void work_drain(struct work *w)
{
    work_finish(w);
    drain_messages(w);
    if (over(w))
        return;
    ledger_check_empty(w->ledger, w->h.q);
    drain_segments(w);
}
