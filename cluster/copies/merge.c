/* merge.c - what became of messages elsewhere, taken in here.
 *
 * The owner of a shard passes on what is news to it: who told it was not the owner, and told those whom it believed to
 * hold a copy then.
 *
 * A STATE is answered with the IDs that are durable here.  -SATCHEL_EBUSY (the relay or an operator holds the message):
 * tried again for about two seconds, then left out of the answer: the sender still owes it and says it again.  Left
 * out, too: that some recipients of a message are done which is not here yet though it should be, since its copy may
 * come by another way, and without that.  Where nothing is known of the message and it is not to be here, there is
 * nothing to do. */
#include "cluster/copies/copies_impl.h"

enum { BUSY_RETRY_US = 20000, BUSY_TRIES = 100, OWED_BYTES = REC_COPYSET_MAX * 16 };

struct merges {
    struct dlist link;
    struct copies *c; /* NULL: copies were closed */
    struct cpeer *from;
    uint32_t epoch, pending, n, ok;
    uint64_t batch, token;
    uint8_t *bytes; /* what the states' slices lie in */
    uint8_t *owed;  /* OWED_BYTES for each of ops, where we own a shard of them; or NULL */
    struct msgid *acked;
    struct merge_op {
        struct storage_merge m;
        struct dlist busy; /* in c->busy while it waits to be tried again */
        struct merges *in;
        uint32_t tries;
        uint64_t retry_us;
    } ops[];
};

static void merges_free(struct merges *b)
{
    dlist_del(&b->link);
    free(b->acked);
    free(b->owed);
    free(b->bytes);
    free(b);
}

static void merges_answer(struct copies *c, struct merges *b)
{
    struct job *j = b->epoch == b->from->epoch && b->token ? job_of(c, b->from, b->token) : NULL;
    b->from->merges -= b->n;
    if (b->from->up && b->epoch == b->from->epoch)
        peer_send(c, b->from, wire_ids_frame(FRAME_STATE_ACK, FRAME_STATE_ACK_VERSION, &b->batch, b->acked, b->ok));
    if (j) {
        j->pending--;
        if (b->ok < b->n)
            j->res = -SATCHEL_EBUSY;
        job_step(c, j);
    }
    merges_free(b);
}

/* Its copy may be on its way here, from one who does not know of these ends. */
static bool comes_later(const struct copies *c, const struct storage_state *st)
{
    uint32_t shard = st->state.live && st->state.live < st->state.items ? shard_of(c, st->domain) : UINT32_MAX;
    return shard != UINT32_MAX && shard_ours(c, shard);
}

static void merge_done(struct storage_merge *m, int res)
{
    struct merge_op *o = m->arg;
    struct merges *b = o->in;
    struct copies *c = b->c;
    if (c && res == -SATCHEL_EBUSY && ++o->tries < BUSY_TRIES) {
        o->retry_us = copies_now(c) + BUSY_RETRY_US;
        dlist_add(&c->busy, &o->busy);
        copies_wake(c, o->retry_us);
        return;
    }
    if (res == 0 || (res == -SATCHEL_ENOENT && !(c && comes_later(c, &m->st))))
        b->acked[b->ok++] = m->st.id;
    if (--b->pending)
        return;
    if (!c) {
        merges_free(b);
        return;
    }
    sums_dirty(c);
    merges_answer(c, b);
}

/* Who is owed, less us and the one who says it. */
static struct slice owed_else(const struct copies *c, const struct cpeer *from, uint8_t *at, size_t n)
{
    size_t out = 0;
    for (size_t i = 0; i + 16 <= n; i += 16)
        if (memcmp(at + i, c->cfg.self.b, 16) != 0 && memcmp(at + i, from->id.b, 16) != 0) {
            memmove(at + out, at + i, 16);
            out += 16;
        }
    return slice_of(at, out);
}

static void owed_add(const struct copies *c, const struct cpeer *from, struct slice *owed, uint8_t *at,
                     const struct storage_id *id)
{
    if (storage_id_eq(id, &c->cfg.self) || storage_id_eq(id, &from->id) || owed->n == OWED_BYTES)
        return;
    for (size_t i = 0; i < owed->n; i += sizeof id->b)
        if (memcmp(at + i, id->b, sizeof id->b) == 0)
            return;
    memcpy(at + owed->n, id->b, sizeof id->b);
    owed->n += sizeof id->b;
}

/* Of a shard that we own: all of its members, and who was one, are to know. */
static void pass_on(const struct copies *c, struct merges *b, struct merge_op *o)
{
    uint32_t shard = shard_of(c, o->m.st.domain);
    const struct cshard *s = shard == UINT32_MAX ? NULL : &c->shards[shard];
    if (!s || !s->sync)
        return;
    if (!b->owed && !(b->owed = malloc((size_t)b->n * OWED_BYTES)))
        return;
    uint8_t *at = b->owed + (size_t)(o - b->ops) * OWED_BYTES;
    struct slice owed = slice_of(at, o->m.st.owed.n < OWED_BYTES ? o->m.st.owed.n : OWED_BYTES);
    if (owed.n)
        memcpy(at, o->m.st.owed.p, owed.n);
    for (uint32_t i = 0; i < s->map->members_n; i++)
        owed_add(c, b->from, &owed, at, &s->map->members[i]);
    for (uint32_t i = 0; i < s->map->former_n; i++)
        owed_add(c, b->from, &owed, at, &s->map->former[i]);
    o->m.st.owed = owed;
    o->m.st.tell = owed.n > 0;
}

static struct merges *merges_new(struct copies *c, struct cpeer *from, struct slice bytes, uint32_t n)
{
    struct merges *b = calloc(1, sizeof *b + n * sizeof *b->ops);
    if (!b)
        return NULL;
    dlist_init(&b->link);
    b->bytes = malloc(bytes.n ? bytes.n : 1);
    b->acked = malloc((n ? n : 1) * sizeof *b->acked);
    if (!b->bytes || !b->acked) {
        merges_free(b);
        return NULL;
    }
    memcpy(b->bytes, bytes.p, bytes.n);
    b->c = c;
    b->from = from;
    b->epoch = from->epoch;
    b->n = b->pending = n;
    dlist_add(&c->merging, &b->link);
    return b;
}

static void send_taken(struct copies *c, const struct merges *b)
{
    struct fbuf *f = fbuf_new(FRAME_STATE_TAKEN, FRAME_STATE_TAKEN_VERSION, 8);
    if (!f)
        return; /* the ack says it, too, a little later */
    struct wire_wr w = fbuf_writer(f);
    wire_put_u64(&w, b->batch);
    fbuf_end(f, &w);
    peer_send(c, b->from, f);
}

static void merges_start(struct copies *c, struct merges *b)
{
    bool taken = b->batch != 0;
    b->from->merges += b->n;
    for (uint32_t i = 0, n = b->n; i < n; i++) {
        struct merge_op *o = &b->ops[i];
        copies_heard(c, o->m.st.arrival_us);
        taken = c->env.storage->ops->merge(c->env.storage, &o->m) && taken;
    }
    if (taken)
        send_taken(c, b);
}

static void others_owed(struct copies *c, const struct storage_state *st)
{
    struct storage_id to;
    for (size_t i = 0; i + sizeof to.b <= st->owed.n; i += sizeof to.b) {
        memcpy(to.b, st->owed.p + i, sizeof to.b);
        ends_soon(c, &to);
    }
}

static bool merges_parse(struct copies *c, struct merges *b, size_t bytes_n, size_t at)
{
    struct wire_rd r = wire_rd(slice_of(b->bytes + at, bytes_n - at));
    for (uint32_t i = 0; i < b->n; i++) {
        struct merge_op *o = &b->ops[i];
        dlist_init(&o->busy);
        o->in = b;
        o->m.done = merge_done;
        o->m.arg = o;
        wire_state(&r, &o->m.st);
        if (r.bad)
            return false;
        o->m.st.owed = owed_else(c, b->from, b->bytes + (o->m.st.owed.p - b->bytes), o->m.st.owed.n);
        others_owed(c, &o->m.st);
        pass_on(c, b, o);
    }
    return true;
}

void merge_state(struct copies *c, struct cpeer *from, struct slice payload)
{
    struct wire_rd r = wire_rd(payload);
    uint64_t batch = wire_u64(&r), token = wire_u64(&r);
    uint32_t n = wire_count(&r, WIRE_STATES_MAX, WIRE_ID_BYTES + 8);
    if (r.bad) {
        frame_bad(c, from, "STATE");
        return;
    }
    struct merges *b = from->merges + n <= MERGES_MAX ? merges_new(c, from, payload, n) : NULL;
    if (!b)
        return; /* not acked: said again */
    b->batch = batch;
    if (!merges_parse(c, b, payload.n, (size_t)(r.p - payload.p))) {
        frame_bad(c, from, "STATE");
        merges_free(b);
        return;
    }
    struct job *j = token ? job_of(c, from, token) : NULL;
    if (j) {
        b->token = token;
        j->pending++;
        j->heard_us = copies_now(c);
    }
    if (n) {
        merges_start(c, b);
    } else {
        merges_answer(c, b);
    }
}

void merge_one(struct copies *c, struct cpeer *from, const struct storage_state *st, struct job *job)
{
    uint8_t text[WIRE_STATE_REC_MAX];
    struct wire_wr w = wire_wr(text, sizeof text);
    wire_put_state(&w, st);
    struct merges *b = w.bad ? NULL : merges_new(c, from, slice_of(text, wire_len(&w)), 1);
    if (!b || !merges_parse(c, b, wire_len(&w), 0)) {
        if (b)
            merges_free(b);
        return;
    }
    if (job) {
        b->token = job->token;
        job->pending++;
    }
    merges_start(c, b);
}

void merge_tick(struct copies *c, uint64_t now)
{
    struct dlist *it, *tmp;
    dlist_each(it, tmp, &c->busy)
    {
        struct merge_op *o = dlist_of(it, struct merge_op, busy);
        if (o->retry_us > now) {
            copies_wake(c, o->retry_us);
            break;
        }
        dlist_del(it);
        c->env.storage->ops->merge(c->env.storage, &o->m);
    }
}

void merge_close(struct copies *c)
{
    struct dlist *it, *tmp;
    dlist_each(it, tmp, &c->busy)
    {
        struct merge_op *o = dlist_of(it, struct merge_op, busy);
        dlist_del(it);
        o->in->pending--;
        if (o->in->pending == 0)
            merges_free(o->in);
    }
    dlist_each(it, tmp, &c->merging)
    {
        dlist_of(it, struct merges, link)->c = NULL;
        dlist_del(it);
    }
}
