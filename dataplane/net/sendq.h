/* sendq.h - the bytes of a connection that wait to be sent, in blocks from a pool.
 * Thread: its worker's.  An empty queue holds no block.  Blocks never move: the kernel may read from the front while
 * more is put behind. */
#pragma once
#include "spool/base/slice.h"

struct sendblock;

/* One a worker. Zeroed is ready. */
struct sendpool {
    struct sendblock *spare; /* small blocks, kept for the next reply */
    uint32_t spare_n;
    size_t bytes; /* in all queues now */
};

/* Zeroed is empty. */
struct sendq {
    struct sendblock *head, *tail;
    size_t bytes; /* unsent */
};

/* Copies data behind what is there; false: no memory, some of it may be queued. */
bool sendq_put(struct sendq *q, struct sendpool *p, struct slice data);
/* The longest contiguous run at the front; empty when the queue is. */
struct slice sendq_front(const struct sendq *q);
/* Forgets n bytes of what sendq_front gave. */
void sendq_take(struct sendq *q, struct sendpool *p, size_t n);
void sendq_clear(struct sendq *q, struct sendpool *p);
void sendpool_destroy(struct sendpool *p);
