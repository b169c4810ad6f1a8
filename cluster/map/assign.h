/* assign.h - who should store and own each shard: a pure function of nodes, pools and what is now.
 *
 * Least movement first, rendezvous hashing second (Thaler and Ravishankar 1998; weights by the logarithm method): what
 * is there stays, what is missing is spread by rendezvous among the nodes that have not their share yet.  Rules,
 * strongest first:
 *   1. Only nodes of the shard's pool; where none of those lives, nodes of the pool's fallback.
 *   2. Members are in as many different zones as there are.
 *   3. A draining, drained or (for longer than the repair delay) dead node keeps nothing; a cordoned one, and one that
 *      died lately, keeps what it has and gets nothing new.  Owners are live.
 *   4. Who has it keeps it, unless a node lies more than a tenth off its share by weight (a new node, one that is
 * back): then what suits it best by rendezvous moves until it has its share. A plan that was carried out is its own
 * plan: no back and forth.  Where there are fewer nodes than copies, all of them are members: the leader says so, mail
 * is accepted if acks can be reached.  No clock, no I/O, no allocation that is kept; every machine computes the same.
 */
#pragma once
#include "cluster/map/map.h"

struct assign_input {
    const struct cmap *map;
    /* For each node of map->nodes: dead for longer than the repair delay (its copies are to be made anew). */
    const bool *lost;
};

/* What a shard should become in the end. */
struct assign_want {
    struct storage_id owner;                /* zero: nobody can */
    struct storage_id members[MEMBERS_MAX]; /* the owner first */
    uint8_t members_n;
};

struct assign_stat {
    uint64_t owners_moved, copies_moved; /* against the map */
    uint64_t copies_short;               /* copies that no node can take */
};

/* want_r: one for each shard of the map. */
int assign_compute(const struct assign_input *in, struct assign_want *want_r, struct assign_stat *stat_r);
