/* tcp.c - TCP of one queue as a whole: its memory, its ports, who a segment is for, and the rounds of a turn. */
#include "dataplane/tcp/tcp_send.h"
#include "spool/base/err.h"
#include "spool/base/fetch.h"

#include <sodium.h>

#define WINDOW_LEAST 2048u
#define WINDOW_MOST  (1u << 20)
#define DELACK_MOST  500u                /* RFC 9293 3.8.6.3, MUST-40 */
#define TIME_MOST    (24u * 3600 * 1000) /* milliseconds: half the circle is 24 days */
#define SEND_MOST    (1u << 28)
#define INDEX_MOST   (1u << 27) /* two timers each, and their bins, in 28 bits */

const struct tcp_config tcp_config_default = {
    .conns_max = 65536,
    .syns_max = 65536,
    .time_waits_max = 65536,
    .pages_max = 16384,
    .txblocks_max = 65536,
    .window_bytes = 65536,
    .send_bytes = 256 * 1024,
    .syn_cookies = true,
    .ecn = true,
    .sack = true,
    .timestamps = true,
    .rto_min_ms = 200,
    .rto_max_ms = 60000,
    .delack_ms = 40,
    .syn_life_ms = 15000,
    .r2_ms = 100000,
    .fin_wait2_ms = 60000,
    .time_wait_ms = 60000,
    .zero_window_ms = 600000,
    .linger_bytes = 65536,
    .rst_per_s = 1000,
    .challenge_per_s = 10,
};

/* ---- memory: TCP, each part, then the connections */

static size_t conns_bytes(const struct tcp_config *cfg)
{
    return (size_t)cfg->conns_max * cfg->conn_bytes;
}

size_t tcp_conn_bytes(void)
{
    return sizeof(struct tcp_conn);
}

size_t tcp_bytes(const struct tcp_config *cfg)
{
    return tcp_rounded(sizeof(struct tcp)) + tcp_rounded(tcp_table_bytes(cfg)) + tcp_rounded(syns_bytes(cfg)) +
           tcp_rounded(tws_bytes(cfg)) + tcp_rounded(rxpool_bytes(cfg)) + tcp_rounded(txpool_bytes(cfg)) +
           tcp_rounded(twheel_bytes(cfg->conns_max * TCP_TIMERS)) + tcp_rounded(conns_bytes(cfg));
}

static bool within(uint32_t v, uint32_t least, uint32_t most)
{
    return v >= least && v <= most;
}

static bool sizes_fine(const struct tcp_config *c)
{
    return within(c->conns_max, 1, INDEX_MOST) && within(c->syns_max, 1, INDEX_MOST) &&
           within(c->time_waits_max, 1, INDEX_MOST) && within(c->pages_max, 1, INDEX_MOST) &&
           within(c->txblocks_max, 1, INDEX_MOST) && within(c->window_bytes, WINDOW_LEAST, WINDOW_MOST) &&
           within(c->send_bytes, 1, SEND_MOST) && c->conn_bytes >= sizeof(struct tcp_conn) &&
           c->conn_bytes % _Alignof(struct tcp_conn) == 0 && c->ahead_bytes <= c->conn_bytes;
}

static bool times_fine(const struct tcp_config *c)
{
    return within(c->rto_min_ms, 1, TIME_MOST) && within(c->rto_max_ms, c->rto_min_ms, TIME_MOST) &&
           c->delack_ms <= DELACK_MOST && within(c->syn_life_ms, 1, TIME_MOST) && within(c->r2_ms, 1, TIME_MOST) &&
           within(c->fin_wait2_ms, 1, TIME_MOST) && within(c->time_wait_ms, 1, TIME_MOST) &&
           within(c->zero_window_ms, 1, TIME_MOST);
}

/* A key for each purpose, so that none says anything of another. */
static void derive_keys(struct tcp *t, const uint8_t key[32])
{
    uint8_t all[3][16];
    crypto_generichash(all[0], sizeof all, (const uint8_t *)"satchel tcp", 11, key, 32);
    memcpy(t->key_table, all[0], 16);
    memcpy(t->key_isn, all[1], 16);
    memcpy(t->key_cookie, all[2], 16);
}

static struct twheel_node *timer_of(void *ctx, uint32_t index)
{
    return &tcp_conn_at(ctx, index / TCP_TIMERS)->timers[index % TCP_TIMERS];
}

/* With the deadlines, which stand in the same line. */
static void timer_fetch(void *ctx, uint32_t index)
{
    cache_fetch(&tcp_conn_at(ctx, index / TCP_TIMERS)->timers[0]);
}

static void clock_set(struct tcp *t, uint64_t now_us)
{
    t->now_us = now_us;
    t->now_ms = (uint32_t)(now_us / 1000);
}

static void parts_init(struct tcp *t, uint8_t *mem)
{
    tcp_table_init(t, mem);
    mem += tcp_rounded(tcp_table_bytes(&t->cfg));
    syns_init(t, mem);
    mem += tcp_rounded(syns_bytes(&t->cfg));
    tws_init(t, mem);
    mem += tcp_rounded(tws_bytes(&t->cfg));
    rxpool_init(t, mem);
    mem += tcp_rounded(rxpool_bytes(&t->cfg));
    txpool_init(t, mem);
    mem += tcp_rounded(txpool_bytes(&t->cfg));
    const struct twheel_owner owner = {.node = timer_of, .fetch = timer_fetch, .ctx = t};
    twheel_init(&t->wheel, mem, t->now_ms, &owner);
    mem += tcp_rounded(twheel_bytes(t->cfg.conns_max * TCP_TIMERS));
    t->conns = mem;
}

int tcp_init(struct tcp **t_r, void *mem, const struct tcp_config *cfg, const struct tcp_out *out, struct guard *guard,
             struct stats *stats, const uint8_t key[32], uint64_t now_us)
{
    if (!sizes_fine(cfg) || !times_fine(cfg))
        return -SATCHEL_EINVAL;
    struct tcp *t = mem;
    *t = (struct tcp){.cfg = *cfg, .out = *out, .guard = guard, .stats = stats};
    t->conn_free = t->events_head = t->flush_head = t->settle_head = TCP_NONE;
    clock_set(t, now_us);
    derive_keys(t, key);
    parts_init(t, (uint8_t *)mem + tcp_rounded(sizeof *t));
    *t_r = t;
    return 0;
}

/* ---- listening */

int tcp_listen(struct tcp *t, uint16_t port)
{
    if (t->ports_n == TCP_LISTEN_MAX)
        return -SATCHEL_EFULL;
    t->ports[t->ports_n++] = port;
    return 0;
}

void tcp_listen_stop(struct tcp *t)
{
    t->ports_n = 0;
    syns_clear(t);
}

/* ---- what came in */

static bool refused(struct tcp *t, const struct tcp_tuple *k)
{
    return t->guard && guard_stranger(t->guard, &k->peer) != GUARD_PASS;
}

/* RFC 9293 3.10.7.1 (CLOSED) and 3.10.7.2 (LISTEN).  Whom the guard refuses it has counted. */
static void stranger(struct tcp *t, const struct tcp_seg *s, const struct tcp_tuple *k)
{
    bool listens = tcp_listens(t, k->port);
    if (listens && (s->flags & (TH_SYN | TH_ACK | TH_RST)) == TH_SYN) {
        syn_new(t, s, k);
        return;
    }
    if (listens && s->flags & TH_ACK && cookie_input(t, s, k))
        return;
    if (refused(t, k))
        return;
    stat_add(t->stats, listens ? STAT_DROP_TCP_CLOSED : STAT_DROP_NO_LISTENER, 1);
    if (!listens || s->flags & TH_ACK)
        tcp_send_rst(t, s);
}

static void known(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    stat_add(t->stats, STAT_SEG_IN, 1);
    (c->state == TCP_SYN_SENT ? connect_input : conn_input)(t, c, s);
}

void tcp_input(struct tcp *t, const struct ip_packet *p, uint64_t now_us)
{
    struct tcp_seg s;
    uint32_t index = TCP_NONE;
    clock_set(t, now_us);
    int drop = tcp_seg_parse(&s, p);
    if (drop) {
        stat_add(t->stats, (enum stat_id)drop, 1);
        return;
    }
    struct tcp_tuple k = {.peer = p->src, .peer_port = s.sport, .port = s.dport, .local = p->local};
    k.hash = p->hash;
    k.guess = p->guess;
    switch (tcp_table_find(t, &k, &index)) {
    case TCP_KIND_CONN:
        known(t, tcp_conn_at(t, index), &s);
        break;
    case TCP_KIND_SYN:
        syn_input(t, index, &s, &k);
        break;
    case TCP_KIND_TW:
        tw_input(t, index, &s, &k);
        break;
    case TCP_KIND_NONE:
        stranger(t, &s, &k);
        break;
    }
}

/* Smaller than what c sends: else it tells nothing, or lies (RFC 5927 7.2). */
static bool error_too_big(struct tcp *t, struct tcp_conn *c, uint16_t mtu)
{
    uint32_t headers = ip_addr_is4(&c->peer) ? 40 : 60, options = c->flags & CF_TS ? 12 : 0;
    if (mtu >= c->mss + headers + options)
        return false;
    c->flags |= CF_MTU;
    conn_flush_later(t, c);
    return true;
}

bool tcp_error(struct tcp *t, const struct ip_error *e, uint64_t now_us)
{
    struct tcp_tuple k = {.peer = e->dst, .peer_port = e->dport, .port = e->sport, .local = e->local};
    uint32_t index;
    clock_set(t, now_us);
    if (tcp_table_find(t, &k, &index) != TCP_KIND_CONN)
        return false;
    struct tcp_conn *c = tcp_conn_at(t, index);
    if (e->seq - c->snd_una >= c->snd_max - c->snd_una) {
        stat_add(t->stats, STAT_DROP_ICMP, 1);
        return false;
    }
    if (e->mtu)
        return error_too_big(t, c, e->mtu);
    if (e->hard && c->state == TCP_SYN_SENT)
        conn_end(t, c, TCP_EV_RESET);
    return false;
}

/* ---- time */

void tcp_tick(struct tcp *t, uint64_t now_us)
{
    clock_set(t, now_us);
    syns_tick(t);
    tws_tick(t);
    conns_tick(t);
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t tcp_next_us(const struct tcp *t)
{
    return sooner(conns_next_us(t), sooner(syns_next_us(t), tws_next_us(t)));
}

/* ---- the rounds of a turn */

struct tcp_conn *tcp_event(struct tcp *t, uint32_t *events_r)
{
    while (t->events_head != TCP_NONE) {
        struct tcp_conn *c = tcp_conn_at(t, t->events_head);
        t->events_head = c->next_event;
        *events_r = c->events;
        c->events = 0;
        if (conn_unlist(t, c, ON_EVENTS))
            return c;
    }
    return NULL;
}

void tcp_settle(struct tcp *t)
{
    while (t->settle_head != TCP_NONE) {
        struct tcp_conn *c = tcp_conn_at(t, t->settle_head);
        t->settle_head = c->next_settle;
        if (conn_unlist(t, c, ON_SETTLE))
            rx_settle(t, c);
    }
}

/* Those on the list now; what is asked for meanwhile waits for the next turn. */
void tcp_flush(struct tcp *t, uint64_t now_us)
{
    uint32_t index = t->flush_head;
    clock_set(t, now_us);
    t->flush_head = TCP_NONE;
    while (index != TCP_NONE) {
        struct tcp_conn *c = tcp_conn_at(t, index);
        index = c->next_flush;
        if (conn_unlist(t, c, ON_FLUSH))
            conn_output(t, c);
    }
}

bool tcp_busy(const struct tcp *t)
{
    return t->events_head != TCP_NONE || t->flush_head != TCP_NONE;
}
