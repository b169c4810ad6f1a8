/* tomb.c - tombstones: made by DONEs, settled by those who are owed, gone when nothing can come back. */
#include "spool/queue/tomb.h"
#include "spool/base/err.h"
#include "spool/base/wire.h"
#include "spool/queue/queue_impl.h"
#include <assert.h>

enum {
    UUID_BYTES = sizeof(struct storage_id),
    EXPIRE_STEPS = 512,
    TOMB_VALUE_MAX = QUEUE_TOMB_BYTES,
};

/* ---- the value */

static size_t tomb_encode(const struct tomb *t, uint8_t out_r[TOMB_VALUE_MAX])
{
    struct wire_wr w = wire_wr(out_r, TOMB_VALUE_MAX);
    wire_put_u64(&w, t->final_us);
    wire_put_u64(&w, t->pos);
    wire_put_u64(&w, t->at.arrival_us);
    wire_put_u64(&w, t->dead_from);
    wire_put_u64(&w, t->dead_to);
    wire_put_u8(&w, (uint8_t)t->domain_n);
    wire_put(&w, t->domain, t->domain_n);
    wire_put_u8(&w, (uint8_t)t->owed_n);
    wire_put(&w, t->owed, t->owed_n);
    size_t n = state_encode(&t->state, w.p, (size_t)(w.end - w.p));
    assert(n && !w.bad);
    return wire_len(&w) + n;
}

/* What both readers want; the slices borrow from the value. */
static int tomb_parse(struct slice value, struct tomb *t_r, struct slice *domain_r, struct slice *owed_r)
{
    struct wire_rd r = wire_rd(value);
    t_r->final_us = wire_u64(&r);
    t_r->pos = wire_u64(&r);
    t_r->at.arrival_us = wire_u64(&r);
    t_r->dead_from = wire_u64(&r);
    t_r->dead_to = wire_u64(&r);
    *domain_r = wire_get(&r, wire_u8(&r));
    *owed_r = wire_get(&r, wire_u8(&r));
    if (r.bad || owed_r->n > sizeof t_r->owed || owed_r->n % UUID_BYTES)
        return -SATCHEL_EDAMAGED;
    return state_decode(slice_of(r.p, wire_left(&r)), &t_r->state) ? -SATCHEL_EDAMAGED : 0;
}

static int tomb_decode(struct slice value, const struct msgid *id, struct tomb *t_r)
{
    struct slice domain, owed;
    int res = tomb_parse(value, t_r, &domain, &owed);
    if (res)
        return res;
    t_r->at.id = *id;
    t_r->domain_n = (uint16_t)domain.n;
    memcpy(t_r->domain, domain.p, domain.n);
    t_r->owed_n = (uint16_t)owed.n;
    memcpy(t_r->owed, owed.p, owed.n);
    return 0;
}

int tomb_load(struct queue *q, const struct msgid *id, struct tomb *t_r)
{
    uint8_t value[TOMB_VALUE_MAX];
    if (q->segs.tombs == 0)
        return -SATCHEL_ENOENT;
    struct key k = key_tomb(id);
    int64_t n = store_get(&q->store, &k, value, sizeof value);
    if (n < 0)
        return (int)n;
    return n > TOMB_VALUE_MAX ? -SATCHEL_EDAMAGED : tomb_decode(slice_of(value, (size_t)n), id, t_r);
}

/* ---- counters */

static void seg_tomb(struct queue *q, uint64_t pos, int tombs, int owed)
{
    struct seg *s = segs_need(&q->segs, logpos_seg(pos));
    s->dirty = true;
    s->tombs += (uint32_t)tombs;
    s->owed += (uint32_t)owed;
    q->segs.tombs += (uint64_t)(int64_t)tombs;
    q->segs.owed += (uint64_t)(int64_t)owed;
}

void tomb_dead_add(struct tomb *t, uint64_t seg)
{
    if (t->dead_from == 0 || seg < t->dead_from)
        t->dead_from = seg;
    if (seg > t->dead_to)
        t->dead_to = seg;
}

/* ---- changes */

void tomb_put(struct queue *q, const struct tomb *t)
{
    uint8_t value[TOMB_VALUE_MAX];
    struct key k = key_tomb(&t->at.id);
    store_put(&q->store, &k, slice_of(value, tomb_encode(t, value)));
}

/* The key by which it is found again: one of two. */
static void tomb_list(struct queue *q, const struct tomb *t)
{
    struct key k = t->owed_n ? key_owed(&t->at.id) : key_tomb_old(t->final_us, &t->at.id);
    store_put(&q->store, &k, slice_of(NULL, 0));
}

void tomb_new(struct queue *q, const struct tomb *t)
{
    tomb_put(q, t);
    tomb_list(q, t);
    seg_tomb(q, t->pos, 1, t->owed_n > 0);
}

void tomb_moved(struct queue *q, struct tomb *t, uint64_t pos)
{
    int owed = t->owed_n > 0;
    seg_tomb(q, t->pos, -1, -owed);
    t->pos = pos;
    seg_tomb(q, t->pos, 1, owed);
    tomb_put(q, t);
}

static void tomb_settle(struct queue *q, struct tomb *t)
{
    struct key k = key_owed(&t->at.id);
    t->owed_n = 0;
    store_del(&q->store, &k);
    tomb_list(q, t);
    seg_tomb(q, t->pos, 0, -1);
}

static void tomb_drop(struct queue *q, const struct tomb *t)
{
    struct key k = key_tomb(&t->at.id);
    store_del(&q->store, &k);
    k = t->owed_n ? key_owed(&t->at.id) : key_tomb_old(t->final_us, &t->at.id);
    store_del(&q->store, &k);
    seg_tomb(q, t->pos, -1, -(t->owed_n > 0));
}

/* ---- who is owed */

/* false: is not owed. */
static bool owed_take(struct tomb *t, const struct storage_id *by)
{
    for (uint16_t i = 0; i < t->owed_n; i += UUID_BYTES) {
        if (memcmp(t->owed + i, by->b, UUID_BYTES) != 0)
            continue;
        t->owed_n -= UUID_BYTES;
        memmove(t->owed + i, t->owed + i + UUID_BYTES, (size_t)(t->owed_n - i));
        return true;
    }
    return false;
}

void queue_tombs_confirm(struct queue *q, const struct storage_id *by, const struct msgid *ids, size_t n)
{
    struct tomb t;
    for (size_t i = 0; i < n; i++) {
        if (tomb_load(q, &ids[i], &t) || t.owed_n == 0 || (by && !owed_take(&t, by)))
            continue;
        if (!by || t.owed_n == 0)
            tomb_settle(q, &t);
        tomb_put(q, &t);
        if (store_full(&q->store))
            store_settle(&q->store);
    }
    store_settle(&q->store);
}

/* ---- looking, without the lock */

static int tomb_show(struct slice value, const struct msgid *id, struct storage_state *st_r)
{
    struct tomb t;
    struct slice domain, owed;
    int res = tomb_parse(value, &t, &domain, &owed);
    *st_r = (struct storage_state){
        .id = *id, .arrival_us = t.at.arrival_us, .domain = domain, .owed = owed, .state = t.state};
    return res;
}

int queue_tomb(struct queue *q, const struct msgid *id, struct storage_state *st_r, uint8_t buf_r[QUEUE_TOMB_BYTES])
{
    struct key k = key_tomb(id);
    int64_t n = q->ix->ops->get(q->ix, key_slice(&k), buf_r, QUEUE_TOMB_BYTES);
    if (n < 0)
        return (int)n;
    return n > QUEUE_TOMB_BYTES ? -SATCHEL_EDAMAGED : tomb_show(slice_of(buf_r, (size_t)n), id, st_r);
}

enum queue_known queue_known(struct queue *q, const struct msgid *id)
{
    uint8_t byte;
    struct key live = key_id(id), tomb = key_tomb(id);
    if (q->ix->ops->get(q->ix, key_slice(&live), &byte, 1) >= 0)
        return QUEUE_LIVE;
    return q->ix->ops->get(q->ix, key_slice(&tomb), &byte, 1) >= 0 ? QUEUE_TOMB : QUEUE_UNKNOWN;
}

static bool any_between(struct queue *q, struct key from, struct key last)
{
    struct key end = key_after(last);
    struct index_iter *it = q->ix->ops->iter(q->ix, key_slice(&from), key_slice(&end));
    struct slice key, value;
    bool any = !it || q->ix->ops->next(it, &key, &value);
    q->ix->ops->iter_free(&it);
    return any;
}

bool queue_any_from(struct queue *q, const struct msgid *from)
{
    struct msgid last = *from;
    last.counter = UINT64_MAX;
    return any_between(q, key_id(from), key_id(&last)) || any_between(q, key_tomb(from), key_tomb(&last)) ||
           any_between(q, key_chunk(from, 0), key_chunk(&last, UINT32_MAX));
}

static bool owes(const struct storage_state *st, const struct storage_id *to)
{
    for (size_t i = 0; i + UUID_BYTES <= st->owed.n; i += UUID_BYTES)
        if (!to || memcmp(st->owed.p + i, to->b, UUID_BYTES) == 0)
            return true;
    return false;
}

int queue_tombs_owed(struct queue *q, const struct storage_id *to, const struct msgid *after,
                     bool (*each)(void *arg, const struct storage_state *st), void *arg)
{
    uint8_t buf[QUEUE_TOMB_BYTES];
    struct key from = after ? key_after(key_owed(after)) : key_kind(KEY_OWED), end = key_kind(KEY_OWED + 1);
    struct index_iter *it = q->ix->ops->iter(q->ix, key_slice(&from), key_slice(&end));
    struct slice key, value;
    struct storage_state st;
    struct msgid id;
    bool more = it != NULL;
    while (more && q->ix->ops->next(it, &key, &value))
        if (key_id_parse(key, &id) && queue_tomb(q, &id, &st, buf) == 0 && owes(&st, to))
            more = each(arg, &st);
    int res = it ? 0 : -SATCHEL_ENOMEM;
    q->ix->ops->iter_free(&it);
    return res;
}

/* ---- the end */

/* A segment is left in which a dead copy may lie. */
static bool tomb_guards(const struct queue *q, const struct tomb *t)
{
    if (t->dead_from == 0)
        return false;
    for (size_t i = 0; i < q->segs.n; i++)
        if (q->segs.items[i]->seg >= t->dead_from && q->segs.items[i]->seg <= t->dead_to)
            return true;
    return false;
}

static bool tomb_expire(struct queue *q, const struct msgid *id, uint64_t final_us)
{
    struct tomb t;
    struct key k = key_tomb_old(final_us, id);
    int res = tomb_load(q, id, &t);
    if (res == -SATCHEL_ENOENT)
        store_del(&q->store, &k);
    if (res || tomb_guards(q, &t))
        return false;
    tomb_drop(q, &t);
    return true;
}

/* Goes through those that are old enough, in the order of their ends, a few at a time; those that must stay are passed
 * and looked at again in the next round. */
bool tombs_expire(struct queue *q)
{
    uint64_t now = clock_wall_us(q->clock), final_us;
    if (q->segs.tombs == q->segs.owed || now <= q->cfg.tomb_min_us)
        return false;
    static const struct msgid none;
    struct key from = q->tomb_at.n ? q->tomb_at : key_kind(KEY_TOMB_OLD);
    struct key to = key_tomb_old(now - q->cfg.tomb_min_us, &none);
    struct index_iter *it = store_iter(&q->store, &from, &to);
    struct slice key, value;
    struct msgid id;
    bool any = false;
    int n = 0;
    for (; it && n < EXPIRE_STEPS && q->ix->ops->next(it, &key, &value); n++)
        if (key_tomb_old_parse(key, &final_us, &id)) {
            q->tomb_at = key_after(key_tomb_old(final_us, &id));
            any = tomb_expire(q, &id, final_us) || any;
        }
    q->ix->ops->iter_free(&it);
    if (n < EXPIRE_STEPS)
        q->tomb_at.n = 0;
    store_settle(&q->store);
    return n == EXPIRE_STEPS && any;
}

int tombs_drop_seg(struct queue *q, uint64_t seg)
{
    struct key from = key_kind(KEY_TOMB), to = key_kind(KEY_TOMB + 1);
    struct index_iter *it = store_iter(&q->store, &from, &to);
    struct slice key, value;
    struct msgid id;
    struct tomb t;
    if (!it)
        return q->store.err ? q->store.err : -SATCHEL_ENOMEM;
    while (q->ix->ops->next(it, &key, &value))
        if (key_id_parse(key, &id) && tomb_decode(value, &id, &t) == 0 && logpos_seg(t.pos) == seg) {
            tomb_drop(q, &t);
            if (store_full(&q->store))
                store_settle(&q->store);
        }
    q->ix->ops->iter_free(&it);
    return store_settle(&q->store);
}
