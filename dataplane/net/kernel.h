/* kernel.h - inside the kernel transport: a worker (struct kernel), its connections (struct kconn), and the table that
 * an engine fills (uring.c, epoll.c).  Nobody outside dataplane/net includes this.
 *
 * Who does what.  The engine moves bytes: it accepts, receives into a buffer and hands it to kconn_input, sends from
 * the front of a connection's queue and reports kconn_sent.  kconn.c knows what a connection may do in which state and
 * keeps input that waits.  kernel.c is the loop, the timers, and who is let in.
 *
 * A loop turn: the engine's events; timers; app->turn; the work list (offers, sends, the dead); then sleep.  Nothing is
 * freed outside the work list, so that events and callbacks may hold a connection until the turn ends. */
#pragma once
#include "dataplane/net/sendq.h"
#include "dataplane/net/transport.h"
#include "dataplane/net/wheel.h"
#include "spool/base/bell.h"

#include <assert.h>
#include <stdatomic.h>

#define KERNEL_TICK_US         100000u
#define KERNEL_WATCH_MAX       8u
#define KERNEL_LISTEN_MAX      16u
#define KERNEL_SENDQ_BUDGET    (64u * 1024 * 1024) /* a worker's unsent bytes above which limits tighten */
#define KERNEL_HELD_BUDGET     (16u * 1024 * 1024) /* a worker's copied input that waits for resume */
#define KERNEL_FLUSH_US        30000000u           /* closing: the peer must take something in this time */
#define KERNEL_LINGER_US       2000000u            /* closing: how long we listen for the peer's FIN */
#define KERNEL_LINGER_BYTES    65536u              /* and how much is read away */
#define KERNEL_HELD_LAZY       2u        /* buffers kept of a paused connection before its receive is stopped */
#define KERNEL_ACCEPT_QUIET_US 10000000u /* between log lines about that */
#define KERNEL_ACCEPT_RETRY_US 100000u   /* after accept ran out of descriptors */

/* Input on its way to the app, or waiting for conn_resume. Either a buffer of the engine (on loan) or a copy. */
struct hold {
    struct hold *next;
    const uint8_t *p;
    uint32_t n;
    bool copied; /* malloc'd with its bytes behind it; else the engine's */
};

/* OPEN    -> CLOSING  conn_close, or the peer's FIN once all input was consumed
 * CLOSING -> LINGER   all sent, SHUT_WR done; not when the peer's FIN is here already
 * LINGER  -> DEAD     the peer's FIN, 2 s, or 64 KiB read away
 * any     -> DEAD     abort, reset, no progress, shutdown
 * DEAD    -> GONE     app->closed ran; waits for the engine to let go, then it is freed
 * Nothing goes back: a connection that began to close never calls receive again. */
enum kconn_state { KCONN_OPEN, KCONN_CLOSING, KCONN_LINGER, KCONN_DEAD, KCONN_GONE };

enum {
    WORK_OFFER = 1, /* input may be taken again */
    WORK_FLUSH = 2, /* bytes to send, or closing may go a step on */
    WORK_READ = 4,  /* the engine has more to read (epoll) */
    WORK_DEAD = 8,
};

struct kconn {
    struct conn c; /* first: the app's handle */
    struct kconn *next, *prev;
    struct kconn *work_next;
    struct wheel_node timer;
    struct hold *held, *held_tail;
    struct sendq tx;
    struct kconn *starved_next; /* uring: waits for a buffer */
    int fd;
    uint32_t ops;       /* uring: requests of the kernel that name this connection; freed at 0 */
    uint32_t away;      /* bytes read away since closing began */
    uint16_t held_n;    /* buffers in held */
    uint8_t state, how; /* enum kconn_state, enum conn_end */
    uint8_t work;       /* WORK_* asked for; not 0: on the work list */
    uint8_t rx;         /* the engine's own */
    bool paused;        /* the app left bytes and has not resumed */
    bool choked;        /* too much unsent */
    bool eof;           /* the peer's FIN is here */
    bool reset;         /* end with RST */
    bool tx_busy;       /* a send is under way */
    bool tx_full;       /* epoll: the socket takes no more for now */
};
static_assert(sizeof(struct kconn) <= 256, "an idle connection must stay small");
#define KCONN_BYTES ((sizeof(struct kconn) + 15) & ~(size_t)15) /* the session's memory follows */

struct kernel;

struct engine {
    const char *name;
    /* Before run, any thread: takes what may fail. 0 or -errno. */
    int (*open)(struct kernel *k);
    /* First thing on the worker's thread. */
    int (*start)(struct kernel *k);
    /* Last thing on the worker's thread; no connection is left. */
    void (*finish)(struct kernel *k);
    /* Submits, waits at most wait_us (0: not at all, UINT64_MAX: for ever), calls kernel_clock, handles events. */
    void (*step)(struct kernel *k, uint64_t wait_us);
    /* Work is left that no event will announce. */
    bool (*busy)(struct kernel *k);
    /* Begins to receive. 0 or -errno: the connection is killed. */
    int (*attach)(struct kconn *c);
    void (*read_on)(struct kconn *c);
    void (*read_off)(struct kconn *c);
    /* WORK_READ came up. */
    void (*read_more)(struct kconn *c);
    /* Begins to send the front of c->tx, unless tx_busy. */
    void (*flush)(struct kconn *c);
    /* Lets go of c, now or soon, by kconn_free. */
    void (*detach)(struct kconn *c);
    /* A buffer of the engine is free again. */
    void (*give_back)(struct kernel *k, struct hold *h);
    /* (Re)starts accepting on all listening sockets, or stops it. */
    void (*accept_on)(struct kernel *k);
    void (*accept_off)(struct kernel *k);
    void (*close)(struct kernel *k);
};

extern const struct engine engine_uring, engine_epoll;

struct kernel {
    struct transport t; /* first: the app's handle */
    struct transport_app app;
    struct kernel_config cfg;
    const struct engine *engine;
    void *impl;
    int listen_fds[KERNEL_LISTEN_MAX];
    size_t listen_n;
    int watch_fds[KERNEL_WATCH_MAX]; /* the bell's is the first */
    size_t watch_n;
    uint64_t now_us;
    uint64_t accept_quiet_us; /* failures to accept are not logged again before */
    uint64_t accept_again_us; /* 0: accepting, or never again */
    struct wheel wheel;
    struct sendpool sendpool;
    struct kconn *conns; /* all that are not GONE */
    uint32_t conns_n, gone_n;
    struct kconn *work_head, *work_tail;
    size_t held_copied_bytes;
    uint32_t lent, lent_max; /* engine buffers held now; above lent_max input is copied out */
    struct bell bell;
    atomic_bool woken, stopping;
};

static inline struct kernel *kconn_kernel(const struct kconn *c)
{
    return (struct kernel *)c->c.t;
}

/* ---- kernel.c, for engines */

/* fd was accepted: it is the callee's. */
void kernel_accepted(struct kernel *k, int fd);
/* accept failed with -err: logs, and tells when to accept again. True: at once; false: accept_on will be called. */
bool kernel_accept_failed(struct kernel *k, int err);
/* Takes the time for this turn: before events, since what they set counts from it. */
void kernel_clock(struct kernel *k);
/* Fires no sooner than in_us from kernel_clock. */
void kernel_timer_set(struct kernel *k, struct kconn *c, uint64_t in_us);
void kernel_work_add(struct kconn *c, unsigned bits);

/* ---- kconn.c, for engines and the loop */

/* Fresh bytes may be read: open, not paused, not choked, nothing held, no FIN; or read away while lingering. */
bool kconn_reads(const struct kconn *c);
/* Takes over h. */
void kconn_input(struct kconn *c, struct hold *h);
void kconn_eof(struct kconn *c);
/* n bytes of the front of c->tx went out. */
void kconn_sent(struct kconn *c, size_t n);
void kconn_kill(struct kconn *c, enum conn_end how);
/* The engine holds nothing of it any more. */
void kconn_free(struct kconn *c);

void kconn_work(struct kconn *c, unsigned bits);
void kconn_expired(struct kconn *c);

/* The app's side: behind transport_ops. */
void kconn_send(struct conn *c, struct slice data);
void kconn_resume(struct conn *c);
void kconn_close(struct conn *c);
void kconn_abort(struct conn *c);
