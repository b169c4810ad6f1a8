/* flush.c - "everything that became of the shard's messages here is known to `to`": before a hand-over, and when a new
 * member is to know the ends that others are still owed (it might otherwise take stale mail from one of them for new).
 *
 *   OWED   all that is owed to `to` itself is walked again; ends on their way to it are waited for
 *   OTHERS ends of the shard that are owed to anybody else are told to `to` as well, page by page
 *   ACKS   all of it is acked and nothing of the shard is owed to `to`: over; else from the start, until the deadline
 */
#include "cluster/copies/copies_impl.h"

struct flush_job {
    struct dlist link;
    uint32_t shard;
    struct storage_id to;
    enum { FLUSH_START, FLUSH_OWED, FLUSH_OTHERS, FLUSH_ACKS } state;
    uint32_t other; /* node of the map whose debts are walked */
    struct msgid after;
    uint64_t until, deadline_us;
    void (*done)(void *arg, uint32_t shard, int res);
    void *arg;
};

static void flush_end(struct copies *c, struct flush_job *j, int res)
{
    struct dlist *it, *tmp;
    struct cpeer *p = peer_find(c, &j->to);
    dlist_del(&j->link);
    bool more = false;
    dlist_each(it, tmp, &c->flushes) more |= storage_id_eq(&dlist_of(it, struct flush_job, link)->to, &j->to);
    if (p)
        p->hurry = more;
    if (j->done)
        j->done(j->arg, j->shard, res);
    free(j);
}

struct walk {
    struct copies *c;
    struct flush_job *j;
    struct cpeer *p;
    uint32_t n;
    bool full;
};

static bool others_each(void *arg, const struct storage_state *st)
{
    struct walk *w = arg;
    if (w->n == WIRE_STATES_MAX) {
        w->full = true;
        return false;
    }
    w->j->after = st->id;
    if (shard_of(w->c, st->domain) == w->j->shard && ends_queue(w->c, w->p, st))
        w->n++;
    return true;
}

/* true: all debts were walked. */
static bool others_walk(struct copies *c, struct flush_job *j, struct cpeer *p)
{
    const struct cmap *m = c->map;
    while (j->other < m->nodes_n) {
        const struct storage_id *who = &m->nodes[j->other].storage;
        struct walk w = {c, j, p, 0, false};
        if (!ends_quiet(p))
            return false;
        if (!storage_id_eq(who, &j->to) && !copies_is_self(c, who))
            c->env.storage->ops->owed(c->env.storage, who, j->after.counter ? &j->after : NULL, others_each, &w);
        if (!w.full) {
            j->other++;
            j->after = (struct msgid){.counter = 0};
        }
    }
    return true;
}

static bool owes_each(void *arg, const struct storage_state *st)
{
    struct walk *w = arg;
    w->full = shard_of(w->c, st->domain) == w->j->shard;
    return !w->full;
}

static bool owes(struct copies *c, struct flush_job *j)
{
    struct walk w = {.c = c, .j = j};
    c->env.storage->ops->owed(c->env.storage, &j->to, NULL, owes_each, &w);
    return w.full || shed_holds_shard(c, j->shard);
}

/* Returns true while it can go on at once. */
static bool flush_step(struct copies *c, struct flush_job *j, struct cpeer *p)
{
    switch (j->state) {
    case FLUSH_START:
        if (owes(c, j))
            ends_again(c, p);
        j->until = p->ends_queued;
        j->state = FLUSH_OWED;
        return false;
    case FLUSH_OWED:
        if (p->again || ends_acked(p) < j->until)
            return false;
        j->other = 0;
        j->after = (struct msgid){.counter = 0};
        j->state = FLUSH_OTHERS;
        return true;
    case FLUSH_OTHERS:
        if (!others_walk(c, j, p))
            return false;
        j->until = p->ends_queued;
        j->state = FLUSH_ACKS;
        return true;
    case FLUSH_ACKS:
        if (ends_acked(p) < j->until)
            return false;
        if (p->again || owes(c, j)) {
            j->state = FLUSH_START;
            return false;
        }
        flush_end(c, j, 0);
        return false;
    }
    return false;
}

void copies_flush(struct copies *c, uint32_t shard, const struct storage_id *to, uint64_t wait_us,
                  void (*done)(void *arg, uint32_t shard, int res), void *arg)
{
    struct flush_job *j = calloc(1, sizeof *j);
    struct cpeer *p = peer_find(c, to);
    if (!j)
        abort(); /* a few words: there is nothing to say this with */
    *j = (struct flush_job){.shard = shard, .to = *to, .done = done, .arg = arg};
    j->deadline_us = copies_now(c) + wait_us;
    dlist_add(&c->flushes, &j->link);
    if (p)
        p->hurry = true;
    copies_wake(c, 0);
}

void flush_tick(struct copies *c, uint64_t now)
{
    struct dlist *it, *tmp;
    dlist_each(it, tmp, &c->flushes)
    {
        struct flush_job *j = dlist_of(it, struct flush_job, link);
        struct cpeer *p = peer_find(c, &j->to);
        if (now >= j->deadline_us || j->shard >= c->shards_n) {
            flush_end(c, j, -SATCHEL_EAGAIN);
            continue;
        }
        while (p && p->up && flush_step(c, j, p))
            ;
    }
    if (!dlist_empty(&c->flushes))
        copies_wake(c, now + 20000);
}

void flush_map(struct copies *c, const uint32_t *remap)
{
    struct dlist *it, *tmp;
    dlist_each(it, tmp, &c->flushes)
    {
        struct flush_job *j = dlist_of(it, struct flush_job, link);
        j->shard = remap && j->shard != UINT32_MAX ? remap[j->shard] : UINT32_MAX;
        j->state = FLUSH_START; /* nodes came and went */
    }
}

void flush_cancel(struct copies *c, void (*done)(void *arg, uint32_t shard, int res))
{
    struct dlist *it, *tmp;
    dlist_each(it, tmp, &c->flushes)
    {
        struct flush_job *j = dlist_of(it, struct flush_job, link);
        if (j->done != done)
            continue;
        j->done = NULL;
        flush_end(c, j, 0);
    }
}

void flush_close(struct copies *c)
{
    struct dlist *it, *tmp;
    dlist_each(it, tmp, &c->flushes)
    {
        dlist_del(it);
        free(dlist_of(it, struct flush_job, link));
    }
}
