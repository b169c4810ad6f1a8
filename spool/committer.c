/* committer.c - the thread that owns the log: one group after the other, each synced before anybody hears of it. */
#include "spool/base/log.h"
#include "spool/spool_impl.h"

#include <stdlib.h>

enum {
    UNAPPLIED_MAX =
        200000,        /* appends the indexer has not applied yet; above it the log takes no more: bounded memory */
    QUIET_US = 250000, /* spare segments are written after so long without an append: never beside a load */
};

static void append_settle(struct spool_append *a, int res)
{
    a->res = res;
    if (a->settled)
        a->settled(a);
    mailbox_post(&a->spool->to_indexer, &a->mail);
}

static void append_done(struct seglog_entry *e, int res)
{
    append_settle(e->arg, res);
}

/* 0: taken or settled; -SATCHEL_EAGAIN: again after a group is done. */
static int committer_take(struct spool *s, struct spool_append *a)
{
    if (a->kind == APPEND_FREE) {
        append_settle(a, seglog_free_segment(s->log, a->seg));
        return 0;
    }
    struct seglog_entry *e = append_entry(a);
    if (e->done != append_done) {
        a->q_done = e->done;
        a->q_arg = e->arg;
        e->done = append_done;
        e->arg = a;
    }
    if (e->rec.type == REC_MSG && e->rec.arrival_us == 0)
        e->rec.arrival_us = spool_stamp_us(s); /* the order in which they reach the log */
    int rc = seglog_append(s->log, e);
    if (rc < 0 && rc != -SATCHEL_EAGAIN)
        append_settle(a, rc);
    return rc == -SATCHEL_EAGAIN ? rc : 0;
}

void committer_publish_segments(struct spool *s)
{
    struct seglog_info info;
    seglog_info(s->log, &info);
    size_t n = seglog_segments(s->log, NULL, 0);
    uint64_t *segs = malloc((n + 1) * sizeof *segs);
    if (!segs)
        return;
    n = seglog_segments(s->log, segs, n);
    pthread_mutex_lock(&s->segs_lock);
    uint64_t *old = s->segs;
    s->segs = segs;
    s->segs_n = n;
    s->pressure = info.room_bytes < 4ull * s->cfg.log.segment_bytes;
    pthread_mutex_unlock(&s->segs_lock);
    free(old);
    atomic_store(&s->reclaim_wanted, true);
}

/* The appends that wait for room in the log; in order. */
struct backlog {
    struct mail *head, **tail;
};

static void backlog_add(struct backlog *b, struct mail *m)
{
    if (!m)
        return;
    *b->tail = m;
    while (m->next)
        m = m->next;
    b->tail = &m->next;
}

static void backlog_feed(struct spool *s, struct backlog *b)
{
    while (b->head && atomic_load_explicit(&s->unapplied, memory_order_relaxed) < UNAPPLIED_MAX) {
        struct mail *m = b->head, *next = m->next;
        if (committer_take(s, (struct spool_append *)m) < 0)
            break;
        b->head = next;
    }
    if (!b->head)
        b->tail = &b->head;
}

static uint64_t committer_wait_us(struct spool *s, const struct backlog *b)
{
    uint64_t next = seglog_next_us(s->log), now = clock_boot_us(s->clock);
    uint64_t wait = next == UINT64_MAX ? 1000000 : next > now ? next - now : 0;
    if (b->head && wait > 1000)
        wait = 1000; /* the indexer is behind: look again soon */
    return wait;
}

static bool committer_finished(struct spool *s, const struct backlog *b)
{
    return atomic_load(&s->stop_committer) && !b->head && mailbox_empty(&s->to_committer) && seglog_idle(s->log);
}

void committer_add_bell(struct spool *s, struct door_bell *b)
{
    pthread_mutex_lock(&s->doors_lock);
    b->next = s->bells;
    s->bells = b;
    pthread_mutex_unlock(&s->doors_lock);
}

void committer_forget_bell(struct spool *s, struct door_bell *b)
{
    pthread_mutex_lock(&s->doors_lock);
    struct door_bell **p = &s->bells;
    while (*p != b)
        p = &(*p)->next;
    *p = b->next;
    pthread_mutex_unlock(&s->doors_lock);
}

void committer_ring_soon(struct spool *s)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (!atomic_load_explicit(&s->wakes_soon, memory_order_relaxed))
        bell_ring(&s->to_committer.bell);
}

/* Once a batch, so that a door wakes to a whole group and not to its first message. */
static void ring_doors(struct spool *s)
{
    pthread_mutex_lock(&s->doors_lock);
    for (struct door_bell *b = s->bells; b; b = b->next) {
        if (b->committer)
            bell_ring(b->bell);
        b->committer = false;
    }
    pthread_mutex_unlock(&s->doors_lock);
    bell_ring(&s->to_indexer.bell);
}

void *committer_main(void *arg)
{
    struct spool *s = arg;
    struct backlog backlog = {.tail = &backlog.head};
    uint64_t active = 0, busy_us = 0;
    uint32_t used = 0;
    while (!committer_finished(s, &backlog)) {
        backlog_add(&backlog, mailbox_take(&s->to_committer));
        if (backlog.head)
            busy_us = clock_boot_us(s->clock);
        backlog_feed(s, &backlog);
        seglog_turn(s->log);

        struct seglog_info info;
        seglog_info(s->log, &info);
        if (info.active_seg != active || info.used_segments != used) {
            active = info.active_seg;
            used = info.used_segments;
            committer_publish_segments(s);
        }
        ring_doors(s);

        bell_arm(&s->to_committer.bell);
        uint64_t wait = mailbox_empty(&s->to_committer) ? committer_wait_us(s, &backlog) : 0;
        atomic_store(&s->wakes_soon,
                     seglog_writing(s->log) || (wait <= s->cfg.log.lazy_us && seglog_next_us(s->log) != UINT64_MAX));
        if (wait > 0 && seglog_idle(s->log) && clock_boot_us(s->clock) - busy_us > QUIET_US && seglog_refill(s->log))
            wait = 0;
        s->disk->ops->poll(s->disk, wait);
        atomic_store(&s->wakes_soon, false);
        bell_disarm(&s->to_committer.bell);
        ring_doors(s);
    }
    return NULL;
}
