/* adopt.h - mail of dead nodes, taken from their logs on the shared file system into our own.
 *
 *   a node with our mount is dead, and we own shards -> its log is scanned (reader.h) -> its ends become ours where we
 *   have the message -> live messages of shards that we own are put here, oldest first, as they arrived
 *   -> its log is looked at again until the node is live: a zombie may still accept mail
 *
 * Each put is idempotent by ID.  The dead node's storage is added to the copyset of each message, so that the end of it
 * is owed to that storage and the node learns it by the ordinary comparison when it is back, before it delivers.
 *
 * adopt_may gates the owner: a shard is delivered once the logs of its dead members are known and what is live in them
 * is here, or hold_us after they are known.  Until then new mail of the shard waits behind the older mail that is still
 * being taken, so the order within a domain is kept; after hold_us it may overtake.  A log that cannot be read holds a
 * shard for give_up_us at most: what is in it is delivered later, by us or by its node.
 *
 * Two dead nodes that knew the same message: what one of them knows to be final is not taken from the other.
 *
 * Thread: the cluster's; files are read by a thread of its own. */
#pragma once
#include "cluster/map/map.h"
#include "spool/storage.h"

struct adopt;

struct adopt_config {
    struct storage_id self, mount;
    const char *dir;      /* of the mount */
    uint64_t look_us;     /* between looks at a log that is known; 2 s */
    uint64_t other_us;    /* so long a log waits that no shard of ours names; 10 s */
    uint64_t hold_us;     /* 5 s */
    uint64_t give_up_us;  /* 30 s */
    uint32_t batch_bytes; /* read at a time; 2 MiB */
};
void adopt_config_init(struct adopt_config *cfg);

struct adopt_env {
    const struct clock *clock;
    struct storage *storage;
    /* The shard of a domain in this map; UINT32_MAX: none. */
    uint32_t (*shard_of)(void *arg, const struct cmap *map, struct slice domain);
    /* adopt_may of some shards may be true now. */
    void (*ready)(void *arg);
    void *arg;
};

/* cfg's dir is borrowed. */
int adopt_open(struct adopt **a_r, const struct adopt_config *cfg, const struct adopt_env *env);
/* The storage is polled until what is under way has its answer; before it is closed. */
void adopt_close(struct adopt **a);
/* A reference is taken. */
void adopt_map(struct adopt *a, const struct cmap *map);
/* Nothing that dead nodes hold keeps the shard, which we own, from being delivered. */
bool adopt_may(struct adopt *a, uint32_t shard);
void adopt_tick(struct adopt *a);
uint64_t adopt_next_us(const struct adopt *a);
/* Readable when adopt_tick has something to do; after adopt_sleep said true. */
int adopt_fd(const struct adopt *a);
bool adopt_sleep(struct adopt *a);

struct adopt_info {
    uint32_t logs, known;  /* of dead nodes that we look at; scanned at least once */
    uint64_t taken, left;  /* messages put here so far; known to be live there and not here yet */
    uint64_t unreadable;   /* damaged */
    uint64_t ends;         /* what became of messages, learnt from their logs */
    uint64_t scan_us_last; /* the longest of the last scans */
};
void adopt_info(const struct adopt *a, struct adopt_info *info_r);
