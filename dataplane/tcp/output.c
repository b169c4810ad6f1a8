/* output.c - what a connection may send now, and the segments (RFC 9293 3.8, 3.10.7.4 last).
 *
 * A flush sends pieces, each chosen by what comes first:
 *   1. the segment at snd_una, when duplicates or a part acknowledged say that it is lost (CF_RTX)
 *   2. holes that the scoreboard calls lost
 *   3. from snd_nxt on: new bytes, or, after a timeout or when the path narrowed, those sent before, without what the
 *      peer has reported
 *   4. holes that are not yet called lost (RFC 6675 4, NextSeg 3)
 * as long as both windows allow.  Then the FIN, then, if nothing carried it, the acknowledgement. */
#include "dataplane/tcp/tcp_send.h"

#define ECT0       2u
#define TS_BYTES   12u
#define SACK_BYTES 8u /* a block; 4 more for the option */
#define SACKS_MAX  4u

/* ---- a segment */

/* Rounded up where rounding down would take a byte back that was offered before (RFC 9293 3.8.6). */
uint16_t output_window(struct tcp_conn *c, uint32_t edge)
{
    uint32_t room = seq_gt(edge, c->rcv_nxt) ? edge - c->rcv_nxt : 0;
    uint32_t field = room >> c->rcv_ws;
    if (seq_lt(c->rcv_nxt + (field << c->rcv_ws), c->rcv_edge))
        field++;
    if (field > UINT16_MAX)
        field = UINT16_MAX;
    c->rcv_edge = seq_max(c->rcv_edge, c->rcv_nxt + (field << c->rcv_ws));
    return (uint16_t)field;
}

static struct tcp_head head_of(const struct tcp *t, const struct tcp_conn *c, uint32_t seq, uint16_t flags)
{
    return (struct tcp_head){.sport = c->port,
                             .dport = c->peer_port,
                             .seq = seq,
                             .ack = flags & TH_ACK ? c->rcv_nxt : 0,
                             .flags = flags,
                             .wscale = -1,
                             .ts = c->flags & CF_TS,
                             .ts_val = t->now_ms + c->ts_offset,
                             .ts_ecr = c->ts_recent};
}

bool output_segment(struct tcp *t, struct tcp_conn *c, struct tcp_head *h, uint32_t n, uint8_t ecn)
{
    struct frame f;
    struct ip_route to = {.dst = c->peer, .local = c->local, .ecn = ecn};
    if (!t->out.alloc(t->out.ctx, &f)) {
        stat_add(t->stats, STAT_TX_NOBUF, 1);
        return false;
    }
    assert(n <= f.room);
    if (n > 0)
        txq_read(t, c, h->seq - c->snd_una, f.p, n);
    f.n = n;
    tcp_seg_build(&f, h);
    t->out.send(t->out.ctx, &f, &to);
    stat_add(t->stats, STAT_SEG_OUT, 1);
    if (n == 0)
        stat_add(t->stats, STAT_ACK_OUT, 1);
    return true;
}

static bool reports(const struct tcp *t, const struct tcp_conn *c)
{
    return c->flags & CF_SACK && (c->dsack.start != c->dsack.end || rx_has_gap(t, c));
}

/* As many blocks as stand beside n bytes of payload, and beside a timestamp. */
static uint8_t sack_room(const struct tcp_conn *c, uint32_t n)
{
    uint32_t room = n < c->mss ? c->mss - n : 0, max = c->flags & CF_TS ? SACKS_MAX - 1 : SACKS_MAX;
    room = n == 0 ? max : room < 4 ? 0 : (room - 4) / SACK_BYTES;
    return (uint8_t)(room < max ? room : max);
}

/* What every segment of the flush says beside its own; true: it left, and nothing more is owed but blocks that found no
 * room beside the payload. */
static bool say(struct tcp *t, struct tcp_conn *c, uint32_t seq, uint32_t n, uint16_t flags, uint8_t ecn)
{
    struct tcp_head h = head_of(t, c, seq, flags | TH_ACK | (c->flags & CF_ECE_OUT ? TH_ECE : 0));
    uint8_t sacks = reports(t, c) ? sack_room(c, n) : 0;
    bool untold = reports(t, c) && sacks == 0;
    h.wnd = output_window(c, rx_edge(t, c));
    h.sack_n = sacks ? rx_sack(t, c, h.sack, sacks) : 0;
    if (!output_segment(t, c, &h, n, ecn))
        return false;
    c->acked_in = c->rcv_nxt;
    c->flags &= ~(uint32_t)(CF_ACK_LATER | (untold ? 0 : CF_ACK_NOW));
    c->ack_at = c->delack_n = 0;
    return true;
}

void conn_send_bare(struct tcp *t, struct tcp_conn *c, uint16_t flags, uint32_t seq)
{
    struct tcp_head h = head_of(t, c, seq, flags);
    if (flags & TH_ACK && !(flags & TH_RST))
        h.wnd = output_window(c, c->rcv_edge);
    (void)output_segment(t, c, &h, 0, 0); /* whoever asked will ask again */
}

/* ---- pieces */

struct piece {
    uint32_t seq, n;
    bool fin, mends; /* mends: sent out of turn, snd_nxt stays */
};

static uint32_t min32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* A segment's worth from seq on, up to `most` bytes; false: nothing is there, or it is not worth sending into what the
 * peer's window leaves (RFC 9293 3.8.6.2.1: a full segment, all there is, or half the largest window). */
static bool piece_cut(const struct tcp_conn *c, uint32_t seq, uint32_t most, struct piece *p)
{
    uint32_t left = conn_tx_end(c) - seq, edge = c->snd_una + c->snd_wnd;
    uint32_t room = seq_gt(edge, seq) ? edge - seq : 0;
    uint32_t whole = min32(min32(left, c->mss), most);
    *p = (struct piece){.seq = seq, .n = min32(whole, room)};
    p->fin = p->n == left && c->flags & CF_FIN_QUEUED && room > p->n && most > p->n;
    if (p->n < whole)
        return p->n > 0 && p->n >= c->snd_wnd_max / 2;
    return p->n > 0 || p->fin;
}

/* Behind snd_nxt; there the FIN's number is the last. */
static bool piece_next(const struct tcp *t, const struct tcp_conn *c, struct piece *p)
{
    uint32_t seq = c->snd_nxt, most;
    if (!conn_waits(c))
        return false;
    most = sb_skip(t, c, &seq);
    return seq_leq(seq, conn_tx_end(c)) && piece_cut(c, seq, most, p);
}

static bool piece_hole(const struct tcp *t, const struct tcp_conn *c, bool lost, struct piece *p)
{
    struct tcp_range r;
    if (!(c->flags & CF_RECOVERY) || !sb_hole(t, c, c->rtx_next, lost, &r) ||
        !piece_cut(c, r.start, r.end - r.start, p))
        return false;
    p->mends = true;
    return true;
}

static bool piece_choose(const struct tcp *t, const struct tcp_conn *c, struct piece *p)
{
    uint32_t seq = c->snd_una, most = c->flags & CF_RTX ? sb_skip(t, c, &seq) : 0;
    if (c->flags & CF_RTX && piece_cut(c, seq, most, p)) {
        p->mends = true;
        return true;
    }
    return piece_hole(t, c, true, p) || piece_next(t, c, p) || piece_hole(t, c, false, p);
}

/* The one that recovery begins with does not wait for the window (RFC 5681 3.2, step 3). */
static bool piece_fits(const struct tcp *t, const struct tcp_conn *c, const struct piece *p)
{
    uint32_t under_way = cong_under_way(t, c);
    return under_way == 0 || under_way + p->n <= c->cwnd || (p->mends && c->flags & CF_RTX);
}

static uint16_t piece_flags(const struct tcp_conn *c, const struct piece *p, bool again)
{
    bool last = p->n > 0 && p->seq + p->n == conn_tx_end(c), cwr = c->flags & CF_CWR_OUT && !again && p->n > 0;
    return (uint16_t)((last ? TH_PSH : 0) | (p->fin ? TH_FIN : 0) | (cwr ? TH_CWR : 0));
}

/* ---- after a piece left */

static void count_piece(struct tcp *t, const struct tcp_conn *c, const struct piece *p)
{
    uint32_t end = p->seq + p->n;
    if (seq_lt(p->seq, c->snd_max))
        stat_add(t->stats, STAT_RETRANS, 1);
    if (seq_gt(end, c->snd_max))
        stat_add(t->stats, STAT_DATA_OUT, end - seq_max(p->seq, c->snd_max));
}

/* RFC 6298 5.1: running while anything is out; anew for the repetition that recovery begins with. */
static void start_timer(const struct tcp *t, struct tcp_conn *c, bool anew)
{
    if (c->flags & CF_PERSIST)
        conn_persist_end(c);
    if (c->rtx_at == 0 || anew)
        c->rtx_at = tcp_in_ms(t, c->rto);
}

static void piece_left(struct tcp *t, struct tcp_conn *c, const struct piece *p, uint16_t flags)
{
    uint32_t end = p->seq + p->n + p->fin;
    rto_sent(t, c, p->seq, end);
    count_piece(t, c, p);
    start_timer(t, c, p->mends && c->flags & CF_RTX);
    c->sent_at = t->now_ms;
    if (p->fin)
        c->flags |= CF_FIN_SENT;
    if (flags & TH_CWR)
        c->flags &= ~(uint32_t)CF_CWR_OUT;
    if (p->mends) {
        c->flags &= ~(uint32_t)CF_RTX;
        c->rtx_next = seq_max(c->rtx_next, end);
    }
    c->snd_nxt = p->mends ? seq_max(c->snd_nxt, end) : end;
    c->snd_max = seq_max(c->snd_max, end);
}

/* What was sent again is not marked (RFC 3168 6.1.5). */
static bool piece_send(struct tcp *t, struct tcp_conn *c, const struct piece *p)
{
    bool again = seq_lt(p->seq, c->snd_max);
    uint16_t flags = piece_flags(c, p, again);
    if (!say(t, c, p->seq, p->n, flags, c->flags & CF_ECN && !again && p->n > 0 ? ECT0 : 0))
        return false;
    piece_left(t, c, p, flags);
    return true;
}

/* False: frames ran out. */
static bool send_pieces(struct tcp *t, struct tcp_conn *c)
{
    struct piece p;
    if (c->snd_nxt == c->snd_una && conn_waits(c)) {
        conn_mtu(t, c); /* other connections may have learnt of it */
        cong_restart(t, c);
    }
    while (piece_choose(t, c, &p)) {
        if (!piece_fits(t, c, &p)) {
            c->flags |= CF_LIMITED;
            return true;
        }
        if (!piece_send(t, c, &p))
            return false;
    }
    c->flags &= ~(uint32_t)(CF_LIMITED | CF_RTX);
    return true;
}

/* ---- a window that is shut */

/* Something waits, nothing is out, so no acknowledgement will come by itself (RFC 9293 3.8.6.1). */
static void persist(const struct tcp *t, struct tcp_conn *c)
{
    if (c->snd_nxt != c->snd_una || !conn_waits(c))
        return;
    if (!(c->flags & CF_PERSIST)) {
        c->flags |= CF_PERSIST;
        c->rtx_n = 0;
        c->rtx_at = 0;
        c->life_at = tcp_in_ms(t, t->cfg.zero_window_ms);
    }
    if (c->rtx_at == 0)
        c->rtx_at = tcp_in_ms(t, rto_probe_ms(t, c));
}

/* Behind the window by a byte, or, where it is tiny, just what it takes: snd_nxt stays, for nothing says yet that it
 * was taken; snd_max moves, so that it may be. */
void output_probe(struct tcp *t, struct tcp_conn *c)
{
    struct piece p = {.seq = c->snd_una};
    p.n = min32(min32(c->snd_wnd > 0 ? c->snd_wnd : 1, c->mss), c->tx_bytes);
    p.fin = p.n == 0 && c->flags & CF_FIN_QUEUED;
    if ((p.n == 0 && !p.fin) || !say(t, c, p.seq, p.n, p.fin ? TH_FIN : 0, 0))
        return;
    stat_add(t->stats, STAT_PERSIST, 1);
    c->flags &= ~(uint32_t)CF_RTT;
    if (p.fin)
        c->flags |= CF_FIN_SENT;
    c->snd_max = seq_max(c->snd_max, p.seq + p.n + p.fin);
}

/* ---- the flush */

/* RFC 9293 3.8.6.3: the first of those that wait decides. */
static bool acknowledge(struct tcp *t, struct tcp_conn *c)
{
    if (c->flags & CF_ACK_LATER && (c->delack_n >= 2 || t->cfg.delack_ms == 0))
        c->flags |= CF_ACK_NOW;
    if (c->flags & CF_ACK_NOW)
        return say(t, c, conn_bare_seq(c), 0, 0, 0);
    if (c->flags & CF_ACK_LATER && c->ack_at == 0)
        c->ack_at = tcp_in_ms(t, t->cfg.delack_ms);
    return true;
}

static void say_what_waits(struct tcp *t, struct tcp_conn *c)
{
    if (c->flags & CF_MTU)
        conn_mtu(t, c);
    bool sent = send_pieces(t, c);
    if (sent)
        persist(t, c);
    if (!acknowledge(t, c) || !sent)
        c->ack_at = tcp_in_ms(t, OUTPUT_RETRY_MS);
}

void conn_output(struct tcp *t, struct tcp_conn *c)
{
    if (c->state == TCP_FREE || c->state == TCP_GONE)
        return;
    (c->state == TCP_SYN_SENT ? connect_output : say_what_waits)(t, c);
    conn_timer_update(t, c);
}

/* ---- the path */

/* RFC 1191 6.5, RFC 8201 5.2: what was too big is cut and sent again at once; that is no congestion. */
static void send_again(struct tcp_conn *c)
{
    c->snd_nxt = c->snd_una;
    c->dupacks = 0;
    c->flags &= ~(uint32_t)(CF_RECOVERY | CF_RTX | CF_RTT);
}

void conn_mtu(struct tcp *t, struct tcp_conn *c)
{
    uint32_t mss = min32(tcp_mss_ours(t, &c->peer), c->mss_peer), old = c->mss;
    c->mss = (uint16_t)(c->flags & CF_TS ? mss - TS_BYTES : mss);
    if (c->flags & CF_MTU && c->mss < old && c->snd_una != c->snd_max)
        send_again(c);
    c->flags &= ~(uint32_t)CF_MTU;
}
