/* table.h - a hash table of pointers: open addressing, no tombstones.
 * The caller hashes and compares; an item is in the table at most once.  Thread: its owner's.  Out of memory aborts:
 * the tables are bounded by what is claimed, by domains with mail and by one replay. */
#pragma once
#include "spool/base/slice.h"

struct table {
    void **items;
    uint64_t *hashes;
    size_t cap, n;
};

typedef bool table_eq(const void *item, const void *key);

uint64_t table_hash(struct slice key);
void *table_find(const struct table *t, uint64_t hash, table_eq *eq, const void *key);
void table_add(struct table *t, uint64_t hash, void *item);
/* The item must be there. */
void table_del(struct table *t, uint64_t hash, const void *item);
/* Frees the table, and each item with free(3) when it is not NULL. */
void table_clear(struct table *t, void (*item_free)(void *item));
/* Next item at or after *at, which starts at 0; NULL: the end.  Nothing may be added or deleted between calls. */
void *table_next(const struct table *t, size_t *at);
