/* etcd_json.h - what is said to etcd 3.4's JSON gateway, and what its answers mean.
 *
 * The gateway's JSON is protobuf's: bytes are base64; 64-bit integers are strings; fields that are zero, false or empty
 * are left out.  An answer is believed only as far as it is well-formed: a header with a revision, keys below our
 * prefix and in order, the lease that was asked for.  Anything else is nonsense, whatever its HTTP status says.
 *
 * Pure: bytes in, bytes out.  Thread: any.  Running out of memory aborts. */
#pragma once
#include "cluster/coord/coord.h"
#include "spool/base/arena.h"

/* kind, name in logs, path, and whether asking twice does no harm (a lease granted twice ends by itself). */
#define ETCD_KINDS(X)                                                                                                  \
    X(ETCD_LIST, "list", "/v3/kv/range", true)                                                                         \
    X(ETCD_TXN, "txn", "/v3/kv/txn", false)                                                                            \
    X(ETCD_GRANT, "grant", "/v3/lease/grant", true)                                                                    \
    X(ETCD_KEEPALIVE, "keepalive", "/v3/lease/keepalive", true)                                                        \
    X(ETCD_REVOKE, "revoke", "/v3/lease/revoke", true)                                                                 \
    X(ETCD_AUTH, "authenticate", "/v3/auth/authenticate", true)

enum etcd_kind {
#define X(kind, name, path, again) kind,
    ETCD_KINDS(X)
#undef X
};

#define ETCD_WATCH_PATH "/v3/watch"

enum etcd_outcome {
    ETCD_OK,
    ETCD_UNAVAILABLE, /* no leader, timed out, overloaded, out of space: another member, or later, may do */
    ETCD_NO_LEASE,
    ETCD_REFUSED,   /* the request is at fault */
    ETCD_DENIED,    /* wrong password, or the user may not do this */
    ETCD_TOKEN,     /* the token is missing, too old or unknown: authenticate and ask again; nothing was done */
    ETCD_NO_AUTH,   /* authenticate: etcd knows no users */
    ETCD_COMPACTED, /* the revision of an earlier page is gone: list from the start */
    ETCD_NONSENSE,
};

#define ETCD_WHY_MAX 256

/* A list in the making, over several answers. */
struct etcd_kvs {
    struct arena bytes;
    struct coord_kv *kvs; /* keys without the prefix */
    size_t n, cap;
};

struct etcd_reply {
    enum etcd_outcome outcome;
    char why[ETCD_WHY_MAX]; /* not ETCD_OK: etcd's words, or what is wrong with them */
    int64_t rev;            /* the store's when it answered */
    bool succeeded;         /* txn */
    bool more;              /* list: ask for what follows */
    int64_t lease;          /* grant, keepalive */
    uint32_t ttl_s;
    char *token; /* authenticate; malloc'd, the caller's */
};

/* Everything below is malloc'd, NUL-terminated JSON.  from, to: whole keys with the prefix; to is not included. */
char *etcd_json_range(struct slice from, struct slice to, int64_t rev, int64_t since, uint32_t limit);
char *etcd_json_txn(struct slice prefix, const struct coord_cmp *cmps, size_t cmps_n, const struct coord_op *ops,
                    size_t ops_n);
char *etcd_json_grant(uint32_t ttl_s);
char *etcd_json_lease(int64_t lease); /* keepalive, revoke */
char *etcd_json_auth(const char *user, const char *password);
char *etcd_json_watch(struct slice from, struct slice to);

/* An answer, whole.  lease: the one asked for (keepalive).  kvs: list: filled on; prefix: what its keys begin with. */
void etcd_json_reply(enum etcd_kind kind, long status, struct slice body, int64_t lease, struct slice prefix,
                     struct etcd_kvs *kvs, struct etcd_reply *r_r);

/* One line of a watch. */
struct etcd_watch_line {
    bool created, over;        /* begins; has ended although the stream may go on */
    enum etcd_outcome outcome; /* over: why */
    char why[ETCD_WHY_MAX];
};
void etcd_json_watch_line(struct slice line, struct etcd_watch_line *l_r);

void etcd_kvs_init(struct etcd_kvs *k);
void etcd_kvs_reset(struct etcd_kvs *k);
