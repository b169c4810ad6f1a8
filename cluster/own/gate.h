/* gate.h - who may deliver: the relay's door, opened shard by shard while this node owns them under its lease.
 *
 * The gate is shared by two threads without a lock: the cluster's sets, the relay's asks.
 *   may(shard) = granted[shard] and boot clock < deadline
 * It is asked when a bag is claimed, before DATA, and before the final dot.  A process that was stopped and goes on
 * finds its deadline passed and sends nothing.
 *
 * gate_outlet wraps an outlet door: only bags of granted shards are ready or can be claimed; claims are counted for
 * each shard, so that a hand-over can tell when the last one ended. */
#pragma once
#include "cluster/map/map.h"
#include "spool/outlet.h"

struct gate;

/* shard_of: any thread; UINT32_MAX: no shard, never delivered. */
int gate_open(struct gate **g_r, const struct clock *clock, uint32_t (*shard_of)(void *arg, struct slice domain),
              void *arg);
void gate_close(struct gate **g);

/* ---- the cluster's thread */
/* Deliveries are allowed before this boot clock; 0: none. */
void gate_deadline(struct gate *g, uint64_t boot_us);
void gate_grant(struct gate *g, uint32_t shard, bool granted);
/* Claims of the shard that the relay holds. After gate_grant(false) they only become fewer. */
uint32_t gate_claims(const struct gate *g, uint32_t shard);
/* The wall clock is in doubt (peers disagree by more than a minute): nothing expires. */
void gate_clock_doubt(struct gate *g, bool doubt);

/* ---- any thread */
bool gate_may(const struct gate *g, uint32_t shard);
bool gate_granted(const struct gate *g, uint32_t shard);

/* Takes the inner door over. */
int gate_outlet(struct gate *g, struct outlet *inner, struct outlet **o_r);
