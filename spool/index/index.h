/* index.h - an ordered map from byte keys to byte values that survives a crash as an exact prefix of its commits.
 * Two implementations: index_rocks.c (RocksDB, one column family, WAL off) and index_ram.c (tests and the simulator).
 * It is never the truth: it can be lost and rebuilt from the segment log, and is never written in the acknowledging
 * path.
 *
 * Keys that begin with a NUL byte are the index's own.
 *
 * Thread: one writer (put, del, commit, flush, flush_start, durable); get and iterators from any thread, seeing
 * committed batches only.  All iterators are freed before close. */
#pragma once
#include "spool/base/slice.h"

struct index;
struct index_iter;

struct index_ops {
    /* Gathers into the batch that the next commit writes atomically. Keys up to 1 KiB, values up to 64 KiB; copied. */
    void (*put)(struct index *ix, struct slice key, struct slice value);
    void (*del)(struct index *ix, struct slice key);
    /* Writes the batch together with the log position up to which records are applied. Not yet durable. */
    int (*commit)(struct index *ix, uint64_t applied_pos);
    /* Makes everything committed durable (memtable flush). Synchronous; may take a while. */
    int (*flush)(struct index *ix);
    /* Begins to make everything committed durable and returns; durable() tells how far it came. */
    int (*flush_start)(struct index *ix);
    /* The log position of a commit that, with all before it, survives a crash of the machine. */
    uint64_t (*durable)(struct index *ix);
    /* As of the last commit; as found at open: the position replay starts from (0: empty index, full scan). */
    uint64_t (*applied)(struct index *ix);
    /* Copies the value to out_r (at most cap). Returns its length, or -SATCHEL_ENOENT, -SATCHEL_EIO. */
    int64_t (*get)(struct index *ix, struct slice key, void *out_r, size_t cap);
    /* Iterates keys in [from, to) in order, on a snapshot. key and value borrow until the next call. */
    struct index_iter *(*iter)(struct index *ix, struct slice from, struct slice to);
    bool (*next)(struct index_iter *it, struct slice *key_r, struct slice *value_r);
    void (*iter_free)(struct index_iter **it);
    /* flush first if a clean end is wanted. */
    void (*close)(struct index **ix);
};

struct index {
    const struct index_ops *ops;
};

/* dir is made if missing. cache_bytes bounds block cache, memtable_bytes one memtable.  An index that does not open
 * (damaged, other version) is an error; the caller may index_rocks_destroy it and rebuild from the log. */
int index_rocks_open(struct index **ix_r, const char *dir, size_t cache_bytes, size_t memtable_bytes);
int index_rocks_destroy(const char *dir);

int index_ram_open(struct index **ix_r);
/* The crash of a machine: keeps the commits up to the last flush and `extra` later ones (never part of one). */
void index_ram_crash(struct index *ix, uint64_t extra);
/* Commits since the last flush. */
uint64_t index_ram_unflushed(struct index *ix);
