/* wire.h - what carries the generator's bytes: kernel sockets (wire_kernel.c), or our own TCP over a port's queue
 * (wire_user.c).  What is said and counted is the same over both (loadconn.h).
 *
 * Thread: one owner.  A connection is embedded by its owner and is the wire's from connect to close; after close the
 * wire holds no pointer to it, and it may connect again at once, while the old connection ends by itself.
 * Errors: what cannot be gone on with ends the program with a line on stderr. */
#pragma once
#include "bench/lib/sock.h"
#include "spool/base/slice.h"
#include <stdbool.h>
#include <sys/uio.h>

struct tcp_conn;
struct wire;

struct wire_conn {
    bool open;           /* between connect and close */
    bool blocked;        /* bytes are left to write */
    int fd;              /* kernel */
    struct tcp_conn *tc; /* user */
};

enum { WIRE_READ = 1, WIRE_WRITE = 2 };

struct wire_event {
    struct wire_conn *c;
    unsigned what; /* WIRE_*; stale ones are possible: c->open says whether it still means something */
};

struct wire_ops {
    /* Begins a connection: WIRE_READ when it has bytes or has ended; WIRE_WRITE when write took less than it was given
     * and would take more.  0, or negative: not now (ports, memory, descriptors), try again later. */
    int (*connect)(struct wire *w, struct wire_conn *c);
    /* 1: bytes, valid until the next call of the wire; 0: none now; -1: it has ended, or was refused. */
    int (*read)(struct wire *w, struct wire_conn *c, struct slice *in_r);
    /* Copies; how many bytes were taken: at most all.  0 also on a connection that broke: read says so. */
    size_t (*write)(struct wire *w, struct wire_conn *c, const struct iovec *v, unsigned n);
    /* In good order.  abort: with a reset, or, where the other side has not answered yet, without a word. */
    void (*close)(struct wire *w, struct wire_conn *c);
    void (*abort)(struct wire *w, struct wire_conn *c);
    /* Until something happens, or until_us (sock_now_us) has come; what was written leaves at the latest here.  Returns
     * how many events. */
    unsigned (*wait)(struct wire *w, struct wire_event *ev_r, unsigned cap, uint64_t until_us);
    /* Connections that were closed and have not ended yet, as far as they are ours to look after. */
    unsigned (*ending)(const struct wire *w);
    void (*destroy)(struct wire **w);
};

struct wire {
    const struct wire_ops *ops;
};

/* Sockets to that address.  Raise the limit of open files yourself (sock_raise_files). */
struct wire *wire_kernel_open(const struct sock_addr *target);

static inline int wire_connect(struct wire *w, struct wire_conn *c)
{
    return w->ops->connect(w, c);
}
static inline int wire_read(struct wire *w, struct wire_conn *c, struct slice *in_r)
{
    return w->ops->read(w, c, in_r);
}
static inline size_t wire_write(struct wire *w, struct wire_conn *c, const struct iovec *v, unsigned n)
{
    return w->ops->write(w, c, v, n);
}
static inline size_t wire_say(struct wire *w, struct wire_conn *c, struct slice text)
{
    struct iovec v = {(void *)(uintptr_t)text.p, text.n};
    return w->ops->write(w, c, &v, 1);
}
static inline void wire_close(struct wire *w, struct wire_conn *c)
{
    w->ops->close(w, c);
}
static inline void wire_abort(struct wire *w, struct wire_conn *c)
{
    w->ops->abort(w, c);
}
static inline unsigned wire_wait(struct wire *w, struct wire_event *ev_r, unsigned cap, uint64_t until_us)
{
    return w->ops->wait(w, ev_r, cap, until_us);
}
static inline unsigned wire_ending(const struct wire *w)
{
    return w->ops->ending(w);
}
static inline void wire_destroy(struct wire **w)
{
    if (*w)
        (*w)->ops->destroy(w);
}
