/* heap.h - messages that come out before the cursor of their bag: a binary min-heap by place.
 * The same message may be in it twice; whoever takes one out looks whether it is still to be had. */
#pragma once
#include "spool/queue/keys.h"

struct back {
    struct place at;
    uint64_t force; /* 0, or 1 + the seq of the state in which it was handed out: due in that state, whatever it says */
};

struct heap {
    struct back *items;
    size_t n, cap;
};

void heap_push(struct heap *h, const struct place *at, uint64_t force);
/* The first; the heap must not be empty. */
const struct back *heap_top(const struct heap *h);
void heap_pop(struct heap *h);
void heap_free(struct heap *h);
