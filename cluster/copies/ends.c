/* ends.c - what became of messages here: told to those who may hold a copy, until they know.
 *
 * tap -> a queue for each peer -> STATE (within push_us, at most BATCHES_MAX not acked) -> STATE_TAKEN (nothing of it
 * is delivered there any more: enough to hand a shard over) -> STATE_ACK (durable there) -> storage.confirm
 * -> nobody is owed any more: SETTLED to the holders, who are owed nothing by it then either.
 *
 * A member that is newer than the list of who is owed hears of it, too: it may have got the message meanwhile.
 *
 * The queues are only quick.  What they cannot hold, what a lost link took along, and what a crash forgot is in the
 * storage: ends that are owed are walked again at each link-up, when we or they become owner, SOON_US after somebody
 * told us what others are owed, too, and every AGAIN_US or more.  Partial ends (some recipients) are no tombstones:
 * comparison finds those, their digests differ.  One that a member left out of its answer puts it out of sync in that
 * shard until it was compared. */
#include "cluster/copies/copies_impl.h"

#include <assert.h>

enum {
    ACK_SILENCE_US = 10000000,
    LACKING_RETRY_US = 1000000,
    SETTLED_WAIT_US = 50000,
    SOON_US = 5000000,
    WALK_STEP_US = 1000,
    WALK_REST_US = 100
};

struct endref {
    struct endref *next;
    uint64_t seq;
    uint32_t n;
    uint8_t state[];
};

bool ends_queue(struct copies *c, struct cpeer *p, const struct storage_state *st)
{
    uint8_t text[WIRE_STATE_REC_MAX];
    struct wire_wr w = wire_wr(text, sizeof text);
    if (!p->up || p->ends_n >= ENDS_MAX)
        return false;
    wire_put_state(&w, st);
    struct endref *e = w.bad ? NULL : malloc(sizeof *e + wire_len(&w));
    if (!e)
        return false;
    e->next = NULL;
    e->seq = ++p->ends_queued;
    e->n = (uint32_t)wire_len(&w);
    memcpy(e->state, text, e->n);
    if (!p->ends_head)
        p->ends_since_us = copies_now(c);
    *(p->ends_tail ? &p->ends_tail->next : &p->ends_head) = e;
    p->ends_tail = e;
    p->ends_n++;
    copies_wake(c, copies_now(c) < p->hurry_until_us ? 0 : p->ends_since_us + c->cfg.push_us);
    return true;
}

static void ends_pop(struct cpeer *p)
{
    struct endref *e = p->ends_head;
    p->ends_head = e->next;
    if (!p->ends_head)
        p->ends_tail = NULL;
    p->ends_n--;
    free(e);
}

static bool owed_to(struct slice owed, const struct storage_id *to)
{
    for (size_t i = 0; i + 16 <= owed.n; i += 16)
        if (memcmp(owed.p + i, to->b, 16) == 0)
            return true;
    return false;
}

static void push_to(struct copies *c, const struct storage_id *to, const struct storage_state *st)
{
    struct cpeer *p = peer_find(c, to);
    if (p && !ends_queue(c, p, st)) {
        compare_missed(c, shard_of(c, st->domain), to);
        p->lacking++;
        p->again |= p->up;
    }
}

/* To who is owed it; and, of a shard that we own, to the members of now: who is owed was gathered before the end was
 * written, and a member that is newer may have been given the message meanwhile. */
void ends_push(struct copies *c, const struct storage_state *st)
{
    uint32_t shard = shard_of(c, st->domain);
    const struct cshard *s = shard == UINT32_MAX ? NULL : &c->shards[shard];
    for (size_t i = 0; i + 16 <= st->owed.n; i += 16) {
        struct storage_id to;
        memcpy(to.b, st->owed.p + i, 16);
        push_to(c, &to, st);
    }
    for (uint32_t i = 0; s && s->sync && i < s->map->members_n; i++)
        if (!copies_is_self(c, &s->map->members[i]) && !owed_to(st->owed, &s->map->members[i]))
            push_to(c, &s->map->members[i], st);
}

void ends_tap(void *arg, const struct storage_state *st)
{
    struct copies *c = arg;
    sums_dirty(c);
    if (st->dsn.counter && shed_hold(c, st))
        return;
    ends_push(c, st);
}

/* ---- sending */

/* One frame from the head of the queue; 0: sent. */
static int batch_send(struct copies *c, struct cpeer *p, uint64_t now)
{
    size_t bytes = 20;
    uint32_t n = 0;
    for (struct endref *e = p->ends_head; e && n < WIRE_STATES_MAX && bytes + e->n <= WIRE_BATCH_BYTES; e = e->next) {
        bytes += e->n;
        n++;
    }
    struct fbuf *f = fbuf_new(FRAME_STATE, FRAME_STATE_VERSION, bytes);
    if (!f)
        return -SATCHEL_ENOMEM;
    struct wire_wr w = fbuf_writer(f);
    struct state_batch b = {.id = ++c->batch, .n = n, .sent_us = now};
    wire_put_u64(&w, b.id);
    wire_put_u64(&w, 0);
    wire_put_u32(&w, n);
    struct endref *e = p->ends_head;
    for (uint32_t i = 0; i < n; i++, e = e->next) {
        wire_put(&w, e->state, e->n);
        b.last = e->seq;
    }
    fbuf_end(f, &w);
    b.frame = fbuf_ref(f);
    int rc = peer_send(c, p, f);
    if (rc) {
        fbuf_unref(b.frame);
        return rc;
    }
    p->batches[p->batches_n++] = b;
    while (n--)
        ends_pop(p);
    return 0;
}

static void queue_send(struct copies *c, struct cpeer *p, uint64_t now)
{
    bool hurry = now < p->hurry_until_us;
    while (p->ends_head && p->batches_n < (hurry ? BATCHES_HURRY : BATCHES_MAX)) {
        uint64_t due = p->ends_since_us + c->cfg.push_us;
        if (now < due && !hurry && p->ends_n < WIRE_STATES_MAX) {
            copies_wake(c, due);
            return;
        }
        if (batch_send(c, p, now) < 0)
            return; /* room or down comes */
        p->ends_since_us = now;
    }
}

static void settled_send(struct copies *c, struct cpeer *p)
{
    if (p->settled_n)
        peer_send(c, p, wire_ids_frame(FRAME_SETTLED, FRAME_SETTLED_VERSION, NULL, p->settled, p->settled_n));
    p->settled_n = 0;
}

/* ---- what is owed, walked again, in slices */

struct walk {
    struct copies *c;
    struct cpeer *p;
    uint32_t n;
    bool full;
};

/* It is owed to others, and p is to know it nevertheless. */
static bool told_too(struct copies *c, const struct cpeer *p, struct slice domain)
{
    uint32_t shard = shard_of(c, domain);
    const struct msync *m = sync_of(c, shard, &p->id);
    return (m && m->telling) || shed_proxies(c, shard, &p->id);
}

static bool walk_each(void *arg, const struct storage_state *st)
{
    struct walk *w = arg;
    if (w->n++ == STEP_ENTRIES) {
        w->full = true;
        return false;
    }
    w->p->walk_after = st->id;
    if (!shed_held(w->c, &st->id) && (owed_to(st->owed, &w->p->id) || told_too(w->c, w->p, st->domain)))
        ends_queue(w->c, w->p, st);
    return true;
}

static void walk_begin(struct copies *c, struct cpeer *p)
{
    p->walk_needed = p->again;
    p->again = p->telling = false;
    p->walking = true;
    p->walk_at_us = UINT64_MAX;
    p->walk_after = (struct msgid){.counter = 0};
    p->walk_looked = 0;
    p->walk_lacking = p->lacking;
    p->walks_begun++;
    for (uint32_t i = 0; i < c->shards_n; i++) {
        struct msync *m = sync_of(c, i, &p->id);
        if (m)
            m->telling = m->fresh;
    }
}

static void walk_step(struct copies *c, struct cpeer *p, uint64_t now)
{
    struct walk w = {c, p, 0, false};
    if (p->ends_n > ENDS_MAX / 2)
        return; /* acks come first */
    c->env.storage->ops->owed(c->env.storage, NULL, p->walk_after.counter ? &p->walk_after : NULL, walk_each, &w);
    p->walk_looked += w.n;
    if (w.full) {
        copies_wake(c, now + WALK_STEP_US);
        return;
    }
    p->walking = false;
    p->telling = true;
    p->walks_done = p->walks_begun;
    p->walk_until = p->ends_queued;
    /* A walk that found much is dear: it is made less often.  What was asked for meanwhile stays so. */
    p->walk_rest_us = now + p->walk_looked * WALK_REST_US;
    if (!p->again && p->walk_at_us < p->walk_rest_us)
        p->walk_at_us = p->walk_rest_us;
    if (p->walk_at_us > p->walk_rest_us + AGAIN_US)
        p->walk_at_us = p->walk_rest_us + AGAIN_US;
}

/* What was told is acked: p is new to nothing of it any more. */
static void walk_told(struct copies *c, struct cpeer *p)
{
    p->telling = false;
    for (uint32_t i = 0; i < c->shards_n; i++) {
        struct msync *m = sync_of(c, i, &p->id);
        if (m && m->telling && p->lacking == p->walk_lacking)
            m->fresh = false;
        if (m)
            m->telling = false;
    }
}

static void walk_tick(struct copies *c, struct cpeer *p, uint64_t now)
{
    if (p->telling && ends_acked(p) >= p->walk_until)
        walk_told(c, p);
    bool hurry = now < p->hurry_until_us; /* walks of habit wait: their ends would be before those of a hand-over */
    uint64_t at = hurry && !p->again && p->walk_at_us < p->hurry_until_us ? p->hurry_until_us : p->walk_at_us;
    if (!p->walking && now >= at)
        walk_begin(c, p);
    else if (!p->walking)
        copies_wake(c, at);
    if (p->walking && hurry && !p->walk_needed)
        copies_wake(c, p->hurry_until_us);
    else if (p->walking)
        walk_step(c, p, now);
}

void ends_again(struct copies *c, struct cpeer *p)
{
    p->again = true;
    p->walk_at_us = 0;
    copies_wake(c, 0);
}

void ends_soon(struct copies *c, const struct storage_id *to)
{
    struct cpeer *p = peer_find(c, to);
    uint64_t at = copies_now(c) + SOON_US;
    if (p && at < p->walk_rest_us)
        at = p->walk_rest_us;
    if (!p || !p->up || p->walk_at_us <= at)
        return;
    p->walk_at_us = at;
    copies_wake(c, at);
}

/* ---- answers */

static void settled_add(struct copies *c, struct cpeer *p, const struct msgid *id)
{
    if (!p || !p->up)
        return;
    if (!p->settled)
        p->settled = malloc(WIRE_IDS_MAX * sizeof *p->settled);
    if (!p->settled)
        return;
    if (p->settled_n == 0) {
        p->settled_since_us = copies_now(c);
        copies_wake(c, p->settled_since_us + SETTLED_WAIT_US);
    }
    p->settled[p->settled_n++] = *id;
    if (p->settled_n == WIRE_IDS_MAX)
        settled_send(c, p);
}

/* Nobody but `from` was owed. */
static bool owed_only(struct slice owed, const struct storage_id *from)
{
    for (size_t i = 0; i + 16 <= owed.n; i += 16)
        if (memcmp(owed.p + i, from->b, 16) != 0)
            return false;
    return true;
}

static void settled_tell(struct copies *c, struct cpeer *from, const struct msgid *id)
{
    struct storage_state st;
    assert(from);
    if (c->env.storage->ops->tomb(c->env.storage, id, &st) < 0 || !owed_only(st.owed, &from->id))
        return;
    uint32_t shard = shard_of(c, st.domain);
    const struct map_shard *s = shard == UINT32_MAX ? NULL : c->shards[shard].map;
    settled_add(c, from, id);
    for (uint32_t i = 0; s && i < s->members_n; i++)
        if (!storage_id_eq(&s->members[i], &from->id))
            settled_add(c, peer_find(c, &s->members[i]), id);
    for (uint32_t i = 0; s && i < s->former_n; i++)
        if (!storage_id_eq(&s->former[i], &from->id))
            settled_add(c, peer_find(c, &s->former[i]), id);
}

static bool ids_have(const struct msgid *ids, uint32_t n, const struct msgid *id)
{
    for (uint32_t i = 0; i < n; i++)
        if (msgid_eq(&ids[i], id))
            return true;
    return false;
}

/* p is out of sync in the shards of what it left out. */
static void batch_missed(struct copies *c, const struct cpeer *p, const struct state_batch *b, const struct msgid *ids,
                         uint32_t n)
{
    struct wire_rd r = wire_rd(slice_of(b->frame->data + FRAME_HEAD_BYTES, b->frame->n - FRAME_HEAD_BYTES));
    struct storage_state st;
    wire_u64(&r);
    wire_u64(&r);
    for (uint32_t i = 0, all = wire_u32(&r); i < all; i++) {
        wire_state(&r, &st);
        assert(!r.bad);
        uint32_t shard = ids_have(ids, n, &st.id) ? UINT32_MAX : shard_of(c, st.domain);
        if (shard != UINT32_MAX)
            compare_missed(c, shard, &p->id);
    }
}

static void batch_acked(struct copies *c, struct cpeer *p, uint64_t id, const struct msgid *ids, uint32_t n)
{
    for (uint32_t i = 0; i < p->batches_n; i++) {
        if (p->batches[i].id != id)
            continue;
        if (n < p->batches[i].n) {
            p->lacking++;
            p->again = true;
            p->walk_at_us = copies_now(c) + LACKING_RETRY_US;
            batch_missed(c, p, &p->batches[i], ids, n);
        }
        fbuf_unref(p->batches[i].frame);
        p->batches_n--;
        memmove(&p->batches[i], &p->batches[i + 1], (p->batches_n - i) * sizeof p->batches[0]);
        copies_wake(c, 0);
        return;
    }
}

void ends_ack(struct copies *c, struct cpeer *from, struct slice payload)
{
    struct wire_rd r = wire_rd(payload);
    uint64_t batch = wire_u64(&r);
    uint32_t n = wire_count(&r, WIRE_IDS_MAX, WIRE_ID_BYTES);
    if (r.bad) {
        frame_bad(c, from, "STATE_ACK");
        return;
    }
    struct msgid *ids = malloc((n ? n : 1) * sizeof *ids);
    if (!ids)
        return;
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = wire_id(&r);
        settled_tell(c, from, &ids[i]);
    }
    if (n)
        c->env.storage->ops->confirm(c->env.storage, &from->id, ids, n);
    batch_acked(c, from, batch, ids, n);
    free(ids);
}

void ends_taken_frame(struct copies *c, struct cpeer *from, struct slice payload)
{
    struct wire_rd r = wire_rd(payload);
    uint64_t batch = wire_u64(&r);
    if (r.bad)
        frame_bad(c, from, "STATE_TAKEN");
    for (uint32_t i = 0; i < from->batches_n; i++)
        from->batches[i].taken |= from->batches[i].id == batch && !r.bad;
    copies_wake(c, 0);
}

void ends_settled(struct copies *c, struct cpeer *from, struct slice payload)
{
    struct wire_rd r = wire_rd(payload);
    uint32_t n = wire_count(&r, WIRE_IDS_MAX, WIRE_ID_BYTES);
    struct msgid *ids = r.bad || n == 0 ? NULL : malloc(n * sizeof *ids);
    if (r.bad)
        frame_bad(c, from, "SETTLED");
    if (!ids)
        return;
    for (uint32_t i = 0; i < n; i++)
        ids[i] = wire_id(&r);
    c->env.storage->ops->settled(c->env.storage, ids, n);
    free(ids);
}

/* ---- the rest */

uint64_t ends_acked(const struct cpeer *p)
{
    if (p->batches_n)
        return p->batches[0].last - p->batches[0].n;
    return p->ends_head ? p->ends_head->seq - 1 : p->ends_queued;
}

uint64_t ends_taken(const struct cpeer *p)
{
    for (uint32_t i = 0; i < p->batches_n; i++)
        if (!p->batches[i].taken)
            return p->batches[i].last - p->batches[i].n;
    return p->ends_head ? p->ends_head->seq - 1 : p->ends_queued;
}

bool ends_quiet(const struct cpeer *p)
{
    return p->batches_n == 0 && !p->ends_head;
}

void ends_down(struct copies *c, struct cpeer *p)
{
    (void)c;
    while (p->ends_head)
        ends_pop(p);
    while (p->batches_n)
        fbuf_unref(p->batches[--p->batches_n].frame);
    p->settled_n = 0;
    p->again = p->walking = p->telling = false;
}

/* A batch that nobody answers although the link stands. */
static void batch_lost(struct copies *c, struct cpeer *p, uint64_t now)
{
    if (p->batches_n && now - p->batches[0].sent_us > ACK_SILENCE_US)
        batch_acked(c, p, p->batches[0].id, NULL, 0);
}

void ends_tick(struct copies *c, uint64_t now)
{
    uint64_t unpushed = 0;
    for (uint32_t i = 0; i < c->peers_n; i++) {
        struct cpeer *p = c->peers[i];
        if (!p->up)
            continue;
        batch_lost(c, p, now);
        walk_tick(c, p, now);
        queue_send(c, p, now);
        if (p->settled_n && now - p->settled_since_us >= SETTLED_WAIT_US)
            settled_send(c, p);
        else if (p->settled_n)
            copies_wake(c, p->settled_since_us + SETTLED_WAIT_US);
        unpushed += p->ends_n;
    }
    c->info.states_unpushed = unpushed;
}
