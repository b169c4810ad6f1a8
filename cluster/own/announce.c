/* announce.c - the bags of shards that were just granted are made ready: the relay hears of them.
 *
 * One walk over all bags serves all shards granted since the last; names are kept and told in slices, so that a million
 * bags do not hold up the cluster's thread. */
#include "cluster/own/owner_impl.h"

#include <stdlib.h>

enum { WALK_GAP_US = 20000, SLICE_NAMES = 2000 };

void names_add(struct own_names *l, struct slice domain)
{
    if (domain.n > 255)
        return;
    if (l->cap - l->n < domain.n + 1) {
        size_t cap = l->cap ? l->cap * 2 : 4096;
        uint8_t *p = realloc(l->bytes, cap);
        if (!p)
            abort(); /* a bag that nobody hears of would wait for ever */
        l->bytes = p;
        l->cap = cap;
    }
    l->bytes[l->n++] = (uint8_t)domain.n;
    memcpy(l->bytes + l->n, domain.p, domain.n);
    l->n += domain.n;
}

static void keep_name(void *arg, struct slice domain, const struct bag_stat *st)
{
    struct owner *o = arg;
    uint32_t i = gate_shard_of(o->env.gate, domain);
    (void)st;
    if (i < o->shards_n && o->shards[i].announce)
        names_add(&o->names, domain);
}

static void walk(struct owner *o, uint64_t now)
{
    o->env.storage->ops->bags(o->env.storage, keep_name, o);
    for (uint32_t i = 0; i < o->shards_n; i++)
        o->shards[i].announce = false;
    o->announcing = false;
    o->announce_us = now + WALK_GAP_US;
}

static void tell(struct owner *o)
{
    struct own_names *l = &o->names;
    for (uint32_t k = 0; k < SLICE_NAMES && l->at < l->n; k++) {
        uint8_t n = l->bytes[l->at];
        o->env.storage->ops->ready(o->env.storage, slice_of(l->bytes + l->at + 1, n));
        l->at += 1u + n;
    }
    if (l->at < l->n)
        return;
    free(l->bytes);
    *l = (struct own_names){0};
}

void announce_tick(struct owner *o, uint64_t now)
{
    if (o->announcing && now >= o->announce_us)
        walk(o, now);
    tell(o);
    if (o->names.n)
        owner_wake(o, 0);
    else if (o->announcing)
        owner_wake(o, o->announce_us);
}
