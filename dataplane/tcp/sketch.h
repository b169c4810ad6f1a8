/* sketch.h - token buckets of very many networks in fixed memory: rows of cells, each network in one cell of each row.
 *
 * Thread: its queue's; no clock, no I/O, no malloc.  A network may go on while one of its cells has a token; what it
 * takes is taken from the fullest of them, and the others are lowered to that (the "conservative update" of count-min
 * sketches).  So networks that share a cell can only let each other in, never out, unless they meet in every row. */
#pragma once
#include "dataplane/tcp/bucket.h"

#include <stddef.h>

#define SKETCH_ROWS 4u

struct sketch {
    uint64_t *cells; /* bucket.h; row after row */
    uint32_t row_cells;
    struct bucket_rate rate;
};

/* row_cells: a power of two. */
size_t sketch_bytes(uint32_t row_cells);
/* mem: zeroed. */
void sketch_init(struct sketch *s, void *mem, uint32_t row_cells, struct bucket_rate rate);
/* hash: a keyed one of the network. */
bool sketch_has(const struct sketch *s, uint64_t hash, uint64_t now_us);
void sketch_take(struct sketch *s, uint64_t hash, uint64_t now_us);
