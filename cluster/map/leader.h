/* leader.h - one node of the cluster leads: it turns assignments into changes of the shards, by compare-and-swap.
 *
 * Every node runs a leader core; the one whose key "leader" stands under its lease acts.  Two leaders at once do no
 * harm: each change compares the shard's mod_rev.
 *
 * A shard changes in steps, each one CAS, so that nothing is delivered by two and nothing loses its copies:
 *   owner dead (its lease ended)       -> owner = a live member (a follower has the mail), epoch + 1, next cleared
 *   all members dead, a live node      -> members += it, owner = it, epoch + 1: it takes the mail from their logs
 *     shares their file system            (cluster/shared)
 *   wanted member is missing           -> members += it (the owner fills it up); one too many is allowed meanwhile
 *   wanted owner is a member, in sync  -> next = it: the owner hands over by itself (owner.h)
 *   member not wanted, others in sync  -> members -= it, former += it; it leaves former by its own CAS when it holds
 *                                         nothing (owner.h, drain)
 *   former storage is not registered   -> former -= it
 * "In sync" is what the owner reports (see leader_report).  A node that is dead for less than repair_delay stays a
 * member. Sans-I/O.  Thread: the cluster's. */
#pragma once
#include "cluster/map/assign.h"

struct leader;

struct leader_config {
    const char *node; /* our name */
    struct storage_id self;
    uint64_t period_us; /* looks at everything again; 1 s */
    uint32_t changes;   /* most shards changed by planned moves at once; 64. Taking over from the dead is not bounded */
};

int leader_open(struct leader **l_r, const struct leader_config *cfg, struct coord *coord, const struct clock *clock);
/* Calls may be under way: close coord before, or poll it no more. */
void leader_close(struct leader **l);
/* Runs (from coord's poll) after a change of ours went in: the map should be read again (mapper_refresh). */
void leader_on_change(struct leader *l, void (*changed)(void *arg), void *arg);
/* Our lease; 0: none (we do not lead). */
void leader_lease(struct leader *l, int64_t lease);
void leader_map(struct leader *l, const struct cmap *map);
/* An owner's word on its shard at this epoch: bit i of synced: members[i] has everything.  Comes in frames from peers
 * or from our own owner core; forgotten when the epoch changes or a member leaves. */
void leader_report(struct leader *l, uint32_t shard, uint64_t epoch, uint32_t members_hash, uint32_t synced);
/* Of the member list, so that a report is not taken for another list. */
uint32_t leader_members_hash(const struct map_shard *s);
void leader_tick(struct leader *l);
uint64_t leader_next_us(const struct leader *l);

struct leader_info {
    bool leading;
    uint64_t since_us;
    uint32_t moves_planned, moves_under_way, shards_ownerless, copies_short;
};
void leader_info(const struct leader *l, struct leader_info *info_r);
