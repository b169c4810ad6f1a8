/* copies.h - every message on as many storages as its pool wants: the core that sends, counts, compares and repairs.
 *
 *   front-end  request -> PUT to the members of the shard (this storage among them or not) -> acks -> settled
 *              a member that is unreachable or late is replaced by a stand-in; below `acks` in time: -EAGAIN and FORGET
 *   holder     PUT -> storage.put -> PUT_ACK
 *   owner      what became of messages here (tap) -> STATE to all who are owed, within push_us -> STATE_ACK
 *              -> confirm; when nobody is owed any more: SETTLED
 *   owner      compares with the members when a link or the map changed, and every compare_us: digests of the
 *              shard, of its bags, of windows of a bag, then IDs.  What one side lacks is sent; what one side
 *              knows to be final is said; union, so order is free.
 *   others     who hold mail of a shard and are no member (stand-in, drained, healed away) offer it to all
 *              members; what all of them have confirmed is forgotten here
 *   scrub      reads the live records slowly; a damaged one is asked for (WANT) and put again
 *
 * Epochs gate delivery, never storing: a PUT or STATE is never refused for a stale map.
 *
 * Sans-I/O: storage, peers and clock are tables.  Thread: the cluster's.  Memory: records under way are bounded by the
 * doors' budget; everything else by constants here. */
#pragma once
#include "cluster/link/peers.h"
#include "cluster/map/map.h"
#include "spool/base/rng.h"
#include "spool/copier.h"
#include "spool/storage.h"

struct copies;

struct copies_config {
    struct storage_id self;
    uint64_t standin_us;    /* a member that has not answered for so long gets a stand-in; 1 s */
    uint64_t giveup_us;     /* below acks for so long: -SATCHEL_EAGAIN; 8 s */
    uint64_t push_us;       /* states wait at most so long for company; 20 ms */
    uint64_t compare_us;    /* 5 s */
    uint64_t sync_bytes;    /* records on their way to one peer in a comparison; 8 MiB */
    uint64_t scrub_bytes_s; /* 4 MiB; 0: off */
};
extern const struct copies_config copies_config_default;

struct copies_env {
    const struct clock *clock;
    struct rng *rng;
    struct storage *storage;
    struct peers *peers;
    /* The shard of a domain in this map; UINT32_MAX: none. */
    uint32_t (*shard_of)(void *arg, const struct cmap *map, struct slice domain);
    /* This storage is no member of the shard and holds nothing of it any more (live mail, or ends that others do not
     * know; or all members know these by now); said while it is in `former`, again every few seconds and after a change
     * of the map. */
    void (*emptied)(void *arg, uint32_t shard);
    /* As owner: the set of members in sync changed. */
    void (*synced)(void *arg, uint32_t shard);
    void *arg;
};

int copies_open(struct copies **c_r, const struct copies_config *cfg, const struct copies_env *env);
/* Requests under way are settled with -SATCHEL_ESHUT. */
void copies_close(struct copies **c);

/* The map lives until the next copies_map. */
void copies_map(struct copies *c, const struct cmap *map);
void copies_request(struct copies *c, struct copy_request *r);
/* Frames of the "copies" block of frames.def. */
void copies_frame(struct copies *c, const struct storage_id *from, uint16_t type, uint16_t version,
                  struct slice payload);
void copies_up(struct copies *c, const struct storage_id *peer);
void copies_down(struct copies *c, const struct storage_id *peer);
void copies_room(struct copies *c, const struct storage_id *peer);
void copies_tick(struct copies *c);
uint64_t copies_next_us(const struct copies *c);

/* ---- for the owner */

/* Bit i: members[i] of the shard has all live mail and ends that we have, as of its last comparison, and has
 * acknowledged everything since.  Our own bit is always set. */
uint32_t copies_synced(struct copies *c, uint32_t shard);
/* Takes in what the reachable members and former members know of the shard, before it is delivered from here.  done
 * (once, not from within): 0: all registered ones answered; -SATCHEL_EAGAIN: some did not within wait_us, or are dead.
 */
void copies_merge(struct copies *c, uint32_t shard, uint64_t wait_us, void (*done)(void *arg, uint32_t shard, int res),
                  void *arg);
/* Nothing that ended here, of the shard's messages, will be delivered by `to`.  -SATCHEL_EAGAIN after wait_us. */
void copies_flush(struct copies *c, uint32_t shard, const struct storage_id *to, uint64_t wait_us,
                  void (*done)(void *arg, uint32_t shard, int res), void *arg);

struct copies_info {
    uint64_t requests, request_bytes; /* under way */
    uint64_t under_replicated; /* live messages of our shards that fewer than the wanted storages have, for sure */
    uint64_t unowned;          /* live messages here whose shard this storage is no member of */
    uint64_t states_unpushed, repaired, standins, aborted, scrubbed_bytes, scrub_repaired;
    uint64_t unaccounted; /* PUTs whose storage said nothing before the link ended */
};
void copies_info(const struct copies *c, struct copies_info *info_r);
/* Of one shard: live messages and bytes here. */
void copies_holds(struct copies *c, uint32_t shard, uint64_t *messages_r, uint64_t *bytes_r);
