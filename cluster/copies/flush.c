/* flush.c - "everything that became of the shard's messages here is known to `to`": before a hand-over, and before we
 * leave a shard.
 *
 *   START   where something may be owed to it that is not on its way (a link was lost, it is new to the shard): WALK
 *   WALK    the walk over what is owed that tells it ends: one that begins after now, or the one under way
 *   ACKS    all that was on its way at that time is acked; if it left something out: from the start, until the deadline
 *           For a hand-over it is enough that `to` has taken it: it delivers nothing of that, and if it dies before all
 *           is durable there, we still owe it, and whoever is the owner then asks us.  What it left out may be the end
 *           of some recipients, which is owed by nobody: then it is to be in sync again first, by comparison
 * A message whose end waits for its DSN (shed.c) keeps its shard in START.
 *
 * Ends for `to` do not wait for company meanwhile, and for HURRY_US more: a hand-over flushes once before it interrupts
 * the relay and once after. */
#include "cluster/copies/copies_impl.h"

enum { HURRY_US = 1000000 };

struct flush_job {
    struct dlist link;
    uint32_t shard, epoch;
    struct storage_id to;
    enum { FLUSH_START, FLUSH_WALK, FLUSH_ACKS } state;
    bool walk;
    uint64_t walk_n, until, lacking, deadline_us;
    void (*done)(void *arg, uint32_t shard, int res);
    void *arg;
};

static void flush_end(struct copies *c, struct flush_job *j, int res)
{
    struct dlist *it, *tmp;
    struct cpeer *p = peer_find(c, &j->to);
    dlist_del(&j->link);
    bool more = false;
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): who ended before was taken off the list */
    dlist_each(it, tmp, &c->flushes) more |= storage_id_eq(&dlist_of(it, struct flush_job, link)->to, &j->to);
    if (p && !more)
        p->hurry_until_us = copies_now(c) + HURRY_US;
    if (j->done)
        j->done(j->arg, j->shard, res);
    free(j);
}

static bool begin(struct copies *c, struct flush_job *j, struct cpeer *p)
{
    const struct msync *m = sync_of(c, j->shard, &j->to);
    if (shed_holds_shard(c, j->shard))
        return false;
    j->epoch = p->epoch;
    j->lacking = p->lacking;
    j->until = p->ends_queued;
    j->state = FLUSH_ACKS;
    bool ahead = j->walk || p->again || !m || (m->fresh && !m->telling);
    if (!ahead && !m->fresh && !(p->walking && p->walk_needed))
        return true;
    j->walk_n = p->walks_begun + ahead;
    j->state = FLUSH_WALK;
    if (ahead)
        ends_again(c, p);
    return true;
}

static bool walked(struct copies *c, struct flush_job *j, struct cpeer *p)
{
    if (p->walks_done < j->walk_n) {
        if (p->walks_begun < j->walk_n && !p->again)
            ends_again(c, p); /* the one before it was under way */
        return false;
    }
    j->until = p->ends_queued;
    j->state = FLUSH_ACKS;
    return true;
}

/* Returns true while it can go on at once. */
static bool flush_step(struct copies *c, struct flush_job *j, struct cpeer *p)
{
    if (j->state != FLUSH_START && (j->epoch != p->epoch || j->lacking != p->lacking))
        j->state = FLUSH_START;
    if (j->state == FLUSH_START)
        return begin(c, j, p);
    if (j->state == FLUSH_WALK)
        return walked(c, j, p);
    const struct msync *m = j->walk ? NULL : sync_of(c, j->shard, &j->to);
    if ((j->walk ? ends_acked(p) : ends_taken(p)) >= j->until && (!m || m->synced))
        flush_end(c, j, 0);
    return false;
}

void flush_start(struct copies *c, uint32_t shard, const struct storage_id *to, bool walk, uint64_t wait_us,
                 void (*done)(void *arg, uint32_t shard, int res), void *arg)
{
    struct flush_job *j = calloc(1, sizeof *j);
    struct cpeer *p = peer_find(c, to);
    if (!j)
        abort(); /* a few words: there is nothing to say this with */
    *j = (struct flush_job){.shard = shard, .to = *to, .walk = walk, .done = done, .arg = arg};
    j->deadline_us = copies_now(c) + wait_us;
    dlist_add(&c->flushes, &j->link);
    if (p && p->hurry_until_us < j->deadline_us)
        p->hurry_until_us = j->deadline_us;
    copies_wake(c, 0);
}

void copies_flush(struct copies *c, uint32_t shard, const struct storage_id *to, uint64_t wait_us,
                  void (*done)(void *arg, uint32_t shard, int res), void *arg)
{
    flush_start(c, shard, to, false, wait_us, done, arg);
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
        copies_wake(c, now + 5000);
}

void flush_map(struct copies *c, const uint32_t *remap)
{
    struct dlist *it, *tmp;
    dlist_each(it, tmp, &c->flushes)
    {
        struct flush_job *j = dlist_of(it, struct flush_job, link);
        j->shard = j->shard < UINT32_MAX ? remap[j->shard] : UINT32_MAX;
        j->state = FLUSH_START;
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
