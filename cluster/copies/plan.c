/* plan.c - which storages take a message.
 *
 * All members of its shard that are linked; where these are fewer than the pool's copies, stand-ins: linked, active
 * nodes of the pool (then of its fallback), best rendezvous score of shard and storage first, so that a shard's
 * stand-ins are the same few nodes whoever asks.
 *
 * A message of many records keeps the storages of its first one: a storage that missed a chunk cannot have the message.
 * Its MSG record goes to a storage only when that one has acked all chunks, so nowhere is there a live message with a
 * hole in it, whatever was lost on the way. */
#include "cluster/copies/copies_impl.h"

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9ull;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

static uint64_t score(const struct cshard *s, const struct storage_id *id)
{
    uint64_t a, b;
    memcpy(&a, id->b, 8);
    memcpy(&b, id->b + 8, 8);
    return mix(mix(a + s->name_hash) + b);
}

static bool used_has(const struct storage_id *used, size_t n, const struct storage_id *id)
{
    for (size_t i = 0; i < n; i++)
        if (storage_id_eq(&used[i], id))
            return true;
    return false;
}

static bool standin_of(const struct copies *c, uint32_t shard, const char *pool, const struct storage_id *used,
                       size_t used_n, struct storage_id *to_r)
{
    const struct map_node *best = NULL;
    uint64_t best_score = 0;
    for (uint32_t i = 0; i < c->map->nodes_n; i++) {
        const struct map_node *n = &c->map->nodes[i];
        if (n->state != NODE_ACTIVE || strcmp(n->pool, pool) != 0 || !peer_up(c, &n->storage) ||
            used_has(used, used_n, &n->storage))
            continue;
        uint64_t s = score(&c->shards[shard], &n->storage);
        if (!best || s > best_score) {
            best = n;
            best_score = s;
        }
    }
    if (best)
        *to_r = best->storage;
    return best != NULL;
}

bool plan_standin(const struct copies *c, uint32_t shard, const struct storage_id *used, size_t used_n,
                  struct storage_id *to_r)
{
    if (shard >= c->shards_n)
        return false;
    const struct map_pool *pool = cmap_shard_pool(c->map, c->shards[shard].map);
    return standin_of(c, shard, pool->name, used, used_n, to_r) ||
           (pool->fallback[0] && standin_of(c, shard, pool->fallback, used, used_n, to_r));
}

uint32_t plan_choose(const struct copies *c, uint32_t shard, struct storage_id to_r[LEGS_MAX])
{
    const struct map_shard *s = c->shards[shard].map;
    uint32_t n = 0, copies = cmap_shard_pool(c->map, s)->copies;
    for (uint32_t i = 0; i < s->members_n; i++)
        if (peer_up(c, &s->members[i]))
            to_r[n++] = s->members[i];
    while (s->members_n && n < copies && n < REC_COPYSET_MAX && plan_standin(c, shard, to_r, n, &to_r[n]))
        n++;
    return n;
}

/* ---- messages of many records */

static struct dlist *plan_chain(struct copies *c, const struct msgid *id)
{
    return &c->plans[(id->counter ^ id->incarnation[0]) & 255];
}

struct plan *plan_find(struct copies *c, const struct msgid *id)
{
    struct dlist *it, *tmp;
    dlist_each(it, tmp, plan_chain(c, id))
    {
        struct plan *p = dlist_of(it, struct plan, link);
        if (msgid_eq(&p->id, id))
            return p;
    }
    return NULL;
}

struct plan *plan_new(struct copies *c, const struct msgid *id, uint32_t shard)
{
    struct plan *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->id = *id;
    p->shard = shard;
    p->need = cmap_shard_pool(c->map, c->shards[shard].map)->acks;
    p->n = plan_choose(c, shard, p->to);
    p->refs = 1;
    p->touched_us = copies_now(c);
    dlist_add(plan_chain(c, id), &p->link);
    return p;
}

int plan_index(const struct plan *p, const struct storage_id *to)
{
    for (uint32_t i = 0; i < p->n; i++)
        if (storage_id_eq(&p->to[i], to))
            return (int)i;
    return -1;
}

/* The last reference is given back when nothing of it is under way and its last record came. */
void plan_unref(struct copies *c, struct plan *p)
{
    (void)c;
    if (--p->refs)
        return;
    dlist_del(&p->link);
    free(p);
}

/* A client's connection may end without a word to us: no plan lives for ever. */
void plans_tick(struct copies *c, uint64_t now)
{
    struct dlist *it, *tmp;
    for (int i = 0; i < 256; i++)
        dlist_each(it, tmp, &c->plans[i])
        {
            struct plan *p = dlist_of(it, struct plan, link);
            if (p->refs == 1 && !p->over && now - p->touched_us > PLAN_IDLE_US)
                plan_unref(c, p);
        }
}

void plans_close(struct copies *c)
{
    struct dlist *it, *tmp;
    for (int i = 0; i < 256; i++)
        dlist_each(it, tmp, &c->plans[i])
        {
            dlist_del(it);
            free(dlist_of(it, struct plan, link));
        }
}
