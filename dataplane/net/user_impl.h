/* user_impl.h - inside the user transport.  Nobody outside dataplane/net/user*.c and its tests includes this.
 *
 * user.c is the loop, user_conn.c what a connection may do in which state, user_evict.c who must go when memory runs
 * short, user_call.c what other threads ask for.
 *
 * A connection's object is TCP's, with a struct uconn and the app's session behind it (tcp_config.conn_bytes): no
 * allocation and no lookup leads from one to the other, and with a million of them all that a packet needs is on one
 * page.  Nothing is given back to TCP outside the work list, so that events and callbacks may hold a connection until
 * the turn's work. */
#pragma once
#include "dataplane/net/sendq.h"
#include "dataplane/net/user.h"
#include "spool/base/bell.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

#define USER_WATCH_MAX     8u
#define USER_FLUSH_US      30000000u /* closing: the peer must take something in this time */
#define USER_LINGER_US     2000000u  /* closing: how long the app's side of it stays */
#define USER_ORPHAN_US     60000000u /* and how long TCP may go on alone with what is left */
#define USER_LINGER_BYTES  65536u    /* read away while bytes wait that TCP did not take yet */
#define USER_GRACE_US      1000000u  /* at the end: for FIN and last bytes of all */
#define USER_EVICT_PCT     80u       /* of the pages, above which connections are evicted */
#define USER_EVICT_N       16u       /* at a time */
#define USER_EVICT_US      10000u    /* not again before */
#define USER_EVICT_NONE_US 1000000u  /* likewise, where nobody was found */
#define USER_SCAN_N        64u       /* thirsty connections tried a turn */
#define USER_TAR_PART      8u        /* of max_conns may stick in the tar: one in so many */

/* NEW     -> SILENT   early talkers are looked for
 *         -> OPEN     accept returned a session
 *         -> CLOSING  refused, or too many
 * SILENT  -> OPEN     it was silent long enough
 *         -> TAR      it spoke, and is to wait for its refusal
 *         -> CLOSING  it spoke, or its FIN came
 * TAR     -> CLOSING  it waited long enough
 * OPEN    -> CLOSING  conn_close, or the peer's FIN once all input was consumed
 * CLOSING -> LINGER   TCP has all bytes to send, and the FIN
 * any     -> DEAD     abort, reset, time out, no progress, shutdown, or TCP is done with it
 * Nothing goes back: a connection that began to close never calls receive again. */
enum uconn_state { UCONN_NEW, UCONN_SILENT, UCONN_TAR, UCONN_OPEN, UCONN_CLOSING, UCONN_LINGER, UCONN_DEAD };

enum {
    UWORK_OFFER = 1, /* input may be taken again */
    UWORK_CLOSE = 2, /* closing may go a step on */
    UWORK_DEAD = 4,
};

/* Bytes to send that TCP did not take: at its limit for one connection, or without blocks left. */
struct overflow {
    struct sendq q;
    struct overflow *next; /* thirsty: no acknowledgement will tell it to try again */
    struct uconn *c;
    bool thirsty;
};

struct uconn {
    struct conn c; /* first: the app's handle; session NULL: none, or it has been told the end */
    struct uconn *work_next;
    struct overflow *over; /* NULL: TCP has all */
    uint32_t taken;        /* bytes consumed; halved at each look for somebody to evict */
    uint32_t since_s;      /* accepted */
    uint16_t away_kib;     /* read away since closing began */
    uint8_t state, how;    /* enum uconn_state, enum conn_end */
    uint8_t work;          /* UWORK_* asked for; not 0: on the work list */
    bool paused : 1;       /* the app left bytes and has not resumed */
    bool choked : 1;       /* too much unsent */
    bool eof : 1;          /* the peer's FIN is here */
    bool gone : 1;         /* TCP is done with it: nothing but tcp_release */
    bool orphan : 1;       /* counted among those without an app */
};
static_assert(sizeof(struct uconn) <= 48, "an idle connection must stay small");

struct user_call;

struct user {
    struct transport t; /* first: the app's handle */
    struct transport_app app;
    struct user_config cfg;
    struct port_queue *q;
    const struct port_ops *port;
    struct stats *stats;
    struct stack *stack;
    struct tcp *tcp;
    void *mem;
    size_t mem_bytes;
    uint32_t conn_at, session_at; /* of struct uconn, and of the app's session, behind struct tcp_conn */
    uint64_t now_us;
    struct sendpool sendpool;
    struct uconn *work_head, *work_tail;
    struct overflow *thirsty;
    uint32_t open_n, orphans_n, orphans_max, tar_n;
    uint64_t evict_us;  /* not before */
    uint32_t idle;      /* turns in a row without work */
    uint64_t active_us; /* the last one with */
    uint64_t cycles;    /* when this turn began */
    int watch_fds[USER_WATCH_MAX];
    uint32_t watch_n;
    struct bell bell;
    atomic_bool woken, stopping;
    struct user_call *_Atomic calls;
    pthread_mutex_t call_lock; /* user_call.c */
    pthread_cond_t call_done;
    bool running; /* under call_lock */
    struct frame rx[PORT_BURST_MAX];
};

static inline struct user *uconn_user(const struct uconn *c)
{
    return (struct user *)c->c.t;
}
static inline struct tcp_conn *uconn_tcp(const struct uconn *c)
{
    return (struct tcp_conn *)((char *)c - uconn_user(c)->conn_at);
}
static inline struct uconn *uconn_of(const struct user *u, struct tcp_conn *tc)
{
    return (struct uconn *)((char *)tc + u->conn_at);
}

/* ---- user.c */
void user_work_add(struct uconn *c, unsigned bits);

/* ---- user_conn.c */
void uconn_event(struct user *u, struct tcp_conn *tc, uint32_t events);
void uconn_work(struct uconn *c, unsigned bits);
void uconn_kill(struct uconn *c, enum conn_end how);
/* At the end of the transport: closes in good order what says so, resets what lies unread. */
void uconn_stop(struct uconn *c);
/* Gives TCP what lies in the overflow. */
void uconn_push(struct uconn *c);
/* The app hears the end, if it has not yet. */
void uconn_report(struct uconn *c);
void uconn_send(struct conn *conn, struct slice data);
void uconn_resume(struct conn *conn);
void uconn_close(struct conn *conn);
void uconn_abort(struct conn *conn);
void uconn_timer(struct conn *conn, uint64_t in_us);

/* ---- user_evict.c */
void user_evict(struct user *u);

/* ---- user_call.c: on the transport's thread */
void user_calls_init(struct user *u);
void user_calls_destroy(struct user *u);
void user_calls_running(struct user *u, bool running);
void user_calls_serve(struct user *u);
