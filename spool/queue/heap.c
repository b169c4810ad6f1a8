/* heap.c - a binary min-heap by place. */
#include "spool/queue/heap.h"
#include <assert.h>
#include <stdlib.h>

static bool before(const struct heap *h, size_t a, size_t b)
{
    return place_cmp(&h->items[a].at, &h->items[b].at) < 0;
}

static void swap(struct heap *h, size_t a, size_t b)
{
    struct back t = h->items[a];
    h->items[a] = h->items[b];
    h->items[b] = t;
}

void heap_push(struct heap *h, const struct place *at, uint64_t force)
{
    if (h->n == h->cap) {
        h->cap = h->cap ? h->cap * 2 : 16;
        h->items = realloc(h->items, h->cap * sizeof *h->items);
        if (!h->items)
            abort();
    }
    size_t i = h->n++;
    h->items[i] = (struct back){*at, force};
    for (; i && before(h, i, (i - 1) / 2); i = (i - 1) / 2)
        swap(h, i, (i - 1) / 2);
}

const struct back *heap_top(const struct heap *h)
{
    assert(h->n);
    return &h->items[0];
}

void heap_pop(struct heap *h)
{
    assert(h->n);
    h->items[0] = h->items[--h->n];
    for (size_t i = 0;;) {
        size_t least = i, left = 2 * i + 1;
        if (left < h->n && before(h, left, least))
            least = left;
        if (left + 1 < h->n && before(h, left + 1, least))
            least = left + 1;
        if (least == i)
            break;
        swap(h, i, least);
        i = least;
    }
    if (h->n == 0)
        heap_free(h);
}

void heap_free(struct heap *h)
{
    free(h->items);
    *h = (struct heap){0};
}
