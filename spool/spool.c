/* spool.c - opening and closing the spool of one node; what any thread may ask of it. */
#include "spool/spool.h"

#include "spool/base/log.h"
#include "spool/base/metrics.h"
#include "spool/base/rng.h"
#include "spool/spool_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    REPLAY_BATCH = 1024,
    PINNED_SHARE = 32, /* of memory_bytes, this part is slabs that are registered with the disk */
};

void spool_config_init(struct spool_config *cfg, const char *dir)
{
    *cfg = (struct spool_config){
        .dir = dir,
        .log = seglog_config_default,
        .queue = queue_config_default,
        .index_cache_bytes = 64u << 20,
        .index_memtable_bytes = 32u << 20,
        .memory_bytes = 256u << 20,
        .chunk_bytes = 256u << 10,
        .max_message_bytes = 50u << 20,
    };
    cfg->queue.settle_us = 5000000;
}

/* ---- opening */

static int lock_dir(const char *dir, int *fd_r, char *why_r, size_t why_cap)
{
    char path[4096];
    if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
        snprintf(why_r, why_cap, "%s: %s: make the directory's parent, or choose another data_dir", dir,
                 strerror(errno));
        return -errno;
    }
    snprintf(path, sizeof path, "%s/LOCK", dir);
    *fd_r = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*fd_r < 0) {
        snprintf(why_r, why_cap, "%s: %s: the daemon's user must own data_dir", path, strerror(errno));
        return -errno;
    }
    if (flock(*fd_r, LOCK_EX | LOCK_NB) < 0) {
        snprintf(why_r, why_cap, "%s is in use by another satcheld: stop it, or give this one a data_dir of its own",
                 dir);
        return -SATCHEL_EBUSY;
    }
    return 0;
}

struct replay {
    struct spool *s;
    uint32_t batch;
    uint64_t last_pos;
};

static int replay_record(void *arg, const struct record *rec, uint64_t pos, uint32_t size)
{
    struct replay *r = arg;
    if (rec->type == REC_MSG)
        spool_observe(r->s, rec->arrival_us);
    int rc = queue_apply(r->s->queue, rec, pos, size);
    r->last_pos = pos + size;
    if (rc == 0 && ++r->batch >= REPLAY_BATCH) {
        r->batch = 0;
        rc = queue_commit(r->s->queue, r->last_pos);
    }
    return rc;
}

static void replay_damaged(void *arg, uint64_t pos, uint64_t bytes)
{
    struct replay *r = arg;
    log_error("spool.damaged",
              "segment=%llu offset=%u bytes=%llu remedy=\"kept in %s/quarantine-*; see satchelctl "
              "spool check\"",
              (unsigned long long)logpos_seg(pos), logpos_off(pos), (unsigned long long)bytes, r->s->log_dir);
}

/* The port's calls come under q_lock, under which stop_threads also sets stop_committer: nothing is posted that is
 * never read. */
static int port_append(void *ctx, struct seglog_entry *e)
{
    struct spool *s = ctx;
    if (atomic_load(&s->stop_committer))
        return -SATCHEL_ESHUT;
    struct spool_append *a = append_alloc(s, APPEND_QUEUE, 0);
    if (!a)
        return -SATCHEL_ENOMEM;
    a->qe = e;
    append_post(s, a);
    return 0;
}

static void port_free_segment(void *ctx, uint64_t seg)
{
    struct spool *s = ctx;
    struct spool_append *a = atomic_load(&s->stop_committer) ? NULL : append_alloc(s, APPEND_FREE, 0);
    if (!a)
        return; /* the segment stays as it is until the next start */
    a->seg = seg;
    append_post(s, a);
}

static void port_ready(void *ctx, struct slice domain)
{
    outlet_bag_ready(ctx, domain);
}

static void port_changed(void *ctx, const struct storage_state *st)
{
    struct spool *s = ctx;
    if (s->copies)
        storage_changed(s->copies, st);
}

static int open_index(struct spool *s)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/index", s->dir);
    int rc = index_rocks_open(&s->index, path, s->cfg.index_cache_bytes, s->cfg.index_memtable_bytes);
    if (rc == 0)
        return 0;
    log_warning("spool.index_rebuild", "index=%s error=\"%s\" action=\"rebuilding it from the log\"", path,
                satchel_strerror(rc));
    index_rocks_destroy(path);
    s->info.index_rebuilt = true;
    return index_rocks_open(&s->index, path, s->cfg.index_cache_bytes, s->cfg.index_memtable_bytes);
}

static int open_queue(struct spool *s)
{
    const struct queue_port port = {port_append, port_free_segment, port_ready, s, port_changed};
    return queue_open(&s->queue, &s->cfg.queue, s->index, s->clock, s->reclaim_reader, &port);
}

static void close_queue(struct spool *s)
{
    queue_close(&s->queue);
    if (s->index)
        s->index->ops->close(&s->index);
}

static int open_log(struct spool *s)
{
    struct replay r = {.s = s};
    const struct seglog_replay replay = {replay_record, replay_damaged, &r};
    int rc = seglog_open(&s->log, &s->cfg.log, s->disk, s->clock, &replay, queue_applied(s->queue), &s->info.opened);
    return rc == 0 && r.last_pos ? queue_commit(s->queue, r.last_pos) : rc;
}

/* unfit_r: why the index does not belong to this log, where that is what is wrong. */
static int open_all(struct spool *s, const char **unfit_r)
{
    *unfit_r = NULL;
    int rc = open_index(s);
    if (rc == 0 && (rc = open_queue(s)) == -SATCHEL_EDAMAGED)
        *unfit_r = "it cannot be read, or another version wrote it";
    uint64_t applied = rc == 0 ? queue_applied(s->queue) : 0;
    if (rc == 0)
        rc = open_log(s);
    if (rc < 0)
        return rc;
    if (applied > s->info.opened.next_pos) {
        *unfit_r = "it is ahead of the log";
        return -SATCHEL_EDAMAGED;
    }
    committer_publish_segments(s);
    spool_lock(s);
    rc = queue_recovered(s->queue, s->segs, s->segs_n);
    spool_unlock(s);
    if (rc == -SATCHEL_EDAMAGED)
        *unfit_r = "it contradicts the log";
    return rc;
}

/* An index that does not belong to the log is thrown away, and the log read as a whole. */
static int open_matching(struct spool *s)
{
    const char *unfit;
    int rc = open_all(s, &unfit);
    if (!unfit)
        return rc;
    char path[4096];
    snprintf(path, sizeof path, "%s/index", s->dir);
    log_warning("spool.index_rebuild", "index=%s error=\"%s\" action=\"rebuilding it from the log\"", path, unfit);
    seglog_close(&s->log);
    close_queue(s);
    index_rocks_destroy(path);
    s->info.index_rebuilt = true;
    return open_all(s, &unfit);
}

/* Whether the disk takes it or not, groups and bodies lie there. */
static int pin_memory(struct spool *s)
{
    uint64_t slabs = s->cfg.memory_bytes / PINNED_SHARE / SLAB_BYTES;
    slabs = slabs < 1 ? 1 : slabs > PINNED_SLABS_MAX ? PINNED_SLABS_MAX : slabs;
    int rc = pinned_map(&s->pinned, (uint32_t)slabs, seglog_group_bytes(&s->cfg.log));
    if (rc < 0)
        return rc;
    s->cfg.log.group_memory = s->pinned.groups;
    rc = s->disk->ops->register_memory(s->disk, s->pinned.base, s->pinned.bytes);
    if (rc == -SATCHEL_ENOMEM)
        log_info("spool.not_registered",
                 "bytes=%zu why=\"over the limit of locked memory: each write pins its pages\" remedy=\"ulimit -l %zu, "
                 "or LimitMEMLOCK= in the unit\"",
                 s->pinned.bytes, s->pinned.bytes / 1024);
    return 0;
}

static int recover(struct spool *s, char *why_r, size_t why_cap)
{
    const char *path = s->log_dir;
    int rc = disk_file_open(&s->disk, path, s->cfg.engine);
    if (rc == 0)
        rc = pin_memory(s);
    if (rc == 0)
        rc = segread_open(&s->reclaim_reader, s->disk);
    if (rc == 0)
        rc = open_matching(s);
    if (rc == -SATCHEL_EVERSION)
        snprintf(why_r, why_cap,
                 "%s was written by another version of Satchel: start that version, or an empty data_dir", path);
    else if (rc == -SATCHEL_EFULL)
        snprintf(why_r, why_cap, "%s: no room for the reserve of segments: free disk space, or lower spool.segment",
                 path);
    else if (rc < 0)
        snprintf(why_r, why_cap, "%s: %s: satchelctl spool check --dir %s tells more", path, satchel_strerror(rc),
                 s->dir);
    return rc;
}

static int start_threads(struct spool *s, char *why_r, size_t why_cap)
{
    int rc = -pthread_create(&s->committer, NULL, committer_main, s);
    if (rc == 0) {
        rc = -pthread_create(&s->indexer, NULL, indexer_main, s);
        if (rc < 0) {
            atomic_store(&s->stop_committer, true);
            bell_ring(&s->to_committer.bell);
            pthread_join(s->committer, NULL);
        }
    }
    s->threads = rc == 0;
    if (rc == 0) {
        pthread_setname_np(s->committer, "committer");
        pthread_setname_np(s->indexer, "indexer");
    }
    if (rc < 0)
        snprintf(why_r, why_cap, "cannot start threads: %s", satchel_strerror(rc));
    return rc;
}

static void log_opened(const struct spool *s)
{
    const struct seglog_open_stats *o = &s->info.opened;
    log_info("spool.opened",
             "dir=%s segments=%llu records=%llu read_bytes=%llu torn_bytes=%llu salvaged=%llu damaged=%llu rebuilt=%d "
             "ms=%llu",
             s->dir, (unsigned long long)o->segments, (unsigned long long)o->records, (unsigned long long)o->bytes_read,
             (unsigned long long)o->torn_bytes, (unsigned long long)o->salvaged_records,
             (unsigned long long)o->damaged_ranges, s->info.index_rebuilt, (unsigned long long)s->info.open_us / 1000);
}

static struct spool *spool_new(const struct spool_config *cfg)
{
    struct spool *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->cfg = *cfg;
    s->clock = clock_system();
    s->dir = strdup(cfg->dir);
    if (cfg->log_dir)
        s->log_dir = strdup(cfg->log_dir);
    else if (asprintf(&s->log_dir, "%s/log", cfg->dir) < 0)
        s->log_dir = NULL;
    s->lock_fd = s->log_lock_fd = -1;
    s->to_committer.bell.fd = s->to_indexer.bell.fd = -1;
    pthread_mutex_init(&s->q_lock, NULL);
    pthread_mutex_init(&s->segs_lock, NULL);
    pthread_mutex_init(&s->doors_lock, NULL);
    rng_bytes(s->incarnation, sizeof s->incarnation);
    return s;
}

int spool_open(struct spool **s_r, const struct spool_config *cfg, char *why_r, size_t why_cap)
{
    struct spool *s = spool_new(cfg);
    if (!s)
        return -SATCHEL_ENOMEM;
    uint64_t t0 = clock_boot_us(s->clock);
    int rc = lock_dir(s->dir, &s->lock_fd, why_r, why_cap);
    if (rc == 0 && cfg->log_dir)
        rc = lock_dir(s->log_dir, &s->log_lock_fd, why_r, why_cap);
    if (rc == 0 && ((rc = mailbox_init(&s->to_committer)) < 0 || (rc = mailbox_init(&s->to_indexer)) < 0))
        snprintf(why_r, why_cap, "eventfd: %s", satchel_strerror(rc));
    if (rc == 0)
        rc = recover(s, why_r, why_cap);
    if (rc == 0) {
        s->disk->wake_fd = s->to_committer.bell.fd;
        rc = start_threads(s, why_r, why_cap);
    }
    if (rc < 0) {
        spool_close(&s);
        return rc;
    }
    s->info.open_us = clock_boot_us(s->clock) - t0;
    log_opened(s);
    *s_r = s;
    return 0;
}

/* ---- closing */

static void stop_threads(struct spool *s)
{
    /* The indexer first ends what it does to the log (moves), the committer then runs dry, the indexer applies the
     * rest. */
    atomic_store(&s->stop_committer, true);
    bell_ring(&s->to_committer.bell);
    pthread_join(s->committer, NULL);
    atomic_store(&s->stop_indexer, true);
    bell_ring(&s->to_indexer.bell);
    pthread_join(s->indexer, NULL);
}

void spool_close(struct spool **sp)
{
    struct spool *s = *sp;
    if (!s)
        return;
    if (s->threads)
        stop_threads(s);
    if (s->index && s->threads)
        s->index->ops->flush(s->index);
    close_queue(s);
    seglog_close(&s->log);
    segread_close(&s->reclaim_reader);
    if (s->disk)
        s->disk->ops->destroy(s->disk);
    pinned_unmap(&s->pinned);
    mailbox_destroy(&s->to_committer);
    mailbox_destroy(&s->to_indexer);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    if (s->log_lock_fd >= 0)
        close(s->log_lock_fd);
    pthread_mutex_destroy(&s->q_lock);
    pthread_mutex_destroy(&s->segs_lock);
    pthread_mutex_destroy(&s->doors_lock);
    free(s->segs);
    free(s->dir);
    free(s->log_dir);
    free(s);
    *sp = NULL;
}

void spool_set_copier(struct spool *s, struct copier *c)
{
    s->copier = c;
}

void spool_doors_ring(struct spool *s)
{
    pthread_mutex_lock(&s->doors_lock);
    for (struct door_bell *b = s->bells; b; b = b->next) {
        if (b->copier)
            bell_ring(b->bell);
        b->copier = false;
    }
    pthread_mutex_unlock(&s->doors_lock);
}

void spool_storage_id(const struct spool *s, struct storage_id *id_r)
{
    struct seglog_info info;
    seglog_info(s->log, &info);
    memcpy(id_r->b, info.storage_uuid, sizeof id_r->b);
}

void spool_drain(struct spool *s)
{
    atomic_store(&s->draining, true);
}

/* ---- looking */

void spool_info(struct spool *s, struct spool_info *info_r)
{
    *info_r = s->info;
    seglog_info(s->log, &info_r->log);
    info_r->index_failed = atomic_load(&s->broken);
}

void spool_gauges(struct spool *s)
{
    struct seglog_info log;
    struct queue_stat q;
    struct queue_totals totals;
    seglog_info(s->log, &log);
    spool_lock(s);
    queue_stat(s->queue, &q);
    queue_totals(s->queue, &totals);
    spool_unlock(s);
    uint64_t now = clock_wall_us(s->clock);
    metric_set(M_SPOOL_FENCED, log.fenced);
    metric_set(M_SPOOL_SEGMENTS, log.used_segments);
    metric_set(M_SPOOL_FREE_BYTES, log.room_bytes);
    metric_set(M_QUEUE_MESSAGES, q.messages);
    metric_set(M_QUEUE_BYTES, q.bytes);
    metric_set(M_QUEUE_DOMAINS, q.domains);
    metric_set(M_QUEUE_TOMBS, totals.tombs);
    metric_set(M_QUEUE_TOMBS_OWED, totals.tombs_owed);
    metric_set(M_QUEUE_OLDEST_SECONDS, q.oldest_us && q.oldest_us < now ? (now - q.oldest_us) / 1000000 : 0);
}

void spool_bag_stat(struct spool *s, struct slice domain, struct bag_stat *st_r)
{
    spool_lock(s);
    queue_bag_stat(s->queue, domain, st_r);
    spool_unlock(s);
}

void spool_bags(struct spool *s, void (*each)(void *arg, struct slice domain, const struct bag_stat *st), void *arg)
{
    spool_lock(s);
    queue_bags(s->queue, each, arg);
    spool_unlock(s);
}

int spool_list(struct spool *s, struct slice domain, struct slice after,
               bool (*each)(void *arg, const struct queue_entry *e), void *arg, uint8_t *cursor_r, size_t *cursor_n_r)
{
    return queue_list(s->queue, domain, after, each, arg, cursor_r, cursor_n_r);
}

int spool_find(struct spool *s, const struct msgid *id, char domain_r[256])
{
    struct queue_entry e;
    return queue_find(s->queue, id, &e, domain_r);
}

uint64_t spool_flush_domain(struct spool *s, struct slice domain)
{
    spool_lock(s);
    uint64_t n = queue_flush_domain(s->queue, domain);
    spool_unlock(s);
    return n;
}
