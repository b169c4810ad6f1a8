/* wire_user.c - our own TCP over a port's queue (wire_user.h). */
#include "bench/lib/wire_user.h"
#include "spool/base/clock.h"
#include "spool/base/err.h"
#include <err.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>

#define PORT_FIRST 1024u
#define PORTS      (65536u - PORT_FIRST)
#define BATCH      256u
#define BLOCKS_MAX (1u << 20)
#define WARM_US    5000000u
#define LINGER_US  2000000u

/* Behind each struct tcp_conn. */
struct tail {
    struct wire_conn *c; /* NULL: closed by its owner, ends by itself */
    bool fin, gone, up;
};

struct wire_user {
    struct wire w; /* first */
    struct wire_user_config cfg;
    struct port_queue *q;
    const struct port_ops *port;
    struct stack *stack;
    struct tcp *tcp;
    void *mem;
    size_t mem_bytes;
    uint32_t tail_at;
    uint32_t next_pair; /* of local port and address */
    uint64_t now_us;
    uint32_t frames;        /* of this turn */
    bool turning;           /* a turn waits for its end */
    struct tcp_conn *eaten; /* what read gave last, not yet consumed */
    size_t eaten_n;
    struct tcp_conn *last[BATCH]; /* whose events were given last: they may have more to read */
    unsigned last_n;
    unsigned ending; /* closed and not given back */
    struct stats stats;
    struct frame rx[PORT_BURST_MAX];
};

static struct wire_user *user_of(struct wire *w)
{
    return (struct wire_user *)w;
}

static struct tail *tail_of(const struct wire_user *u, struct tcp_conn *tc)
{
    return (struct tail *)((char *)tc + u->tail_at);
}

/* ---- turns */

static void turn_end(struct wire_user *u)
{
    if (!u->turning)
        return;
    u->turning = false;
    stack_settle(u->stack);
    stack_flush(u->stack, u->now_us);
    u->port->flush(u->q);
    if (u->frames)
        u->port->free(u->q, u->rx, u->frames);
}

static void turn_begin(struct wire_user *u)
{
    u->turning = true;
    u->frames = u->port->rx(u->q, u->rx, PORT_BURST_MAX);
    u->now_us = clock_boot_us(clock_system());
    if (u->frames)
        stack_input(u->stack, u->rx, u->frames, u->now_us);
    stack_tick(u->stack, u->now_us);
}

static void eat(struct wire_user *u)
{
    if (u->eaten_n)
        tcp_consume(u->tcp, u->eaten, u->eaten_n);
    u->eaten_n = 0;
}

static void give_back(struct wire_user *u, struct tcp_conn *tc)
{
    u->ending--;
    tcp_release(u->tcp, tc);
}

/* What an event means for the connection's owner; WIRE_*. */
static unsigned meaning(struct wire_user *u, struct tcp_conn *tc, uint32_t events)
{
    struct tail *t = tail_of(u, tc);
    t->up |= (events & TCP_EV_CONNECTED) != 0;
    t->fin |= (events & TCP_EV_FIN) != 0;
    t->gone |= (events & TCP_EV_GONE) != 0;
    if (!t->c) {
        if (t->gone)
            give_back(u, tc);
        return 0;
    }
    unsigned what = events & (TCP_EV_READABLE | TCP_EV_FIN | TCP_EV_GONE) ? WIRE_READ : 0;
    return events & TCP_EV_ACKED && t->c->blocked ? what | WIRE_WRITE : what;
}

static unsigned collect(struct wire_user *u, struct wire_event *ev_r, unsigned cap)
{
    struct tcp_conn *tc;
    uint32_t events;
    unsigned n = 0;
    while (n < cap && n < BATCH && (tc = tcp_event(u->tcp, &events)) != NULL) {
        unsigned what = meaning(u, tc, events);
        if (!what)
            continue;
        u->last[n] = tc;
        ev_r[n++] = (struct wire_event){tail_of(u, tc)->c, what};
    }
    u->last_n = n;
    return n;
}

/* read gives one run of bytes at a time: those with more have their turn again before anything new comes.  An object
 * that was given back and taken anew meanwhile is looked at in vain. */
static unsigned more(struct wire_user *u, struct wire_event *ev_r, unsigned cap)
{
    unsigned n = 0, had = u->last_n;
    u->last_n = 0;
    for (unsigned i = 0; i < had && n < cap; i++) {
        struct tail *t = tail_of(u, u->last[i]);
        if (!t->c || !(t->fin || t->gone || tcp_peek(u->tcp, u->last[i]).n > 0))
            continue;
        u->last[n] = u->last[i];
        ev_r[n++] = (struct wire_event){t->c, WIRE_READ};
    }
    u->last_n = n;
    return n;
}

/* ---- sleep */

/* For us at most, when nothing came for idle_us. */
static void doze(struct wire_user *u, uint64_t us, uint64_t idle_us)
{
    struct port_info info;
    uint64_t next = stack_next_us(u->stack);
    uint64_t own = next == UINT64_MAX ? UINT64_MAX : next > u->now_us ? next - u->now_us : 0;
    int fd = u->port->arm(u->q);
    if (fd == -SATCHEL_EAGAIN)
        return;
    u->port->info(u->q->port, &info);
    us = own < us ? own : us;
    us = !info.rx_interrupt && us > port_nap_us(idle_us) ? port_nap_us(idle_us) : us;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    if (us)
        ppoll(&p, 1, &t, NULL);
    u->port->disarm(u->q);
}

static unsigned user_wait(struct wire *w, struct wire_event *ev_r, unsigned cap, uint64_t until_us)
{
    struct wire_user *u = user_of(w);
    eat(u);
    unsigned n = more(u, ev_r, cap);
    uint64_t heard = sock_now_us();
    for (uint32_t idle = 0; n == 0; idle++) {
        turn_end(u);
        uint64_t now = sock_now_us();
        if (idle > u->cfg.idle_polls && now < until_us)
            doze(u, until_us - now, now - heard);
        turn_begin(u);
        n = collect(u, ev_r, cap);
        if (u->frames) {
            idle = 0;
            heard = now;
        }
        if (now >= until_us)
            break;
    }
    return n;
}

/* ---- a connection */

static int user_connect(struct wire *w, struct wire_conn *c)
{
    struct wire_user *u = user_of(w);
    uint32_t pair = u->next_pair;
    u->next_pair = pair + 1 < PORTS * u->cfg.addrs_n ? pair + 1 : 0;
    struct tcp_conn *tc =
        tcp_connect(u->tcp, (uint8_t)(pair % u->cfg.addrs_n), (uint16_t)(PORT_FIRST + pair / u->cfg.addrs_n),
                    &u->cfg.target, u->cfg.target_port, u->now_us);
    if (!tc)
        return -SATCHEL_EAGAIN;
    *c = (struct wire_conn){.open = true, .fd = -1, .tc = tc};
    tail_of(u, tc)->c = c;
    return 0;
}

static int user_read(struct wire *w, struct wire_conn *c, struct slice *in_r)
{
    struct wire_user *u = user_of(w);
    eat(u);
    struct tail *t = tail_of(u, c->tc);
    struct slice in = t->gone ? slice_of(NULL, 0) : tcp_peek(u->tcp, c->tc);
    if (in.n == 0)
        return t->fin || t->gone ? -1 : 0;
    u->eaten = c->tc;
    u->eaten_n = in.n;
    *in_r = in;
    return 1;
}

/* Memory for it all is there by size; where it is not, nobody would tell the connection to go on. */
static size_t user_write(struct wire *w, struct wire_conn *c, const struct iovec *v, unsigned n)
{
    struct wire_user *u = user_of(w);
    size_t sum = 0;
    c->blocked = false;
    if (tail_of(u, c->tc)->gone)
        return 0;
    for (unsigned i = 0; i < n && !c->blocked; i++) {
        size_t took = tcp_write(u->tcp, c->tc, slice_of(v[i].iov_base, v[i].iov_len));
        sum += took;
        c->blocked = took < v[i].iov_len;
    }
    if (c->blocked)
        tcp_want_acked(c->tc);
    if (c->blocked && tcp_unacked(c->tc) == 0)
        errx(1, "too little memory for what is to be sent");
    return sum;
}

static void detach(struct wire_user *u, struct wire_conn *c, void (*end)(struct tcp *t, struct tcp_conn *tc))
{
    struct tail *t = tail_of(u, c->tc);
    eat(u);
    t->c = NULL;
    c->open = false;
    u->ending++;
    if (t->gone)
        give_back(u, c->tc);
    else
        end(u->tcp, c->tc);
}

static void user_close(struct wire *w, struct wire_conn *c)
{
    detach(user_of(w), c, tcp_close);
}

static void user_abort(struct wire *w, struct wire_conn *c)
{
    detach(user_of(w), c, tcp_abort);
}

/* ---- the end */

static bool abandon(void *ctx, struct tcp_conn *tc)
{
    struct wire_user *u = ctx;
    struct tail *t = tail_of(u, tc);
    if (t->c)
        user_close(&u->w, t->c);
    return true;
}

static void user_destroy(struct wire **w)
{
    struct wire_user *u = user_of(*w);
    struct wire_event ev[BATCH];
    uint64_t end = sock_now_us() + LINGER_US, now;
    tcp_conns(u->tcp, abandon, u);
    while (u->ending && (now = sock_now_us()) < end)
        user_wait(*w, ev, BATCH, now + PORT_NAP_MAX_US);
    turn_end(u);
    munmap(u->mem, u->mem_bytes);
    free(u);
    *w = NULL;
}

static unsigned user_ending(const struct wire *w)
{
    return ((const struct wire_user *)w)->ending;
}

static const struct wire_ops user_ops = {
    .connect = user_connect,
    .read = user_read,
    .write = user_write,
    .close = user_close,
    .abort = user_abort,
    .wait = user_wait,
    .ending = user_ending,
    .destroy = user_destroy,
};

/* ---- the beginning */

static void stack_configure(struct wire_user *u, struct stack_config *s_r)
{
    struct port_info info;
    stack_config_default(s_r);
    u->port->info(u->q->port, &info);
    memcpy(s_r->ip.mac, info.mac, sizeof info.mac);
    memcpy(s_r->ip.addrs, u->cfg.addrs, sizeof s_r->ip.addrs);
    s_r->ip.addrs_n = u->cfg.addrs_n;
    *(ip_addr_is4(&u->cfg.gateway) ? &s_r->ip.gateway4 : &s_r->ip.gateway6) = u->cfg.gateway;
    s_r->ip.mtu = info.mtu;
    s_r->ip.tx_ip_sum = info.tx_ip_sum;
    s_r->ip.tx_tcp_sum = info.tx_tcp_sum;
    s_r->ip.tx_vlan = info.tx_vlan;
    s_r->ip.dad = false;
    s_r->guard.bogons = false;
    s_r->tcp.conns_max = u->cfg.conns_max;
    s_r->tcp.delack_ms = u->cfg.delack_ms;
    u->tail_at = (uint32_t)((tcp_conn_bytes() + 15) & ~(size_t)15);
    s_r->tcp.conn_bytes = u->tail_at + (uint32_t)((sizeof(struct tail) + 15) & ~(size_t)15);
    s_r->tcp.pages_max = 65536;
    s_r->tcp.txblocks_max = u->cfg.conns_max < BLOCKS_MAX / 16 ? u->cfg.conns_max * 16 + 4096 : BLOCKS_MAX;
}

static int stack_open(struct wire_user *u, char *why_r)
{
    const struct frame_pool pool = port_frames(u->q);
    struct stack_config cfg;
    uint8_t key[64];
    stack_configure(u, &cfg);
    if (getrandom(key, sizeof key, 0) != sizeof key)
        err(1, "getrandom");
    u->mem_bytes = stack_bytes(&cfg);
    u->mem = mmap(NULL, u->mem_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (u->mem == MAP_FAILED)
        err(1, "memory for %u connections", u->cfg.conns_max);
    u->now_us = clock_boot_us(clock_system());
    int res = stack_init(&u->stack, u->mem, &cfg, &pool, &u->stats, key, u->now_us, why_r);
    if (res == 0)
        u->tcp = stack_tcp(u->stack);
    return res;
}

/* How many of them have not heard anything yet; what they hear is thrown away. */
static unsigned warm_turn(struct wire_user *u, struct wire_conn *c)
{
    struct wire_event ev[BATCH];
    struct slice in;
    unsigned waiting = 0, n = user_wait(&u->w, ev, BATCH, sock_now_us() + PORT_NAP_MAX_US);
    for (unsigned i = 0; i < n; i++)
        user_read(&u->w, ev[i].c, &in);
    for (unsigned i = 0; i < u->cfg.addrs_n; i++)
        waiting += c[i].open && !tail_of(u, c[i].tc)->up && !tail_of(u, c[i].tc)->gone;
    return waiting;
}

/* One connection from each of our addresses: both sides then know each other's MAC, and no SYN of the load waits for
 * an answer to ARP.  Who never hears anything goes on all the same. */
static void warm_up(struct wire_user *u)
{
    struct wire_conn c[IP_ADDRS_MAX] = {0};
    uint64_t end = sock_now_us() + WARM_US;
    for (unsigned i = 0; i < u->cfg.addrs_n; i++) {
        user_connect(&u->w, &c[i]);
        while (warm_turn(u, c) && sock_now_us() < end)
            ;
    }
    for (unsigned i = 0; i < u->cfg.addrs_n; i++)
        if (c[i].open)
            user_abort(&u->w, &c[i]);
    while (u->ending && sock_now_us() < end)
        warm_turn(u, c);
}

struct wire *wire_user_open(const struct wire_user_config *cfg, char *why_r)
{
    struct wire_user *u = calloc(1, sizeof *u);
    if (!u)
        err(1, "wire");
    u->w.ops = &user_ops;
    u->cfg = *cfg;
    u->q = cfg->queue;
    u->port = cfg->queue->port->ops;
    u->q->stats = &u->stats;
    if (getrandom(&u->next_pair, sizeof u->next_pair, 0) != sizeof u->next_pair)
        err(1, "getrandom");
    u->next_pair %= PORTS * cfg->addrs_n;
    if (stack_open(u, why_r) < 0) {
        munmap(u->mem, u->mem_bytes);
        free(u);
        return NULL;
    }
    warm_up(u);
    return &u->w;
}

const struct stats *wire_user_stats(const struct wire *w)
{
    return &((const struct wire_user *)w)->stats;
}
