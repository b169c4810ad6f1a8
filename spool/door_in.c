/* door_in.c - the intake door on the spool: bodies gather in blocks, go to the log as one record or as chunks.
 *
 * A body up to chunk_bytes is held until commit and becomes one MSG record.  A longer one leaves in CHUNK records while
 * it arrives; at most two of them are on their way at once for a transaction, then append says EAGAIN until one is
 * durable. When all sessions together hold more than memory_bytes, a body leaves early, in a smaller chunk: memory is
 * given back whatever the clients do, and none of them waits for another.
 *
 * With a copier (copier.h) the records go to it instead of the log, and the copier's thread stands for the committer in
 * what follows.
 *
 * Life of a transaction: OPEN -> (commit) QUEUED -> the committer settles its last record -> done -> freed.
 * abort in OPEN leaves an ABORT record where chunks were written; abort in QUEUED only mutes done. */
#include "spool/base/copy.h"
#include "spool/base/wire.h"
#include "spool/base/xxh.h"
#include "spool/blocks.h"
#include "spool/spool_impl.h"

#include <assert.h>
#include <stdlib.h>

enum {
    CHUNKS_UNDER_WAY = 2,
    SPILL_MIN = 4 * 1024,
    TRACE_MAX = 2048,
    PART_META_BYTES = 16,
    RING_BYTES = 256 * 1024, /* so much is worth a group of its own beside the one that is being written */
};

/* A stretch of body with its blocks; borrowed by one record for each envelope until all are settled. */
struct body {
    struct mail mail; /* to the door, when settled (chunks) */
    struct intake_txn *txn;
    struct spool_block *first, *last;
    struct slice *parts;
    uint32_t parts_n;
    uint64_t bytes;
    XXH3_state_t *sum; /* of what is in the blocks; from the second block on */
    uint32_t users;    /* records not yet settled; the committer's */
    bool final;        /* MSG records use it: the transaction is settled with it */
};

struct door {
    struct intake in;
    struct spool *s;
    struct mailbox settled; /* bodies, from the committer or the copier */
    struct block_pool blocks;
    struct intake_txn *waiting; /* list of those whose append said EAGAIN */
    bool posted;                /* something was handed to the committer since the bell was rung */
    uint64_t posted_bytes;
    bool armed;
    struct door_bell bell; /* rung by the committer once a batch */
};

struct intake_txn {
    struct door *door;
    struct intake_txn *wait_next;
    bool waiting, committed, muted;
    struct envelope *envs;
    struct msgid *ids;
    uint32_t envs_n;
    struct body *body;
    uint64_t bytes; /* of the body so far, in chunks too */
    uint32_t chunks, chunks_under_way;
    atomic_int res; /* first failure; set by the committer */
    bool aborted;
    intake_trace *trace;
    void *trace_arg;
    intake_done *done;
    void *done_arg;
    intake_room *room;
    void *room_arg;
};

/* ---- memory */

static struct spool_block *block_new(struct door *d, bool first)
{
    struct spool_block *b = first ? block_get_short(&d->blocks) : block_get_long(&d->blocks);
    if (b)
        atomic_fetch_add_explicit(&d->s->memory, b->cap, memory_order_relaxed);
    return b;
}

static void block_free(struct door *d, struct spool_block *b)
{
    atomic_fetch_sub_explicit(&d->s->memory, b->cap, memory_order_relaxed);
    block_put(&d->blocks, b);
}

static struct body *body_new(struct intake_txn *t)
{
    struct body *b = calloc(1, sizeof *b);
    if (b)
        b->txn = t;
    return b;
}

static void body_free(struct door *d, struct body *b)
{
    while (b && b->first) {
        struct spool_block *next = b->first->next;
        block_free(d, b->first);
        b->first = next;
    }
    if (b) {
        free(b->parts);
        XXH3_freeState(b->sum);
    }
    free(b);
}

static void txn_free(struct intake_txn *t)
{
    body_free(t->door, t->body);
    free(t);
}

/* ---- admission */

static bool over_budget(const struct spool *s)
{
    return atomic_load_explicit(&s->memory, memory_order_relaxed) > s->cfg.memory_bytes;
}

static int door_admit(struct intake *in, uint64_t size_hint)
{
    struct spool *s = ((struct door *)in)->s;
    if (atomic_load_explicit(&s->draining, memory_order_relaxed))
        return -SATCHEL_ESHUT;
    if (s->copier) {
        if (s->cfg.max_message_bytes && size_hint > s->cfg.max_message_bytes)
            return -SATCHEL_ETOOBIG;
        return over_budget(s) ? -SATCHEL_ENOMEM : copied_admit(s, size_hint);
    }
    struct seglog_info info;
    seglog_info(s->log, &info);
    if (info.fenced || atomic_load_explicit(&s->broken, memory_order_relaxed))
        return -SATCHEL_EFENCED;
    if (s->cfg.max_message_bytes && size_hint > s->cfg.max_message_bytes)
        return -SATCHEL_ETOOBIG;
    if (info.room_bytes < size_hint + s->cfg.chunk_bytes)
        return -SATCHEL_EFULL;
    return over_budget(s) ? -SATCHEL_ENOMEM : 0;
}

/* ---- begin: envelopes are copied into the transaction's own allocation */

static size_t envelope_bytes(const struct envelope *e)
{
    size_t n = e->domain.n + e->sender.n + e->helo.n + e->client.n;
    for (size_t i = 0; i < e->rcpts_n; i++)
        n += e->rcpts[i].n + sizeof(struct slice);
    return n;
}

static struct slice put_slice(uint8_t **at, struct slice s)
{
    struct slice out = {*at, s.n};
    if (s.n)
        memcpy(*at, s.p, s.n);
    *at += s.n;
    return out;
}

static void copy_envelope(struct envelope *out, const struct envelope *in, struct slice **rcpts, uint8_t **at)
{
    *out = *in;
    out->rcpts = *rcpts;
    for (size_t i = 0; i < in->rcpts_n; i++)
        (*rcpts)[i] = put_slice(at, in->rcpts[i]);
    *rcpts += in->rcpts_n;
    out->domain = put_slice(at, in->domain);
    out->sender = put_slice(at, in->sender);
    out->helo = put_slice(at, in->helo);
    out->client = put_slice(at, in->client);
}

static int door_begin(struct intake *in, const struct envelope *envs, size_t n, intake_trace *trace, void *trace_arg,
                      struct intake_txn **txn_r)
{
    int rc = door_admit(in, 0);
    if (rc < 0)
        return rc;
    size_t text = 0, rcpts_n = 0;
    for (size_t i = 0; i < n; i++) {
        assert(envs[i].rcpts_n > 0 && envs[i].rcpts_n <= STATE_ITEMS_MAX);
        text += envelope_bytes(&envs[i]);
        rcpts_n += envs[i].rcpts_n;
    }
    struct intake_txn *t = malloc(sizeof *t + n * (sizeof(struct envelope) + sizeof(struct msgid)) +
                                  rcpts_n * sizeof(struct slice) + text);
    if (!t)
        return -SATCHEL_ENOMEM;
    memset(t, 0, sizeof *t);
    t->door = (struct door *)in;
    t->envs = (struct envelope *)(t + 1);
    t->ids = (struct msgid *)(t->envs + n);
    t->envs_n = (uint32_t)n;
    struct slice *rcpts = (struct slice *)(t->ids + n);
    uint8_t *at = (uint8_t *)(rcpts + rcpts_n);
    for (size_t i = 0; i < n; i++) {
        copy_envelope(&t->envs[i], &envs[i], &rcpts, &at);
        spool_next_id(t->door->s, &t->ids[i]);
    }
    t->trace = trace;
    t->trace_arg = trace_arg;
    *txn_r = t;
    return 0;
}

/* ---- the body */

/* A body of several blocks is summed while its bytes come, since they are still in the processor's cache; the usual
 * one, of one block, at once in the end. */
static bool body_sum_begin(struct body *b)
{
    b->sum = XXH3_createState();
    return b->sum && XXH3_64bits_reset(b->sum) == XXH_OK &&
           XXH3_64bits_update(b->sum, b->first->data, b->first->used) == XXH_OK;
}

static struct spool_block *body_block_add(struct intake_txn *t, struct body *b)
{
    if (b->first && !b->sum && !body_sum_begin(b))
        return NULL;
    struct spool_block *k = block_new(t->door, !b->first);
    if (!k)
        return NULL;
    *(b->last ? &b->last->next : &b->first) = k;
    b->last = k;
    b->parts_n++;
    return k;
}

static int body_copy(struct intake_txn *t, struct slice data)
{
    struct body *b = t->body ? t->body : (t->body = body_new(t));
    while (b && data.n > 0) {
        struct spool_block *last = b->last;
        if (!last || last->used == last->cap) {
            last = body_block_add(t, b);
            if (!last)
                return -SATCHEL_ENOMEM;
        }
        size_t n = last->cap - last->used < data.n ? last->cap - last->used : data.n;
        copy_long(last->data + last->used, data.p, n);
        if (b->sum)
            XXH3_64bits_update(b->sum, data.p, n);
        last->used += (uint32_t)n;
        b->bytes += n;
        data.p += n;
        data.n -= n;
    }
    return b ? 0 : -SATCHEL_ENOMEM;
}

/* Parts and checksum of a body that is complete. */
static int body_seal(struct body *b, uint64_t *sum_r)
{
    b->parts = malloc((b->parts_n + 1) * sizeof *b->parts);
    if (!b->parts)
        return -SATCHEL_ENOMEM;
    uint32_t i = 0;
    for (struct spool_block *k = b->first; k; k = k->next)
        b->parts[i++] = slice_of(k->data, k->used);
    *sum_r = b->sum ? XXH3_64bits_digest(b->sum) : record_body_sum(i ? b->parts[0] : slice_of("", 0));
    return 0;
}

/* Runs on the committer: the last record of a body hands it back to the door. */
static void body_settled(struct spool_append *a)
{
    struct body *b = a->owner;
    if (a->res < 0 && b->txn->res == 0)
        b->txn->res = a->res;
    if (--b->users > 0)
        return;
    struct door *d = b->txn->door;
    *(d->s->copier ? &d->bell.copier : &d->bell.committer) = true;
    mailbox_post(&d->settled, &b->mail);
}

static void append_with_body(struct intake_txn *t, struct spool_append *a, struct body *b, uint64_t sum)
{
    a->settled = body_settled;
    a->owner = b;
    a->e.body_parts = b->parts;
    a->e.body_parts_n = b->parts_n;
    a->e.flags |= ENTRY_BORROW;
    a->e.rec.body.n = b->bytes;
    a->e.rec.body_sum = sum;
    intake_post(t->door->s, a);
    t->door->posted = true;
    t->door->posted_bytes += b->bytes;
}

/* A record about envelope i that is no MSG.  The copier has to know whose it is; here the ID tells. */
static struct spool_append *append_part(const struct intake_txn *t, uint32_t i, enum rec_type type, struct wire_wr *w_r)
{
    struct spool *s = t->door->s;
    struct slice domain = t->envs[i].domain;
    size_t cap = PART_META_BYTES + (s->copier ? domain.n : 0);
    struct spool_append *a = append_new(s, type, cap);
    if (!a)
        return NULL;
    *w_r = wire_wr(a->meta, cap);
    if (s->copier)
        meta_put(w_r, RT_DOMAIN, domain);
    a->e.rec.meta.n = wire_len(w_r);
    a->e.rec.id = t->ids[i];
    return a;
}

static struct spool_append *append_chunk(const struct intake_txn *t, uint32_t i, uint32_t index)
{
    uint8_t v[4];
    struct wire_wr w, value = wire_wr(v, sizeof v);
    struct spool_append *a = append_part(t, i, REC_CHUNK, &w);
    if (!a)
        return NULL;
    wire_put_u32(&value, index);
    meta_put(&w, RT_CHUNK_INDEX, slice_of(v, sizeof v));
    a->e.rec.meta.n = wire_len(&w);
    return a;
}

/* Sends `made` (n records, one an envelope, NULL: none could be made) with the body that was gathered. */
static int body_send(struct intake_txn *t, struct spool_append **made, uint32_t n, bool final)
{
    uint64_t sum = 0;
    struct body *b = t->body;
    int rc = body_seal(b, &sum);
    for (uint32_t i = 0; i < n; i++)
        if (!made[i])
            rc = -SATCHEL_ENOMEM;
    if (rc < 0) {
        for (uint32_t i = 0; i < n; i++)
            append_free(made[i]);
        return rc;
    }
    t->body = NULL;
    b->final = final;
    b->users = n;
    for (uint32_t i = 0; i < n; i++)
        append_with_body(t, made[i], b, sum);
    return 0;
}

static int txn_spill(struct intake_txn *t)
{
    struct spool_append *made[STATE_ITEMS_MAX];
    uint32_t n = t->envs_n;
    for (uint32_t i = 0; i < n; i++)
        made[i] = append_chunk(t, i, t->chunks);
    int rc = body_send(t, made, n, false);
    if (rc == 0) {
        t->chunks++;
        t->chunks_under_way++;
    }
    return rc;
}

static int txn_wait(struct intake_txn *t, intake_room *room, void *arg)
{
    t->room = room;
    t->room_arg = arg;
    if (!t->waiting) {
        t->waiting = true;
        t->wait_next = t->door->waiting;
        t->door->waiting = t;
    }
    return -SATCHEL_EAGAIN;
}

static int door_append(struct intake_txn *t, struct slice data, intake_room *room, void *arg)
{
    struct spool *s = t->door->s;
    assert(!t->committed);
    if (t->res < 0)
        return t->res;
    if (s->cfg.max_message_bytes && t->bytes + data.n > s->cfg.max_message_bytes)
        return -SATCHEL_ETOOBIG;
    uint64_t held = t->body ? t->body->bytes : 0;
    bool full = held > 0 && held + data.n > s->cfg.chunk_bytes;
    if (full || (held >= SPILL_MIN && over_budget(s))) {
        if (t->chunks_under_way >= CHUNKS_UNDER_WAY)
            return txn_wait(t, room, arg);
        int rc = txn_spill(t);
        if (rc < 0)
            return rc;
    }
    t->bytes += data.n;
    return body_copy(t, data);
}

/* ---- commit */

static struct spool_append *txn_msg(struct intake_txn *t, uint32_t i)
{
    char trace[TRACE_MAX];
    size_t n = t->trace ? t->trace(t->trace_arg, &t->envs[i], &t->ids[i], trace, sizeof trace) : 0;
    return append_msg(t->door->s, &t->envs[i], &t->ids[i], slice_of(trace, n), t->chunks, t->bytes);
}

static int door_commit(struct intake_txn *t, intake_done *done, void *arg)
{
    assert(!t->committed && t->envs_n <= STATE_ITEMS_MAX);
    if (t->res < 0)
        return t->res;
    if (t->chunks && t->body && t->body->bytes) {
        int rc = txn_spill(t);
        if (rc < 0)
            return rc;
    }
    if (!t->body && !(t->body = body_new(t)))
        return -SATCHEL_ENOMEM;
    struct spool_append *made[STATE_ITEMS_MAX];
    uint32_t n = t->envs_n;
    for (uint32_t i = 0; i < n; i++)
        made[i] = txn_msg(t, i);
    int rc = body_send(t, made, n, true);
    if (rc < 0)
        return rc;
    t->committed = true;
    t->done = done;
    t->done_arg = arg;
    return 0;
}

/* Best effort: what is durable of a transaction that failed or was given up is to be forgotten. */
static void txn_forget(struct intake_txn *t)
{
    for (uint32_t i = 0; i < t->envs_n; i++) {
        struct wire_wr w;
        struct spool_append *a = append_part(t, i, REC_ABORT, &w);
        if (!a)
            return;
        a->e.flags = ENTRY_RESERVE | ENTRY_LAZY;
        intake_post(t->door->s, a);
        t->door->posted = true;
    }
}

static void txn_unwait(struct intake_txn *t)
{
    if (!t->waiting)
        return;
    struct intake_txn **p = &t->door->waiting;
    while (*p != t)
        p = &(*p)->wait_next;
    *p = t->wait_next;
    t->waiting = false;
}

static void door_abort(struct intake_txn *t)
{
    if (t->committed) {
        t->muted = true;
        return;
    }
    txn_unwait(t);
    if (t->chunks)
        txn_forget(t);
    t->aborted = true;
    if (t->chunks_under_way == 0)
        txn_free(t);
}

/* ---- turning */

static void txn_finish(struct intake_txn *t)
{
    if (t->res < 0 && (t->envs_n > 1 || t->chunks))
        txn_forget(t);
    if (!t->muted)
        t->done(t->done_arg, t->res, t->ids, t->envs_n);
    txn_free(t);
}

static void door_body_back(struct door *d, struct body *b)
{
    struct intake_txn *t = b->txn;
    bool final = b->final;
    body_free(d, b);
    if (final) {
        txn_finish(t);
        return;
    }
    t->chunks_under_way--;
    if (t->aborted) {
        if (t->chunks_under_way == 0)
            txn_free(t);
    } else if (t->waiting) {
        txn_unwait(t);
        t->room(t->room_arg);
    }
}

static void door_ring(struct door *d)
{
    if (d->posted && d->s->copier)
        copied_ring(d->s);
    else if (d->posted && d->posted_bytes >= RING_BYTES)
        bell_ring(&d->s->to_committer.bell);
    else if (d->posted)
        committer_ring_soon(d->s);
    d->posted = false;
    d->posted_bytes = 0;
}

static void door_poll(struct intake *in)
{
    struct door *d = (struct door *)in;
    if (d->armed)
        bell_disarm(&d->settled.bell);
    d->armed = false;
    door_ring(d);
    for (struct mail *m = mailbox_take(&d->settled), *next; m; m = next) {
        next = m->next;
        door_body_back(d, (struct body *)m);
    }
    door_ring(d);
}

static bool door_sleep(struct intake *in)
{
    struct door *d = (struct door *)in;
    if (!d->armed)
        bell_arm(&d->settled.bell);
    d->armed = true;
    return mailbox_empty(&d->settled) && !d->posted;
}

static void door_close(struct intake **in)
{
    struct door *d = (struct door *)*in;
    committer_forget_bell(d->s, &d->bell);
    block_pool_free(&d->blocks);
    mailbox_destroy(&d->settled);
    free(d);
    *in = NULL;
}

static const struct intake_ops door_ops = {door_admit, door_begin, door_append, door_commit,
                                           door_abort, door_poll,  door_sleep,  door_close};

int spool_intake(struct spool *s, struct intake **in_r)
{
    struct door *d = calloc(1, sizeof *d);
    if (!d)
        return -SATCHEL_ENOMEM;
    int rc = mailbox_init(&d->settled);
    if (rc < 0) {
        free(d);
        return rc;
    }
    d->s = s;
    d->blocks.pinned = s->pinned.base ? &s->pinned : NULL;
    d->in.ops = &door_ops;
    d->in.fd = d->settled.bell.fd;
    d->bell.bell = &d->settled.bell;
    committer_add_bell(s, &d->bell);
    *in_r = &d->in;
    return 0;
}
