/* coord.h - coordination: a small, linearizable key-value store with leases, seen through one table of functions.
 *
 * Three backends: etcd (etcd.c), standalone (one node, nothing beside it), and the simulator's.  Used from one thread
 * (the cluster's); done callbacks run inside poll, exactly once for each call that returned 0, never from within the
 * call itself; calls that are open at the same time may be done in any order.  Keys and values are bytes; the backend
 * puts its own prefix before the keys.  close ends what is pending: its done callbacks run inside close with
 * -SATCHEL_ESHUT, and calls that they make are refused with it. Callbacks must not close.
 *
 * Outcomes: 0 the store said so.  -SATCHEL_EAGAIN: unreachable, no leader, or timed out: for a txn the outcome is
 * *unknown*; read again before repeating.  -SATCHEL_ENOENT: the lease is not known (any more).  -SATCHEL_EINVAL: the
 * store refused the request or answered nonsense (logged with its words).  -SATCHEL_EBUSY: not authorised.
 *
 * The accept path never calls this. */
#pragma once
#include "spool/base/clock.h"
#include "spool/base/slice.h"

struct coord;

#define COORD_TXN_OPS_MAX 100 /* compares, and ops, of one txn (etcd allows 128) */

struct coord_kv {
    struct slice key, value;
    int64_t mod_rev; /* grows with each change of the key; for compare-and-swap */
    int64_t create_rev;
    int64_t lease; /* 0: none */
};

/* Succeeds where the key's mod_rev is this; 0: where the key does not exist. */
struct coord_cmp {
    struct slice key;
    int64_t mod_rev;
};

struct coord_op {
    enum { COORD_PUT, COORD_DELETE } kind;
    struct slice key, value;
    int64_t lease; /* PUT: 0: none; the key goes when the lease ends */
};

/* kvs sorted by key, borrowed until return.  rev: of the store at the time of reading. */
typedef void coord_list_done(void *arg, int res, int64_t rev, const struct coord_kv *kvs, size_t n);
/* succeeded: all compares held and the ops were done, at rev. */
typedef void coord_txn_done(void *arg, int res, bool succeeded, int64_t rev);
/* ttl_s: what the store granted.  sent_us: boot clock just before the request was sent: deadlines count from it. */
typedef void coord_lease_done(void *arg, int res, int64_t lease, uint32_t ttl_s, uint64_t sent_us);
/* Something below the prefix may have changed: list again.  A hint: may come late, twice, or not at all. */
typedef void coord_changed(void *arg);

struct coord_info {
    bool reachable;     /* the last call was answered */
    uint64_t since_us;  /* boot clock: reachable, or not, since */
    char endpoint[256]; /* in use */
    char why[256];      /* why not reachable, for the operator, with the remedy */
    uint64_t calls, failures;
};

struct coord_ops {
    /* All keys that begin with prefix.  Linearizable. */
    int (*list)(struct coord *c, struct slice prefix, coord_list_done *done, void *arg);
    /* Of them those whose mod_rev is at least `since`: what changed.  Keys that were deleted are not told. */
    int (*list_since)(struct coord *c, struct slice prefix, int64_t since, coord_list_done *done, void *arg);
    /* Arguments are copied. */
    int (*txn)(struct coord *c, const struct coord_cmp *cmps, size_t cmps_n, const struct coord_op *ops, size_t ops_n,
               coord_txn_done *done, void *arg);
    int (*grant)(struct coord *c, uint32_t ttl_s, coord_lease_done *done, void *arg);
    int (*keepalive)(struct coord *c, int64_t lease, coord_lease_done *done, void *arg);
    int (*revoke)(struct coord *c, int64_t lease, coord_lease_done *done, void *arg);
    /* One watch a prefix; kept up by the backend through outages (changed() runs after each reconnect). */
    int (*watch)(struct coord *c, struct slice prefix, coord_changed *changed, void *arg);
    void (*info)(struct coord *c, struct coord_info *info_r);

    /* Runs what is due.  fd below becomes readable when there is something; next_us: boot clock by which poll wants to
     * be called anyway (UINT64_MAX: never). */
    void (*poll)(struct coord *c);
    uint64_t (*next_us)(struct coord *c);
    void (*close)(struct coord **c);
};

struct coord {
    const struct coord_ops *ops;
    int fd;
};

struct coord_etcd_config {
    const char *const *endpoints; /* "http://127.0.0.1:2379", "https://..."; NULL-terminated */
    const char *prefix;           /* "/satchel/main/": before every key */
    const char *ca, *cert, *key;  /* files; NULL: the system's CAs, no client certificate */
    const char *user, *password;  /* NULL: no authentication */
    uint32_t timeout_ms;          /* of one call; 3000 */
    /* Of a keepalive, with all endpoints that are asked: so short that after an endpoint that hangs there is time for
     * another within the lease.  0: as of any call. */
    uint32_t keepalive_ms;
};
/* Strings are copied.  why_r: 256 bytes, with the remedy. */
int coord_etcd_open(struct coord **c_r, const struct coord_etcd_config *cfg, const struct clock *clock, char *why_r);
/* In memory, this process alone: leases never end while it lives. */
int coord_standalone_open(struct coord **c_r, const struct clock *clock);
