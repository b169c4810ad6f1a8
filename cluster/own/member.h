/* member.h - this node's place in the cluster: its registration, its lease, its deadline.
 *
 *   LOOK -> JOIN -> GRANT -> ENTER -> IN (a keepalive every TTL / 3)
 *    ^                                 | lease not known any more
 *    +------- REFUSED (looks again) <--+
 *
 * At start: makes sure that meta, the shared pool, the node's pool and nodes/NAME exist (by compare-and-swap), then
 * keeps a lease and live/NAME under it.  A lease that is lost is asked for again, for ever.
 *
 * Refused, with words that name the remedy, and looked at again every few seconds since an operator may mend it:
 *   another cluster than the one that is remembered; or none, where one is remembered (etcd was emptied)
 *   a cluster that speaks a newer or much older version than we
 *   nodes/NAME belongs to another storage, or our storage to another name
 *   live/NAME stands under another storage's lease
 *   nodes/NAME was removed while this process ran
 * live/NAME of our own storage is a former process of ours (we hold the disk's lock): it is taken over at once.
 *
 * The deadline counts from *sending* the last keepalive that was answered: sent + TTL - margin.  etcd ends the lease no
 * earlier than TTL after it received that keepalive, so whoever sees live/NAME gone knows that the deadline has passed.
 * A keepalive that is answered after the deadline tells the lease as lost and then as had again, though it is the same
 * one: coordination may have been restored from a snapshot, so what is owned under it is confirmed anew.
 * Sans-I/O.  Thread: the cluster's. */
#pragma once
#include "cluster/coord/coord.h"
#include "cluster/map/map.h"
#include "spool/base/rng.h"

struct member;

struct member_config {
    struct map_node self;         /* name, storage, address, admin, zone, pool, weight */
    struct storage_id cluster;    /* the one remembered; zero: whatever cluster is there, or a new one */
    bool in_memory;               /* coordination ends with this process: an empty one may be founded again */
    uint32_t ttl_s;               /* 10 */
    uint64_t margin_us;           /* 1 s */
    struct map_pool pool_default; /* of a pool that is not there yet: copies 3, acks 2, shards 64 */
};

struct member_app {
    void (*deadline)(void *arg, uint64_t boot_us); /* 0: no lease */
    void (*lease)(void *arg, int64_t lease);       /* 0: lost */
    /* This node cannot take part until an operator acts; empty: it does again.  Once for each change of why. */
    void (*refused)(void *arg, const char *why);
    void *arg;
};

int member_open(struct member **m_r, const struct member_config *cfg, const struct member_app *app, struct coord *coord,
                struct rng *rng, const struct clock *clock);
/* Revokes the lease if it can (peers then need not wait for its end): orderly stops after everything was handed over.
 * done runs from member_tick or poll of coord, within a call's timeout. */
void member_leave(struct member *m, void (*done)(void *arg), void *arg);
/* A call may be under way: close coord before, or poll it no more. */
void member_close(struct member **m);
void member_map(struct member *m, const struct cmap *map);
void member_tick(struct member *m);
uint64_t member_next_us(const struct member *m);

struct member_info {
    bool registered, leased;
    uint64_t deadline_us; /* boot clock */
    uint64_t losses;      /* of the lease */
    char refused[256];
};
void member_info(const struct member *m, struct member_info *info_r);
