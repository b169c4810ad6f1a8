/* house_storage.c - the storage door of a storage on a simulated disk: spool/door_copy.c without its threads. */
#include "tests/csim/house_impl.h"

#include <stdio.h>

#define BATCH 64

/* A record on its way to the log. */
struct entry {
    struct seglog_entry e;
    struct house_depot *d;
    struct storage_put *put;
    bool is_new; /* nothing was known of the message */
    uint8_t meta[];
};

/* ---- answers */

static struct answer *answer_new(struct house_depot *d)
{
    struct answer *a = calloc(1, sizeof *a);
    assert(a);
    *d->answers_tail = a;
    d->answers_tail = &a->next;
    house_wake(d, 0);
    return a;
}

static void answer_put(struct house_depot *d, struct storage_put *p, int res)
{
    struct answer *a = answer_new(d);
    a->put = p;
    a->res = res;
}

static void answer_merge(struct house_depot *d, struct storage_merge *m, int res)
{
    struct answer *a = answer_new(d);
    a->merge = m;
    a->res = res;
}

static void answer_tell(struct house_depot *d, struct answer *a)
{
    if (a->put)
        a->put->done(a->put, d->dying ? -SATCHEL_ESHUT : a->res);
    else if (a->merge)
        a->merge->done(a->merge, d->dying ? -SATCHEL_ESHUT : a->res);
    else if (d->tap && !d->dying)
        d->tap(d->tap_arg, &a->tap);
    free(a);
}

void house_answers_tell(struct house_depot *d)
{
    struct answer *a = d->answers;
    d->answers = NULL;
    d->answers_tail = &d->answers;
    for (struct answer *next; a; a = next) {
        next = a->next;
        answer_tell(d, a);
    }
}

/* ---- put */

static uint32_t meta_u32(struct slice meta, uint16_t tag)
{
    struct slice v = meta_find(meta, tag);
    struct wire_rd r = wire_rd(v);
    return v.p ? wire_u32(&r) : 0;
}

static uint32_t put_chunks(const struct record *rec)
{
    return rec->type == REC_MSG && rec->flags & REC_F_CHUNKED ? meta_u32(rec->meta, RT_CHUNKS) : 0;
}

static bool chunk_here(struct house_depot *d, const struct msgid *id, uint32_t i)
{
    uint64_t pos;
    uint32_t size;
    return queue_chunk(d->h.q, id, i, &pos, &size) == 0;
}

static bool put_is_here(struct house_depot *d, const struct storage_put *p, enum queue_known known)
{
    if (p->flags & PUT_REPAIR)
        return false;
    if (p->rec.type == REC_CHUNK)
        return chunk_here(d, &p->rec.id, meta_u32(p->rec.meta, RT_CHUNK_INDEX));
    for (uint32_t i = put_chunks(&p->rec); i-- > 0;)
        if (!chunk_here(d, &p->rec.id, i))
            return false;
    return known == QUEUE_LIVE;
}

static int put_judge(struct house_depot *d, const struct storage_put *p, bool *new_r)
{
    if (d->full && p->rec.type != REC_ABORT)
        return -SATCHEL_EFULL;
    if (p->rec.type != REC_MSG && p->rec.type != REC_CHUNK)
        return 1;
    if (fresh_take(d->fresh, &p->rec.id) && !(p->flags & (PUT_LAZY | PUT_REPAIR))) {
        *new_r = true;
        return 1;
    }
    enum queue_known known = queue_known(d->h.q, &p->rec.id);
    *new_r = known == QUEUE_UNKNOWN;
    if (known == QUEUE_TOMB)
        return -SATCHEL_EEXIST;
    return put_is_here(d, p, known) ? 0 : 1;
}

/* What is applied and not committed yet is not known to a look from outside, so a MSG is believed. */
static void note_stored(struct house_depot *d, const struct record *rec)
{
    struct letter *l = letters_find(&house_world(d)->letters, &rec->id);
    if (!l) {
        history_fail("invariant 3: a record names a message that there never was");
        return;
    }
    bool here = rec->type == REC_MSG || queue_known(d->h.q, &rec->id) == QUEUE_LIVE;
    if (here && rec->type != REC_ABORT && queue_is_whole(d->h.q, &rec->id, l->chunks) &&
        !(l->stored & 1u << d->depot.number)) {
        l->stored |= 1u << d->depot.number;
        trace("letter %u is durable on s%u", l->number, d->depot.number);
    }
}

static void entry_done(struct seglog_entry *e, int res)
{
    struct entry *x = (struct entry *)e;
    struct house_depot *d = x->d;
    if (!d->dying && res == 0 && put_chunks(&e->rec) && !queue_is_whole(d->h.q, &e->rec.id, put_chunks(&e->rec))) {
        if (x->is_new)
            queue_forget(d->h.q, &e->rec.id);
        res = -SATCHEL_ENOENT;
    }
    if (!d->dying && res == 0)
        note_stored(d, &e->rec);
    answer_put(d, x->put, res);
    free(x);
}

static void st_put(struct storage *s, struct storage_put *p)
{
    struct house_depot *d = of_storage(s);
    bool is_new = false;
    int res = d->dying ? -SATCHEL_ESHUT : put_judge(d, p, &is_new);
    if (res != 1) {
        answer_put(d, p, res);
        return;
    }
    struct entry *x = calloc(1, sizeof *x + p->rec.copyset.n + p->rec.meta.n);
    assert(x);
    x->d = d;
    x->put = p;
    x->is_new = is_new;
    x->e = (struct seglog_entry){
        .rec = p->rec, .body_parts = p->body_parts, .body_parts_n = p->body_parts_n, .done = entry_done};
    x->e.rec.flags &= (uint16_t)~REC_F_MOVED;
    x->e.flags = p->rec.type == REC_ABORT ? ENTRY_LAZY | ENTRY_RESERVE : p->flags & PUT_LAZY ? ENTRY_LAZY : 0;
    house_disk_follow(d);
    res = house_append(&d->h, &x->e);
    if (res != 0) {
        answer_put(d, p, res);
        free(x);
    }
    house_wake(d, 0);
}

/* ---- merge, forget, look */

static void merge_done(void *arg, int res)
{
    struct storage_merge *m = arg;
    answer_merge(m->impl, m, res);
}

static bool st_merge(struct storage *s, struct storage_merge *m)
{
    struct house_depot *d = of_storage(s);
    m->impl = d;
    if (!d->dying)
        (void)fresh_take(d->fresh, &m->st.id);
    int res = d->dying ? -SATCHEL_ESHUT : queue_merge(d->h.q, &m->st, merge_done, m);
    if (res != 0)
        answer_merge(d, m, res > 0 ? 0 : res);
    house_wake(d, 0);
    return res > 0 || (res == 0 && queue_held(d->h.q, &m->st.id));
}

static size_t st_forget(struct storage *s, const struct msgid *ids, size_t n)
{
    struct house_depot *d = of_storage(s);
    size_t taken = 0;
    for (size_t i = 0; i < n && !d->dying; i++)
        taken += queue_forget(d->h.q, &ids[i]) == 0;
    house_wake(d, 0);
    return taken;
}

static int st_find(struct storage *s, const struct msgid *id, struct queue_entry *e_r, char domain_r[256])
{
    return of_storage(s)->dying ? -SATCHEL_ENOENT : queue_find(of_storage(s)->h.q, id, e_r, domain_r);
}

static int st_tomb(struct storage *s, const struct msgid *id, struct storage_state *st_r)
{
    return of_storage(s)->dying ? -SATCHEL_ENOENT : queue_tomb(of_storage(s)->h.q, id, st_r, of_storage(s)->tomb);
}

static void st_bags(struct storage *s, void (*each)(void *arg, struct slice domain, const struct bag_stat *st),
                    void *arg)
{
    if (!of_storage(s)->dying)
        queue_bags(of_storage(s)->h.q, each, arg);
}

static void st_bag(struct storage *s, struct slice domain, struct bag_stat *st_r)
{
    *st_r = (struct bag_stat){0};
    if (!of_storage(s)->dying)
        queue_bag_stat(of_storage(s)->h.q, domain, st_r);
}

static int st_list(struct storage *s, struct slice domain, struct slice after,
                   bool (*each)(void *arg, const struct queue_entry *e), void *arg, uint8_t *cursor_r,
                   size_t *cursor_n_r)
{
    return of_storage(s)->dying ? 0 : queue_list(of_storage(s)->h.q, domain, after, each, arg, cursor_r, cursor_n_r);
}

static int part_place(struct house_depot *d, const struct msgid *id, uint32_t part, uint64_t *pos_r, uint32_t *size_r)
{
    struct queue_entry e;
    char domain[256];
    int res = queue_find(d->h.q, id, &e, domain);
    if (res == 0 && part > 0)
        return part > e.chunks ? -SATCHEL_ENOENT : queue_chunk(d->h.q, id, part - 1, pos_r, size_r);
    if (res == 0) {
        *pos_r = e.pos;
        *size_r = e.size;
    }
    return res;
}

static int st_read(struct storage *s, const struct msgid *id, uint32_t part, struct record *rec_r)
{
    struct house_depot *d = of_storage(s);
    uint64_t pos;
    uint32_t size;
    int res = d->dying ? -SATCHEL_ESHUT : part_place(d, id, part, &pos, &size);
    if (res != 0)
        return res;
    res = segread_record(d->h.reader, pos, size, rec_r);
    if (res == 0 && !msgid_eq(&rec_r->id, id))
        res = -SATCHEL_EDAMAGED;
    return res == -SATCHEL_ENOENT ? -SATCHEL_EDAMAGED : res;
}

/* ---- tombstones */

static void st_owed(struct storage *s, const struct storage_id *to, const struct msgid *after,
                    bool (*each)(void *arg, const struct storage_state *st), void *arg)
{
    if (!of_storage(s)->dying && queue_tombs_owed(of_storage(s)->h.q, to, after, each, arg) < 0)
        history_fail("tombstones cannot be read");
}

static void st_confirm(struct storage *s, const struct storage_id *to, const struct msgid *ids, size_t n)
{
    if (!of_storage(s)->dying)
        queue_tombs_confirm(of_storage(s)->h.q, to, ids, n);
}

static void st_settled(struct storage *s, const struct msgid *ids, size_t n)
{
    st_confirm(s, NULL, ids, n);
}

struct id_batch {
    struct msgid ids[BATCH];
    size_t n;
};

static bool id_note(void *arg, const struct storage_state *st)
{
    struct id_batch *b = arg;
    b->ids[b->n++] = st->id;
    return b->n < BATCH;
}

static void st_retire(struct storage *s, const struct storage_id *gone)
{
    struct id_batch b;
    do {
        b.n = 0;
        st_owed(s, gone, NULL, id_note, &b);
        st_confirm(s, gone, b.ids, b.n);
    } while (b.n == BATCH);
}

void house_changed(void *arg, const struct storage_state *st)
{
    struct house_depot *d = arg;
    struct answer *a = answer_new(d);
    assert(st->domain.n <= 255 && st->owed.n <= sizeof a->bytes - 256);
    a->tap = *st;
    memcpy(a->bytes, st->domain.p, st->domain.n);
    if (st->owed.n)
        memcpy(a->bytes + 256, st->owed.p, st->owed.n);
    a->tap.domain.p = a->bytes;
    a->tap.owed.p = a->bytes + 256;
}

static void st_tap(struct storage *s, void (*each)(void *arg, const struct storage_state *st), void *arg)
{
    of_storage(s)->tap = each;
    of_storage(s)->tap_arg = arg;
}

static void st_observe(struct storage *s, uint64_t arrival_us)
{
    struct house_depot *d = of_storage(s);
    if (arrival_us > d->depot.arrival_us)
        d->depot.arrival_us = arrival_us;
}

static void st_ready(struct storage *s, struct slice domain)
{
    uint32_t i = house_domain(of_storage(s), domain);
    if (i < WORLD_DOMAINS)
        of_storage(s)->hot |= 1u << i;
}

void house_ready(void *arg, struct slice domain)
{
    struct house_depot *d = arg;
    st_ready(&d->storage, domain);
    house_wake(d, 0);
}

static void st_stat(struct storage *s, struct storage_stat *st_r)
{
    struct house_depot *d = of_storage(s);
    struct queue_totals q = {0};
    if (!d->dying)
        queue_totals(d->h.q, &q);
    *st_r = (struct storage_stat){.self = d->id,
                                  .messages = q.messages,
                                  .bytes = q.bytes,
                                  .tombs = q.tombs,
                                  .tombs_owed = q.tombs_owed,
                                  .room_bytes = d->full ? 0 : CAPACITY_BYTES,
                                  .fenced = house_fenced(&d->h)};
}

static void st_poll(struct storage *s)
{
    struct house_depot *d = of_storage(s);
    house_disk_follow(d);
    house_turn(&d->h, 0);
    if (house_idle(&d->h) && house_world(d)->now_us >= d->reclaim_us) {
        d->reclaim_us = house_world(d)->now_us + between(&d->rng, 100000, 4000000);
        house_reclaim(&d->h, chance(&d->rng, 30));
    }
    house_answers_tell(d);
}

static bool st_sleep(struct storage *s)
{
    return of_storage(s)->answers == NULL;
}

static void st_close(struct storage **s)
{
    *s = NULL;
}

const struct storage_ops house_storage_ops = {
    .put = st_put,
    .merge = st_merge,
    .forget = st_forget,
    .find = st_find,
    .tomb = st_tomb,
    .bags = st_bags,
    .bag = st_bag,
    .list = st_list,
    .read = st_read,
    .owed = st_owed,
    .confirm = st_confirm,
    .settled = st_settled,
    .retire = st_retire,
    .tap = st_tap,
    .observe = st_observe,
    .ready = st_ready,
    .stat = st_stat,
    .poll = st_poll,
    .sleep = st_sleep,
    .close = st_close,
};
