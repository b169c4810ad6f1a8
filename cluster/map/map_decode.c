/* map_decode.c - from a list of keys to a map.
 *
 * Two passes: the first counts nodes and reads pools (they say how many shards there are), the second fills in.  Keys
 * come sorted, so nodes and pools do, too. */
#include <stdio.h>

#include "cluster/map/map_impl.h"
#include "spool/base/err.h"
#include "spool/base/log.h"

#define MAP_SHARDS_MAX (1u << 20) /* of all pools */

struct decode {
    const struct coord_kv *kvs;
    size_t n;
    struct map_pool *pools; /* POOLS_MAX, in the first pass */
    uint32_t pools_n, nodes_n;
    const struct cmap *before; /* NULL: none */
    char *why;
};

static bool under(struct slice key, const char *dir, struct slice *rest_r)
{
    size_t n = strlen(dir);
    if (key.n <= n || memcmp(key.p, dir, n) != 0)
        return false;
    *rest_r = slice_of(key.p + n, key.n - n);
    return true;
}

static int refuse(const struct decode *d, struct slice key, const char *what)
{
    char quoted[160];
    snprintf(d->why, 256, "%s: %s", log_quote(key, quoted, sizeof quoted), what);
    return -SATCHEL_EINVAL;
}

static bool node_key(struct slice key, const char *dir, struct slice *name_r)
{
    return under(key, dir, name_r) && cmap_name_valid(*name_r, NODE_NAME_MAX);
}

static int pool_count(struct decode *d, const struct coord_kv *kv, struct slice name)
{
    char why[128];
    if (d->pools_n == POOLS_MAX)
        return refuse(d, kv->key, "one pool too many");
    struct map_pool *p = &d->pools[d->pools_n];
    *p = (struct map_pool){.mod_rev = kv->mod_rev, .create_rev = kv->create_rev};
    if (map_json_pool(kv->value, p, why) < 0)
        return refuse(d, kv->key, why);
    memcpy(p->name, name.p, name.n);
    d->pools_n++;
    return 0;
}

static int count(struct decode *d)
{
    struct slice name;
    for (size_t i = 0; i < d->n; i++) {
        const struct coord_kv *kv = &d->kvs[i];
        if (node_key(kv->key, "nodes/", &name) && ++d->nodes_n > NODES_MAX)
            return refuse(d, kv->key, "one node too many");
        if (under(kv->key, "pools/", &name) && cmap_name_valid(name, POOL_NAME_MAX) && pool_count(d, kv, name) < 0)
            return -SATCHEL_EINVAL;
    }
    return 0;
}

/* "POOL/00042" of a pool that is there. */
static struct map_shard *shard_at(const struct cmap *m, struct slice rest)
{
    const uint8_t *slash = memchr(rest.p, '/', rest.n);
    const struct map_pool *p = slash ? cmap_pool(m, slice_of(rest.p, (size_t)(slash - rest.p))) : NULL;
    size_t digits = slash ? (size_t)(rest.p + rest.n - slash) - 1 : 0;
    if (!p || digits != 5)
        return NULL;
    uint32_t number = 0;
    for (size_t i = 1; i <= digits; i++) {
        if (slash[i] < '0' || slash[i] > '9')
            return NULL;
        number = number * 10 + (uint32_t)(slash[i] - '0');
    }
    return number < p->shards ? &m->shards[p->first + number] : NULL;
}

/* The same key at the same revision has the same value. */
static bool shard_take(const struct cmap *before, const struct cmap *m, const struct coord_kv *kv, struct map_shard *s)
{
    uint32_t pool = s->pool, number = s->number;
    const struct map_pool *p = before ? cmap_pool(before, slice_str(m->pools[pool].name)) : NULL;
    if (!p || number >= p->shards || before->shards[p->first + number].mod_rev != kv->mod_rev)
        return false;
    *s = before->shards[p->first + number];
    s->pool = pool;
    return true;
}

static int fill_shard(struct decode *d, const struct cmap *m, const struct coord_kv *kv, struct slice rest)
{
    char why[128];
    struct map_shard *s = shard_at(m, rest);
    if (!s || shard_take(d->before, m, kv, s))
        return 0;
    if (map_json_shard(kv->value, s, why) < 0)
        return refuse(d, kv->key, why);
    s->mod_rev = kv->mod_rev;
    return 0;
}

static int fill_node(struct decode *d, struct map_node *n, const struct coord_kv *kv, struct slice name)
{
    char why[128];
    if (map_json_node(kv->value, n, why) < 0)
        return refuse(d, kv->key, why);
    memcpy(n->name, name.p, name.n);
    n->mod_rev = kv->mod_rev;
    return 0;
}

/* Live is who stands under this name with this storage: a name that another disk has taken is not. */
static int fill_live(struct decode *d, struct cmap *m, const struct coord_kv *kv, struct slice name)
{
    char why[128], text[NODE_NAME_MAX] = "";
    struct map_live live;
    memcpy(text, name.p, name.n);
    struct map_node *n = (struct map_node *)cmap_node(m, text);
    if (map_json_live(kv->value, &live, why) < 0)
        return refuse(d, kv->key, why);
    if (!n || !storage_id_eq(&n->storage, &live.storage))
        return 0;
    n->live = true;
    n->boot = live.boot;
    n->proto = live.proto;
    return 0;
}

static int fill_meta(struct decode *d, struct cmap *m, const struct coord_kv *kv)
{
    char why[128];
    struct map_meta meta;
    if (map_json_meta(kv->value, &meta, why) < 0)
        return refuse(d, kv->key, why);
    m->cluster = meta.cluster;
    m->version = meta.version;
    m->repair_delay_s = meta.repair_delay_s;
    m->meta_mod_rev = kv->mod_rev;
    return 0;
}

static int fill_leader(struct decode *d, struct cmap *m, const struct coord_kv *kv)
{
    char why[128];
    if (map_json_leader(kv->value, m->leader, why) < 0)
        return refuse(d, kv->key, why);
    m->leader_mod_rev = kv->mod_rev;
    return 0;
}

static int fill_nodes(struct decode *d, struct cmap *m)
{
    uint32_t at = 0;
    struct slice name;
    for (size_t i = 0; i < d->n; i++)
        if (node_key(d->kvs[i].key, "nodes/", &name) && fill_node(d, &m->nodes[at++], &d->kvs[i], name) < 0)
            return -SATCHEL_EINVAL;
    return 0;
}

static int fill_rest(struct decode *d, struct cmap *m)
{
    int res = 0;
    struct slice rest;
    for (size_t i = 0; i < d->n && res == 0; i++) {
        const struct coord_kv *kv = &d->kvs[i];
        if (under(kv->key, "shards/", &rest))
            res = fill_shard(d, m, kv, rest);
        else if (node_key(kv->key, "live/", &rest))
            res = fill_live(d, m, kv, rest);
        else if (slice_eq(kv->key, SLICE_LIT("meta")))
            res = fill_meta(d, m, kv);
        else if (slice_eq(kv->key, SLICE_LIT("leader")))
            res = fill_leader(d, m, kv);
    }
    return res;
}

static void number_shards(struct cmap *m)
{
    for (uint32_t p = 0; p < m->pools_n; p++)
        for (uint32_t i = 0; i < m->pools[p].shards; i++) {
            m->shards[m->pools[p].first + i].pool = p;
            m->shards[m->pools[p].first + i].number = i;
        }
}

static int build(struct decode *d, int64_t rev, const struct cmap **map_r)
{
    cmap_sort_pools(d->pools, d->pools_n); /* in the cached file they come in the order of their shards */
    uint32_t shards = cmap_lay_out(d->pools, d->pools_n);
    if (shards > MAP_SHARDS_MAX)
        return refuse(d, SLICE_LIT("pools/"), "more than 1,048,576 shards in all");
    struct cmap *m = cmap_new(d->nodes_n, d->pools_n, shards);
    if (!m) {
        snprintf(d->why, 256, "no memory for a map of %u shards", shards);
        return -SATCHEL_ENOMEM;
    }
    if (d->pools_n)
        memcpy(m->pools, d->pools, d->pools_n * sizeof *d->pools);
    m->rev = rev;
    m->version = 1;
    m->repair_delay_s = 60;
    number_shards(m);
    int res = fill_nodes(d, m);
    if (res == 0)
        res = fill_rest(d, m);
    if (res < 0)
        cmap_unref(m);
    else
        *map_r = cmap_finish(m);
    return res;
}

int cmap_decode_after(const struct coord_kv *kvs, size_t n, int64_t rev, const struct cmap *before,
                      const struct cmap **map_r, char *why_r)
{
    struct map_pool pools[POOLS_MAX];
    struct decode d = {.kvs = kvs, .n = n, .pools = pools, .before = before, .why = why_r};
    int res = count(&d);
    return res < 0 ? res : build(&d, rev, map_r);
}

int cmap_decode(const struct coord_kv *kvs, size_t n, int64_t rev, const struct cmap **map_r, char *why_r)
{
    return cmap_decode_after(kvs, n, rev, NULL, map_r, why_r);
}
