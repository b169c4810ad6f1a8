/* user.c - the user transport's loop, its sleep, its end, and how it is made. */
#include "dataplane/net/user_impl.h"

#include "spool/base/cycles.h"
#include "spool/base/err.h"
#include "spool/base/fetch.h"
#include "spool/base/log.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

enum { WORK_ROUNDS_MAX = 4, ORPHANS_MIN = 256 };

void user_config_default(struct user_config *cfg_r)
{
    *cfg_r = (struct user_config){.max_conns = 20000, .idle_polls = 2000};
    stack_config_default(&cfg_r->stack);
}

/* ---- the work list: each connection at most once, in the order of asking */

void user_work_add(struct uconn *c, unsigned bits)
{
    struct user *u = uconn_user(c);
    bool listed = c->work != 0;
    c->work |= (uint8_t)bits;
    if (listed)
        return;
    c->work_next = NULL;
    if (u->work_head)
        u->work_tail->work_next = c;
    else
        u->work_head = c;
    u->work_tail = c;
}

/* What is on the list now; what that adds waits for the next round. */
static void user_work_round(struct user *u)
{
    struct uconn *c = u->work_head, *next;
    u->work_head = NULL;
    for (; c; c = next) {
        next = c->work_next;
        unsigned bits = c->work;
        c->work = 0;
        uconn_work(c, bits);
    }
}

/* Some of those that no acknowledgement will call try again for blocks. */
static void user_thirst(struct user *u)
{
    struct overflow *o = u->thirsty, *next;
    u->thirsty = NULL;
    for (uint32_t i = 0; o && i < USER_SCAN_N; i++, o = next) {
        next = o->next;
        o->thirsty = false;
        if (!o->c) {
            free(o);
            continue;
        }
        struct uconn *c = o->c;
        uconn_push(c);
        if (c->state == UCONN_CLOSING)
            user_work_add(c, UWORK_CLOSE);
    }
    struct overflow **end = &u->thirsty;
    while (*end)
        end = &(*end)->next;
    *end = o;
}

static void user_work(struct user *u)
{
    if (u->thirsty)
        user_thirst(u);
    for (int i = 0; u->work_head && i < WORK_ROUNDS_MAX; i++)
        user_work_round(u);
}

/* ---- a turn */

static uint32_t user_events(struct user *u)
{
    struct tcp_conn *tc;
    uint32_t events, n = 0;
    for (; (tc = tcp_event(u->tcp, &events)) != NULL; n++)
        uconn_event(u, tc, events);
    return n;
}

static uint32_t user_input(struct user *u)
{
    uint32_t n = u->port->rx(u->q, u->rx, PORT_BURST_MAX);
    u->now_us = clock_boot_us(clock_system());
    if (n > 0)
        stack_input(u->stack, u->rx, n, u->now_us);
    stack_tick(u->stack, u->now_us);
    return n;
}

static void user_output(struct user *u, uint32_t frames)
{
    stack_settle(u->stack);
    stack_flush(u->stack, u->now_us);
    u->port->flush(u->q);
    if (frames > 0)
        u->port->free(u->q, u->rx, frames);
}

/* Was there something to do?  What came from the app's doors shows in what was sent. */
static bool user_turn(struct user *u)
{
    uint64_t sent = stat_get(u->stats, STAT_TX_FRAMES);
    uint32_t frames = user_input(u), events = user_events(u);
    user_calls_serve(u);
    if (u->app.turn)
        u->app.turn(u->app.app);
    user_work(u);
    user_evict(u);
    user_output(u, frames);
    return frames + events > 0 || u->work_head || stat_get(u->stats, STAT_TX_FRAMES) != sent;
}

/* ---- sleep */

static bool user_must_run(struct user *u)
{
    return atomic_load_explicit(&u->stopping, memory_order_relaxed) ||
           atomic_exchange_explicit(&u->woken, false, memory_order_relaxed);
}

/* Until the stack has something to do. 0: now. */
static uint64_t user_wait_us(const struct user *u)
{
    uint64_t next = stack_next_us(u->stack), now = u->now_us;
    uint64_t wait = next == UINT64_MAX ? UINT64_MAX : next > now ? next - now : 0;
    uint64_t nap = u->port->wakes(u->q) ? UINT64_MAX : port_nap_us(now - u->active_us);
    return nap < wait ? nap : wait;
}

static void user_doze(struct user *u, int port_fd)
{
    struct pollfd fds[USER_WATCH_MAX + 1];
    nfds_t n = 0;
    for (; n < u->watch_n; n++)
        fds[n] = (struct pollfd){.fd = u->watch_fds[n], .events = POLLIN};
    if (port_fd >= 0)
        fds[n++] = (struct pollfd){.fd = port_fd, .events = POLLIN};
    uint64_t us = user_wait_us(u);
    struct timespec ts = {.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
    if (us > 0)
        ppoll(fds, n, us == UINT64_MAX ? NULL : &ts, NULL);
}

static void user_sleep(struct user *u)
{
    if (u->work_head || u->thirsty || (u->app.sleep && !u->app.sleep(u->app.app)))
        return;
    bell_arm(&u->bell);
    if (!user_must_run(u)) {
        int fd = u->port->arm(u->q);
        if (fd != -SATCHEL_EAGAIN)
            user_doze(u, fd);
        if (fd != -SATCHEL_EAGAIN)
            u->port->disarm(u->q);
    }
    bell_disarm(&u->bell);
    u->cycles = cycles_now();
}

/* ---- the end */

static bool stop_visit(void *ctx, struct tcp_conn *tc)
{
    struct user *u = ctx;
    uconn_stop(uconn_of(u, tc));
    return true;
}

/* What has unacknowledged bytes now will not have them acknowledged: the peer should know.  Others have all we said,
 * and a reset could take it from them again. */
static bool kill_visit(void *ctx, struct tcp_conn *tc)
{
    struct uconn *c = uconn_of(ctx, tc);
    if (tcp_unacked(tc) > 0 || c->over)
        uconn_kill(c, (enum conn_end)c->how);
    else
        uconn_report(c);
    return true;
}

static void user_last_turn(struct user *u)
{
    uint32_t frames = user_input(u);
    user_events(u);
    user_work(u);
    user_output(u, frames);
}

static void user_nap(struct user *u)
{
    if (!u->work_head)
        usleep(PORT_NAP_MAX_US);
}

static void user_shutdown(struct user *u)
{
    tcp_listen_stop(u->tcp);
    tcp_conns(u->tcp, stop_visit, u);
    uint64_t until_us = u->now_us + USER_GRACE_US;
    while (u->now_us < until_us && u->open_n + u->orphans_n > 0) {
        user_last_turn(u);
        user_nap(u);
    }
    tcp_conns(u->tcp, kill_visit, u);
    while (u->work_head)
        user_last_turn(u);
}

static int user_run(struct transport *t)
{
    struct user *u = (struct user *)t;
    user_calls_running(u, true);
    u->cycles = cycles_now();
    while (!atomic_load_explicit(&u->stopping, memory_order_relaxed)) {
        uint64_t begin = u->cycles;
        bool did = user_turn(u);
        u->cycles = cycles_now();
        u->idle = did ? 0 : u->idle + 1;
        if (did) {
            u->active_us = u->now_us;
            stat_add(u->stats, STAT_CYCLES_BUSY, u->cycles - begin);
        }
        if (u->cfg.idle_polls && u->idle >= u->cfg.idle_polls)
            user_sleep(u);
    }
    user_shutdown(u);
    user_calls_running(u, false);
    return 0;
}

/* ---- the rest of transport_ops */

static void user_stop_accepting(struct transport *t)
{
    tcp_listen_stop(((struct user *)t)->tcp);
}

static void user_stop(struct transport *t)
{
    struct user *u = (struct user *)t;
    atomic_store(&u->stopping, true);
    bell_ring(&u->bell);
}

static void user_wake(struct transport *t)
{
    struct user *u = (struct user *)t;
    atomic_store(&u->woken, true);
    bell_ring(&u->bell);
}

static int user_watch(struct transport *t, int fd)
{
    struct user *u = (struct user *)t;
    if (u->watch_n == USER_WATCH_MAX)
        return -SATCHEL_EFULL;
    u->watch_fds[u->watch_n++] = fd;
    return 0;
}

static void user_destroy(struct transport **t)
{
    struct user *u = (struct user *)*t;
    if (!u)
        return;
    if (u->mem)
        munmap(u->mem, u->mem_bytes);
    for (struct overflow *o = u->thirsty, *next; o; o = next) {
        next = o->next;
        free(o);
    }
    sendpool_destroy(&u->sendpool);
    bell_destroy(&u->bell);
    user_calls_destroy(u);
    free(u);
    *t = NULL;
}

static const struct transport_ops user_ops = {
    .send = uconn_send,
    .resume = uconn_resume,
    .close = uconn_close,
    .abort = uconn_abort,
    .timer = uconn_timer,
    .watch = user_watch,
    .stop_accepting = user_stop_accepting,
    .run = user_run,
    .stop = user_stop,
    .wake = user_wake,
    .destroy = user_destroy,
};

/* ---- making */

static uint32_t rounded(size_t n, size_t to)
{
    return (uint32_t)((n + to - 1) / to * to);
}

/* What the port and the size of our own part decide. */
static void user_stack_config(struct user *u)
{
    struct stack_config *s = &u->cfg.stack;
    struct port_info info;
    u->port->info(u->q->port, &info);
    memcpy(s->ip.mac, info.mac, sizeof s->ip.mac);
    if (s->ip.mtu == 0 || s->ip.mtu > info.mtu)
        s->ip.mtu = info.mtu;
    s->ip.tx_ip_sum = info.tx_ip_sum;
    s->ip.tx_tcp_sum = info.tx_tcp_sum;
    s->ip.tx_vlan = info.tx_vlan;
    s->ip.quiet = u->q->index > 0;
    u->conn_at = rounded(tcp_conn_bytes(), 16);
    u->orphans_max = u->cfg.max_conns / 16 + ORPHANS_MIN;
    u->session_at = rounded(u->conn_at + sizeof(struct uconn), CACHE_LINE);
    s->tcp.conn_bytes = rounded(u->session_at + u->app.session_bytes, CACHE_LINE);
    s->tcp.ahead_bytes = u->session_at + TRANSPORT_AHEAD_BYTES;
    if (s->tcp.ahead_bytes > s->tcp.conn_bytes)
        s->tcp.ahead_bytes = s->tcp.conn_bytes;
    s->tcp.conns_max = u->cfg.max_conns + 2 * u->orphans_max;
}

static int user_fail(int err, char *why_r, const char *why)
{
    snprintf(why_r, USER_WHY_MAX, "%s", why);
    return err;
}

static int user_listen(struct user *u, char *why_r)
{
    for (uint32_t i = 0; i < u->cfg.ports_n; i++)
        if (tcp_listen(u->tcp, u->cfg.ports[i]) < 0)
            return user_fail(-SATCHEL_EFULL, why_r, "too many TCP ports to listen on");
    return 0;
}

static int user_stack_open(struct user *u, char *why_r)
{
    const struct frame_pool pool = port_frames(u->q);
    uint8_t key[64];
    user_stack_config(u);
    if (getrandom(key, sizeof key, 0) != sizeof key)
        return user_fail(-SATCHEL_EIO, why_r, "the kernel gave no random bytes");
    u->mem_bytes = stack_bytes(&u->cfg.stack);
    u->mem = mmap(NULL, u->mem_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (u->mem == MAP_FAILED) {
        u->mem = NULL;
        snprintf(why_r, USER_WHY_MAX, "no memory for the stack (%zu MiB): lower smtp.max_sessions", u->mem_bytes >> 20);
        return -SATCHEL_ENOMEM;
    }
    (void)madvise(u->mem, u->mem_bytes,
                  MADV_HUGEPAGE); /* a connection, wherever it lies, is then one entry of the TLB */
    u->now_us = clock_boot_us(clock_system());
    int res = stack_init(&u->stack, u->mem, &u->cfg.stack, &pool, u->stats, key, u->now_us, why_r);
    explicit_bzero(key, sizeof key);
    if (res < 0)
        return res;
    u->tcp = stack_tcp(u->stack);
    return user_listen(u, why_r);
}

int transport_user_open(struct transport **t_r, const struct user_config *cfg, const struct transport_app *app,
                        char *why_r)
{
    if (cfg->max_conns == 0 || cfg->ports_n > TCP_LISTEN_MAX)
        return user_fail(-SATCHEL_EINVAL, why_r, "no connections, or too many TCP ports, asked for");
    struct user *u = calloc(1, sizeof *u);
    if (!u)
        return user_fail(-SATCHEL_ENOMEM, why_r, "no memory");
    u->t.ops = &user_ops;
    u->app = *app;
    u->cfg = *cfg;
    u->q = cfg->queue;
    u->port = cfg->queue->port->ops;
    u->stats = cfg->stats;
    u->q->stats = cfg->stats;
    struct transport *t = &u->t;
    int res = bell_init(&u->bell);
    u->watch_fds[u->watch_n++] = u->bell.fd;
    user_calls_init(u);
    if (res == 0)
        res = user_stack_open(u, why_r);
    else
        user_fail(res, why_r, satchel_strerror(res));
    if (res < 0)
        user_destroy(&t);
    else
        *t_r = t;
    return res;
}

size_t transport_user_mapped(const struct transport *t)
{
    return ((const struct user *)t)->mem_bytes;
}

size_t transport_user_conn_bytes(const struct transport *t)
{
    return ((const struct user *)t)->cfg.stack.tcp.conn_bytes;
}
