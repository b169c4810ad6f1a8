/* kvstore.h - a coordination store in memory: keys with revisions, leases, compare-and-swap.
 *
 * Means what etcd means: one revision counter for the whole store, which starts at 1 and grows by one with each txn
 * that changed something; all keys that a txn puts carry its revision.  It is what standalone.c serves and what the
 * simulator puts behind its network.  Sans-I/O: time comes in as `now_us` (boot clock).  Nothing here is random: the
 * same calls give the same revisions and lease ids.
 *
 * Keys lie in one sorted array: finding is a binary search, a new key moves those behind it; made for some 100,000.
 * Thread: one owner.  Running out of memory aborts. */
#pragma once
#include "cluster/coord/coord.h"

struct kvstore;

/* One key changed; kv: as it is now, NULL: deleted.  Runs inside the call that changed it (txn, revoke, expire), while
 * that is half done: note it, and look at the store later. */
typedef void kvstore_change(void *arg, struct slice key, const struct coord_kv *kv);

struct kvstore *kvstore_new(void);
void kvstore_free(struct kvstore **s);
void kvstore_on_change(struct kvstore *s, kvstore_change *change, void *arg);
int64_t kvstore_rev(const struct kvstore *s);

/* Keys that begin with prefix, sorted; borrowed until the next change. */
size_t kvstore_list(const struct kvstore *s, struct slice prefix, const struct coord_kv **kvs_r);
/* NULL: no such key.  Borrowed until the next change. */
const struct coord_kv *kvstore_get(const struct kvstore *s, struct slice key);

/* coord_ops.txn.  0: the compares were looked at; *succeeded_r says whether the ops were done.  -SATCHEL_EINVAL: more
 * than COORD_TXN_OPS_MAX, or a key twice among the ops; -SATCHEL_ENOENT: a put under a lease that is not there: nothing
 * was done then.  rev_r: the store's after it. */
int kvstore_txn(struct kvstore *s, const struct coord_cmp *cmps, size_t cmps_n, const struct coord_op *ops,
                size_t ops_n, bool *succeeded_r, int64_t *rev_r);

/* Returns the lease's id, > 0. */
int64_t kvstore_grant(struct kvstore *s, uint32_t ttl_s, uint64_t now_us);
/* ttl_s_r: as granted.  -SATCHEL_ENOENT: no such lease. */
int kvstore_keepalive(struct kvstore *s, int64_t lease, uint64_t now_us, uint32_t *ttl_s_r);
/* Ends the lease and deletes its keys, in one revision.  -SATCHEL_ENOENT. */
int kvstore_revoke(struct kvstore *s, int64_t lease);
/* Ends the leases whose TTL passed since their grant or last keepalive, each in a revision of its own; returns how
 * many.  A store whose leases never end does not call it. */
size_t kvstore_expire(struct kvstore *s, uint64_t now_us);
/* Boot clock by which the next lease ends; UINT64_MAX: there is none. */
uint64_t kvstore_expiry_us(const struct kvstore *s);

/* The arguments of a txn and the result of a list on their way through a queue: one allocation each, free() ends it. */
struct kvstore_txn_args {
    size_t cmps_n, ops_n;
    struct coord_cmp *cmps;
    struct coord_op *ops;
};
struct kvstore_txn_args *kvstore_txn_copy(const struct coord_cmp *cmps, size_t cmps_n, const struct coord_op *ops,
                                          size_t ops_n);
struct coord_kv *kvstore_kvs_copy(const struct coord_kv *kvs, size_t n);
