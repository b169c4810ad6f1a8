/* depot_model.c - the model of a storage: a table of copies, and a queue of changes that are not durable yet.
 *
 * A change is visible when it is durable, in the order in which it was handed in, as with the log and the queue of the
 * product.  A crash keeps a seeded prefix of what was under way.
 *
 *   model_copies.c   the table          model_storage.c   the storage door
 *   model_changes.c  what changes it    model_outlet.c    the outlet door */
#include "tests/csim/model_impl.h"

static int model_boot(struct depot *d, const struct depot_env *env)
{
    struct model *m = of(d);
    assert(!m->running);
    d->outlet = model_outlet_open(m);
    d->storage = &m->storage;
    m->env = *env;
    m->running = true;
    m->hot = (1u << WORLD_DOMAINS) - 1;
    for (uint32_t i = 0; i < m->order_n; i++)
        m->storage.ops->observe(&m->storage, model_letter_at(m, m->order[i])->arrival_us);
    return 0;
}

static void model_crash(struct depot *d, bool power)
{
    struct model *m = of(d);
    size_t n = 0, kept;
    m->dying = true;
    for (struct op *o = m->ops; o; o = o->next)
        n++;
    kept = power ? rng_below(&m->rng, n + 1) : chance(&m->rng, 60) ? n : rng_below(&m->rng, n + 1);
    for (size_t i = 0; m->ops; i++) {
        struct op *o = model_op_pop(m);
        if (i < kept)
            model_do(m, o);
        model_op_end(o, -SATCHEL_ESHUT);
    }
    for (uint32_t i = 0; i < model_world(m)->letters.n; i++)
        if (m->copies[i])
            m->copies[i]->claimed = m->copies[i]->over = false;
    m->dying = m->running = false;
    m->tap = NULL;
    m->last_due_us = 0;
    d->arrival_us = 0;
}

static enum depot_has model_has(struct depot *d, const struct letter *l)
{
    const struct copy *c = of(d)->copies[l->number];
    if (!c || c->what == COPY_NONE || (c->what == COPY_LIVE && !model_copy_whole(c)))
        return DEPOT_NONE;
    return c->what == COPY_LIVE ? DEPOT_LIVE : DEPOT_FINAL;
}

static bool model_over(struct depot *d, const struct letter *l)
{
    const struct copy *c = of(d)->copies[l->number];
    return c && c->over;
}

static bool model_damage(struct depot *d, const struct letter *l)
{
    struct copy *c = of(d)->copies[l->number];
    if (!c || c->what != COPY_LIVE || c->claimed)
        return false;
    c->damaged = true;
    return true;
}

static bool model_damaged(struct depot *d, const struct letter *l)
{
    const struct copy *c = of(d)->copies[l->number];
    return c && c->damaged;
}

static void model_slow(struct depot *d, uint64_t us)
{
    of(d)->slow_us = us;
}

static void model_full(struct depot *d, bool full)
{
    of(d)->full = full;
}

static uint64_t model_next(struct depot *d)
{
    return of(d)->ops ? of(d)->ops->due_us : UINT64_MAX;
}

static void model_destroy(struct depot **dp)
{
    struct model *m = of(*dp);
    assert(!m->ops);
    for (uint32_t i = 0; i < LETTERS_MAX; i++)
        if (m->copies[i]) {
            model_copy_empty(m->copies[i]);
            free(m->copies[i]);
        }
    free(m);
    *dp = NULL;
}

static const struct depot_ops depot_ops = {
    .boot = model_boot,
    .crash = model_crash,
    .has = model_has,
    .over = model_over,
    .damage = model_damage,
    .damaged = model_damaged,
    .slow = model_slow,
    .full = model_full,
    .next_us = model_next,
    .destroy = model_destroy,
};

struct depot *depot_model_open(struct world *w, uint32_t number, const struct storage_id *id)
{
    struct model *m = calloc(1, sizeof *m);
    assert(m);
    m->depot = (struct depot){.ops = &depot_ops, .w = w, .number = number};
    m->storage = (struct storage){&model_storage_ops, -1};
    m->id = *id;
    m->ops_tail = &m->ops;
    rng_seed(&m->rng, rng_u64(&w->rng));
    m->depot.tombs_go = chance(&m->rng, 30);
    m->tomb_us = between(&m->rng, 30, 90) * SECOND_US;
    return &m->depot;
}
