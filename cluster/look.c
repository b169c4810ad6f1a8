/* look.c - what other threads want to know of the cores: copied by the cluster's thread. */
#include "cluster/cluster_impl.h"

enum { READ_WAIT_US = 10 * 1000000 };

struct look_status {
    struct call call;
    struct cluster_status st;
};

static void status_run(struct cluster *c, struct call *call)
{
    struct cluster_status *st = &((struct look_status *)call)->st;
    node_info(c->node, &st->node);
    st->now_us = clock_boot_us(c->clock);
    call_end(call, 0, NULL);
}

int cluster_status(struct cluster *c, struct cluster_status *st_r)
{
    struct look_status *l = call_new(sizeof *l, status_run);
    if (!l)
        return -SATCHEL_ENOMEM;
    int res = call_wait(c, &l->call, READ_WAIT_US);
    if (res == 0)
        *st_r = l->st;
    call_unref(&l->call);
    return res;
}

struct look_shards {
    struct call call;
    uint32_t first, n;
    struct cluster_shard_status st[];
};

static void shards_run(struct cluster *c, struct call *call)
{
    struct look_shards *l = (struct look_shards *)call;
    const struct cmap *map = node_map(c->node);
    for (uint32_t i = 0; i < l->n; i++) {
        uint32_t shard = l->first + i;
        if (!map || shard >= map->shards_n)
            break;
        l->st[i].state = node_shard(c->node, shard);
        l->st[i].synced = node_synced(c->node, shard);
        node_holds(c->node, shard, &l->st[i].messages, &l->st[i].bytes);
    }
    call_end(call, 0, NULL);
}

int cluster_shards(struct cluster *c, uint32_t first, uint32_t n, struct cluster_shard_status *st_r)
{
    struct look_shards *l = call_new(sizeof *l + n * sizeof *st_r, shards_run);
    if (!l)
        return -SATCHEL_ENOMEM;
    l->first = first;
    l->n = n;
    int res = call_wait(c, &l->call, READ_WAIT_US);
    if (res == 0 && n)
        memcpy(st_r, l->st, n * sizeof *st_r);
    call_unref(&l->call);
    return res;
}

struct look_peers {
    struct call call;
    size_t cap, n;
    struct cluster_peer_status st[];
};

static void peers_run(struct cluster *c, struct call *call)
{
    struct look_peers *l = (struct look_peers *)call;
    const struct cmap *map = node_map(c->node);
    for (uint32_t i = 0; map && i < map->nodes_n && l->n < l->cap; i++) {
        const struct map_node *m = &map->nodes[i];
        struct cluster_peer_status *st = &l->st[l->n];
        if (!c->peers->ops->info(c->peers, &m->storage, &st->info))
            continue; /* ourselves */
        memcpy(st->name, m->name, sizeof st->name);
        l->n++;
    }
    call_end(call, 0, NULL);
}

size_t cluster_peers(struct cluster *c, struct cluster_peer_status *st_r, size_t cap)
{
    struct look_peers *l = call_new(sizeof *l + cap * sizeof *st_r, peers_run);
    if (!l)
        return 0;
    l->cap = cap;
    size_t n = call_wait(c, &l->call, READ_WAIT_US) == 0 ? l->n : 0;
    memcpy(st_r, l->st, n * sizeof *st_r);
    call_unref(&l->call);
    return n;
}
