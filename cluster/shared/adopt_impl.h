/* adopt_impl.h - what the files of adoption share.
 *
 *   adopt.c    which logs are looked at, which shards wait for them; time, life
 *   learn.c    what became of messages there
 *   take.c     live mail from there to here
 *
 * The census of a log is not touched while the log is scanned, and no log is scanned while a batch of it is under way.
 * Mail is taken only while no scan is under way, so that each message can be looked up in all of them. */
#pragma once
#include "cluster/shared/adopt.h"
#include "cluster/shared/reader.h"

enum { BATCHES_MAX = 4, RETRY_US = 1000000 };

struct alog {
    struct alog *next;
    struct adopt *a;
    struct storage_id id;
    char name[NODE_NAME_MAX];
    struct foreign *f;
    struct reader_job job; /* the scan */
    bool scanning;
    bool wanted; /* else freed as soon as nothing of it is under way */
    bool named;  /* some shard of ours names it */
    bool known;  /* scanned */
    bool given_up, anew, said;
    uint32_t busy;      /* batches and ends under way */
    uint64_t since_us;  /* wanted, and named if it is */
    uint64_t known_us;  /* 0: not yet */
    uint64_t look_us;   /* next scan */
    uint64_t anew_us;   /* pause between scans from the beginning */
    uint32_t *shard_of; /* of each name of the census, in the map that we have */
    uint32_t live_at, ends_at;
};

struct adopt {
    struct adopt_config cfg;
    struct adopt_env env;
    struct reader *reader;
    const struct cmap *map;
    struct alog *logs;
    uint32_t *left; /* of each shard: known to be live in some log and not here yet */
    bool *ours;     /* of each shard: we own it */
    uint32_t shards_n, ours_n;
    uint32_t scans, batches; /* under way */
    struct learn *learns;    /* ends under way or to be tried again */
    uint64_t next_us, pause_us;
    uint32_t learning; /* merges that the storage has */
    bool closing;
    bool dirty; /* counts and places are to be made anew */
    struct adopt_info info;
};

/* ---- adopt.c */
uint64_t adopt_now(const struct adopt *a);
void adopt_wake(struct adopt *a, uint64_t at_us);
static inline uint32_t alog_shard(const struct alog *l, const struct census_entry *e)
{
    uint32_t s = e->domain == UINT32_MAX || !l->shard_of ? UINT32_MAX : l->shard_of[e->domain];
    return s < l->a->shards_n ? s : UINT32_MAX; /* the map may be newer than the counts */
}
static inline bool alog_ours(const struct alog *l, const struct census_entry *e)
{
    uint32_t s = alog_shard(l, e);
    return s != UINT32_MAX && l->a->ours[s];
}
/* Its census may be read. */
static inline bool alog_open(const struct alog *l)
{
    return l->wanted && l->known && !l->scanning;
}
/* The entry needs nothing any more. */
void alog_finish(struct alog *l, struct census_entry *e, enum census_flags how);
/* A record was not where the census has it. */
void alog_again(struct alog *l);

/* ---- learn.c */
/* Ends of this log that are on their way for the first time. */
bool learn_pending(const struct adopt *a, const struct alog *l);
/* true: there is more to do at once. */
bool learn_step(struct adopt *a);
/* What `from` knows to be final is live in `l`: a tombstone is made here that is owed to l's storage, so that it does
 * not come from there when that is back.  false: too many are under way, ask again. */
bool learn_tell(struct alog *l, struct alog *from, const struct census_entry *e);
void learn_tick(struct adopt *a, uint64_t now);
void learn_close(struct adopt *a);

/* ---- take.c */
bool take_step(struct adopt *a);
