/* rto.c - the retransmission timeout (RFC 6298) and what it is measured by.
 *
 * One sample a flight.  With timestamps (RFC 7323 4) any acknowledgement of what was sent behind rtt_seq gives one, and
 * the echo says which copy it means.  Without, one segment at a time is watched; once anything is sent again its
 * acknowledgement may have waited for that, and counts no more (Karn), but its own report does (SACK). */
#include "dataplane/tcp/tcp_send.h"

#define GRANULARITY_MS 1u

static uint32_t bounded(const struct tcp *t, uint32_t ms)
{
    ms = ms < t->cfg.rto_max_ms ? ms : t->cfg.rto_max_ms;
    return ms > t->cfg.rto_min_ms ? ms : t->cfg.rto_min_ms;
}

void rto_sample(struct tcp *t, struct tcp_conn *c, uint32_t ms)
{
    if (ms > t->cfg.rto_max_ms)
        ms = t->cfg.rto_max_ms;
    if (ms == 0)
        ms = 1;
    if (c->srtt8 == 0) {
        c->srtt8 = ms * 8;
        c->rttvar4 = ms * 2;
    } else {
        uint32_t srtt = c->srtt8 / 8, off = srtt > ms ? srtt - ms : ms - srtt;
        c->rttvar4 += off - c->rttvar4 / 4;
        c->srtt8 += ms - srtt;
    }
    c->rto = bounded(t, c->srtt8 / 8 + (c->rttvar4 > GRANULARITY_MS ? c->rttvar4 : GRANULARITY_MS));
}

static void forget(struct tcp_conn *c)
{
    c->flags &= ~(uint32_t)(CF_RTT | CF_RTT_SACK);
}

static void repeated(struct tcp_conn *c, uint32_t seq, uint32_t end)
{
    if (!(c->flags & CF_SACK) || (seq_lt(seq, c->rtt_seq) && seq_geq(end, c->rtt_seq)))
        forget(c);
    else if (c->flags & CF_RTT)
        c->flags |= CF_RTT_SACK;
}

void rto_sent(struct tcp *t, struct tcp_conn *c, uint32_t seq, uint32_t end)
{
    if (c->flags & CF_TS)
        return;
    if (seq_lt(seq, c->snd_max)) {
        repeated(c, seq, end);
    } else if (!(c->flags & CF_RTT)) {
        c->flags = (c->flags & ~(uint32_t)CF_RTT_SACK) | CF_RTT;
        c->rtt_seq = end;
        c->rtt_at = t->now_ms;
    }
}

/* After a timeout the echo must be that of the repetition: an older one comes also when the first copy arrived, its
 * acknowledgement was lost, and the repetition was refused as a duplicate (RFC 7323 5.3, R2): it measures the timeout.
 */
static bool echo_counts(const struct tcp_conn *c, const struct tcp_seg *s)
{
    if (c->rtx_n > 0)
        return seq_geq(s->ts_ecr, c->sent_at + c->ts_offset);
    return seq_gt(s->ack, c->rtt_seq);
}

static void echo_acked(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    uint32_t ms = t->now_ms + c->ts_offset - s->ts_ecr;
    if (!s->has_ts || (int32_t)ms < 0 || !echo_counts(c, s))
        return;
    rto_sample(t, c, ms);
    c->rtt_seq = c->snd_max;
}

void rto_acked(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    if (c->flags & CF_TS) {
        echo_acked(t, c, s);
    } else if (c->flags & CF_RTT && seq_geq(s->ack, c->rtt_seq)) {
        if (!(c->flags & CF_RTT_SACK))
            rto_sample(t, c, t->now_ms - c->rtt_at);
        forget(c);
    }
}

void rto_reported(struct tcp *t, struct tcp_conn *c)
{
    if (!(c->flags & CF_RTT) || !sb_has(t, c, c->rtt_seq - 1))
        return;
    rto_sample(t, c, t->now_ms - c->rtt_at);
    forget(c);
}

void rto_back_off(const struct tcp *t, struct tcp_conn *c)
{
    c->rto = bounded(t, c->rto * 2);
}

uint32_t rto_probe_ms(const struct tcp *t, const struct tcp_conn *c)
{
    uint32_t shift = c->rtx_n < 16 ? c->rtx_n : 16;
    uint64_t ms = (uint64_t)c->rto << shift;
    return bounded(t, ms < t->cfg.rto_max_ms ? (uint32_t)ms : t->cfg.rto_max_ms);
}
