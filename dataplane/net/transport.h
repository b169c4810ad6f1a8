/* transport.h - the contract between the bytes and a session: kernel sockets (uring.c, epoll.c) and DPDK fill it alike.
 *
 * Thread: a transport belongs to one worker thread; every callback runs on it, inside run().  Only stop and wake may be
 * called from other threads.  open may run on another thread than run, before it.
 *
 * Receiving.  app->receive gets the bytes in order and returns how many it consumed.  What it leaves is kept by the
 * transport and offered again, then later bytes (as one or more slices), only after conn_resume(); until then nothing
 * more is read and the TCP window closes: this is the back-pressure.  Consuming everything means: go on.  The slice is
 * valid during the call only.  conn_resume from inside receive counts for what that call leaves.
 *
 * Sending.  conn_send copies into the connection's send queue; queued bytes go out together at the end of the callback
 * round (one send per turn).  Above TRANSPORT_SENDQ_MAX unsent bytes receive is not called until it has drained below
 * half.  When all connections of a worker together hold too much, the limit of each falls to TRANSPORT_SENDQ_TIGHT.
 *
 * Closing.  conn_close: send what is queued, then close in good order (shutdown, read away what the peer still says for
 * a bounded time, so that no reset destroys the last reply).  conn_abort: at once, with a reset.  After either, neither
 * receive nor timer is called any more, and what is sent is dropped.
 * The peer's FIN: bytes that came before it are offered first, also across a pause; then queued bytes are sent and the
 * connection closes.  A reset is noticed at the latest on resume and drops what was not consumed.
 * app->closed runs exactly once for each accepted connection whose accept returned a session, also after
 * conn_close/conn_abort and at shutdown, never from inside another callback; the conn is gone afterwards.  When run()
 * returns, all connections are closed. */
#pragma once
#include "spool/base/clock.h"
#include "spool/base/slice.h"

#include <sys/socket.h>

struct transport;
struct conn;

#define TRANSPORT_SENDQ_MAX   (256u * 1024)
#define TRANSPORT_SENDQ_TIGHT (4u * 1024)

enum conn_end {
    CONN_END_PEER,    /* the peer closed (FIN) */
    CONN_END_ERROR,   /* reset, or a socket error */
    CONN_END_LOCAL,   /* we closed or aborted */
    CONN_END_SHUTDOWN /* the transport stopped */
};

#define TRANSPORT_AHEAD_BYTES 128u

struct transport_app {
    /* Of memory for a session.  The transport lays it beside what it keeps of the connection itself: c->session says
     * where when accept is called, zeroed, 16-byte aligned (user.h: on a cache line), and it stays the app's until
     * closed has returned.  Its first TRANSPORT_AHEAD_BYTES are what should be looked at for each few bytes that come:
     * they are fetched ahead.  0: the app has its own; c->session is NULL then. */
    size_t session_bytes;
    /* A connection: returns the session that the other callbacks get, or NULL to close it at once without a word. peer
     * and local are valid during the call. */
    void *(*accept)(void *app, struct conn *c, const struct sockaddr_storage *peer,
                    const struct sockaddr_storage *local);
    size_t (*receive)(void *session, struct slice in);
    /* The timer set with conn_timer ran out. */
    void (*timer)(void *session);
    /* The peer will say no more (FIN), and all it said was consumed.  true: an answer is outstanding; the connection
     * stays open for it until conn_resume or conn_close.  false, or NULL: it is closed. */
    bool (*ended)(void *session);
    void (*closed)(void *session, enum conn_end how);
    /* Once a loop turn, after all events and before the sends are flushed: the app polls its doors.  May be NULL. */
    void (*turn)(void *app);
    /* About to sleep: false means there is work, run another turn at once.  May be NULL. */
    bool (*sleep)(void *app);
    void *app;
};

struct transport_ops {
    void (*send)(struct conn *c, struct slice data);
    void (*resume)(struct conn *c);
    void (*close)(struct conn *c);
    void (*abort)(struct conn *c);
    /* One timer a connection; replaces an earlier one; 0 stops it. Coarse: fires up to 100 ms late. */
    void (*timer)(struct conn *c, uint64_t in_us);
    /* Also wakes the loop when fd is readable (the intake door's). Before run. */
    int (*watch)(struct transport *t, int fd);
    /* Stops accepting; listening sockets are closed. From the worker's thread. */
    void (*stop_accepting)(struct transport *t);
    /* Loops until transport_stop; 0 or an error. */
    int (*run)(struct transport *t);
    /* Any thread: run() ends after its turn. */
    void (*stop)(struct transport *t);
    /* Any thread: makes the loop run a turn soon. */
    void (*wake)(struct transport *t);
    void (*destroy)(struct transport **t);
};

struct transport {
    const struct transport_ops *ops;
};

struct conn {
    struct transport *t;
    void *session;
};

static inline void conn_send(struct conn *c, struct slice data)
{
    c->t->ops->send(c, data);
}
static inline void conn_resume(struct conn *c)
{
    c->t->ops->resume(c);
}
static inline void conn_close(struct conn *c)
{
    c->t->ops->close(c);
}
static inline void conn_abort(struct conn *c)
{
    c->t->ops->abort(c);
}
static inline void conn_timer(struct conn *c, uint64_t in_us)
{
    c->t->ops->timer(c, in_us);
}

/* DPDK: not this file's, see user.h */
enum net_engine { NET_AUTO, NET_URING, NET_EPOLL, NET_DPDK };

/* ---- kernel sockets */

struct kernel_config {
    enum net_engine engine; /* AUTO: io_uring where the kernel allows it, else epoll, and says so in the log */
    const int *listen_fds;  /* bound and listening, made by net_listen; one set a worker (SO_REUSEPORT); owned by the
                               transport afterwards */
    size_t listen_n;
    uint32_t
        max_conns; /* above it connections are accepted and closed at once after "421 4.3.2 Too many connections" */
    uint32_t recv_buffers;      /* provided buffers of this worker; power of two, 2..32768; 256 */
    uint32_t recv_buffer_bytes; /* 256 bytes..1 MiB; 16 KiB */
};
extern const struct kernel_config kernel_config_default;

/* 0 or -errno: -EINVAL for a bad configuration; with NET_URING what io_uring_setup said.  On failure the listening
 * sockets stay the caller's. */
int transport_kernel_open(struct transport **t_r, const struct kernel_config *cfg, const struct transport_app *app);

/* "io_uring" or "epoll"; static storage. */
const char *transport_kernel_engine(const struct transport *t);

/* ---- listening sockets (listen.c) */

#define NET_WHY_MAX 256

/* "127.0.0.1:2525", "[::1]:2525", "*:25" (both families). One socket a family with SO_REUSEPORT, non-blocking,
 * IPV6_V6ONLY, TCP_NODELAY (accepted sockets inherit it); fills fds_r, at most cap; returns how many or -errno with
 * why_r (NET_WHY_MAX) in words.  "*" goes without IPv6 where the machine has none. */
int net_listen(const char *address, int *fds_r, size_t cap, char *why_r);
/* Is the address well formed?  0 or -EINVAL with why_r; opens nothing. */
int net_listen_check(const char *address, char *why_r);
/* The port a socket is bound to (asked with port 0), in host order; -errno. */
int net_listen_port(int fd);
