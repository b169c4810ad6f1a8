/* arena.h - bump allocation that is freed at once: one a connection, marks for a transaction.
 * Thread: its owner's.  Memory comes in blocks from malloc; a limit bounds the sum.  Nothing is freed one by one. */
#pragma once
#include "spool/base/slice.h"

struct arena_block;
struct arena {
    struct arena_block *head;
    size_t used, limit; /* bytes handed out; most bytes ever */
};

struct arena_mark {
    struct arena_block *block;
    size_t at, used;
};

/* An empty arena holds no memory. */
void arena_init(struct arena *a, size_t limit_bytes);
/* 16-byte aligned, uninitialised; NULL when the limit is reached or memory is out. */
void *arena_alloc(struct arena *a, size_t n);
/* Copy; p is NULL on failure (also for an empty input only then). */
struct slice arena_copy(struct arena *a, struct slice s);
/* NUL-terminated copy, or NULL. */
char *arena_strdup(struct arena *a, struct slice s);
struct arena_mark arena_mark(const struct arena *a);
/* Forget all that was allocated after the mark; blocks that are empty then are freed. */
void arena_reset(struct arena *a, struct arena_mark m);
void arena_free(struct arena *a);
