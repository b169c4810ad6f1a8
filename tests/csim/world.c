/* world.c - one history: the world forms, mail and faults go on for a while, everything heals, and all that was
 * promised must come out. */
#include "tests/csim/world.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/csim/checks.h"
#include "tests/csim/clients.h"
#include "tests/csim/faults.h"
#include "tests/csim/plan.h"

#define FORM_US     (60 * SECOND_US)
#define CONVERGE_US (240 * SECOND_US)
#define TURNS_MAX   3000000u
#define LOOK_US     500000u

bool chance(struct rng *r, uint32_t percent)
{
    return rng_below(r, 100) < percent;
}

uint64_t between(struct rng *r, uint64_t lo, uint64_t hi)
{
    return lo + rng_below(r, hi - lo + 1);
}

/* ---- actors */

struct actor *world_actor(struct world *w, void (*run)(void *arg), void *arg)
{
    assert(w->actors_n < WORLD_ACTORS_MAX);
    struct actor *a = &w->actors[w->actors_n++];
    *a = (struct actor){.at_us = UINT64_MAX, .run = run, .arg = arg};
    return a;
}

void actor_wake(struct actor *a, uint64_t at_us)
{
    if (at_us < a->at_us)
        a->at_us = at_us;
}

static bool run_next(struct world *w, uint64_t until_us)
{
    struct actor *next = &w->actors[0];
    for (uint32_t i = 1; i < w->actors_n; i++)
        if (w->actors[i].at_us < next->at_us)
            next = &w->actors[i];
    if (next->at_us > until_us || history.failed)
        return false;
    w->now_us = next->at_us > w->now_us ? next->at_us : w->now_us;
    next->at_us = UINT64_MAX;
    next->run(next->arg);
    if (w->turns > TURNS_MAX)
        history_fail("no rest: %u turns of nodes in %llu s", TURNS_MAX, (unsigned long long)(w->now_us / SECOND_US));
    return true;
}

static void run_until(struct world *w, uint64_t until_us)
{
    while (run_next(w, until_us))
        ;
    if (!history.failed)
        w->now_us = until_us;
}

/* ---- names */

struct slice world_domain(const struct world *w, uint32_t domain)
{
    return slice_str(w->domain_names[domain]);
}

/* The last two domains belong to a customer with a pool of his own, where there is one. */
struct slice world_pool_of(const struct world *w, struct slice domain)
{
    for (uint32_t d = WORLD_DOMAINS - 2; d < WORLD_DOMAINS && w->plan.dedicated; d++)
        if (slice_eq(domain, world_domain(w, d)))
            return SLICE_LIT("dedicated");
    return SLICE_LIT("");
}

uint32_t world_store(const struct world *w, const struct storage_id *id)
{
    for (uint32_t i = 0; i < w->stores_n; i++)
        if (storage_id_eq(&w->stores[i].id, id))
            return i;
    return UINT32_MAX;
}

void world_fault_begins(struct world *w)
{
    w->faults_on++;
}

void world_fault_ends(struct world *w)
{
    w->faults_on--;
    w->faults_until_us = w->now_us;
}

bool world_faulty_since(const struct world *w, uint64_t us)
{
    return w->faults_on > 0 || w->faults_until_us >= us;
}

/* ---- the beginning */

static void put_pool(struct world *w, const char *name, uint32_t copies, uint32_t acks, const char *fallback)
{
    struct map_pool p = {.copies = copies, .acks = acks, .shards = w->plan.shards};
    char key[CMAP_KEY_MAX];
    snprintf(p.name, sizeof p.name, "%s", name);
    snprintf(p.fallback, sizeof p.fallback, "%s", fallback);
    snprintf(key, sizeof key, "pools/%s", name);
    char *text = cmap_pool_encode(&p);
    simcoord_put(w->coord, key, text);
    free(text);
}

static void prepare(struct world *w)
{
    struct cmap meta = {.cluster = w->cluster, .version = 1, .repair_delay_s = w->plan.repair_s};
    char *text = cmap_meta_encode(&meta);
    simcoord_put(w->coord, "meta", text);
    free(text);
    put_pool(w, POOL_SHARED, w->plan.copies, w->plan.acks, "");
    if (w->plan.dedicated)
        put_pool(w, "dedicated", w->plan.dedicated < 2 ? 1 : 2, w->plan.dedicated < 2 ? 1 : 2, POOL_SHARED);
}

static void on_store_change(void *arg, struct slice key, const struct coord_kv *kv)
{
    struct world *w = arg;
    (void)kv;
    /* Judged after the change: the store is half way through it. */
    snprintf(w->changed_key, sizeof w->changed_key, "%.*s", SLICE_FMT(key));
    actor_wake(w->judge, w->now_us);
}

static void judge_run(void *arg)
{
    struct world *w = arg;
    if (w->changed_key[0])
        check_store_change(w, slice_str(w->changed_key));
    w->changed_key[0] = 0;
    if (w->now_us < w->look_us) {
        actor_wake(w->judge, w->look_us);
        return;
    }
    check_held(w);
    w->look_us = w->now_us + LOOK_US;
    for (uint32_t d = 0; d < WORLD_DOMAINS; d++)
        if (!w->healing && chance(&w->rng, 5))
            w->sink_down[d] = chance(&w->rng, w->plan.sinks_down_pct);
    actor_wake(w->judge, w->look_us);
}

static void build(struct world *w)
{
    for (uint32_t d = 0; d < WORLD_DOMAINS; d++) {
        snprintf(w->domain_names[d], sizeof w->domain_names[d], "d%u.example", d);
        w->sink_down[d] = chance(&w->rng, w->plan.sinks_down_pct);
    }
    for (int i = 0; i < 16; i++)
        w->cluster.b[i] = (uint8_t)rng_u64(&w->rng);
    w->judge = world_actor(w, judge_run, w);
    simcoord_open(&w->coord, w);
    simcoord_watch_all(w->coord, on_store_change, w);
    simnet_open(&w->net, w);
    for (uint32_t i = 0; i < w->plan.nodes; i++)
        w->nodes[i] = simnode_new(w, i);
    if (w->plan.prepared)
        prepare(w);
    for (uint32_t i = 0; w->plan.skewed && i < w->plan.nodes; i++)
        simnode_set_clock(w->nodes[i], (int64_t)between(&w->rng, 0, 4 * SECOND_US) - (int64_t)(2 * SECOND_US));
}

static void demolish(struct world *w)
{
    for (uint32_t i = 0; i < w->plan.nodes; i++)
        if (w->nodes[i])
            simnode_free(&w->nodes[i]);
    simnet_close(&w->net);
    simcoord_close(&w->coord);
    for (uint32_t i = 0; i < w->stores_n; i++)
        w->stores[i].depot->ops->destroy(&w->stores[i].depot);
}

/* All nodes are there, and each shard has its owner and its copies. */
static bool formed(struct world *w)
{
    const struct cmap *m = simcoord_truth(w->coord);
    if (!m || m->shards_n == 0 || m->nodes_n < w->plan.nodes)
        return false;
    for (uint32_t i = 0; i < m->nodes_n; i++)
        if (!m->nodes[i].live)
            return false;
    for (uint32_t i = 0; i < m->shards_n; i++)
        if (storage_id_zero(&m->shards[i].owner) || m->shards[i].members_n < m->pools[m->shards[i].pool].acks)
            return false;
    return true;
}

static void form(struct world *w)
{
    uint64_t until = w->now_us + FORM_US;
    for (uint32_t i = 0; i < w->plan.nodes; i++) {
        run_until(w, w->now_us + between(&w->rng, 0, 300000));
        simnode_start(w->nodes[i]);
    }
    while (!history.failed && !formed(w) && w->now_us < until)
        run_until(w, w->now_us + LOOK_US);
    if (!history.failed && !formed(w))
        history_fail("the cluster does not form");
    run_until(w, w->now_us + 7 * SECOND_US); /* each node has read it */
    trace("---- formed");
}

/* ---- the end */

static void converge(struct world *w, struct clients *clients)
{
    uint64_t from = w->now_us, until = from + CONVERGE_US;
    char why[300] = "";
    w->healing = true;
    memset(w->sink_down, 0, sizeof w->sink_down);
    while (!history.failed && w->now_us < until) {
        run_until(w, w->now_us + SECOND_US);
        if (history.failed || (clients_idle(clients) && check_converged(w, why, sizeof why)))
            break;
    }
    if (!history.failed && w->now_us >= until)
        history_fail("after %u s of peace: %s", (unsigned)(CONVERGE_US / SECOND_US), why);
    trace("---- converged after %llu s", (unsigned long long)((w->now_us - from) / SECOND_US));
}

static void live(struct world *w)
{
    struct clients *clients;
    struct faults *faults;
    clients_open(&clients, w);
    faults_open(&faults, w);
    form(w);
    clients_start(clients);
    faults_start(faults);
    run_until(w, w->now_us + w->plan.busy_us);
    clients_stop(clients);
    if (!history.failed)
        faults_heal(faults);
    converge(w, clients);
    trace("---- %u letters, %llu acknowledged, %llu delivered, %llu twice; %llu turns", w->letters.n,
          (unsigned long long)w->letters.acked, (unsigned long long)w->letters.sunk,
          (unsigned long long)w->letters.duplicates, (unsigned long long)w->turns);
    faults_close(&faults);
    clients_close(&clients);
}

static uint64_t world_boot(void *ctx)
{
    return ((struct world *)ctx)->now_us;
}

void world_history(uint64_t seed, bool house, struct world_tally *tally)
{
    static struct world world; /* large */
    struct world *w = &world;
    memset(w, 0, sizeof *w);
    w->now_us = WORLD_START_US;
    struct clock clock = {world_boot, world_boot, w};
    history.clock = &clock;
    rng_seed(&w->rng, seed * 0x9e3779b97f4a7c15u + house);
    plan_draw(&w->plan, &w->rng, house);
    history.kind = w->plan.name;
    trace("---- %s: %u nodes, copies %u, acks %u, shards %u, dedicated %u, ttl %u, repair %u, prepared %d",
          w->plan.name, w->plan.nodes, w->plan.copies, w->plan.acks, w->plan.shards, w->plan.dedicated, w->plan.ttl_s,
          w->plan.repair_s, w->plan.prepared);
    build(w);
    live(w);
    demolish(w);
    tally->letters += w->letters.n;
    tally->acked += w->letters.acked;
    tally->duplicates += w->letters.duplicates;
    tally->turns += w->turns;
    for (uint32_t i = 0; i < w->letters.n; i++)
        tally->lost += w->letters.all[i].lost;
    history.clock = NULL;
}
