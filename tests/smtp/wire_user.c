/* wire_user.c - our own TCP on both sides: a worker of the user transport, turned by hand, and a client with a stack of
 * its own, over ports in memory. */
#include "tests/smtp/fake.h"
#include "tests/smtp/wire_app.h"

/* Its turn is what run() repeats in a thread of its own. */
#include "dataplane/net/user.c" // NOLINT(bugprone-suspicious-include)

#include <arpa/inet.h>

enum { PORT = 25, RING_FRAMES = 1024 };

static struct {
    struct port *ports[2]; /* the server's, the client's */
    struct stats stats[2];
    struct user *u;
    /* the client */
    void *mem;
    size_t mem_bytes;
    struct stack *stack;
    struct tcp_conn *conn; /* NULL: none */
    struct text unsent;
} line;

static struct ip_addr address(int side)
{
    return ip_addr_of4(inet_addr(side == 0 ? "192.0.2.1" : "192.0.2.7"));
}

/* ---- the server */

static void stack_config_test(struct stack_config *s, int side)
{
    s->ip.addrs[0] = (struct ip_prefix){address(side), 120};
    s->ip.addrs_n = 1;
    s->ip.dad = false;
    s->guard.bogons = false;
    s->guard.host_per_s = s->guard.network_per_s = 0; /* thousands of clients from one address */
    s->tcp.pages_max = s->tcp.txblocks_max = 1024;
    s->tcp.time_wait_ms = 1;
}

static int server_open(char *why_r)
{
    struct user_config cfg;
    struct transport *t;
    const struct transport_app app = wire_app();
    user_config_default(&cfg);
    cfg.queue = line.ports[0]->ops->queue(line.ports[0], 0);
    cfg.stats = &line.stats[0];
    cfg.max_conns = 64;
    cfg.ports[0] = PORT;
    cfg.ports_n = 1;
    stack_config_test(&cfg.stack, 0);
    int err = transport_user_open(&t, &cfg, &app, why_r);
    if (err == 0)
        line.u = (struct user *)t;
    return err;
}

/* ---- the client */

static int client_open(char *why_r)
{
    struct port_queue *q = line.ports[1]->ops->queue(line.ports[1], 0);
    const struct frame_pool pool = port_frames(q);
    struct stack_config cfg;
    struct port_info info;
    uint8_t key[64] = {1};
    line.ports[1]->ops->info(line.ports[1], &info);
    stack_config_default(&cfg);
    stack_config_test(&cfg, 1);
    memcpy(cfg.ip.mac, info.mac, sizeof cfg.ip.mac);
    cfg.ip.mtu = info.mtu;
    cfg.tcp.conns_max = 64;
    cfg.tcp.conn_bytes = rounded(tcp_conn_bytes(), 16);
    q->stats = &line.stats[1];
    line.mem_bytes = stack_bytes(&cfg);
    line.mem = mmap(NULL, line.mem_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (line.mem == MAP_FAILED)
        return -SATCHEL_ENOMEM;
    return stack_init(&line.stack, line.mem, &cfg, &pool, &line.stats[1], key, clock_boot_us(clock_system()), why_r);
}

static struct tcp *client_tcp(void)
{
    return stack_tcp(line.stack);
}

static void client_read(struct fake *f)
{
    struct slice in;
    while ((in = tcp_peek(client_tcp(), line.conn)).n > 0) {
        fake_heard(f, in);
        tcp_consume(client_tcp(), line.conn, in.n);
    }
}

static void client_event(struct fake *f, struct tcp_conn *c, uint32_t events)
{
    if (c == line.conn && f && events & (TCP_EV_READABLE | TCP_EV_FIN))
        client_read(f);
    if (c == line.conn && f && events & (TCP_EV_FIN | TCP_EV_GONE))
        f->heard_end = true;
    if (!(events & TCP_EV_GONE))
        return;
    if (c == line.conn)
        line.conn = NULL;
    tcp_release(client_tcp(), c);
}

static void client_write(void)
{
    size_t n = line.conn ? tcp_write(client_tcp(), line.conn, slice_of(line.unsent.p, line.unsent.n)) : 0;
    if (n == 0)
        return;
    memmove(line.unsent.p, line.unsent.p + n, line.unsent.n - n);
    line.unsent.n -= n;
}

static void client_turn(struct fake *f)
{
    struct port_queue *q = line.ports[1]->ops->queue(line.ports[1], 0);
    const struct port_ops *ops = line.ports[1]->ops;
    struct frame frames[PORT_BURST_MAX];
    struct tcp_conn *c;
    uint32_t n = ops->rx(q, frames, PORT_BURST_MAX), events;
    uint64_t now_us = clock_boot_us(clock_system());
    stack_input(line.stack, frames, n, now_us);
    stack_tick(line.stack, now_us);
    while ((c = tcp_event(client_tcp(), &events)) != NULL)
        client_event(f, c, events);
    client_write();
    stack_settle(line.stack);
    stack_flush(line.stack, now_us);
    ops->flush(q);
    ops->free(q, frames, n);
}

/* ---- the wire */

static int user_wire_open(char *why_r)
{
    int err = port_mem_open(&line.ports[0], &line.ports[1], 1, RING_FRAMES);
    if (err == 0)
        err = server_open(why_r);
    return err ? err : client_open(why_r);
}

static void user_wire_close(void)
{
    struct transport *t = &line.u->t;
    t->ops->destroy(&t);
    munmap(line.mem, line.mem_bytes);
    free(line.unsent.p);
    for (int i = 0; i < 2; i++)
        line.ports[i]->ops->close(&line.ports[i]);
}

static void user_wire_connect(struct fake *f)
{
    struct ip_addr server = address(0);
    wire_app_serve(f);
    line.unsent.n = 0;
    line.conn = tcp_connect(client_tcp(), 0, 0, &server, PORT, clock_boot_us(clock_system()));
    assert(line.conn);
}

static void user_wire_turn(struct fake *f)
{
    client_turn(f);
    user_turn(line.u);
}

static void user_wire_send(struct fake *f, const uint8_t *p, size_t n)
{
    (void)f;
    text_add(&line.unsent, p, n);
    client_write();
}

static void user_wire_cut(struct fake *f)
{
    (void)f;
    if (line.conn)
        tcp_abort(client_tcp(), line.conn);
}

static void user_wire_end(struct fake *f)
{
    wire_app_abort(f);
    if (line.conn)
        tcp_abort(client_tcp(), line.conn);
    while (f->open || line.conn || stat_get(&line.stats[0], STAT_CONNS) > 0)
        user_wire_turn(f);
    wire_app_serve(NULL);
}

const struct wire wire_user = {.name = "user",
                               .open = user_wire_open,
                               .close = user_wire_close,
                               .connect = user_wire_connect,
                               .send = user_wire_send,
                               .cut = user_wire_cut,
                               .say = wire_app_say,
                               .resume = wire_app_resume,
                               .hang_up = wire_app_hang_up,
                               .turn = user_wire_turn,
                               .end = user_wire_end};
