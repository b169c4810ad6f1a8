/* assign.c - satchel-assign: the assignment in figures: time, movement and balance at several sizes, and what the map
 * costs coordination.  The figures of docs/scale.md.
 *
 *   satchel-assign [SEED] */
#include "cluster/map/assign.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "spool/base/rng.h"

struct fleet {
    struct map_node *nodes;
    struct map_pool pool;
    struct cmap draft;
    uint32_t domains;
};

static void *need(void *p)
{
    if (p)
        return p;
    perror("satchel-assign");
    exit(1);
}

static void node_make(struct map_node *n, uint32_t i, uint32_t zones, struct rng *rng)
{
    *n = (struct map_node){.weight = 100, .live = true, .mod_rev = 1};
    snprintf(n->name, sizeof n->name, "node%04u", i);
    snprintf(n->address, sizeof n->address, "10.%u.%u.%u:7400", i >> 16, i >> 8 & 255, i & 255);
    snprintf(n->admin, sizeof n->admin, "10.%u.%u.%u:7401", i >> 16, i >> 8 & 255, i & 255);
    snprintf(n->zone, sizeof n->zone, "zone%02u", i % zones);
    snprintf(n->pool, sizeof n->pool, "%s", POOL_SHARED);
    for (size_t b = 0; b < sizeof n->storage.b; b++)
        n->storage.b[b] = (uint8_t)rng_u64(rng);
}

static void fleet_make(struct fleet *f, uint32_t nodes, uint32_t shards, uint32_t domains, struct rng *rng)
{
    *f = (struct fleet){.domains = domains};
    f->nodes = need(calloc(nodes, sizeof *f->nodes));
    for (uint32_t i = 0; i < nodes; i++)
        node_make(&f->nodes[i], i, nodes < 10 ? 3 : 10, rng);
    f->pool = (struct map_pool){.name = POOL_SHARED, .copies = 3, .acks = 2, .shards = shards, .mod_rev = 1};
    f->draft = (struct cmap){.rev = 1, .nodes = f->nodes, .nodes_n = nodes, .pools = &f->pool, .pools_n = 1};
    f->draft.shards = need(calloc(shards, sizeof *f->draft.shards));
    f->draft.shards_n = shards;
    for (uint32_t i = 0; i < shards; i++)
        f->draft.shards[i].number = i;
}

/* Assigns, and takes the plan as done; returns the microseconds. */
static uint64_t assign(struct fleet *f, const bool *lost, struct assign_stat *stat)
{
    const struct cmap *m = need((void *)cmap_copy(&f->draft));
    struct assign_want *want = need(calloc(m->shards_n, sizeof *want));
    struct assign_input in = {m, lost};
    uint64_t before = clock_boot_us(clock_system());
    if (assign_compute(&in, want, stat) < 0)
        need(NULL);
    uint64_t took = clock_boot_us(clock_system()) - before;
    for (uint32_t i = 0; i < m->shards_n; i++) {
        struct map_shard *s = &f->draft.shards[i];
        s->owner = want[i].owner;
        s->members_n = want[i].members_n;
        memcpy(s->members, want[i].members, sizeof s->members);
        s->mod_rev = 1;
        s->epoch = 1;
    }
    cmap_unref(m);
    free(want);
    return took;
}

/* Hashes made-up names to their shards; most owned by one node, as a part of the mean. */
static double domains_spread(struct fleet *f, uint64_t *took_us)
{
    const struct cmap *m = need((void *)cmap_copy(&f->draft));
    uint32_t *owned = need(calloc(m->nodes_n, sizeof *owned)), most = 0;
    char name[64];
    uint64_t before = clock_boot_us(clock_system());
    for (uint32_t i = 0; i < f->domains; i++) {
        int n = snprintf(name, sizeof name, "customer-%u.example", i);
        uint32_t shard = cmap_shard_of(m, SLICE_LIT(POOL_SHARED), slice_of(name, (size_t)n));
        owned[cmap_storage(m, &m->shards[shard].owner) - m->nodes]++;
    }
    *took_us = clock_boot_us(clock_system()) - before;
    for (uint32_t i = 0; i < m->nodes_n; i++)
        most = owned[i] > most ? owned[i] : most;
    double spread = most / ((double)f->domains / m->nodes_n);
    cmap_unref(m);
    free(owned);
    return spread;
}

static double owners_spread(const struct fleet *f)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < f->draft.nodes_n; i++) {
        uint32_t n = 0;
        for (uint32_t s = 0; s < f->draft.shards_n; s++)
            n += storage_id_eq(&f->draft.shards[s].owner, &f->nodes[i].storage);
        most = n > most ? n : most;
    }
    return most / ((double)f->draft.shards_n / f->draft.nodes_n);
}

struct cost {
    uint64_t bytes, small, decode_us; /* keys and values of the map; of them without shards; time to decode them */
};

static struct coord_kv kv_make(char *value, const char *dir, const char *name)
{
    struct coord_kv kv = {.value = slice_str(need(value)), .mod_rev = 1};
    char *key;
    kv.key.n = (size_t)asprintf(&key, "%s%s", dir, name);
    kv.key.p = need(key);
    return kv;
}

/* All keys of a map, sorted. */
static size_t kvs_make(const struct cmap *m, struct coord_kv *kvs_r)
{
    char key[CMAP_KEY_MAX];
    size_t n = 0;
    for (uint32_t i = 0; i < m->nodes_n; i++)
        kvs_r[n++] = kv_make(cmap_live_encode(&m->nodes[i], 1800000000000000), "live/", m->nodes[i].name);
    for (uint32_t i = 0; i < m->nodes_n; i++)
        kvs_r[n++] = kv_make(cmap_node_encode(&m->nodes[i]), "nodes/", m->nodes[i].name);
    kvs_r[n++] = kv_make(cmap_pool_encode(&m->pools[0]), "pools/", m->pools[0].name);
    for (uint32_t i = 0; i < m->shards_n; i++) {
        cmap_shard_key(m, &m->shards[i], key);
        kvs_r[n++] = kv_make(cmap_shard_encode(&m->shards[i]), key, "");
    }
    return n;
}

static struct cost map_cost(const struct fleet *f)
{
    const struct cmap *m = need((void *)cmap_copy(&f->draft)), *back = NULL;
    struct coord_kv *kvs = need(calloc(2 * m->nodes_n + m->shards_n + 1, sizeof *kvs));
    struct cost c = {0};
    char why[256];
    size_t n = kvs_make(m, kvs);
    uint64_t before = clock_boot_us(clock_system());
    if (cmap_decode(kvs, n, 1, &back, why) < 0)
        need(NULL);
    c.decode_us = clock_boot_us(clock_system()) - before;
    for (size_t i = 0; i < n; i++) {
        c.bytes += kvs[i].key.n + kvs[i].value.n;
        c.small += i <= 2 * (size_t)m->nodes_n ? kvs[i].key.n + kvs[i].value.n : 0;
        free((void *)kvs[i].key.p);
        free((void *)kvs[i].value.p);
    }
    free(kvs);
    cmap_unref(back);
    cmap_unref(m);
    return c;
}

/* One node leaves for good.  What must move: what it had. */
static void leave(struct fleet *f, bool *lost, struct assign_stat *stat, uint64_t *copies_min, uint64_t *owners_min)
{
    uint32_t gone = f->draft.nodes_n / 2;
    *copies_min = *owners_min = 0;
    for (uint32_t i = 0; i < f->draft.shards_n; i++) {
        *copies_min += cmap_is_member(&f->draft.shards[i], &f->nodes[gone].storage);
        *owners_min += storage_id_eq(&f->draft.shards[i].owner, &f->nodes[gone].storage);
    }
    lost[gone] = true;
    f->nodes[gone].live = false;
    assign(f, lost, stat);
}

static void row(uint32_t nodes, uint32_t shards, uint32_t domains, struct rng *rng)
{
    struct fleet f;
    struct assign_stat stat;
    uint64_t copies_min, owners_min, hash_us;
    bool *lost = need(calloc(nodes, sizeof *lost));
    fleet_make(&f, nodes, shards, domains, rng);
    uint64_t took = assign(&f, lost, &stat);
    double owners = owners_spread(&f), spread = domains_spread(&f, &hash_us);
    struct cost c = map_cost(&f);
    leave(&f, lost, &stat, &copies_min, &owners_min);
    printf("%5u %6u %9u %8.1f %8.1f %8.3f %8.3f %9.3f %9.3f %9" PRIu64 " %8" PRIu64 " %8.1f\n", nodes, shards, domains,
           (double)took / 1e3, (double)hash_us / 1e3, owners, spread, (double)stat.copies_moved / (double)copies_min,
           (double)stat.owners_moved / (double)owners_min, c.bytes, c.small, (double)c.decode_us / 1e3);
    free(f.nodes);
    free(f.draft.shards);
    free(lost);
}

int main(int argc, char **argv)
{
    struct rng rng;
    rng_seed(&rng, argc > 1 ? strtoull(argv[1], NULL, 10) : 1);
    puts("nodes shards   domains   assign     hash   owners  domains    copies    owners       map  without   decode\n"
         "                             ms       ms max/mean max/mean moved/min moved/min     bytes   shards       ms");
    row(3, 64, 100000, &rng);
    row(3, 16384, 1000000, &rng);
    row(100, 4096, 1000000, &rng);
    row(100, 16384, 1000000, &rng);
    row(1000, 16384, 1000000, &rng);
    return 0;
}
