/* merge.c - what copies elsewhere tell this one: how items ended there, and that this copy is not needed. */
#include "spool/base/err.h"
#include "spool/base/wire.h"
#include "spool/queue/finish.h"
#include <stdlib.h>

/* ---- ends from elsewhere */

static int state_cmp(const struct msg_state *a, const struct msg_state *b)
{
    if (a->seq != b->seq)
        return a->seq < b->seq ? -1 : 1;
    if (a->attempts != b->attempts)
        return a->attempts < b->attempts ? -1 : 1;
    if (a->due_us != b->due_us)
        return a->due_us < b->due_us ? -1 : 1;
    return a->held - b->held;
}

/* The union of both: false: that is what is known here. */
static bool state_union(const struct msg_state *ours, const struct msg_state *theirs, struct msg_state *out_r)
{
    int cmp = state_cmp(theirs, ours);
    *out_r = cmp > 0 ? *theirs : *ours;
    const struct msg_state *other = cmp > 0 ? ours : theirs;
    for (uint32_t i = 0; i < out_r->items; i++)
        state_finish(out_r, i, state_end(other, i));
    if (cmp <= 0 && out_r->live == ours->live)
        return false;
    if (out_r->seq <= ours->seq)
        out_r->seq = ours->seq + 1; /* a DEFER must be news */
    return true;
}

/* The message is here, and nobody holds it. */
static int merge_live(struct queue *q, struct slice domain, const struct entry *e, struct outcome *o)
{
    struct kills kills = {0};
    int res = kills_gather(q, &o->at.id, e, &kills);
    if (res == 0 && !hold_begin(q, bags_need(&q->bags, domain), &o->at, e, HOLD_PICK))
        res = -SATCHEL_ENOMEM;
    o->domain = domain;
    o->kills = &kills;
    if (res == 0 && (res = finish_start(q, o)) != 0)
        queue_unclaim(q, &o->at.id);
    o->kills = NULL;
    free(kills.pos);
    return res;
}

/* The message is not here; its end is kept so that it does not come back. */
static int merge_unknown(struct queue *q, const struct storage_state *st, struct outcome *o)
{
    struct tomb t;
    struct kills none = {0};
    int res = tomb_load(q, &st->id, &t);
    if (res != -SATCHEL_ENOENT)
        return res ? res : 1;
    if (st->state.live)
        return -SATCHEL_ENOENT;
    if (st->arrival_us == 0 || st->domain.n == 0 || st->domain.n > KEY_DOMAIN_MAX)
        return -SATCHEL_EINVAL;
    o->domain = st->domain;
    o->kills = &none;
    res = finish_start(q, o);
    o->kills = NULL;
    return res;
}

int queue_merge(struct queue *q, const struct storage_state *st, queue_merged *done, void *arg)
{
    char domain[256];
    struct entry e;
    struct msg_state after = st->state;
    struct finish_copies copies = {.owed = st->owed};
    struct outcome o = {.at = {st->arrival_us, st->id},
                        .after = &after,
                        .copies = &copies,
                        .owed = st->owed,
                        .merged = done,
                        .merged_arg = arg};
    if (st->state.items == 0 || st->state.items > STATE_ITEMS_MAX || st->owed.n > REC_COPYSET_MAX * 16)
        return -SATCHEL_EINVAL;
    int res = queue_id_load(q, &st->id, domain, &o.at);
    if (res == 0)
        res = queue_entry_load(q, slice_str(domain), &o.at, &e);
    if (res == -SATCHEL_ENOENT)
        return merge_unknown(q, st, &o);
    if (res)
        return res;
    if (e.state.items != st->state.items)
        return -SATCHEL_EINVAL;
    if (!state_union(&e.state, &st->state, &after))
        return 1;
    return hold_find(q, &st->id) ? -SATCHEL_EBUSY : merge_live(q, slice_str(domain), &e, &o);
}

/* ---- copies that are not needed */

struct forget {
    struct job job;
    struct queue *q;
    struct msgid id;
    struct seglog_entry entry;
    uint8_t meta[];
};

static void forget_done(struct seglog_entry *e, int res)
{
    struct forget *f = e->arg;
    struct hold *h = hold_find(f->q, &f->id);
    (void)res; /* a copy that stays is asked about again */
    if (h)
        hold_end(f->q, h, false);
    job_free(f->q, &f->job);
}

static int forget_start(struct queue *q, const struct msgid *id, const struct kills *k)
{
    size_t cap = k->n * KILL_BYTES;
    struct forget *f = malloc(sizeof *f + cap);
    if (!f)
        return -SATCHEL_ENOMEM;
    struct wire_wr w = wire_wr(f->meta, cap);
    kills_put(&w, k);
    *f = (struct forget){.q = q, .id = *id};
    f->entry = (struct seglog_entry){
        .rec = {.type = REC_ABORT,
                .id = *id,
                .meta = {f->meta, wire_len(&w)},
                .body_sum = record_body_sum(slice_of("", 0))},
        .flags = ENTRY_RESERVE | ENTRY_LAZY,
        .done = forget_done,
        .arg = f,
    };
    job_add(q, &f->job);
    int res = q->port.append(q->port.ctx, &f->entry);
    if (res)
        job_free(q, &f->job);
    return res;
}

static int forget_live(struct queue *q, const struct place *at, const char *domain, const struct entry *e)
{
    struct kills kills = {0};
    if (hold_find(q, &at->id))
        return -SATCHEL_EBUSY;
    int res = kills_gather(q, &at->id, e, &kills);
    if (res == 0 && !hold_begin(q, bags_need(&q->bags, slice_str(domain)), at, e, HOLD_PICK))
        res = -SATCHEL_ENOMEM;
    if (res == 0 && (res = forget_start(q, &at->id, &kills)) != 0)
        queue_unclaim(q, &at->id);
    free(kills.pos);
    return res;
}

/* Chunks whose message is not here. Their ABORT says nothing of segments: it stays as long as any that it may kill. */
static int forget_chunks(struct queue *q, const struct msgid *id)
{
    struct key k = key_open(id);
    uint8_t byte;
    struct kills none = {0};
    int64_t n = store_get(&q->store, &k, &byte, sizeof byte);
    return n < 0 ? (int)n : forget_start(q, id, &none);
}

int queue_forget(struct queue *q, const struct msgid *id)
{
    char domain[256];
    struct place at;
    struct entry e;
    int res = queue_id_load(q, id, domain, &at);
    if (res == 0)
        res = queue_entry_load(q, slice_str(domain), &at, &e);
    if (res == -SATCHEL_ENOENT)
        return forget_chunks(q, id);
    return res ? res : forget_live(q, &at, domain, &e);
}
