/* uring.c - the io_uring engine: multishot accept and receive, a ring of provided buffers, one system call a turn.
 *
 * Each connection has at most one receive and one send in the kernel.  Every request carries the connection's address
 * with the kind in its low bits; kconn.ops counts them, and a connection is freed when its last has come back.
 *
 * Receiving.  A buffer is the connection's from the completion until the app consumed it; then it goes back to the end
 * of the ring.  When the kernel finds the ring empty, the receive ends with ENOBUFS: the connection joins the starved
 * list and is armed again when buffers are back, one for each, so that nobody spins.
 *
 * Needs Linux 6.0 (multishot receive); 6.1 adds DEFER_TASKRUN, which keeps completions out of our way until we ask. */
#include "dataplane/net/kernel.h"

#include "spool/base/err.h"

#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SQ_ENTRIES = 512, CQ_ENTRIES = 4096, GROUP = 0, EVENTS_A_TURN = 64 };

/* Low bits of user_data; the rest is a struct kconn, or an index for ACCEPT and WATCH. */
enum op { OP_IGNORE, OP_RECV, OP_SEND, OP_ACCEPT, OP_WATCH, OP_MASK = 7 };

enum rx_state { RX_OFF, RX_ON, RX_STOPPING, RX_STARVED };

struct uring {
    struct io_uring ring;
    struct io_uring_buf_ring *bufs; /* the ring the kernel takes from */
    size_t bufs_bytes;
    uint8_t *mem;       /* recv_buffers of recv_buffer_bytes */
    struct hold *holds; /* one a buffer; its index is the buffer's id */
    uint32_t out;       /* buffers that are not in the ring */
    struct kconn *starved, *starved_tail;
    bool registered;
    bool eventful; /* something happened that the loop must hear of */
    bool accepting;
    bool armed[KERNEL_LISTEN_MAX]; /* an accept is in the kernel */
};

static struct uring *uring_of(struct kernel *k)
{
    return k->impl;
}

static struct io_uring_sqe *uring_sqe(struct uring *u)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    while (!sqe) {
        io_uring_submit(&u->ring);
        sqe = io_uring_get_sqe(&u->ring);
    }
    return sqe;
}

static uint64_t uring_key(const struct kconn *c, enum op op)
{
    return (uint64_t)(uintptr_t)c | op;
}

static uint64_t uring_index_key(size_t i, enum op op)
{
    return (uint64_t)i << 3 | op;
}

/* Its own completion says nothing that the cancelled request's does not. */
static void uring_cancel(struct uring *u, uint64_t key)
{
    struct io_uring_sqe *sqe = uring_sqe(u);
    io_uring_prep_cancel64(sqe, key, 0);
    io_uring_sqe_set_data64(sqe, OP_IGNORE);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

/* ---- receiving */

static void uring_give_back(struct kernel *k, struct hold *h)
{
    struct uring *u = uring_of(k);
    uint16_t id = (uint16_t)(h - u->holds);
    io_uring_buf_ring_add(u->bufs, u->mem + (size_t)id * k->cfg.recv_buffer_bytes, k->cfg.recv_buffer_bytes, id,
                          io_uring_buf_ring_mask(k->cfg.recv_buffers), 0);
    io_uring_buf_ring_advance(u->bufs, 1);
    u->out--;
}

/* poll_first: nothing is expected there yet, so do not try. */
static void uring_recv(struct kconn *c, bool poll_first)
{
    struct io_uring_sqe *sqe = uring_sqe(uring_of(kconn_kernel(c)));
    io_uring_prep_recv_multishot(sqe, c->fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = GROUP;
    if (poll_first)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    io_uring_sqe_set_data64(sqe, uring_key(c, OP_RECV));
    c->rx = RX_ON;
    c->ops++;
}

static int uring_attach(struct kconn *c)
{
    uring_recv(c, true); /* the server speaks first */
    return 0;
}

static void uring_read_on(struct kconn *c)
{
    if (c->rx == RX_OFF && kconn_reads(c))
        uring_recv(c, false);
}

static void uring_read_off(struct kconn *c)
{
    if (c->rx != RX_ON)
        return;
    c->rx = RX_STOPPING;
    uring_cancel(uring_of(kconn_kernel(c)), uring_key(c, OP_RECV));
}

static void uring_starve(struct uring *u, struct kconn *c)
{
    c->rx = RX_STARVED;
    c->ops++; /* the list's */
    c->starved_next = NULL;
    if (u->starved)
        u->starved_tail->starved_next = c;
    else
        u->starved = c;
    u->starved_tail = c;
}

static void uring_let_go(struct kconn *c)
{
    if (c->ops == 0 && c->state == KCONN_GONE)
        kconn_free(c);
}

/* As many as there are buffers for; the dead are let go whatever the ring holds. */
static void uring_feed(struct kernel *k, struct uring *u)
{
    struct kconn *c = u->starved, *next;
    uint32_t room = k->cfg.recv_buffers - u->out;
    u->starved = NULL;
    for (; c; c = next) {
        next = c->starved_next;
        c->ops--;
        c->rx = RX_OFF;
        if (kconn_reads(c) && room == 0) {
            uring_starve(u, c);
        } else if (kconn_reads(c)) {
            room--;
            uring_recv(c, false);
        }
        uring_let_go(c);
    }
}

static void uring_take(struct kernel *k, struct kconn *c, uint16_t id, int n)
{
    struct uring *u = uring_of(k);
    struct hold *h = &u->holds[id];
    u->out++;
    if (n <= 0) {
        uring_give_back(k, h);
        return;
    }
    *h = (struct hold){.p = u->mem + (size_t)id * k->cfg.recv_buffer_bytes, .n = (uint32_t)n};
    kconn_input(c, h);
}

static void uring_on_recv(struct kernel *k, struct kconn *c, int res, uint32_t flags)
{
    struct uring *u = uring_of(k);
    u->eventful = true;
    if (!(flags & IORING_CQE_F_MORE)) {
        c->rx = RX_OFF;
        c->ops--;
    }
    if (flags & IORING_CQE_F_BUFFER)
        uring_take(k, c, (uint16_t)(flags >> IORING_CQE_BUFFER_SHIFT), res);
    if (res == 0)
        kconn_eof(c);
    else if (res == -ENOBUFS && c->state < KCONN_DEAD)
        uring_starve(u, c);
    else if (res < 0 && res != -ECANCELED && res != -EINTR && res != -EAGAIN && res != -ENOBUFS)
        kconn_kill(c, CONN_END_ERROR);
    uring_read_on(c);
    uring_let_go(c);
}

/* ---- sending */

static void uring_flush(struct kconn *c)
{
    if (c->tx_busy)
        return;
    struct slice s = sendq_front(&c->tx);
    struct io_uring_sqe *sqe = uring_sqe(uring_of(kconn_kernel(c)));
    io_uring_prep_send(sqe, c->fd, s.p, s.n, MSG_NOSIGNAL);
    io_uring_sqe_set_data64(sqe, uring_key(c, OP_SEND));
    c->tx_busy = true;
    c->ops++;
}

/* A send that went out whole on an open connection is no news: the loop need not turn for it. */
static void uring_on_send(struct kernel *k, struct kconn *c, int res)
{
    c->tx_busy = false;
    c->ops--;
    if (res >= 0)
        kconn_sent(c, (size_t)res);
    else if (res == -EINTR || res == -EAGAIN)
        kernel_work_add(c, WORK_FLUSH);
    else if (res != -ECANCELED)
        kconn_kill(c, CONN_END_ERROR);
    if (k->work_head)
        uring_of(k)->eventful = true;
    uring_let_go(c);
}

/* ---- accepting, watching */

static void uring_accept(struct kernel *k, size_t i)
{
    struct io_uring_sqe *sqe = uring_sqe(uring_of(k));
    io_uring_prep_multishot_accept(sqe, k->listen_fds[i], NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data64(sqe, uring_index_key(i, OP_ACCEPT));
    uring_of(k)->armed[i] = true;
}

static void uring_accept_on(struct kernel *k)
{
    struct uring *u = uring_of(k);
    for (size_t i = 0; i < k->listen_n; i++) {
        /* On a non-blocking socket the kernel answers EAGAIN instead of waiting. */
        fcntl(k->listen_fds[i], F_SETFL, fcntl(k->listen_fds[i], F_GETFL) & ~O_NONBLOCK);
        if (!u->armed[i])
            uring_accept(k, i);
    }
    u->accepting = true;
}

static void uring_accept_off(struct kernel *k)
{
    struct uring *u = uring_of(k);
    if (!u->accepting)
        return;
    u->accepting = false;
    for (size_t i = 0; i < k->listen_n; i++)
        uring_cancel(u, uring_index_key(i, OP_ACCEPT));
    io_uring_submit(&u->ring); /* before the descriptors are closed */
}

static void uring_on_accept(struct kernel *k, size_t i, int res, uint32_t flags)
{
    struct uring *u = uring_of(k);
    u->eventful = true;
    if (!(flags & IORING_CQE_F_MORE))
        u->armed[i] = false;
    if (!u->accepting) {
        if (res >= 0)
            close(res); /* came in between */
        return;
    }
    if (res >= 0)
        kernel_accepted(k, res);
    bool again = res >= 0 || kernel_accept_failed(k, res);
    if (!u->armed[i] && again && u->accepting)
        uring_accept(k, i);
}

static void uring_poll(struct kernel *k, size_t i)
{
    struct io_uring_sqe *sqe = uring_sqe(uring_of(k));
    io_uring_prep_poll_multishot(sqe, k->watch_fds[i], POLLIN);
    io_uring_sqe_set_data64(sqe, uring_index_key(i, OP_WATCH));
}

static void uring_on_watch(struct kernel *k, size_t i, int res, uint32_t flags)
{
    uring_of(k)->eventful = true;
    if (!(flags & IORING_CQE_F_MORE) && res != -ECANCELED)
        uring_poll(k, i);
}

/* ---- the turn */

static struct kconn *uring_conn(const struct io_uring_cqe *cqe, enum op op)
{
    char *key = io_uring_cqe_get_data(cqe);
    return (struct kconn *)(key - op);
}

static void uring_event(struct kernel *k, const struct io_uring_cqe *cqe)
{
    uint64_t key = cqe->user_data;
    switch ((enum op)(key & OP_MASK)) {
    case OP_RECV:
        uring_on_recv(k, uring_conn(cqe, OP_RECV), cqe->res, cqe->flags);
        break;
    case OP_SEND:
        uring_on_send(k, uring_conn(cqe, OP_SEND), cqe->res);
        break;
    case OP_ACCEPT:
        uring_on_accept(k, key >> 3, cqe->res, cqe->flags);
        break;
    case OP_WATCH:
        uring_on_watch(k, key >> 3, cqe->res, cqe->flags);
        break;
    case OP_IGNORE:
    case OP_MASK:
        break;
    }
}

static void uring_enter(struct uring *u, uint64_t wait_us)
{
    struct __kernel_timespec ts = {.tv_sec = (long long)(wait_us / 1000000),
                                   .tv_nsec = (long long)(wait_us % 1000000) * 1000};
    struct io_uring_cqe *cqe;
    if (wait_us == 0)
        io_uring_submit_and_get_events(&u->ring);
    else if (wait_us == UINT64_MAX)
        io_uring_submit_and_wait(&u->ring, 1);
    else
        io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &ts, NULL);
}

static void uring_events(struct kernel *k, struct uring *u)
{
    struct io_uring_cqe *cqe;
    unsigned head, n = 0;
    io_uring_for_each_cqe(&u->ring, head, cqe)
    {
        uring_event(k, cqe);
        if (++n == EVENTS_A_TURN)
            break;
    }
    io_uring_cq_advance(&u->ring, n);
}

/* Sends complete while they are submitted, and would end the wait at once: go on waiting after those. */
static void uring_step(struct kernel *k, uint64_t wait_us)
{
    struct uring *u = uring_of(k);
    uint64_t end_us = wait_us == UINT64_MAX ? wait_us : k->now_us + wait_us;
    u->eventful = false;
    for (;;) {
        uring_enter(u, wait_us);
        kernel_clock(k);
        uring_events(k, u);
        if (u->eventful || wait_us == 0)
            break;
        if (end_us == UINT64_MAX)
            continue;
        if (k->now_us >= end_us)
            break;
        wait_us = end_us - k->now_us;
    }
    if (u->starved)
        uring_feed(k, u);
}

static bool uring_busy(struct kernel *k)
{
    struct uring *u = uring_of(k);
    return u->starved && u->out < k->cfg.recv_buffers;
}

static void uring_detach(struct kconn *c)
{
    uring_read_off(c);
    if (c->tx_busy)
        uring_cancel(uring_of(kconn_kernel(c)), uring_key(c, OP_SEND));
    uring_let_go(c);
}

/* ---- making and destroying */

static int uring_queue_init(struct uring *u)
{
    /* Disabled until start: the thread that enables the ring becomes its single issuer. */
    unsigned flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_R_DISABLED |
                     IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN;
    struct io_uring_params p = {.flags = flags | IORING_SETUP_DEFER_TASKRUN, .cq_entries = CQ_ENTRIES};
    int err = io_uring_queue_init_params(SQ_ENTRIES, &u->ring, &p);
    if (err != -EINVAL)
        return err;
    p = (struct io_uring_params){.flags = flags, .cq_entries = CQ_ENTRIES};
    return io_uring_queue_init_params(SQ_ENTRIES, &u->ring, &p);
}

static void *uring_map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static int uring_buffers_init(struct kernel *k, struct uring *u)
{
    uint32_t n = k->cfg.recv_buffers;
    u->bufs_bytes = n * sizeof(struct io_uring_buf);
    u->bufs = uring_map(u->bufs_bytes);
    u->mem = uring_map((size_t)n * k->cfg.recv_buffer_bytes);
    u->holds = calloc(n, sizeof *u->holds);
    if (!u->bufs || !u->mem || !u->holds)
        return -SATCHEL_ENOMEM;
    struct io_uring_buf_reg reg = {.ring_addr = (uintptr_t)u->bufs, .ring_entries = n, .bgid = GROUP};
    int err = io_uring_register_buf_ring(&u->ring, &reg, 0);
    if (err)
        return err;
    io_uring_buf_ring_init(u->bufs);
    u->out = n;
    for (uint32_t i = 0; i < n; i++)
        uring_give_back(k, &u->holds[i]);
    k->lent_max = n / 4;
    return 0;
}

static void uring_close(struct kernel *k)
{
    struct uring *u = uring_of(k);
    if (u->ring.ring_fd >= 0)
        io_uring_queue_exit(&u->ring);
    if (u->bufs)
        munmap(u->bufs, u->bufs_bytes);
    if (u->mem)
        munmap(u->mem, (size_t)k->cfg.recv_buffers * k->cfg.recv_buffer_bytes);
    free(u->holds);
    free(u);
    k->impl = NULL;
}

static int uring_open(struct kernel *k)
{
    struct uring *u = calloc(1, sizeof *u);
    if (!u)
        return -SATCHEL_ENOMEM;
    k->impl = u;
    int err = uring_queue_init(u);
    if (err)
        u->ring.ring_fd = -1;
    else
        err = uring_buffers_init(k, u);
    if (err)
        uring_close(k);
    return err;
}

static int uring_start(struct kernel *k)
{
    struct uring *u = uring_of(k);
    /* io_uring_enable_rings is declared, but Debian 12's shared library does not export it. */
    int err = io_uring_register((unsigned)u->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    if (err)
        return err;
    u->registered = io_uring_register_ring_fd(&u->ring) == 1; /* saves a descriptor look-up a call; works without */
    for (size_t i = 0; i < k->watch_n; i++)
        uring_poll(k, i);
    return 0;
}

/* A registered ring belongs to the thread that registered it. */
static void uring_finish(struct kernel *k)
{
    struct uring *u = uring_of(k);
    if (u->registered)
        io_uring_unregister_ring_fd(&u->ring);
}

const struct engine engine_uring = {
    .name = "io_uring",
    .open = uring_open,
    .start = uring_start,
    .finish = uring_finish,
    .step = uring_step,
    .busy = uring_busy,
    .attach = uring_attach,
    .read_on = uring_read_on,
    .read_off = uring_read_off,
    .flush = uring_flush,
    .detach = uring_detach,
    .give_back = uring_give_back,
    .accept_on = uring_accept_on,
    .accept_off = uring_accept_off,
    .close = uring_close,
};
