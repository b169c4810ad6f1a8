/* reclaim.c - which segments go, in which order, and why no crash loses or revives anything.
 *
 * What must hold at any moment: a full scan of whatever segments are in the log gives the same live messages with the
 * same states as the index; and so does the durable prefix of the index with a replay of what follows it.
 *
 * What a record is needed for:
 *   MSG, CHUNK  while it is the place of a live message (or chunk of one)
 *   DONE        while a segment is in use in which a record of its message lies or may lie (its RT_KILLS).  A segment
 *               that is being freed is in use until the log says that it is gone.  And while it is the place of a
 *               tombstone, which outlives every copy that came too late for the RT_KILLS (tomb.h).
 *   ABORT       likewise
 *   DEFER       while it is the record of the latest state of a live message
 *   others      always; a DSN link while its message is live
 * A segment without any such record is freed without being read: the counters of segs.h say so.
 *
 * Why order matters, and what keeps it:
 * 1. A DONE comes after every copy that it kills: a message is moved under a claim, and a DONE is written under a
 * claim, so a DONE never comes between a copy and its move; and DONEs only move towards the tail.  So a scan that sees
 * both sees the copy first.  A partial DONE before a moved copy does not matter: the copy carries the whole state.
 * 2. A moved copy and the old one lie in the log together until the old segment is gone, which may be never if we
 * crash. The copy's RT_KILLS (and the entry's `olds`) name the segments of all older copies still in use, and the DONE
 *    written later kills them with the new one.  So the DONE outlives every copy.
 * 3. With both copies present a scan takes the later one for the place and the state: its snapshot was taken under the
 *    claim, so it is at least as new as any DEFER or partial DONE before it.  Results already final are merged, never
 *    taken back.  DEFERs are ordered by seq: an older one that compaction moved behind a newer one is ignored.
 * 4. Moved copies are durable and applied before their segment is freed (victim_done).  A crash before that leaves the
 *    old copies, which are still good: see 2 and 3.
 * 5. The index on disk lags behind the log.  If a segment went whose DONEs the durable index does not know, a replay
 *    would leave their messages alive.  So a segment is freed only when the durable position of the index is past its
 *    end.  Everything that kills or replaces what lies in it comes later, is in the log still, and is replayed (or
 *    covered by the durable index, by the same rule).
 * 6. A segment is looked at only when records of a later one have been applied, so all of it has been applied.
 * 7. That a tombstone was given up is known to the index alone.  Lost in a crash after its segment went, it is found
 *    at recovery: the segment is not in the log.  (Given up, it stood for nothing any more.)
 * 8. Copies of other storages come and go (queue_forget): an ABORT forgets what lies before it, and when compaction
 *    takes it towards the tail it keeps that place as RT_UPTO.  It does not move while its message is stored again:
 *    its segment waits until those are gone that the ABORT kills.
 * 9. A free that was asked for and not confirmed changes nothing here.  After a crash the log says which segments are
 *    left.
 *
 * Why it ends: a victim gives back more than it costs (compact_live_pct of its own length; under pressure 85), and what
 * was moved lies dense in its new segment, which is no victim until more of it dies.  Segments that are mostly empty
 * because a restart ended them early are merged when there are a few of them; one that consists of moved records is not
 * merged again. */
#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/queue/queue_impl.h"

enum {
    PRESSURE_PCT = 85,
    SHORTS_MIN = 4,          /* so many short segments are left alone but for one */
    SHORTS_MIN_PRESSURE = 2, /* under pressure */
};

static bool seg_applied(const struct queue *q, uint64_t seg)
{
    return seg < logpos_seg(q->end);
}

static bool seg_idle(const struct queue *q, const struct seg *s)
{
    return !s->freeing && !s->stuck && !(q->victim && victim_seg(q->victim) == s->seg);
}

/* ---- freeing */

/* true: the index has become durable further than before, at once. */
static bool flush_for_free(struct queue *q)
{
    uint64_t before = q->ix->ops->durable(q->ix);
    if (before < q->flush_asked)
        return false;
    if (store_settle(&q->store) || queue_flush_start(q))
        return false;
    q->flush_asked = q->ix->ops->applied(q->ix);
    return q->ix->ops->durable(q->ix) > before;
}

static bool free_dead(struct queue *q, const uint64_t *segs, size_t n)
{
    bool flush = false, freed = false;
    uint64_t durable = q->ix->ops->durable(q->ix);
    for (size_t i = 0; i < n; i++) {
        if (!seg_applied(q, segs[i]))
            continue;
        struct seg *s = segs_need(&q->segs, segs[i]);
        if (!seg_idle(q, s) || !seg_is_dead(&q->segs, s))
            continue;
        if (durable < logpos(s->seg, s->end)) {
            flush = true;
            continue;
        }
        s->freeing = freed = true;
        q->port.free_segment(q->port.ctx, segs[i]);
    }
    return (flush && flush_for_free(q)) || freed;
}

void queue_freed(struct queue *q, uint64_t seg, int res)
{
    struct seg *s = segs_find(&q->segs, seg);
    if (!s || !s->freeing)
        return;
    s->freeing = false;
    /* not there: it was freed before, and the list of segments that brought it back was older than that */
    if (res == 0 || res == -SATCHEL_ENOENT) {
        struct key k = key_seg(seg);
        store_del(&q->store, &k);
        segs_drop(&q->segs, seg);
        q->reclaimed++;
    } else if (res != -SATCHEL_EBUSY) {
        s->stuck = true;
        log_error("queue.free_failed", "segment=%llu error=\"%s\"", (unsigned long long)seg, satchel_strerror(res));
    }
}

/* ---- compacting */

struct choice {
    struct seg *seg;
    uint64_t keep_bytes, limit_bytes;
};

static void choose(struct choice *c, struct seg *s, uint64_t keep_bytes, uint64_t limit_bytes)
{
    if (c->seg && c->keep_bytes <= keep_bytes)
        return;
    *c = (struct choice){s, keep_bytes, limit_bytes};
}

static bool worth_trying(const struct seg *s, uint64_t keep_bytes)
{
    return s->tried_bytes == 0 || keep_bytes * 4 < s->tried_bytes * 3;
}

static uint64_t longest(const struct queue *q)
{
    uint64_t most = 0;
    for (size_t i = 0; i < q->segs.n; i++)
        most = q->segs.items[i]->end > most ? q->segs.items[i]->end : most;
    return most;
}

static bool is_short(const struct seg *s, uint64_t keep_bytes, uint64_t whole_bytes)
{
    return keep_bytes * 2 <= whole_bytes && s->moved_bytes * 2 <= s->end;
}

/* The emptiest that gains by itself; else the emptiest of several short ones. */
static struct choice victim_choose(struct queue *q, const uint64_t *segs, size_t n, bool pressure)
{
    uint64_t pct = pressure ? PRESSURE_PCT : q->cfg.compact_live_pct, whole = longest(q);
    uint64_t now = clock_boot_us(q->clock);
    struct choice sparse = {0}, shortest = {0};
    size_t shorts = 0;
    for (size_t i = 0; i < n; i++) {
        struct seg *s = segs_find(&q->segs, segs[i]);
        if (!s || !seg_applied(q, segs[i]) || !seg_idle(q, s) || seg_is_dead(&q->segs, s))
            continue;
        if (!pressure && s->dying_us && now < s->dying_us + q->cfg.settle_us)
            continue; /* a drain will soon have emptied it for nothing */
        uint64_t keep = seg_keep_bytes(&q->segs, s);
        if (!worth_trying(s, keep))
            continue;
        if (keep * 100 <= pct * s->end)
            choose(&sparse, s, keep, pct * s->end / 100);
        if (is_short(s, keep, whole)) {
            choose(&shortest, s, keep, whole / 2);
            shorts++;
        }
    }
    if (!sparse.seg && shorts >= (pressure ? SHORTS_MIN_PRESSURE : SHORTS_MIN))
        return shortest;
    return sparse;
}

static bool victim_begin(struct queue *q, const uint64_t *segs, size_t n, bool pressure)
{
    struct choice c = victim_choose(q, segs, n, pressure);
    if (!c.seg)
        return false;
    int res = victim_open(q, c.seg, c.limit_bytes);
    if (res == -SATCHEL_EAGAIN) {
        c.seg->tried_bytes = c.keep_bytes + 1;
        return true;
    }
    if (res) {
        c.seg->stuck = true;
        log_error("queue.compact_failed", "segment=%llu error=\"%s\"", (unsigned long long)c.seg->seg,
                  satchel_strerror(res));
        return false;
    }
    victim_step(q);
    return true;
}

/* What the scan kept is durable elsewhere; if the counters know of more, the segment could not be read as a whole and
 * stays. */
static void victim_end(struct queue *q)
{
    struct seg *s = segs_find(&q->segs, victim_seg(q->victim));
    int res = victim_error(q->victim);
    if (res == 0 && (s->msgs || s->chunks || s->defers || s->tombs))
        res = -SATCHEL_EDAMAGED;
    victim_free(q);
    s->emptied = res == 0;
    s->stuck = res != 0 && res != -SATCHEL_EAGAIN;
    if (res == -SATCHEL_EAGAIN)
        s->tried_bytes = seg_keep_bytes(&q->segs, s) + 1;
    if (s->stuck)
        log_error("queue.compact_failed", "segment=%llu messages=%u chunks=%u defers=%u tombs=%u error=\"%s\"",
                  (unsigned long long)s->seg, s->msgs, s->chunks, s->defers, s->tombs, satchel_strerror(res));
}

static bool victim_advance(struct queue *q)
{
    if (!victim_error(q->victim))
        victim_step(q);
    if (!victim_done(q->victim) && !(victim_error(q->victim) && victim_idle(q->victim)))
        return false;
    victim_end(q);
    return true;
}

bool queue_reclaim(struct queue *q, const uint64_t *segs, size_t n, bool pressure)
{
    if (q->replaying || q->store.err)
        return false;
    bool more = q->victim && victim_advance(q);
    more = tombs_expire(q) || more;
    more = free_dead(q, segs, n) || more;
    if (!q->victim)
        more = victim_begin(q, segs, n, pressure) || more;
    return more && !q->store.err;
}
