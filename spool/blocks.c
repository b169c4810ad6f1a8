/* blocks.c - memory for bodies on their way to the log. */
#include "spool/blocks.h"

#include "spool/segment/disk.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { SHORT_KEPT = 64, SLAB_BLOCKS = SLAB_BYTES / BLOCK_LONG_BYTES };
_Static_assert(SLAB_BLOCKS == 32, "bits of block_slab.free");

struct block_slab {
    struct block_slab *next;
    uint8_t *bytes;
    bool pinned;
    uint32_t free; /* a bit for each block at rest */
    struct spool_block blocks[SLAB_BLOCKS];
};

/* ---- slabs */

static struct block_slab *slab_make(struct block_pool *p)
{
    struct block_slab *s = malloc(sizeof *s);
    if (!s)
        return NULL;
    uint8_t *pinned = p->pinned ? pinned_slab_get(p->pinned) : NULL;
    uint8_t *bytes = pinned ? pinned : map_large(SLAB_BYTES);
    if (!bytes) {
        free(s);
        return NULL;
    }
    *s = (struct block_slab){.next = p->slabs, .bytes = bytes, .pinned = pinned != NULL, .free = UINT32_MAX};
    for (uint32_t i = 0; i < SLAB_BLOCKS; i++)
        s->blocks[i] =
            (struct spool_block){.cap = BLOCK_LONG_BYTES, .data = bytes + (size_t)i * BLOCK_LONG_BYTES, .slab = s};
    p->slabs = s;
    p->slabs_n++;
    p->empty_n++;
    return s;
}

static void slab_drop(struct block_pool *p, struct block_slab *s)
{
    struct block_slab **at = &p->slabs;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    p->slabs_n--;
    p->empty_n--;
    if (s->pinned)
        pinned_slab_put(p->pinned, s->bytes);
    else
        munmap(s->bytes, SLAB_BYTES);
    free(s);
}

/* The fullest one that has a block, so that the others become empty; NULL: all are full. */
static struct block_slab *slab_with_room(const struct block_pool *p)
{
    struct block_slab *best = NULL;
    for (struct block_slab *s = p->slabs; s; s = s->next)
        if (s->free && (!best || __builtin_popcount(s->free) < __builtin_popcount(best->free)))
            best = s;
    return best;
}

static struct spool_block *slab_take(struct block_pool *p, struct block_slab *s)
{
    uint32_t i = (uint32_t)__builtin_ctz(s->free);
    p->empty_n -= s->free == UINT32_MAX;
    s->free &= ~(UINT32_C(1) << i);
    return &s->blocks[i];
}

static void slab_give(struct block_pool *p, struct spool_block *b)
{
    struct block_slab *s = b->slab;
    s->free |= UINT32_C(1) << (b - s->blocks);
    p->empty_n += s->free == UINT32_MAX;
    if (s->free == UINT32_MAX && (s->pinned || p->empty_n > 1))
        slab_drop(p, s);
}

/* ---- blocks */

/* Its description stands behind the bytes. */
static struct spool_block *heap_block(size_t align, uint32_t cap)
{
    void *data;
    if (posix_memalign(&data, align, cap + sizeof(struct spool_block)) != 0)
        return NULL;
    struct spool_block *b = (struct spool_block *)((uint8_t *)data + cap);
    *b = (struct spool_block){.cap = cap, .data = data};
    return b;
}

struct spool_block *block_get_short(struct block_pool *p)
{
    struct spool_block *b = p->rest;
    if (!b)
        return heap_block(_Alignof(max_align_t), BLOCK_SHORT_BYTES);
    p->rest = b->next;
    p->rest_n--;
    b->next = NULL;
    b->used = 0;
    return b;
}

struct spool_block *block_get_long(struct block_pool *p)
{
    struct block_slab *s = slab_with_room(p);
    if (!s && p->slabs_n < BLOCK_SLABS_MAX)
        s = slab_make(p);
    if (!s)
        return heap_block(DISK_ALIGN, BLOCK_LONG_BYTES);
    struct spool_block *b = slab_take(p, s);
    b->next = NULL;
    b->used = 0;
    return b;
}

void block_put(struct block_pool *p, struct spool_block *b)
{
    if (b->slab) {
        slab_give(p, b);
    } else if (b->cap == BLOCK_SHORT_BYTES && p->rest_n < SHORT_KEPT) {
        b->next = p->rest;
        p->rest = b;
        p->rest_n++;
    } else {
        free(b->data);
    }
}

void block_pool_free(struct block_pool *p)
{
    while (p->rest) {
        struct spool_block *next = p->rest->next;
        free(p->rest->data);
        p->rest = next;
    }
    while (p->slabs) {
        assert(p->slabs->free == UINT32_MAX);
        slab_drop(p, p->slabs);
    }
    p->rest_n = 0;
}
