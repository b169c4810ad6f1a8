/* ends.c - what DONE, DEFER and ABORT mean for index and counters.
 *
 * As in apply.c: each first reads what it needs, then writes without reading. */
#include "spool/base/err.h"
#include "spool/base/wire.h"
#include "spool/queue/apply.h"

/* Domain and arrival are in the record; older or foreign ones are found by ID. domain_r has 256 bytes. */
static int locate(struct queue *q, const struct record *rec, char domain_r[256], struct place *at_r, struct entry *e_r)
{
    struct slice domain = meta_find(rec->meta, RT_DOMAIN);
    *at_r = (struct place){rec->arrival_us, rec->id};
    if (rec->arrival_us && apply_name_ok(domain)) {
        memcpy(domain_r, domain.p, domain.n);
        domain_r[domain.n] = 0;
    } else {
        int res = queue_id_load(q, &rec->id, domain_r, at_r);
        if (res)
            return res;
    }
    return queue_entry_load(q, slice_str(domain_r), at_r, e_r);
}

static void apply_results(struct slice meta, struct msg_state *s)
{
    struct wire_rd r = wire_rd(meta);
    struct meta_tlv t;
    struct smtp_status st;
    uint32_t item;
    enum item_end end;
    while (meta_next(&r, &t))
        if (t.tag == RT_RESULT && result_parse(t.value, &item, &end, &st) == 0 && item < s->items)
            state_finish(s, item, end);
}

/* Where a record lay before compaction moved it: what it says concerns copies that lie below. */
static uint64_t first_pos(const struct applied *a)
{
    struct slice v = meta_find(a->rec->meta, RT_UPTO);
    struct wire_rd r = wire_rd(v);
    return v.p ? wire_u64(&r) : a->pos;
}

static void apply_kills(struct queue *q, struct seg *own, struct slice meta)
{
    struct wire_rd r = wire_rd(meta);
    struct meta_tlv t;
    while (meta_next(&r, &t)) {
        struct wire_rd v = wire_rd(t.value);
        if (t.tag == RT_KILLS)
            apply_kill_seg(q, own, logpos_seg(wire_u64(&v)));
    }
}

/* Items are final by the results that the record names, and by the state of a tombstone's. */
static void apply_ends(const struct record *rec, struct msg_state *s)
{
    struct msg_state ends;
    struct slice state = meta_find(rec->meta, RT_STATE);
    apply_results(rec->meta, s);
    if (state.p && state_decode(state, &ends) == 0)
        apply_state_merge(s, &ends);
}

/* The tombstone that a DONE leaves; e: the message, NULL where it is not known. */
static bool tomb_make(struct queue *q, const struct applied *a, const struct place *at, const char *domain,
                      const struct entry *e, struct tomb *t_r)
{
    const struct record *rec = a->rec;
    struct slice state = meta_find(rec->meta, RT_STATE);
    if (!(rec->flags & REC_F_TOMB) || !state.p || state_decode(state, &t_r->state) || t_r->state.live)
        return false;
    t_r->final_us = clock_wall_us(q->clock);
    t_r->pos = a->pos;
    t_r->at = *at;
    t_r->dead_from = t_r->dead_to = 0;
    t_r->domain_n = (uint16_t)strlen(domain);
    memcpy(t_r->domain, domain, t_r->domain_n);
    t_r->owed_n = (uint16_t)rec->copyset.n;
    if (rec->copyset.n)
        memcpy(t_r->owed, rec->copyset.p, rec->copyset.n);
    if (e && !apply_meta_kills(rec->meta, logpos_seg(e->pos)))
        tomb_dead_add(t_r, logpos_seg(e->pos));
    for (uint32_t i = 0; e && i < e->olds_n; i++)
        if (segs_find(&q->segs, e->olds[i]) && !apply_meta_kills(rec->meta, e->olds[i]))
            tomb_dead_add(t_r, e->olds[i]);
    return true;
}

/* A DONE whose message is not here: it ended before, or never was here. */
static int done_unknown(struct queue *q, const struct applied *a, const struct place *at, const char *domain)
{
    struct tomb t;
    bool moved = a->rec->flags & REC_F_MOVED, tomb = a->rec->flags & REC_F_TOMB;
    int res = tomb_load(q, &at->id, &t);
    if (res && res != -SATCHEL_ENOENT)
        return res;
    q->store.writing = true;
    struct seg *own = apply_own_seg(q, a);
    own->done_bytes += a->size;
    apply_kills(q, own, a->rec->meta);
    if (res == 0 && moved && tomb)
        tomb_moved(q, &t, a->pos);
    else if (res && (!moved || q->replaying) && tomb_make(q, a, at, domain, NULL, &t))
        tomb_new(q, &t);
    else if (res && !tomb && a->rec->flags & REC_F_FINAL)
        apply_finished_add(q, &at->id);
    return 0;
}

int apply_done(struct queue *q, const struct applied *a)
{
    char domain[256] = "";
    struct place at;
    struct entry e;
    struct tomb t;
    int res = locate(q, a->rec, domain, &at, &e);
    if (res == -SATCHEL_ENOENT)
        return done_unknown(q, a, &at, domain);
    if (res)
        return res;
    struct msg_state after = e.state;
    struct index_iter *chunks = NULL;
    bool final = a->rec->flags & REC_F_FINAL;
    if (final || e.pos < first_pos(a)) /* a later copy brings its state with it, and may be a life of its own */
        apply_ends(a->rec, &after);
    final = final || after.live == 0;
    if (final && e.chunks && !(chunks = queue_chunks_iter(q, &at.id)))
        return q->store.err ? q->store.err : -SATCHEL_ENOMEM;
    q->store.writing = true;
    struct seg *own = apply_own_seg(q, a);
    own->done_bytes += a->size;
    apply_kills(q, own, a->rec->meta);
    apply_kill_entry(q, own, &e);
    if (final) {
        bool tomb = tomb_make(q, a, &at, domain, &e, &t);
        apply_chunks_remove(q, chunks, UINT64_MAX, tomb ? &t : NULL, a->rec->meta);
        apply_entry_remove(q, slice_str(domain), &at, &e);
        if (tomb)
            tomb_new(q, &t);
        return 0;
    }
    struct bag *b = bags_need(&q->bags, slice_str(domain));
    apply_bag_count(q, b, &at.id, &e, -1);
    e.state = after;
    apply_bag_count(q, b, &at.id, &e, 1);
    apply_entry_put(q, slice_str(domain), &at, &e);
    return 0;
}

int apply_defer(struct queue *q, const struct applied *a)
{
    char domain[256];
    struct place at;
    struct entry e;
    struct msg_state now;
    struct slice state = meta_find(a->rec->meta, RT_STATE);
    if (!state.p || state_decode(state, &now))
        return apply_other(q, a);
    int res = locate(q, a->rec, domain, &at, &e);
    if (res)
        return res == -SATCHEL_ENOENT ? apply_nothing(q, a) : res;
    bool news = now.seq > e.state.seq && now.items == e.state.items;
    bool moved = now.seq == e.state.seq && e.defer_pos && a->rec->flags & REC_F_MOVED;
    if (!news && !moved)
        return apply_nothing(q, a);
    q->store.writing = true;
    apply_own_seg(q, a);
    apply_seg_defer(q, e.defer_pos, -1);
    e.defer_pos = a->pos;
    apply_seg_defer(q, e.defer_pos, 1);
    if (news)
        apply_state_change(q, slice_str(domain), &at, &e, &now);
    apply_entry_put(q, slice_str(domain), &at, &e);
    return 0;
}

/* A copy that came after the ABORT was written is another promise.  Only a scan may see a moved ABORT behind such a
 * copy; in doubt the message stays. */
static bool abort_is_late(const struct entry *e, uint64_t upto)
{
    for (uint32_t i = 0; i < e->olds_n; i++)
        if (e->olds[i] > logpos_seg(upto))
            return true;
    return e->pos >= upto;
}

int apply_abort(struct queue *q, const struct applied *a)
{
    char domain[256];
    struct place at;
    struct entry e;
    uint64_t upto = first_pos(a);
    int res = queue_id_load(q, &a->rec->id, domain, &at);
    if (res == 0)
        res = queue_entry_load(q, slice_str(domain), &at, &e);
    if (res && res != -SATCHEL_ENOENT)
        return res;
    struct index_iter *chunks = queue_chunks_iter(q, &a->rec->id);
    if (!chunks)
        return q->store.err ? q->store.err : -SATCHEL_ENOMEM;
    q->store.writing = true;
    struct seg *own = apply_own_seg(q, a);
    own->done_bytes += a->size;
    apply_kills(q, own, a->rec->meta);
    bool later = res == 0 && abort_is_late(&e, upto);
    apply_chunks_remove(q, chunks, later ? 0 : upto, NULL, a->rec->meta);
    if (res == 0) {
        apply_kill_entry(q, own, &e);
        if (!later)
            apply_entry_remove(q, slice_str(domain), &at, &e);
    } else if (upto == a->pos) {
        struct key k = key_open(&a->rec->id);
        store_del(&q->store, &k);
    }
    return 0;
}
