/* input.c - a segment of a connection (RFC 9293 3.10.7.4, with RFC 5961 and RFC 7323).
 *
 * In this order: reset, SYN, timestamp, acceptability, ACK, ECN, text, FIN.  What is refused is answered by an
 * acknowledgement: with the flush for what has a length, so that a burst draws one; within the connection's limit for
 * what has none, so that two sides which disagree do not acknowledge each other for ever. */
#include "dataplane/tcp/tcp_in.h"

#define PAWS_IDLE_MS   (24u * 24 * 3600 * 1000) /* RFC 7323 5.5 */
#define FULL_LEAST     536u                     /* a segment this long counts as a full one */
#define LOSSY_SEGMENTS 16u
#define DUP_FAR_BYTES  (1u << 20) /* a duplicate further back than any window is no retransmission */

enum { ECN_CE = 3 };

/* What is left of a segment between both edges of the window. */
struct text {
    uint32_t seq, n;
    const uint8_t *data;
    bool fin;
    bool cut; /* at the right */
    struct tcp_range old;
};

/* ---- answers */

void conn_challenge(struct tcp *t, struct tcp_conn *c)
{
    uint32_t second = (uint32_t)(t->now_us / 1000000) + 1; /* 0: none yet */
    if (c->challenge_s != second) {
        c->challenge_s = second;
        c->challenges = (uint8_t)(t->cfg.challenge_per_s < UINT8_MAX ? t->cfg.challenge_per_s : UINT8_MAX);
    }
    if (c->challenges == 0) {
        stat_add(t->stats, STAT_CHALLENGE_HELD, 1);
        return;
    }
    c->challenges--;
    stat_add(t->stats, STAT_CHALLENGE, 1);
    conn_send_bare(t, c, TH_ACK, conn_bare_seq(c));
}

static void ack_now(struct tcp *t, struct tcp_conn *c)
{
    c->flags |= CF_ACK_NOW;
    conn_flush_later(t, c);
}

/* RFC 9293 3.8.6.3, MUST-40, SHLD-19: within delack_ms, and for every second full segment.  The time counts from the
 * flush: what the owner answers meanwhile carries it, and no timer was set for nothing. */
static void ack_later(struct tcp *t, struct tcp_conn *c, uint32_t n)
{
    if (n >= (c->mss < FULL_LEAST ? c->mss : FULL_LEAST))
        c->delack_n++;
    if (c->delack_n >= 2)
        return ack_now(t, c);
    if (c->flags & (CF_ACK_NOW | CF_ACK_LATER))
        return;
    c->flags |= CF_ACK_LATER;
    conn_flush_later(t, c);
}

/* Where segments get lost acknowledgements do, too, and a burst's only one must not: its peer, with a small window,
 * would wait for a timeout.  After a gap or a repetition each of some segments has its own. */
static void ack_lossy(struct tcp_conn *c)
{
    c->lossy = LOSSY_SEGMENTS;
}

static void refuse(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s, enum stat_id why)
{
    stat_add(t->stats, why, 1);
    if (tcp_seg_len(s) == 0)
        conn_challenge(t, c);
    else
        ack_now(t, c);
}

/* ---- first, second, fourth: who speaks? */

/* RFC 5961 3.2: exactly the number expected ends the connection, one in the window is challenged. */
static void reset_input(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    if (s->seq == c->rcv_nxt)
        conn_end(t, c, TCP_EV_RESET);
    else if (tcp_acceptable(c->rcv_nxt, c->rcv_edge - c->rcv_nxt, s->seq, 0))
        conn_challenge(t, c);
    else
        stat_add(t->stats, STAT_DROP_TCP_WINDOW, 1);
}

/* RFC 7323 3.2 (once agreed, each segment has a timestamp) and 5.3 R1. */
static bool timestamp_fine(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    if (!(c->flags & CF_TS))
        return true;
    if (!s->has_ts) {
        stat_add(t->stats, STAT_DROP_TCP_PAWS, 1);
        return false;
    }
    if (seq_geq(s->ts_val, c->ts_recent) || t->now_ms - c->ts_recent_at > PAWS_IDLE_MS)
        return true;
    refuse(t, c, s, STAT_DROP_TCP_PAWS);
    return false;
}

/* R3: only what begins at or before what we acknowledged last, so that the echo is that of the earliest segment not yet
 * acknowledged (RFC 7323 4.3). */
static void timestamp_take(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    if (!(c->flags & CF_TS) || seq_gt(s->seq, c->acked_in))
        return;
    c->ts_recent = s->ts_val;
    c->ts_recent_at = t->now_ms;
}

/* A shut window takes nothing, but ACKs of what is otherwise next are looked at (MUST-66). */
static bool acceptable(const struct tcp_conn *c, const struct tcp_seg *s)
{
    uint32_t wnd = c->rcv_edge - c->rcv_nxt;
    return tcp_acceptable(c->rcv_nxt, wnd, s->seq, tcp_seg_len(s)) || (wnd == 0 && s->seq == c->rcv_nxt);
}

/* RFC 2883: what comes a second time is reported.  Its timestamp counts (RFC 7323 4.3) where it may be the repetition
 * of what we acknowledged in vain: echoed with the earlier one, the peer's timeout would be measured as a round trip.
 */
static void duplicate(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    struct tcp_range r = {s->seq, s->seq + s->data_n};
    if (s->data_n == 0 || seq_gt(r.end, c->rcv_nxt) || c->rcv_nxt - r.start > DUP_FAR_BYTES)
        return;
    stat_add(t->stats, STAT_DUP_IN, 1);
    ack_lossy(c);
    if (c->rcv_nxt - r.start <= t->cfg.window_bytes)
        timestamp_take(t, c, s);
    rx_dsack(t, c, r);
}

/* ---- fifth: ACK */

static void time_wait(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    if (c->flags & (CF_ACK_NOW | CF_ACK_LATER))
        conn_send_bare(t, c, TH_ACK, conn_bare_seq(c));
    tw_enter(t, c, s->ip->hash);
    conn_end(t, c, 0);
}

/* Our FIN is acknowledged. False: the connection is over. */
static bool fin_acked(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    switch ((enum tcp_state)c->state) {
    case TCP_FIN_WAIT1:
        conn_enter(t, c, TCP_FIN_WAIT2);
        return true;
    case TCP_CLOSING:
        time_wait(t, c, s);
        return false;
    case TCP_LAST_ACK:
        conn_end(t, c, 0);
        return false;
    default:
        return true;
    }
}

/* RFC 5961 5.2 is stricter than RFC 9293: an ACK too old is challenged as well as one of what was never sent. False:
 * there is nothing more to do with the segment. */
static bool ack_take(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    bool ours_done = false;
    if (!(s->flags & TH_ACK)) {
        stat_add(t->stats, STAT_DROP_TCP_ACK, 1);
        return false;
    }
    if (ack_input(t, c, s, &ours_done) != ACK_FINE) {
        stat_add(t->stats, STAT_DROP_TCP_ACK, 1);
        conn_challenge(t, c);
        return false;
    }
    return !ours_done || fin_acked(t, c, s);
}

/* RFC 3168 6.1.3: marks are echoed until the peer says CWR. */
static void ecn_input(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    if (!(c->flags & CF_ECN))
        return;
    if (s->flags & TH_CWR)
        c->flags &= ~(uint32_t)CF_ECE_OUT;
    if (s->ip->ecn != ECN_CE)
        return;
    stat_add(t->stats, STAT_ECN_CE_IN, 1);
    c->flags |= CF_ECE_OUT;
}

/* ---- seventh: text */

/* Cut to the window at both edges; a FIN beyond the right one goes with what is before it. What lies behind a FIN that
 * came early is nothing. */
static struct text text_of(const struct tcp_conn *c, const struct tcp_seg *s)
{
    struct text x = {s->seq, s->data_n, s->data, s->flags & TH_FIN, false, {0, 0}};
    uint32_t room, edge = c->fin_wait ? c->fin_seq : c->rcv_edge;
    if (seq_lt(x.seq, c->rcv_nxt)) {
        uint32_t cut = c->rcv_nxt - x.seq;
        cut = cut < x.n ? cut : x.n;
        x.old = (struct tcp_range){x.seq, x.seq + cut};
        x.seq += cut;
        x.data += cut;
        x.n -= cut;
    }
    room = seq_gt(edge, x.seq) ? edge - x.seq : 0;
    if (x.n > room) {
        x.n = room;
        x.cut = true;
        x.fin = false;
    } else if (x.fin && x.n == room && !c->fin_wait) {
        x.cut = true;
        x.fin = false;
    }
    return x;
}

/* Nobody reads any more: acknowledged and thrown away, so that the peer may end in good order; not without end.
 * False: the connection is over. */
static bool discard(struct tcp *t, struct tcp_conn *c, uint32_t n)
{
    c->rcv_nxt += n;
    c->discarded += n;
    if (c->discarded <= t->cfg.linger_bytes)
        return true;
    tcp_abort(t, c);
    return false;
}

static void in_order_acked(struct tcp *t, struct tcp_conn *c, const struct text *x, bool gap)
{
    bool first = c->lossy > 0;
    if (gap || x->old.start != x->old.end)
        ack_lossy(c);
    else
        c->lossy -= first;
    if (gap || first || x->cut || x->old.start != x->old.end)
        ack_now(t, c);
    else
        ack_later(t, c, x->n);
}

/* False: the connection is over, or the segment is as good as lost. */
static bool in_order(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s, const struct text *x)
{
    uint32_t before = c->rcv_nxt;
    bool gap = rx_has_gap(t, c);
    if (c->lossy > 0 && c->flags & CF_ACK_NOW)
        conn_send_bare(t, c, TH_ACK, conn_bare_seq(c)); /* of the segment before */
    if (c->flags & CF_DISCARD) {
        if (!discard(t, c, x->n))
            return false;
    } else if (rx_in_order(t, c, s->ip->frame, x->data, x->n)) {
        rx_join(t, c);
        conn_event(t, c, TCP_EV_READABLE);
    } else {
        stat_add(t->stats, STAT_DROP_TCP_MEMORY, 1);
        return false;
    }
    stat_add(t->stats, STAT_DATA_IN, c->rcv_nxt - before);
    rx_dsack(t, c, x->old);
    in_order_acked(t, c, x, gap);
    return true;
}

/* RFC 5681 4.2: each one is acknowledged at once. Without SACK the peer counts duplicates, so that a burst needs one
 * for each of its segments; with SACK the last one says it all. */
static void out_of_order(struct tcp *t, struct tcp_conn *c, const struct text *x)
{
    struct tcp_range dup;
    ack_lossy(c);
    stat_add(t->stats, STAT_OOO_IN, 1);
    if (!(c->flags & CF_SACK) && c->flags & CF_ACK_NOW)
        conn_send_bare(t, c, TH_ACK, conn_bare_seq(c));
    ack_now(t, c);
    if (c->flags & CF_DISCARD || x->n == 0)
        return;
    if (!rx_out_of_order(t, c, x->seq, x->data, x->n, &dup))
        return stat_add(t->stats, STAT_DROP_TCP_MEMORY, 1);
    stat_add(t->stats, STAT_DUP_IN, dup.end - dup.start == x->n);
    rx_dsack(t, c, dup);
}

/* ---- eighth: FIN */

static void fin_take(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    c->rcv_nxt++;
    c->flags |= CF_FIN_IN;
    c->fin_wait = false;
    conn_event(t, c, TCP_EV_FIN);
    ack_now(t, c);
    if (c->state == TCP_ESTABLISHED)
        conn_enter(t, c, TCP_CLOSE_WAIT);
    else if (c->state == TCP_FIN_WAIT1)
        conn_enter(t, c, TCP_CLOSING);
    else if (c->state == TCP_FIN_WAIT2)
        time_wait(t, c, s);
}

/* One that came early is remembered by its number. */
static void fin_input(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s, const struct text *x)
{
    if (x->fin) {
        c->fin_wait = true;
        c->fin_seq = x->seq + x->n;
    }
    if (!c->fin_wait)
        return;
    if (c->fin_seq == c->rcv_nxt)
        fin_take(t, c, s);
    else if (seq_lt(c->fin_seq, c->rcv_nxt)) /* there was something behind it: it was none */
        c->fin_wait = false;
}

static void text_input(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    if (tcp_seg_len(s) == 0 || c->flags & CF_FIN_IN)
        return;
    struct text x = text_of(c, s);
    if (seq_gt(x.seq, c->rcv_nxt))
        out_of_order(t, c, &x);
    else if (x.n > 0 && !in_order(t, c, s, &x))
        return;
    else if (x.cut)
        ack_now(t, c);
    fin_input(t, c, s, &x);
}

/* ---- all of it */

void conn_input(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    if (s->flags & TH_RST)
        return reset_input(t, c, s);
    if (s->flags & TH_SYN) /* RFC 5961 4.2: whatever its number; a peer that has started anew will reset us */
        return conn_challenge(t, c);
    if (!timestamp_fine(t, c, s))
        return;
    if (!acceptable(c, s)) {
        duplicate(t, c, s);
        return refuse(t, c, s, STAT_DROP_TCP_WINDOW);
    }
    if (!ack_take(t, c, s))
        return;
    c->active_at = t->now_ms;
    timestamp_take(t, c, s);
    ecn_input(t, c, s);
    text_input(t, c, s);
}
