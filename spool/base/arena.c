#include "spool/base/arena.h"

#include <stdalign.h>
#include <stdlib.h>

struct arena_block {
    struct arena_block *next;
    size_t at, cap;
    alignas(16) uint8_t data[];
};

enum { BLOCK_MIN = 1024 - 32 };

void arena_init(struct arena *a, size_t limit_bytes)
{
    *a = (struct arena){.limit = limit_bytes};
}

void *arena_alloc(struct arena *a, size_t n)
{
    n = (n + 15) & ~(size_t)15;
    if (n > a->limit - a->used)
        return NULL;
    struct arena_block *b = a->head;
    if (!b || b->cap - b->at < n) {
        size_t cap = n > BLOCK_MIN ? n : BLOCK_MIN;
        b = malloc(sizeof *b + cap);
        if (!b)
            return NULL;
        *b = (struct arena_block){.next = a->head, .cap = cap};
        a->head = b;
    }
    void *p = b->data + b->at;
    b->at += n;
    a->used += n;
    return p;
}

struct slice arena_copy(struct arena *a, struct slice s)
{
    uint8_t *p = arena_alloc(a, s.n ? s.n : 1);
    if (!p)
        return (struct slice){0};
    if (s.n)
        memcpy(p, s.p, s.n);
    return slice_of(p, s.n);
}

char *arena_strdup(struct arena *a, struct slice s)
{
    char *p = arena_alloc(a, s.n + 1);
    if (!p)
        return NULL;
    if (s.n)
        memcpy(p, s.p, s.n);
    p[s.n] = 0;
    return p;
}

struct arena_mark arena_mark(const struct arena *a)
{
    return (struct arena_mark){a->head, a->head ? a->head->at : 0, a->used};
}

void arena_reset(struct arena *a, struct arena_mark m)
{
    while (a->head != m.block) {
        struct arena_block *b = a->head;
        a->head = b->next;
        free(b);
    }
    if (a->head)
        a->head->at = m.at;
    a->used = m.used;
}

void arena_free(struct arena *a)
{
    arena_reset(a, (struct arena_mark){0});
}
