/* spool.h - the spool of one node: log, index and queue with their threads, behind two doors.
 *
 *   intake doors (one a worker) --ring--> committer thread (owns the log) --ring--> indexer thread (applies to the
 * queue) outlet doors (relay, admin) --lock--> queue;  what they change goes to the committer as records
 *
 * Thread: spool_open and spool_close from the composition root; doors from their own threads; the rest from any thread.
 */
#pragma once
#include "spool/intake.h"
#include "spool/outlet.h"
#include "spool/queue/queue.h"

struct spool;
struct storage;
struct copier;

struct spool_config {
    const char *dir;     /* segments in dir/log, index in dir/index, lock file dir/LOCK */
    const char *log_dir; /* NULL: dir/log.  Else a directory on another file system, with a LOCK beside the segments */
    enum disk_engine engine;
    struct seglog_config log;
    struct queue_config queue;
    size_t index_cache_bytes, index_memtable_bytes;
    uint64_t memory_bytes;      /* bodies on their way to the log, all sessions together: above it MAIL says 452 */
    uint32_t chunk_bytes;       /* a body longer than this goes to the log in pieces of this size; 256 KiB */
    uint64_t max_message_bytes; /* longer bodies end with -SATCHEL_ETOOBIG */
};
/* Defaults; dir is borrowed. */
void spool_config_init(struct spool_config *cfg, const char *dir);

/* Locks the directory (-SATCHEL_EBUSY: another daemon has it), recovers, starts the threads.  why_r: for the operator,
 * in words that name the remedy, at least 256 bytes. */
int spool_open(struct spool **s_r, const struct spool_config *cfg, char *why_r, size_t why_cap);
/* Doors are closed before. Ends the threads, flushes the index, closes the log. */
void spool_close(struct spool **s);

int spool_intake(struct spool *s, struct intake **in_r);
int spool_outlet(struct spool *s, struct outlet **o_r);
/* The third door, for the cluster's thread: see storage.h.  One a spool.  Closing it waits for what is under way. */
int spool_storage(struct spool *s, struct storage **st_r);
/* The UUID of this spool's log. */
void spool_storage_id(const struct spool *s, struct storage_id *id_r);

/* From now on the intake doors' records go to the copier (copier.h), and the ends of messages leave tombstones.  Before
 * doors are used; borrowed until the spool is closed.  NULL: there is none. */
void spool_set_copier(struct spool *s, struct copier *c);
/* The copier, on its thread, after a batch of settled: wakes the doors that have something to do. */
void spool_doors_ring(struct spool *s);

/* Stops admitting new mail (ESHUT); transactions under way may commit. */
void spool_drain(struct spool *s);

struct spool_info {
    struct seglog_info log;
    struct seglog_open_stats opened; /* what recovery found */
    uint64_t open_us;                /* how long spool_open took */
    bool index_rebuilt;
    bool index_failed; /* no new mail is taken until a restart */
};
void spool_info(struct spool *s, struct spool_info *info_r);
/* Sets the spool's and queue's gauges in the metrics table. */
void spool_gauges(struct spool *s);

void spool_bag_stat(struct spool *s, struct slice domain, struct bag_stat *st_r);
void spool_bags(struct spool *s, void (*each)(void *arg, struct slice domain, const struct bag_stat *st), void *arg);
int spool_list(struct spool *s, struct slice domain, struct slice after,
               bool (*each)(void *arg, const struct queue_entry *e), void *arg, uint8_t *cursor_r, size_t *cursor_n_r);
/* Whose bag a live message lies in.  0, -SATCHEL_ENOENT. domain_r: NUL-terminated, 256 bytes. */
int spool_find(struct spool *s, const struct msgid *id, char domain_r[256]);
uint64_t spool_flush_domain(struct spool *s, struct slice domain);
