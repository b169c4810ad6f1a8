/* mapper.h - keeps the newest map: a watch as a hint, a linearizable list as the truth.
 *
 * Lists the map's keys at start, when a watch hints, and every `relist_us` (less often where many nodes read a large
 * map); an unreachable coordination leaves the last map as it is.  Other keys (domains, settings) are not read.  Shards
 * are listed before nodes, so that a storage that a map's shard names and its nodes do not was removed, not overlooked.
 *
 *   at most one round of lists is under way, and at most one more is waiting  Sans-I/O: coord does the calls, the node
 * calls mapper_tick.  Thread: the cluster's. */
#pragma once
#include "cluster/map/map.h"

#define MAPPER_WHY_MAX 256

struct mapper;

struct mapper_config {
    const char *cache_path; /* NULL: no file (simulator) */
    struct storage_id
        cluster;        /* maps of no other one are taken, nor an empty one; zero: the first that comes decides */
    uint64_t relist_us; /* 5 s */
};

/* changed: a map that differs from the one before (borrowed until return; mapper_map has it too). */
int mapper_open(struct mapper **m_r, const struct mapper_config *cfg, struct coord *coord, const struct clock *clock,
                void (*changed)(void *arg, const struct cmap *now, const struct cmap *before), void *arg);
/* Calls may be under way: close coord before, or poll it no more. */
void mapper_close(struct mapper **m);
/* Borrowed until the next tick or poll of coord; NULL: none yet. */
const struct cmap *mapper_map(const struct mapper *m);
/* Why what coordination has now is refused and the map before it stays in use; empty: it is not.  Until the next tick.
 */
const char *mapper_refused(const struct mapper *m);
/* Reads again at once (after a change of our own). */
void mapper_refresh(struct mapper *m);
void mapper_tick(struct mapper *m);
uint64_t mapper_next_us(const struct mapper *m);
