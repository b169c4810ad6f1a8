/* transport.h - the contract between the bytes and a session: kernel sockets (uring.c, epoll.c) and DPDK fill it alike.
 *
 * Thread: a transport belongs to one worker thread; every callback runs on it, inside transport_run.
 *
 * Receiving.  app->receive gets the bytes in order and returns how many it consumed.  What it leaves is kept by the
 * transport and offered again, together with later bytes, only after conn_resume(); until then nothing more is read and
 * the TCP window closes: this is the back-pressure.  Consuming everything means: go on.  The slice is valid during the
 * call only.
 *
 * Sending.  conn_send copies into the connection's send queue; queued bytes go out together at the end of the callback
 * round (one send per turn).  Above TRANSPORT_SENDQ_MAX unsent bytes receive is not called until it has drained below
 * half.
 *
 * Closing.  conn_close: send what is queued, then close in good order (shutdown, read away what the peer still says for
 * a bounded time, so that no reset destroys the last reply).  conn_abort: at once.  app->closed runs exactly once for
 * each accepted connection whose accept returned a session, also after conn_close/conn_abort and at shutdown; the conn
 * is gone afterwards. */
#pragma once
#include "spool/base/clock.h"
#include "spool/base/slice.h"

#include <sys/socket.h>

struct transport;
struct conn;

#define TRANSPORT_SENDQ_MAX (256u * 1024)

enum conn_end {
    CONN_END_PEER,    /* the peer closed (FIN) */
    CONN_END_ERROR,   /* reset, or a socket error */
    CONN_END_LOCAL,   /* we closed or aborted */
    CONN_END_SHUTDOWN /* the transport is being destroyed */
};

struct transport_app {
    /* A connection: returns the session that the other callbacks get, or NULL to close it at once without a word. peer
     * and local are valid during the call. */
    void *(*accept)(void *app, struct conn *c, const struct sockaddr_storage *peer,
                    const struct sockaddr_storage *local);
    size_t (*receive)(void *session, struct slice in);
    /* The timer set with conn_timer ran out. */
    void (*timer)(void *session);
    void (*closed)(void *session, enum conn_end how);
    /* Once a loop turn, after all events and before the sends are flushed: the app polls its doors. */
    void (*turn)(void *app);
    /* About to sleep: false means there is work, run another turn at once. */
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

/* ---- kernel sockets */
enum net_engine { NET_AUTO, NET_URING, NET_EPOLL };

struct kernel_config {
    enum net_engine engine; /* AUTO: io_uring where the kernel allows it, else epoll, and says so in the log */
    const int *listen_fds;  /* bound and listening, made by net_listen; one set a worker (SO_REUSEPORT); owned by the
                               transport afterwards */
    size_t listen_n;
    uint32_t
        max_conns; /* above it connections are accepted and closed at once after "421 4.3.2 too many connections" */
    uint32_t recv_buffers;      /* provided buffers of this worker; power of two; 256 */
    uint32_t recv_buffer_bytes; /* 16 KiB */
};
extern const struct kernel_config kernel_config_default;

int transport_kernel_open(struct transport **t_r, const struct kernel_config *cfg, const struct transport_app *app);

/* "127.0.0.1:2525", "[::1]:2525", "*:25" (both families). One socket with SO_REUSEPORT, non-blocking, IPV6_V6ONLY;
 * fills fds_r, at most cap; returns how many or -errno with why_r in words (cap 256). */
int net_listen(const char *address, int *fds_r, size_t cap, char *why_r);
