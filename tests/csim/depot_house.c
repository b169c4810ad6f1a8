/* depot_house.c - a storage made of the product's log, index and queue on a simulated disk (tests/sim/house.h): the
 * doors of spool/door_copy.c and door_out.c without their threads.
 *
 * The disk has a clock of its own, which waits inside recovery and reclaim; each turn brings it up to the world's. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "spool/base/err.h"
#include "spool/base/wire.h"
#include "tests/csim/depot.h"
#include "tests/csim/simnode.h"
#include "tests/sim/house.h"

#define SEGMENT_BYTES  (256u * 1024)
#define CAPACITY_BYTES (64u * 1024 * 1024)
#define UUIDS_MAX      8
#define BATCH          64

/* What is told in the next poll. */
struct answer {
    struct answer *next;
    struct storage_put *put;
    struct storage_merge *merge;
    int res;
    struct storage_state tap; /* neither put nor merge */
    uint8_t bytes[256 + LETTER_STORES_MAX * 16];
};

/* A record on its way to the log. */
struct entry {
    struct seglog_entry e;
    struct house_depot *d;
    struct storage_put *put;
    uint8_t meta[];
};

struct house_depot {
    struct depot depot;
    struct storage storage;
    struct storage_id id;
    struct depot_env env;
    struct rng rng;
    struct simdisk *disk;
    struct house h;
    bool running, dying, full;
    struct answer *answers, **answers_tail;
    uint32_t hot;
    void (*tap)(void *arg, const struct storage_state *st);
    void *tap_arg;
    uint8_t has[LETTERS_MAX]; /* enum depot_has when the process ended */
    uint8_t tomb[QUEUE_TOMB_BYTES];
    uint64_t reclaim_us;
};

struct house_outlet {
    struct outlet outlet;
    struct house_depot *d;
    struct record rec; /* held for read */
};

struct house_msg {
    struct outlet_msg msg;
    struct slice rcpts[LETTER_ITEMS_MAX];
    struct claim claim;
    uint8_t copyset[REC_COPYSET_MAX * 16];
    size_t copyset_n;
};

static struct house_depot *of(struct depot *d)
{
    return (struct house_depot *)d;
}

static struct house_depot *of_storage(struct storage *s)
{
    return (struct house_depot *)((char *)s - offsetof(struct house_depot, storage));
}

static struct world *world_of(const struct house_depot *d)
{
    return d->depot.w;
}

static uint32_t domain_of(const struct house_depot *d, struct slice name)
{
    for (uint32_t i = 0; i < WORLD_DOMAINS; i++)
        if (slice_eq(name, world_domain(world_of(d), i)))
            return i;
    return UINT32_MAX;
}

static void disk_follow(struct house_depot *d)
{
    uint64_t disk = clock_boot_us(simdisk_clock(d->disk)), now = world_of(d)->now_us;
    if (disk < now)
        simdisk_sleep(d->disk, now - disk);
}

static void wake(struct house_depot *d, uint64_t at_us)
{
    simnode_wake(world_of(d)->nodes[world_of(d)->stores[d->depot.number].node], at_us);
}

/* ---- answers */

static struct answer *answer_new(struct house_depot *d)
{
    struct answer *a = calloc(1, sizeof *a);
    assert(a);
    *d->answers_tail = a;
    d->answers_tail = &a->next;
    wake(d, 0);
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

static void answers_tell(struct house_depot *d)
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

static int put_judge(struct house_depot *d, const struct storage_put *p)
{
    if (d->full && p->rec.type != REC_ABORT)
        return -SATCHEL_EFULL;
    if (p->rec.type != REC_MSG && p->rec.type != REC_CHUNK)
        return 1;
    enum queue_known known = queue_known(d->h.q, &p->rec.id);
    if (known == QUEUE_TOMB)
        return -SATCHEL_EEXIST;
    return put_is_here(d, p, known) ? 0 : 1;
}

/* What is applied and not committed yet is not known to a look from outside, so a MSG is believed. */
static void note_stored(struct house_depot *d, const struct record *rec)
{
    struct letter *l = letters_find(&world_of(d)->letters, &rec->id);
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
    if (!d->dying && res == 0 && put_chunks(&e->rec) && !queue_is_whole(d->h.q, &e->rec.id, put_chunks(&e->rec)))
        res = -SATCHEL_ENOENT;
    if (!d->dying && res == 0)
        note_stored(d, &e->rec);
    answer_put(d, x->put, res);
    free(x);
}

static void st_put(struct storage *s, struct storage_put *p)
{
    struct house_depot *d = of_storage(s);
    int res = d->dying ? -SATCHEL_ESHUT : put_judge(d, p);
    if (res != 1) {
        answer_put(d, p, res);
        return;
    }
    struct entry *x = calloc(1, sizeof *x + p->rec.copyset.n + p->rec.meta.n);
    assert(x);
    x->d = d;
    x->put = p;
    x->e = (struct seglog_entry){
        .rec = p->rec, .body_parts = p->body_parts, .body_parts_n = p->body_parts_n, .done = entry_done};
    x->e.rec.flags &= (uint16_t)~REC_F_MOVED;
    x->e.flags = p->rec.type == REC_ABORT ? ENTRY_LAZY | ENTRY_RESERVE : p->flags & PUT_LAZY ? ENTRY_LAZY : 0;
    disk_follow(d);
    res = house_append(&d->h, &x->e);
    if (res != 0) {
        answer_put(d, p, res);
        free(x);
    }
    wake(d, 0);
}

/* ---- merge, forget, look */

static void merge_done(void *arg, int res)
{
    struct storage_merge *m = arg;
    answer_merge(m->impl, m, res);
}

static void st_merge(struct storage *s, struct storage_merge *m)
{
    struct house_depot *d = of_storage(s);
    m->impl = d;
    int res = d->dying ? -SATCHEL_ESHUT : queue_merge(d->h.q, &m->st, merge_done, m);
    if (res != 0)
        answer_merge(d, m, res > 0 ? 0 : res);
    wake(d, 0);
}

static size_t st_forget(struct storage *s, const struct msgid *ids, size_t n)
{
    struct house_depot *d = of_storage(s);
    size_t taken = 0;
    for (size_t i = 0; i < n && !d->dying; i++)
        taken += queue_forget(d->h.q, &ids[i]) == 0;
    wake(d, 0);
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

static void on_changed(void *arg, const struct storage_state *st)
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
    uint32_t i = domain_of(of_storage(s), domain);
    if (i < WORLD_DOMAINS)
        of_storage(s)->hot |= 1u << i;
}

static void on_ready(void *arg, struct slice domain)
{
    struct house_depot *d = arg;
    st_ready(&d->storage, domain);
    wake(d, 0);
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
    disk_follow(d);
    house_turn(&d->h, 0);
    if (house_idle(&d->h) && world_of(d)->now_us >= d->reclaim_us) {
        d->reclaim_us = world_of(d)->now_us + between(&d->rng, 100000, 4000000);
        house_reclaim(&d->h, chance(&d->rng, 30));
    }
    answers_tell(d);
}

static bool st_sleep(struct storage *s)
{
    return of_storage(s)->answers == NULL;
}

static void st_close(struct storage **s)
{
    *s = NULL;
}

static const struct storage_ops storage_ops = {
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

/* ---- the outlet door */

static struct house_depot *of_outlet(struct outlet *o)
{
    return ((struct house_outlet *)o)->d;
}

/* NULL: its record cannot be read; the claim is given back. */
static struct outlet_msg *msg_new(struct house_depot *d, struct slice domain, const struct claim *c)
{
    struct record rec;
    if (segread_record(d->h.reader, c->pos, c->size, &rec) != 0) {
        history_fail("invariant 1: a claimed message of %.*s cannot be read", SLICE_FMT(domain));
        return NULL;
    }
    struct house_msg *x = calloc(1, sizeof *x);
    assert(x);
    x->claim = *c;
    x->copyset_n = rec.copyset.n;
    if (rec.copyset.n)
        memcpy(x->copyset, rec.copyset.p, rec.copyset.n);
    x->msg = (struct outlet_msg){.id = c->id,
                                 .arrival_us = c->arrival_us,
                                 .domain = world_domain(world_of(d), domain_of(d, domain)),
                                 .rcpts = x->rcpts,
                                 .rcpts_n = c->state.items,
                                 .bytes = c->body_bytes,
                                 .state = c->state,
                                 .impl = x};
    return &x->msg;
}

static size_t out_claim(struct outlet *o, struct slice domain, enum claim_mode mode, uint64_t before_us,
                        struct outlet_msg **msgs_r, size_t cap)
{
    struct house_depot *d = of_outlet(o);
    struct claim claims[4];
    size_t n = queue_claim(d->h.q, domain, mode, before_us, claims, cap < 4 ? cap : 4), kept = 0;
    for (size_t i = 0; i < n; i++)
        if ((msgs_r[kept] = msg_new(d, domain, &claims[i])))
            kept++;
    return kept;
}

static int out_claim_id(struct outlet *o, const struct msgid *id, struct outlet_msg **msg_r)
{
    struct house_depot *d = of_outlet(o);
    struct claim c;
    char domain[256];
    int res = queue_claim_id(d->h.q, id, &c, domain);
    if (res == 0)
        *msg_r = msg_new(d, slice_str(domain), &c);
    return res ? res : *msg_r ? 0 : -SATCHEL_EIO;
}

static int out_read(struct outlet *o, struct outlet_msg *msg, uint64_t off, size_t n, struct slice *data_r)
{
    struct house_depot *d = of_outlet(o);
    struct house_msg *x = msg->impl;
    struct record *rec = &((struct house_outlet *)o)->rec;
    uint64_t pos = x->claim.pos, at = off;
    uint32_t size = x->claim.size;
    int res = 0;
    if (x->claim.chunks) {
        uint32_t i = (uint32_t)(off / LETTER_CHUNK_BYTES);
        at = off % LETTER_CHUNK_BYTES;
        res = i < x->claim.chunks ? queue_chunk(d->h.q, &msg->id, i, &pos, &size) : -SATCHEL_ENOENT;
    }
    res = res ? res : segread_record(d->h.reader, pos, size, rec);
    if (res != 0 || at >= rec->body.n)
        return 0;
    *data_r = slice_of(rec->body.p + at, rec->body.n - at < n ? rec->body.n - at : n);
    return (int)data_r->n;
}

static void out_release(struct outlet *o, struct outlet_msg *msg)
{
    struct house_depot *d = of_outlet(o);
    if (d->h.q)
        queue_unclaim(d->h.q, &msg->id);
    free(msg->impl);
}

/* As door_out.c gathers them: who may hold copies now, then the copyset. */
static void owed_add(struct house_depot *d, struct finish_copies *c, uint8_t *uuids, const uint8_t *uuid)
{
    if (memcmp(uuid, d->id.b, 16) == 0 || c->owed.n == UUIDS_MAX * 16)
        return;
    for (size_t i = 0; i < c->owed.n; i += 16)
        if (memcmp(uuids + i, uuid, 16) == 0)
            return;
    memcpy(uuids + c->owed.n, uuid, 16);
    c->owed.n += 16;
}

static int out_finish(struct outlet *o, struct outlet_msg *msg, const struct item_result *results, size_t n,
                      uint64_t due_us, bool held, const struct outlet_dsn *dsn)
{
    struct house_depot *d = of_outlet(o);
    struct house_msg *x = msg->impl;
    uint8_t uuids[UUIDS_MAX * 16], holders[UUIDS_MAX * 16];
    struct finish_copies c = {.owed = slice_of(uuids, 0)};
    size_t holders_n = d->env.holders(d->env.arg, msg->domain, holders, sizeof holders);
    (void)dsn;
    for (size_t i = 0; i < holders_n; i += 16)
        owed_add(d, &c, uuids, holders + i);
    for (size_t i = 0; i < x->copyset_n; i += 16)
        owed_add(d, &c, uuids, x->copyset + i);
    disk_follow(d);
    int res = queue_finish(d->h.q, msg->domain, &x->claim, results, n, due_us, held, &c);
    free(x);
    wake(d, 0);
    return res;
}

static bool out_may(struct outlet *o, const struct outlet_msg *msg)
{
    (void)o;
    (void)msg;
    return true;
}

static bool out_ready(struct outlet *o, struct slice *domain_r)
{
    struct house_depot *d = of_outlet(o);
    for (uint32_t i = 0; i < WORLD_DOMAINS; i++)
        if (d->hot & 1u << i) {
            d->hot &= ~(1u << i);
            *domain_r = world_domain(world_of(d), i);
            return true;
        }
    return false;
}

static uint64_t out_next_due(struct outlet *o, struct slice domain)
{
    return queue_next_due(of_outlet(o)->h.q, domain);
}

static void out_stat(struct outlet *o, struct slice domain, struct bag_stat *st_r)
{
    queue_bag_stat(of_outlet(o)->h.q, domain, st_r);
}

static bool out_sleep(struct outlet *o)
{
    return of_outlet(o)->hot == 0;
}

static void out_close(struct outlet **o)
{
    free(*o);
    *o = NULL;
}

static const struct outlet_ops outlet_ops = {
    .claim = out_claim,
    .claim_id = out_claim_id,
    .read = out_read,
    .finish = out_finish,
    .release = out_release,
    .may = out_may,
    .ready = out_ready,
    .next_due = out_next_due,
    .stat = out_stat,
    .sleep = out_sleep,
    .close = out_close,
};

/* ---- the depot */

static bool note_newest(void *arg, const struct queue_entry *e)
{
    st_observe(arg, e->arrival_us);
    return true;
}

static int house_depot_boot(struct depot *dp, const struct depot_env *env)
{
    struct house_depot *d = of(dp);
    struct house_outlet *o = calloc(1, sizeof *o);
    assert(o && !d->running);
    o->outlet = (struct outlet){&outlet_ops, -1};
    o->d = d;
    d->env = *env;
    d->h.clock = env->clock;
    d->running = true;
    d->dying = false;
    d->hot = (1u << WORLD_DOMAINS) - 1;
    disk_follow(d);
    int res = house_boot(&d->h);
    if (res != 0) {
        history_fail("s%u does not open: %d", dp->number, res);
        free(o);
        return res;
    }
    dp->outlet = &o->outlet;
    dp->storage = &d->storage;
    queue_list(d->h.q, (struct slice){0}, (struct slice){0}, note_newest, &d->storage, NULL, NULL);
    return 0;
}

static enum depot_has has_now(struct house_depot *d, const struct letter *l)
{
    switch (queue_known(d->h.q, &l->id)) {
    case QUEUE_LIVE:
        return queue_is_whole(d->h.q, &l->id, l->chunks) ? DEPOT_LIVE : DEPOT_NONE;
    case QUEUE_TOMB:
        return DEPOT_FINAL;
    default:
        return DEPOT_NONE;
    }
}

static void house_depot_crash(struct depot *dp, bool power)
{
    struct house_depot *d = of(dp);
    if (!d->dying) {
        for (uint32_t i = 0; i < world_of(d)->letters.n; i++)
            d->has[i] = (uint8_t)has_now(d, &world_of(d)->letters.all[i]);
        d->dying = true;
        simdisk_crash(d->disk, power ? SIMDISK_POWER : SIMDISK_KILL);
        house_drop(&d->h);
    }
    while (d->answers)
        answers_tell(d);
    d->running = false;
    d->tap = NULL;
    dp->arrival_us = 0;
}

static enum depot_has house_depot_has(struct depot *dp, const struct letter *l)
{
    struct house_depot *d = of(dp);
    return d->running && d->h.q ? has_now(d, l) : (enum depot_has)d->has[l->number];
}

static bool house_depot_damage(struct depot *dp, const struct letter *l)
{
    (void)dp;
    (void)l;
    return false;
}

static void house_depot_slow(struct depot *dp, uint64_t us)
{
    simdisk_slow(of(dp)->disk, us);
}

static void house_depot_full(struct depot *dp, bool full)
{
    of(dp)->full = full;
}

static uint64_t house_depot_next(struct depot *dp)
{
    struct house_depot *d = of(dp);
    uint64_t next = seglog_next_us(d->h.log), landing = simdisk_next_us(d->disk);
    next = landing < next ? landing : next;
    return d->answers || (!house_idle(&d->h) && next == UINT64_MAX) ? world_of(d)->now_us : next;
}

static void house_depot_destroy(struct depot **dp)
{
    struct house_depot *d = of(*dp);
    house_destroy(&d->h);
    simdisk_close(&d->disk);
    free(d);
    *dp = NULL;
}

static const struct depot_ops depot_ops = {
    .boot = house_depot_boot,
    .crash = house_depot_crash,
    .has = house_depot_has,
    .damage = house_depot_damage,
    .damaged = house_depot_damage,
    .slow = house_depot_slow,
    .full = house_depot_full,
    .next_us = house_depot_next,
    .destroy = house_depot_destroy,
};

static void configure(struct house_depot *d)
{
    struct seglog_config *c = &d->h.log_config;
    c->segment_bytes = SEGMENT_BYTES;
    c->spare_segments = (uint32_t)rng_below(&d->rng, 2);
    c->reserve_segments = 1;
    c->group_bytes = (uint32_t)(32u * 1024 << rng_below(&d->rng, 3));
    c->inflight_groups = (uint32_t)between(&d->rng, 1, 4);
    d->h.queue_config.flush_bytes = 16384 << rng_below(&d->rng, 8);
    d->h.queue_config.compact_live_pct = (uint32_t)between(&d->rng, 20, 90);
    d->h.queue_config.tomb_min_us = between(&d->rng, 30, 600) * SECOND_US;
    d->h.lag_percent = chance(&d->rng, 50) ? 0 : (uint32_t)rng_below(&d->rng, 60);
    d->h.ready = on_ready;
    d->h.changed = on_changed;
    d->h.arg = d;
}

struct depot *depot_house_open(struct world *w, uint32_t number, const struct storage_id *id)
{
    struct house_depot *d = calloc(1, sizeof *d);
    assert(d);
    d->depot = (struct depot){.ops = &depot_ops, .w = w, .number = number};
    d->storage = (struct storage){&storage_ops, -1};
    d->id = *id;
    d->answers_tail = &d->answers;
    rng_seed(&d->rng, rng_u64(&w->rng));
    simdisk_open(&d->disk, rng_u64(&w->rng), CAPACITY_BYTES);
    house_init(&d->h, NULL, d->disk, &d->rng);
    configure(d);
    return &d->depot;
}
