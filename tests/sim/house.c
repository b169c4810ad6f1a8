/* house.c - log, index and queue joined in one thread. */
#include "tests/sim/house.h"

#include <assert.h>
#include <stdlib.h>

#include "spool/base/err.h"
#include "tests/sim/trace.h"
#include "tests/sim/twin.h"

struct house_job {
    struct house *h;
    struct house_job *next;
    struct seglog_entry *entry;
    seglog_done *done; /* the entry's own */
    void *arg;
    int res;
};

static void jobs_push(struct house_jobs *l, struct house_job *j)
{
    j->next = NULL;
    if (l->tail)
        l->tail->next = j;
    else
        l->head = j;
    l->tail = j;
}

static struct house_job *jobs_pop(struct house_jobs *l)
{
    struct house_job *j = l->head;
    if (!j)
        return NULL;
    l->head = j->next;
    if (!l->head)
        l->tail = NULL;
    return j;
}

static struct sim_msg *job_msg(const struct house_job *j)
{
    return j->h->ledger ? ledger_find(j->h->ledger, &j->entry->rec.id) : NULL;
}

/* ---- into the log */

/* Invariant 2: whatever the log calls durable is readable on the platter at that moment. */
static void check_platter(struct house *h, const struct seglog_entry *e)
{
    struct segread *r = NULL;
    struct record rec;
    int res = segread_open(&r, simdisk_platter(h->sd));
    if (res == 0)
        res = segread_record(r, e->pos, e->size, &rec);
    if (res != 0)
        history_fail("a record of type %u was called durable at %llx and is not on the platter: %d", e->rec.type,
                     (unsigned long long)e->pos, res);
    else if (!msgid_eq(&rec.id, &e->rec.id) || rec.type != e->rec.type || rec.body_sum != e->rec.body_sum)
        history_fail("another record than the one called durable lies at %llx", (unsigned long long)e->pos);
    segread_close(&r);
}

/* The log reports in the order of appending: the first job taken is the first to be reported. */
static void entry_done(struct seglog_entry *e, int res)
{
    struct house_job *j = e->arg;
    struct house *h = j->h;
    struct house_job *first = jobs_pop(&h->taken);
    if (first != j)
        history_fail("records are reported out of order");
    j->res = res;
    jobs_push(&h->settled, j);
    trace("%s type %u msg %d at %llx: %d", simdisk_dead(h->sd) ? "late" : "done", e->rec.type,
          job_msg(j) ? (int)job_msg(j)->number : -1, (unsigned long long)e->pos, res);
    if (res != 0)
        return;
    if (simdisk_dead(h->sd))
        history_fail("a dead machine reported success");
    check_platter(h, e);
    if (h->ledger)
        ledger_durable(h->ledger, &e->rec);
    if (e->rec.type == REC_MSG && job_msg(j)) /* the moment of the 250 */
        job_msg(j)->acked = true;
}

static int job_take(struct house *h, struct house_job *j)
{
    jobs_push(&h->taken, j);
    int res = seglog_append(h->log, j->entry);
    if (res == 0)
        return 0;
    /* Not taken: it is the last in the list. */
    struct house_jobs rest = {0};
    for (struct house_job *k; (k = jobs_pop(&h->taken));)
        if (k != j)
            jobs_push(&rest, k);
    h->taken = rest;
    return res;
}

static void job_restore(struct house_job *j)
{
    j->entry->done = j->done;
    j->entry->arg = j->arg;
}

int house_append(struct house *h, struct seglog_entry *e)
{
    if (!h->log)
        return -SATCHEL_ESHUT; /* the end of a hold may ask for more while all is given back */
    struct house_job *j = calloc(1, sizeof *j);
    assert(j);
    *j = (struct house_job){.h = h, .entry = e, .done = e->done, .arg = e->arg};
    e->done = entry_done;
    e->arg = j;
    int res = h->waiting.head ? -SATCHEL_EAGAIN : job_take(h, j);
    if (res == -SATCHEL_EAGAIN) {
        jobs_push(&h->waiting, j);
        return 0;
    }
    if (res != 0) {
        job_restore(j);
        free(j);
    }
    return res;
}

static void pump(struct house *h)
{
    while (h->waiting.head) {
        struct house_job *j = jobs_pop(&h->waiting);
        int res = job_take(h, j);
        if (res == -SATCHEL_EAGAIN) {
            j->next = h->waiting.head;
            h->waiting.head = j;
            h->waiting.tail = h->waiting.tail ? h->waiting.tail : j;
            return;
        }
        if (res != 0) {
            j->res = res;
            jobs_push(&h->settled, j);
        }
    }
}

/* ---- out of the log, into the queue */

/* Compaction holds a message while it writes it again; not so while it moves its DONE or DEFER. */
static bool is_move(const struct record *rec)
{
    return (rec->flags & REC_F_MOVED) && (rec->type == REC_MSG || rec->type == REC_CHUNK);
}

static void note_applied(struct house_job *j)
{
    struct sim_msg *m = job_msg(j);
    const struct record *rec = &j->entry->rec;
    if (!m)
        return;
    if (is_move(rec) && m->moving > 0)
        m->moving--;
    if (rec->type == REC_MSG && j->res == 0)
        m->applied = true;
    if ((rec->type != REC_DONE && rec->type != REC_DEFER) || (rec->flags & REC_F_MOVED) || m->ending == 0)
        return;
    if (j->res == 0 && rec->type == REC_DEFER) {
        m->due_us = m->next_due_us;
        m->held = m->next_held;
    }
    m->applied = false;
    for (uint32_t i = 0; i < m->items_n; i++)
        m->applied = m->applied || m->items[i].final == ITEM_LIVE;
    if (--m->ending == 0)
        m->claimed = false;
}

/* The entry's owner may free it, and itself, in its done. */
static void job_finish(struct house_job *j)
{
    struct seglog_entry *e = j->entry;
    int res = j->res;
    note_applied(j);
    job_restore(j);
    free(j);
    e->done(e, res);
}

static void apply(struct house *h, uint32_t max)
{
    uint64_t pos = 0;
    for (; max > 0 && h->settled.head; max--) {
        struct house_job *j = jobs_pop(&h->settled);
        const struct seglog_entry *e = j->entry;
        int res = j->res == 0 ? queue_apply(h->q, &e->rec, e->pos, e->size) : 0;
        if (res != 0)
            history_fail("queue_apply of type %u: %d", e->rec.type, res);
        if (j->res == 0)
            pos = e->pos + e->size;
        job_finish(j);
    }
    if (pos != 0 && queue_commit(h->q, pos) != 0)
        history_fail("queue_commit failed");
}

static void free_segments(struct house *h)
{
    uint32_t n = h->frees_n;
    for (uint32_t i = 0; i < n; i++) {
        int res = seglog_free_segment(h->log, h->frees[i]);
        trace("free segment %llu: %d", (unsigned long long)h->frees[i], res);
        queue_freed(h->q, h->frees[i], res);
    }
    memmove(h->frees, h->frees + n, (h->frees_n - n) * sizeof h->frees[0]);
    h->frees_n -= n;
}

static uint64_t wait_allowed(struct house *h, uint64_t wait_us)
{
    uint64_t next = seglog_next_us(h->log), now = clock_boot_us(simdisk_clock(h->sd));
    if (next <= now)
        return 0;
    return next - now < wait_us ? next - now : wait_us;
}

void house_turn(struct house *h, uint64_t wait_us)
{
    struct disk *d = simdisk_disk(h->sd);
    pump(h);
    seglog_turn(h->log);
    d->ops->poll(d, wait_allowed(h, wait_us));
    bool lag = rng_below(h->rng, 100) < h->lag_percent;
    apply(h, lag ? (uint32_t)rng_below(h->rng, 3) : UINT32_MAX);
    free_segments(h);
    pump(h);
}

static bool busy(const struct house *h)
{
    return h->waiting.head || h->taken.head || h->settled.head || h->frees_n > 0;
}

bool house_idle(const struct house *h)
{
    return !busy(h);
}

void house_settle(struct house *h)
{
    for (int i = 0; i < 3000; i++) {
        if (simdisk_dead(h->sd) || history.failed || !busy(h))
            return;
        house_turn(h, 10000);
    }
    history_fail("the house does not settle: %s%s%s", h->waiting.head ? "waiting " : "", h->taken.head ? "taken " : "",
                 h->settled.head ? "settled" : "");
}

/* The list of segments may be older than the last free, as it is between two threads. */
bool house_reclaim(struct house *h, bool pressure)
{
    if (rng_below(h->rng, 100) >= h->lag_percent)
        h->segs_n = seglog_segments(h->log, h->segs, HOUSE_SEGS_MAX);
    return queue_reclaim(h->q, h->segs, h->segs_n, pressure);
}

bool house_fenced(const struct house *h)
{
    struct seglog_info info;
    seglog_info(h->log, &info);
    return info.fenced;
}

/* ---- the queue's port */

static int port_append(void *ctx, struct seglog_entry *e)
{
    struct house *h = ctx;
    struct sim_msg *m = h->ledger ? ledger_find(h->ledger, &e->rec.id) : NULL;
    bool ends = !(e->rec.flags & REC_F_MOVED) && (e->rec.type == REC_DONE || e->rec.type == REC_DEFER);
    int res = house_append(h, e);
    trace("queue appends type %u flags %x msg %d: %d", e->rec.type, e->rec.flags, m ? (int)m->number : -1, res);
    if (res != 0 || !m)
        return res;
    m->moving += is_move(&e->rec);
    m->ending += ends;
    return 0;
}

static void port_free(void *ctx, uint64_t seg)
{
    struct house *h = ctx;
    assert(h->frees_n < 256);
    h->frees[h->frees_n++] = seg;
}

static void port_ready(void *ctx, struct slice domain)
{
    const struct house *h = ctx;
    trace("ready %.*s", SLICE_FMT(domain));
    if (h->ready)
        h->ready(h->arg, domain);
}

static void port_changed(void *ctx, const struct storage_state *st)
{
    const struct house *h = ctx;
    if (h->changed)
        h->changed(h->arg, st);
}

/* ---- a life */

static int replay_record(void *arg, const struct record *rec, uint64_t pos, uint32_t size)
{
    struct house *h = arg;
    trace("replay type %u flags %x counter %llu at %llx", rec->type, rec->flags, (unsigned long long)rec->id.counter,
          (unsigned long long)pos);
    int res = queue_apply(h->q, rec, pos, size);
    return res ? res : queue_commit(h->q, pos + size);
}

static void replay_damaged(void *arg, uint64_t pos, uint64_t bytes)
{
    struct house *h = arg;
    trace("damaged at %llx, %llu bytes", (unsigned long long)pos, (unsigned long long)bytes);
    h->damaged_n++;
}

static int recover(struct house *h)
{
    struct seglog_replay replay = {replay_record, replay_damaged, h};
    struct queue_port port = {port_append, port_free, port_ready, h, port_changed};
    struct disk *d = simdisk_disk(h->sd);
    const struct clock *clock = simdisk_clock(h->sd);
    h->damaged_n = 0;
    int res = segread_open(&h->queue_reader, d);
    res = res ? res : segread_open(&h->reader, d);
    res = res ? res : queue_open(&h->q, &h->queue_config, h->ix, h->clock ? h->clock : clock, h->queue_reader, &port);
    uint64_t from = res == 0 ? queue_applied(h->q) : 0;
    res = res ? res : seglog_open(&h->log, &h->log_config, d, clock, &replay, from, &h->open);
    trace("open from %llx: %d, next %llx, torn %llu, salvaged %llu, damaged %llu", (unsigned long long)from, res,
          (unsigned long long)h->open.next_pos, (unsigned long long)h->open.torn_bytes,
          (unsigned long long)h->open.salvaged_records, (unsigned long long)h->open.damaged_ranges);
    if (res != 0)
        return res;
    h->segs_n = seglog_segments(h->log, h->segs, HOUSE_SEGS_MAX);
    return queue_recovered(h->q, h->segs, h->segs_n);
}

int house_boot(struct house *h)
{
    if (h->ledger)
        ledger_life(h->ledger);
    int res = recover(h);
    if (simdisk_dead(h->sd))
        return -SATCHEL_EIO;
    if (res != 0)
        return res;
    twin_check(h);
    if (h->ledger)
        ledger_check(h->ledger, h->q);
    return 0;
}

/* What the queue holds in memory for records under way is released through their done, as after any failure. */
static void fail_jobs(struct house_jobs *l)
{
    for (struct house_job *j; (j = jobs_pop(l));) {
        j->res = -SATCHEL_ESHUT;
        job_finish(j);
    }
}

static void close_readers(struct house *h)
{
    segread_close(&h->queue_reader);
    segread_close(&h->reader);
}

void house_drop(struct house *h)
{
    if (!simdisk_dead(h->sd))
        simdisk_crash(h->sd, SIMDISK_POWER);
    struct disk *d = simdisk_disk(h->sd);
    d->ops->poll(d, 0);
    seglog_drop(&h->log);
    fail_jobs(&h->settled);
    fail_jobs(&h->taken);
    fail_jobs(&h->waiting);
    h->frees_n = 0;
    queue_close(&h->q);
    close_readers(h);
    index_ram_crash(h->ix, rng_below(h->rng, index_ram_unflushed(h->ix) + 1));
    simdisk_power_on(h->sd);
}

void house_abandon(struct house *h)
{
    if (h->q)
        house_drop(h);
}

void house_close(struct house *h, bool flush_index)
{
    house_settle(h);
    if (simdisk_dead(h->sd) || house_fenced(h)) {
        house_drop(h);
        return;
    }
    if (flush_index && h->ix->ops->flush(h->ix) != 0)
        history_fail("the index does not flush");
    seglog_close(&h->log);
    queue_close(&h->q);
    close_readers(h);
    if (!flush_index)
        index_ram_crash(h->ix, 0);
    simdisk_power_on(h->sd); /* it may have died in the last write of the close */
}

void house_lose_index(struct house *h)
{
    h->ix->ops->close(&h->ix);
    if (index_ram_open(&h->ix) != 0)
        history_fail("no index");
}

void house_init(struct house *h, struct ledger *g, struct simdisk *sd, struct rng *rng)
{
    *h = (struct house){.ledger = g, .sd = sd, .rng = rng};
    h->log_config = seglog_config_default;
    h->queue_config = queue_config_default;
    if (index_ram_open(&h->ix) != 0)
        history_fail("no index");
}

void house_destroy(struct house *h)
{
    h->ix->ops->close(&h->ix);
}
