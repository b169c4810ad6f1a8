/* take.c - live mail of dead nodes, oldest first, into our own log.
 *
 * A batch is read by the reader's thread, then put: the chunks of a message first, its MSG when all of them are
 * durable.  The record goes with the state that the dead node knew, so that no recipient who has it gets it again. */
#include "cluster/shared/adopt_impl.h"

#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/metrics.h"
#include "spool/base/wire.h"

#include <stdlib.h>

enum { ITEMS_MAX = 128, STATE_MAX = 64 + STATE_ITEMS_MAX / 2, AHEAD_US = 60 * 1000000 };

struct item {
    struct batch *b;
    uint32_t entry; /* in the census */
    uint32_t part, parts_n;
    uint32_t pending;
    int res;
    struct storage_put *puts; /* one a part: the MSG first */
    uint8_t *meta;            /* of the MSG, where it differs from the record's */
    uint8_t copyset[REC_COPYSET_MAX * 16];
};

struct batch {
    struct reader_job job;
    struct alog *log;
    uint32_t items_n, parts_cap, pending;
    uint64_t bytes;
    struct item items[ITEMS_MAX];
};

static struct census *census_of(const struct batch *b)
{
    return foreign_census(b->log->f);
}

/* ---- a batch is over */

static void batch_free(struct batch *b)
{
    for (uint32_t i = 0; i < b->items_n; i++) {
        free(b->items[i].puts);
        free(b->items[i].meta);
    }
    reader_parts_free(b->job.parts, b->job.parts_n);
    free(b);
}

static void unreadable(struct batch *b, struct census_entry *e, int res)
{
    char id[MSGID_TEXT_MAX];
    msgid_format(&e->id, id);
    log_error("shared.damaged", "node=%s id=%s segment=%llu offset=%u err=\"%s\" action=\"left where it is\"",
              b->log->name, id, (unsigned long long)logpos_seg(e->pos), logpos_off(e->pos), satchel_strerror(res));
    b->log->a->info.unreadable++;
    metric_add(M_SHARED_UNREADABLE, 1);
    alog_finish(b->log, e, CENSUS_BAD);
}

static void item_end(struct batch *b, struct item *it)
{
    struct adopt *a = b->log->a;
    struct census_entry *e = census_at(census_of(b), it->entry);
    if (it->res == 0 || it->res == -SATCHEL_EEXIST) {
        a->info.taken += it->res == 0;
        metric_add(M_SHARED_TAKEN, it->res == 0);
        alog_finish(b->log, e, CENSUS_TAKEN);
    } else if (it->res == -SATCHEL_EDAMAGED) {
        unreadable(b, e, it->res);
    } else if (it->res == -SATCHEL_ENOENT) {
        alog_again(b->log);
    } else {
        a->pause_us = adopt_now(a) + RETRY_US;
        a->dirty = true; /* from the oldest again */
    }
}

static void batch_end(struct batch *b)
{
    struct adopt *a = b->log->a;
    for (uint32_t i = 0; !a->closing && i < b->items_n; i++)
        item_end(b, &b->items[i]);
    b->log->busy--;
    a->batches--;
    adopt_wake(a, 0);
    batch_free(b);
}

static void item_over(struct item *it)
{
    if (--it->b->pending == 0)
        batch_end(it->b);
}

/* ---- putting */

static void put_one(struct item *it, uint32_t i, void (*done)(struct storage_put *p, int res))
{
    struct storage *s = it->b->log->a->env.storage;
    it->puts[i].flags = PUT_LAZY;
    it->puts[i].done = done;
    it->puts[i].arg = it;
    it->pending++;
    s->ops->put(s, &it->puts[i]);
}

static void msg_done(struct storage_put *p, int res)
{
    struct item *it = p->arg;
    it->pending--;
    it->res = it->res ? it->res : res;
    item_over(it);
}

static void chunk_done(struct storage_put *p, int res)
{
    struct item *it = p->arg;
    it->res = it->res ? it->res : res;
    if (--it->pending)
        return;
    if (it->res)
        item_over(it);
    else
        put_one(it, 0, msg_done);
}

/* The storage that it lies in is owed its end, beside those that were. */
static void msg_copyset(struct item *it, struct record *rec)
{
    const struct alog *l = it->b->log;
    size_t n = 16;
    memcpy(it->copyset, l->id.b, 16);
    for (size_t i = 0; i + 16 <= rec->copyset.n && n < sizeof it->copyset; i += 16) {
        const uint8_t *id = rec->copyset.p + i;
        if (memcmp(id, l->id.b, 16) == 0 || memcmp(id, l->a->cfg.self.b, 16) == 0)
            continue;
        memcpy(it->copyset + n, id, 16);
        n += 16;
    }
    rec->copyset = slice_of(it->copyset, n);
}

/* What the record says of its state and place is that log's; the census knows better. */
static bool msg_meta(struct item *it, struct record *rec, const struct census_entry *e)
{
    struct msg_state s;
    uint8_t state[STATE_MAX];
    bool tried = census_state(e, &s);
    if (!tried && !meta_find(rec->meta, RT_STATE).p)
        return true;
    it->meta = malloc(rec->meta.n + STATE_MAX + 8);
    if (!it->meta)
        return false;
    struct wire_wr w = wire_wr(it->meta, rec->meta.n + STATE_MAX + 8);
    struct wire_rd r = wire_rd(rec->meta);
    struct meta_tlv t;
    while (meta_next(&r, &t))
        if (t.tag != RT_STATE && t.tag != RT_KILLS)
            meta_put(&w, t.tag, t.value);
    if (tried)
        meta_put(&w, RT_STATE, slice_of(state, state_encode(&s, state, sizeof state)));
    rec->meta = slice_of(it->meta, wire_len(&w));
    return !w.bad;
}

static void item_start(struct batch *b, struct item *it)
{
    struct adopt *a = b->log->a;
    const struct census_entry *e = census_at(census_of(b), it->entry);
    it->puts = calloc(it->parts_n, sizeof *it->puts);
    for (uint32_t i = 0; i < it->parts_n && it->res == 0; i++) {
        const struct reader_part *p = &b->job.parts[it->part + i];
        it->res = !it->puts ? -SATCHEL_ENOMEM : p->res ? p->res : msgid_eq(&p->rec.id, &e->id) ? 0 : -SATCHEL_EDAMAGED;
        if (it->res == 0)
            it->puts[i].rec = p->rec;
    }
    if (it->res == 0 && !msg_meta(it, &it->puts[0].rec, e))
        it->res = -SATCHEL_ENOMEM;
    if (it->res || a->closing) {
        item_over(it);
        return;
    }
    msg_copyset(it, &it->puts[0].rec);
    if (e->arrival_us < clock_wall_us(a->env.clock) + AHEAD_US)
        a->env.storage->ops->observe(a->env.storage, e->arrival_us);
    if (it->parts_n == 1)
        put_one(it, 0, msg_done);
    for (uint32_t i = 1; i < it->parts_n; i++)
        put_one(it, i, chunk_done);
}

static void batch_read(struct reader_job *j)
{
    struct batch *b = j->arg;
    b->pending = b->items_n + 1;
    for (uint32_t i = 0; i < b->items_n; i++)
        item_start(b, &b->items[i]);
    if (--b->pending == 0)
        batch_end(b);
}

/* ---- filling */

static struct reader_part *part_add(struct batch *b)
{
    struct reader_job *j = &b->job;
    if (j->parts_n == b->parts_cap) {
        uint32_t cap = b->parts_cap ? b->parts_cap * 2 : ITEMS_MAX;
        struct reader_part *parts = realloc(j->parts, cap * sizeof *parts);
        if (!parts)
            return NULL;
        j->parts = parts;
        b->parts_cap = cap;
    }
    j->parts[j->parts_n] = (struct reader_part){0};
    return &j->parts[j->parts_n++];
}

/* 0; -SATCHEL_EDAMAGED: a chunk is not there; -SATCHEL_ENOMEM. */
static int item_add(struct batch *b, uint32_t entry)
{
    struct census *c = census_of(b);
    const struct census_entry *e = census_at(c, entry);
    uint32_t before = b->job.parts_n;
    struct item it = {.b = b, .entry = entry, .part = before, .parts_n = e->chunks + 1};
    for (uint32_t i = 0; i < it.parts_n; i++) {
        struct reader_part *p = part_add(b);
        int res = !p ? -SATCHEL_ENOMEM : i && !census_chunk(c, e, i - 1, &p->pos, &p->size) ? -SATCHEL_EDAMAGED : 0;
        if (res < 0 || !p) {
            b->job.parts_n = before;
            return res;
        }
        if (i == 0) {
            p->pos = e->pos;
            p->size = e->size;
        }
        b->bytes += p->size;
    }
    b->items[b->items_n++] = it;
    return 0;
}

/* Another dead node's log that knows its end; NULL: none. */
static struct alog *final_elsewhere(const struct alog *l, const struct msgid *id, const struct census_entry **end_r)
{
    for (struct alog *k = l->a->logs; k; k = k->next) {
        *end_r = k != l && alog_open(k) ? census_find(foreign_census(k->f), id) : NULL;
        if (*end_r && (*end_r)->flags & CENSUS_FINAL && (*end_r)->domain != UINT32_MAX)
            return k;
    }
    return NULL;
}

/* The oldest of this log that is to be taken; NULL: none, or not yet. */
static struct census_entry *alog_head(struct alog *l)
{
    struct census *c = foreign_census(l->f);
    for (; l->live_at < census_live_n(c); l->live_at++) {
        struct census_entry *e = census_live(c, l->live_at);
        bool todo = e->flags & CENSUS_MSG && !(e->flags & (CENSUS_TAKEN | CENSUS_BAD | CENSUS_FINAL));
        if (!todo || !alog_ours(l, e))
            continue;
        const struct census_entry *end;
        struct alog *knows = final_elsewhere(l, &e->id, &end);
        if (!knows)
            return e;
        if (!learn_tell(l, knows, end))
            return NULL;
        alog_finish(l, e, CENSUS_TAKEN);
    }
    return NULL;
}

static struct alog *oldest(struct adopt *a)
{
    struct alog *best = NULL;
    uint64_t arrival = UINT64_MAX;
    for (struct alog *l = a->logs; l; l = l->next) {
        const struct census_entry *e = alog_open(l) && !l->anew ? alog_head(l) : NULL;
        if (!e || e->arrival_us >= arrival)
            continue;
        best = l;
        arrival = e->arrival_us;
    }
    return best;
}

static void batch_fill(struct batch *b)
{
    struct adopt *a = b->log->a;
    struct census *c = census_of(b);
    while (b->items_n < ITEMS_MAX && b->bytes < a->cfg.batch_bytes && oldest(a) == b->log) {
        struct census_entry *e = alog_head(b->log);
        int res = item_add(b, (uint32_t)(e - census_at(c, 0)));
        if (res == -SATCHEL_ENOMEM)
            return;
        if (res < 0)
            unreadable(b, e, res);
        b->log->live_at++;
    }
}

bool take_step(struct adopt *a)
{
    struct alog *l = a->batches < BATCHES_MAX && !a->dirty ? oldest(a) : NULL;
    struct batch *b = l ? calloc(1, sizeof *b) : NULL;
    if (!b)
        return false;
    b->log = l;
    b->job = (struct reader_job){.log = l->f, .done = batch_read, .arg = b};
    batch_fill(b);
    if (b->items_n == 0) {
        batch_free(b);
        return false;
    }
    l->busy++;
    a->batches++;
    reader_ask(a->reader, &b->job);
    return true;
}
