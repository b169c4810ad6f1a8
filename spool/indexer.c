/* indexer.c - the thread that applies durable records to the queue, in log order, and reclaims what is dead. */
#include "spool/base/log.h"
#include "spool/spool_impl.h"

#include <poll.h>
#include <stdlib.h>
#include <time.h>

enum {
    APPLY_BATCH = 256, /* records applied under one hold of the queue's lock */
    RECLAIM_EVERY_MS = 200,
    GATHER_US = 2000, /* pauses before sleeping, so that one commit of the index serves several groups of the log: */
    GATHERS_MAX = 4,  /* so many at most, */
    GATHERED = 64,    /* or until so many wait */
};

/* The index does not follow the log any more.  What is accepted stays safe in the log and is found at the next start;
 * but no more is taken, since nobody could see or relay it. */
static void apply_failed(struct spool *s, int rc)
{
    if (rc == 0 || atomic_exchange(&s->broken, true))
        return;
    log_error("spool.index_failed", "dir=%s error=\"%s\" remedy=\"free disk space or replace the disk, then restart\"",
              s->dir, satchel_strerror(rc));
}

static void apply_one(struct spool *s, struct spool_append *a)
{
    if (a->kind == APPEND_FREE) {
        queue_freed(s->queue, a->seg, a->res);
        return;
    }
    struct seglog_entry *e = append_entry(a);
    if (a->res == 0)
        apply_failed(s, queue_apply(s->queue, &e->rec, e->pos, e->size));
    if (a->applied)
        a->applied(a);
    if (a->kind == APPEND_QUEUE) {
        e->done = a->q_done;
        e->arg = a->q_arg;
        e->done(e, a->res);
    }
}

static struct mail *apply_batch(struct spool *s, struct mail *m)
{
    uint64_t upto = 0;
    int n = 0;
    struct mail *first = m;
    spool_lock(s);
    for (; m && n < APPLY_BATCH; n++, m = m->next) {
        struct spool_append *a = (struct spool_append *)m;
        uint64_t end = a->kind != APPEND_FREE && a->res == 0 ? append_entry(a)->pos + append_entry(a)->size : 0;
        apply_one(s, a);
        if (end > upto)
            upto = end;
    }
    if (upto)
        apply_failed(s, queue_commit(s->queue, upto));
    if (s->copies)
        storage_committed(s->copies);
    spool_unlock(s);
    while (first != m) {
        struct mail *next = first->next;
        append_free((struct spool_append *)first);
        first = next;
    }
    atomic_fetch_sub_explicit(&s->unapplied, (uint64_t)n, memory_order_relaxed);
    return m;
}

/* A copy of what the committer published; NULL where there is no memory, and reclaim waits. */
static uint64_t *copy_segments(struct spool *s, size_t *n_r, bool *pressure_r)
{
    pthread_mutex_lock(&s->segs_lock);
    uint64_t *segs = malloc((s->segs_n + 1) * sizeof *segs);
    if (segs && s->segs_n)
        memcpy(segs, s->segs, s->segs_n * sizeof *segs);
    *n_r = s->segs_n;
    *pressure_r = s->pressure;
    pthread_mutex_unlock(&s->segs_lock);
    return segs;
}

static bool reclaim_step(struct spool *s)
{
    size_t n;
    bool pressure;
    uint64_t *segs = copy_segments(s, &n, &pressure);
    if (!segs)
        return false;
    spool_lock(s);
    bool more = !atomic_load(&s->stop_committer) && queue_reclaim(s->queue, segs, n, pressure);
    spool_unlock(s);
    free(segs);
    bell_ring(&s->to_committer.bell);
    return more;
}

static void indexer_sleep(struct spool *s)
{
    for (int i = 0; i < GATHERS_MAX && atomic_load_explicit(&s->unapplied, memory_order_relaxed) < GATHERED; i++)
        nanosleep(&(struct timespec){.tv_nsec = GATHER_US * 1000}, NULL);
    bell_arm(&s->to_indexer.bell);
    if (mailbox_empty(&s->to_indexer) && !atomic_load(&s->stop_indexer)) {
        struct pollfd p = {s->to_indexer.bell.fd, POLLIN, 0};
        poll(&p, 1, RECLAIM_EVERY_MS);
    }
    bell_disarm(&s->to_indexer.bell);
}

void *indexer_main(void *arg)
{
    struct spool *s = arg;
    uint64_t reclaim_at = 0;
    for (;;) {
        struct mail *m = mailbox_take(&s->to_indexer);
        bool worked = m != NULL;
        while (m)
            m = apply_batch(s, m);
        if (atomic_load(&s->stop_indexer) && mailbox_empty(&s->to_indexer))
            return NULL;
        uint64_t now = clock_boot_us(s->clock);
        if (now >= reclaim_at || atomic_exchange(&s->reclaim_wanted, false)) {
            reclaim_at = reclaim_step(s) ? now : now + RECLAIM_EVERY_MS * 1000;
            worked = worked || reclaim_at == now;
        }
        if (!worked)
            indexer_sleep(s);
    }
}
