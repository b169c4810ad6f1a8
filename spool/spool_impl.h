/* spool_impl.h - what the files of the spool share: its threads, and the appends that travel between them.
 *
 *   door (worker thread)          committer thread              indexer thread
 *   ------------------------      ------------------------      ------------------------
 *   makes a spool_append   ---->  seglog_append, group, sync
 *                                 done: result is known   ---->  queue_apply, then frees it
 *   250 to the client      <----  (posts the owner's mail)
 *
 * An append that failed also goes to the indexer, so that the queue hears of its own under its lock.
 * Lock: q_lock guards the queue (see queue.h).  It is held for bounded batches only, never across a wait for the disk's
 * sync, except for the reads of reclaim. */
#pragma once
#include "spool/base/err.h"
#include "spool/base/mailbox.h"
#include "spool/pinned.h"
#include "spool/spool.h"

#include <pthread.h>

enum append_kind {
    APPEND_RECORD, /* a door's: freed by the indexer after it is applied */
    APPEND_QUEUE,  /* the queue's own entry, borrowed */
    APPEND_FREE,   /* not a record: free segment `seg`; travels the same way */
};

struct spool_append {
    struct mail mail; /* on its way to the committer, then to the indexer */
    struct spool *spool;
    enum append_kind kind;
    struct seglog_entry e;   /* APPEND_RECORD */
    struct seglog_entry *qe; /* APPEND_QUEUE; its done and arg are kept here while the log has it */
    seglog_done *q_done;
    void *q_arg;
    uint64_t seg; /* APPEND_FREE */
    int res;
    /* Runs on the committer as soon as the result is known, before the indexer has it (or on the copier: see
     * intake_post); may be NULL. The body is not read any more. */
    void (*settled)(struct spool_append *a);
    /* Runs on the indexer, under the queue's lock, once the record is applied; may be NULL. */
    void (*applied)(struct spool_append *a);
    void *owner;
    uint8_t meta[]; /* encoded meta of the record */
};

/* The append's entry, whichever kind it is. */
static inline struct seglog_entry *append_entry(struct spool_append *a)
{
    return a->kind == APPEND_QUEUE ? a->qe : &a->e;
}

struct door_bell;
struct outlet_door;
struct copy_door;
struct copier;

struct spool {
    struct spool_config cfg;
    const struct clock *clock;
    char *dir;
    int lock_fd, log_lock_fd;
    char *log_dir;
    struct disk *disk;
    struct pinned pinned;
    struct seglog *log;
    struct index *index;
    struct segread *reclaim_reader;
    struct queue *queue;
    pthread_mutex_t q_lock;

    struct mailbox to_committer, to_indexer;
    pthread_t committer, indexer;
    bool threads;
    atomic_bool wakes_soon; /* the committer sleeps, but not for long: see committer_ring_soon */
    atomic_bool stop_committer, stop_indexer;

    uint8_t incarnation[16];
    atomic_uint_fast64_t counter;    /* of message IDs */
    atomic_uint_fast64_t arrival_us; /* the last one given out or observed: see spool_stamp_us */
    atomic_bool draining;
    atomic_bool broken;             /* the index cannot follow the log: no more mail is taken */
    atomic_uint_fast64_t memory;    /* bytes of blocks, all doors */
    atomic_uint_fast64_t unapplied; /* appends the indexer has not freed yet */

    pthread_mutex_t segs_lock; /* the committer publishes the log's segments for the indexer's reclaim */
    uint64_t *segs;
    size_t segs_n;
    bool pressure;

    pthread_mutex_t doors_lock;  /* guards the two lists of doors */
    struct door_bell *bells;     /* of the intake doors */
    struct outlet_door *outlets; /* that listen for ready bags */
    struct copy_door *copies;    /* the storage door; under q_lock */
    struct copier *copier;       /* NULL: doors write to this log alone */

    struct spool_info info;
    atomic_bool reclaim_wanted;
};

/* append.c */
struct spool_append *append_alloc(struct spool *s, enum append_kind kind, size_t meta_cap);
/* A record of `type` with room for meta_cap bytes of meta; NULL: no memory. Set e.rec, e.flags, then append_post. */
struct spool_append *append_new(struct spool *s, enum rec_type type, size_t meta_cap);
void append_free(struct spool_append *a);
/* Hands it to the committer; ring the committer's bell after the last of a batch. */
void append_post(struct spool *s, struct spool_append *a);
/* Meta of a MSG: envelope, trace, chunk count (chunks > 0 makes it REC_F_CHUNKED). NULL: no memory. */
struct spool_append *append_msg(struct spool *s, const struct envelope *env, const struct msgid *id, struct slice trace,
                                uint32_t chunks, uint64_t body_bytes);
void spool_next_id(struct spool *s, struct msgid *id_r);

/* copied.c */
/* Room for a request behind the meta of each append; 0: there is no copier. */
size_t copied_bytes(const struct spool *s);
/* A record of an intake door goes to the copier, or where there is none to the log: settled runs on either's thread.
 * With a copier its meta names the domain (RT_DOMAIN). */
void intake_post(struct spool *s, struct spool_append *a);
/* Only with a copier. */
int copied_admit(struct spool *s, uint64_t size_hint);
void copied_ring(struct spool *s);

/* A door's bell: marked by what settles on a thread, rung by that thread once a batch.  A mark for each thread, which
 * no other touches. */
struct door_bell {
    struct door_bell *next;
    struct bell *bell;
    bool committer, copier;
};

/* committer.c, indexer.c: the threads' main functions */
void *committer_main(void *spool);
void *indexer_main(void *spool);
void committer_publish_segments(struct spool *s);
void committer_add_bell(struct spool *s, struct door_bell *b);
void committer_forget_bell(struct spool *s, struct door_bell *b);
/* Wakes the committer unless it wakes by itself in time: a group is being written, and what was posted goes with the
 * next one in any case; or lazy records wait.  So neither a batch of commits nor each DONE of a drain pays a wake-up.
 */
void committer_ring_soon(struct spool *s);

/* The place of a message in its bag: the order of acceptance, by the wall clock where that does not go back.  Any
 * thread. */
uint64_t spool_stamp_us(struct spool *s);
/* No later stamp is at or below this. */
void spool_observe(struct spool *s, uint64_t arrival_us);

/* door_copy.c: the queue's changed(), called under q_lock */
void storage_changed(struct copy_door *d, const struct storage_state *st);
/* The same, after a batch was committed: what the batch caused is told now, and can be seen. */
void storage_committed(struct copy_door *d);
/* door_out.c: the queue's ready(), called under q_lock */
void outlet_bag_ready(struct spool *s, struct slice domain);

static inline void spool_lock(struct spool *s)
{
    pthread_mutex_lock(&s->q_lock);
}
static inline void spool_unlock(struct spool *s)
{
    pthread_mutex_unlock(&s->q_lock);
}
