/* map.c - the map itself: its memory, its references, and what is looked up in it. */
#include "cluster/map/map.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "cluster/map/map_impl.h"
#include "spool/base/err.h"

#define BOX_MAGIC      0x4d415021u
#define NAME_MAX_BYTES 255 /* of a domain, RFC 1035 2.3.4 */

/* What lies behind a map: one piece of memory holds it all. */
struct box {
    struct cmap m;
    uint32_t magic;
    atomic_uint refs;
    uint32_t *by_storage; /* indexes of nodes, sorted by storage, then by name */
};

static const char *const state_names[] = {"active", "cordoned", "draining", "drained"};

const char *node_state_name(enum node_state s)
{
    return state_names[s];
}

bool node_state_parse(struct slice name, enum node_state *s_r)
{
    for (size_t i = 0; i < sizeof state_names / sizeof *state_names; i++) {
        if (slice_eq(name, slice_str(state_names[i]))) {
            *s_r = (enum node_state)i;
            return true;
        }
    }
    return false;
}

bool cmap_name_valid(struct slice name, size_t max)
{
    if (name.n == 0 || name.n >= max || name.p[0] == '.')
        return false;
    for (size_t i = 0; i < name.n; i++) {
        uint8_t c = name.p[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(c >= '0' && c <= '9') && c != '.' && c != '_' && c != '-')
            return false;
    }
    return true;
}

uint64_t cmap_hash(struct slice s, uint64_t seed)
{
    return XXH3_64bits_withSeed(s.p, s.n, seed);
}

/* ---- memory */

struct cmap *cmap_new(size_t nodes, size_t pools, size_t shards)
{
    size_t bytes = sizeof(struct box) + nodes * (sizeof(struct map_node) + sizeof(uint32_t)) +
                   pools * sizeof(struct map_pool) + shards * sizeof(struct map_shard);
    struct box *b = calloc(1, bytes);
    if (!b)
        return NULL;
    b->magic = BOX_MAGIC;
    atomic_init(&b->refs, 1);
    b->m.shards = (struct map_shard *)(b + 1); /* the most strictly aligned first */
    b->m.nodes = (struct map_node *)(b->m.shards + shards);
    b->m.pools = (struct map_pool *)(b->m.nodes + nodes);
    b->by_storage = (uint32_t *)(b->m.pools + pools);
    b->m.nodes_n = (uint32_t)nodes;
    b->m.pools_n = (uint32_t)pools;
    b->m.shards_n = (uint32_t)shards;
    return &b->m;
}

static int node_by_storage(const void *a, const void *b, void *arg)
{
    const struct map_node *nodes = arg;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    int c = memcmp(&nodes[x].storage, &nodes[y].storage, sizeof nodes[x].storage);
    return c ? c : (x > y) - (x < y);
}

const struct cmap *cmap_finish(struct cmap *m)
{
    struct box *b = (struct box *)m;
    for (uint32_t i = 0; i < m->nodes_n; i++)
        b->by_storage[i] = i;
    qsort_r(b->by_storage, m->nodes_n, sizeof *b->by_storage, node_by_storage, m->nodes);
    return m;
}

static int node_by_name(const void *a, const void *b)
{
    return strcmp(((const struct map_node *)a)->name, ((const struct map_node *)b)->name);
}

static int pool_by_name(const void *a, const void *b)
{
    return strcmp(((const struct map_pool *)a)->name, ((const struct map_pool *)b)->name);
}

void cmap_sort_pools(struct map_pool *pools, uint32_t pools_n)
{
    if (pools_n)
        qsort(pools, pools_n, sizeof *pools, pool_by_name);
}

static bool pool_before(const struct map_pool *a, const struct map_pool *b)
{
    return a->create_rev != b->create_rev ? a->create_rev < b->create_rev : strcmp(a->name, b->name) < 0;
}

uint32_t cmap_lay_out(struct map_pool *pools, uint32_t pools_n)
{
    uint32_t end = 0;
    for (uint32_t i = 0; i < pools_n; i++) {
        pools[i].first = 0;
        for (uint32_t k = 0; k < pools_n; k++)
            if (pool_before(&pools[k], &pools[i]))
                pools[i].first += pools[k].shards;
        end += pools[i].shards;
    }
    return end;
}

const struct cmap *cmap_copy(const struct cmap *draft)
{
    struct cmap *m = cmap_new(draft->nodes_n, draft->pools_n, draft->shards_n);
    if (!m)
        return NULL;
    struct cmap own = *m;
    *m = *draft;
    m->nodes = own.nodes;
    m->pools = own.pools;
    m->shards = own.shards;
    if (m->nodes_n)
        memcpy(m->nodes, draft->nodes, m->nodes_n * sizeof *m->nodes);
    if (m->pools_n)
        memcpy(m->pools, draft->pools, m->pools_n * sizeof *m->pools);
    if (m->shards_n)
        memcpy(m->shards, draft->shards, m->shards_n * sizeof *m->shards);
    if (m->nodes_n)
        qsort(m->nodes, m->nodes_n, sizeof *m->nodes, node_by_name);
    cmap_sort_pools(m->pools, m->pools_n);
    return cmap_finish(m);
}

const struct cmap *cmap_ref(const struct cmap *m)
{
    struct box *b = (struct box *)m;
    assert(b->magic == BOX_MAGIC);
    atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    return m;
}

void cmap_unref(const struct cmap *m)
{
    struct box *b = (struct box *)m;
    if (!b)
        return;
    assert(b->magic == BOX_MAGIC);
    if (atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
        return;
    b->magic = 0;
    free(b);
}

/* ---- looking up */

const struct map_pool *cmap_pool(const struct cmap *m, struct slice name)
{
    uint32_t lo = 0, hi = m->pools_n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        struct slice have = slice_str(m->pools[mid].name);
        int c = memcmp(have.p, name.p, have.n < name.n ? have.n : name.n);
        if (c == 0 && have.n == name.n)
            return &m->pools[mid];
        if (c < 0 || (c == 0 && have.n < name.n))
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

const struct map_node *cmap_node(const struct cmap *m, const char *name)
{
    uint32_t lo = 0, hi = m->nodes_n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int c = strcmp(m->nodes[mid].name, name);
        if (c == 0)
            return &m->nodes[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

const struct map_node *cmap_storage(const struct cmap *m, const struct storage_id *id)
{
    const struct box *b = (const struct box *)m;
    assert(b->magic == BOX_MAGIC);
    uint32_t lo = 0, hi = m->nodes_n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (memcmp(&m->nodes[b->by_storage[mid]].storage, id, sizeof *id) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == m->nodes_n || !storage_id_eq(&m->nodes[b->by_storage[lo]].storage, id))
        return NULL;
    return &m->nodes[b->by_storage[lo]];
}

uint32_t cmap_shard_of(const struct cmap *m, struct slice pool, struct slice domain)
{
    const struct map_pool *p = pool.n ? cmap_pool(m, pool) : NULL;
    if (!p)
        p = cmap_pool(m, SLICE_LIT(POOL_SHARED));
    if (!p)
        return UINT32_MAX;
    uint8_t lower[NAME_MAX_BYTES];
    size_t n = domain.n < sizeof lower ? domain.n : sizeof lower;
    for (size_t i = 0; i < n; i++)
        lower[i] = domain.p[i] >= 'A' && domain.p[i] <= 'Z' ? domain.p[i] | 0x20 : domain.p[i];
    return p->first + (uint32_t)(cmap_hash(slice_of(lower, n), CMAP_DOMAIN_SEED) % p->shards);
}

static bool has(const struct storage_id *ids, size_t n, const struct storage_id *id)
{
    for (size_t i = 0; i < n; i++)
        if (storage_id_eq(&ids[i], id))
            return true;
    return false;
}

bool cmap_is_member(const struct map_shard *s, const struct storage_id *id)
{
    return has(s->members, s->members_n, id);
}

bool cmap_is_former(const struct map_shard *s, const struct storage_id *id)
{
    return has(s->former, s->former_n, id);
}

size_t cmap_shard_key(const struct cmap *m, const struct map_shard *s, char key_r[CMAP_KEY_MAX])
{
    return (size_t)snprintf(key_r, CMAP_KEY_MAX, "shards/%s/%05u", m->pools[s->pool].name, s->number);
}
