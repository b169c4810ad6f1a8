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
#include "cluster/copies/session.h"

enum { ANSWER_WAIT_US = 10000000 };

/* ---- life */

void diffs_free(struct session *s)
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

void session_over(struct copies *c, struct session *s, int res)
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

bool ask_bags(struct copies *c, struct session *s)
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

bool ask_windows(struct copies *c, struct session *s)
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

bool ask_ids(struct copies *c, struct session *s)
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
