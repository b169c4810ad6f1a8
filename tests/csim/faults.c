/* faults.c - faults begin, last a while, and end. */
#include "tests/csim/faults.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/csim/checks.h"

#define SLOTS_MAX 6
#define WIPES_MAX 3

/* One that is under way. */
struct slot {
    bool on;
    enum fault kind;
    uint32_t node, other;
    uint64_t end_us;
    bool store_too;
};

struct faults {
    struct world *w;
    struct rng rng;
    struct actor *actor;
    struct slot slots[SLOTS_MAX];
    uint64_t next_us;
    uint32_t wipes;
    bool healed;
};

static const struct {
    const char *name;
    bool planned;
} kinds[] = {
#define X(name, planned, text) {#name, planned},
#include "tests/csim/faults.def"
#undef X
};

static struct simnode *node(struct faults *f, uint32_t i)
{
    return f->w->nodes[i];
}

static uint32_t any_node(struct faults *f)
{
    return (uint32_t)rng_below(&f->rng, f->w->plan.nodes);
}

static void lasts(struct faults *f, struct slot *s, uint64_t lo_ms, uint64_t hi_ms)
{
    s->end_us = f->w->now_us + between(&f->rng, lo_ms, hi_ms) * 1000;
}

/* ---- as an operator */

static const struct map_node *node_key(struct faults *f, uint32_t i)
{
    const struct cmap *m = simcoord_truth(f->w->coord);
    return m ? cmap_node(m, simnode_name(node(f, i))) : NULL;
}

static bool set_node(struct faults *f, uint32_t i, enum node_state state, uint32_t weight)
{
    const struct map_node *now = node_key(f, i);
    char key[CMAP_KEY_MAX];
    if (!now || simcoord_stopped(f->w->coord))
        return false;
    struct map_node n = *now;
    n.state = state;
    n.weight = weight ? weight : n.weight;
    char *text = cmap_node_encode(&n);
    snprintf(key, sizeof key, "nodes/%s", n.name);
    simcoord_put(f->w->coord, key, text);
    free(text);
    return true;
}

static uint32_t active_others(struct faults *f, uint32_t i)
{
    const struct cmap *m = simcoord_truth(f->w->coord);
    const struct map_node *self = node_key(f, i);
    uint32_t n = 0;
    for (uint32_t k = 0; m && self && k < m->nodes_n; k++)
        n += &m->nodes[k] != self && m->nodes[k].live && m->nodes[k].state == NODE_ACTIVE &&
             strcmp(m->nodes[k].pool, self->pool) == 0;
    return n;
}

static void forget_node(struct faults *f, uint32_t i)
{
    char key[CMAP_KEY_MAX];
    snprintf(key, sizeof key, "nodes/%s", simnode_name(node(f, i)));
    simcoord_put(f->w->coord, key, NULL);
}

/* ---- beginnings; false: not possible now */

static bool begin_kill(struct faults *f, struct slot *s)
{
    if (simnode_state(node(f, s->node)) == SIMNODE_OFF)
        return false;
    lasts(f, s, 100, chance(&f->rng, 60) ? 3000 : 25000);
    simnode_crash(node(f, s->node), s->kind == FAULT_POWER);
    check_held(f->w);
    return true;
}

static bool begin_pause(struct faults *f, struct slot *s)
{
    if (simnode_state(node(f, s->node)) != SIMNODE_RUNNING)
        return false;
    lasts(f, s, 50, chance(&f->rng, 40) ? 4000 : 30000);
    simnode_pause(node(f, s->node), true);
    return true;
}

static bool other_node(struct faults *f, struct slot *s)
{
    s->other = any_node(f);
    return s->other != s->node;
}

static bool begin_cut(struct faults *f, struct slot *s)
{
    if (!other_node(f, s))
        return false;
    lasts(f, s, 200, chance(&f->rng, 50) ? 3000 : 20000);
    simnet_cut(f->w->net, s->node, s->other, true);
    if (s->kind == FAULT_CUT)
        simnet_cut(f->w->net, s->other, s->node, true);
    return true;
}

static void isolate(struct faults *f, const struct slot *s, bool cut)
{
    for (uint32_t i = 0; i < f->w->plan.nodes; i++)
        if (i != s->node) {
            simnet_cut(f->w->net, i, s->node, cut);
            simnet_cut(f->w->net, s->node, i, cut);
        }
    if (s->store_too)
        simcoord_cut(f->w->coord, s->node, cut);
}

static bool begin_isolate(struct faults *f, struct slot *s)
{
    s->store_too = chance(&f->rng, 50);
    lasts(f, s, 500, 25000);
    isolate(f, s, true);
    return true;
}

static bool begin_reset(struct faults *f, struct slot *s)
{
    if (!other_node(f, s))
        return false;
    lasts(f, s, 1, 2);
    simnet_reset(f->w->net, s->node, s->other);
    return true;
}

static bool begin_stop(struct faults *f, struct slot *s)
{
    if (simcoord_stopped(f->w->coord))
        return false;
    lasts(f, s, 500, chance(&f->rng, 50) ? 8000 : 40000);
    simcoord_stop(f->w->coord, true);
    return true;
}

static bool begin_apart(struct faults *f, struct slot *s)
{
    lasts(f, s, 500, 25000);
    simcoord_cut(f->w->coord, s->node, true);
    return true;
}

static bool begin_flaky(struct faults *f, struct slot *s)
{
    lasts(f, s, 2000, 20000);
    simcoord_flaky(f->w->coord, (uint32_t)between(&f->rng, 10, 60));
    return true;
}

static struct depot *depot(struct faults *f, uint32_t i)
{
    return f->w->stores[simnode_store(node(f, i))].depot;
}

static bool begin_slow(struct faults *f, struct slot *s)
{
    lasts(f, s, 1000, 20000);
    depot(f, s->node)->ops->slow(depot(f, s->node), between(&f->rng, 20000, 1500000));
    return true;
}

static bool begin_full(struct faults *f, struct slot *s)
{
    lasts(f, s, 1000, 20000);
    depot(f, s->node)->ops->full(depot(f, s->node), true);
    return true;
}

/* The old disk is gone; the operator forgets the old storage (`node replace`) and puts a new one in. */
static bool begin_wipe(struct faults *f, struct slot *s)
{
    if (f->wipes >= WIPES_MAX || simcoord_stopped(f->w->coord))
        return false;
    f->wipes++;
    lasts(f, s, 200, 8000);
    simnode_crash(node(f, s->node), true);
    f->w->stores[simnode_store(node(f, s->node))].gone = true;
    trace("---- s%u is gone", simnode_store(node(f, s->node)));
    check_held(f->w);
    forget_node(f, s->node);
    simnode_new_disk(node(f, s->node));
    return true;
}

/* Only where another storage has the message whole: two damaged copies of the same message are not what is tried. */
static bool begin_damage(struct faults *f, struct slot *s)
{
    struct world *w = f->w;
    uint32_t from = w->letters.n ? (uint32_t)rng_below(&f->rng, w->letters.n) : 0;
    for (uint32_t k = 0; k < w->letters.n; k++) {
        const struct letter *l = &w->letters.all[(from + k) % w->letters.n];
        uint32_t good = 0;
        for (uint32_t i = 0; i < w->stores_n; i++) {
            struct depot *d = w->stores[i].depot;
            good += !w->stores[i].gone && d->ops->has(d, l) == DEPOT_LIVE && !d->ops->damaged(d, l);
        }
        if (l->acked && good >= 2 && depot(f, s->node)->ops->damage(depot(f, s->node), l)) {
            trace("---- letter %u rots on s%u", l->number, simnode_store(node(f, s->node)));
            lasts(f, s, 1, 2);
            return true;
        }
    }
    return false;
}

static bool begin_clock(struct faults *f, struct slot *s)
{
    int64_t off = (int64_t)between(&f->rng, 0, chance(&f->rng, 50) ? 5 * SECOND_US : 100 * SECOND_US);
    lasts(f, s, 1, 2);
    simnode_set_clock(node(f, s->node), chance(&f->rng, 50) ? off : -off);
    return true;
}

static bool begin_pool(struct faults *f, struct slot *s)
{
    const struct plan *p = &f->w->plan;
    if (!p->dedicated)
        return false;
    lasts(f, s, 5000, 45000);
    for (uint32_t i = p->nodes - p->dedicated; i < p->nodes; i++)
        simnode_crash(node(f, i), chance(&f->rng, 50));
    return true;
}

static bool begin_drain(struct faults *f, struct slot *s)
{
    const struct map_node *n = node_key(f, s->node);
    if (!n || !n->live || n->state != NODE_ACTIVE || active_others(f, s->node) < f->w->plan.copies)
        return false;
    lasts(f, s, 3000, 60000);
    return set_node(f, s->node, NODE_DRAINING, 0);
}

static bool begin_cordon(struct faults *f, struct slot *s)
{
    const struct map_node *n = node_key(f, s->node);
    if (!n || n->state != NODE_ACTIVE)
        return false;
    lasts(f, s, 3000, 30000);
    return set_node(f, s->node, NODE_CORDONED, 0);
}

static bool begin_leave(struct faults *f, struct slot *s)
{
    for (uint32_t i = 0; i < f->w->plan.nodes; i++)
        if (simnode_state(node(f, i)) != SIMNODE_RUNNING || simnode_leaving(node(f, i)))
            return false;
    lasts(f, s, 500, 8000);
    simnode_leave(node(f, s->node));
    return true;
}

static bool begin_weight(struct faults *f, struct slot *s)
{
    const struct map_node *n = node_key(f, s->node);
    lasts(f, s, 1, 2);
    return n && set_node(f, s->node, n->state, (uint32_t)between(&f->rng, 20, 400));
}

static bool (*const begins[])(struct faults *f, struct slot *s) = {
    [FAULT_KILL] = begin_kill,   [FAULT_POWER] = begin_kill,    [FAULT_PAUSE] = begin_pause,
    [FAULT_CUT] = begin_cut,     [FAULT_ONEWAY] = begin_cut,    [FAULT_ISOLATE] = begin_isolate,
    [FAULT_RESET] = begin_reset, [FAULT_STOP] = begin_stop,     [FAULT_APART] = begin_apart,
    [FAULT_FLAKY] = begin_flaky, [FAULT_SLOW] = begin_slow,     [FAULT_FULL] = begin_full,
    [FAULT_WIPE] = begin_wipe,   [FAULT_DAMAGE] = begin_damage, [FAULT_CLOCK] = begin_clock,
    [FAULT_POOL] = begin_pool,   [FAULT_DRAIN] = begin_drain,   [FAULT_CORDON] = begin_cordon,
    [FAULT_LEAVE] = begin_leave, [FAULT_WEIGHT] = begin_weight,
};

/* ---- ends */

/* `node remove` of what is drained: the machine is switched off, and comes back as a new one. */
static void remove_node(struct faults *f, uint32_t i)
{
    trace("---- %s is removed", simnode_name(node(f, i)));
    simnode_crash(node(f, i), false);
    f->w->stores[simnode_store(node(f, i))].gone = true;
    check_held(f->w);
    forget_node(f, i);
    simnode_new_disk(node(f, i));
    simnode_start(node(f, i));
}

static void end_drain(struct faults *f, const struct slot *s)
{
    const struct map_node *n = node_key(f, s->node);
    if (!n || (n->state != NODE_DRAINING && n->state != NODE_DRAINED))
        return;
    if (n->state == NODE_DRAINED && simnode_claims(node(f, s->node)) == 0 && chance(&f->rng, 40))
        remove_node(f, s->node);
    else
        set_node(f, s->node, NODE_ACTIVE, 0);
}

static void end_cordon(struct faults *f, const struct slot *s)
{
    const struct map_node *n = node_key(f, s->node);
    if (n && n->state == NODE_CORDONED)
        set_node(f, s->node, NODE_ACTIVE, 0);
}

/* False: not over yet. */
static bool slot_end(struct faults *f, struct slot *s)
{
    const struct plan *p = &f->w->plan;
    switch (s->kind) {
    case FAULT_KILL:
    case FAULT_POWER:
    case FAULT_WIPE:
        simnode_start(node(f, s->node));
        break;
    case FAULT_PAUSE:
        simnode_pause(node(f, s->node), false);
        break;
    case FAULT_CUT:
    case FAULT_ONEWAY:
        simnet_cut(f->w->net, s->node, s->other, false);
        simnet_cut(f->w->net, s->other, s->node, false);
        break;
    case FAULT_ISOLATE:
        isolate(f, s, false);
        break;
    case FAULT_STOP:
        simcoord_stop(f->w->coord, false);
        break;
    case FAULT_APART:
        simcoord_cut(f->w->coord, s->node, false);
        break;
    case FAULT_FLAKY:
        simcoord_flaky(f->w->coord, 0);
        break;
    case FAULT_SLOW:
        depot(f, s->node)->ops->slow(depot(f, s->node), f->w->stores[simnode_store(node(f, s->node))].disk_us);
        break;
    case FAULT_FULL:
        depot(f, s->node)->ops->full(depot(f, s->node), false);
        break;
    case FAULT_POOL:
        for (uint32_t i = p->nodes - p->dedicated; i < p->nodes; i++)
            simnode_start(node(f, i));
        break;
    case FAULT_DRAIN:
        end_drain(f, s);
        break;
    case FAULT_CORDON:
        end_cordon(f, s);
        break;
    case FAULT_LEAVE:
        if (simnode_state(node(f, s->node)) != SIMNODE_OFF)
            return false;
        simnode_start(node(f, s->node));
        break;
    default:
        break;
    }
    return true;
}

static void slot_over(struct faults *f, struct slot *s)
{
    trace("---- end of %s (n%u, n%u)", kinds[s->kind].name, s->node, s->other);
    s->on = false;
    if (!kinds[s->kind].planned)
        world_fault_ends(f->w);
}

/* ---- drawing */

static enum fault draw(struct faults *f)
{
    uint32_t sum = 0;
    for (int i = 0; i < FAULT_COUNT; i++)
        sum += f->w->plan.weights[i];
    uint64_t at = rng_below(&f->rng, sum);
    int i = 0;
    while (at >= f->w->plan.weights[i])
        at -= f->w->plan.weights[i++];
    return (enum fault)i;
}

static bool node_busy(struct faults *f, uint32_t i)
{
    for (int k = 0; k < SLOTS_MAX; k++)
        if (f->slots[k].on && f->slots[k].node == i)
            return true;
    return false;
}

static void begin_one(struct faults *f)
{
    struct slot *s = NULL;
    for (int i = 0; i < SLOTS_MAX && !s; i++)
        s = f->slots[i].on ? NULL : &f->slots[i];
    if (!s)
        return;
    *s = (struct slot){.kind = draw(f), .node = any_node(f)};
    if (node_busy(f, s->node) && chance(&f->rng, 60))
        return;
    trace("---- %s (n%u)", kinds[s->kind].name, s->node);
    if (!kinds[s->kind].planned)
        world_fault_begins(f->w);
    s->on = begins[s->kind](f, s);
    if (!s->on)
        slot_over(f, s);
}

static void faults_run(void *arg)
{
    struct faults *f = arg;
    uint64_t now = f->w->now_us, next = UINT64_MAX;
    for (int i = 0; i < SLOTS_MAX; i++) {
        struct slot *s = &f->slots[i];
        if (s->on && s->end_us <= now && slot_end(f, s))
            slot_over(f, s);
        if (s->on)
            next = s->end_us > now ? (s->end_us < next ? s->end_us : next) : now + 100000;
    }
    if (!f->healed && now >= f->next_us) {
        begin_one(f);
        f->next_us = now + between(&f->rng, 1, 2 * f->w->plan.fault_gap_ms) * 1000;
        next = now + 1000;
    }
    if (!f->healed && f->next_us < next)
        next = f->next_us;
    actor_wake(f->actor, next);
}

void faults_start(struct faults *f)
{
    if (f->w->plan.fault_gap_ms == 0)
        return;
    f->next_us = f->w->now_us;
    actor_wake(f->actor, f->next_us);
}

/* Drains may go on, where enough others are there to take what is left. */
static void heal_nodes(struct faults *f)
{
    for (uint32_t i = 0; i < f->w->plan.nodes; i++) {
        const struct map_node *n = node_key(f, i);
        simnode_pause(node(f, i), false);
        simnode_start(node(f, i));
        if (n && n->state != NODE_ACTIVE && (active_others(f, i) < f->w->plan.copies || chance(&f->rng, 50)))
            set_node(f, i, NODE_ACTIVE, 0);
    }
}

void faults_heal(struct faults *f)
{
    trace("---- everything heals");
    f->healed = true;
    for (int i = 0; i < SLOTS_MAX; i++) {
        struct slot *s = &f->slots[i];
        if (s->on && s->kind != FAULT_DRAIN && slot_end(f, s))
            slot_over(f, s);
    }
    heal_nodes(f);
    actor_wake(f->actor, f->w->now_us);
}

void faults_open(struct faults **f_r, struct world *w)
{
    struct faults *f = calloc(1, sizeof *f);
    assert(f);
    f->w = w;
    rng_seed(&f->rng, rng_u64(&w->rng));
    f->actor = world_actor(w, faults_run, f);
    *f_r = f;
}

void faults_close(struct faults **f)
{
    free(*f);
    *f = NULL;
}
