/* queue_impl.h - what the files of the queue share; see queue.h for the contract.
 *
 *   queue.c    open, close, commit, recovery, counters
 *   apply.c    records -> index and counters: MSG, CHUNK;  ends.c  DONE, DEFER, ABORT
 *   claim.c    holds, and handing out in order
 *   finish.c   results -> DONE and DEFER records;  merge.c  ends from elsewhere, and copies that are not needed
 *   tomb.c     tombstones
 *   list.c     looking without the lock
 *   reclaim.c  which segments go, and why that is safe;  move.c  writing again what stays of one
 *   keys, store, segs, bags, table, heap: the parts */
#pragma once
#include "spool/queue/bags.h"
#include "spool/queue/queue.h"
#include "spool/queue/segs.h"
#include "spool/queue/tomb.h"

enum hold_kind {
    HOLD_DUE,  /* handed out in order; given back, it comes first again */
    HOLD_PICK, /* by age or by ID */
    HOLD_MOVE, /* compaction writes the message again */
};

enum { HOLD_VALUE_MAX = 64 };

/* A claim.  It keeps the entry as the index has it, so that finishing what was handed out reads nothing. */
struct hold {
    uint64_t hash;
    struct place at;
    struct bag *bag;
    enum hold_kind kind;
    uint32_t moves;  /* HOLD_MOVE: records of the message that are being written */
    uint64_t due_us; /* as the state is now */
    uint32_t seq;
    bool held;
    bool gone; /* the message ended while it was held */
    atomic_bool over;
    struct late_end *late; /* what came from elsewhere meanwhile; or NULL */
    uint8_t value_n;       /* 0: too long to keep, the index has it */
    uint8_t value[HOLD_VALUE_MAX];
};

struct victim;

/* First member of what an append in flight borrows. A log that is dropped never runs its done: closing frees them. */
struct job {
    struct job *next, **link;
};

struct queue {
    struct queue_config cfg;
    struct index *ix;
    const struct clock *clock;
    struct segread *reader;
    struct queue_port port;
    struct bags bags;
    struct segs segs;
    struct table holds;
    struct table finished; /* struct msgid, during a replay: final before their message was seen */
    bool replaying;
    uint64_t end;         /* records below are applied */
    uint64_t unflushed;   /* bytes of log applied since the last flush was begun */
    uint64_t reclaimed;   /* segments freed */
    uint64_t moved_bytes; /* written again by compaction */
    struct victim *victim;
    struct job *jobs;
    uint64_t flush_asked; /* position that reclaim wants durable in the index */
    struct key tomb_at;   /* where the walk over old tombstones stands */
    struct store store;
};

/* ---- queue.c */
/* 0, -SATCHEL_ENOENT, or the failure of the index. */
int queue_entry_load(struct queue *q, struct slice domain, const struct place *at, struct entry *e_r);
/* Finds the bag and place of an ID; domain_r has 256 bytes and gets a NUL. */
int queue_id_load(struct queue *q, const struct msgid *id, char domain_r[256], struct place *at_r);
/* 'm' value -> domain and arrival; false: malformed. */
bool queue_id_parse(struct slice value, char domain_r[256], uint64_t *arrival_us_r);
/* Reads a chunk's place. */
int queue_chunk_load(struct queue *q, const struct msgid *id, uint32_t chunk, uint64_t *pos_r, uint32_t *size_r);
struct index_iter *queue_chunks_iter(struct queue *q, const struct msgid *id);
bool queue_chunks_next(struct queue *q, struct index_iter *it, struct key *key_r, uint64_t *pos_r, uint32_t *size_r);
uint64_t queue_bag_oldest(struct queue *q, struct bag *b);
void queue_ready(struct queue *q, const struct bag *b);
int queue_flush_start(struct queue *q);
void job_add(struct queue *q, struct job *j);
void job_free(struct queue *q, struct job *j);

/* ---- apply.c */
/* Takes a chunk that belongs to nothing out of index and counters. */
void apply_chunk_drop(struct queue *q, const struct key *k, uint64_t pos, uint32_t size);

/* ---- claim.c */
struct hold *hold_find(const struct queue *q, const struct msgid *id);
struct hold *hold_begin(struct queue *q, struct bag *b, const struct place *at, const struct entry *e,
                        enum hold_kind kind);
/* The entry was written. */
void hold_keep(struct queue *q, const struct msgid *id, struct slice value);
/* The message's state changed (s == NULL: it is gone) while it may be held. Called before the bag's counters move. */
void hold_follow(struct queue *q, const struct msgid *id, const struct msg_state *s);
/* Ends the hold. back: the message was handed out and comes out again first. */
void hold_end(struct queue *q, struct hold *h, bool back);
void hold_free(void *h);
/* Puts a message that nobody holds where the walk finds it in time. */
void bag_place(struct bag *b, const struct place *at, uint64_t due_us, bool held);

/* ---- merge.c */
/* The message is not held any more: what came meanwhile is taken in. Frees it. */
void late_end_start(struct queue *q, struct late_end *l);

/* ---- move.c */
/* Reads the segment and finds what must stay: q->victim.  -SATCHEL_EAGAIN: more than limit_bytes. */
int victim_open(struct queue *q, struct seg *s, uint64_t limit_bytes);
/* Starts as many moves as are allowed; finished ones start the next by themselves. */
void victim_step(struct queue *q);
bool victim_idle(const struct victim *v);
/* Everything that must stay is durable elsewhere. */
bool victim_done(const struct victim *v);
/* Error of the first record that could not be read again; it stays where it is.  -SATCHEL_EAGAIN: not now. */
int victim_error(const struct victim *v);
uint64_t victim_seg(const struct victim *v);
/* Only while idle. */
void victim_free(struct queue *q);
