/* simcoord.h - coordination in the simulated world: one store (cluster/coord/kvstore.h), a view of it for each node.
 *
 * A call travels to the store, is done there, and its answer travels back; each way takes time, and either may be lost:
 * then the caller hears -SATCHEL_EAGAIN after its timeout, and the store has done it, has not, or does it later still.
 * A store that is stopped (no quorum) answers nobody and ends no lease; when it is back, leases start anew, as etcd's
 * do. Hints of watches come late, twice or never. */
#pragma once
#include "cluster/coord/kvstore.h"
#include "tests/csim/world.h"

void simcoord_open(struct simcoord **c_r, struct world *w);
void simcoord_close(struct simcoord **c);

/* A node's view, for one life of it; ends with coord->ops->close. */
struct coord *simcoord_view(struct simcoord *c, uint32_t node);

/* ---- faults */
void simcoord_stop(struct simcoord *c, bool stopped);
bool simcoord_stopped(const struct simcoord *c);
void simcoord_cut(struct simcoord *c, uint32_t node, bool cut);
/* Percent of calls that lose their request or their answer. */
void simcoord_flaky(struct simcoord *c, uint32_t percent);

/* ---- the truth, at this moment */
/* Borrowed until the next change. */
const struct cmap *simcoord_truth(struct simcoord *c);
/* The node's key live/NAME stands, and names this storage. */
bool simcoord_lives(struct simcoord *c, const char *name, const struct storage_id *storage);
/* As an operator would, from a machine that reaches the store. value NULL: deletes. */
void simcoord_put(struct simcoord *c, const char *key, const char *value);
/* Runs after each change of the store, with the key. */
void simcoord_watch_all(struct simcoord *c, void (*changed)(void *arg, struct slice key, const struct coord_kv *kv),
                        void *arg);
