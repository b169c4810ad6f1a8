/* drain.c - "drained", said only when it is proven.
 *
 *   draining -> no shard names this storage, nothing live is here, nothing is owed, for HOLD_US
 *            -> coordination lists all shards: none names it
 *            -> CAS nodes/NAME state = drained, if the node's key is as it was when the list was asked for */
#include "cluster/own/owner_impl.h"

#include "spool/base/err.h"
#include "spool/base/log.h"

#include <stdio.h>
#include <stdlib.h>

enum { LOOK_US = 500000, HOLD_US = 2000000 };

static bool names_us(const struct owner *o, const struct map_shard *m)
{
    return storage_id_eq(&m->owner, &o->cfg.self) || storage_id_eq(&m->next, &o->cfg.self) ||
           cmap_is_member(m, &o->cfg.self) || cmap_is_former(m, &o->cfg.self);
}

static bool is_empty(const struct owner *o)
{
    struct storage_stat st;
    struct copies_info c;
    for (uint32_t i = 0; i < o->map->shards_n; i++)
        if (names_us(o, &o->map->shards[i]))
            return false;
    o->env.storage->ops->stat(o->env.storage, &st);
    copies_info(o->env.copies, &c);
    return st.messages == 0 && st.tombs_owed == 0 && c.states_unpushed == 0 && c.requests == 0;
}

/* ---- the two calls */

static void on_drained(void *arg, int res, bool succeeded, int64_t rev)
{
    struct owner *o = arg;
    (void)rev;
    o->drain_asked = false;
    if (res == -SATCHEL_ESHUT)
        return;
    if (res == 0 && succeeded)
        log_info("owner.drained", "node=%s", o->cfg.node);
    o->env.changed(o->env.arg);
    owner_wake(o, o->drain_us);
}

static void say_drained(struct owner *o)
{
    const struct map_node *n = cmap_storage(o->map, &o->cfg.self);
    if (!n || n->state != NODE_DRAINING || n->mod_rev != o->drain_rev)
        return;
    struct map_node now = *n;
    char key[CMAP_KEY_MAX];
    now.state = NODE_DRAINED;
    char *value = cmap_node_encode(&now);
    if (!value)
        return;
    snprintf(key, sizeof key, "nodes/%s", n->name);
    struct coord_cmp cmp = {slice_str(key), n->mod_rev};
    struct coord_op op = {.kind = COORD_PUT, .key = slice_str(key), .value = slice_str(value)};
    o->drain_asked = o->env.coord->ops->txn(o->env.coord, &cmp, 1, &op, 1, on_drained, o) == 0;
    free(value);
}

static void on_shards(void *arg, int res, int64_t rev, const struct coord_kv *kvs, size_t n)
{
    struct owner *o = arg;
    char id[STORAGE_ID_TEXT_MAX];
    (void)rev;
    o->drain_asked = false;
    owner_wake(o, o->drain_us);
    if (res < 0)
        return;
    storage_id_format(&o->cfg.self, id);
    for (size_t i = 0; i < n; i++)
        if (memmem(kvs[i].value.p, kvs[i].value.n, id, strlen(id)))
            return; /* the map is old; it will show that */
    if (is_empty(o))
        say_drained(o);
}

static void prove(struct owner *o, const struct map_node *n)
{
    o->drain_rev = n->mod_rev;
    o->drain_asked = o->env.coord->ops->list(o->env.coord, SLICE_LIT("shards/"), on_shards, o) == 0;
}

void drain_tick(struct owner *o, uint64_t now)
{
    const struct map_node *n = cmap_storage(o->map, &o->cfg.self);
    if (!n || n->state != NODE_DRAINING) {
        o->drain_since_us = 0;
        return;
    }
    if (now >= o->drain_us && !o->drain_asked) {
        o->drain_us = now + LOOK_US;
        if (!is_empty(o))
            o->drain_since_us = 0;
        else if (!o->drain_since_us)
            o->drain_since_us = now;
        else if (now - o->drain_since_us >= HOLD_US)
            prove(o, n);
    }
    owner_wake(o, o->drain_us > now ? o->drain_us : now + LOOK_US);
}
