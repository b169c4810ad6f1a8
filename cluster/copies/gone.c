/* gone.c - storages that left the cluster for good are owed nothing.
 *
 * A record names the storages it was put on, and one of them may be wiped or removed before the message ends: the end
 * is then owed to somebody who never answers, and its tombstone would stay for ever.  A storage that no map knew at two
 * looks, LOOK_US apart, is gone: one that registers is in our map within seconds, and its UUID never comes back. */
#include "cluster/copies/copies_impl.h"

enum { LOOK_US = 30000000, LOOK_ENTRIES = 4096, GONE_MAX = 16 };

struct gone {
    struct {
        struct storage_id id;
        uint64_t since_us;
    } each[GONE_MAX]; /* not registered */
    uint32_t n, looked;
    struct msgid after; /* counter 0: from the start */
    uint64_t at_us;
};

static void gone_note(struct copies *c, struct gone *g, const uint8_t *uuid)
{
    struct storage_id id;
    memcpy(id.b, uuid, sizeof id.b);
    if (copies_is_self(c, &id) || storage_registered(c, &id))
        return;
    for (uint32_t i = 0; i < g->n; i++)
        if (storage_id_eq(&g->each[i].id, &id))
            return;
    if (g->n == GONE_MAX)
        return;
    g->each[g->n].id = id;
    g->each[g->n++].since_us = copies_now(c);
}

static bool gone_each(void *arg, const struct storage_state *st)
{
    struct copies *c = arg;
    for (size_t i = 0; i + 16 <= st->owed.n; i += 16)
        gone_note(c, c->gone, st->owed.p + i);
    c->gone->after = st->id;
    return ++c->gone->looked < LOOK_ENTRIES;
}

static void gone_retire(struct copies *c, struct gone *g, uint64_t now)
{
    for (uint32_t i = 0; i < g->n; i++) {
        bool back = storage_registered(c, &g->each[i].id);
        if (!back && now - g->each[i].since_us < LOOK_US)
            continue;
        if (!back)
            c->env.storage->ops->retire(c->env.storage, &g->each[i].id);
        g->each[i--] = g->each[--g->n];
    }
}

void gone_tick(struct copies *c, uint64_t now)
{
    struct storage_stat stat;
    if (!c->map || c->map->nodes_n == 0)
        return;
    if (!c->gone && !(c->gone = calloc(1, sizeof *c->gone)))
        return;
    struct gone *g = c->gone;
    if (now < g->at_us) {
        copies_wake(c, g->at_us);
        return;
    }
    gone_retire(c, g, now);
    c->env.storage->ops->stat(c->env.storage, &stat);
    g->looked = 0;
    if (stat.tombs_owed)
        c->env.storage->ops->owed(c->env.storage, NULL, g->after.counter ? &g->after : NULL, gone_each, c);
    if (g->looked < LOOK_ENTRIES)
        g->after = (struct msgid){.counter = 0};
    g->at_us = now + LOOK_US;
    copies_wake(c, g->at_us);
}

void gone_close(struct copies *c)
{
    free(c->gone);
    c->gone = NULL;
}
