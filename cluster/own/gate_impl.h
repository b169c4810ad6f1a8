/* gate_impl.h - what the gate and the doors behind it share.
 *
 * A shard's `state` counts its openings and closings: odd is granted.  A claim remembers the state it was made under,
 * and stands while that is still the state.
 *
 * Closing a shard and claiming from it race without a lock:
 *   door:    claims += 1 (a reservation), then reads state          cluster:  changes state, then reads claims
 * Sequentially consistent, so either the door sees the gate closed or the cluster sees the claim. */
#pragma once
#include "cluster/own/gate.h"

#include <pthread.h>
#include <stdatomic.h>

#define GATE_CHUNK 4096 /* shards of a chunk; chunks stay where they are until the gate is closed */

struct gate_shard {
    atomic_uint state, claims;
};

struct gate_door;

struct gate {
    const struct clock *clock;
    uint32_t (*shard_of)(void *arg, struct slice domain);
    void *arg;
    atomic_uint_fast64_t deadline_us;
    atomic_bool doubt;
    atomic_uint closings;
    pthread_mutex_t lock; /* of doors */
    struct gate_door *doors;
    _Atomic(struct gate_shard *) chunks[GATE_SHARDS_MAX / GATE_CHUNK];
};

/* NULL: never granted. */
struct gate_shard *gate_at(const struct gate *g, uint32_t shard);
bool gate_in_time(const struct gate *g);
/* A shard was closed: the door looks at its claims. Under the lock. */
void gate_door_ring(struct gate_door *d);
struct gate_door *gate_door_next(const struct gate_door *d);
