/* sortbatch.h - puts and deletes that gather in memory and come out sorted by key, the last word on each key only.
 *
 * RocksDB's memtable is a skip list that remembers where it inserted last.  Keys of two families in turn (an ID, a
 * place in a bag, an ID, ...) send it from one end to the other each time; in order they cost it a third (measured on a
 * loaded machine: 17 us of the indexer's CPU a message before, 6.5 us after).
 * Thread: its owner's. */
#pragma once
#include "spool/base/slice.h"

struct sortbatch_op {
    uint32_t key_at, key_n; /* in bytes */
    uint32_t value_at, value_n;
    bool del;
};

struct sortbatch {
    struct sortbatch_op *ops;
    uint32_t n, cap;
    uint8_t *bytes;
    uint32_t used, size;
};

/* value is ignored for del.  false: no memory; nothing was added. */
bool sortbatch_add(struct sortbatch *b, struct slice key, struct slice value, bool del);
/* Sorts, drops what a later operation on the same key replaces, calls each in order, and empties the batch. */
void sortbatch_drain(struct sortbatch *b, void (*each)(void *arg, struct slice key, struct slice value, bool del),
                     void *arg);
void sortbatch_free(struct sortbatch *b);
