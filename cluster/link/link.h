/* link.h - one connection between two nodes: TLS, HELLO, frames both ways, pings, until it ends.
 *
 *   CONNECTING --> HANDSHAKE --> HELLO --> UP ---------+--> DEAD
 *     (dialer)         |           | \      ^          |
 *                      |           |  ANSWERED         |
 *                      |           |   (acceptor: accepted, waits for the dialer's word)
 *                      +-----------+----------> CLOSING: what the other side should read goes out, then the socket's
 * end is waited for (1 s), since closing with unread input would take the words back
 *
 * Everything but a few bytes happens in link_run, which the owner calls for the links on the work list: events, send
 * and timers only put them there.  A DEAD link is put on the list of the dead; its owner takes it off and frees it.
 * Callbacks run inside link_run only.  Thread: one. */
#pragma once
#include "cluster/link/frame.h"
#include "cluster/link/hello.h"
#include "cluster/link/outq.h"
#include "cluster/link/peers.h"
#include "cluster/link/sock.h"
#include "cluster/link/tls.h"

enum {
    LINK_READ_BYTES = 256 * 1024,     /* received at a time, for all links */
    LINK_TURN_BYTES = 1024 * 1024,    /* received from one link before others have their turn */
    LINK_FLUSH_BYTES = 64 * 1024,     /* queued: do not wait for the next poll */
    LINK_GREET_US = 5 * 1000 * 1000,  /* from the first packet to UP */
    LINK_LINGER_US = 1 * 1000 * 1000, /* CLOSING */
};

enum link_state { LINK_CONNECTING, LINK_HANDSHAKE, LINK_HELLO, LINK_ANSWERED, LINK_UP, LINK_CLOSING, LINK_DEAD };

struct link;

/* What all links of a node share. */
struct links {
    const struct clock *clock;
    const struct peers_tls_config *cfg;
    const struct link_app *app;
    void *arg;
    struct tls *tls;
    int epoll;
    uint8_t *rx, *tx;                 /* LINK_READ_BYTES, TLS_RECORD_BYTES */
    struct link *all, *work, *deaths; /* every link; something to do; to be buried */
    uint64_t due_us;                  /* a link wants its tick; brought forward by them, put back by the owner */
};

struct link_app {
    /* Before HELLO is sent: does the certificate fit?  False: why_r says why not. */
    bool (*greets)(void *arg, struct link *l, char *why_r);
    /* Its HELLO: may it be our peer?  Sets l->peer where it is clear whose fault a refusal is. */
    bool (*judges)(void *arg, struct link *l, const struct peer_hello *h, char *why_r);
    void (*up)(void *arg, struct link *l);
    void (*frame)(void *arg, struct link *l, const struct frame *f);
    /* Half of the buffer is free again after a send that found it full. */
    void (*room)(void *arg, struct link *l);
};

enum link_end { LINK_END_LOST, LINK_END_REFUSED, LINK_END_DAMAGED, LINK_END_UNWANTED };

struct link {
    struct links *ls;
    struct link *next, **prev; /* ls->all */
    struct link *work_next, *dead_next;
    struct peer *peer; /* the owner's; NULL: a stranger */
    struct tls_conn *tls;
    int fd;
    enum link_state state;
    enum link_end end;
    bool dialer;
    bool working;         /* on the work list */
    bool readable, full;  /* as far as we know: there is input; the socket takes nothing */
    bool starved;         /* a send was told to wait */
    bool shut;            /* CLOSING: our side is closed */
    uint64_t deadline_us; /* of all states but UP */
    uint64_t born_us, heard_us, pinged_us;
    struct frame_split in;
    struct outq out;
    size_t record_n;         /* bytes that TLS took, but not the socket: the next write is as long */
    struct peer_hello hello; /* theirs */
    uint64_t sent, received, rtt_us;
    int64_t skew_us;
    char from[SOCK_TEXT_MAX]; /* the other side's address */
    char why[WHY_MAX];
};

/* Takes the socket over, also on failure (NULL). */
struct link *link_new(struct links *ls, int fd, bool dialer, const struct sock_addr *from);
/* From epoll. */
void link_event(struct link *l, uint32_t events);
/* Something to do: run it. */
void link_work(struct link *l);
/* Reads (unless only flushing), acts, writes. */
void link_run(struct link *l, bool reads);
/* Queues a frame of the link's user.  0, -SATCHEL_EAGAIN, -SATCHEL_ENOENT: not up. */
int link_send(struct link *l, struct fbuf *f);
/* Pings and deadlines; returns when to look again. */
uint64_t link_tick(struct link *l, uint64_t now_us);
/* Tells the other side and closes. */
void link_refuse(struct link *l, const char *why);
/* At once. */
__attribute__((format(printf, 3, 4))) void link_die(struct link *l, enum link_end end, const char *fmt, ...);
void link_free(struct link *l);
