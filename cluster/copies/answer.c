/* answer.c - the other side of a comparison: answers questions, keeps nothing between them.
 *
 * Each answer is bounded: a page of bags, four windows, the messages of one window.  Cursors that come back were made
 * here; the storage checks them like any other input.
 *
 * An offer is taken in whatever our map says, except that of a storage which will forget what it offers (IDS_SHED):
 * only a member may vouch for keeping it, and who is a member itself by our map is to keep it: its map is older. */
#include "cluster/copies/copies_impl.h"

enum { FORGETTING_US = 5000000 };

static struct fbuf *answer_new(uint16_t type, uint16_t version, uint64_t token, size_t cap, struct wire_wr *w_r)
{
    struct fbuf *f = fbuf_new(type, version, cap + 9);
    if (!f)
        return NULL;
    *w_r = fbuf_writer(f);
    wire_put_u8(w_r, IDS_LIST);
    wire_put_u64(w_r, token);
    return f;
}

static void answer_send(struct copies *c, struct cpeer *p, struct fbuf *f, const struct wire_wr *w)
{
    if (fbuf_end(f, w) == 0)
        peer_send(c, p, f); /* one that is lost is asked again */
    else
        fbuf_unref(f);
}

/* What was told to be forgotten may still be there, and in the digest, for a moment. */
static bool keeps(const struct copies *c, uint32_t shard)
{
    const struct cshard *s = &c->shards[shard];
    return shard_ours(c, shard) && (!s->forgot_us || copies_now(c) - s->forgot_us >= FORGETTING_US);
}

void answer_sums(struct copies *c, struct cpeer *from, uint64_t token, struct wire_rd *r)
{
    struct wire_wr w;
    uint32_t n = wire_count(r, WIRE_SUMS_MAX, 21);
    struct fbuf *f = c->map ? answer_new(FRAME_SUMS, FRAME_SUMS_VERSION, token, 4 + n * 17u, &w) : NULL;
    if (!f)
        return;
    uint8_t member[WIRE_SUMS_MAX];
    const struct sums *sums = sums_now(c);
    wire_put_u32(&w, n);
    for (uint32_t i = 0; i < n; i++) {
        struct slice pool = wire_name(r);
        uint32_t shard = shard_named(c, pool, wire_u32(r));
        wire_u64(r);
        wire_u64(r);
        bool known = shard != UINT32_MAX;
        wire_put_u64(&w, known ? sums->count[shard] : 0);
        wire_put_u64(&w, known ? sums->digest[shard] : 0);
        member[i] = known && keeps(c, shard);
    }
    wire_put(&w, member, n);
    answer_send(c, from, f, &w);
}

/* First bag behind `after`. */
static uint32_t bags_from(const struct sum_bag *bags, uint32_t n, struct slice after)
{
    uint32_t lo = 0, hi = n;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        struct slice d = bags[mid].domain;
        int x = memcmp(d.p, after.p, d.n < after.n ? d.n : after.n);
        if (x > 0 || (x == 0 && d.n > after.n))
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

void answer_bags(struct copies *c, struct cpeer *from, uint64_t token, struct wire_rd *r)
{
    struct wire_wr w;
    struct slice pool = wire_name(r);
    uint32_t shard = shard_named(c, pool, wire_u32(r)), n = 0, at = 0;
    struct slice after = wire_name(r);
    if (r->bad || !c->map)
        return;
    sums_now(c);
    const struct sum_bag *bags = shard == UINT32_MAX ? NULL : sums_bags(c, shard, &n);
    if (bags && after.n)
        at = bags_from(bags, n, after);
    uint32_t told = n - at < WIRE_BAGS_MAX ? n - at : WIRE_BAGS_MAX;
    struct fbuf *f = answer_new(FRAME_BAGS, FRAME_BAGS_VERSION, token, 5 + told * (17u + WIRE_NAME_MAX), &w);
    if (!f)
        return;
    wire_put_u8(&w, at + told < n);
    wire_put_u32(&w, told);
    for (uint32_t i = at; i < at + told; i++) {
        struct bag_stat now;
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): told is 0 where there are none */
        c->env.storage->ops->bag(c->env.storage, bags[i].domain, &now);
        wire_put_name(&w, bags[i].domain);
        wire_put_u64(&w, now.messages);
        wire_put_u64(&w, now.digest);
    }
    answer_send(c, from, f, &w);
}

/* ---- windows and their messages */

struct window_sum {
    struct msgid last;
    uint64_t arrival_us, digest;
    uint32_t count;
};

static bool window_each(void *arg, const struct queue_entry *e)
{
    struct window_sum *s = arg;
    s->last = e->id;
    s->arrival_us = e->arrival_us;
    s->digest += queue_entry_digest(&e->id, &e->state);
    return ++s->count < WIRE_ENTRIES_MAX;
}

void answer_windows(struct copies *c, struct cpeer *from, uint64_t token, struct wire_rd *r)
{
    struct wire_wr w;
    uint8_t cursor[QUEUE_CURSOR_MAX];
    struct slice domain = wire_name(r), at = wire_cursor(r);
    struct fbuf *f = r->bad ? NULL
                            : answer_new(FRAME_WINDOWS, FRAME_WINDOWS_VERSION, token,
                                         5 + WIRE_WINDOWS_MAX * (46u + QUEUE_CURSOR_MAX), &w);
    if (!f)
        return;
    size_t cursor_n = at.n;
    memcpy(cursor, at.p, at.n);
    uint8_t *more = w.p;
    wire_put_u8(&w, 1);
    uint8_t *count = w.p;
    wire_put_u32(&w, 0);
    uint32_t n = 0;
    for (bool whole = true; whole && n < WIRE_WINDOWS_MAX; n++) {
        struct window_sum s = {.count = 0};
        if (c->env.storage->ops->list(c->env.storage, domain, slice_of(cursor, cursor_n), window_each, &s, cursor,
                                      &cursor_n) < 0)
            w.bad = true;
        whole = s.count == WIRE_ENTRIES_MAX;
        *more = whole;
        wire_put_u64(&w, s.arrival_us);
        wire_put_id(&w, &s.last);
        wire_put_u32(&w, s.count);
        wire_put_u64(&w, s.digest);
        wire_put_cursor(&w, slice_of(cursor, cursor_n));
    }
    memcpy(count, &n, sizeof n);
    answer_send(c, from, f, &w);
}

struct listing {
    struct wire_wr *w;
    uint32_t n, max;
};

static bool listing_each(void *arg, const struct queue_entry *e)
{
    struct listing *l = arg;
    wire_put_entry(l->w, &e->id, e->arrival_us, &e->state);
    return ++l->n < l->max;
}

void answer_ids(struct copies *c, struct cpeer *from, uint64_t token, struct wire_rd *r)
{
    struct wire_wr w;
    uint8_t cursor[QUEUE_CURSOR_MAX];
    size_t cursor_n = 0;
    struct slice domain = wire_name(r), at = wire_cursor(r);
    uint32_t max = wire_u32(r);
    if (r->bad || max == 0 || max > WIRE_ENTRIES_MAX) {
        r->bad = true;
        return;
    }
    struct fbuf *f =
        answer_new(FRAME_IDS, FRAME_IDS_VERSION, token, 4 + max * (WIRE_ID_BYTES + 10u + WIRE_STATE_MAX), &w);
    if (!f)
        return;
    struct listing l = {&w, 0, max};
    uint8_t *count = w.p;
    wire_put_u32(&w, 0);
    if (c->env.storage->ops->list(c->env.storage, domain, at, listing_each, &l, cursor, &cursor_n) < 0)
        w.bad = true;
    memcpy(count, &l.n, sizeof l.n);
    answer_send(c, from, f, &w);
}

/* ---- offers */

struct offer {
    struct copies *c;
    struct cpeer *from;
    uint64_t token;
    struct slice domain;
    struct fbuf *states; /* the STATE that is being filled */
    struct wire_wr w;
    uint8_t *count;
    uint32_t states_n, want_n;
    int res;
    struct msgid want[WIRE_ENTRIES_MAX];
    struct storage_state known[WIRE_ENTRIES_MAX]; /* live on both sides with other ends: theirs */
    uint32_t known_n;
};

static void states_flush(struct offer *o)
{
    if (!o->states)
        return;
    memcpy(o->count, &o->states_n, sizeof o->states_n);
    if (fbuf_end(o->states, &o->w) == 0) {
        int rc = peer_send(o->c, o->from, o->states);
        o->res = rc < 0 ? rc : o->res;
    } else {
        fbuf_unref(o->states);
    }
    o->states = NULL;
}

static void states_add(struct offer *o, const struct storage_state *st)
{
    if (o->states && (size_t)(o->w.end - o->w.p) < WIRE_STATE_REC_MAX)
        states_flush(o);
    if (!o->states) {
        o->states = fbuf_new(FRAME_STATE, FRAME_STATE_VERSION, WIRE_BATCH_BYTES + WIRE_STATE_REC_MAX);
        if (!o->states) {
            o->res = -SATCHEL_ENOMEM;
            return;
        }
        o->w = fbuf_writer(o->states);
        wire_put_u64(&o->w, 0);
        wire_put_u64(&o->w, o->token);
        o->count = o->w.p;
        wire_put_u32(&o->w, 0);
        o->states_n = 0;
    }
    wire_put_state(&o->w, st);
    o->states_n++;
}

static void offer_entry(struct offer *o, const struct wire_entry *e)
{
    struct queue_entry here;
    char domain[256];
    struct storage_state st = {.id = e->id, .arrival_us = e->arrival_us, .domain = o->domain};
    struct storage *s = o->c->env.storage;
    if (s->ops->find(s, &e->id, &here, domain) == 0) {
        if (state_decode(e->state, &st.state) < 0) {
            o->res = -SATCHEL_EINVAL;
            return;
        }
        if (queue_entry_digest(&e->id, &st.state) == queue_entry_digest(&e->id, &here.state))
            return;
        o->known[o->known_n++] = st;
        st.state = here.state;
        states_add(o, &st);
    } else if (s->ops->tomb(s, &e->id, &st) == 0) {
        states_add(o, &st);
    } else {
        o->want[o->want_n++] = e->id;
    }
}

/* What it takes until the answer can be given: a job whose token names the offer's asker. */
struct taken {
    struct cpeer *from;
    uint64_t token;
    uint32_t epoch;
};

static void offer_taken(struct copies *c, uint64_t arg, int res)
{
    struct taken *t = (struct taken *)(uintptr_t)arg; /* NOLINT(performance-no-int-to-ptr): put there as a pointer */
    if (t->epoch == t->from->epoch)
        send_end(c, t->from, t->token, res);
    free(t);
}

static void offer_take(struct offer *o)
{
    struct copies *c = o->c;
    struct taken *t = malloc(sizeof *t);
    states_flush(o);
    struct job *j = NULL;
    if (t) {
        *t = (struct taken){o->from, o->token, o->from->epoch};
        j = job_want(c, o->from, o->want, o->want_n, false, offer_taken, (uint64_t)(uintptr_t)t);
    }
    if (!j) {
        free(t);
        send_end(c, o->from, o->token, -SATCHEL_EAGAIN);
        return;
    }
    j->res = o->res;
    for (uint32_t i = 0; i < o->known_n; i++)
        merge_one(c, o->from, &o->known[i], j);
    job_step(c, j);
}

static bool shard_of_peer(const struct copies *c, uint32_t shard, const struct cpeer *p)
{
    return cmap_is_member(c->shards[shard].map, &p->id);
}

void answer_offer(struct copies *c, struct cpeer *from, uint64_t token, enum ids_kind kind, struct wire_rd *r)
{
    struct slice domain = wire_name(r);
    uint32_t n = wire_count(r, WIRE_ENTRIES_MAX, WIRE_ID_BYTES + 10);
    uint32_t shard = shard_of(c, domain);
    if (r->bad)
        return;
    if (kind == IDS_SHED && (shard == UINT32_MAX || !shard_ours(c, shard) || shard_of_peer(c, shard, from))) {
        send_end(c, from, token, -SATCHEL_ENOENT);
        return;
    }
    struct offer *o = calloc(1, sizeof *o);
    if (!o) {
        send_end(c, from, token, -SATCHEL_ENOMEM);
        return;
    }
    *o = (struct offer){.c = c, .from = from, .token = token, .domain = domain};
    for (uint32_t i = 0; i < n && !r->bad; i++) {
        struct wire_entry e;
        wire_entry(r, &e);
        if (!r->bad)
            offer_entry(o, &e);
    }
    if (r->bad)
        o->res = -SATCHEL_EINVAL;
    offer_take(o);
    free(o);
}
