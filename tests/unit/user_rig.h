/* user_rig.h - the user transport turned by hand under a clock of its own, with an app that does as it is told, and
 * clients over our own TCP, all in one thread over a pair of ports in memory. */
#pragma once
#include "spool/base/clock.h"

static uint64_t rig_us = 1000000000; /* the time */

static uint64_t rig_clock_us(void *ctx)
{
    (void)ctx;
    return rig_us;
}

static const struct clock rig_clock = {.boot_us = rig_clock_us, .wall_us = rig_clock_us};

#define clock_system() (&rig_clock)
#include "dataplane/net/user.c"
#include "dataplane/net/user_conn.c"
#include "dataplane/net/user_evict.c"
#undef clock_system

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { RIG_PORT = 25, RIG_FRAMES = 4096, RIG_CLIENTS = 64, RIG_TURN_US = 100, RIG_SESSION = 200 };

/* What the app does with a session. */
enum rig_does { TAKE, LEAVE, REFUSE };

struct rig_session {
    struct conn *c;  /* NULL: closed */
    uint8_t *memory; /* the transport's, RIG_SESSION bytes of number + 1 */
    uint8_t *in;
    size_t in_n;
    enum conn_end how;
    unsigned timers;
};

struct rig_client {
    struct tcp_conn *tc;              /* NULL: gone */
    bool connected, fin, reset, mute; /* mute: reads nothing */
    uint8_t *in;
    size_t in_n;
};

static struct {
    struct port *ports[2];
    struct stats stats[2];
    struct user *u;
    struct stack *stack;
    void *mem;
    size_t mem_bytes;
    struct rig_client clients[RIG_CLIENTS];
    uint32_t clients_n;
    struct rig_session sessions[RIG_CLIENTS]; /* in order of acceptance */
    uint32_t sessions_n;
    enum rig_does does;
    bool owes; /* ended: an answer is outstanding */
} rig;

static void rig_keep(uint8_t **at, size_t *n, struct slice s)
{
    *at = realloc(*at, *n + s.n + 1);
    assert_non_null(*at);
    memcpy(*at + *n, s.p, s.n);
    *n += s.n;
    (*at)[*n] = 0;
}

/* ---- the app */

static void *app_accept(void *app, struct conn *c, const struct sockaddr_storage *peer,
                        const struct sockaddr_storage *local)
{
    (void)app;
    assert_int_equal(peer->ss_family, AF_INET);
    assert_int_equal(((const struct sockaddr_in *)local)->sin_port, htons(RIG_PORT));
    if (rig.does == REFUSE)
        return NULL;
    struct rig_session *s = &rig.sessions[rig.sessions_n++];
    s->c = c;
    s->memory = c->session;
    assert_int_equal((uintptr_t)s->memory % CACHE_LINE, 0);
    for (size_t i = 0; i < RIG_SESSION; i++)
        assert_int_equal(s->memory[i], 0);
    memset(s->memory, (int)rig.sessions_n, RIG_SESSION);
    conn_send(c, SLICE_LIT("220 hello\r\n"));
    return s;
}

static size_t app_receive(void *session, struct slice in)
{
    struct rig_session *s = session;
    if (rig.does == LEAVE)
        return 0;
    rig_keep(&s->in, &s->in_n, in);
    return in.n;
}

static void app_timer(void *session)
{
    ((struct rig_session *)session)->timers++;
}

static bool app_ended(void *session)
{
    (void)session;
    return rig.owes;
}

static void app_closed(void *session, enum conn_end how)
{
    struct rig_session *s = session;
    assert_non_null(s->c);
    for (size_t i = 0; i < RIG_SESSION; i++)
        assert_int_equal(s->memory[i], s - rig.sessions + 1); /* nobody else's */
    s->c = NULL;
    s->how = how;
}

/* ---- making */

static void rig_stack(struct stack_config *s, const char *address)
{
    s->ip.addrs[0] = (struct ip_prefix){ip_addr_of4(inet_addr(address)), 120};
    s->ip.addrs_n = 1;
    s->ip.dad = false;
    s->guard.bogons = false;
    s->tcp.pages_max = 256;
    s->tcp.txblocks_max = 1024;
}

static void rig_client_open(void)
{
    static const uint8_t key[64] = {7};
    struct port_queue *q = rig.ports[1]->ops->queue(rig.ports[1], 0);
    const struct frame_pool pool = port_frames(q);
    struct stack_config cfg;
    struct port_info info;
    char why[256];
    rig.ports[1]->ops->info(rig.ports[1], &info);
    stack_config_default(&cfg);
    rig_stack(&cfg, "192.0.2.7");
    memcpy(cfg.ip.mac, info.mac, sizeof cfg.ip.mac);
    cfg.tcp.conns_max = RIG_CLIENTS;
    cfg.tcp.conn_bytes = rounded(tcp_conn_bytes(), 16);
    cfg.tcp.txblocks_max = 8192;
    q->stats = &rig.stats[1];
    rig.mem_bytes = stack_bytes(&cfg);
    rig.mem = mmap(NULL, rig.mem_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(rig.mem, MAP_FAILED);
    assert_int_equal(stack_init(&rig.stack, rig.mem, &cfg, &pool, &rig.stats[1], key, rig_us, why), 0);
}

/* What differs from these is set by `with`. */
static void rig_open(void (*with)(struct user_config *cfg))
{
    const struct transport_app app = {.session_bytes = RIG_SESSION,
                                      .accept = app_accept,
                                      .receive = app_receive,
                                      .timer = app_timer,
                                      .ended = app_ended,
                                      .closed = app_closed};
    struct user_config cfg;
    struct transport *t;
    char why[USER_WHY_MAX];
    memset(&rig, 0, sizeof rig);
    assert_int_equal(port_mem_open(&rig.ports[0], &rig.ports[1], 1, RIG_FRAMES), 0);
    user_config_default(&cfg);
    rig_stack(&cfg.stack, "192.0.2.1");
    cfg.queue = rig.ports[0]->ops->queue(rig.ports[0], 0);
    cfg.stats = &rig.stats[0];
    cfg.max_conns = 32;
    cfg.ports[cfg.ports_n++] = RIG_PORT;
    if (with)
        with(&cfg);
    if (transport_user_open(&t, &cfg, &app, why) < 0)
        fail_msg("%s", why);
    rig.u = (struct user *)t;
    rig_client_open();
}

/* ---- the clients */

static struct tcp *rig_tcp(void)
{
    return stack_tcp(rig.stack);
}

static struct rig_client *rig_of(const struct tcp_conn *tc)
{
    for (uint32_t i = 0; i < rig.clients_n; i++)
        if (rig.clients[i].tc == tc)
            return &rig.clients[i];
    fail_msg("a connection of nobody");
    return NULL;
}

static void rig_read(struct rig_client *c)
{
    struct slice s;
    while (c->tc && !c->mute && (s = tcp_peek(rig_tcp(), c->tc)).n > 0) {
        rig_keep(&c->in, &c->in_n, s);
        tcp_consume(rig_tcp(), c->tc, s.n);
    }
}

static void rig_event(struct tcp_conn *tc, uint32_t events)
{
    struct rig_client *c = rig_of(tc);
    c->connected = c->connected || events & TCP_EV_CONNECTED;
    if (!(events & TCP_EV_GONE))
        rig_read(c);
    c->fin = c->fin || events & TCP_EV_FIN;
    c->reset = c->reset || events & TCP_EV_RESET;
    if (!(events & TCP_EV_GONE))
        return;
    tcp_release(rig_tcp(), tc);
    c->tc = NULL;
}

/* Frames pass both ways, and the time goes on a little. */
static void rig_turn(void)
{
    struct port_queue *q = rig.ports[1]->ops->queue(rig.ports[1], 0);
    const struct port_ops *ops = rig.ports[1]->ops;
    struct frame frames[PORT_BURST_MAX];
    struct tcp_conn *tc;
    uint32_t n = ops->rx(q, frames, PORT_BURST_MAX), events;
    rig_us += RIG_TURN_US;
    stack_input(rig.stack, frames, n, rig_us);
    stack_tick(rig.stack, rig_us);
    while ((tc = tcp_event(rig_tcp(), &events)) != NULL)
        rig_event(tc, events);
    stack_settle(rig.stack);
    stack_flush(rig.stack, rig_us);
    ops->flush(q);
    ops->free(q, frames, n);
    user_turn(rig.u);
}

static void rig_turns(uint32_t n)
{
    while (n-- > 0)
        rig_turn();
}

/* In steps small enough for each timer. */
static void rig_pass_ms(uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i += 10) {
        rig_us += 10000 - RIG_TURN_US;
        rig_turn();
    }
    rig_turns(4);
}

static struct rig_client *rig_connect(void)
{
    struct ip_addr server = ip_addr_of4(inet_addr("192.0.2.1"));
    struct rig_client *c = &rig.clients[rig.clients_n++];
    c->tc = tcp_connect(rig_tcp(), 0, 0, &server, RIG_PORT, rig_us);
    assert_non_null(c->tc);
    for (int i = 0; i < 50 && !c->connected; i++)
        rig_turn();
    assert_true(c->connected);
    rig_turns(4);
    return c;
}

static void rig_say(struct rig_client *c, struct slice s)
{
    assert_non_null(c->tc);
    assert_int_equal(tcp_write(rig_tcp(), c->tc, s), s.n);
    rig_turns(4);
}

static void rig_bye(struct rig_client *c)
{
    tcp_close(rig_tcp(), c->tc);
    rig_turns(4);
}

static bool rig_heard(const struct rig_client *c, const char *text)
{
    return c->in_n == strlen(text) && memcmp(c->in, text, c->in_n) == 0;
}

static uint64_t rig_stat(enum stat_id id)
{
    return stat_get(&rig.stats[0], id);
}

/* All clients leave; nothing may be held then. */
static void rig_close(void)
{
    struct transport *t = &rig.u->t;
    for (uint32_t i = 0; i < rig.clients_n; i++)
        if (rig.clients[i].tc)
            tcp_abort(rig_tcp(), rig.clients[i].tc);
    rig.does = TAKE;
    rig.owes = false;
    for (uint32_t i = 0; i < rig.sessions_n; i++)
        if (rig.sessions[i].c)
            conn_abort(rig.sessions[i].c);
    rig_turns(50);
    assert_int_equal(rig_stat(STAT_CONNS), 0);
    assert_int_equal(rig_stat(STAT_PAGES_USED), 0);
    assert_int_equal(rig_stat(STAT_TXBLOCKS_USED), 0);
    assert_int_equal(rig_stat(STAT_TARPIT), 0);
    assert_int_equal(rig.u->open_n + rig.u->orphans_n + rig.u->tar_n, 0);
    t->ops->destroy(&t);
    munmap(rig.mem, rig.mem_bytes);
    for (int i = 0; i < 2; i++)
        rig.ports[i]->ops->close(&rig.ports[i]);
    for (uint32_t i = 0; i < RIG_CLIENTS; i++) {
        assert_null(rig.sessions[i].c);
        free(rig.clients[i].in);
        free(rig.sessions[i].in);
    }
}
