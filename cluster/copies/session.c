/* session.c - one comparison of one shard with one peer, seen from who asks.
 *
 *   SUMS      (where asked for) equal: over
 *   BAGS      their bags, page by page; of each page the bags that differ, theirs and ours, are walked
 *   WINDOWS   a bag that differs: their windows of 1,024 messages each; ours are summed up between the same places
 *   IDS       a window that differs: their messages in it
 *   JOIN      theirs and ours side by side, in order: what we lack is wanted (or, if final here, said), what they lack
 * or know otherwise is offered DRAIN     all that was wanted is durable here, all that was offered and said is acked
 * there
 *
 * At the end both have what either had at the beginning.  Work is done in slices of STEP_ENTRIES; the other side keeps
 * nothing between questions (its places come back to it as cursors). */
#include "cluster/copies/copies_impl.h"

enum { OWN_MAX = 1024, MINE_MAX = 2048, JOBS_MAX = 4, ANSWER_WAIT_US = 10000000 };

struct own {
    struct msgid id;
    uint64_t arrival_us, digest;
};

struct window {
    struct own last; /* digest: of the window */
    uint32_t count;
    uint16_t cursor_n; /* behind it */
    uint8_t cursor[QUEUE_CURSOR_MAX];
};

struct session {
    enum obj_kind kind;
    enum session_state { S_SUMS, S_BAGS, S_WINDOWS, S_WALK, S_IDS, S_JOIN, S_DRAIN } state;
    uint64_t token;
    struct dlist link;
    struct cpeer *peer;
    uint32_t shard, jobs;
    int res;
    uint64_t asked_us, until;
    bool until_set;
    session_done *done;
    uint64_t arg;
    /* bags of the page that differ */
    struct slice *diffs; /* each malloc'ed */
    uint32_t diffs_n, diff_at;
    bool bags_more;
    uint8_t after[WIRE_NAME_MAX];
    uint8_t after_n;
    /* the bag that is walked */
    struct window windows[WIRE_WINDOWS_MAX];
    uint32_t windows_n, window_at;
    bool windows_more;
    uint8_t cursor[QUEUE_CURSOR_MAX]; /* theirs: where the window begins */
    uint16_t cursor_n;
    struct own own[OWN_MAX]; /* ours, read ahead */
    uint32_t own_n, own_at;
    bool own_end;
    uint8_t own_cursor[QUEUE_CURSOR_MAX];
    size_t own_cursor_n;
    struct own mine[MINE_MAX]; /* of the window */
    uint32_t mine_n, mine_at;
    bool mine_whole;
    uint64_t mine_digest;
    struct own theirs[WIRE_ENTRIES_MAX];
    uint32_t theirs_n, theirs_at;
    /* to be sent */
    struct msgid want[WIRE_ENTRIES_MAX];
    struct offer_entry offer[WIRE_ENTRIES_MAX];
    uint32_t want_n, offer_n;
};

static void session_run(struct copies *c, struct session *s);

/* ---- life */

static void diffs_free(struct session *s)
{
    for (uint32_t i = 0; i < s->diffs_n; i++)
        free((void *)s->diffs[i].p);
    free(s->diffs);
    s->diffs = NULL;
    s->diffs_n = s->diff_at = 0;
}

static void session_free(struct copies *c, struct session *s)
{
    slots_del(&c->slots, s->token);
    dlist_del(&s->link);
    s->peer->sessions--;
    c->sessions_n--;
    diffs_free(s);
    free(s);
}

static void session_over(struct copies *c, struct session *s, int res)
{
    session_done *done = s->done;
    uint64_t arg = s->arg;
    uint32_t shard = s->shard;
    struct storage_id peer = s->peer->id;
    session_free(c, s);
    if (done) /* not while it starts */
        done(c, arg, shard, &peer, res);
    copies_wake(c, 0);
}

/* false: the session is over. */
static bool session_ask(struct copies *c, struct session *s, struct fbuf *f, enum session_state state)
{
    int rc = peer_send(c, s->peer, f);
    if (rc < 0) {
        session_over(c, s, rc);
        return false;
    }
    s->state = state;
    s->asked_us = copies_now(c);
    return true;
}

static struct fbuf *question(const struct session *s, uint16_t type, uint16_t version, struct wire_wr *w_r)
{
    struct fbuf *f = fbuf_new(type, version, 1024);
    if (!f)
        return NULL;
    *w_r = fbuf_writer(f);
    wire_put_u8(w_r, IDS_ASK);
    wire_put_u64(w_r, s->token);
    return f;
}

static bool ask_sums(struct copies *c, struct session *s)
{
    struct wire_wr w;
    struct fbuf *f = question(s, FRAME_SUMS, FRAME_SUMS_VERSION, &w);
    if (f) {
        const struct sums *sums = sums_now(c);
        wire_put_u32(&w, 1);
        shard_put_name(c, &w, s->shard);
        wire_put_u64(&w, sums->count[s->shard]);
        wire_put_u64(&w, sums->digest[s->shard]);
        fbuf_end(f, &w);
    }
    return session_ask(c, s, f, S_SUMS);
}

static bool ask_bags(struct copies *c, struct session *s)
{
    struct wire_wr w;
    struct fbuf *f = question(s, FRAME_BAGS, FRAME_BAGS_VERSION, &w);
    if (f) {
        shard_put_name(c, &w, s->shard);
        wire_put_name(&w, slice_of(s->after, s->after_n));
        fbuf_end(f, &w);
    }
    return session_ask(c, s, f, S_BAGS);
}

static bool ask_windows(struct copies *c, struct session *s)
{
    struct wire_wr w;
    struct fbuf *f = question(s, FRAME_WINDOWS, FRAME_WINDOWS_VERSION, &w);
    if (f) {
        wire_put_name(&w, s->diffs[s->diff_at]);
        wire_put_cursor(&w, slice_of(s->cursor, s->cursor_n));
        fbuf_end(f, &w);
    }
    return session_ask(c, s, f, S_WINDOWS);
}

static bool ask_ids(struct copies *c, struct session *s)
{
    struct wire_wr w;
    struct fbuf *f = question(s, FRAME_IDS, FRAME_IDS_VERSION, &w);
    if (f) {
        wire_put_name(&w, s->diffs[s->diff_at]);
        wire_put_cursor(&w, slice_of(s->cursor, s->cursor_n));
        wire_put_u32(&w, s->windows[s->window_at].count);
        fbuf_end(f, &w);
    }
    return session_ask(c, s, f, S_IDS);
}

bool session_start(struct copies *c, struct cpeer *p, uint32_t shard, bool precheck, session_done *done, uint64_t arg)
{
    if (!p->up || p->sessions >= SESSIONS_MAX || c->sessions_n >= SESSIONS_ALL_MAX)
        return false;
    struct session *s = calloc(1, sizeof *s);
    uint64_t token = s ? slots_add(&c->slots, s) : 0;
    if (!token) {
        free(s);
        return false;
    }
    s->kind = OBJ_SESSION;
    s->token = token;
    s->peer = p;
    s->shard = shard;
    dlist_add(&c->sessions, &s->link);
    p->sessions++;
    c->sessions_n++;
    sums_now(c);
    if (!(precheck ? ask_sums(c, s) : ask_bags(c, s)))
        return false;
    s->done = done;
    s->arg = arg;
    return true;
}

/* ---- what is to be sent */

static void job_over(struct copies *c, uint64_t arg, int res)
{
    struct session *s = slots_get(&c->slots, arg);
    if (!s || s->kind != OBJ_SESSION)
        return;
    s->jobs--;
    if (res < 0)
        s->res = res;
    copies_wake(c, 0);
}

/* false: too much is under way, come back. */
static bool want_send(struct copies *c, struct session *s)
{
    if (s->want_n == 0)
        return true;
    if (s->jobs >= JOBS_MAX || !job_want(c, s->peer, s->want, s->want_n, false, job_over, s->token))
        return false;
    s->jobs++;
    s->want_n = 0;
    return true;
}

static bool offer_send(struct copies *c, struct session *s)
{
    if (s->offer_n == 0)
        return true;
    if (s->jobs >= JOBS_MAX ||
        !job_offer(c, s->peer, IDS_OFFER, s->diffs[s->diff_at], s->offer, s->offer_n, job_over, s->token))
        return false;
    s->jobs++;
    s->offer_n = 0;
    return true;
}

/* ---- ours, in order */

static bool own_each(void *arg, const struct queue_entry *e)
{
    struct session *s = arg;
    s->own[s->own_n++] = (struct own){e->id, e->arrival_us, queue_entry_digest(&e->id, &e->state)};
    return s->own_n < OWN_MAX;
}

static void own_fill(struct copies *c, struct session *s)
{
    s->own_n = s->own_at = 0;
    int rc = c->env.storage->ops->list(c->env.storage, s->diffs[s->diff_at], slice_of(s->own_cursor, s->own_cursor_n),
                                       own_each, s, s->own_cursor, &s->own_cursor_n);
    s->own_end = s->own_n < OWN_MAX;
    if (rc < 0)
        s->res = rc;
}

static int own_cmp(const struct own *a, const struct own *b)
{
    if (a->arrival_us != b->arrival_us)
        return a->arrival_us < b->arrival_us ? -1 : 1;
    int d = memcmp(a->id.incarnation, b->id.incarnation, sizeof a->id.incarnation);
    return d ? d : (a->id.counter > b->id.counter) - (a->id.counter < b->id.counter);
}

/* Ours up to the end of the window, as many as there is room for. */
static void mine_gather(struct copies *c, struct session *s, uint32_t *budget)
{
    const struct window *w = &s->windows[s->window_at];
    bool last = !s->windows_more && s->window_at + 1 == s->windows_n;
    while (!s->mine_whole && s->mine_n < MINE_MAX && *budget) {
        if (s->own_at == s->own_n && !s->own_end)
            own_fill(c, s);
        const struct own *o = &s->own[s->own_at];
        if (s->own_at == s->own_n || (!last && own_cmp(o, &w->last) > 0)) {
            s->mine_whole = true;
            return;
        }
        s->mine[s->mine_n++] = *o;
        s->mine_digest += o->digest;
        s->own_at++;
        --*budget;
    }
}

/* ---- from window to window, from bag to bag */

static void window_begin(struct session *s)
{
    s->mine_n = s->mine_at = s->theirs_n = s->theirs_at = 0;
    s->mine_digest = 0;
    s->mine_whole = false;
    s->state = S_WALK;
}

static void window_end(struct session *s)
{
    const struct window *w = &s->windows[s->window_at++];
    memcpy(s->cursor, w->cursor, w->cursor_n);
    s->cursor_n = w->cursor_n;
    window_begin(s);
}

static void bag_begin(struct session *s)
{
    s->cursor_n = 0;
    s->own_cursor_n = 0;
    s->own_n = s->own_at = 0;
    s->own_end = false;
    s->windows_n = s->window_at = 0;
    s->windows_more = true;
    window_begin(s);
}

/* The bag is over: the next one, the next page, or the end.  false: wait. */
static bool bag_next(struct copies *c, struct session *s)
{
    if (s->diffs_n && !offer_send(c, s))
        return false;
    if (s->diff_at + 1 < s->diffs_n) {
        s->diff_at++;
        bag_begin(s);
        return ask_windows(c, s) && false;
    }
    diffs_free(s);
    if (s->bags_more) {
        ask_bags(c, s);
        return false;
    }
    s->state = S_DRAIN;
    return true;
}

/* Sums ours up against theirs.  false: wait. */
static bool walk_step(struct copies *c, struct session *s, uint32_t *budget)
{
    if (s->window_at == s->windows_n) {
        if (!s->windows_more)
            return bag_next(c, s);
        return ask_windows(c, s) && false;
    }
    const struct window *w = &s->windows[s->window_at];
    mine_gather(c, s, budget);
    if (!s->mine_whole && s->mine_n < MINE_MAX)
        return false; /* the budget is used up */
    if (s->mine_whole && s->mine_n == w->count && s->mine_digest == w->last.digest) {
        window_end(s);
        return true;
    }
    if (w->count)
        return ask_ids(c, s) && false;
    s->state = S_JOIN;
    return true;
}

/* They have it live and we do not. */
static bool join_theirs(struct copies *c, struct session *s, const struct own *o)
{
    struct storage_state st;
    if (c->env.storage->ops->tomb(c->env.storage, &o->id, &st) == 0)
        return shed_held(c, &o->id) || ends_queue(c, s->peer, &st);
    if (s->want_n == WIRE_ENTRIES_MAX && !want_send(c, s))
        return false;
    s->want[s->want_n++] = o->id;
    return true;
}

/* We have it, and they lack it, or know other ends. */
static bool join_mine(struct copies *c, struct session *s, const struct own *o)
{
    if (s->offer_n == WIRE_ENTRIES_MAX && !offer_send(c, s))
        return false;
    s->offer[s->offer_n++] = (struct offer_entry){o->id, o->arrival_us};
    return true;
}

/* The next message of either side.  false: wait. */
static bool join_one(struct copies *c, struct session *s)
{
    const struct own *m = s->mine_at < s->mine_n ? &s->mine[s->mine_at] : NULL;
    const struct own *t = s->theirs_at < s->theirs_n ? &s->theirs[s->theirs_at] : NULL;
    int d = !m ? 1 : !t ? -1 : own_cmp(m, t);
    bool same = d == 0 && m->digest == t->digest;
    if (!same && !(d > 0 ? join_theirs(c, s, t) : join_mine(c, s, m)))
        return false;
    s->mine_at += d <= 0;
    s->theirs_at += d >= 0;
    return true;
}

static bool join_step(struct copies *c, struct session *s, uint32_t *budget)
{
    while (*budget) {
        if (s->mine_at == s->mine_n && !s->mine_whole) {
            s->mine_n = s->mine_at = 0;
            mine_gather(c, s, budget);
            if (s->mine_n == 0 && !s->mine_whole)
                return false;
        }
        if (s->mine_at == s->mine_n && s->theirs_at == s->theirs_n) {
            window_end(s);
            return true;
        }
        if (!join_one(c, s))
            return false;
        --*budget;
    }
    return false;
}

/* false: wait, or over. */
static bool drain_step(struct copies *c, struct session *s)
{
    if (!want_send(c, s))
        return false;
    if (!s->until_set) {
        s->until = s->peer->ends_queued;
        s->until_set = true;
    }
    if (s->jobs == 0 && ends_acked(s->peer) >= s->until)
        session_over(c, s, s->res);
    return false;
}

static void session_run(struct copies *c, struct session *s)
{
    uint32_t budget = STEP_ENTRIES;
    bool more = true;
    while (more && budget) {
        switch (s->state) {
        case S_WALK:
            more = walk_step(c, s, &budget);
            break;
        case S_JOIN:
            more = join_step(c, s, &budget);
            break;
        case S_DRAIN:
            more = drain_step(c, s);
            break;
        default: /* an answer is to come */
            more = false;
            break;
        }
    }
}

/* ---- answers */

void session_sums(struct copies *c, struct cpeer *from, void *obj, struct wire_rd *r)
{
    struct session *s = obj;
    uint32_t n = wire_count(r, 1, 16);
    uint64_t count = wire_u64(r), digest = wire_u64(r);
    if (s->peer != from || s->state != S_SUMS || r->bad || n != 1)
        return;
    const struct sums *sums = sums_now(c);
    if (count == sums->count[s->shard] && digest == sums->digest[s->shard])
        session_over(c, s, 0);
    else
        ask_bags(c, s);
}

static bool diff_add(struct session *s, struct slice domain)
{
    if ((s->diffs_n & 63) == 0) {
        struct slice *diffs = realloc(s->diffs, (s->diffs_n + 64) * sizeof *diffs);
        if (!diffs)
            return false;
        s->diffs = diffs;
    }
    uint8_t *name = malloc(domain.n + 1);
    if (!name)
        return false;
    memcpy(name, domain.p, domain.n);
    s->diffs[s->diffs_n++] = slice_of(name, domain.n);
    return true;
}

static int name_cmp(struct slice a, struct slice b)
{
    int d = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    return d ? d : (a.n > b.n) - (a.n < b.n);
}

static bool bag_same(struct copies *c, struct slice domain, uint64_t count, uint64_t digest)
{
    struct bag_stat now;
    c->env.storage->ops->bag(c->env.storage, domain, &now);
    return now.messages == count && now.digest == digest;
}

/* Theirs and ours side by side; `more`: their page ends before their bags do, and what we have behind it waits. */
static bool bags_join(struct copies *c, struct session *s, struct wire_rd *r, uint32_t n)
{
    uint32_t ours_n, at = 0;
    const struct sum_bag *ours = sums_bags(c, s->shard, &ours_n);
    while (at < ours_n && s->after_n && name_cmp(ours[at].domain, slice_of(s->after, s->after_n)) <= 0)
        at++;
    for (uint32_t i = 0; i < n; i++) {
        struct slice domain = wire_name(r);
        uint64_t count = wire_u64(r), digest = wire_u64(r);
        if (r->bad || domain.n == 0)
            return false;
        for (; at < ours_n && name_cmp(ours[at].domain, domain) < 0; at++)
            if (!diff_add(s, ours[at].domain))
                return false;
        at += at < ours_n && slice_eq(ours[at].domain, domain);
        if (!bag_same(c, domain, count, digest) && !diff_add(s, domain))
            return false;
        memcpy(s->after, domain.p, domain.n);
        s->after_n = (uint8_t)domain.n;
    }
    for (; !s->bags_more && at < ours_n; at++)
        if (!diff_add(s, ours[at].domain))
            return false;
    return true;
}

void session_bags(struct copies *c, struct cpeer *from, void *obj, struct wire_rd *r)
{
    struct session *s = obj;
    if (s->peer != from || s->state != S_BAGS)
        return;
    s->bags_more = wire_u8(r);
    uint32_t n = wire_count(r, WIRE_BAGS_MAX, 17);
    sums_now(c);
    if (r->bad || (s->bags_more && n == 0) || !bags_join(c, s, r, n)) {
        session_over(c, s, r->bad ? -SATCHEL_EINVAL : -SATCHEL_EAGAIN);
        return;
    }
    if (s->diffs_n) {
        bag_begin(s);
        ask_windows(c, s);
        return;
    }
    s->state = S_WALK;
    s->windows_n = s->window_at = 0;
    s->windows_more = false;
    if (bag_next(c, s))
        session_run(c, s);
}

void session_windows(struct copies *c, struct cpeer *from, void *obj, struct wire_rd *r)
{
    struct session *s = obj;
    if (s->peer != from || s->state != S_WINDOWS)
        return;
    s->windows_more = wire_u8(r);
    s->windows_n = wire_count(r, WIRE_WINDOWS_MAX, 46);
    for (uint32_t i = 0; i < s->windows_n; i++) {
        struct window *w = &s->windows[i];
        w->last.arrival_us = wire_u64(r);
        w->last.id = wire_id(r);
        w->count = wire_u32(r);
        w->last.digest = wire_u64(r);
        struct slice cursor = wire_cursor(r);
        w->cursor_n = (uint16_t)cursor.n;
        memcpy(w->cursor, cursor.p, cursor.n);
        r->bad |= w->count > WIRE_ENTRIES_MAX;
    }
    if (r->bad || s->windows_n == 0) {
        session_over(c, s, -SATCHEL_EINVAL);
        return;
    }
    s->window_at = 0;
    window_begin(s);
    session_run(c, s);
}

void session_ids(struct copies *c, struct cpeer *from, void *obj, struct wire_rd *r)
{
    struct session *s = obj;
    struct msg_state state;
    if (s->peer != from || s->state != S_IDS)
        return;
    s->theirs_n = wire_count(r, WIRE_ENTRIES_MAX, WIRE_ID_BYTES + 10);
    for (uint32_t i = 0; i < s->theirs_n; i++) {
        struct wire_entry e;
        wire_entry(r, &e);
        if (r->bad || state_decode(e.state, &state) < 0) {
            session_over(c, s, -SATCHEL_EINVAL);
            r->bad = true;
            return;
        }
        s->theirs[i] = (struct own){e.id, e.arrival_us, queue_entry_digest(&e.id, &state)};
    }
    s->theirs_at = 0;
    s->state = S_JOIN;
    session_run(c, s);
}

/* ---- the rest */

/* Each may end and begin others: from the start again after one ended. */
void sessions_down(struct copies *c, struct cpeer *p)
{
    for (struct dlist *it = c->sessions.next; it != &c->sessions;) {
        struct session *s = dlist_of(it, struct session, link);
        it = it->next;
        if (s->peer == p) {
            session_over(c, s, -SATCHEL_ENOENT);
            it = c->sessions.next;
        }
    }
}

void sessions_map(struct copies *c, const uint32_t *remap)
{
    for (struct dlist *it = c->sessions.next; it != &c->sessions;) {
        struct session *s = dlist_of(it, struct session, link);
        it = it->next;
        s->shard = s->shard == UINT32_MAX ? UINT32_MAX : remap[s->shard];
        if (s->shard == UINT32_MAX) {
            session_over(c, s, -SATCHEL_ENOENT);
            it = c->sessions.next;
        }
    }
}

void sessions_tick(struct copies *c, uint64_t now)
{
    struct dlist *it, *tmp;
    dlist_each(it, tmp, &c->sessions)
    {
        struct session *s = dlist_of(it, struct session, link);
        bool waits = s->state < S_WALK || s->state == S_IDS;
        if (waits && now - s->asked_us > ANSWER_WAIT_US)
            session_over(c, s, -SATCHEL_EAGAIN);
        else
            session_run(c, s);
    }
    dlist_each(it, tmp, &c->sessions)
    {
        enum session_state state = dlist_of(it, struct session, link)->state;
        copies_wake(c, state == S_WALK || state == S_JOIN ? now + 500 : now + 20000);
    }
}

void sessions_close(struct copies *c)
{
    while (!dlist_empty(&c->sessions))
        session_free(c, dlist_of(c->sessions.next, struct session, link));
}
