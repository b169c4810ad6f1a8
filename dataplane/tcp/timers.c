/* timers.c - what each deadline does.  A connection has two entries in the wheel, each at or before its soonest
 * deadline of a kind: one that moves later stays where it is, comes up early, and is set anew then.
 *
 * Two, because what an answer asks for (its repetition, in a fifth of a second) comes and goes with every answer, while
 * the owner's minutes only move away: one entry for both would be carried there and back each time. */
#include "dataplane/tcp/tcp_send.h"

#define SYN_R2_MS      180000u /* RFC 9293 3.8.3, MUST-23: three minutes at least */
#define TICK_NODES_MAX 4096u   /* some 0.1 ms */

static uint32_t sooner(uint32_t a, uint32_t b)
{
    return a == 0 || (b != 0 && seq_lt(b, a)) ? b : a;
}

static void entries_set(struct tcp *t, struct tcp_conn *c)
{
    uint32_t soon = sooner(c->rtx_at, c->ack_at), late = sooner(c->life_at, c->app_at);
    uint32_t index = tcp_conn_index(t, c) * TCP_TIMERS;
    if (soon != 0)
        twheel_set(&t->wheel, index, soon);
    if (late != 0)
        twheel_set(&t->wheel, index + 1, late);
}

void conn_timer_update(struct tcp *t, struct tcp_conn *c)
{
    if (!(c->on & ON_FLUSH))
        entries_set(t, c);
}

void conn_timer_stop(struct tcp *t, struct tcp_conn *c)
{
    for (uint32_t i = 0; i < TCP_TIMERS; i++)
        twheel_stop(&t->wheel, tcp_conn_index(t, c) * TCP_TIMERS + i);
}

/* ---- retransmission */

/* The last repetition within R2 is waited for as long as any. */
static void r2_begin(const struct tcp *t, struct tcp_conn *c)
{
    uint32_t r2_ms = t->cfg.r2_ms;
    if (c->state == TCP_SYN_SENT && r2_ms < SYN_R2_MS)
        r2_ms = SYN_R2_MS;
    c->life_at = tcp_in_ms(t, r2_ms + t->cfg.rto_max_ms);
}

/* RFC 6298 5.4 to 5.6: the earliest segment leaves at the flush, the timer starts with it. */
static void retransmit(struct tcp *t, struct tcp_conn *c)
{
    if (c->snd_una == c->snd_max)
        return;
    stat_add(t->stats, STAT_RTO_FIRED, 1);
    cong_timeout(t, c);
    rto_back_off(t, c);
    if (c->rtx_n == 0)
        r2_begin(t, c);
    if (c->rtx_n < UINT8_MAX)
        c->rtx_n++;
    conn_flush_later(t, c);
}

/* RFC 9293 3.8.6.1, MUST-36: for as long as probes are answered; else R2 counts from when the peer was heard last, or
 * the first one left. */
static bool peer_is_silent(const struct tcp *t, const struct tcp_conn *c)
{
    uint32_t since = seq_max(c->active_at, c->life_at - t->cfg.zero_window_ms);
    return c->rtx_n > 0 && t->now_ms - since >= t->cfg.r2_ms;
}

static void probe(struct tcp *t, struct tcp_conn *c)
{
    output_probe(t, c);
    if (c->rtx_n < UINT8_MAX)
        c->rtx_n++;
    c->rtx_at = tcp_in_ms(t, rto_probe_ms(t, c));
}

/* ---- the end of patience */

/* Who still listens should know. */
static void give_up(struct tcp *t, struct tcp_conn *c)
{
    if (c->flags & CF_PERSIST)
        conn_send_bare(t, c, TH_RST | TH_ACK, conn_bare_seq(c));
    conn_end(t, c, TCP_EV_TIMEOUT);
}

static bool life_is_over(struct tcp *t, struct tcp_conn *c)
{
    bool silent = tcp_due(t, c->rtx_at) && c->flags & CF_PERSIST && peer_is_silent(t, c);
    if (!silent && !tcp_due(t, c->life_at))
        return false;
    if (c->state == TCP_FIN_WAIT2)
        conn_end(t, c, 0);
    else
        give_up(t, c);
    return true;
}

/* ---- the wheel */

/* Most come up early: of those only the line with their deadlines is looked at. */
static void conn_expired(struct tcp *t, struct tcp_conn *c)
{
    if (life_is_over(t, c))
        return;
    if (tcp_due(t, c->app_at)) {
        c->app_at = 0;
        conn_event(t, c, TCP_EV_TIMER);
    }
    if (tcp_due(t, c->ack_at)) {
        c->ack_at = 0;
        if (c->flags & CF_ACK_LATER)
            c->flags |= CF_ACK_NOW;
        conn_flush_later(t, c);
    }
    if (tcp_due(t, c->rtx_at)) {
        c->rtx_at = 0;
        (c->flags & CF_PERSIST ? probe : retransmit)(t, c);
    }
    entries_set(t, c);
}

/* A million entries that come a level down in one tick, as many sessions' that began within a minute do, would stand in
 * the way of frames for 20 ms: some at a time. */
void conns_tick(struct tcp *t)
{
    uint32_t index, budget = TICK_NODES_MAX;
    while ((index = twheel_expired(&t->wheel, t->now_ms, &budget)) != TWHEEL_NONE)
        conn_expired(t, tcp_conn_at(t, index / TCP_TIMERS));
}

uint64_t conns_next_us(const struct tcp *t)
{
    uint32_t at;
    return twheel_next(&t->wheel, &at) ? tcp_due_us(t, at) : UINT64_MAX;
}
