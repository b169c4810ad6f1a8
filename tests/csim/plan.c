/* plan.c - the kinds of histories, and how often each kind of fault happens in them. */
#include "tests/csim/plan.h"

#include "tests/csim/faults.h"

struct kind {
    const char *name;
    uint32_t weight; /* how often this kind of history is drawn */
    uint8_t faults[FAULT_COUNT];
};

#define F(name) [FAULT_##name]
static const struct kind kinds[] = {
    {"quiet", 6, {0}},
    {"planned", 18, {F(DRAIN) = 4, F(CORDON) = 1, F(LEAVE) = 4, F(WEIGHT) = 2}},
    {"store", 12, {F(STOP) = 3, F(APART) = 3, F(FLAKY) = 2}},
    {"crashes", 16, {F(KILL) = 4, F(POWER) = 3, F(LEAVE) = 1}},
    {"pauses", 10, {F(PAUSE) = 1}},
    {"network", 14, {F(CUT) = 3, F(ONEWAY) = 3, F(ISOLATE) = 2, F(RESET) = 4}},
    {"disks", 12, {F(SLOW) = 3, F(FULL) = 2, F(WIPE) = 1, F(DAMAGE) = 4, F(POWER) = 2}},
    {"pool", 4, {F(POOL) = 1}},
    {"leases", 8, {F(PAUSE) = 2, F(APART) = 3, F(STOP) = 2, F(ISOLATE) = 2}},
    {"adoptions", 8, {F(CUT) = 3, F(ONEWAY) = 4, F(KILL) = 3, F(POWER) = 3}},
    {"drains", 8, {F(DRAIN) = 6, F(KILL) = 3, F(CUT) = 3, F(FULL) = 1, F(WIPE) = 1}},
    {"storm", 16, {F(KILL) = 3,    F(POWER) = 3, F(PAUSE) = 4,  F(CUT) = 2,    F(ONEWAY) = 2,
                   F(ISOLATE) = 2, F(RESET) = 3, F(STOP) = 1,   F(APART) = 2,  F(FLAKY) = 2,
                   F(SLOW) = 2,    F(FULL) = 1,  F(WIPE) = 1,   F(DAMAGE) = 1, F(CLOCK) = 1,
                   F(POOL) = 1,    F(DRAIN) = 3, F(CORDON) = 1, F(LEAVE) = 2,  F(WEIGHT) = 1}},
};

static const struct kind *draw_kind(struct rng *rng)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        sum += kinds[i].weight;
    uint64_t at = rng_below(rng, sum);
    const struct kind *k = kinds;
    while (at >= k->weight)
        at -= (k++)->weight;
    return k;
}

static const bool planned[] = {
#define X(name, is_planned, text) is_planned,
#include "tests/csim/faults.def"
#undef X
};

static void draw_faults(struct plan *p, const struct kind *k, struct rng *rng)
{
    p->name = k->name;
    p->weights = k->faults;
    for (int i = 0; i < FAULT_COUNT; i++) {
        p->faults = p->faults || (k->faults[i] && !planned[i]);
        p->planned = p->planned || (k->faults[i] && planned[i]);
    }
    p->fault_gap_ms = p->faults || p->planned ? (uint32_t)between(rng, 500, 8000) : 0;
}

void plan_draw(struct plan *p, struct rng *rng, bool house)
{
    const struct kind *k = draw_kind(rng);
    bool pool = strcmp(k->name, "pool") == 0, leases = strcmp(k->name, "leases") == 0;
    *p = (struct plan){.house = house};
    draw_faults(p, k, rng);
    p->nodes = (uint32_t)between(rng, pool ? 4 : 3, WORLD_NODES_MAX);
    p->dedicated = pool ? (uint32_t)between(rng, 1, p->nodes - 3) : p->nodes > 3 && chance(rng, 25) ? 1 : 0;
    p->prepared = p->dedicated || chance(rng, 85);
    p->copies = (uint32_t)between(rng, 2, 3);
    p->acks = 2;
    p->shards = (uint32_t)between(rng, 1, 8);
    p->ttl_s = (uint32_t)between(rng, 4, 10);
    p->repair_s = (uint32_t)between(rng, 3, 12);
    p->clients = (uint32_t)between(rng, 2, WORLD_CLIENTS_MAX);
    p->letters = (uint32_t)between(rng, 4, 25);
    p->busy_us = between(rng, 10, 45) * SECOND_US;
    p->quirks = chance(rng, 40);
    p->chunked = chance(rng, 40);
    p->skewed = p->faults && chance(rng, 40);
    p->newer = chance(rng, 15);
    p->crawl_pct = leases ? 30 : chance(rng, 30) ? 12 : 1;
    p->disk_us = chance(rng, 25) ? between(rng, 5000, 300000) : 0;
    p->sinks_down_pct = chance(rng, 60) ? (uint32_t)between(rng, 0, 90) : 0;
}
