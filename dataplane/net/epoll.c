/* epoll.c - the engine for where io_uring is disabled: edge-triggered epoll, recv and send.
 *
 * A connection is registered once, for both directions; RX_READY remembers the edge until recv said that nothing is
 * left.  Input is read into one buffer of the worker, and only when the app may take it: what it leaves is copied. */
#include "dataplane/net/kernel.h"

#include "spool/base/err.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { EVENTS = 256, READS_MAX = 4, RECV_TIGHT = 1024 };

/* Low bits of epoll_data; the rest is a struct kconn, or an index. */
enum tag { TAG_CONN = 0, TAG_LISTEN, TAG_WATCH, TAG_MASK = 7 };

/* READY: there may be bytes. LAST: the peer's FIN may be among them, so read until 0. */
enum { RX_READY = 1, RX_LAST = 2 };

struct poller {
    int fd;
    bool accepting;
    struct hold scratch;
    uint8_t mem[]; /* recv_buffer_bytes */
};

static struct poller *poller_of(struct kernel *k)
{
    return k->impl;
}

static int poller_add(struct kernel *k, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event ev = {.events = events | EPOLLET, .data.u64 = data};
    return epoll_ctl(poller_of(k)->fd, EPOLL_CTL_ADD, fd, &ev) == 0 ? 0 : -errno;
}

/* ---- receiving */

static void poller_give_back(struct kernel *k, struct hold *h)
{
    (void)k;
    (void)h; /* the one buffer; it is never lent past kconn_input */
}

/* A connection holds at most one read's worth; over the budget reads are small. */
static size_t poller_recv_max(const struct kernel *k)
{
    size_t cap = k->cfg.recv_buffer_bytes;
    return k->held_copied_bytes > KERNEL_HELD_BUDGET && cap > RECV_TIGHT ? RECV_TIGHT : cap;
}

/* False: nothing more to read for now. */
static bool poller_recv(struct kernel *k, struct kconn *c)
{
    struct poller *p = poller_of(k);
    size_t cap = poller_recv_max(k);
    ssize_t n = recv(c->fd, p->mem, cap, MSG_DONTWAIT);
    if (n > 0) {
        if ((size_t)n < cap && !(c->rx & RX_LAST))
            c->rx = 0;
        p->scratch = (struct hold){.p = p->mem, .n = (uint32_t)n};
        kconn_input(c, &p->scratch);
        return c->rx & RX_READY;
    }
    if (n < 0 && errno == EINTR)
        return true;
    c->rx = 0;
    if (n == 0)
        kconn_eof(c);
    else if (errno != EAGAIN)
        kconn_kill(c, CONN_END_ERROR);
    return false;
}

static void poller_read(struct kconn *c)
{
    struct kernel *k = kconn_kernel(c);
    for (int i = 0; i < READS_MAX; i++)
        if (!(c->rx & RX_READY) || !kconn_reads(c) || !poller_recv(k, c))
            return;
    kernel_work_add(c, WORK_READ); /* others have their turn first */
}

static void poller_read_on(struct kconn *c)
{
    if ((c->rx & RX_READY) && kconn_reads(c))
        kernel_work_add(c, WORK_READ);
}

static void poller_read_off(struct kconn *c)
{
    (void)c; /* nothing is read that may not be */
}

static int poller_attach(struct kconn *c)
{
    return poller_add(kconn_kernel(c), c->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP, (uintptr_t)c | TAG_CONN);
}

/* ---- sending */

static void poller_flush(struct kconn *c)
{
    while (c->tx.bytes > 0 && !c->tx_full && c->state < KCONN_DEAD) {
        struct slice s = sendq_front(&c->tx);
        ssize_t n = send(c->fd, s.p, s.n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0)
            kconn_sent(c, (size_t)n);
        else if (errno == EAGAIN)
            c->tx_full = true;
        else if (errno != EINTR)
            kconn_kill(c, CONN_END_ERROR);
    }
}

static void poller_on_conn(struct kconn *c, uint32_t events)
{
    if (events & EPOLLOUT && c->tx_full) {
        c->tx_full = false;
        kernel_work_add(c, WORK_FLUSH);
    }
    if (events & (EPOLLERR | EPOLLHUP) && !(events & EPOLLIN)) {
        kconn_kill(c, CONN_END_ERROR);
        return;
    }
    if (events & EPOLLERR && !kconn_reads(c)) {
        kconn_kill(c, CONN_END_ERROR); /* a reset; what waits for resume cannot be answered any more */
        return;
    }
    if (events & (EPOLLIN | EPOLLRDHUP))
        c->rx |= RX_READY;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        c->rx |= RX_LAST;
    poller_read(c);
}

/* ---- accepting */

static void poller_accept(struct kernel *k, size_t i)
{
    while (poller_of(k)->accepting) {
        int fd = accept4(k->listen_fds[i], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            kernel_accepted(k, fd);
        else if (errno == EAGAIN || !kernel_accept_failed(k, -errno))
            return;
    }
}

/* Registering again makes the edge come again for what waits already. */
static void poller_accept_on(struct kernel *k)
{
    poller_of(k)->accepting = true;
    for (size_t i = 0; i < k->listen_n; i++) {
        epoll_ctl(poller_of(k)->fd, EPOLL_CTL_DEL, k->listen_fds[i], NULL);
        poller_add(k, k->listen_fds[i], EPOLLIN, i << 3 | TAG_LISTEN);
    }
}

static void poller_accept_off(struct kernel *k)
{
    poller_of(k)->accepting = false; /* closing the descriptors takes them out */
}

/* ---- the turn */

static void poller_event(struct kernel *k, const struct epoll_event *ev)
{
    uint64_t data = ev->data.u64;
    switch ((enum tag)(data & TAG_MASK)) {
    case TAG_CONN:
        poller_on_conn(ev->data.ptr, ev->events);
        break;
    case TAG_LISTEN:
        poller_accept(k, data >> 3);
        break;
    case TAG_WATCH:
    case TAG_MASK:
        break;
    }
}

static void poller_step(struct kernel *k, uint64_t wait_us)
{
    struct epoll_event evs[EVENTS];
    int wait_ms = wait_us == 0 ? 0 : wait_us > 3600000000u ? 3600000 : (int)((wait_us + 999) / 1000);
    int n = epoll_wait(poller_of(k)->fd, evs, EVENTS, wait_ms);
    kernel_clock(k);
    for (int i = 0; i < n; i++)
        poller_event(k, &evs[i]);
}

static bool poller_busy(struct kernel *k)
{
    (void)k;
    return false;
}

static void poller_detach(struct kconn *c)
{
    kconn_free(c); /* closing takes it out of the set */
}

/* ---- making and destroying */

static void poller_close(struct kernel *k)
{
    close(poller_of(k)->fd);
    free(k->impl);
    k->impl = NULL;
}

static int poller_open(struct kernel *k)
{
    struct poller *p = calloc(1, sizeof *p + k->cfg.recv_buffer_bytes);
    if (!p)
        return -SATCHEL_ENOMEM;
    p->fd = epoll_create1(EPOLL_CLOEXEC);
    if (p->fd < 0) {
        int err = -errno;
        free(p);
        return err;
    }
    k->impl = p;
    k->lent_max = 0;
    return 0;
}

static int poller_start(struct kernel *k)
{
    for (size_t i = 0; i < k->watch_n; i++) {
        int err = poller_add(k, k->watch_fds[i], EPOLLIN, i << 3 | TAG_WATCH);
        if (err)
            return err;
    }
    return 0;
}

static void poller_finish(struct kernel *k)
{
    (void)k;
}

const struct engine engine_epoll = {
    .name = "epoll",
    .open = poller_open,
    .start = poller_start,
    .finish = poller_finish,
    .step = poller_step,
    .busy = poller_busy,
    .attach = poller_attach,
    .read_on = poller_read_on,
    .read_off = poller_read_off,
    .read_more = poller_read,
    .flush = poller_flush,
    .detach = poller_detach,
    .give_back = poller_give_back,
    .accept_on = poller_accept_on,
    .accept_off = poller_accept_off,
    .close = poller_close,
};
