/* relay_impl.h - what the parts of the relay share: the relay, the bags it works on, their messages and connections.
 *
 *   relay.c    the thread: epoll, the outlet's ready list, timers; kicks and questions from other threads
 *   bag.c      a domain at work: claims, the order of messages, who may connect
 *   conn.c     a connection: lookup, connect, dialogue, bodies
 *   verdict.c  what the primary said of a message -> how its items end, DSN, log
 *   expire.c   what was kept long enough
 *
 * Nothing recurses between bags and connections: whoever has news for another puts it on a list (conn_soon, bag_soon)
 * and the loop works the lists off before it sleeps.
 *
 * Thread: the relay's, for everything but relay->lock: under it lie the table of bags and each bag's `pub`. */
#pragma once
#include "dataplane/relay/bagstate.h"
#include "dataplane/relay/relay.h"
#include "dataplane/relay/resolver.h"
#include "dataplane/relay/route.h"
#include "dataplane/relay/wake.h"
#include "dataplane/relay/watch.h"
#include "dataplane/smtp/client.h"

#include <pthread.h>
#include <stdatomic.h>

#define RELAY_RCPTS_MAX   100          /* recipients of one transaction: what every server takes (RFC 5321 4.5.3.1.8) */
#define RELAY_BATCH       32           /* messages claimed at once */
#define RELAY_OUT_BYTES   (256 * 1024) /* body bytes on their way to a socket */
#define RELAY_IDLE_US     5000000ull   /* a connection without mail is kept this long */
#define RELAY_WIDEN_US    5000ull      /* strict order: more connections pay where a message takes longer than this */
#define RELAY_TURNS       100          /* messages on a connection while other domains wait for one */
#define RELAY_CULPRIT_MAX 3            /* attempts that one message may cost its domain before it is put off alone */
#define RELAY_FORGET_US   600000000ull /* a bag without mail is forgotten */
#define RELAY_KEEP_OWN_S  432000ull    /* DSNs to domains not served: 5 d (RFC 5321 4.5.4.1) */

struct bag;
struct conn;

/* A claimed message: in its bag's `todo`, or with a connection (`flight`). */
struct relay_msg {
    struct relay_msg *prev, *next;
    struct outlet_msg *m;
    uint64_t seq; /* order of claims in the bag */
    struct conn *conn;
    uint64_t begun_us, read_off;
    bool dot_sent;
    struct bag *bag;           /* of a taken one; see verdict_settle */
    struct smtp_status status; /* that took it */
    uint32_t items_n;          /* recipients of this transaction */
    uint32_t items[RELAY_RCPTS_MAX];
    struct slice rcpts[RELAY_RCPTS_MAX];
};

struct msg_list {
    struct relay_msg *head, *tail;
};

struct bag {
    struct relay *r;
    struct bag *hash_next, *run_next;
    bool in_run, waiting; /* waiting: for one of relay->max_connections */
    struct bag *wait_next;
    struct bagstate st;
    struct wake wake;

    /* from the registry, as of `version` */
    uint64_t version, keep_s;
    uint32_t connections;
    enum domain_order order;
    bool served, held, gone, gone_told; /* gone: not served, and mail that came from outside lies in it */

    bool more;      /* the outlet may have something to claim */
    bool withdrawn; /* claims were withdrawn, and none was got since: others deliver this bag now */
    struct msg_list todo, flight;
    uint32_t flight_n;
    uint64_t seq;
    struct conn *conns;
    uint32_t conns_n, ready_n;
    struct route_last last;
    uint64_t setup_us; /* moving mean from MAIL to the end of the body */
    uint64_t expired_us, quiet_us;
    struct msgid culprit; /* the message at which connections broke last, and how often in a row */
    uint32_t culprit_n;

    struct relay_domain_info pub; /* under relay->lock */
    uint8_t name_n;
    char name[];
};

enum conn_state { CONN_RESOLVING, CONN_CONNECTING, CONN_TALKING, CONN_CLOSED };

struct conn {
    struct watch w;
    struct relay *r;
    struct bag *bag;
    struct conn *next, *soon_next;    /* of the bag; of the list of those with work */
    struct conn *all_prev, *all_next; /* of the relay */
    bool in_soon, ready, quitting, want_out;
    enum conn_state state;
    struct smtp_client *client;
    struct resolver_query *query;
    struct route route;
    struct route_addr addr;
    char addr_text[ROUTE_TEXT_MAX];
    struct relay_msg *body;   /* its body is being sent */
    struct relay_msg *dot;    /* its final dot lies in the client's output, */
    size_t dot_left;          /* and this many bytes go before and with it */
    uint32_t msgs_n, taken_n; /* under way; taken by the primary */
    uint32_t given_n;
    uint64_t deadline_us, replies;
    enum bag_event failure; /* what the last address did */
    struct smtp_status failed;
};

struct kick {
    struct kick *next;
    char name[256];
};

struct relay {
    struct relay_config cfg;
    struct bagstate_config state_cfg;
    struct outlet *outlet;
    struct domains *domains;
    const struct clock *clock;
    struct resolver *resolver;
    pthread_t thread;
    int epfd;
    struct watch wake_watch, outlet_watch;
    struct wakes wakes;
    struct rng rng;
    uint64_t now_us; /* boot clock at the start of the turn */
    bool brisk;      /* the last events came within BRISK_US */
    uint64_t tick_us, paused_until_us, version;
    uint32_t conns_n, down_n;
    struct bag *run_head, *run_tail, *wait_head, *wait_tail;
    struct conn *soon_head, *soon_tail, *graves, *all;
    struct relay_msg *spare;
    struct relay_msg *taken, **taken_tail; /* delivered, their ends not yet handed to the outlet */
    struct item_result *results;           /* RELAY_RCPTS_MAX, scratch */
    uint8_t *recv_buf;                     /* CLIENT_INPUT_MAX, scratch */

    pthread_mutex_t lock;
    struct bag **table;
    size_t table_n, bags_n;
    struct kick *kicks;
    atomic_bool stopping;
    atomic_uint_fast64_t stop_at_us;
};

/* ---- relay.c */
void relay_wake_thread(struct relay *r);
/* The bag of the domain, made if need be; NULL: out of memory. */
struct bag *relay_bag(struct relay *r, struct slice domain);
/* The outlet could not store an end: nothing more is sent for a while, or it would be sent again and again. */
void relay_pause(struct relay *r, int err);
/* Runs down the lists of what is to be done soon. */
void relay_work(struct relay *r);

/* ---- bag.c */
struct bag *bag_new(struct relay *r, struct slice domain);
void bag_free(struct bag *b);
void bag_soon(struct bag *b);
void bag_run(struct bag *b);
/* Steps the state; st (may be NULL): the failure to show. */
void bag_event(struct bag *b, enum bag_event e, uint64_t value, const struct smtp_status *st);
/* The next message for a connection; NULL: none now. */
struct relay_msg *bag_take(struct bag *b, struct conn *c);
/* May the message's final dot be sent, by the domain's order? */
bool bag_dot_ok(const struct bag *b, const struct relay_msg *x);
/* The dot was sent, or the message has ended: others may send theirs. */
void bag_release_dots(struct bag *b);
/* Takes a message off its connection, ended; it stays the caller's (bag_msg_free). */
void bag_msg_over(struct bag *b, struct relay_msg *x);
void bag_msg_free(struct relay *r, struct relay_msg *x);
/* The outlet's word on a claimed message, at this moment. */
bool bag_may(const struct bag *b, const struct relay_msg *x);
/* Claims the next messages when the last ones are given out: before they are asked for. */
void bag_prefetch(struct bag *b);
/* Off its connection and back into its place in the order. */
void bag_msg_back(struct bag *b, struct relay_msg *x);
/* A connection broke, or the primary was busy, at this message: true if that was too often in a row. */
bool bag_culprit(struct bag *b, const struct relay_msg *x);
void bag_release_all(struct bag *b);
struct slice bag_name(const struct bag *b);
/* May this bag be removed from the relay's table? */
bool bag_idle(const struct bag *b);

/* ---- conn.c */
/* Starts an attempt; NULL: out of memory. It may have failed and be gone by the time this returns. */
void conn_open(struct bag *b);
void conn_soon(struct conn *c);
void conn_run(struct conn *c);
void conn_tick(struct conn *c, uint64_t now_us);
/* At once, without a word; its messages go back in line, in doubt where their dot was sent. */
void conn_abort(struct conn *c);

/* ---- verdict.c */
/* The primary's word on a message; ends the claim. */
void verdict_take(struct bag *b, struct relay_msg *x, const struct client_result *res, const char *remote);
/* The common case, all its recipients were taken; false: it is not.  The message leaves the flight at once; its end is
 * stored, counted and logged by verdict_settle, which runs when the next message is on its way, so that the primary and
 * we work at the same time. */
bool verdict_taken(struct bag *b, struct relay_msg *x, const struct client_result *res);
void verdict_settle(struct relay *r);
/* Puts a message off by itself: all its live recipients of this transaction get this status. */
void verdict_put_off(struct bag *b, struct relay_msg *x, const struct smtp_status *st, bool held);

/* ---- expire.c */
void expire_bag(struct bag *b);

/* verdict.c, for expire.c too: ends a claim with results and tells the sender of those that are final failures. */
/* Of a claim that was withdrawn only what was delivered is said; nothing was: it is released.  results are changed. */
int verdict_finish(struct bag *b, struct outlet_msg *m, struct item_result *results, size_t n, uint64_t due_us,
                   bool held, const char *remote);
