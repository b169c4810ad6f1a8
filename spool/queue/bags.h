/* bags.h - the bag of each domain: its counters and where handing out stands.
 *
 * In the index ('d' key), saved with each batch that touches it: u64 messages | u64 bytes | u64 deferred | u64 held
 * | u64 low_us | u64 newest_us | u64 digest.  So a restart reads one key a domain and not one a message.
 *
 * Handing out (CLAIM_DUE) walks the 'q' keys once, with a cursor.  What the cursor has passed comes back by two ways:
 * messages that were put off lie under 'w' keys in the order of their due time and are pulled when it comes; messages
 * that were given back, or came late with an early arrival, lie in the heap `back`.  The heap and the walk are merged
 * by place, so the order of arrival is kept.
 *
 * Thread: under the queue's lock. */
#pragma once
#include "spool/queue/heap.h"
#include "spool/queue/store.h"
#include "spool/queue/table.h"

struct bag {
    uint64_t hash;
    /* persistent */
    uint64_t messages, bytes, deferred, held;
    uint64_t low_us;    /* no live message is older: where a walk starts, past the tombstones of what is gone */
    uint64_t newest_us; /* no message is newer */
    uint64_t digest;    /* sum of queue_entry_digest of the live messages */
    /* volatile */
    uint64_t oldest_us; /* valid with oldest_ok */
    uint64_t claimed;
    uint64_t claimed_fresh; /* of them: neither deferred nor held */
    struct place cursor;    /* the walk is past this place */
    uint64_t flush_us;      /* the walk hands out deferred messages too, up to this arrival */
    uint64_t pulled_due_us; /* 'w' keys up to (pulled_due_us, pulled) are in the heap, or were */
    struct place pulled;
    uint64_t next_due_us; /* no 'w' key that is not pulled is due before */
    struct heap back;
    struct bag *dirty_next;
    bool oldest_ok, dirty;
    bool stopped; /* the walk stopped at a message that is being moved: say ready when the move ends */
    uint16_t name_n;
    uint8_t name[];
};

struct bags {
    struct table table;
    struct bag *dirty;
    uint64_t messages, bytes;
};

static inline struct slice bag_name(const struct bag *b)
{
    return slice_of(b->name, b->name_n);
}

/* Of a 'd' value; BAG_LOW_AT is where low_us lies in it. */
enum { BAG_VALUE_BYTES = 56, BAG_LOW_AT = 32 };

struct bag *bags_find(const struct bags *t, struct slice domain);
struct bag *bags_need(struct bags *t, struct slice domain);
void bags_free(struct bags *t);
void bag_touch(struct bags *t, struct bag *b);
/* Messages nobody holds, neither deferred nor held. */
uint64_t bag_fresh(const struct bag *b);
/* The walk starts again at the head. */
void bag_rewind(struct bag *b);

int bags_load(struct bags *t, struct store *st);
/* Writes what changed into the batch; bags without mail and claims are forgotten. */
void bags_save(struct bags *t, struct store *st);
