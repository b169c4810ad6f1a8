/* house.h - the spool in one thread: simulated disk, log, RAM index and queue, joined as spool.c joins them with
 * threads.
 *
 *   house_append -> seglog_append -> (durable) -> queue_apply, in log order -> queue_commit -> done
 *
 * An acknowledgement is given when the log says durable; applying lags behind by a seeded number of records.
 * house_boot checks invariants 1, 3 and 4 each time; each completion checks invariant 2 against the platter. */
#pragma once
#include "tests/sim/ledger.h"
#include "tests/sim/simdisk.h"

#define HOUSE_SEGS_MAX 256

struct house_job;
struct house_jobs {
    struct house_job *head, *tail;
};

struct house {
    struct ledger *ledger; /* NULL: somebody else judges (tests/csim) */
    struct simdisk *sd;
    struct rng *rng;
    struct seglog_config log_config;
    struct queue_config queue_config;
    uint32_t lag_percent; /* how often a turn leaves durable records unapplied */
    /* Of a storage with copies elsewhere; NULL: nobody asks. */
    const struct clock *clock; /* the queue's; NULL: the disk's */
    void (*ready)(void *arg, struct slice domain);
    void (*changed)(void *arg, const struct storage_state *st);
    void *arg;

    struct index *ix;
    struct seglog *log;
    struct queue *q;
    struct segread *queue_reader, *reader;
    struct house_jobs waiting, taken, settled; /* not yet in the log; in the log; durable or failed, not yet applied */
    uint64_t frees[256];
    uint32_t frees_n;
    uint64_t segs[HOUSE_SEGS_MAX]; /* the log's used segments, as reclaim last heard of them */
    size_t segs_n;
    uint32_t damaged_n;            /* damaged() calls of the last boot */
    struct seglog_open_stats open; /* of the last boot */
};

void house_init(struct house *h, struct ledger *g, struct simdisk *sd, struct rng *rng);
/* Recovers and checks.  0, or the error of a machine that died or failed under way: then house_drop and once more. */
int house_boot(struct house *h);
/* After a crash: forgets all memory.  The index keeps its flushed commits and some of the later ones. */
void house_drop(struct house *h);
/* An orderly end; flush_index: as spool_close does. */
void house_close(struct house *h, bool flush_index);
/* The index directory is gone; between two boots. */
void house_lose_index(struct house *h);
/* After a failed history, in whatever state it is: gives the memory back, checks nothing. */
void house_abandon(struct house *h);
void house_destroy(struct house *h);

/* As seglog_append, but waits where that says EAGAIN. e and what it points to live until e->done ran, or house_drop. */
int house_append(struct house *h, struct seglog_entry *e);
void house_turn(struct house *h, uint64_t wait_us);
/* Turns until nothing is under way. */
void house_settle(struct house *h);
/* One step of reclaim; true: there is more to do. */
bool house_reclaim(struct house *h, bool pressure);
/* Nothing waits, is in the log, or is to be applied. */
bool house_idle(const struct house *h);
/* The log took no more after an error of the disk. */
bool house_fenced(const struct house *h);
