/* apply.c - what each record means for index and counters: messages and chunks here, how they end in ends.c.
 *
 * Each function first reads what it needs (reading may commit what was applied before), then writes without reading, so
 * that a batch never holds half a record. */
#include "spool/queue/apply.h"
#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/wire.h"
#include <endian.h>
#include <stdlib.h>

struct seg *apply_own_seg(struct queue *q, const struct applied *a)
{
    struct seg *s = segs_need(&q->segs, logpos_seg(a->pos));
    s->dirty = true;
    return s;
}

bool apply_name_ok(struct slice domain)
{
    return domain.n > 0 && domain.n <= KEY_DOMAIN_MAX && !memchr(domain.p, 0, domain.n);
}

/* ---- counters */

static void seg_msg(struct queue *q, uint64_t pos, uint32_t size, int sign)
{
    struct seg *s = segs_need(&q->segs, logpos_seg(pos));
    s->dirty = true;
    s->msgs += (uint32_t)sign;
    s->live_bytes += (uint64_t)((int64_t)size * sign);
    q->segs.messages += (uint64_t)(int64_t)sign;
    if (sign < 0)
        s->dying_us = clock_boot_us(q->clock);
}

static void seg_chunk(struct queue *q, uint64_t pos, uint32_t size, int sign)
{
    struct seg *s = segs_need(&q->segs, logpos_seg(pos));
    s->dirty = true;
    s->chunks += (uint32_t)sign;
    s->live_bytes += (uint64_t)((int64_t)size * sign);
}

void apply_seg_defer(struct queue *q, uint64_t pos, int sign)
{
    if (pos == 0)
        return;
    struct seg *s = segs_need(&q->segs, logpos_seg(pos));
    s->dirty = true;
    s->defers += (uint32_t)sign;
}

static bool waits(const struct msg_state *s)
{
    return !s->held && s->due_us > 0;
}

void apply_bag_count(struct queue *q, struct bag *b, const struct msgid *id, const struct entry *e, int sign)
{
    uint64_t d = (uint64_t)(int64_t)sign, bytes = (e->size + (e->chunks ? e->body_bytes : 0)) * d;
    b->messages += d;
    b->bytes += bytes;
    q->bags.messages += d;
    q->bags.bytes += bytes;
    b->held += e->state.held ? d : 0;
    b->deferred += waits(&e->state) ? d : 0;
    b->digest += queue_entry_digest(id, &e->state) * d;
    bag_touch(&q->bags, b);
}

/* The meta names the segment as one with records that are killed. */
bool apply_meta_kills(struct slice meta, uint64_t seg)
{
    struct wire_rd r = wire_rd(meta);
    struct meta_tlv t;
    while (meta_next(&r, &t)) {
        struct wire_rd v = wire_rd(t.value);
        if (t.tag == RT_KILLS && logpos_seg(wire_u64(&v)) == seg)
            return true;
    }
    return false;
}

void apply_kill_seg(struct queue *q, struct seg *own, uint64_t killed)
{
    if (segs_find(&q->segs, killed))
        seg_kill(own, killed);
}

void apply_kill_entry(struct queue *q, struct seg *own, const struct entry *e)
{
    apply_kill_seg(q, own, logpos_seg(e->pos));
    for (uint32_t i = 0; i < e->olds_n; i++)
        apply_kill_seg(q, own, e->olds[i]);
}

/* ---- entries */

void apply_entry_put(struct queue *q, struct slice domain, const struct place *at, const struct entry *e)
{
    uint8_t value[ENTRY_VALUE_MAX];
    struct key k = key_queue(domain, at);
    struct slice encoded = slice_of(value, entry_encode(e, value));
    store_put(&q->store, &k, encoded);
    hold_keep(q, &at->id, encoded);
}

static void wait_put(struct queue *q, struct slice domain, const struct place *at, const struct msg_state *s)
{
    struct key k = key_wait(domain, s->due_us, at);
    if (waits(s))
        store_put(&q->store, &k, slice_of(NULL, 0));
}

static void wait_del(struct queue *q, struct slice domain, const struct place *at, const struct msg_state *s)
{
    struct key k = key_wait(domain, s->due_us, at);
    if (waits(s))
        store_del(&q->store, &k);
}

static void id_put(struct queue *q, struct slice domain, const struct place *at)
{
    uint8_t value[8 + KEY_DOMAIN_MAX];
    uint64_t be = htobe64(at->arrival_us);
    memcpy(value, &be, 8);
    memcpy(value + 8, domain.p, domain.n);
    struct key k = key_id(&at->id);
    store_put(&q->store, &k, slice_of(value, 8 + domain.n));
}

void apply_entry_remove(struct queue *q, struct slice domain, const struct place *at, const struct entry *e)
{
    struct bag *b = bags_need(&q->bags, domain);
    struct key k = key_queue(domain, at);
    store_del(&q->store, &k);
    k = key_id(&at->id);
    store_del(&q->store, &k);
    wait_del(q, domain, at, &e->state);
    hold_follow(q, &at->id, NULL);
    apply_bag_count(q, b, &at->id, e, -1);
    if (b->oldest_us == at->arrival_us)
        b->oldest_ok = false;
    seg_msg(q, e->pos, e->size, -1);
    apply_seg_defer(q, e->defer_pos, -1);
}

void apply_chunk_drop(struct queue *q, const struct key *k, uint64_t pos, uint32_t size)
{
    store_del(&q->store, k);
    seg_chunk(q, pos, size, -1);
}

/* Those that lie below `upto`.  it: from queue_chunks_iter, opened before the first write; ends it.  tomb: takes down
 * segments that the DONE's meta does not name; NULL: none is wanted. */
void apply_chunks_remove(struct queue *q, struct index_iter *it, uint64_t upto, struct tomb *tomb, struct slice meta)
{
    struct key k;
    uint64_t pos;
    uint32_t size;
    while (it && queue_chunks_next(q, it, &k, &pos, &size)) {
        if (pos >= upto)
            continue;
        apply_chunk_drop(q, &k, pos, size);
        if (tomb && !apply_meta_kills(meta, logpos_seg(pos)))
            tomb_dead_add(tomb, logpos_seg(pos));
    }
    q->ix->ops->iter_free(&it);
}

/* ---- IDs that a replay found final */

static bool msgid_item_eq(const void *item, const void *key)
{
    return msgid_eq(item, key);
}

static uint64_t msgid_hash(const struct msgid *id)
{
    return table_hash(slice_of(id, sizeof *id));
}

static bool finished_has(const struct queue *q, const struct msgid *id)
{
    return q->finished.n && table_find(&q->finished, msgid_hash(id), msgid_item_eq, id);
}

void apply_finished_add(struct queue *q, const struct msgid *id)
{
    if (!q->replaying || finished_has(q, id))
        return;
    struct msgid *copy = malloc(sizeof *copy);
    if (!copy)
        abort();
    *copy = *id;
    table_add(&q->finished, msgid_hash(id), copy);
}

/* ---- records without a meaning for the queue: they stay until compaction reads the segment */

int apply_other(struct queue *q, const struct applied *a)
{
    struct seg *own = apply_own_seg(q, a);
    own->retained++;
    own->retained_bytes += a->size;
    return 0;
}

int apply_nothing(struct queue *q, const struct applied *a)
{
    apply_own_seg(q, a);
    return 0;
}

/* A copy of what has ended. */
static int apply_dead(struct queue *q, const struct applied *a, struct tomb *t)
{
    q->store.writing = true;
    apply_own_seg(q, a);
    tomb_dead_add(t, logpos_seg(a->pos));
    tomb_put(q, t);
    return 0;
}

/* ---- MSG */

static void entry_from_record(struct queue *q, const struct applied *a, struct entry *e_r)
{
    const struct record *rec = a->rec;
    *e_r = (struct entry){.pos = a->pos, .size = a->size, .body_bytes = rec->body.n};
    state_fresh(&e_r->state, meta_rcpts(rec->meta));
    struct wire_rd r = wire_rd(rec->meta);
    struct meta_tlv t;
    while (meta_next(&r, &t)) {
        struct wire_rd v = wire_rd(t.value);
        if (t.tag == RT_CHUNKS && rec->flags & REC_F_CHUNKED) {
            e_r->chunks = wire_u32(&v);
            e_r->body_bytes = wire_u64(&v);
        } else if (t.tag == RT_STATE) {
            state_decode(t.value, &e_r->state);
        } else if (t.tag == RT_KILLS) {
            uint64_t seg = logpos_seg(wire_u64(&v));
            if (seg != logpos_seg(a->pos) && segs_find(&q->segs, seg))
                entry_old_add(e_r, seg);
        }
    }
}

static void msg_new(struct queue *q, struct slice domain, const struct place *at, const struct entry *e)
{
    struct bag *b = bags_need(&q->bags, domain);
    bool was_empty = bag_fresh(b) == 0;
    apply_entry_put(q, domain, at, e);
    id_put(q, domain, at);
    wait_put(q, domain, at, &e->state);
    if (e->chunks) {
        struct key k = key_open(&at->id);
        store_del(&q->store, &k);
    }
    if (b->messages == 0) {
        b->low_us = b->oldest_us = at->arrival_us;
        b->oldest_ok = true;
    } else if (at->arrival_us < b->low_us || (b->oldest_ok && at->arrival_us < b->oldest_us)) {
        b->low_us = at->arrival_us < b->low_us ? at->arrival_us : b->low_us;
        b->oldest_us = at->arrival_us;
    }
    if (at->arrival_us > b->newest_us)
        b->newest_us = at->arrival_us;
    apply_bag_count(q, b, &at->id, e, 1);
    seg_msg(q, e->pos, e->size, 1);
    bag_place(b, at, e->state.due_us, e->state.held);
    if (was_empty && !e->state.held)
        queue_ready(q, b);
}

/* Final items stay final whichever side says so. */
void apply_state_merge(struct msg_state *s, const struct msg_state *other)
{
    for (uint32_t i = 0; i < s->items && i < other->items; i++)
        state_finish(s, i, state_end(other, i));
}

/* Takes the new state over in the entry and in everything that follows it; the entry is put by the caller. */
void apply_state_change(struct queue *q, struct slice domain, const struct place *at, struct entry *e,
                        const struct msg_state *now)
{
    struct bag *b = bags_need(&q->bags, domain);
    struct msg_state next = *now;
    apply_state_merge(&next, &e->state);
    wait_del(q, domain, at, &e->state);
    hold_follow(q, &at->id, &next);
    apply_bag_count(q, b, &at->id, e, -1);
    e->state = next;
    apply_bag_count(q, b, &at->id, e, 1);
    wait_put(q, domain, at, &e->state);
    if (!hold_find(q, &at->id)) {
        bag_place(b, at, next.due_us, next.held);
        queue_ready(q, b);
    }
}

/* A copy written by compaction takes the place of the one known; its state is what was known when it was written.  So
 * does a second copy that another storage sent, while nothing was tried of the message: then no record speaks of a
 * state that a scan would have to find behind it.  Later it stays dead where it is, and the DONE has to kill it too. */
static void msg_again(struct queue *q, struct slice domain, const struct place *at, struct entry *known,
                      const struct entry *copy, bool moved)
{
    if (!moved && !state_is_fresh(&known->state)) {
        entry_old_add(known, logpos_seg(copy->pos));
        apply_entry_put(q, domain, at, known);
        return;
    }
    struct entry old = *known;
    seg_msg(q, old.pos, old.size, -1);
    seg_msg(q, copy->pos, copy->size, 1);
    struct bag *b = bags_need(&q->bags, domain);
    apply_bag_count(q, b, &at->id, known, -1);
    *known = *copy;
    known->state = old.state;
    known->defer_pos = old.defer_pos;
    entry_old_add(known, logpos_seg(old.pos)); /* as its RT_KILLS say, which is the whole list */
    for (uint32_t i = 0; i < old.olds_n; i++)
        if (segs_find(&q->segs, old.olds[i]))
            entry_old_add(known, old.olds[i]);
    apply_bag_count(q, b, &at->id, known, 1);
    if (copy->state.items == old.state.items && copy->state.seq >= old.state.seq) {
        apply_seg_defer(q, old.defer_pos, -1);
        known->defer_pos = 0;
        apply_state_change(q, domain, at, known, &copy->state);
    }
    apply_entry_put(q, domain, at, known);
}

static int apply_msg(struct queue *q, const struct applied *a)
{
    const struct record *rec = a->rec;
    struct slice domain = meta_find(rec->meta, RT_DOMAIN);
    struct place at = {rec->arrival_us, rec->id};
    struct entry known, copy;
    entry_from_record(q, a, &copy);
    uint32_t items = meta_rcpts(rec->meta);
    if (!apply_name_ok(domain) || items == 0 || items > STATE_ITEMS_MAX) {
        log_error("queue.message_odd", "pos=%llx items=%u domain_bytes=%zu", (unsigned long long)a->pos, items,
                  domain.n);
        return apply_other(q, a);
    }
    if (finished_has(q, &rec->id))
        return apply_nothing(q, a);
    struct tomb tomb;
    int ended = tomb_load(q, &rec->id, &tomb);
    if (ended != -SATCHEL_ENOENT)
        return ended ? ended : apply_dead(q, a, &tomb);
    const struct bag *b = bags_find(&q->bags, domain);
    int res =
        b && b->messages && at.arrival_us <= b->newest_us ? queue_entry_load(q, domain, &at, &known) : -SATCHEL_ENOENT;
    if (res && res != -SATCHEL_ENOENT)
        return res;
    q->store.writing = true;
    apply_own_seg(q, a);
    if (res)
        msg_new(q, domain, &at, &copy);
    else
        msg_again(q, domain, &at, &known, &copy, rec->flags & REC_F_MOVED);
    return 0;
}

/* ---- CHUNK */

static int apply_chunk(struct queue *q, const struct applied *a)
{
    struct slice v = meta_find(a->rec->meta, RT_CHUNK_INDEX);
    struct wire_rd r = wire_rd(v);
    uint32_t chunk = v.p ? wire_u32(&r) : 0, old_size;
    if (!v.p || r.bad)
        return apply_other(q, a);
    if (finished_has(q, &a->rec->id))
        return apply_nothing(q, a);
    struct tomb tomb;
    int ended = tomb_load(q, &a->rec->id, &tomb);
    if (ended != -SATCHEL_ENOENT)
        return ended ? ended : apply_dead(q, a, &tomb);
    char domain[256];
    struct place at;
    uint64_t old_pos;
    int has_msg = queue_id_load(q, &a->rec->id, domain, &at);
    int has_old = queue_chunk_load(q, &a->rec->id, chunk, &old_pos, &old_size);
    if (q->store.err)
        return q->store.err;
    if (has_msg && a->rec->flags & REC_F_MOVED && !q->replaying)
        return apply_nothing(q, a); /* its message ended meanwhile */
    q->store.writing = true;
    uint8_t value[12];
    struct wire_wr w = wire_wr(value, sizeof value);
    wire_put_u64(&w, a->pos);
    wire_put_u32(&w, a->size);
    struct key k = key_chunk(&a->rec->id, chunk);
    store_put(&q->store, &k, slice_of(value, sizeof value));
    k = key_open(&a->rec->id);
    if (has_msg)
        store_put(&q->store, &k, slice_of(NULL, 0));
    if (has_old == 0)
        seg_chunk(q, old_pos, old_size, -1);
    seg_chunk(q, a->pos, a->size, 1);
    return 0;
}

static apply_fn *const appliers[] = {
    [REC_MSG] = apply_msg,     [REC_CHUNK] = apply_chunk, [REC_DONE] = apply_done,
    [REC_DEFER] = apply_defer, [REC_ABORT] = apply_abort, [REC_GROUP] = apply_nothing,
};

int queue_apply(struct queue *q, const struct record *rec, uint64_t pos, uint32_t size)
{
    if (pos < q->end || q->store.err)
        return q->store.err;
    if (store_full(&q->store) && store_settle(&q->store))
        return q->store.err;
    apply_fn *fn = rec->type < sizeof appliers / sizeof *appliers ? appliers[rec->type] : NULL;
    struct applied a = {rec, pos, size};
    int res = (fn ? fn : apply_other)(q, &a);
    q->store.writing = false;
    if (res)
        return res;
    struct seg *own = apply_own_seg(q, &a);
    if (logpos_off(pos) + size > own->end)
        own->end = logpos_off(pos) + size;
    own->moved_bytes += rec->flags & REC_F_MOVED ? size : 0;
    q->end = pos + size;
    q->unflushed += size;
    return 0;
}
