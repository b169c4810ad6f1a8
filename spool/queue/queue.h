/* queue.h - bags: which messages are stored, where, in which order, what is due, claimed, done.
 *
 * The queue is a function of the log: queue_apply() takes durable records in log order and keeps the index (on disk)
 * and the counters of each domain (in memory).  Whatever changes a message is first a record in the log, then applied;
 * so the state after a crash is what a replay gives.
 *
 *   intake --MSG--> log --durable--> queue_apply --> bag --queue_claim--> relay
 *                    ^                                                      |
 *                    +------ DONE / DEFER <--- queue_finish <---------------+
 *
 * Claims are volatile, one holder a message: the relay, an operator's delete, or a move by compaction.  Every final
 * state goes through a claim, so a message that is being moved is never finished at the same time, and the other way
 * round. A crash forgets claims: what was being delivered then is delivered again (a duplicate, counted by the relay).
 *
 * Thread: the caller serialises all calls (one lock around the queue) except where a function says "any thread".
 * Errors: 0 or a negative SATCHEL_E*. */
#pragma once
#include "spool/base/clock.h"
#include "spool/base/status.h"
#include "spool/format/storageid.h"
#include "spool/index/index.h"
#include "spool/segment/seglog.h"
#include "spool/segment/segread.h"

#include <stdatomic.h>

struct queue;

/* What became of a message, with what is needed to find it: as it travels between copies (spool/storage.h). */
struct storage_state {
    struct msgid id;
    uint64_t arrival_us;
    struct slice domain;
    struct slice owed;      /* n * 16: storages other than this one that may hold a copy and do not know yet */
    struct msgid dsn;       /* tap: a DSN was made with it, which must be safe first; counter 0: none */
    bool tell;              /* merge: port.changed hears of it, so that those who are owed do, if it is news here */
    struct msg_state state; /* live == 0: final */
};

/* What the queue asks of the log. */
struct queue_port {
    /* Hands an entry to the log's owner; e->done runs when it is durable (or failed), under the caller's serialisation.
     * The record then also comes back through queue_apply, before done is run.  0, or the errors of seglog_append other
     * than EAGAIN (the port waits or queues). */
    int (*append)(void *ctx, struct seglog_entry *e);
    /* seglog_free_segment, handed to the log's owner; asynchronous: queue_freed is called with the result. */
    void (*free_segment)(void *ctx, uint64_t seg);
    /* A bag has mail to deliver that was not there before: became non-empty, or a deferred message was
     * flushed/released. Must not call back into the queue. */
    void (*ready)(void *ctx, struct slice domain);
    void *ctx;
    /* What queue_finish was told with `copies`, or queue_merge with `tell`, is durable and applied; once for each, not
     * in a replay.  Slices borrow until return.  Must not call back into the queue.  NULL: nobody asks. */
    void (*changed)(void *ctx, const struct storage_state *st);
};

struct queue_config {
    uint64_t flush_bytes; /* log bytes applied after which the index is flushed: bounds the replay at start; 64 MiB */
    uint32_t compact_live_pct; /* a segment with at most this share of live bytes is compacted; 40 */
    uint64_t settle_us;        /* a segment whose mail is being delivered is not compacted for so long; 0 */
    uint32_t move_inflight;    /* most moves of compaction at once; 64 */
    uint64_t tomb_min_us;      /* a tombstone of which everybody knows is kept for so long; 10 min */
};
extern const struct queue_config queue_config_default;

/* reader: the queue's own, for reclaim. */
int queue_open(struct queue **q_r, const struct queue_config *cfg, struct index *ix, const struct clock *clock,
               struct segread *reader, const struct queue_port *port);
void queue_close(struct queue **q);

/* ---- applying */

/* Where seglog_open must start its replay: 0 for an empty index. */
uint64_t queue_applied(const struct queue *q);
/* One durable record, in log order.  Idempotent: replaying a stretch again changes nothing. */
int queue_apply(struct queue *q, const struct record *rec, uint64_t pos, uint32_t size);
/* Everything below pos is applied: commits the batch, flushes when due. Call after a batch of applies. */
int queue_commit(struct queue *q, uint64_t pos);
/* After the replay of seglog_open: chunks without a message are dropped, counters are checked, ready() is called for
 * bags with mail. segs: the used segments of the log; segments that the index knows and the log does not are forgotten,
 * and the other way round. */
int queue_recovered(struct queue *q, const uint64_t *segs, size_t n);

/* ---- claiming */

enum claim_mode {
    CLAIM_DUE,   /* in order of acceptance: not held, due by now */
    CLAIM_OLDER, /* arrival_us below `before_us`, held or deferred ones too: for expiry */
};

struct claim {
    struct msgid id;
    uint64_t arrival_us;
    uint64_t pos;    /* of the MSG record */
    uint32_t size;   /* of the MSG record */
    uint32_t chunks; /* 0: the body is in the record */
    uint64_t body_bytes;
    struct msg_state state;
    const atomic_bool
        *over; /* while it is claimed: its end, or some of it, came from elsewhere, or it is gone; any thread */
};

/* Claims up to cap messages of the domain, oldest first; returns how many.  before_us: see claim_mode (ignored for
 * CLAIM_DUE). */
size_t queue_claim(struct queue *q, struct slice domain, enum claim_mode mode, uint64_t before_us,
                   struct claim *claims_r, size_t cap);
/* One message by its ID, whatever its due time. -SATCHEL_ENOENT, -SATCHEL_EBUSY (claimed). domain_r: NUL-terminated,
 * 256 bytes. */
int queue_claim_id(struct queue *q, const struct msgid *id, struct claim *claim_r, char domain_r[256]);
/* Gives a claim back unchanged. */
void queue_unclaim(struct queue *q, const struct msgid *id);

struct item_result {
    uint32_t item;
    enum item_end end; /* ITEM_LIVE: put off */
    struct smtp_status status;
};

/* Of a message with copies elsewhere. */
struct finish_copies {
    struct slice owed; /* n * 16, at most REC_COPYSET_MAX: other storages that may hold a copy; may be none */
    struct msgid dsn;  /* for port.changed */
};

/* Ends a claim with results: a DONE for items that are final, a DEFER where some stay (both where needed).  attempts is
 * counted up by one unless every result is ITEM_DELETED.  due_us: next try of what stays (wall clock).  held: hold what
 * stays. The claim ends when the record is applied.  On error the claim is given back, unchanged.
 * copies: a message that is final leaves a tombstone, and port.changed hears of it; NULL: no other storage has it, and
 * nothing of it stays. */
int queue_finish(struct queue *q, struct slice domain, const struct claim *c, const struct item_result *results,
                 size_t n, uint64_t due_us, bool held, const struct finish_copies *copies);
/* Takes in what became of a message elsewhere: final items stay final (set union), attempts, due time and hold are
 * those of the state with the higher seq.  A message that is final and not known here leaves a tombstone.  port.changed
 * only where st->tell. 0: done runs when it is durable and applied; 1: that is known here, done does not run;
 * -SATCHEL_EBUSY: somebody holds the message (where items are final that are live here, the claim is `over`, and what
 * came is taken in as soon as the message is given back: nobody claims it as it was); -SATCHEL_ENOENT: not known here
 * and not final; -SATCHEL_EINVAL: another number of items.
 */
typedef void queue_merged(void *arg, int res);
int queue_merge(struct queue *q, const struct storage_state *st, queue_merged *done, void *arg);
/* It is claimed, or a change of it is on its way. */
bool queue_held(const struct queue *q, const struct msgid *id);
/* The MSG record of a live message cannot be read: this one takes its place, with the state as it is.  Copied.  0: done
 * runs when it is durable and applied; -SATCHEL_EBUSY, -SATCHEL_ENOENT. */
int queue_repair(struct queue *q, const struct record *rec, queue_merged *done, void *arg);
/* Takes a message (or chunks without their message) out of its bag without a tombstone: this copy is not needed.  A
 * copy that is stored later lives.  0: an ABORT is on its way; -SATCHEL_EBUSY, -SATCHEL_ENOENT. */
int queue_forget(struct queue *q, const struct msgid *id);
/* Makes all messages of the bag due now (satchelctl queue flush): deferred ones return to their place in the order.
 * Volatile is enough: after a crash they wait out their time. Returns how many. */
uint64_t queue_flush_domain(struct queue *q, struct slice domain);
/* Wall clock at which the earliest deferred message of the bag is due; UINT64_MAX: none is waiting; 0: some are due
 * now. */
uint64_t queue_next_due(struct queue *q, struct slice domain);

/* ---- looking; any thread, without the lock, on a snapshot */

struct queue_entry {
    struct slice domain;
    struct msgid id;
    uint64_t arrival_us, pos;
    uint32_t size, chunks;
    uint64_t body_bytes;
    struct msg_state state;
};

/* Entries of a bag (domain.n == 0: of all bags, by domain) in order, starting after `after` (an opaque cursor of at
 * most QUEUE_CURSOR_MAX bytes; empty: from the head).  each returns false to stop.  Starts at once whatever the depth.
 * cursor_r/cursor_n_r (may be NULL): the place after the last entry shown. */
#define QUEUE_CURSOR_MAX 320
int queue_list(struct queue *q, struct slice domain, struct slice after,
               bool (*each)(void *arg, const struct queue_entry *e), void *arg, uint8_t *cursor_r, size_t *cursor_n_r);
int queue_find(struct queue *q, const struct msgid *id, struct queue_entry *e_r, char domain_r[256]);
/* Position and size of a chunk now. */
int queue_chunk(struct queue *q, const struct msgid *id, uint32_t chunk, uint64_t *pos_r, uint32_t *size_r);
/* Under the lock: chunks 0 .. chunks - 1 of the message are here. */
bool queue_is_whole(struct queue *q, const struct msgid *id, uint32_t chunks);
enum queue_known { QUEUE_UNKNOWN, QUEUE_LIVE, QUEUE_TOMB };
/* Cheaper than queue_find and queue_tomb.  What is not committed yet is unknown. */
enum queue_known queue_known(struct queue *q, const struct msgid *id);
/* Messages, chunks or tombstones of from's incarnation at or above its counter are here. */
bool queue_any_from(struct queue *q, const struct msgid *from);

/* ---- tombstones: messages that ended and that other storages may still hold; see tomb.h
 * A copy of such a message that comes later is dead on arrival.  A tombstone goes when nobody is owed the news any
 * more, tomb_min_us after the end, and when no segment is left in which a dead copy may lie. */

#define QUEUE_TOMB_BYTES 1536
/* Any thread, without the lock.  st_r borrows from buf_r.  0, -SATCHEL_ENOENT, -SATCHEL_EIO, -SATCHEL_EDAMAGED. */
int queue_tomb(struct queue *q, const struct msgid *id, struct storage_state *st_r, uint8_t buf_r[QUEUE_TOMB_BYTES]);
/* Any thread, without the lock.  Tombstones owed to `to` (NULL: to anybody), by ID, from the one behind `after` on
 * (NULL: the first); each returns false to stop. */
int queue_tombs_owed(struct queue *q, const struct storage_id *to, const struct msgid *after,
                     bool (*each)(void *arg, const struct storage_state *st), void *arg);
/* Under the lock.  `by` knows of these ends (NULL: everybody does).  In the index only: forgotten with it, and asked
 * again. */
void queue_tombs_confirm(struct queue *q, const struct storage_id *by, const struct msgid *ids, size_t n);

/* ---- counters; under the lock */

struct bag_stat {
    uint64_t messages, bytes; /* live messages; their record and chunk bytes */
    uint64_t deferred, held, claimed;
    uint64_t oldest_us; /* arrival of the oldest; 0: empty */
    uint64_t digest;    /* sum (mod 2^64) of queue_entry_digest over the live messages */
};
/* A hash of what copies must agree on: the ID and which items ended how.  Pure. */
uint64_t queue_entry_digest(const struct msgid *id, const struct msg_state *s);
/* Zeros for a domain without mail. */
void queue_bag_stat(struct queue *q, struct slice domain, struct bag_stat *st_r);
/* Every domain with mail. */
void queue_bags(struct queue *q, void (*each)(void *arg, struct slice domain, const struct bag_stat *st), void *arg);
struct queue_stat {
    uint64_t messages, bytes, domains, oldest_us;
    uint64_t claims, reclaimed, moved_bytes;
};
void queue_stat(struct queue *q, struct queue_stat *st_r);
/* Without a look into the index. */
struct queue_totals {
    uint64_t messages, bytes;   /* live */
    uint64_t tombs, tombs_owed; /* tombstones; those that somebody does not know of */
};
void queue_totals(const struct queue *q, struct queue_totals *t_r);

/* ---- reclaim: one step of freeing and compacting segments; see reclaim.c for the rules.  pressure: the log is short
 * of room, compact whatever gains.  Returns true while there is more to do at once. Call from the owner when idle, and
 * after frees. */
bool queue_reclaim(struct queue *q, const uint64_t *segs, size_t n, bool pressure);
/* The answer to port.free_segment. */
void queue_freed(struct queue *q, uint64_t seg, int res);

/* ---- checking: compares the index with what a full scan of the log said (both sides as sorted text lines through
 * each); used by `satchelctl spool check` and the simulator. Writes one line a live message: domain, id, arrival,
 * state. */
int queue_digest(struct queue *q, void (*line)(void *arg, const char *text), void *arg);
