/* gate.h - who may deliver: the relay's door, opened shard by shard while this node owns them under its lease.
 *
 * The gate is shared by two threads without a lock: the cluster's sets, the relay's asks.
 *   may(shard) = granted[shard] and boot clock < deadline
 * It is asked when a bag is claimed, before DATA, and before the final dot.  A process that was stopped and goes on
 * finds its deadline passed and sends nothing.
 *
 * A claim is bound to the grant it was made under: when the shard is closed and granted again, older claims stay
 * withdrawn, since another node may have owned the shard in between.  A deadline that passes and then moves on (a slow
 * answer of a lease that never ended) withdraws nothing: may is false for that time alone.
 *
 * gate_outlet wraps an outlet door: only bags of granted shards are ready, have anything in them, or can be claimed;
 * claims are counted for each shard, so that a hand-over can tell when the last one ended.  A closed shard rings the
 * doors: ready() names the domains whose claims were withdrawn.  What was delivered can be said after the gate closed;
 * all else is released as it was, -SATCHEL_EAGAIN.  claim_id on a shard that is not granted: -SATCHEL_EAGAIN (ends of
 * messages, an operator's too, are the owner's to make).  read, and everything of claims already made, goes on. */
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
/* Closing what is closed, and granting what is granted, does nothing.  Shards from GATE_SHARDS_MAX on cannot be
 * granted. */
#define GATE_SHARDS_MAX (1u << 22)
void gate_grant(struct gate *g, uint32_t shard, bool granted);
/* Claims of the shard that the doors hold. After gate_grant(false) they only become fewer.  0 says nothing of ends that
 * are on their way to the log: those messages are still claimed in the queue (bag_stat.claimed). */
uint32_t gate_claims(const struct gate *g, uint32_t shard);
/* The wall clock is in doubt (peers disagree by more than a minute): nothing expires. */
void gate_clock_doubt(struct gate *g, bool doubt);

/* ---- any thread */
bool gate_may(const struct gate *g, uint32_t shard);
bool gate_granted(const struct gate *g, uint32_t shard);
/* What shard_of says. */
uint32_t gate_shard_of(const struct gate *g, struct slice domain);

/* Takes the inner door over; to be closed before the gate.  Its fd is readable when the inner door's is or the gate has
 * news (-1 where the inner door has none). */
int gate_outlet(struct gate *g, struct outlet *inner, struct outlet **o_r);
