/* The kernel transport: both engines through the same scenarios, over real loopback sockets.
 * A rig runs one worker in a thread; its app behaves as `mode` says.  The test is the client. */
#include "dataplane/net/kernel.h"
#include "spool/base/err.h"
#include "spool/base/rng.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum mode {
    ECHO,
    SIP,     /* takes 7 bytes a call, echoes them, leaves the rest to the next turn */
    SIP_NOW, /* the same, resuming from inside receive */
    HOLD,    /* takes nothing until go, then checks the pattern */
    HOLD_ECHO /* takes nothing until go, then echoes */,
    FLOOD, /* answers the first byte with 3 MiB of pattern */
    BYE,   /* answers the first byte with 221 and closes, whatever else comes */
    CUT,   /* aborts at the first byte */
    TICK,  /* a timer of 150 ms answers */
    REFUSE /* accept returns NULL */
};

enum { FLOOD_BYTES = 3 * 1024 * 1024, PATIENCE_S = 10 };

struct rig {
    enum mode mode;
    struct transport *t;
    pthread_t thread;
    int port, watched;
    struct visit *visits;
    atomic_int accepted, closed, ends[4], ticks, turns, run_result;
    atomic_size_t received;
    atomic_bool go, stop_accepting, out_of_order;
};

struct visit {
    struct rig *rig;
    struct conn *c;
    struct visit *next, **link;
    size_t at;
    bool waits;
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
    struct visit *v = calloc(1, sizeof *v);
    *v = (struct visit){.rig = r, .c = c, .next = r->visits, .link = &r->visits};
    if (v->next)
        v->next->link = &v->next;
    r->visits = v;
    atomic_fetch_add(&r->accepted, 1);
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
    if (!atomic_load(&v->rig->go)) {
        v->waits = true;
        return 0;
    }
    if (v->rig->mode == HOLD_ECHO)
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
        return visit_hold(v, in);
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

static void app_closed(void *session, enum conn_end how)
{
    struct visit *v = session;
    struct rig *r = v->rig;
    conn_send(v->c, SLICE_LIT("too late"));
    conn_resume(v->c);
    *v->link = v->next;
    if (v->next)
        v->next->link = v->link;
    free(v);
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
    struct transport_app app = {.accept = app_accept,
                                .receive = app_receive,
                                .timer = app_timer,
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
    if (rc == 0)
        return fd;
    rc = -errno;
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

/* ---- scenarios */

static void echoes(void **state)
{
    struct rig r;
    rig_start_plain(&r, ECHO, state);
    int fd = client(&r);
    for (size_t at = 0; at < 40 * 4096; at += 4096) {
        client_say(fd, at, 4096);
        client_hear(fd, at, 4096);
    }
    shutdown(fd, SHUT_WR);
    client_hear_end(fd, "");
    until(atomic_load(&r.closed) == 1);
    assert_int_equal(atomic_load(&r.ends[CONN_END_PEER]), 1);
    rig_stop(&r);
}

static void echoes_byte_by_byte(void **state)
{
    struct rig r;
    rig_start_plain(&r, ECHO, state);
    int fd = client(&r);
    for (size_t at = 0; at < 300; at++) {
        client_say(fd, at, 1);
        client_hear(fd, at, 1);
    }
    close(fd);
    rig_stop(&r);
}

static void speaks_ipv6(void **state)
{
    struct rig r;
    rig_start(&r, ECHO, state, "[::1]:0", kernel_config_default);
    int fd = client_try(&r, AF_INET6);
    assert_true(fd >= 0);
    client_say(fd, 0, 1000);
    client_hear(fd, 0, 1000);
    close(fd);
    assert_true(client_try(&r, AF_INET) < 0);
    rig_stop(&r);
}

static void offers_what_was_left(void **state, enum mode mode)
{
    struct rig r;
    rig_start_plain(&r, mode, state);
    int fd[3];
    for (int i = 0; i < 3; i++) {
        fd[i] = client(&r);
        client_say(fd[i], 0, 20000);
    }
    for (int i = 0; i < 3; i++) {
        shutdown(fd[i], SHUT_WR); /* what came before the FIN is offered all the same */
        client_hear(fd[i], 0, 20000);
        client_hear_end(fd[i], "");
    }
    rig_stop(&r);
    assert_int_equal(atomic_load(&r.ends[CONN_END_PEER]), 3);
}

static void offers_after_resume(void **state)
{
    offers_what_was_left(state, SIP);
}

static void offers_after_resume_inside(void **state)
{
    offers_what_was_left(state, SIP_NOW);
}

static void paused_app_stops_the_sender(void **state)
{
    struct rig r;
    rig_start_plain(&r, HOLD, state);
    int fd = client(&r);
    size_t said = client_say_until_full(fd, 64 * 1024 * 1024);
    assert_in_range(said, 1, 2 * 1024 * 1024);
    assert_int_equal(atomic_load(&r.received), 0);
    atomic_store(&r.go, true);
    r.t->ops->wake(r.t);
    until(atomic_load(&r.received) == said);
    client_say(fd, said, 100000); /* and it goes on */
    until(atomic_load(&r.received) == said + 100000);
    assert_false(atomic_load(&r.out_of_order));
    close(fd);
    rig_stop(&r);
}

static void slow_reader_stops_the_reading(void **state)
{
    struct rig r;
    rig_start_plain(&r, ECHO, state);
    int fd = client(&r);
    size_t said = client_say_until_full(fd, 64 * 1024 * 1024);
    assert_in_range(said, TRANSPORT_SENDQ_MAX, 8 * 1024 * 1024);
    client_hear(fd, 0, said);
    client_say(fd, said, 10000);
    client_hear(fd, said, 10000);
    close(fd);
    rig_stop(&r);
}

static void large_answer_to_a_slow_reader(void **state)
{
    struct rig r;
    rig_start_plain(&r, FLOOD, state);
    int fd = client(&r);
    client_say(fd, 0, 1);
    for (size_t at = 0; at < FLOOD_BYTES; at += 32768)
        client_hear(fd, at, 32768);
    close(fd);
    rig_stop(&r);
}

static void close_delivers_the_last_reply(void **state)
{
    struct rig r;
    rig_start_plain(&r, BYE, state);
    for (int i = 0; i < 20; i++) {
        int fd = client(&r);
        client_say(fd, 0, 1 + 2000 * (size_t)i);
        client_hear_end(fd, "221 bye\r\n");
    }
    until(atomic_load(&r.closed) == 20);
    assert_int_equal(atomic_load(&r.ends[CONN_END_LOCAL]), 20);
    rig_stop(&r);
}

static void close_does_not_wait_for_ever(void **state)
{
    struct rig r;
    rig_start_plain(&r, BYE, state);
    int fd = client(&r);
    client_say(fd, 0, 1);
    until(atomic_load(&r.closed) == 1); /* the client neither reads nor closes */
    assert_int_equal(atomic_load(&r.ends[CONN_END_LOCAL]), 1);
    close(fd);
    rig_stop(&r);
}

static void abort_resets(void **state)
{
    struct rig r;
    rig_start_plain(&r, CUT, state);
    int fd = client(&r);
    client_say(fd, 0, 1);
    char c;
    assert_int_equal(client_recv(fd, &c, 1), -1);
    assert_int_equal(errno, ECONNRESET);
    close(fd);
    rig_stop(&r);
    assert_int_equal(atomic_load(&r.ends[CONN_END_LOCAL]), 1);
}

static void refused_connection_is_closed(void **state)
{
    struct rig r;
    rig_start_plain(&r, REFUSE, state);
    client_hear_end(client(&r), "");
    rig_stop(&r);
    assert_int_equal(atomic_load(&r.closed), 0);
}

static void notices_a_reset(void **state)
{
    struct rig r;
    rig_start_plain(&r, ECHO, state);
    int fd = client(&r);
    client_say(fd, 0, 100);
    client_hear(fd, 0, 100);
    client_reset(fd);
    until(atomic_load(&r.closed) == 1);
    assert_int_equal(atomic_load(&r.ends[CONN_END_ERROR]), 1);
    rig_stop(&r);
}

static void notices_a_reset_while_paused(void **state)
{
    struct rig r;
    rig_start_plain(&r, HOLD_ECHO, state);
    int fd = client(&r);
    client_say(fd, 0, 50000);
    until(atomic_load(&r.accepted) == 1);
    client_reset(fd);
    atomic_store(&r.go, true);
    r.t->ops->wake(r.t);
    until(atomic_load(&r.closed) == 1);
    rig_stop(&r);
    assert_int_equal(atomic_load(&r.ends[CONN_END_ERROR]), 1);
}

static void timer_fires_once_and_late_at_most_a_tick(void **state)
{
    struct rig r;
    rig_start_plain(&r, TICK, state);
    uint64_t from_us = clock_boot_us(clock_system());
    int fd = client(&r);
    char buf[8];
    assert_int_equal(client_recv(fd, buf, sizeof buf), 4);
    uint64_t took_us = clock_boot_us(clock_system()) - from_us;
    assert_in_range(took_us, 149000, 2000000); /* 250 ms on an idle machine */
    shutdown(fd, SHUT_WR);
    client_hear_end(fd, "");
    rig_stop(&r);
    assert_int_equal(atomic_load(&r.ticks), 1);
}

static void turns_away_above_max_conns(void **state)
{
    struct rig r;
    struct kernel_config cfg = kernel_config_default;
    cfg.max_conns = 2;
    rig_start(&r, ECHO, state, "127.0.0.1:0", cfg);
    int a = client(&r), b = client(&r);
    until(atomic_load(&r.accepted) == 2);
    client_hear_end(client(&r), "421 4.3.2 Too many connections, try again later\r\n");
    close(a);
    until(atomic_load(&r.closed) == 1);
    a = client(&r); /* there is room again */
    client_say(a, 0, 10);
    client_hear(a, 0, 10);
    close(a);
    close(b);
    rig_stop(&r);
}

static void wakes_for_a_watched_descriptor(void **state)
{
    struct rig r;
    rig_start_plain(&r, ECHO, state);
    for (int i = 0; i < 50; i++) {
        int turns = atomic_load(&r.turns);
        if (i % 2)
            eventfd_write(r.watched, 1);
        else
            r.t->ops->wake(r.t);
        until(atomic_load(&r.turns) > turns);
    }
    rig_stop(&r);
}

static void stops_accepting_and_serves_on(void **state)
{
    struct rig r;
    rig_start_plain(&r, ECHO, state);
    int fd = client(&r);
    client_say(fd, 0, 10);
    client_hear(fd, 0, 10);
    atomic_store(&r.stop_accepting, true);
    r.t->ops->wake(r.t);
    until(!atomic_load(&r.stop_accepting));
    int late = 0;
    for (int i = 0; i < PATIENCE_S * 1000 && late >= 0; i++) {
        late = client_try(&r, AF_INET);
        if (late >= 0) {
            close(late);
            nap();
        }
    }
    assert_int_equal(late, -ECONNREFUSED);
    client_say(fd, 0, 10000);
    client_hear(fd, 0, 10000);
    close(fd);
    rig_stop(&r);
}

struct load {
    const struct rig *rig;
    atomic_size_t echoed;
};

static void *load_thread(void *arg)
{
    struct load *l = arg;
    uint8_t buf[4096] = {0};
    int fd = client_try(l->rig, AF_INET);
    while (fd >= 0 && client_send(fd, buf, sizeof buf) > 0) {
        ssize_t n = client_recv(fd, buf, sizeof buf);
        if (n <= 0)
            break;
        atomic_fetch_add(&l->echoed, (size_t)n);
    }
    if (fd >= 0)
        close(fd);
    return NULL;
}

static void stops_under_load(void **state)
{
    struct rig r;
    rig_start_plain(&r, ECHO, state);
    struct load load = {.rig = &r};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, load_thread, &load);
    until(atomic_load(&load.echoed) > 1024 * 1024);
    rig_stop(&r);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&r.closed), 4);
}

static size_t resident_bytes(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    unsigned long total = 0, resident = 0;
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lu %lu", &total, &resident), 2);
    fclose(f);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static void idle_connections_are_small(void **state)
{
    enum { N = 1000 };
    static int fds[N];
    struct rlimit lim;
    getrlimit(RLIMIT_NOFILE, &lim);
    lim.rlim_cur = lim.rlim_max;
    setrlimit(RLIMIT_NOFILE, &lim);
    struct rig r;
    rig_start_plain(&r, ECHO, state);
    size_t before = resident_bytes();
    for (int i = 0; i < N; i++) {
        fds[i] = client(&r);
        client_say(fds[i], 0, 100);
        client_hear(fds[i], 0, 100);
    }
    until(atomic_load(&r.accepted) == N);
    size_t each = (resident_bytes() - before) / N;
    print_message("           %s: %zu bytes resident an idle connection\n", transport_kernel_engine(r.t), each);
#ifndef __SANITIZE_ADDRESS__
    assert_in_range(each, 0, 2048 + 2048); /* the second: first use of pooled pages, shared by all */
#endif
    for (int i = 0; i < N; i++)
        close(fds[i]);
    rig_stop(&r);
}

/* Many talk, two buffers: everybody is served. */
static void few_buffers_serve_many(void **state)
{
    enum { N = 50, ROUNDS = 4, BYTES = 8192 };
    int fds[N];
    struct rig r;
    struct kernel_config cfg = kernel_config_default;
    cfg.recv_buffers = 2;
    cfg.recv_buffer_bytes = 1024;
    rig_start(&r, ECHO, state, "127.0.0.1:0", cfg);
    for (int i = 0; i < N; i++)
        fds[i] = client(&r);
    for (size_t round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < N; i++)
            client_say(fds[i], round * BYTES, BYTES);
        for (int i = 0; i < N; i++)
            client_hear(fds[i], round * BYTES, BYTES);
    }
    for (int i = 0; i < N; i++)
        close(fds[i]);
    rig_stop(&r);
}

/* Stalled sessions hold more than there are buffers; one that comes later is served all the same. */
static void stalled_sessions_do_not_starve_others(void **state)
{
    enum { N = 20, BYTES = 10000 };
    int fds[N + 1];
    struct rig r;
    struct kernel_config cfg = kernel_config_default;
    cfg.recv_buffers = 8;
    cfg.recv_buffer_bytes = 2048;
    rig_start(&r, HOLD_ECHO, state, "127.0.0.1:0", cfg);
    for (int i = 0; i < N; i++) {
        fds[i] = client(&r);
        client_say(fds[i], 0, BYTES);
    }
    atomic_store(&r.go, true); /* nobody wakes the worker: the late one does */
    fds[N] = client(&r);
    client_say(fds[N], 0, BYTES);
    for (int i = N; i >= 0; i--) {
        client_hear(fds[i], 0, BYTES);
        close(fds[i]);
    }
    assert_false(atomic_load(&r.out_of_order));
    rig_stop(&r);
}

static void ends_in_the_middle_of_everything(void **state)
{
    enum { N = 20 };
    int fds[N];
    struct rig r;
    rig_start_plain(&r, HOLD_ECHO, state);
    for (int i = 0; i < N; i++) {
        fds[i] = client(&r);
        client_say(fds[i], 0, 30000);
    }
    until(atomic_load(&r.accepted) == N);
    rig_stop(&r);
    assert_int_equal(atomic_load(&r.ends[CONN_END_SHUTDOWN]), N);
    for (int i = 0; i < N; i++)
        close(fds[i]);
}

static void never_run_is_destroyed(void **state)
{
    char why[NET_WHY_MAX];
    int fd;
    assert_int_equal(net_listen("127.0.0.1:0", &fd, 1, why), 1);
    struct kernel_config cfg = kernel_config_default;
    cfg.engine = *(const enum net_engine *)*state;
    cfg.listen_fds = &fd;
    cfg.listen_n = 1;
    struct transport *t;
    assert_int_equal(transport_kernel_open(&t, &cfg, &(struct transport_app){0}), 0);
    t->ops->destroy(&t);
    cfg.recv_buffers = 3;
    assert_int_equal(transport_kernel_open(&t, &cfg, &(struct transport_app){0}), -SATCHEL_EINVAL);
}

/* ---- parts */

static void listen_explains(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "localhost:25",
                                      "127.0.0.1",
                                      "127.0.0.1:65536",
                                      "127.0.0.1:-1",
                                      "::1:25",
                                      "[::1]",
                                      "[127.0.0.1]:25",
                                      "*:",
                                      "127.0.0.1:25x",
                                      "[]:25",
                                      ":25",
                                      "1.2.3.4.5:25",
                                      "*:+5",
                                      "[*]:25"};
    char why[NET_WHY_MAX];
    int fds[2];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(net_listen_check(bad[i], why), -EINVAL);
        assert_non_null(strstr(why, "expected 127.0.0.1:2525"));
    }
    assert_int_equal(net_listen_check("[::1]:25", why), 0);
    assert_int_equal(net_listen("192.0.2.1:0", fds, 2, why), -EADDRNOTAVAIL);
    assert_string_equal(why, "192.0.2.1:0: this machine has no such address");
    assert_int_equal(net_listen("*:0", fds, 1, why), -EINVAL);
    assert_int_equal(net_listen("*:0", fds, 2, why), 2);
    close(fds[0]);
    close(fds[1]);
}

static void listen_names_a_port_in_use(void **state)
{
    (void)state;
    char why[NET_WHY_MAX], address[32];
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), out;
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(listen(fd, 1), 0);
    snprintf(address, sizeof address, "127.0.0.1:%d", net_listen_port(fd));
    assert_int_equal(net_listen(address, &out, 1, why), -EADDRINUSE);
    assert_non_null(strstr(why, "another program listens there"));
    close(fd);
}

/* Against the plain truth: a timer is taken out at the first look at or after its time, and never sooner. */
static void wheel_keeps_time(void **state)
{
    (void)state;
    enum { N = 200 };
    static struct wheel w;
    static struct wheel_node nodes[N];
    struct rng rng;
    uint64_t now = 7;
    rng_seed(&rng, 42);
    wheel_init(&w, now);
    for (int step = 0; step < 20000; step++) {
        struct wheel_node *n = &nodes[rng_below(&rng, N)];
        if (rng_below(&rng, 4) == 0)
            wheel_stop(n);
        else
            wheel_set(&w, n, now + 1 + rng_below(&rng, rng_below(&rng, 10) ? 100 : 3000));
        if (rng_below(&rng, 3) == 0)
            now += rng_below(&rng, rng_below(&rng, 50) ? 4 : 2000);
        while ((n = wheel_expired(&w, now)) != NULL)
            assert_true(n->due <= now && !n->link);
        for (int i = 0; i < N; i++)
            assert_false(nodes[i].link && (nodes[i].due <= now || wheel_next(&w) > nodes[i].due));
    }
}

static void sendq_keeps_order_and_gives_back(void **state)
{
    (void)state;
    struct sendq q = {0};
    struct sendpool pool = {0};
    struct rng rng;
    uint8_t buf[40000];
    size_t in = 0, out = 0;
    rng_seed(&rng, 1);
    for (int step = 0; step < 2000; step++) {
        size_t n = rng_below(&rng, rng_below(&rng, 8) ? 500 : sizeof buf);
        for (size_t i = 0; i < n; i++)
            buf[i] = pattern(in++);
        assert_true(sendq_put(&q, &pool, slice_of(buf, n)));
        while (q.bytes > 0 && rng_below(&rng, 3)) {
            struct slice s = sendq_front(&q);
            size_t m = 1 + rng_below(&rng, s.n);
            for (size_t i = 0; i < m; i++)
                assert_true(s.p[i] == pattern(out + i));
            sendq_take(&q, &pool, m);
            out += m;
        }
        assert_true(q.bytes == in - out && pool.bytes == q.bytes);
    }
    sendq_clear(&q, &pool);
    assert_true(!q.head && pool.bytes == 0);
    sendpool_destroy(&pool);
}

#define ENGINE_TESTS(X)                                                                                                \
    X(echoes)                                                                                                          \
    X(echoes_byte_by_byte)                                                                                             \
    X(speaks_ipv6)                                                                                                     \
    X(offers_after_resume)                                                                                             \
    X(offers_after_resume_inside)                                                                                      \
    X(paused_app_stops_the_sender)                                                                                     \
    X(slow_reader_stops_the_reading)                                                                                   \
    X(large_answer_to_a_slow_reader)                                                                                   \
    X(close_delivers_the_last_reply)                                                                                   \
    X(close_does_not_wait_for_ever)                                                                                    \
    X(abort_resets)                                                                                                    \
    X(refused_connection_is_closed)                                                                                    \
    X(notices_a_reset)                                                                                                 \
    X(notices_a_reset_while_paused)                                                                                    \
    X(timer_fires_once_and_late_at_most_a_tick)                                                                        \
    X(turns_away_above_max_conns)                                                                                      \
    X(wakes_for_a_watched_descriptor)                                                                                  \
    X(stops_accepting_and_serves_on)                                                                                   \
    X(stops_under_load)                                                                                                \
    X(idle_connections_are_small)                                                                                      \
    X(few_buffers_serve_many)                                                                                          \
    X(stalled_sessions_do_not_starve_others)                                                                           \
    X(ends_in_the_middle_of_everything)                                                                                \
    X(never_run_is_destroyed)

/* Where the machine forbids io_uring there is nothing to test of it. */
static bool uring_allowed(void)
{
    struct kernel_config cfg = kernel_config_default;
    struct transport *t;
    cfg.engine = NET_URING;
    int err = transport_kernel_open(&t, &cfg, &(struct transport_app){0});
    if (err == 0)
        t->ops->destroy(&t);
    else
        print_message("[  SKIPPED ] io_uring scenarios: %s\n", satchel_strerror(err));
    return err == 0;
}

int main(void)
{
    static enum net_engine uring = NET_URING, epoll = NET_EPOLL;
#define X(name) {"io_uring: " #name, name, NULL, NULL, &uring},
    const struct CMUnitTest on_uring[] = {ENGINE_TESTS(X)};
#undef X
#define X(name) {"epoll: " #name, name, NULL, NULL, &epoll},
    const struct CMUnitTest on_epoll[] = {ENGINE_TESTS(X)};
#undef X
    const struct CMUnitTest parts[] = {
        cmocka_unit_test(listen_explains),
        cmocka_unit_test(listen_names_a_port_in_use),
        cmocka_unit_test(wheel_keeps_time),
        cmocka_unit_test(sendq_keeps_order_and_gives_back),
    };
    int failed = cmocka_run_group_tests_name("net: parts", parts, NULL, NULL);
    if (uring_allowed())
        failed += cmocka_run_group_tests_name("net: io_uring", on_uring, NULL, NULL);
    failed += cmocka_run_group_tests_name("net: epoll", on_epoll, NULL, NULL);
    return failed;
}
