/* etcd_int.h - what the files of the etcd backend share.
 *
 *   etcd.c           opening, closing, poll; the table of functions
 *   etcd_call.c      one call: waits, flies, is asked again, ends
 *   etcd_auth.c      the token
 *   etcd_endpoint.c  which member is asked, and when all of them fail
 *   etcd_watch.c     watches
 *   etcd_json.h      what is said and answered;  etcd_http.h  how it travels
 *
 * A call waits until it may leave: no backoff is running, there is a token where one is needed, and not too many fly.
 * An attempt that failed moves everyone to the next endpoint; when each has failed once, all wait (100 ms .. 2 s). */
#pragma once
#include "cluster/coord/etcd_http.h"
#include "cluster/coord/etcd_json.h"
#include "spool/base/rng.h"

#include <sys/queue.h>

#define ETCD_CONNECT_SHARE 3 /* of a call's time, for one connection: what a dead endpoint costs */

struct etcd_call {
    TAILQ_ENTRY(etcd_call) link; /* in waiting or flying */
    struct etcd *e;
    enum etcd_kind kind;
    union {
        coord_list_done *list;
        coord_txn_done *txn;
        coord_lease_done *lease;
    } done; /* ETCD_AUTH: none */
    void *arg;
    struct etcd_http_req *req; /* flying */
    char *body;
    uint64_t sent_us;     /* of the last attempt */
    uint64_t deadline_us; /* of all attempts; of a list: of one page */
    size_t endpoint;      /* of the last attempt */
    uint64_t turn;        /* of the last attempt */
    uint64_t token_gen;   /* of the last attempt */
    unsigned tries, renewals, restarts;
    int64_t lease;
    /* list */
    struct slice below;    /* what was asked for, without the backend's prefix */
    struct slice from, to; /* of the next page; all three malloc'd */
    int64_t rev;           /* of the first page; 0: not there yet */
    int64_t since;         /* least mod_rev; 0: all */
    uint32_t limit;
    struct etcd_kvs kvs;
};

enum etcd_watch_state {
    WATCH_WAITING, /* until retry_us, for an endpoint and a token */
    WATCH_ASKED,
    WATCH_OPEN, /* etcd said that it watches */
};

struct etcd_watch {
    LIST_ENTRY(etcd_watch) link;
    struct etcd *e;
    enum etcd_watch_state state;
    coord_changed *changed;
    void *arg;
    char *body;
    struct etcd_http_req *req;
    size_t endpoint;
    uint64_t turn, token_gen, retry_us;
    unsigned fails;
    bool due;  /* changed is to run */
    bool over; /* etcd cancelled it, the stream may still be there */
    enum etcd_outcome outcome;
    char why[ETCD_WHY_MAX];
    char *line;
    size_t line_n;
    bool line_long; /* over what is kept: events */
};

enum etcd_auth_state {
    AUTH_OPEN,   /* no user is configured, or etcd knows no users */
    AUTH_NEEDED, /* no token; asked for when someone waits, not before auth_retry_us */
    AUTH_ASKED,
    AUTH_HELD,
};

TAILQ_HEAD(etcd_calls, etcd_call);

struct etcd {
    struct coord base; /* first */
    const struct clock *clock;
    struct rng rng;
    struct etcd_http *http;
    char *ca, *cert, *key, *user, *password;
    struct slice prefix; /* malloc'd */
    uint32_t timeout_ms, keepalive_ms;
    bool closing;

    char **endpoints;
    size_t endpoints_n, current;
    uint64_t turn;     /* grows with each failure that counts */
    unsigned fails;    /* turns in a row that failed */
    uint64_t retry_us; /* nothing leaves before */
    char failed_why[ETCD_WHY_MAX];

    enum etcd_auth_state auth;
    char *token;
    uint64_t token_gen, auth_retry_us;

    struct etcd_calls waiting, flying;
    size_t flying_n;
    LIST_HEAD(, etcd_watch) watches;
    uint64_t watch_said_us; /* when the last failure of a watch was logged */
    struct coord_info info;
};

/* etcd_endpoint.c */
/* An attempt of that turn failed.  Those that left together fail together: the first one counts. */
void etcd_endpoint_failed(struct etcd *e, uint64_t turn, const char *why);
void etcd_endpoint_ok(struct etcd *e);
/* 100 ms doubled with each round up to 2 s (or half a keepalive's time), and of that a random part of the upper half.
 */
uint64_t etcd_backoff_us(struct etcd *e, unsigned round);
/* What the operator sees; logged when it changes. */
void etcd_reachable_set(struct etcd *e, bool reachable, const char *why);

/* etcd_auth.c */
bool etcd_auth_ready(const struct etcd *e);
/* Asks for a token if one is needed and it is time. */
void etcd_auth_run(struct etcd *e, uint64_t now);
uint64_t etcd_auth_next_us(const struct etcd *e);
/* etcd did not take the token of that generation. */
void etcd_auth_lost(struct etcd *e, uint64_t token_gen);
/* The ETCD_AUTH call ended. */
void etcd_auth_done(struct etcd *e, const struct etcd_reply *r);

/* etcd_call.c */
/* Waits from now on; the caller fills in the rest.  NULL: closing. */
struct etcd_call *etcd_call_new(struct etcd *e, enum etcd_kind kind, void *arg);
/* keys below prefix: from, to and the first page. */
void etcd_call_list_start(struct etcd_call *c, struct slice prefix);
void etcd_calls_run(struct etcd *e);
uint64_t etcd_calls_next_us(const struct etcd *e);
/* Ends all that wait for a token: it was refused. */
void etcd_calls_deny(struct etcd *e, const char *why);
void etcd_calls_shut(struct etcd *e);

/* etcd_watch.c */
void etcd_watch_new(struct etcd *e, struct slice prefix, coord_changed *changed, void *arg);
void etcd_watches_run(struct etcd *e);
uint64_t etcd_watches_next_us(const struct etcd *e);
bool etcd_watches_waiting(const struct etcd *e);
void etcd_watches_free(struct etcd *e);

/* etcd.c: [from_r, to_r) holds the keys that begin with the backend's prefix and this one; malloc'd. */
void etcd_range_of(const struct etcd *e, struct slice prefix, struct slice *from_r, struct slice *to_r);
