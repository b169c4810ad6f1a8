/* slots.c - tokens with generations. */
#include "cluster/copies/slots.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS_FIRST = 64 };

static bool slots_grow(struct slots *s)
{
    uint32_t cap = s->cap ? s->cap * 2 : SLOTS_FIRST;
    void **at = realloc(s->at, cap * sizeof *at);
    s->at = at ? at : s->at;
    uint32_t *gens = realloc(s->gens, cap * sizeof *gens);
    s->gens = gens ? gens : s->gens;
    uint32_t *list = realloc(s->free, cap * sizeof *list);
    s->free = list ? list : s->free;
    if (!at || !gens || !list)
        return false;
    for (uint32_t i = cap; i-- > s->cap;) {
        s->at[i] = NULL;
        s->gens[i] = s->gen;
        s->free[s->free_n++] = i;
    }
    s->cap = cap;
    return true;
}

uint64_t slots_add(struct slots *s, void *what)
{
    if (s->free_n == 0 && !slots_grow(s))
        return 0;
    uint32_t i = s->free[--s->free_n];
    s->at[i] = what;
    return (uint64_t)s->gens[i] << 32 | (i + 1);
}

void *slots_get(const struct slots *s, uint64_t token)
{
    uint32_t i = (uint32_t)token - 1;
    return (uint32_t)token && i < s->cap && s->gens[i] == token >> 32 ? s->at[i] : NULL;
}

void slots_del(struct slots *s, uint64_t token)
{
    uint32_t i = (uint32_t)token - 1;
    if (!slots_get(s, token))
        return;
    s->at[i] = NULL;
    s->gens[i]++;
    s->free[s->free_n++] = i;
}

void slots_drop(struct slots *s)
{
    free(s->at);
    free(s->gens);
    free(s->free);
    memset(s, 0, sizeof *s);
}
