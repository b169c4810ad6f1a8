/* cookie.c - SYN cookies (RFC 4987 3.6), only while handshakes are too many for their table.
 *
 * The number of the SYN-ACK is 29 bits of a keyed hash of tuple, the peer's number, the minute and the MSS, and 3 bits
 * that say which MSS.  It is good for two to three minutes.  Other options are not offered: nothing would remember
 * them.
 *
 * The server speaks first.  Should the ACK be lost, the peer thinks that the connection stands, waits for the greeting
 * and says nothing; so the SYN-ACK is repeated twice, from a ring of 40 bytes each whose oldest notes are overwritten.
 * Nothing but this repetition is lost with them. */
#include "dataplane/tcp/tcp_in.h"

#define TICK_US   (64u * 1000000)
#define TICKS     3u /* in which a cookie is good */
#define MSS_BITS  3u
#define MSS_MASK  ((1u << MSS_BITS) - 1)
#define REPEAT_MS 1000u
#define TIMES     3u /* SYN-ACKs of a cookie, the first included */

/* The largest that is not above the peer's. */
static const uint16_t mss_table[1u << MSS_BITS] = {64, 536, 1024, 1220, 1340, 1400, 1440, 1460};

struct note {
    struct ip_addr peer;
    uint16_t peer_port, port;
    uint8_t local, said;
    uint16_t spare;
    uint32_t irs, iss;
    uint32_t at_ms; /* of the next repetition */
};

struct cookies {
    uint32_t first, n; /* of the ring; all wait equally long, so the first is due first */
    uint64_t last_us;  /* when one was given out */
    bool any;          /* ever */
    struct note ring[];
};

size_t cookies_bytes(const struct tcp_config *cfg)
{
    return sizeof(struct cookies) + (cfg->syn_cookies ? cfg->syns_max * sizeof(struct note) : 0);
}

void cookies_init(const struct tcp *t, struct cookies *o)
{
    (void)t;
    o->first = o->n = 0;
    o->any = false;
}

/* ---- the cookie */

static uint8_t mss_index(uint16_t mss)
{
    uint8_t i = 0;
    while (i < MSS_MASK && mss_table[i + 1] <= mss)
        i++;
    return i;
}

static uint32_t cookie_of(const struct tcp *t, const struct tcp_tuple *k, uint32_t irs, uint64_t tick, uint8_t mss)
{
    uint64_t more = (uint64_t)irs << 32 | (uint32_t)(tick << MSS_BITS) | mss;
    return ((uint32_t)tuple_secret(t->key_cookie, k, more) & ~MSS_MASK) | mss;
}

static bool cookie_good(const struct tcp *t, const struct tcp_tuple *k, uint32_t irs, uint32_t iss)
{
    uint64_t now = t->now_us / TICK_US;
    for (uint64_t i = 0; i < TICKS && i <= now; i++)
        if (cookie_of(t, k, irs, now - i, iss & MSS_MASK) == iss)
            return true;
    return false;
}

/* ---- SYN-ACKs, and notes to repeat them */

static void synack_say(struct tcp *t, const struct note *n)
{
    struct tcp_tuple k = {.peer = n->peer, .peer_port = n->peer_port, .port = n->port, .local = n->local};
    struct tcp_head h = {.sport = n->port, .dport = n->peer_port, .seq = n->iss, .ack = n->irs + 1, .wscale = -1};
    h.flags = TH_SYN | TH_ACK;
    h.wnd = rx_window_first(t);
    h.mss = tcp_mss_ours(t, &k.peer);
    if (!tcp_answer(t, &k, &h))
        return;
    stat_add(t->stats, STAT_SYNACK_OUT, 1);
    stat_add(t->stats, n->said == 0 ? STAT_COOKIE_OUT : STAT_SYNACK_AGAIN, 1);
}

static uint32_t ring_at(const struct tcp *t, uint32_t i)
{
    return (uint32_t)(((uint64_t)syns_cookies(t)->first + i) % t->cfg.syns_max);
}

static void ring_drop_first(struct tcp *t)
{
    struct cookies *o = syns_cookies(t);
    o->first = ring_at(t, 1);
    o->n--;
}

static void ring_append(struct tcp *t, struct note n)
{
    struct cookies *o = syns_cookies(t);
    if (o->n == t->cfg.syns_max)
        ring_drop_first(t);
    n.at_ms = t->now_ms + REPEAT_MS;
    o->ring[ring_at(t, o->n++)] = n;
}

static uint32_t times_max(const struct tcp *t)
{
    uint32_t guard = t->guard ? guard_synack_times(t->guard) : TIMES;
    return guard < TIMES ? guard : TIMES;
}

void cookie_new(struct tcp *t, const struct tcp_seg *s, const struct tcp_tuple *k)
{
    struct cookies *o = syns_cookies(t);
    struct note n = {k->peer, k->peer_port, k->port, k->local, .irs = s->seq};
    n.iss = cookie_of(t, k, s->seq, t->now_us / TICK_US, mss_index(tcp_mss_theirs(s)));
    o->any = true;
    o->last_us = t->now_us;
    synack_say(t, &n);
    n.said = 1;
    if (n.said < times_max(t))
        ring_append(t, n);
}

/* Not for who has come back meanwhile: the table knows the tuple. */
static void repeat(struct tcp *t, struct note n)
{
    struct tcp_tuple k = {.peer = n.peer, .peer_port = n.peer_port, .port = n.port, .local = n.local};
    uint32_t index;
    if (tcp_table_find(t, &k, &index) != TCP_KIND_NONE || !tcp_may_answer(t))
        return;
    synack_say(t, &n);
    if (++n.said < times_max(t))
        ring_append(t, n);
}

void cookies_tick(struct tcp *t)
{
    struct cookies *o = syns_cookies(t);
    while (o->n > 0 && seq_leq(o->ring[o->first].at_ms, t->now_ms)) {
        struct note n = o->ring[o->first];
        ring_drop_first(t);
        repeat(t, n);
    }
}

uint64_t cookies_next_us(const struct tcp *t)
{
    const struct cookies *o = syns_cookies(t);
    return o->n > 0 ? tcp_due_us(t, o->ring[o->first].at_ms) : UINT64_MAX;
}

void cookies_clear(struct tcp *t)
{
    cookies_init(t, syns_cookies(t));
}

/* ---- the ACK that brings one back */

static bool lately(const struct tcp *t)
{
    const struct cookies *o = syns_cookies(t);
    return o->any && t->now_us - o->last_us < (uint64_t)TICKS * TICK_US;
}

/* What the SYN-ACK announced is not known any more: the most that it can have been, without options. */
static void conn_agree(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    uint32_t wnd = t->cfg.window_bytes;
    c->snd_una = c->snd_nxt = c->snd_max = s->ack;
    c->rcv_nxt = c->acked_in = s->seq;
    c->rcv_edge = c->rcv_nxt + (wnd < UINT16_MAX ? wnd : UINT16_MAX);
    c->snd_wnd = c->snd_wnd_max = s->wnd;
    c->snd_wl1 = s->seq;
    c->snd_wl2 = s->ack;
    cong_init(t, c);
}

bool cookie_input(struct tcp *t, const struct tcp_seg *s, const struct tcp_tuple *k)
{
    if (!(s->flags & TH_ACK) || s->flags & (TH_RST | TH_SYN) || !lately(t) || !tcp_listens(t, k->port))
        return false;
    if (!cookie_good(t, k, s->seq - 1, s->ack - 1)) {
        stat_add(t->stats, STAT_COOKIE_BAD, 1);
        return false;
    }
    struct tcp_conn *c = conn_new(t, k, 0, TCP_ESTABLISHED, mss_table[(s->ack - 1) & MSS_MASK]);
    if (!c) {
        stat_add(t->stats, STAT_DROP_CONNS_FULL, 1);
        return true;
    }
    stat_add(t->stats, STAT_COOKIE_GOOD, 1);
    conn_agree(t, c, s);
    syn_accepted(t, c, s);
    return true;
}
