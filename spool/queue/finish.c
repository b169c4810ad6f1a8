/* finish.c - the results of a delivery become records.
 *
 * Items that are final go into a DONE, with what it kills: every segment in which a record of the message lies or may
 * lie.  Where items stay, a DEFER with the whole state comes before it, so that the state of a message is always one
 * record.
 * The claim ends when the last of them is durable and applied.
 *
 * With copies elsewhere a final DONE carries the state too, so that it can stand alone as a tombstone (tomb.h), and
 * port.changed hears of what was written; both read it from the record. */
#include "spool/queue/finish.h"
#include "spool/base/err.h"
#include "spool/base/wire.h"
#include <assert.h>
#include <stdlib.h>

enum {
    RESULT_MAX = 8 + 32 + SMTP_STATUS_TEXT_MAX,
    STATE_MAX = 8 + 64 + STATE_ITEMS_MAX / 2,
};

struct finish {
    struct job job;
    struct queue *q;
    struct msgid id;
    unsigned pending;
    bool put_off; /* a DEFER belongs to it */
    bool tell;    /* port.changed hears of it */
    bool unheld;  /* as struct outcome's */
    struct msgid dsn;
    queue_merged *merged; /* NULL: queue_finish's */
    void *merged_arg;
    int res;
    struct seglog_entry done, defer;
    uint8_t meta[];
};

static int kills_add(struct kills *k, uint64_t pos)
{
    for (size_t i = 0; i < k->n; i++)
        if (logpos_seg(k->pos[i]) == logpos_seg(pos))
            return 0;
    if (k->n == k->cap) {
        size_t cap = k->cap ? k->cap * 2 : 8;
        uint64_t *p = realloc(k->pos, cap * sizeof *p);
        if (!p)
            return -SATCHEL_ENOMEM;
        k->pos = p;
        k->cap = cap;
    }
    k->pos[k->n++] = pos;
    return 0;
}

int kills_gather(struct queue *q, const struct msgid *id, const struct entry *e, struct kills *k)
{
    int res = kills_add(k, e->pos);
    for (uint32_t i = 0; res == 0 && i < e->olds_n; i++)
        if (segs_find(&q->segs, e->olds[i]))
            res = kills_add(k, logpos(e->olds[i], 0));
    if (res || e->chunks == 0)
        return res;
    struct index_iter *it = queue_chunks_iter(q, id);
    struct key key;
    uint64_t pos;
    uint32_t size;
    while (it && res == 0 && queue_chunks_next(q, it, &key, &pos, &size))
        res = kills_add(k, pos);
    q->ix->ops->iter_free(&it);
    return res ? res : q->store.err;
}

static void finish_tell(const struct finish *f)
{
    const struct record *rec = f->put_off ? &f->defer.rec : &f->done.rec;
    struct storage_state st = {.id = f->id,
                               .arrival_us = rec->arrival_us,
                               .domain = meta_find(rec->meta, RT_DOMAIN),
                               .owed = rec->copyset,
                               .dsn = f->dsn};
    if (state_decode(meta_find(rec->meta, RT_STATE), &st.state) == 0)
        f->q->port.changed(f->q->port.ctx, &st);
}

static void finish_end(struct finish *f)
{
    struct hold *h = f->unheld ? NULL : hold_find(f->q, &f->id);
    if (f->tell && f->res == 0)
        finish_tell(f);
    if (f->merged)
        f->merged(f->merged_arg, f->res);
    if (h)
        hold_end(f->q, h, f->res && h->kind == HOLD_DUE);
    job_free(f->q, &f->job);
}

static void finish_done(struct seglog_entry *e, int res)
{
    struct finish *f = e->arg;
    if (res)
        f->res = res;
    if (--f->pending == 0)
        finish_end(f);
}

static void entry_make(struct finish *f, struct seglog_entry *e, uint8_t type, const struct outcome *o)
{
    *e = (struct seglog_entry){
        .rec = {.type = type,
                .id = o->at.id,
                .arrival_us = o->at.arrival_us,
                .copyset = o->owed,
                .body_sum = record_body_sum(slice_of("", 0))},
        .flags = ENTRY_RESERVE | ENTRY_LAZY,
        .done = finish_done,
        .arg = f,
    };
}

void kills_put(struct wire_wr *w, const struct kills *k)
{
    for (size_t i = 0; i < k->n; i++) {
        uint8_t v[8];
        struct wire_wr p = wire_wr(v, sizeof v);
        wire_put_u64(&p, k->pos[i]);
        meta_put(w, RT_KILLS, slice_of(v, sizeof v));
    }
}

static void put_results(struct wire_wr *w, const struct item_result *results, size_t n, bool final)
{
    for (size_t i = 0; i < n; i++)
        if ((results[i].end != ITEM_LIVE) == final)
            result_put(w, results[i].item, results[i].end, &results[i].status);
}

static void put_state(struct wire_wr *w, const struct msg_state *s)
{
    uint8_t v[STATE_MAX];
    meta_put(w, RT_STATE, slice_of(v, state_encode(s, v, sizeof v)));
}

static struct msg_state state_after(const struct msg_state *before, const struct item_result *results, size_t n,
                                    uint64_t due_us, bool held)
{
    struct msg_state s = *before;
    bool tried = false;
    for (size_t i = 0; i < n; i++) {
        if (results[i].item < s.items)
            state_finish(&s, results[i].item, results[i].end);
        tried = tried || results[i].end != ITEM_DELETED;
    }
    s.seq++;
    s.attempts += tried;
    s.due_us = due_us;
    s.held = held;
    return s;
}

static bool any_final(const struct item_result *results, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (results[i].end != ITEM_LIVE)
            return true;
    return false;
}

static struct finish *finish_new(struct queue *q, const struct outcome *o)
{
    size_t cap = 2 * (8 + o->domain.n) + o->n * RESULT_MAX + 2 * STATE_MAX + o->kills->n * KILL_BYTES +
                 2 * SMTP_STATUS_TEXT_MAX + o->owed.n;
    bool final = o->after->live == 0;
    struct finish *f = malloc(sizeof *f + cap);
    if (!f)
        return NULL;
    *f = (struct finish){.q = q,
                         .id = o->at.id,
                         .put_off = !final,
                         .tell = o->copies && (!o->merged || o->tell) && q->port.changed,
                         .dsn = o->dsn,
                         .unheld = o->unheld,
                         .merged = o->merged,
                         .merged_arg = o->merged_arg};
    job_add(q, &f->job);
    struct wire_wr w = wire_wr(f->meta, cap);
    wire_put(&w, o->owed.p, o->owed.n);
    entry_make(f, &f->done, REC_DONE, o);
    f->done.rec.copyset.p = f->meta;
    f->done.rec.flags = final ? REC_F_FINAL | (o->copies ? REC_F_TOMB : 0) : 0;
    uint8_t *done_at = w.p;
    meta_put(&w, RT_DOMAIN, o->domain);
    if (final && o->copies)
        put_state(&w, o->after);
    put_results(&w, o->results, o->n, true);
    kills_put(&w, o->kills);
    f->done.rec.meta = slice_of(done_at, (size_t)(w.p - done_at));
    uint8_t *defer_at = w.p;
    entry_make(f, &f->defer, REC_DEFER, o);
    f->defer.rec.copyset.p = f->meta;
    if (f->put_off) {
        meta_put(&w, RT_DOMAIN, o->domain);
        put_state(&w, o->after);
        put_results(&w, o->results, o->n, false);
    }
    f->defer.rec.meta = slice_of(defer_at, (size_t)(w.p - defer_at));
    assert(!w.bad);
    return f;
}

/* The DEFER goes first: a crash between them must not leave a DONE of some items alone, since where that is moved
 * behind a second copy of the message, a scan takes it for what was said of an earlier life.  Once a first record is on
 * its way the claim lives until that is done, whatever becomes of the second. */
static int finish_append(struct finish *f, bool done)
{
    struct queue *q = f->q;
    bool put_off = f->put_off;
    int res = 0;
    f->pending = (unsigned)done + (unsigned)put_off;
    if (put_off && (res = q->port.append(q->port.ctx, &f->defer))) {
        job_free(q, &f->job);
        return res;
    }
    if (done && (res = q->port.append(q->port.ctx, &f->done))) {
        if (!put_off)
            job_free(q, &f->job);
        else
            finish_done(&f->done, res);
    }
    return put_off ? 0 : res;
}

int finish_start(struct queue *q, const struct outcome *o)
{
    bool done = o->merged ? o->after->live == 0 : any_final(o->results, o->n);
    if (!done && o->after->live == 0)
        return -SATCHEL_EINVAL;
    struct finish *f = finish_new(q, o);
    return f ? finish_append(f, done) : -SATCHEL_ENOMEM;
}

int queue_finish(struct queue *q, struct slice domain, const struct claim *c, const struct item_result *results,
                 size_t n, uint64_t due_us, bool held, const struct finish_copies *copies)
{
    struct hold *h = hold_find(q, &c->id);
    struct place at = {c->arrival_us, c->id};
    struct entry e;
    struct kills kills = {0};
    if (!h)
        return -SATCHEL_ENOENT;
    int res = queue_entry_load(q, domain, &at, &e);
    if (res == 0)
        res = kills_gather(q, &c->id, &e, &kills);
    if (res == 0) {
        struct msg_state after = state_after(&e.state, results, n, due_us, held);
        struct outcome o = {
            .domain = domain, .at = at, .results = results, .n = n, .after = &after, .kills = &kills, .copies = copies};
        if (copies) {
            o.owed = copies->owed;
            o.dsn = copies->dsn;
        }
        res = finish_start(q, &o);
    }
    free(kills.pos);
    if (res && (h = hold_find(q, &c->id)))
        hold_end(q, h, h->kind == HOLD_DUE);
    return res;
}
