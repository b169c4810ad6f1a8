/* cong.c - how much may be in the network.
 *
 * One rule for sending: what is under way, and the next segment, within cwnd.  Instead of inflating cwnd by each
 * duplicate (RFC 5681 3.2, RFC 6582) the segments that duplicates say have left are taken off what is under way: the
 * same sums, and RFC 3042's limited transmit for nothing.  With SACK the scoreboard says it better (RFC 6675).
 *
 *   open      -> recovery  three duplicates, or SACK says that the first byte missing is lost
 *   open, recovery -> timeout  the retransmission timer
 *   recovery, timeout -> open  everything sent until then (recover) is acknowledged */
#include "dataplane/tcp/tcp_send.h"

#define WINDOW_MAX (1u << 30) /* nobody has so much to say */
#define IW_BYTES   14600u     /* RFC 6928 2 */
#define IW_SEGS    10u

static uint32_t min32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t max32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static uint32_t initial_window(const struct tcp_conn *c)
{
    return min32(IW_SEGS * c->mss, max32(2u * c->mss, IW_BYTES));
}

void cong_init(struct tcp *t, struct tcp_conn *c)
{
    conn_mtu(t, c);
    c->cwnd = initial_window(c);
    c->ssthresh = WINDOW_MAX;
    c->recover = c->ece_until = c->snd_una - 1;
    c->rtx_next = c->rtt_seq = c->snd_una;
    c->snd_wnd_max = c->snd_wnd;
    c->sent_at = t->now_ms;
}

uint32_t cong_under_way(const struct tcp *t, const struct tcp_conn *c)
{
    uint32_t out = c->snd_nxt - c->snd_una;
    if (c->sb == TCP_NONE)
        return out - min32(out, (uint32_t)c->dupacks * c->mss);
    return c->flags & CF_RECOVERY ? sb_pipe(t, c) : out - sb_below(t, c, c->snd_nxt);
}

/* ---- less */

/* FlightSize without what limited transmit added: never more than the window allowed (RFC 5681 3.2). */
static uint32_t half(const struct tcp_conn *c)
{
    return max32(min32(c->snd_max - c->snd_una, c->cwnd) / 2, 2u * c->mss);
}

/* RFC 3168 6.1.2: said whatever the reason; and marks of this flight cut no more. */
static void was_cut(struct tcp_conn *c)
{
    c->ece_until = c->snd_max;
    if (c->flags & CF_ECN)
        c->flags |= CF_CWR_OUT;
}

static void recovery_begin(struct tcp *t, struct tcp_conn *c)
{
    c->ssthresh = c->cwnd = half(c);
    c->recover = c->snd_max;
    c->rtx_next = c->snd_una;
    c->flags |= CF_RECOVERY | CF_RTX;
    was_cut(c);
    stat_add(t->stats, STAT_FAST_RETRANS, 1);
}

/* RFC 6582 3.2, step 1: duplicates of what an earlier recovery sent needlessly begin no other. SACK knows better than
 * that. */
static bool recovery_may_begin(const struct tcp *t, const struct tcp_conn *c)
{
    if (c->flags & (CF_RECOVERY | CF_RTO))
        return false;
    if (c->sb != TCP_NONE)
        return seq_geq(c->snd_una, c->recover) && (c->dupacks >= TCP_DUP_THRESH || sb_first_lost(t, c));
    return seq_gt(c->snd_una, c->recover) && c->dupacks >= TCP_DUP_THRESH;
}

/* No more duplicates count than segments were out (RFC 5681 5): a peer can't buy itself a larger window with them. */
void cong_duplicate(struct tcp *t, struct tcp_conn *c)
{
    uint32_t most = (c->flags & CF_RECOVERY ? c->recover : c->snd_max) - c->snd_una;
    most = c->flags & CF_RTO ? 0 : c->flags & CF_RECOVERY ? (most + c->mss - 1) / c->mss : TCP_DUP_THRESH;
    if (c->dupacks < min32(most, UINT16_MAX))
        c->dupacks++;
    if (recovery_may_begin(t, c))
        recovery_begin(t, c);
}

void cong_ece(struct tcp_conn *c, uint32_t ack)
{
    if (!seq_gt(ack, c->ece_until) || c->flags & (CF_RECOVERY | CF_RTO))
        return;
    c->ssthresh = c->cwnd = half(c);
    was_cut(c);
}

/* A segment that was lost again has cut ssthresh already (RFC 5681 3.1). */
void cong_timeout(struct tcp *t, struct tcp_conn *c)
{
    if (c->rtx_n == 0)
        c->ssthresh = half(c);
    c->cwnd = c->mss;
    c->recover = c->snd_max;
    c->snd_nxt = c->snd_una;
    c->dupacks = 0;
    c->flags = (c->flags & ~(uint32_t)(CF_RECOVERY | CF_RTX | CF_RTT | CF_RTT_SACK)) | CF_RTO;
    sb_drop(t, c); /* the peer may have thrown it away (RFC 2018 8) */
    was_cut(c);
}

void cong_restart(struct tcp *t, struct tcp_conn *c)
{
    if (t->now_ms - c->sent_at > c->rto)
        c->cwnd = min32(c->cwnd, initial_window(c));
}

/* ---- more */

/* Only what filled the window shows that there is room for more (RFC 9293 has it from RFC 7661).  Bytes count, not
 * acknowledgements: splitting them gains nothing (RFC 3465, L = 1). */
static void open_up(struct tcp_conn *c, uint32_t n)
{
    if (!(c->flags & CF_LIMITED))
        return;
    n = min32(n, c->mss);
    if (c->cwnd >= c->ssthresh)
        n = max32((uint32_t)((uint64_t)n * c->mss / c->cwnd), 1);
    c->cwnd = min32(c->cwnd + n, WINDOW_MAX);
}

/* RFC 6582 3.2: the acknowledgement of a part names the next loss; of n bytes one segment was a repetition, the others
 * had been counted by duplicates. With SACK holes say where to go on. */
static void recovery_partly(struct tcp_conn *c, uint32_t n)
{
    uint32_t others = n > 0 ? (n - 1) / c->mss : 0;
    if (c->flags & CF_SACK) {
        c->dupacks = 0;
        return;
    }
    c->dupacks = (uint16_t)(c->dupacks - min32(c->dupacks, others));
    c->flags |= CF_RTX;
}

/* RFC 6582 3.2, step 3, the careful way: no burst when little is under way. */
static void recovery_end(const struct tcp *t, struct tcp_conn *c)
{
    c->dupacks = 0;
    if (c->flags & CF_RECOVERY)
        c->cwnd = min32(c->ssthresh, max32(cong_under_way(t, c), c->mss) + c->mss);
    c->flags &= ~(uint32_t)(CF_RECOVERY | CF_RTO | CF_RTX);
}

/* Marks of the past follow snd_una, lest they come to lie ahead of it after half the circle. */
static void follow(struct tcp_conn *c)
{
    if (!(c->flags & (CF_RECOVERY | CF_RTO)) && seq_gt(c->snd_una, c->recover))
        c->recover = c->snd_una - 1;
    if (seq_gt(c->snd_una, c->ece_until))
        c->ece_until = c->snd_una - 1;
    c->rtx_next = seq_max(c->rtx_next, c->snd_una);
}

void cong_acked(struct tcp *t, struct tcp_conn *c, uint32_t n)
{
    bool mending = c->flags & (CF_RECOVERY | CF_RTO);
    if (mending && seq_geq(c->snd_una, c->recover))
        recovery_end(t, c);
    else if (c->flags & CF_RECOVERY)
        recovery_partly(c, n);
    else
        open_up(c, n);
    if (!mending)
        c->dupacks = 0;
    follow(c);
}
