/* move.c - compaction of one segment: what must stay is written again at the tail of the log.
 *
 * A message is moved under a claim, so that no DONE or DEFER is written for it meanwhile.  One that somebody else holds
 * is left for later.  Records in flight are bounded in number and bytes. */
#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/wire.h"
#include "spool/queue/queue_impl.h"
#include <assert.h>
#include <stdlib.h>

enum {
    MOVE_BYTES_MAX = 8 << 20,
    MOVE_META_EXTRA = (ENTRY_OLDS_MAX + 1) * 12 + 128 + STATE_ITEMS_MAX / 2,
};

enum cand_state { CAND_WAIT, CAND_MOVING, CAND_OVER };

struct cand {
    uint64_t pos;
    uint32_t size;
    uint8_t type, state;
    struct msgid id;
};

struct victim {
    uint64_t seg, limit_bytes, keep_bytes;
    struct cand *items;
    size_t n, cap, first, inflight, inflight_bytes;
    int error;
    bool stepping;
};

struct move {
    struct job job;
    struct queue *q;
    size_t cand; /* of the victim */
    bool holds;
    queue_merged *repaired; /* NULL: a move of the victim */
    void *repaired_arg;
    struct seglog_entry entry;
    uint8_t bytes[]; /* copyset, meta, body */
};

/* ---- what must stay */

static bool kills_live(const struct queue *q, struct slice meta, uint64_t self)
{
    struct wire_rd r = wire_rd(meta);
    struct meta_tlv t;
    while (meta_next(&r, &t)) {
        struct wire_rd v = wire_rd(t.value);
        if (t.tag != RT_KILLS)
            continue;
        uint64_t seg = logpos_seg(wire_u64(&v));
        if (seg != self && segs_find(&q->segs, seg))
            return true;
    }
    return false;
}

static bool record_entry(struct queue *q, const struct record *rec, struct entry *e_r)
{
    char domain[256];
    struct place at;
    return queue_id_load(q, &rec->id, domain, &at) == 0 && queue_entry_load(q, slice_str(domain), &at, e_r) == 0;
}

static bool chunk_stays(struct queue *q, const struct record *rec, uint64_t pos)
{
    struct slice v = meta_find(rec->meta, RT_CHUNK_INDEX);
    struct wire_rd r = wire_rd(v);
    uint64_t now;
    uint32_t size, chunk = v.p ? wire_u32(&r) : 0;
    return v.p && queue_chunk_load(q, &rec->id, chunk, &now, &size) == 0 && now == pos;
}

/* A DONE is needed for what it kills, and as the place of a tombstone. */
static bool done_stays(struct queue *q, const struct record *rec, uint64_t pos)
{
    struct tomb t;
    if (kills_live(q, rec->meta, logpos_seg(pos)))
        return true;
    return rec->flags & REC_F_TOMB && tomb_load(q, &rec->id, &t) == 0 && t.pos == pos;
}

/* An ABORT does not say what it kills: it may be anything that the DONEs and ABORTs of its segment kill. */
static bool abort_stays(struct queue *q, const struct record *rec, uint64_t pos)
{
    const struct seg *s = segs_find(&q->segs, logpos_seg(pos));
    if (meta_find(rec->meta, RT_KILLS).p)
        return kills_live(q, rec->meta, logpos_seg(pos));
    return s && seg_kills_live(&q->segs, s) > 0;
}

static bool record_stays(struct queue *q, const struct record *rec, uint64_t pos)
{
    struct entry e;
    switch (rec->type) {
    case REC_GROUP:
        return false;
    case REC_MSG:
        return record_entry(q, rec, &e) && e.pos == pos;
    case REC_CHUNK:
        return chunk_stays(q, rec, pos);
    case REC_DONE:
        return done_stays(q, rec, pos);
    case REC_ABORT:
        return abort_stays(q, rec, pos);
    case REC_DEFER:
        return record_entry(q, rec, &e) && e.defer_pos == pos;
    case REC_DSN:
        return record_entry(q, rec, &e);
    default:
        return true;
    }
}

struct scan {
    struct queue *q;
    struct victim *v;
};

static int scan_record(void *arg, const struct record *rec, uint64_t pos, uint32_t size)
{
    const struct scan *s = arg;
    struct victim *v = s->v;
    struct entry e;
    if (!record_stays(s->q, rec, pos))
        return s->q->store.err;
    if (rec->type == REC_ABORT && record_entry(s->q, rec, &e))
        return -SATCHEL_EAGAIN; /* stored again since: the ABORT must not come behind that */
    v->keep_bytes += size;
    if (v->keep_bytes > v->limit_bytes)
        return -SATCHEL_EAGAIN;
    if (v->n == v->cap) {
        v->cap = v->cap ? v->cap * 2 : 256;
        struct cand *items = realloc(v->items, v->cap * sizeof *items);
        if (!items)
            return -SATCHEL_ENOMEM;
        v->items = items;
    }
    v->items[v->n++] = (struct cand){.pos = pos, .size = size, .type = rec->type, .id = rec->id};
    return 0;
}

int victim_open(struct queue *q, struct seg *s, uint64_t limit_bytes)
{
    struct victim *v = calloc(1, sizeof *v);
    if (!v)
        return -SATCHEL_ENOMEM;
    v->seg = s->seg;
    v->limit_bytes = limit_bytes;
    struct scan scan = {q, v};
    q->victim = v;
    int res = segread_segment(q->reader, s->seg, scan_record, &scan);
    if (res)
        victim_free(q);
    return res;
}

void victim_free(struct queue *q)
{
    if (!q->victim)
        return;
    free(q->victim->items);
    free(q->victim);
    q->victim = NULL;
}

bool victim_idle(const struct victim *v)
{
    return v->inflight == 0;
}

bool victim_done(const struct victim *v)
{
    return v->first == v->n && v->inflight == 0 && !v->error;
}

int victim_error(const struct victim *v)
{
    return v->error;
}

uint64_t victim_seg(const struct victim *v)
{
    return v->seg;
}

/* ---- the copy */

static void put_kill(struct wire_wr *w, uint64_t pos)
{
    uint8_t v[8];
    struct wire_wr p = wire_wr(v, sizeof v);
    wire_put_u64(&p, pos);
    meta_put(w, RT_KILLS, slice_of(v, sizeof v));
}

/* The meta of a message: where older copies may still lie, and last the state as it is now. */
static void msg_meta(struct queue *q, struct wire_wr *w, struct slice meta, uint64_t pos, const struct entry *e)
{
    struct wire_rd r = wire_rd(meta);
    struct meta_tlv t;
    uint8_t state[MOVE_META_EXTRA];
    while (meta_next(&r, &t))
        if (t.tag != RT_STATE && t.tag != RT_KILLS)
            meta_put(w, t.tag, t.value);
    for (uint32_t i = 0; i < e->olds_n; i++)
        if (segs_find(&q->segs, e->olds[i]))
            put_kill(w, logpos(e->olds[i], 0));
    put_kill(w, pos);
    meta_put(w, RT_STATE, slice_of(state, state_encode(&e->state, state, sizeof state)));
}

/* The place where it was first written: what it says concerns copies before that. */
static void put_upto(struct wire_wr *w, struct slice meta, uint64_t pos)
{
    uint8_t v[8];
    struct wire_wr u = wire_wr(v, sizeof v);
    wire_put_u64(&u, pos);
    if (!meta_find(meta, RT_UPTO).p)
        meta_put(w, RT_UPTO, slice_of(v, sizeof v));
}

static void abort_kills(struct queue *q, struct wire_wr *w, struct slice meta, uint64_t pos)
{
    const struct seg *s = segs_find(&q->segs, logpos_seg(pos));
    if (meta_find(meta, RT_KILLS).p)
        return;
    for (uint32_t i = 0; s && i < s->kills_n; i++)
        if (s->kills[i] != s->seg && segs_find(&q->segs, s->kills[i]))
            put_kill(w, logpos(s->kills[i], 0));
}

static size_t move_extra(const struct queue *q, const struct record *rec, uint64_t pos)
{
    const struct seg *s = segs_find(&q->segs, logpos_seg(pos));
    if (rec->type == REC_MSG)
        return MOVE_META_EXTRA;
    return 12 + (rec->type == REC_ABORT && s ? (size_t)s->kills_n * 12 : 0);
}

static void move_done(struct seglog_entry *e, int res);

static struct move *move_new(struct queue *q, uint64_t pos, const struct record *rec, const struct entry *e)
{
    size_t meta_cap = rec->meta.n + move_extra(q, rec, pos);
    struct move *m = malloc(sizeof *m + rec->copyset.n + meta_cap + rec->body.n);
    if (!m)
        return NULL;
    *m = (struct move){.q = q, .holds = rec->type == REC_MSG || rec->type == REC_CHUNK};
    m->entry = (struct seglog_entry){.rec = *rec, .flags = ENTRY_RESERVE | ENTRY_LAZY, .done = move_done, .arg = m};
    struct wire_wr w = wire_wr(m->bytes, rec->copyset.n + meta_cap + rec->body.n);
    struct record *copy = &m->entry.rec;
    copy->flags |= REC_F_MOVED;
    wire_put(&w, rec->copyset.p, rec->copyset.n);
    copy->copyset.p = m->bytes;
    copy->meta.p = w.p;
    if (rec->type == REC_MSG)
        msg_meta(q, &w, rec->meta, pos, e);
    else
        wire_put(&w, rec->meta.p, rec->meta.n);
    if (rec->type == REC_ABORT || rec->type == REC_DONE)
        put_upto(&w, rec->meta, pos);
    if (rec->type == REC_ABORT)
        abort_kills(q, &w, rec->meta, pos);
    copy->meta.n = (size_t)(w.p - copy->meta.p);
    copy->body.p = w.p;
    wire_put(&w, rec->body.p, rec->body.n);
    assert(!w.bad);
    job_add(q, &m->job);
    return m;
}

/* ---- moving */

static void move_release(struct queue *q, const struct msgid *id)
{
    struct hold *h = hold_find(q, id);
    if (h && h->kind == HOLD_MOVE && --h->moves == 0)
        hold_end(q, h, false);
}

static void move_done(struct seglog_entry *e, int res)
{
    struct move *m = e->arg;
    struct queue *q = m->q;
    struct victim *v = q->victim;
    struct cand *c = &v->items[m->cand];
    c->state = res ? CAND_WAIT : CAND_OVER;
    v->inflight--;
    v->inflight_bytes -= c->size;
    if (res == 0)
        q->moved_bytes += c->size;
    if (m->holds)
        move_release(q, &c->id);
    job_free(q, &m->job);
    if (res == 0)
        victim_step(q);
}

/* A message is moved under a claim of our own; its chunks share it. false: somebody else has it, or a chunk's message
 * is still coming in. */
static bool move_hold(struct queue *q, const struct cand *c, struct entry *e_r)
{
    struct hold *h = hold_find(q, &c->id);
    char domain[256];
    struct place at;
    if (h && h->kind != HOLD_MOVE)
        return false;
    if (queue_id_load(q, &c->id, domain, &at) || queue_entry_load(q, slice_str(domain), &at, e_r))
        return false;
    if (!h)
        h = hold_begin(q, bags_need(&q->bags, slice_str(domain)), &at, e_r, HOLD_MOVE);
    if (h)
        h->moves++;
    return h != NULL;
}

static uint32_t olds_live(const struct queue *q, const struct entry *e)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < e->olds_n; i++)
        n += segs_find(&q->segs, e->olds[i]) != NULL;
    return n;
}

/* Holds are taken by the caller. 0: on its way, or not needed any more. */
static int move_start(struct queue *q, size_t i, const struct entry *e)
{
    struct victim *v = q->victim;
    struct cand *c = &v->items[i];
    struct record rec;
    int res = segread_record(q->reader, c->pos, c->size, &rec);
    if (res) {
        v->error = v->error ? v->error : res;
        return res;
    }
    struct move *m = move_new(q, c->pos, &rec, e);
    if (!m)
        return -SATCHEL_ENOMEM;
    m->cand = i;
    c->state = CAND_MOVING;
    v->inflight++;
    v->inflight_bytes += c->size;
    res = q->port.append(q->port.ctx, &m->entry);
    if (res == 0)
        return 0;
    c->state = CAND_WAIT;
    v->inflight--;
    v->inflight_bytes -= c->size;
    job_free(q, &m->job);
    return res;
}

/* Whether it must stay may have changed since the scan: a message ended, a killed segment went. */
static bool cand_stays(struct queue *q, const struct cand *c)
{
    struct record rec;
    return segread_head(q->reader, c->pos, c->size, &rec) || record_stays(q, &rec, c->pos);
}

/* The message of an ABORT was stored again meanwhile. */
static bool cand_lives(struct queue *q, const struct cand *c)
{
    char domain[256];
    struct place at;
    return queue_id_load(q, &c->id, domain, &at) == 0;
}

/* false: the log takes no more now. */
static bool cand_step(struct queue *q, size_t i)
{
    struct cand *c = &q->victim->items[i];
    struct entry e;
    bool holds = c->type == REC_MSG || c->type == REC_CHUNK;
    struct hold *h = holds ? hold_find(q, &c->id) : NULL;
    if (h && h->kind != HOLD_MOVE)
        return true;
    if (!cand_stays(q, c)) {
        c->state = CAND_OVER;
        return true;
    }
    if (c->type == REC_ABORT && cand_lives(q, c)) {
        q->victim->error = -SATCHEL_EAGAIN;
        return false;
    }
    if (holds && !move_hold(q, c, &e))
        return true;
    int res = c->type == REC_MSG && olds_live(q, &e) >= ENTRY_OLDS_MAX ? -SATCHEL_EBUSY : move_start(q, i, &e);
    if (res && holds)
        move_release(q, &c->id);
    return res == 0 || res == -SATCHEL_EBUSY;
}

void victim_step(struct queue *q)
{
    struct victim *v = q->victim;
    if (v->stepping)
        return;
    v->stepping = true;
    bool room = true;
    for (size_t i = v->first; room && i < v->n && !v->error; i++) {
        if (v->inflight >= q->cfg.move_inflight || v->inflight_bytes >= MOVE_BYTES_MAX)
            break;
        if (v->items[i].state == CAND_WAIT)
            room = cand_step(q, i);
    }
    while (v->first < v->n && v->items[v->first].state == CAND_OVER)
        v->first++;
    v->stepping = false;
}

/* ---- repair: as a move, of a record that was read elsewhere */

static void repair_done(struct seglog_entry *e, int res)
{
    struct move *m = e->arg;
    struct queue *q = m->q;
    move_release(q, &e->rec.id);
    m->repaired(m->repaired_arg, res);
    job_free(q, &m->job);
}

int queue_repair(struct queue *q, const struct record *rec, queue_merged *done, void *arg)
{
    const struct cand c = {.type = REC_MSG, .id = rec->id};
    struct entry e;
    if (hold_find(q, &rec->id))
        return -SATCHEL_EBUSY;
    if (!move_hold(q, &c, &e))
        return q->store.err ? q->store.err : -SATCHEL_ENOENT;
    struct move *m = olds_live(q, &e) < ENTRY_OLDS_MAX ? move_new(q, e.pos, rec, &e) : NULL;
    int res = m ? 0 : -SATCHEL_EBUSY;
    if (m) {
        m->entry.done = repair_done;
        m->repaired = done;
        m->repaired_arg = arg;
        res = q->port.append(q->port.ctx, &m->entry);
    }
    if (res && m)
        job_free(q, &m->job);
    if (res)
        move_release(q, &rec->id);
    return res;
}
