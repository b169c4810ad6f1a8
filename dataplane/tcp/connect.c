/* connect.c - the active open: SYN-SENT (RFC 9293 3.10.7.3), and SYN-RECEIVED where both open at once (3.5, MUST-10).
 *
 * snd_una is our SYN's number until it is acknowledged; snd_nxt stands there while a SYN is due, one further when it is
 * out.  Data and FIN that come with the peer's SYN are left to be sent again. */
#include "dataplane/tcp/tcp_send.h"

#define PORT_FIRST 32768u
#define PORTS_N    28232u /* RFC 6056: enough to choose from; above them nothing is ours */
#define WSCALE_MAX 14u    /* RFC 7323 2.3 */
#define RTO_SYN_MS 3000u  /* RFC 6298 5.7 */

/* ---- opening */

static bool tuple_is_free(struct tcp *t, const struct tcp_tuple *k)
{
    uint32_t index;
    return tcp_table_find(t, k, &index) == TCP_KIND_NONE;
}

/* RFC 6056 3.3.3: from where a secret of the peer's says, the next one that is free. */
static bool choose_port(struct tcp *t, struct tcp_tuple *k)
{
    uint32_t unused, from = tcp_isn(t, k, &unused);
    for (uint32_t i = 0; i < PORTS_N; i++) {
        k->port = (uint16_t)(PORT_FIRST + (from + i) % PORTS_N);
        if (tuple_is_free(t, k))
            return true;
    }
    return false;
}

/* RFC 9293 3.9.1.1, MUST-46: neither nobody nor many. Which other addresses are broadcasts IP knows, and asks nobody
 * for their MAC. */
static bool can_be_peer(const struct ip_addr *a)
{
    static const struct ip_addr unspecified6;
    if (!ip_addr_is4(a))
        return a->b[0] != 0xff && !ip_addr_eq(a, &unspecified6);
    return a->b[12] != 0 && a->b[12] < 224;
}

static void fill(struct tcp *t, struct tcp_conn *c, const struct tcp_tuple *k)
{
    c->snd_una = c->snd_nxt = c->snd_max = tcp_isn(t, k, &c->ts_offset);
    c->rcv_edge = rx_window_first(t); /* what our SYN says: the peer's number comes to it */
    c->flags = (t->cfg.timestamps ? CF_TS : 0) | (t->cfg.sack ? CF_SACK : 0) | CF_WSCALE;
}

struct tcp_conn *tcp_connect(struct tcp *t, uint8_t local, uint16_t port, const struct ip_addr *peer,
                             uint16_t peer_port, uint64_t now_us)
{
    struct tcp_tuple k = {.peer = *peer, .peer_port = peer_port, .port = port, .local = local};
    t->now_us = now_us;
    t->now_ms = (uint32_t)(now_us / 1000);
    if (!can_be_peer(peer) || peer_port == 0)
        return NULL;
    if (port ? !tuple_is_free(t, &k) : !choose_port(t, &k))
        return NULL;
    struct tcp_conn *c = conn_new(t, &k, 0, TCP_SYN_SENT, ip_addr_is4(peer) ? 536 : 1220);
    if (!c)
        return NULL;
    fill(t, c, &k);
    conn_flush_later(t, c);
    return c;
}

/* ---- our SYN */

/* A SYN offers what we can; with ACK only what the peer offered (CF_TS, ... are what both can by then). Its window is
 * not scaled (RFC 7323 2.2). */
static struct tcp_head syn_head(struct tcp *t, const struct tcp_conn *c)
{
    bool answers = c->flags & CF_SYN_IN;
    struct tcp_head h = {.sport = c->port, .dport = c->peer_port, .seq = c->snd_una};
    h.flags = TH_SYN | (answers ? TH_ACK : 0);
    h.ack = answers ? c->rcv_nxt : 0;
    h.wnd = (uint16_t)(c->rcv_edge - c->rcv_nxt);
    h.mss = tcp_mss_ours(t, &c->peer);
    h.wscale = c->flags & CF_WSCALE ? (int8_t)tcp_wscale(&t->cfg) : -1;
    h.sack_ok = c->flags & CF_SACK;
    h.ts = c->flags & CF_TS;
    h.ts_val = t->now_ms + c->ts_offset;
    h.ts_ecr = answers ? c->ts_recent : 0;
    return h;
}

void connect_output(struct tcp *t, struct tcp_conn *c)
{
    if (c->snd_nxt != c->snd_una)
        return;
    struct tcp_head h = syn_head(t, c);
    if (!output_segment(t, c, &h, 0, 0)) {
        c->ack_at = tcp_in_ms(t, OUTPUT_RETRY_MS);
        return;
    }
    bool again = c->snd_max != c->snd_una;
    if (again)
        stat_add(t->stats, STAT_RETRANS, 1);
    c->snd_nxt = c->snd_max = c->snd_una + 1;
    /* CF_TS is only offered yet: the clock watches, not the echo. */
    c->flags = again ? c->flags & ~(uint32_t)CF_RTT : c->flags | CF_RTT;
    c->rtt_at = t->now_ms;
    c->rtx_at = tcp_in_ms(t, c->rto);
}

/* ---- the peer's SYN */

static void agree(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    if (!s->has_ts)
        c->flags &= ~(uint32_t)CF_TS;
    if (!s->sack_ok)
        c->flags &= ~(uint32_t)CF_SACK;
    if (!s->has_wscale)
        c->flags &= ~(uint32_t)CF_WSCALE;
    c->snd_ws = s->has_wscale ? (s->wscale > WSCALE_MAX ? WSCALE_MAX : s->wscale) : 0;
    c->rcv_ws = s->has_wscale ? tcp_wscale(&t->cfg) : 0;
    c->mss_peer = tcp_mss_theirs(s);
    c->rcv_nxt = c->acked_in = s->seq + 1;
    c->rcv_edge += c->rcv_nxt;
    c->snd_wnd = s->wnd;
    c->ts_recent = s->ts_val;
    c->ts_recent_at = t->now_ms;
}

/* RFC 6298 5.7: what was repeated is no measure, and data begins with patience. */
static void measure(struct tcp *t, struct tcp_conn *c)
{
    if (c->flags & CF_RTT)
        rto_sample(t, c, t->now_ms - c->rtt_at);
    else
        c->rto = RTO_SYN_MS < t->cfg.rto_max_ms ? RTO_SYN_MS : t->cfg.rto_max_ms;
    c->flags &= ~(uint32_t)CF_RTT;
}

/* s acknowledges our SYN, and the peer's is here. */
static void establish(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    measure(t, c);
    c->snd_una = c->snd_nxt = c->snd_max;
    c->snd_wnd = (uint32_t)s->wnd << (s->flags & TH_SYN ? 0 : c->snd_ws);
    c->snd_wl1 = s->seq;
    c->snd_wl2 = s->ack;
    c->rtx_at = c->life_at = c->rtx_n = 0;
    c->flags &= ~(uint32_t)(CF_SYN_IN | CF_RTO);
    c->active_at = t->now_ms;
    conn_enter(t, c, TCP_ESTABLISHED);
    cong_init(t, c);
    stat_add(t->stats, STAT_CONN_OPENED, 1);
    conn_event(t, c, TCP_EV_CONNECTED);
}

static void syn_sent_input(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    if (s->flags & TH_RST) {
        if (s->flags & TH_ACK)
            conn_end(t, c, TCP_EV_RESET); /* refused */
        return;
    }
    if (!(s->flags & TH_SYN))
        return;
    agree(t, c, s);
    if (s->flags & TH_ACK) {
        establish(t, c, s);
        c->flags |= CF_ACK_NOW;
    } else {
        c->flags |= CF_SYN_IN;
        c->snd_nxt = c->snd_una; /* SYN-ACK: our SYN again, with an acknowledgement */
    }
    conn_flush_later(t, c);
}

/* The peer's SYN again: it did not hear our SYN-ACK, or this is its own. */
static void syn_again(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    if (s->seq + 1 != c->rcv_nxt)
        return;
    if (s->flags & TH_ACK)
        establish(t, c, s);
    else
        c->snd_nxt = c->snd_una;
    conn_flush_later(t, c);
}

/* RFC 9293 3.10.7.4 for SYN-RECEIVED: only what is next counts, all else comes again. */
static void syn_received_input(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    if (s->flags & TH_SYN) {
        syn_again(t, c, s);
    } else if (s->seq != c->rcv_nxt) {
        stat_add(t->stats, STAT_DROP_TCP_WINDOW, 1);
    } else if (s->flags & TH_RST) {
        conn_end(t, c, TCP_EV_RESET);
    } else if (s->flags & TH_ACK) {
        establish(t, c, s);
        conn_input(t, c, s);
    }
}

void connect_input(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    if (s->flags & TH_ACK && (c->snd_max == c->snd_una || s->ack != c->snd_max)) {
        stat_add(t->stats, STAT_DROP_TCP_ACK, 1);
        tcp_send_rst(t, s); /* none for a reset */
        return;
    }
    (c->flags & CF_SYN_IN ? syn_received_input : syn_sent_input)(t, c, s);
}
