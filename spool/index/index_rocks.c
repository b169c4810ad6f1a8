/* index_rocks.c - the index in RocksDB: one column family, no write-ahead log, the log position in every batch.
 *
 * Memtables are flushed in the order they were filled, so a crash leaves the batches up to some point and none after
 * it; the position stored with the last of them says where the replay of the segment log starts.
 *
 * How far a flush in the background came is seen from outside: flush_start switches the memtable, and once RocksDB
 * counts no memtable that waits for its flush, everything up to the switch is in synced files.
 *
 * Settings that were measured or are there for a reason:
 *   paranoid_checks        on: a damaged file is an error at open, and the index is rebuilt from the log
 *   max_background_jobs    below 8
 *   checksum xxh3          this build has no fast crc32c
 *   whole-key bloom filter a look-up of an ID that is not there reads no block
 *   filters outside the    the cache is split into shards, and a filter larger than a shard is never kept: each look-up
 *   block cache            read it again (measured: 250 us instead of 6).  About 1.3 bytes a key stay in memory instead
 *   info log               errors only, small: it grows without end otherwise */
#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/wire.h"
#include "spool/index/index.h"
#include "spool/index/sortbatch.h"
#include <rocksdb/c.h>
#include <stdlib.h>

enum { ROCKS_NO_COMPRESSION = 0, ROCKS_LZ4 = 4, ROCKS_XXH3 = 4, ROCKS_LOG_ERROR = 3, ROCKS_LEVELS = 7 };

static const char applied_key[] = {0, 'a'};

struct rocks {
    struct index base;
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_writeoptions_t *write;
    rocksdb_readoptions_t *read;
    rocksdb_flushoptions_t *flush_wait, *flush_go;
    rocksdb_writebatch_t *batch;
    struct sortbatch pending; /* goes into batch at the commit */
    uint64_t applied, flushing, durable;
};

struct index_iter {
    rocksdb_iterator_t *it;
    rocksdb_readoptions_t *read;
    bool started;
    uint8_t *upper; /* RocksDB borrows it */
};

static struct rocks *rocks_of(struct index *ix)
{
    return (struct rocks *)ix;
}

/* Takes the error text over. 0 or -SATCHEL_EIO. */
static int rocks_result(char *err, const char *what)
{
    if (!err)
        return 0;
    char text[512];
    log_error("index.error", "what=%s reason=%s", what, log_quote(slice_str(err), text, sizeof text));
    rocksdb_free(err);
    return -SATCHEL_EIO;
}

static void rocks_put(struct index *ix, struct slice key, struct slice value)
{
    if (!sortbatch_add(&rocks_of(ix)->pending, key, value, false))
        abort(); /* as RocksDB itself does without memory */
}

static void rocks_del(struct index *ix, struct slice key)
{
    if (!sortbatch_add(&rocks_of(ix)->pending, key, slice_of(NULL, 0), true))
        abort();
}

static void batch_add(void *arg, struct slice key, struct slice value, bool del)
{
    rocksdb_writebatch_t *batch = arg;
    if (del)
        rocksdb_writebatch_delete(batch, (const char *)key.p, key.n);
    else
        rocksdb_writebatch_put(batch, (const char *)key.p, key.n, (const char *)value.p, value.n);
}

static int rocks_commit(struct index *ix, uint64_t applied_pos)
{
    struct rocks *r = rocks_of(ix);
    char *err = NULL;
    uint8_t value[8];
    struct wire_wr w = wire_wr(value, sizeof value);
    wire_put_u64(&w, applied_pos);
    sortbatch_drain(&r->pending, batch_add, r->batch);
    rocksdb_writebatch_put(r->batch, applied_key, sizeof applied_key, (const char *)value, sizeof value);
    rocksdb_write(r->db, r->write, r->batch, &err);
    rocksdb_writebatch_clear(r->batch);
    int res = rocks_result(err, "commit");
    if (res == 0)
        r->applied = applied_pos;
    return res;
}

static int rocks_flush(struct index *ix)
{
    struct rocks *r = rocks_of(ix);
    char *err = NULL;
    rocksdb_flush(r->db, r->flush_wait, &err);
    int res = rocks_result(err, "flush");
    if (res == 0)
        r->durable = r->flushing = r->applied;
    return res;
}

static int rocks_flush_start(struct index *ix)
{
    struct rocks *r = rocks_of(ix);
    char *err = NULL;
    uint64_t at = r->applied;
    rocksdb_flush(r->db, r->flush_go, &err);
    int res = rocks_result(err, "flush");
    if (res == 0)
        r->flushing = at;
    return res;
}

static uint64_t rocks_durable(struct index *ix)
{
    struct rocks *r = rocks_of(ix);
    uint64_t waiting = 1;
    if (r->flushing > r->durable && rocksdb_property_int(r->db, "rocksdb.num-immutable-mem-table", &waiting) == 0 &&
        waiting == 0)
        r->durable = r->flushing;
    return r->durable;
}

static uint64_t rocks_applied(struct index *ix)
{
    return rocks_of(ix)->applied;
}

static int64_t rocks_get(struct index *ix, struct slice key, void *out_r, size_t cap)
{
    struct rocks *r = rocks_of(ix);
    char *err = NULL;
    rocksdb_pinnableslice_t *pin = rocksdb_get_pinned(r->db, r->read, (const char *)key.p, key.n, &err);
    if (err)
        return rocks_result(err, "get");
    if (!pin)
        return -SATCHEL_ENOENT;
    size_t n;
    const char *value = rocksdb_pinnableslice_value(pin, &n);
    if (n)
        memcpy(out_r, value, n < cap ? n : cap);
    rocksdb_pinnableslice_destroy(pin);
    return (int64_t)n;
}

static struct index_iter *rocks_iter(struct index *ix, struct slice from, struct slice to)
{
    struct rocks *r = rocks_of(ix);
    struct index_iter *it = calloc(1, sizeof *it);
    if (!it || !(it->upper = malloc(to.n ? to.n : 1))) {
        free(it);
        return NULL;
    }
    if (to.n)
        memcpy(it->upper, to.p, to.n);
    it->read = rocksdb_readoptions_create();
    rocksdb_readoptions_set_iterate_upper_bound(it->read, (const char *)it->upper, to.n);
    it->it = rocksdb_create_iterator(r->db, it->read);
    rocksdb_iter_seek(it->it, (const char *)from.p, from.n);
    return it;
}

static bool rocks_next(struct index_iter *it, struct slice *key_r, struct slice *value_r)
{
    if (it->started && rocksdb_iter_valid(it->it))
        rocksdb_iter_next(it->it);
    it->started = true;
    if (!rocksdb_iter_valid(it->it)) {
        char *err = NULL;
        rocksdb_iter_get_error(it->it, &err);
        rocks_result(err, "iterate");
        return false;
    }
    size_t n;
    const char *p = rocksdb_iter_key(it->it, &n);
    *key_r = slice_of(p, n);
    p = rocksdb_iter_value(it->it, &n);
    *value_r = slice_of(p, n);
    return true;
}

static void rocks_iter_free(struct index_iter **it)
{
    if (!*it)
        return;
    rocksdb_iter_destroy((*it)->it);
    rocksdb_readoptions_destroy((*it)->read);
    free((*it)->upper);
    free(*it);
    *it = NULL;
}

static void rocks_close(struct index **ix)
{
    if (!*ix)
        return;
    struct rocks *r = rocks_of(*ix);
    if (r->db)
        rocksdb_close(r->db);
    rocksdb_writebatch_destroy(r->batch);
    sortbatch_free(&r->pending);
    rocksdb_flushoptions_destroy(r->flush_wait);
    rocksdb_flushoptions_destroy(r->flush_go);
    rocksdb_readoptions_destroy(r->read);
    rocksdb_writeoptions_destroy(r->write);
    rocksdb_options_destroy(r->options);
    free(r);
    *ix = NULL;
}

static const struct index_ops rocks_ops = {
    .put = rocks_put,
    .del = rocks_del,
    .commit = rocks_commit,
    .flush = rocks_flush,
    .flush_start = rocks_flush_start,
    .durable = rocks_durable,
    .applied = rocks_applied,
    .get = rocks_get,
    .iter = rocks_iter,
    .next = rocks_next,
    .iter_free = rocks_iter_free,
    .close = rocks_close,
};

static void rocks_table_options(rocksdb_options_t *o, size_t cache_bytes)
{
    rocksdb_block_based_table_options_t *t = rocksdb_block_based_options_create();
    rocksdb_cache_t *cache = rocksdb_cache_create_lru(cache_bytes);
    rocksdb_block_based_options_set_block_cache(t, cache);
    rocksdb_block_based_options_set_filter_policy(t, rocksdb_filterpolicy_create_bloom_full(10));
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(t, 0);
    rocksdb_block_based_options_set_checksum(t, ROCKS_XXH3);
    rocksdb_options_set_block_based_table_factory(o, t);
    rocksdb_cache_destroy(cache); /* the table factory keeps a reference */
    rocksdb_block_based_options_destroy(t);
}

/* The young levels are rewritten soon and stay raw; what stays is worth LZ4. */
static void rocks_compression(rocksdb_options_t *o)
{
    int level[ROCKS_LEVELS];
    for (int i = 0; i < ROCKS_LEVELS; i++)
        level[i] = i < 2 ? ROCKS_NO_COMPRESSION : ROCKS_LZ4;
    rocksdb_options_set_compression_per_level(o, level, ROCKS_LEVELS);
}

static rocksdb_options_t *rocks_options(size_t cache_bytes, size_t memtable_bytes)
{
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(o, 1);
    rocksdb_options_set_paranoid_checks(o, 1);
    rocksdb_options_set_max_background_jobs(o, 2);
    rocksdb_options_set_write_buffer_size(o, memtable_bytes);
    rocksdb_options_set_max_write_buffer_number(o, 3);
    rocksdb_options_set_allow_concurrent_memtable_write(o, 0); /* one writer */
    rocksdb_options_set_memtable_prefix_bloom_size_ratio(o, 0);
    rocksdb_options_set_max_open_files(o, 256);
    rocksdb_options_set_skip_stats_update_on_db_open(o, 1);
    rocksdb_options_set_level_compaction_dynamic_level_bytes(o, 1);
    rocksdb_options_set_info_log_level(o, ROCKS_LOG_ERROR);
    rocksdb_options_set_keep_log_file_num(o, 2);
    rocksdb_options_set_max_log_file_size(o, 1 << 20);
    rocksdb_options_set_stats_dump_period_sec(o, 0);
    rocks_compression(o);
    rocks_table_options(o, cache_bytes);
    return o;
}

/* The position stored with the last batch that survived; 0 for a new index. */
static int rocks_load_applied(struct rocks *r)
{
    uint8_t value[8];
    int64_t n = rocks_get(&r->base, slice_of(applied_key, sizeof applied_key), value, sizeof value);
    if (n == -SATCHEL_ENOENT)
        return 0;
    if (n < 0)
        return (int)n;
    if (n != sizeof value)
        return -SATCHEL_EDAMAGED;
    struct wire_rd rd = wire_rd(slice_of(value, sizeof value));
    r->applied = r->flushing = r->durable = wire_u64(&rd);
    return 0;
}

int index_rocks_open(struct index **ix_r, const char *dir, size_t cache_bytes, size_t memtable_bytes)
{
    struct rocks *r = calloc(1, sizeof *r);
    if (!r)
        return -SATCHEL_ENOMEM;
    r->base.ops = &rocks_ops;
    r->options = rocks_options(cache_bytes, memtable_bytes);
    r->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(r->write, 1);
    r->read = rocksdb_readoptions_create();
    r->flush_wait = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(r->flush_wait, 1);
    r->flush_go = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(r->flush_go, 0);
    r->batch = rocksdb_writebatch_create();
    char *err = NULL;
    r->db = rocksdb_open(r->options, dir, &err);
    int res = rocks_result(err, "open");
    if (res == 0)
        res = rocks_load_applied(r);
    struct index *ix = &r->base;
    if (res)
        rocks_close(&ix);
    *ix_r = ix;
    return res;
}

int index_rocks_destroy(const char *dir)
{
    rocksdb_options_t *o = rocksdb_options_create();
    char *err = NULL;
    rocksdb_destroy_db(o, dir, &err);
    rocksdb_options_destroy(o);
    return rocks_result(err, "destroy");
}
