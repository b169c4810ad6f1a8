/* blocks.h - memory for bodies on their way to the log: short blocks and long ones, of a door's own.
 *
 * Long blocks lie on DISK_ALIGN, so that the disk takes them from where they are (ENTRY_BORROW).  The first
 * BLOCK_SLABS_MAX * 32 of them are cut from slabs of 2 MiB, in large pages where there are some: a block is then one
 * piece for the disk instead of sixteen.  Slabs are registered with the disk (pinned.h) as long as the doors together
 * have not used those up, else of the pool's own.  More blocks come from the heap.  At rest, a pool keeps 64 short
 * blocks and one slab of its own; such slabs that are partly in use hold at most 8 MiB beside it.
 * Thread: the door's. */
#pragma once
#include "spool/pinned.h"

enum {
    BLOCK_SHORT_BYTES = 8 * 1024,
    BLOCK_LONG_BYTES = 64 * 1024,
    BLOCK_SLABS_MAX = 4,
};

struct block_slab;

struct spool_block {
    struct spool_block *next; /* the user's */
    uint32_t used;            /* the user's; 0 at first */
    uint32_t cap;             /* BLOCK_*_BYTES */
    uint8_t *data;
    struct block_slab *slab; /* NULL: of the heap */
};

struct block_pool {
    struct pinned *pinned;    /* NULL: there is none */
    struct spool_block *rest; /* short ones; those used last first, since they are in the processor's cache */
    uint32_t rest_n;
    struct block_slab *slabs;
    uint32_t slabs_n, empty_n; /* of them, without a block in use */
};

/* NULL: no memory. */
struct spool_block *block_get_short(struct block_pool *p);
struct spool_block *block_get_long(struct block_pool *p);
void block_put(struct block_pool *p, struct spool_block *b);
/* All blocks are back. */
void block_pool_free(struct block_pool *p);
