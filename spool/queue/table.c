/* table.c - a hash table of pointers with linear probing; deleting shifts the followers back. */
#include "spool/queue/table.h"
#include <assert.h>
#include <stdlib.h>
#include <xxhash.h>

uint64_t table_hash(struct slice key)
{
    return XXH3_64bits(key.p, key.n);
}

void *table_find(const struct table *t, uint64_t hash, table_eq *eq, const void *key)
{
    if (t->cap == 0)
        return NULL;
    for (size_t i = hash & (t->cap - 1); t->items[i]; i = (i + 1) & (t->cap - 1))
        if (t->hashes[i] == hash && eq(t->items[i], key))
            return t->items[i];
    return NULL;
}

static void table_place(struct table *t, uint64_t hash, void *item)
{
    size_t i = hash & (t->cap - 1);
    while (t->items[i])
        i = (i + 1) & (t->cap - 1);
    t->items[i] = item;
    t->hashes[i] = hash;
}

static void table_grow(struct table *t)
{
    struct table old = *t;
    t->cap = old.cap ? old.cap * 2 : 64;
    t->items = calloc(t->cap, sizeof *t->items);
    t->hashes = calloc(t->cap, sizeof *t->hashes);
    if (!t->items || !t->hashes)
        abort();
    for (size_t i = 0; i < old.cap; i++)
        if (old.items[i])
            table_place(t, old.hashes[i], old.items[i]);
    free(old.items);
    free(old.hashes);
}

void table_add(struct table *t, uint64_t hash, void *item)
{
    if (t->n * 4 >= t->cap * 3)
        table_grow(t);
    table_place(t, hash, item);
    t->n++;
}

void table_del(struct table *t, uint64_t hash, const void *item)
{
    size_t mask = t->cap - 1, i = hash & mask;
    while (t->items[i] != item) {
        assert(t->items[i]);
        i = (i + 1) & mask;
    }
    for (size_t j = (i + 1) & mask; t->items[j]; j = (j + 1) & mask) {
        size_t home = t->hashes[j] & mask;
        if (((j - home) & mask) < ((j - i) & mask))
            continue;
        t->items[i] = t->items[j];
        t->hashes[i] = t->hashes[j];
        i = j;
    }
    t->items[i] = NULL;
    t->n--;
}

void table_clear(struct table *t, void (*item_free)(void *item))
{
    for (size_t i = 0; i < t->cap; i++)
        if (t->items[i] && item_free)
            item_free(t->items[i]);
    free(t->items);
    free(t->hashes);
    *t = (struct table){0};
}

void *table_next(const struct table *t, size_t *at)
{
    while (*at < t->cap) {
        void *item = t->items[(*at)++];
        if (item)
            return item;
    }
    return NULL;
}
