/* table.c - tuple -> connection, handshake or TIME-WAIT record.
 *
 * Buckets of one cache line, 7 entries each: 32 bits of the tuple's hash and what the entry stands for.  An entry whose
 * bucket is full goes to the next one with room, and the full ones in between count how many passed over them: a lookup
 * goes on only while somebody did.  The table is made for twice as many entries as there can be, so nearly all stand in
 * their own bucket: one line for the table, one for the connection.
 *
 * The hash is SipHash with a secret key: nobody can fill one bucket by choosing ports. */
#include "dataplane/tcp/be.h"
#include "dataplane/tcp/tcp_in.h"
#include "spool/base/fetch.h"

#define WAYS       7u
#define INDEX_MASK ((1u << TCP_KIND_SHIFT) - 1)

struct bucket {
    uint32_t tag[WAYS];
    uint32_t ref[WAYS]; /* kind, index; 0: empty */
    uint32_t passed;    /* entries that belong here or before and stand behind */
    uint32_t spare;
};
static_assert(sizeof(struct bucket) == 64, "a bucket is a cache line");

struct tcp_table {
    uint32_t mask; /* buckets - 1 */
    uint32_t n, max;
    uint8_t pad[52];
    struct bucket b[];
};
static_assert(sizeof(struct tcp_table) == 64, "buckets begin on a cache line");

static uint32_t entries_max(const struct tcp_config *cfg)
{
    return cfg->conns_max + cfg->syns_max + cfg->time_waits_max;
}

static uint32_t buckets_for(uint32_t entries)
{
    uint32_t n = 1;
    while ((uint64_t)n * WAYS < (uint64_t)entries * 2)
        n *= 2;
    return n;
}

size_t tcp_table_bytes(const struct tcp_config *cfg)
{
    return sizeof(struct tcp_table) + (size_t)buckets_for(entries_max(cfg)) * sizeof(struct bucket);
}

void tcp_table_init(struct tcp *t, void *mem)
{
    struct tcp_table *o = mem;
    o->max = entries_max(&t->cfg);
    o->mask = buckets_for(o->max) - 1;
    t->table = o;
}

static inline uint32_t tag_of(uint64_t hash)
{
    return (uint32_t)(hash >> 32);
}

static bool conn_is(const struct tcp_conn *c, const struct tcp_tuple *k)
{
    return ip_addr_eq(&c->peer, &k->peer) && c->peer_port == k->peer_port && c->port == k->port && c->local == k->local;
}

/* Is it the tuple's? */
static bool ref_is(const struct tcp *t, uint32_t ref, const struct tcp_tuple *k, uint64_t hash)
{
    uint32_t index = ref & INDEX_MASK;
    switch ((enum tcp_kind)(ref >> TCP_KIND_SHIFT)) {
    case TCP_KIND_CONN:
        return conn_is(tcp_conn_at(t, index), k);
    case TCP_KIND_SYN:
        return syn_is(t, index, k);
    case TCP_KIND_TW:
        return tw_hash(t, index) == hash;
    case TCP_KIND_NONE:
        break;
    }
    return false;
}

static inline bool way_is(const struct tcp *t, const struct bucket *b, uint32_t way, const struct tcp_tuple *k,
                          uint64_t hash)
{
    return b->tag[way] == tag_of(hash) && b->ref[way] && ref_is(t, b->ref[way], k, hash);
}

/* Where an entry stands. */
struct place {
    struct bucket *b;
    uint32_t way, home;
};

/* Nearly always the guess is right, and spares the processor a search whose end it cannot foresee. */
static bool place_find(const struct tcp *t, const struct tcp_tuple *k, uint64_t hash, struct place *at_r)
{
    struct tcp_table *o = t->table;
    uint32_t home = (uint32_t)hash & o->mask, i = home;
    *at_r = (struct place){&o->b[home], k->guess, home};
    if (way_is(t, at_r->b, k->guess, k, hash))
        return true;
    do {
        struct bucket *b = &o->b[i];
        for (uint32_t way = 0; way < WAYS; way++)
            if (way_is(t, b, way, k, hash)) {
                *at_r = (struct place){b, way, home};
                return true;
            }
        i = (i + 1) & o->mask;
        if (b->passed == 0)
            return false;
    } while (i != home);
    return false;
}

enum tcp_kind tcp_table_find(struct tcp *t, const struct tcp_tuple *k, uint32_t *index_r)
{
    struct place at;
    if (!place_find(t, k, tuple_hash(t, k), &at))
        return TCP_KIND_NONE;
    *index_r = at.b->ref[at.way] & INDEX_MASK;
    return (enum tcp_kind)(at.b->ref[at.way] >> TCP_KIND_SHIFT);
}

static uint32_t way_free(const struct bucket *b)
{
    uint32_t way = 0;
    while (way < WAYS && b->ref[way])
        way++;
    return way;
}

bool tcp_table_add(struct tcp *t, uint64_t hash, uint32_t ref)
{
    struct tcp_table *o = t->table;
    if (o->n == o->max)
        return false;
    uint32_t i = (uint32_t)hash & o->mask, way;
    while ((way = way_free(&o->b[i])) == WAYS) {
        o->b[i].passed++;
        i = (i + 1) & o->mask;
    }
    o->b[i].tag[way] = tag_of(hash);
    o->b[i].ref[way] = ref;
    o->n++;
    return true;
}

/* Nothing else stands for the same: what it is need not be looked at. */
static bool place_of(struct tcp_table *o, uint64_t hash, uint32_t ref, struct place *at_r)
{
    uint32_t home = (uint32_t)hash & o->mask;
    uint32_t i = home;
    do {
        struct bucket *b = &o->b[i];
        for (uint32_t way = 0; way < WAYS; way++)
            if (b->ref[way] == ref) {
                *at_r = (struct place){b, way, home};
                return true;
            }
        i = (i + 1) & o->mask;
        if (b->passed == 0)
            return false;
    } while (i != home);
    return false;
}

void tcp_table_set(struct tcp *t, uint64_t hash, uint32_t was, uint32_t ref)
{
    struct place at;
    if (place_of(t->table, hash, was, &at))
        at.b->ref[at.way] = ref;
}

void tcp_table_fetch(const struct tcp *t, uint64_t hash)
{
    cache_fetch(&t->table->b[(uint32_t)hash & t->table->mask]);
}

void tcp_table_remove(struct tcp *t, uint64_t hash, uint32_t ref)
{
    struct tcp_table *o = t->table;
    struct place at;
    if (!place_of(o, hash, ref, &at))
        return;
    at.b->ref[at.way] = 0;
    for (struct bucket *b = &o->b[at.home]; b != at.b; b = &o->b[(uint32_t)(b - o->b + 1) & o->mask])
        b->passed--;
    o->n--;
}

/* ---- ahead of a burst */

/* Segments too short for ports are tcp_input's to refuse. */
void tcp_ahead_table(struct tcp *t, struct ip_packet *p)
{
    if (p->l4_n < 4)
        return;
    struct tcp_tuple k = {.peer = p->src, .peer_port = be16_get(p->l4), .port = be16_get(p->l4 + 2), .local = p->local};
    p->hash = tuple_hash(t, &k);
    cache_fetch(&t->table->b[(uint32_t)p->hash & t->table->mask]);
}

/* An acknowledgement alone is seldom the owner's matter. */
static bool has_text(const struct ip_packet *p)
{
    return p->l4_n >= 20 && (p->l4[12] >> 4) * 4u < p->l4_n;
}

void tcp_ahead_conn(struct tcp *t, struct ip_packet *p)
{
    const struct bucket *b = &t->table->b[(uint32_t)p->hash & t->table->mask];
    uint8_t way = 0;
    if (!p->hash)
        return;
    while (way < WAYS && !(b->tag[way] == tag_of(p->hash) && b->ref[way] >> TCP_KIND_SHIFT == TCP_KIND_CONN))
        way++;
    if (way == WAYS)
        return;
    p->guess = way;
    cache_fetch_n(tcp_conn_at(t, b->ref[way] & INDEX_MASK), has_text(p) ? t->cfg.ahead_bytes : TCP_CONN_ACK_BYTES);
}
