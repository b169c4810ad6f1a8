/* answer.c - segments that belong to no connection: SYN-ACKs, resets, acknowledgements from TIME-WAIT. */
#include "dataplane/tcp/tcp_in.h"

#define TCP4_BYTES 40u /* IPv4 and TCP header */
#define TCP6_BYTES 60u

bool tcp_answer(struct tcp *t, const struct tcp_tuple *k, const struct tcp_head *h)
{
    struct frame f;
    struct ip_route to = {.dst = k->peer, .local = k->local};
    if (!t->out.alloc(t->out.ctx, &f)) {
        stat_add(t->stats, STAT_TX_NOBUF, 1);
        return false;
    }
    tcp_seg_build(&f, h);
    t->out.send(t->out.ctx, &f, &to);
    return true;
}

bool tcp_may_answer(struct tcp *t)
{
    return !t->guard || guard_answer(t->guard, t->now_us);
}

/* ---- maximum segment sizes (RFC 9293 3.7.1) */

#define MSS_LEAST 64u /* smaller ones only serve to make us send many packets */

uint16_t tcp_mss_ours(struct tcp *t, const struct ip_addr *peer)
{
    uint16_t mtu = t->out.mtu(t->out.ctx, peer);
    return (uint16_t)(mtu - (ip_addr_is4(peer) ? TCP4_BYTES : TCP6_BYTES));
}

uint16_t tcp_mss_theirs(const struct tcp_seg *s)
{
    if (s->mss == 0)
        return ip_addr_is4(&s->ip->src) ? 536 : 1220;
    return s->mss < MSS_LEAST ? MSS_LEAST : s->mss;
}

/* ---- resets (RFC 9293 3.10.7.1) */

static bool rst_allowed(struct tcp *t)
{
    uint32_t second = (uint32_t)(t->now_us / 1000000) + 1; /* 0: none yet */
    if (t->rst_s != second) {
        t->rst_s = second;
        t->rst_left = t->cfg.rst_per_s;
    }
    if (t->rst_left == 0 || !tcp_may_answer(t))
        return false;
    t->rst_left--;
    return true;
}

void tcp_send_rst(struct tcp *t, const struct tcp_seg *s)
{
    struct tcp_tuple k = {.peer = s->ip->src, .peer_port = s->sport, .port = s->dport, .local = s->ip->local};
    struct tcp_head h = {.sport = s->dport, .dport = s->sport, .wscale = -1};
    if (s->flags & TH_RST || !rst_allowed(t))
        return;
    if (s->flags & TH_ACK) {
        h.flags = TH_RST;
        h.seq = s->ack;
    } else {
        h.flags = TH_RST | TH_ACK;
        h.ack = s->seq + tcp_seg_len(s);
    }
    if (tcp_answer(t, &k, &h))
        stat_add(t->stats, STAT_RST_OUT, 1);
}
