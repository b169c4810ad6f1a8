/* apply.h - what apply.c and ends.c share: a record under way into the index, and the pieces of its effect.
 * All but apply_state_merge, apply_meta_kills and apply_name_ok write: between the last read and the next commit.
 * Thread: under the queue's lock. */
#pragma once
#include "spool/queue/queue_impl.h"

struct applied {
    const struct record *rec;
    uint64_t pos;
    uint32_t size;
};

typedef int apply_fn(struct queue *q, const struct applied *a);

/* ---- ends.c */
apply_fn apply_done, apply_defer, apply_abort;

/* ---- apply.c */
/* A record without a meaning for the queue: it stays until compaction reads the segment. */
int apply_other(struct queue *q, const struct applied *a);
/* One that changes nothing, and need not stay. */
int apply_nothing(struct queue *q, const struct applied *a);

/* The record's own segment. */
struct seg *apply_own_seg(struct queue *q, const struct applied *a);
/* The DEFER at pos begins (1) or ceases (-1) to be the state of a message; pos 0: none. */
void apply_seg_defer(struct queue *q, uint64_t pos, int sign);
/* The message enters (1) or leaves (-1) its bag's counters. */
void apply_bag_count(struct queue *q, struct bag *b, const struct msgid *id, const struct entry *e, int sign);

/* The meta names the segment as one with records that are killed. */
bool apply_meta_kills(struct slice meta, uint64_t seg);
void apply_kill_seg(struct queue *q, struct seg *own, uint64_t killed);
/* All segments in which the message's MSG records lie. */
void apply_kill_entry(struct queue *q, struct seg *own, const struct entry *e);

bool apply_name_ok(struct slice domain);
void apply_entry_put(struct queue *q, struct slice domain, const struct place *at, const struct entry *e);
/* The message is live no more; its chunks are the caller's. */
void apply_entry_remove(struct queue *q, struct slice domain, const struct place *at, const struct entry *e);
/* Chunks that lie below `upto`.  it: from queue_chunks_iter, opened before the first write; ends it.  tomb: takes down
 * segments that the DONE's meta does not name; NULL: none is wanted. */
void apply_chunks_remove(struct queue *q, struct index_iter *it, uint64_t upto, struct tomb *tomb, struct slice meta);
/* In a replay: the message ended before it was seen. */
void apply_finished_add(struct queue *q, const struct msgid *id);

/* Final items stay final whichever side says so. */
void apply_state_merge(struct msg_state *s, const struct msg_state *other);
/* Takes the new state over in the entry and in everything that follows it; the entry is put by the caller. */
void apply_state_change(struct queue *q, struct slice domain, const struct place *at, struct entry *e,
                        const struct msg_state *now);
