/* sketch.c - token buckets of very many networks in fixed memory. */
#include "dataplane/tcp/sketch.h"

size_t sketch_bytes(uint32_t row_cells)
{
    return SKETCH_ROWS * (size_t)row_cells * sizeof(uint64_t);
}

void sketch_init(struct sketch *s, void *mem, uint32_t row_cells, struct bucket_rate rate)
{
    *s = (struct sketch){.cells = mem, .row_cells = row_cells, .rate = rate};
}

/* Two halves of one hash make as many as are wanted (Kirsch, Mitzenmacher 2006). */
static size_t cell_of(const struct sketch *s, uint64_t hash, uint32_t row)
{
    uint32_t h = (uint32_t)hash + row * ((uint32_t)(hash >> 32) | 1);
    return (size_t)row * s->row_cells + (h & (s->row_cells - 1));
}

/* The one that is full soonest. */
static uint64_t fullest(const struct sketch *s, uint64_t hash)
{
    uint64_t least = s->cells[cell_of(s, hash, 0)];
    for (uint32_t row = 1; row < SKETCH_ROWS; row++) {
        uint64_t full_ns = s->cells[cell_of(s, hash, row)];
        least = full_ns < least ? full_ns : least;
    }
    return least;
}

bool sketch_has(const struct sketch *s, uint64_t hash, uint64_t now_us)
{
    return s->rate.step_ns == 0 || bucket_has(&s->rate, fullest(s, hash), now_us);
}

void sketch_take(struct sketch *s, uint64_t hash, uint64_t now_us)
{
    uint64_t full_ns = bucket_less(&s->rate, fullest(s, hash), now_us);
    for (uint32_t row = 0; row < SKETCH_ROWS && s->rate.step_ns; row++) {
        uint64_t *cell = &s->cells[cell_of(s, hash, row)];
        *cell = *cell < full_ns ? full_ns : *cell;
    }
}
