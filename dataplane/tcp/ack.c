/* ack.c - what an acknowledgement means (RFC 9293 3.10.7.4, fifth). */
#include "dataplane/tcp/tcp_send.h"

/* RFC 5681 2: something is out, nothing else is said, and the window is the same. */
static bool is_duplicate(const struct tcp_conn *c, const struct tcp_seg *s, uint32_t wnd)
{
    return s->ack == c->snd_una && c->snd_una != c->snd_nxt && tcp_seg_len(s) == 0 && wnd == c->snd_wnd;
}

/* The window of the newest segment counts (SND.WL1, SND.WL2); true: it changed.  Who acknowledges something new is
 * newer than all before, though it repeats what is old: else the window said before would count from a later byte. */
static bool take_window(struct tcp_conn *c, const struct tcp_seg *s, uint32_t wnd, bool acks_new)
{
    bool newer = acks_new || seq_lt(c->snd_wl1, s->seq) || (c->snd_wl1 == s->seq && seq_leq(c->snd_wl2, s->ack));
    bool other = newer && wnd != c->snd_wnd;
    if (!newer)
        return false;
    c->snd_wnd = wnd;
    c->snd_wl1 = seq_max(c->snd_wl1, s->seq);
    c->snd_wl2 = s->ack;
    if (wnd > c->snd_wnd_max)
        c->snd_wnd_max = wnd;
    return other;
}

/* RFC 6298 5.2, 5.3: only something new starts the timer again; nothing left stops it.  A shut window's probes go on.
 */
static void restart_timer(struct tcp *t, struct tcp_conn *c)
{
    c->rtx_n = 0;
    if (c->flags & CF_PERSIST && !conn_waits(c))
        conn_persist_end(c);
    if (!(c->flags & CF_PERSIST))
        c->life_at = 0; /* R2 */
    c->rtx_at = c->snd_una == c->snd_max ? 0 : tcp_in_ms(t, c->rto);
}

/* More than the bytes: the FIN, which comes behind them. */
static void take_new(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s, bool *fin_acked_r)
{
    uint32_t n = s->ack - c->snd_una, bytes = n < c->tx_bytes ? n : c->tx_bytes;
    *fin_acked_r = n > bytes;
    assert(n <= bytes + 1 && (n == bytes || c->flags & CF_FIN_SENT));
    c->snd_una = s->ack;
    c->snd_nxt = seq_max(c->snd_nxt, c->snd_una);
    txq_acked(t, c, bytes);
    if (*fin_acked_r)
        c->flags &= ~(uint32_t)CF_FIN_QUEUED;
    rto_acked(t, c, s);
    sb_trim(t, c);
    restart_timer(t, c);
    cong_acked(t, c, bytes);
    if (bytes > 0 && c->flags & CF_WANT_ACKED) {
        c->flags &= ~(uint32_t)CF_WANT_ACKED;
        conn_event(t, c, TCP_EV_ACKED);
    }
}

/* The echo of a mark: no growth by this one (RFC 3168 6.1.2). */
static void take_ece(struct tcp_conn *c, const struct tcp_seg *s)
{
    if (!(c->flags & CF_ECN) || !(s->flags & TH_ECE))
        return;
    cong_ece(c, s->ack);
    c->flags &= ~(uint32_t)CF_LIMITED;
}

/* With SACK a duplicate is what reports something new (RFC 6675 2). */
static bool reports(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    if (!(c->flags & CF_SACK) || sb_note(t, c, s) == 0)
        return false;
    rto_reported(t, c);
    return true;
}

static void take(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s, bool *fin_acked_r)
{
    uint32_t wnd = (uint32_t)s->wnd << (c->flags & CF_WSCALE ? c->snd_ws : 0);
    bool plain = is_duplicate(c, s, wnd), more = s->ack != c->snd_una;
    take_ece(c, s);
    if (more)
        take_new(t, c, s, fin_acked_r);
    more |= take_window(c, s, wnd, more);
    if (reports(t, c, s) || (plain && !(c->flags & CF_SACK))) {
        cong_duplicate(t, c);
        more = true;
    }
    if (more && (conn_waits(c) || c->flags & CF_RTX || c->sb != TCP_NONE))
        conn_flush_later(t, c);
}

enum ack_result ack_input(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s, bool *fin_acked_r)
{
    *fin_acked_r = false;
    if (seq_gt(s->ack, c->snd_max))
        return ACK_FUTURE;
    if (seq_lt(s->ack, c->snd_una))
        return c->snd_una - s->ack > c->snd_wnd_max ? ACK_OLD : ACK_FINE;
    take(t, c, s, fin_acked_r);
    return ACK_FINE;
}
