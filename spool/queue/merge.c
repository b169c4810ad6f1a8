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

/* The newer of both, and every end of either. */
static struct msg_state state_join(const struct msg_state *a, const struct msg_state *b)
{
    const struct msg_state *newer = state_cmp(b, a) > 0 ? b : a, *other = newer == a ? b : a;
    struct msg_state out = *newer;
    for (uint32_t i = 0; i < out.items; i++)
        state_finish(&out, i, state_end(other, i));
    return out;
}

/* The union of both: false: that is what is known here. */
static bool state_union(const struct msg_state *ours, const struct msg_state *theirs, struct msg_state *out_r)
{
    *out_r = state_join(ours, theirs);
    if (state_cmp(theirs, ours) <= 0 && out_r->live == ours->live)
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
    o->unheld = true;
    o->kills = &none;
    res = finish_start(q, o);
    o->kills = NULL;
    return res;
}

/* ---- ends of what is held here
 *
 * The relay may be about to deliver it: it is not to, and finds that out when it asks.  What came is kept beside the
 * hold, one union of all of it, and is merged like any other end when the hold has ended, however that was: the message
 * may have ended here meanwhile (then this is known), or have been forgotten (then a tombstone stays, as for any end of
 * a message that is not here). */

struct late_end {
    struct storage_state st;
    uint8_t bytes[]; /* domain, owed */
};

static struct late_end *late_end_new(const struct storage_state *st, const struct msg_state *state)
{
    struct late_end *l = malloc(sizeof *l + st->domain.n + st->owed.n);
    if (!l)
        return NULL;
    struct wire_wr w = wire_wr(l->bytes, st->domain.n + st->owed.n);
    wire_put(&w, st->domain.p, st->domain.n);
    wire_put(&w, st->owed.p, st->owed.n);
    l->st = *st;
    l->st.state = *state;
    l->st.domain.p = l->bytes;
    l->st.owed.p = l->bytes + st->domain.n;
    return l;
}

static void late_end_done(void *arg, int res)
{
    (void)arg;
    (void)res; /* who said it says it again until we confirm it */
}

void late_end_start(struct queue *q, struct late_end *l)
{
    queue_merge(q, &l->st, late_end_done, NULL);
    free(l);
}

/* ours: as the index has it.  Where memory is short nothing is kept: it is said again. */
static int merge_busy(struct queue *q, struct hold *h, const struct storage_state *st, const struct msg_state *ours)
{
    struct msg_state all = h->late ? state_join(&h->late->st.state, &st->state) : st->state;
    uint32_t known = h->late ? state_join(ours, &h->late->st.state).live : ours->live;
    if (st->domain.n > KEY_DOMAIN_MAX || state_join(ours, &all).live == known)
        return -SATCHEL_EBUSY;
    struct late_end *late = late_end_new(st, &all);
    if (late) {
        late->st.tell |= h->late && h->late->st.tell;
        free(h->late);
        h->late = late;
        atomic_store(&h->over, true);
        queue_ready(q, h->bag);
    }
    return -SATCHEL_EBUSY;
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
                        .tell = st->tell,
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
    struct hold *h = hold_find(q, &st->id);
    return h ? merge_busy(q, h, st, &e.state) : merge_live(q, slice_str(domain), &e, &o);
}

/* ---- copies that are not needed */

struct forget {
    struct job job;
    struct queue *q;
    struct msgid id;
    bool holds; /* false: chunks without a message; a hold that begins meanwhile is somebody else's */
    struct seglog_entry entry;
    uint8_t meta[];
};

static void forget_done(struct seglog_entry *e, int res)
{
    struct forget *f = e->arg;
    struct hold *h = f->holds ? hold_find(f->q, &f->id) : NULL;
    (void)res; /* a copy that stays is asked about again */
    if (h)
        hold_end(f->q, h, false);
    job_free(f->q, &f->job);
}

static int forget_start(struct queue *q, const struct msgid *id, const struct kills *k, bool holds)
{
    size_t cap = k->n * KILL_BYTES;
    struct forget *f = malloc(sizeof *f + cap);
    if (!f)
        return -SATCHEL_ENOMEM;
    struct wire_wr w = wire_wr(f->meta, cap);
    kills_put(&w, k);
    *f = (struct forget){.q = q, .id = *id, .holds = holds};
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
    if (res == 0 && (res = forget_start(q, &at->id, &kills, true)) != 0)
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
    return n < 0 ? (int)n : forget_start(q, id, &none, false);
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
