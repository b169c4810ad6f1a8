/* queue.c - opening and closing, commits, recovery and counters of the queue. */
#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/wire.h"
#include "spool/queue/queue_impl.h"
#include <assert.h>
#include <stdlib.h>

const struct queue_config queue_config_default = {
    .flush_bytes = 64u << 20,
    .compact_live_pct = 40,
    .move_inflight = 64,
    .tomb_min_us = 600000000,
};

/* Everything applied so far becomes one batch. */
static int queue_settle(void *arg)
{
    struct queue *q = arg;
    bags_save(&q->bags, &q->store);
    segs_save(&q->segs, &q->store);
    return store_commit(&q->store, q->end);
}

int queue_open(struct queue **q_r, const struct queue_config *cfg, struct index *ix, const struct clock *clock,
               struct segread *reader, const struct queue_port *port)
{
    struct queue *q = calloc(1, sizeof *q);
    if (!q)
        return -SATCHEL_ENOMEM;
    q->cfg = *cfg;
    q->ix = ix;
    q->clock = clock;
    q->reader = reader;
    q->port = *port;
    q->replaying = true;
    q->store.ix = ix;
    q->store.settle = queue_settle;
    q->store.settle_arg = q;
    q->end = ix->ops->applied(ix);
    int res = segs_load(&q->segs, &q->store);
    if (res == 0)
        res = bags_load(&q->bags, &q->store);
    if (res)
        queue_close(&q);
    *q_r = q;
    return res;
}

void queue_close(struct queue **q)
{
    if (!*q)
        return;
    while ((*q)->jobs)
        job_free(*q, (*q)->jobs); /* NOLINT(clang-analyzer-unix.Malloc): it takes the job off the list */
    victim_free(*q);
    table_clear(&(*q)->holds, hold_free);
    table_clear(&(*q)->finished, free);
    bags_free(&(*q)->bags);
    segs_free(&(*q)->segs);
    free(*q);
    *q = NULL;
}

uint64_t queue_applied(const struct queue *q)
{
    return q->end;
}

void job_add(struct queue *q, struct job *j)
{
    j->next = q->jobs;
    j->link = &q->jobs;
    if (j->next)
        j->next->link = &j->next;
    q->jobs = j;
}

void job_free(struct queue *q, struct job *j)
{
    assert(q->jobs);
    *j->link = j->next;
    if (j->next)
        j->next->link = j->link;
    free(j);
}

int queue_flush_start(struct queue *q)
{
    q->unflushed = 0;
    return q->ix->ops->flush_start(q->ix);
}

/* The end of the last record applied is the position stored: what the caller knows beyond it holds no record. */
int queue_commit(struct queue *q, uint64_t pos)
{
    if (pos < q->end && q->store.pending_n == 0)
        return q->store.err;
    int res = queue_settle(q);
    return res == 0 && q->unflushed >= q->cfg.flush_bytes ? queue_flush_start(q) : res;
}

void queue_ready(struct queue *q, const struct bag *b)
{
    if (!q->replaying)
        q->port.ready(q->port.ctx, bag_name(b));
}

/* ---- reading */

int queue_entry_load(struct queue *q, struct slice domain, const struct place *at, struct entry *e_r)
{
    uint8_t value[ENTRY_VALUE_MAX];
    const struct hold *h = hold_find(q, &at->id);
    if (h && h->gone)
        return -SATCHEL_ENOENT;
    if (h && h->value_n && h->at.arrival_us == at->arrival_us && slice_eq(bag_name(h->bag), domain))
        return entry_decode(slice_of(h->value, h->value_n), e_r);
    struct key k = key_queue(domain, at);
    int64_t n = store_get(&q->store, &k, value, sizeof value);
    if (n < 0)
        return (int)n;
    return n > ENTRY_VALUE_MAX ? -SATCHEL_EDAMAGED : entry_decode(slice_of(value, (size_t)n), e_r);
}

bool queue_id_parse(struct slice value, char domain_r[256], uint64_t *arrival_us_r)
{
    if (value.n < 8 || value.n > 8 + KEY_DOMAIN_MAX)
        return false;
    struct wire_rd r = wire_rd(value);
    *arrival_us_r = __builtin_bswap64(wire_u64(&r));
    memcpy(domain_r, r.p, wire_left(&r));
    domain_r[wire_left(&r)] = 0;
    return true;
}

int queue_id_load(struct queue *q, const struct msgid *id, char domain_r[256], struct place *at_r)
{
    uint8_t value[8 + KEY_DOMAIN_MAX];
    struct key k = key_id(id);
    int64_t n = store_get(&q->store, &k, value, sizeof value);
    if (n < 0)
        return (int)n;
    at_r->id = *id;
    return queue_id_parse(slice_of(value, (size_t)n), domain_r, &at_r->arrival_us) ? 0 : -SATCHEL_EDAMAGED;
}

static bool chunk_parse(struct slice value, uint64_t *pos_r, uint32_t *size_r)
{
    struct wire_rd r = wire_rd(value);
    *pos_r = wire_u64(&r);
    *size_r = wire_u32(&r);
    return !r.bad;
}

int queue_chunk_load(struct queue *q, const struct msgid *id, uint32_t chunk, uint64_t *pos_r, uint32_t *size_r)
{
    uint8_t value[12];
    struct key k = key_chunk(id, chunk);
    int64_t n = store_get(&q->store, &k, value, sizeof value);
    if (n < 0)
        return (int)n;
    return chunk_parse(slice_of(value, (size_t)n), pos_r, size_r) ? 0 : -SATCHEL_EDAMAGED;
}

bool queue_is_whole(struct queue *q, const struct msgid *id, uint32_t chunks)
{
    uint64_t pos;
    uint32_t size;
    for (uint32_t i = 0; i < chunks; i++)
        if (queue_chunk_load(q, id, i, &pos, &size) != 0)
            return false;
    return true;
}

int queue_chunk(struct queue *q, const struct msgid *id, uint32_t chunk, uint64_t *pos_r, uint32_t *size_r)
{
    uint8_t value[12];
    struct key k = key_chunk(id, chunk);
    int64_t n = q->ix->ops->get(q->ix, key_slice(&k), value, sizeof value);
    if (n < 0)
        return (int)n;
    return chunk_parse(slice_of(value, (size_t)n), pos_r, size_r) ? 0 : -SATCHEL_EDAMAGED;
}

struct index_iter *queue_chunks_iter(struct queue *q, const struct msgid *id)
{
    struct key from = key_chunk(id, 0), to = key_after(key_chunk(id, UINT32_MAX));
    return store_iter(&q->store, &from, &to);
}

bool queue_chunks_next(struct queue *q, struct index_iter *it, struct key *key_r, uint64_t *pos_r, uint32_t *size_r)
{
    struct slice key, value;
    if (!q->ix->ops->next(it, &key, &value) || key.n > KEY_MAX || !chunk_parse(value, pos_r, size_r))
        return false;
    memcpy(key_r->b, key.p, key.n);
    key_r->n = key.n;
    return true;
}

/* ---- recovery */

/* Chunks whose message never became durable: nobody was told that it is safe. */
static int recover_orphans(struct queue *q)
{
    struct key from = key_kind(KEY_OPEN), to = key_kind(KEY_OPEN + 1), k;
    struct index_iter *opens = store_iter(&q->store, &from, &to);
    if (!opens)
        return -SATCHEL_EIO;
    struct slice key, value;
    struct msgid id;
    uint64_t pos;
    uint32_t size;
    while (q->ix->ops->next(opens, &key, &value)) {
        if (!key_id_parse(key, &id))
            continue;
        struct index_iter *it = queue_chunks_iter(q, &id);
        while (it && queue_chunks_next(q, it, &k, &pos, &size))
            apply_chunk_drop(q, &k, pos, size);
        q->ix->ops->iter_free(&it);
        k = key_open(&id);
        store_del(&q->store, &k);
    }
    q->ix->ops->iter_free(&opens);
    return store_settle(&q->store);
}

static bool seg_listed(const uint64_t *segs, size_t n, uint64_t seg)
{
    for (size_t i = 0; i < n; i++)
        if (segs[i] == seg)
            return true;
    return false;
}

static bool recover_forget(struct queue *q, const struct seg *s)
{
    if (s->tombs && tombs_drop_seg(q, s->seg))
        return false;
    if (s->msgs || s->chunks || s->defers) {
        log_error("queue.segment_missing", "segment=%llu messages=%u chunks=%u", (unsigned long long)s->seg, s->msgs,
                  s->chunks);
        return false;
    }
    struct key k = key_seg(s->seg);
    store_del(&q->store, &k);
    segs_drop(&q->segs, s->seg);
    return true;
}

/* The segment with the last record may be the active one, which is not in the list. */
static int recover_segs(struct queue *q, const uint64_t *segs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        segs_need(&q->segs, segs[i]);
    for (size_t i = q->segs.n; i-- > 0;) {
        const struct seg *s = q->segs.items[i];
        bool last = i + 1 == q->segs.n && s->seg == logpos_seg(q->end);
        if (!seg_listed(segs, n, s->seg) && !last && !recover_forget(q, s))
            return -SATCHEL_EDAMAGED;
    }
    return 0;
}

static int recover_check(const struct queue *q)
{
    if (q->segs.messages == q->bags.messages)
        return 0;
    log_error("queue.counters", "segments_say=%llu bags_say=%llu", (unsigned long long)q->segs.messages,
              (unsigned long long)q->bags.messages);
    return -SATCHEL_EDAMAGED;
}

int queue_recovered(struct queue *q, const uint64_t *segs, size_t n)
{
    int res = store_settle(&q->store);
    if (res == 0)
        res = recover_orphans(q);
    if (res == 0)
        res = recover_segs(q, segs, n);
    if (res == 0)
        res = recover_check(q);
    if (res == 0)
        res = queue_settle(q);
    if (res)
        return res;
    table_clear(&q->finished, free);
    q->replaying = false;
    size_t at = 0;
    for (struct bag *b; (b = table_next(&q->bags.table, &at));)
        if (b->messages)
            queue_ready(q, b);
    return 0;
}

/* ---- counters */

uint64_t queue_bag_oldest(struct queue *q, struct bag *b)
{
    if (b->messages == 0)
        return 0;
    if (b->oldest_ok)
        return b->oldest_us;
    struct place low = {.arrival_us = b->low_us}, at;
    struct key from = key_queue(bag_name(b), &low), to = key_bag_to(KEY_QUEUE, bag_name(b));
    struct index_iter *it = store_iter(&q->store, &from, &to);
    struct slice key, value, domain;
    if (it && q->ix->ops->next(it, &key, &value) && key_queue_parse(key, &domain, &at)) {
        b->low_us = b->oldest_us = at.arrival_us;
        b->oldest_ok = true;
        bag_touch(&q->bags, b);
    }
    q->ix->ops->iter_free(&it);
    return b->oldest_ok ? b->oldest_us : b->low_us;
}

static void bag_stat_fill(struct queue *q, struct bag *b, struct bag_stat *st_r)
{
    *st_r = (struct bag_stat){
        .messages = b->messages,
        .bytes = b->bytes,
        .deferred = b->deferred,
        .held = b->held,
        .claimed = b->claimed,
        .oldest_us = queue_bag_oldest(q, b),
        .digest = b->digest,
    };
}

void queue_bag_stat(struct queue *q, struct slice domain, struct bag_stat *st_r)
{
    struct bag *b = bags_find(&q->bags, domain);
    *st_r = (struct bag_stat){0};
    if (b && b->messages)
        bag_stat_fill(q, b, st_r);
}

/* Settled first: reading the oldest would settle, and settling forgets empty bags under the walk. */
void queue_bags(struct queue *q, void (*each)(void *arg, struct slice domain, const struct bag_stat *st), void *arg)
{
    size_t at = 0;
    store_settle(&q->store);
    for (struct bag *b; (b = table_next(&q->bags.table, &at));) {
        if (b->messages == 0)
            continue;
        struct bag_stat st;
        bag_stat_fill(q, b, &st);
        each(arg, bag_name(b), &st);
    }
}

void queue_totals(const struct queue *q, struct queue_totals *t_r)
{
    *t_r = (struct queue_totals){q->bags.messages, q->bags.bytes, q->segs.tombs, q->segs.owed};
}

void queue_stat(struct queue *q, struct queue_stat *st_r)
{
    *st_r = (struct queue_stat){
        .messages = q->bags.messages,
        .bytes = q->bags.bytes,
        .claims = q->holds.n,
        .reclaimed = q->reclaimed,
        .moved_bytes = q->moved_bytes,
    };
    size_t at = 0;
    store_settle(&q->store);
    for (struct bag *b; (b = table_next(&q->bags.table, &at));) {
        uint64_t oldest = queue_bag_oldest(q, b);
        st_r->domains += b->messages > 0;
        if (oldest && (st_r->oldest_us == 0 || oldest < st_r->oldest_us))
            st_r->oldest_us = oldest;
    }
}
