/* net_rig.h - a worker of the kernel transport in a thread, and its clients, for test_transport.c.
 * The app behaves as `mode` says.  The test is the client, over real loopback sockets. */
#pragma once
#include "dataplane/net/kernel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum mode {
    ECHO,
    SIP,        /* takes 7 bytes a call, echoes them, leaves the rest to the next turn */
    SIP_NOW,    /* the same, resuming from inside receive */
    HOLD,       /* takes nothing until go, then checks the pattern */
    HOLD_ECHO,  /* takes nothing until go, then echoes */
    HOLD_FIRST, /* the first 20 connections take nothing until go; echoes */
    OWE,        /* takes all; answers "paid" at go, also where the peer has ended meanwhile */
    FLOOD,      /* answers the first byte with 3 MiB of pattern */
    BYE,        /* answers the first byte with 221 and closes, whatever else comes */
    CUT,        /* aborts at the first byte */
    TICK,       /* a timer of 150 ms answers */
    REFUSE      /* accept returns NULL */
};

enum { FLOOD_BYTES = 3 * 1024 * 1024, PATIENCE_S = 10, HOLD_FIRST_N = 20 };

struct rig {
    enum mode mode;
    struct transport *t;
    pthread_t thread;
    int port, watched;
    struct visit *visits;
    atomic_int accepted, closed, ends[4], ticks, turns, run_result;
    atomic_size_t received;
    atomic_bool go, stop_accepting, out_of_order, peer_ended;
};

struct visit {
    struct rig *rig;
    struct conn *c;
    struct visit *next, **link;
    size_t at;
    bool waits, late;
};

static uint8_t pattern(size_t at)
{
    return (uint8_t)(at % 251);
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

#define until(cond)                                                                                                    \
    do {                                                                                                               \
        for (int i_ = 0; !(cond) && i_ < PATIENCE_S * 1000; i_++)                                                      \
            nap();                                                                                                     \
        assert_true(cond);                                                                                             \
    } while (0)

/* ---- the app */

static void *app_accept(void *app, struct conn *c, const struct sockaddr_storage *peer,
                        const struct sockaddr_storage *local)
{
    struct rig *r = app;
    if (r->mode == REFUSE || peer->ss_family != local->ss_family)
        return NULL;
    struct visit *v = c->session; /* the transport's memory */
    assert_non_null(v);
    assert_true(!v->rig && !v->waits && !v->late);
    *v = (struct visit){.rig = r, .c = c, .next = r->visits, .link = &r->visits};
    if (v->next)
        v->next->link = &v->next;
    r->visits = v;
    v->late = atomic_fetch_add(&r->accepted, 1) >= HOLD_FIRST_N && r->mode == HOLD_FIRST;
    if (r->mode == TICK)
        conn_timer(c, 150000);
    return v;
}

static size_t visit_sip(struct visit *v, struct slice in)
{
    size_t n = in.n < 7 ? in.n : 7;
    conn_send(v->c, slice_of(in.p, n));
    v->waits = n < in.n && v->rig->mode == SIP;
    if (v->rig->mode == SIP_NOW)
        conn_resume(v->c);
    return n;
}

static size_t visit_hold(struct visit *v, struct slice in)
{
    if (!atomic_load(&v->rig->go) && !v->late) {
        v->waits = true;
        return 0;
    }
    if (v->rig->mode != HOLD)
        conn_send(v->c, in);
    for (size_t i = 0; i < in.n; i++)
        if (in.p[i] != pattern(v->at++))
            atomic_store(&v->rig->out_of_order, true);
    return in.n;
}

static void visit_flood(struct visit *v)
{
    uint8_t *p = malloc(FLOOD_BYTES);
    for (size_t i = 0; i < FLOOD_BYTES; i++)
        p[i] = pattern(i);
    conn_send(v->c, slice_of(p, FLOOD_BYTES));
    free(p);
}

static size_t visit_take(struct visit *v, struct slice in)
{
    switch (v->rig->mode) {
    case SIP:
    case SIP_NOW:
        return visit_sip(v, in);
    case HOLD:
    case HOLD_ECHO:
    case HOLD_FIRST:
        return visit_hold(v, in);
    case OWE:
        v->waits = true;
        return in.n;
    case FLOOD:
        visit_flood(v);
        return in.n;
    case BYE:
        conn_send(v->c, SLICE_LIT("221 bye\r\n"));
        conn_close(v->c);
        conn_send(v->c, SLICE_LIT("not said any more"));
        return 1;
    case CUT:
        conn_abort(v->c);
        return 1;
    default:
        conn_send(v->c, in);
        return in.n;
    }
}

static size_t app_receive(void *session, struct slice in)
{
    struct visit *v = session;
    size_t n = visit_take(v, in);
    atomic_fetch_add(&v->rig->received, n);
    return n;
}

static void app_timer(void *session)
{
    struct visit *v = session;
    atomic_fetch_add(&v->rig->ticks, 1);
    conn_send(v->c, SLICE_LIT("tick"));
}

static bool app_ended(void *session)
{
    struct visit *v = session;
    atomic_store(&v->rig->peer_ended, true);
    return v->rig->mode == OWE && v->waits;
}

static void app_closed(void *session, enum conn_end how)
{
    struct visit *v = session;
    struct rig *r = v->rig;
    conn_send(v->c, SLICE_LIT("too late"));
    conn_resume(v->c);
    *v->link = v->next;
    if (v->next)
        v->next->link = v->link;
    memset(v, 0xa5, sizeof *v);
    atomic_fetch_add(&r->ends[how], 1);
    atomic_fetch_add(&r->closed, 1);
}

static void app_turn(void *app)
{
    struct rig *r = app;
    eventfd_t v;
    atomic_fetch_add(&r->turns, 1);
    if (r->watched >= 0)
        eventfd_read(r->watched, &v);
    if (atomic_exchange(&r->stop_accepting, false))
        r->t->ops->stop_accepting(r->t);
    for (struct visit *w = r->visits; w; w = w->next) {
        if (!w->waits || (r->mode != SIP && !atomic_load(&r->go)))
            continue;
        w->waits = false;
        if (r->mode == OWE)
            conn_send(w->c, SLICE_LIT("paid"));
        conn_resume(w->c);
    }
}

/* The turn has work when somebody waits to be resumed by it. */
static bool app_sleep(void *app)
{
    struct rig *r = app;
    for (struct visit *v = r->visits; v && r->mode == SIP; v = v->next)
        if (v->waits)
            return false;
    return true;
}

/* ---- the rig */

static void *rig_thread(void *arg)
{
    struct rig *r = arg;
    atomic_store(&r->run_result, r->t->ops->run(r->t));
    return NULL;
}

static void rig_start(struct rig *r, enum mode mode, void **state, const char *address, struct kernel_config cfg)
{
    char why[NET_WHY_MAX];
    int fd, rcvbuf = 65536;
    *r = (struct rig){.mode = mode, .watched = eventfd(0, EFD_NONBLOCK)};
    assert_int_equal(net_listen(address, &fd, 1, why), 1);
    r->port = net_listen_port(fd);
    assert_true(r->port > 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf); /* so that the window closes soon */
    cfg.engine = *(const enum net_engine *)*state;
    cfg.listen_fds = &fd;
    cfg.listen_n = 1;
    struct transport_app app = {.session_bytes = sizeof(struct visit),
                                .accept = app_accept,
                                .receive = app_receive,
                                .timer = app_timer,
                                .ended = app_ended,
                                .closed = app_closed,
                                .turn = app_turn,
                                .sleep = app_sleep,
                                .app = r};
    assert_int_equal(transport_kernel_open(&r->t, &cfg, &app), 0);
    assert_string_equal(transport_kernel_engine(r->t), cfg.engine == NET_EPOLL ? "epoll" : "io_uring");
    assert_int_equal(r->t->ops->watch(r->t, r->watched), 0);
    assert_int_equal(pthread_create(&r->thread, NULL, rig_thread, r), 0);
}

static void rig_start_plain(struct rig *r, enum mode mode, void **state)
{
    rig_start(r, mode, state, "127.0.0.1:0", kernel_config_default);
}

static void rig_stop(struct rig *r)
{
    r->t->ops->stop(r->t);
    pthread_join(r->thread, NULL);
    assert_int_equal(atomic_load(&r->run_result), 0);
    assert_int_equal(atomic_load(&r->closed), atomic_load(&r->accepted));
    assert_null(r->visits);
    const struct kernel *k = (const struct kernel *)r->t;
    assert_int_equal(k->lent, 0);
    assert_int_equal(k->held_copied_bytes, 0);
    assert_int_equal(k->sendpool.bytes, 0);
    r->t->ops->destroy(&r->t);
    assert_null(r->t);
    close(r->watched);
}

/* ---- the client.  Closing a ring interrupts, once, the thread that made it: here the client's. */

static ssize_t client_recv(int fd, void *buf, size_t n)
{
    ssize_t got;
    do
        got = recv(fd, buf, n, 0);
    while (got < 0 && errno == EINTR);
    return got;
}

static ssize_t client_send(int fd, const void *buf, size_t n)
{
    ssize_t sent;
    do
        sent = send(fd, buf, n, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent;
}

/* A connect that a signal interrupted goes on by itself (a ring that an earlier test closed may do that once). */
static int client_connected(int fd)
{
    struct pollfd p = {fd, POLLOUT, 0};
    int err = 0;
    socklen_t n = sizeof err;
    while (poll(&p, 1, PATIENCE_S * 1000) < 0 && errno == EINTR)
        ;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &n) == 0 ? -err : -errno;
}

static int client_try(const struct rig *r, int family)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)r->port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = in.sin_port, .sin6_addr = in6addr_loopback};
    struct timeval patience = {.tv_sec = PATIENCE_S};
    int buf = 65536, fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buf, sizeof buf);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buf, sizeof buf);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    int rc = family == AF_INET ? connect(fd, (struct sockaddr *)&in, sizeof in)
                               : connect(fd, (struct sockaddr *)&in6, sizeof in6);
    rc = rc == 0 ? 0 : errno == EINTR ? client_connected(fd) : -errno;
    if (rc == 0)
        return fd;
    close(fd);
    return rc;
}

static int client(const struct rig *r)
{
    int fd = client_try(r, AF_INET);
    assert_true(fd >= 0);
    return fd;
}

/* Bytes [at, at+n) of the pattern. */
static void client_say(int fd, size_t at, size_t n)
{
    uint8_t buf[16384];
    while (n > 0) {
        size_t m = n < sizeof buf ? n : sizeof buf;
        for (size_t i = 0; i < m; i++)
            buf[i] = pattern(at + i);
        ssize_t sent = client_send(fd, buf, m);
        assert_true(sent > 0);
        at += (size_t)sent;
        n -= (size_t)sent;
    }
}

static void client_hear(int fd, size_t at, size_t n)
{
    uint8_t buf[16384];
    while (n > 0) {
        ssize_t got = client_recv(fd, buf, n < sizeof buf ? n : sizeof buf);
        assert_true(got > 0);
        for (ssize_t i = 0; i < got; i++)
            if (buf[i] != pattern(at++))
                fail_msg("byte %zu differs", at - 1);
        n -= (size_t)got;
    }
}

static void client_hear_end(int fd, const char *text)
{
    char buf[256];
    size_t n = 0;
    ssize_t got;
    while ((got = client_recv(fd, buf + n, sizeof buf - 1 - n)) > 0)
        n += (size_t)got;
    assert_int_equal(got, 0); /* the end, and no reset */
    buf[n] = 0;
    assert_string_equal(buf, text);
    close(fd);
}

static void client_reset(int fd)
{
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
    close(fd);
}

/* Says as much as the other side takes without reading; returns how much that was. */
static size_t client_say_until_full(int fd, size_t max)
{
    uint8_t buf[4096];
    size_t at = 0;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    while (at < max) {
        int ready = poll(&p, 1, 300);
        if (ready == 0 || (ready < 0 && errno != EINTR))
            break;
        for (size_t i = 0; i < sizeof buf; i++)
            buf[i] = pattern(at + i);
        ssize_t n = send(fd, buf, sizeof buf, MSG_DONTWAIT | MSG_NOSIGNAL);
        at += n > 0 ? (size_t)n : 0;
    }
    return at;
}
