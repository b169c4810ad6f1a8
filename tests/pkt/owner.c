/* owner.c - our side above TCP. */
#include "tests/pkt/owner.h"

#include <stdlib.h>

static const struct {
    const char *name;
    uint16_t bit;
} names[] = {{"accepted", TCP_EV_ACCEPTED}, {"connected", TCP_EV_CONNECTED}, {"readable", TCP_EV_READABLE},
             {"fin", TCP_EV_FIN},           {"acked", TCP_EV_ACKED},         {"timer", TCP_EV_TIMER},
             {"reset", TCP_EV_RESET},       {"timeout", TCP_EV_TIMEOUT},     {"gone", TCP_EV_GONE}};

uint16_t owner_event_named(const char *name)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i].name, name))
            return names[i].bit;
    return 0;
}

void owner_events_text(uint16_t events, char *out, size_t room)
{
    *out = 0;
    for (size_t i = 0, n = 0; i < sizeof names / sizeof *names; i++)
        if (events & names[i].bit && n < room)
            n += (size_t)snprintf(out + n, room - n, "%s%s", n ? " " : "", names[i].name);
}

static struct peer *peer_of(struct world *w, const struct tcp_conn *c)
{
    struct ip_addr addr;
    uint16_t port;
    tcp_conn_peer(c, &addr, &port);
    for (unsigned i = 0; i < w->peers_n; i++)
        if (w->peers[i].port == port && ip_addr_eq(&w->peers[i].addr, &addr))
            return &w->peers[i];
    return NULL;
}

uint32_t owner_read(struct world *w, struct peer *c, uint32_t n)
{
    struct tcp *t = stack_tcp(w->stack);
    uint32_t done = 0;
    while (done < n) {
        struct slice s = tcp_peek(t, c->conn);
        if (s.n == 0)
            break;
        uint32_t part = s.n < n - done ? (uint32_t)s.n : n - done;
        for (uint32_t i = 0; i < part; i++, c->read_at++)
            if (s.p[i] != peer_byte(c->read_at - c->isn)) {
                fail(w, "@%s: the byte read at %u is '%c', the peer sent '%c'", c->name, c->read_at - c->isn, s.p[i],
                     peer_byte(c->read_at - c->isn));
                return done;
            }
        tcp_consume(t, c->conn, part);
        done += part;
    }
    return done;
}

uint32_t owner_write(struct world *w, struct peer *c, uint32_t n)
{
    uint8_t *bytes = malloc(n ? n : 1);
    for (uint32_t i = 0; i < n; i++)
        bytes[i] = our_byte(1 + c->written + i);
    size_t taken = tcp_write(stack_tcp(w->stack), c->conn, slice_of(bytes, n));
    free(bytes);
    c->written += (uint32_t)taken;
    tcp_want_acked(c->conn);
    return (uint32_t)taken;
}

static void hear(struct world *w, struct peer *c, struct tcp_conn *conn, uint16_t events)
{
    c->events |= events;
    if (events & TCP_EV_ACCEPTED && c->conn && c->conn != conn)
        fail(w, "@%s: accepted a second time", c->name);
    if (events & (TCP_EV_ACCEPTED | TCP_EV_CONNECTED) || !c->conn) {
        c->conn = conn;
        c->read_at = c->syn + 1;
        c->read_n = c->written = 0;
    }
    if (c->reader && events & TCP_EV_READABLE && !(events & TCP_EV_GONE))
        c->read_n += owner_read(w, c, UINT32_MAX);
    tcp_want_acked(conn);
    if (events & TCP_EV_GONE)
        c->conn = NULL;
}

void owner_events(struct world *w)
{
    struct tcp *t = stack_tcp(w->stack);
    uint32_t events;
    for (struct tcp_conn *conn; (conn = tcp_event(t, &events));) {
        struct peer *c = peer_of(w, conn);
        if (c)
            hear(w, c, conn, (uint16_t)events);
        else if (!w->flooding)
            fail(w, "an event for a connection that the script does not know");
        if (events & TCP_EV_GONE)
            tcp_release(t, conn);
    }
}

struct all {
    struct tcp_conn *conns[1024];
    unsigned n;
};

static bool remember(void *ctx, struct tcp_conn *c)
{
    struct all *all = ctx;
    all->conns[all->n++] = c;
    return all->n < sizeof all->conns / sizeof *all->conns;
}

void owner_abort_all(struct world *w, void *arg)
{
    (void)arg;
    struct all all = {.n = 0};
    tcp_conns(stack_tcp(w->stack), remember, &all);
    for (unsigned i = 0; i < all.n; i++)
        tcp_abort(stack_tcp(w->stack), all.conns[i]);
}
