/* walk.c - a bag that differs, from both sides in order: windows, then messages.
 *
 * Ours are read ahead in slices and summed up between the places where their windows end.  A window that differs is
 * joined with theirs: what only they have is wanted, or said where it is final here; what only we have, or with other
 * ends, is offered. */
#include "cluster/copies/session.h"

#include <assert.h>

/* ---- what is to be sent */

static void job_over(struct copies *c, uint64_t arg, int res)
{
    struct session *s = slots_get(&c->slots, arg);
    if (!s || s->kind != OBJ_SESSION)
        return;
    s->jobs--;
    if (res < 0 && (s->res == 0 || s->res == -SATCHEL_EDAMAGED))
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

void bag_begin(struct session *s)
{
    s->cursor_n = 0;
    s->own_cursor_n = 0;
    s->own_n = s->own_at = 0;
    s->own_end = false;
    s->windows_n = s->window_at = 0;
    s->windows_more = true;
    window_begin(s);
}

bool bag_next(struct copies *c, struct session *s)
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
    assert(m || t);
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

void session_run(struct copies *c, struct session *s)
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
