/* segs.h - what the queue knows of each segment in use: what still lives in it, and what its DONEs hold down.
 *
 * The value of an 's' key: u32 used bytes | u32 msgs | u32 chunks | u64 live bytes | u32 defers | u32 retained
 * | u64 retained bytes | u64 done bytes | u64 moved bytes | u32 tombs | u32 owed | u8 many | u32 n, n * u64 killed
 * segments.
 *
 * Thread: under the queue's lock. */
#pragma once
#include "spool/queue/store.h"

enum { SEG_KILLS_MAX = 4096 };

struct seg {
    uint64_t seg;
    uint32_t end;      /* bytes up to the end of its last record */
    uint32_t msgs;     /* MSG records that are the place of a live message */
    uint32_t chunks;   /* CHUNK records that are the place of a chunk */
    uint32_t defers;   /* DEFER records that hold the state of a live message */
    uint32_t retained; /* records of other types: kept until compaction reads them */
    uint32_t tombs;    /* DONE records that are the place of a tombstone */
    uint32_t owed;     /* of them: somebody is owed it */
    uint64_t live_bytes, retained_bytes;
    uint64_t done_bytes;  /* DONE and ABORT records */
    uint64_t moved_bytes; /* records of all types that came by compaction */
    uint64_t *kills;      /* sorted: segments with records that DONEs in here kill; gone ones may be among them */
    uint32_t kills_n, kills_cap;
    bool kills_many; /* more than SEG_KILLS_MAX: the list is not whole */
    /* volatile */
    bool dirty, freeing;
    bool emptied;         /* compaction has moved all that was needed: free it whatever the counters say */
    bool stuck;           /* could not be read, or not be freed: left alone until the next start */
    uint64_t dying_us;    /* boot clock at which a live record of it died last */
    uint64_t tried_bytes; /* with this estimate of what must stay, compaction found too little to gain; 0: not tried */
};

struct segs {
    struct seg **items; /* by number */
    size_t n, cap;
    uint64_t messages;    /* sum of msgs */
    uint64_t tombs, owed; /* sums */
};

struct seg *segs_find(const struct segs *t, uint64_t seg);
/* Made if missing. */
struct seg *segs_need(struct segs *t, uint64_t seg);
void segs_drop(struct segs *t, uint64_t seg);
void segs_free(struct segs *t);

void seg_kill(struct seg *s, uint64_t killed);
/* How many of its kills are segments in use other than itself. */
uint32_t seg_kills_live(const struct segs *t, const struct seg *s);
/* Nothing in it is needed any more, so that it can go without being read. */
bool seg_is_dead(const struct segs *t, const struct seg *s);
/* Bytes that compaction would have to write again; an estimate. */
uint64_t seg_keep_bytes(const struct segs *t, const struct seg *s);

/* Reads all 's' keys. 0 or an error. */
int segs_load(struct segs *t, struct store *st);
/* Writes what changed into the batch. */
void segs_save(struct segs *t, struct store *st);
