/* owner.h - the shards this node owns: from "the map says so" to "the relay delivers", and back.
 *
 *   NOT_OURS -> (map: owner is us) MERGING -> OWNED -> (map: next is another, in sync) QUIET -> HANDING -> NOT_OURS
 *
 *   MERGING   copies_merge: ends that the other holders know are taken in first.  A hand-over (frame HANDED with the
 *             epoch of our predecessor's CAS) skips the wait: it flushed its ends to us before.  Meanwhile coordination
 *             confirms, under the lease that we have now, that the shard is as the map says: a map may be old (cached,
 *             or read before this process was stopped for an hour)
 *   OWNED     gate granted; bags of the shard are made ready
 *   QUIET     gate closed; waits until the relay's claims of the shard are 0 and their ends are applied
 *   HANDING   copies_flush to `next`; then CAS owner = next, epoch + 1, next cleared; then HANDED.  A failed CAS: read
 *             the map again; still ours: OWNED.  An unknown one is asked again until the answer is certain
 * Losing ownership in the map closes the gate at once.  With the lease lost the gate is closed by its deadline, and all
 * shards are NOT_OURS; those that are still ours when it is back go through MERGING again.
 *
 * As a former member of a shard that holds nothing any more (copies_env.emptied): removes itself from former by CAS.
 * While draining: when no shard names this storage, nothing live is here and nothing is owed, for two seconds: a list
 * of all shards proves it, then nodes/NAME state = drained, by CAS.  owner_leave hands everything over to followers in
 * sync for an orderly stop (no wait for the lease).
 *
 *   owner.c       the states; what the map and the lease do to them; the tick
 *   handover.c    away from here: flush, claims, flush, HANDED; and to here
 *   settle.c      the last ends, applied
 *   shardcas.c    changes of shards, many in one txn
 *   announce.c    the bags of shards that were just granted
 *   report.c      REPORT frames, both sides
 *   drain.c       leaving `former`; drained
 *
 * Give the map to the owner before the gate's shard_of uses it: where pools came or went, shards have other numbers,
 * and the owner closes all gates first.  Sans-I/O.  Thread: the cluster's. */
#pragma once
#include "cluster/copies/copies.h"
#include "cluster/own/gate.h"

struct owner;

struct owner_config {
    char node[NODE_NAME_MAX];
    struct storage_id self;
    uint64_t merge_us;  /* longest wait for peers before an adopted shard is delivered; 2 s */
    uint64_t quiet_us;  /* longest wait for the relay's claims in a hand-over, then it is given up; 30 s */
    uint64_t flush_us;  /* 5 s */
    uint64_t report_us; /* to the leader so long after a change, and of everything ten times as seldom; 500 ms */
};
extern const struct owner_config owner_config_default;

struct owner_env {
    const struct clock *clock;
    struct coord *coord;
    struct peers *peers;
    struct copies *copies;
    struct storage *storage;
    struct gate *gate;
    /* The leader core of this node, for reports when it leads itself. */
    void (*report)(void *arg, uint32_t shard, uint64_t epoch, uint32_t members_hash, uint32_t synced);
    /* The map should be read again: we changed it. */
    void (*changed)(void *arg);
    /* May a shard that is ours be delivered, as far as others decide (mail in the logs of dead members)?  NULL: yes. */
    bool (*may)(void *arg, uint32_t shard);
    void *arg;
};

int owner_open(struct owner **o_r, const struct owner_config *cfg, const struct owner_env *env);
/* Calls may be under way: poll coord and tick copies no more, or close coord before. */
void owner_close(struct owner **o);
/* A reference is taken. */
void owner_map(struct owner *o, const struct cmap *map);
void owner_lease(struct owner *o, bool leased);
/* Frames HANDED and REPORT (REPORT only while this node leads: calls env.report). */
void owner_frame(struct owner *o, const struct storage_id *from, uint16_t type, struct slice payload);
void owner_emptied(struct owner *o, uint32_t shard);
void owner_synced(struct owner *o, uint32_t shard);
/* What env.may said may have changed. */
void owner_again(struct owner *o);
void owner_tick(struct owner *o);
uint64_t owner_next_us(const struct owner *o);
/* Orderly stop: hands over what followers can take; done when nothing is ours any more, or after wait_us. */
void owner_leave(struct owner *o, uint64_t wait_us, void (*done)(void *arg), void *arg);

enum owner_state { OWNER_NOT_OURS, OWNER_MERGING, OWNER_OWNED, OWNER_QUIET, OWNER_HANDING };
const char *owner_state_name(enum owner_state s);
enum owner_state owner_shard(const struct owner *o, uint32_t shard);

struct owner_info {
    uint32_t owned, merging, handing;
    uint64_t adopted, handed, adopt_us_last, hand_us_last; /* counts; how long the last one took */
    bool drained;
};
void owner_info(const struct owner *o, struct owner_info *info_r);
