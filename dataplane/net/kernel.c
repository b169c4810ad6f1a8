/* kernel.c - the kernel transport's worker: its loop, its timers, who is let in, and its end. */
#include "dataplane/net/kernel.h"

#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/metrics.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

enum { WORK_ROUNDS_MAX = 4 };

const struct kernel_config kernel_config_default = {
    .engine = NET_AUTO,
    .max_conns = 20000,
    .recv_buffers = 256,
    .recv_buffer_bytes = 16 * 1024,
};

void kernel_clock(struct kernel *k)
{
    k->now_us = clock_boot_us(clock_system());
}

/* ---- the work list: each connection at most once, in the order of asking */

void kernel_work_add(struct kconn *c, unsigned bits)
{
    struct kernel *k = kconn_kernel(c);
    bool listed = c->work != 0;
    c->work |= (uint8_t)bits;
    if (listed)
        return;
    c->work_next = NULL;
    if (k->work_head)
        k->work_tail->work_next = c;
    else
        k->work_head = c;
    k->work_tail = c;
}

/* What is on the list now; what that adds waits for the next call. */
static void kernel_work(struct kernel *k)
{
    struct kconn *c = k->work_head, *next;
    k->work_head = NULL;
    for (; c; c = next) {
        next = c->work_next;
        unsigned bits = c->work;
        c->work = 0;
        kconn_work(c, bits);
    }
}

/* ---- timers */

void kernel_timer_set(struct kernel *k, struct kconn *c, uint64_t in_us)
{
    wheel_set(&k->wheel, &c->timer, (k->now_us + in_us + KERNEL_TICK_US - 1) / KERNEL_TICK_US);
}

static void kernel_conn_timer(struct conn *conn, uint64_t in_us)
{
    struct kconn *c = (struct kconn *)conn;
    if (c->state != KCONN_OPEN)
        return; /* closing has deadlines of its own */
    if (in_us == 0)
        wheel_stop(&c->timer);
    else
        kernel_timer_set(kconn_kernel(c), c, in_us);
}

static void kernel_timers(struct kernel *k)
{
    struct wheel_node *n;
    while ((n = wheel_expired(&k->wheel, k->now_us / KERNEL_TICK_US)) != NULL)
        kconn_expired((struct kconn *)((char *)n - offsetof(struct kconn, timer)));
    if (k->accept_again_us && k->now_us >= k->accept_again_us) {
        k->accept_again_us = 0;
        k->engine->accept_on(k);
    }
}

static uint64_t kernel_next_us(struct kernel *k)
{
    uint64_t tick = wheel_next(&k->wheel);
    uint64_t at = tick == UINT64_MAX ? UINT64_MAX : tick * KERNEL_TICK_US;
    if (k->accept_again_us && k->accept_again_us < at)
        at = k->accept_again_us;
    return at == UINT64_MAX ? at : at > k->now_us ? at - k->now_us : 1;
}

/* ---- who is let in */

static void kernel_turn_away(int fd)
{
    static const char sorry[] = "421 4.3.2 Too many connections, try again later\r\n";
    ssize_t rc = send(fd, sorry, sizeof sorry - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)rc; /* a courtesy */
    shutdown(fd, SHUT_WR);
    close(fd);
    metric_add(M_SMTP_REFUSED, 1);
}

static struct kconn *kernel_conn_new(struct kernel *k, int fd)
{
    struct kconn *c = calloc(1, KCONN_BYTES + k->app.session_bytes);
    if (!c)
        return NULL;
    c->c.t = &k->t;
    c->c.session = k->app.session_bytes ? (char *)c + KCONN_BYTES : NULL;
    c->fd = fd;
    c->next = k->conns;
    if (c->next)
        c->next->prev = c;
    k->conns = c;
    k->conns_n++;
    return c;
}

void kernel_accepted(struct kernel *k, int fd)
{
    struct sockaddr_storage peer = {0}, local = {0};
    socklen_t peer_len = sizeof peer, local_len = sizeof local;
    if (getpeername(fd, (struct sockaddr *)&peer, &peer_len) != 0 ||
        getsockname(fd, (struct sockaddr *)&local, &local_len) != 0) {
        close(fd); /* gone before we looked */
        return;
    }
    struct kconn *c = k->conns_n < k->cfg.max_conns ? kernel_conn_new(k, fd) : NULL;
    if (!c) {
        kernel_turn_away(fd);
        return;
    }
    c->c.session = k->app.accept(k->app.app, &c->c, &peer, &local);
    if (!c->c.session)
        kconn_kill(c, CONN_END_LOCAL);
    else if (k->engine->attach(c) != 0)
        kconn_kill(c, CONN_END_ERROR);
}

bool kernel_accept_failed(struct kernel *k, int err)
{
    if (err == -ECONNABORTED || err == -EINTR || err == -EAGAIN || err == -EPROTO)
        return true;
    if (k->now_us >= k->accept_quiet_us) {
        k->accept_quiet_us = k->now_us + KERNEL_ACCEPT_QUIET_US;
        log_warning("net.accept_failed", "retry_ms=%u why=\"%s\"", KERNEL_ACCEPT_RETRY_US / 1000,
                    satchel_strerror(err));
    }
    k->accept_again_us = k->now_us + KERNEL_ACCEPT_RETRY_US;
    return false;
}

static void kernel_stop_accepting(struct transport *t)
{
    struct kernel *k = (struct kernel *)t;
    k->engine->accept_off(k);
    k->accept_again_us = 0;
    while (k->listen_n > 0)
        close(k->listen_fds[--k->listen_n]);
}

/* ---- the loop */

static bool kernel_must_run(struct kernel *k)
{
    return atomic_load_explicit(&k->stopping, memory_order_relaxed) ||
           atomic_exchange_explicit(&k->woken, false, memory_order_relaxed);
}

static uint64_t kernel_wait_us(struct kernel *k)
{
    if (k->work_head || k->engine->busy(k) || (k->app.sleep && !k->app.sleep(k->app.app)))
        return 0;
    bell_arm(&k->bell);
    if (kernel_must_run(k)) {
        bell_disarm(&k->bell);
        return 0;
    }
    return kernel_next_us(k);
}

static void kernel_turn(struct kernel *k)
{
    uint64_t wait_us = kernel_wait_us(k);
    k->engine->step(k, wait_us);
    if (wait_us)
        bell_disarm(&k->bell);
    kernel_timers(k);
    if (k->app.turn)
        k->app.turn(k->app.app);
    for (int i = 0; k->work_head && i < WORK_ROUNDS_MAX; i++)
        kernel_work(k);
}

/* Ends every connection; what is queued goes out as far as the sockets take it. */
static void kernel_shutdown(struct kernel *k)
{
    kernel_stop_accepting(&k->t);
    for (struct kconn *c = k->conns; c; c = c->next) {
        struct slice s = sendq_front(&c->tx);
        if (c->state <= KCONN_CLOSING && !c->tx_busy && s.n > 0)
            send(c->fd, s.p, s.n, MSG_DONTWAIT | MSG_NOSIGNAL);
        kconn_kill(c, c->state == KCONN_OPEN ? CONN_END_SHUTDOWN : (enum conn_end)c->how);
    }
    while (k->conns || k->gone_n > 0) {
        kernel_work(k);
        if (k->conns || k->gone_n > 0)
            k->engine->step(k, KERNEL_TICK_US);
    }
    k->engine->finish(k);
}

static int kernel_run(struct transport *t)
{
    struct kernel *k = (struct kernel *)t;
    kernel_clock(k);
    wheel_init(&k->wheel, k->now_us / KERNEL_TICK_US);
    int err = k->engine->start(k);
    if (err)
        return err;
    if (k->listen_n > 0)
        k->engine->accept_on(k);
    while (!atomic_load_explicit(&k->stopping, memory_order_relaxed))
        kernel_turn(k);
    kernel_shutdown(k);
    return 0;
}

static void kernel_stop(struct transport *t)
{
    struct kernel *k = (struct kernel *)t;
    atomic_store(&k->stopping, true);
    bell_ring(&k->bell);
}

static void kernel_wake(struct transport *t)
{
    struct kernel *k = (struct kernel *)t;
    atomic_store(&k->woken, true);
    bell_ring(&k->bell);
}

static int kernel_watch(struct transport *t, int fd)
{
    struct kernel *k = (struct kernel *)t;
    if (k->watch_n == KERNEL_WATCH_MAX)
        return -SATCHEL_EFULL;
    k->watch_fds[k->watch_n++] = fd;
    return 0;
}

/* ---- making and destroying */

static void kernel_destroy(struct transport **t)
{
    struct kernel *k = (struct kernel *)*t;
    if (!k)
        return;
    assert(!k->conns && k->gone_n == 0);
    k->engine->close(k);
    while (k->listen_n > 0)
        close(k->listen_fds[--k->listen_n]);
    sendpool_destroy(&k->sendpool);
    bell_destroy(&k->bell);
    free(k);
    *t = NULL;
}

static const struct transport_ops kernel_ops = {
    .send = kconn_send,
    .resume = kconn_resume,
    .close = kconn_close,
    .abort = kconn_abort,
    .timer = kernel_conn_timer,
    .watch = kernel_watch,
    .stop_accepting = kernel_stop_accepting,
    .run = kernel_run,
    .stop = kernel_stop,
    .wake = kernel_wake,
    .destroy = kernel_destroy,
};

static bool kernel_config_valid(const struct kernel_config *cfg)
{
    uint32_t n = cfg->recv_buffers, bytes = cfg->recv_buffer_bytes;
    return n >= 2 && n <= 32768 && (n & (n - 1)) == 0 && bytes >= 256 && bytes <= 1024 * 1024 && cfg->max_conns > 0 &&
           cfg->listen_n <= KERNEL_LISTEN_MAX;
}

static int kernel_engine_open(struct kernel *k)
{
    int err = 0;
    if (k->cfg.engine != NET_EPOLL) {
        k->engine = &engine_uring;
        err = k->engine->open(k);
        if (err == 0 || k->cfg.engine == NET_URING)
            return err;
        log_warning("net.fallback", "engine=epoll why=\"io_uring: %s\"", satchel_strerror(err));
    }
    k->engine = &engine_epoll;
    return k->engine->open(k);
}

int transport_kernel_open(struct transport **t_r, const struct kernel_config *cfg, const struct transport_app *app)
{
    if (!kernel_config_valid(cfg))
        return -SATCHEL_EINVAL;
    struct kernel *k = calloc(1, sizeof *k);
    if (!k)
        return -SATCHEL_ENOMEM;
    k->t.ops = &kernel_ops;
    k->app = *app;
    k->cfg = *cfg;
    int err = bell_init(&k->bell);
    if (err == 0)
        err = kernel_engine_open(k);
    if (err) {
        bell_destroy(&k->bell);
        free(k);
        return err;
    }
    k->watch_fds[k->watch_n++] = k->bell.fd;
    k->cfg.listen_fds = NULL;
    for (; k->listen_n < cfg->listen_n; k->listen_n++)
        k->listen_fds[k->listen_n] = cfg->listen_fds[k->listen_n];
    *t_r = &k->t;
    return 0;
}

const char *transport_kernel_engine(const struct transport *t)
{
    return ((const struct kernel *)t)->engine->name;
}
