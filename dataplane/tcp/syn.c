/* syn.c - handshakes under way (RFC 9293 3.10.7.2, and SYN-RECEIVED of 3.10.7.4): 64 bytes each, no connection yet.
 *
 * The SYN-ACK leaves at once and is repeated 1, 3 and 7 s after the SYN (RFC 6298 2.1, 5.5: a second, doubled), and for
 * each repeated SYN, guard_synack_times in all; syn_life_ms after its SYN a handshake is forgotten.  Records wait in
 * one list for each repetition; within a list all wait equally long, so its first is due first. */
#include "dataplane/tcp/tcp_in.h"

#define STAGES       4u
#define CHALLENGES   10u  /* of one handshake */
#define SAID_JUST_MS 500u /* a SYN-ACK this fresh is not repeated by the clock */
#define WSCALE_MAX   14u  /* RFC 7323 2.3 */

#define RTO_UNKNOWN_MS 3000u /* RFC 6298 5.7: the SYN-ACK was repeated, nothing was measured */

static const uint32_t stage_ms[STAGES] = {1000, 3000, 7000, UINT32_MAX};

struct syn {
    struct ip_addr peer;
    uint16_t peer_port, port;
    uint8_t local, stage;
    uint16_t flags; /* CF_* agreed */
    uint32_t irs, iss;
    uint32_t ts_recent;
    uint32_t born_ms, said_ms;
    uint32_t next, prev; /* of its stage, or next free */
    uint16_t mss;        /* the peer's */
    uint16_t wnd;        /* announced */
    uint8_t snd_ws;
    uint8_t said, challenges; /* SYN-ACKs, challenge ACKs sent */
    uint8_t spare;
    uint32_t ts_offset;
};
static_assert(sizeof(struct syn) == 64, "a handshake must stay small");

struct stage {
    uint32_t first, last;
};

struct syns {
    struct cookies *cookies;
    uint32_t free, touched, n; /* free list; those never used follow `touched` */
    struct stage stages[STAGES];
    uint8_t pad[12];
    struct syn v[];
};
static_assert(sizeof(struct syns) == 64, "records begin on a cache line");

/* ---- memory */

static size_t records_bytes(const struct tcp_config *cfg)
{
    return sizeof(struct syns) + cfg->syns_max * sizeof(struct syn);
}

size_t syns_bytes(const struct tcp_config *cfg)
{
    return records_bytes(cfg) + tcp_rounded(cookies_bytes(cfg));
}

void syns_init(struct tcp *t, void *mem)
{
    struct syns *o = mem;
    o->free = TCP_NONE;
    for (uint32_t i = 0; i < STAGES; i++)
        o->stages[i] = (struct stage){TCP_NONE, TCP_NONE};
    o->cookies = (struct cookies *)((uint8_t *)mem + records_bytes(&t->cfg));
    t->syns = o;
    cookies_init(t, o->cookies);
}

struct cookies *syns_cookies(const struct tcp *t)
{
    return t->syns->cookies;
}

static void stage_append(struct syns *o, uint32_t i, uint8_t stage)
{
    struct stage *list = &o->stages[stage];
    o->v[i].stage = stage;
    o->v[i].next = TCP_NONE;
    o->v[i].prev = list->last;
    if (list->last == TCP_NONE)
        list->first = i;
    else
        o->v[list->last].next = i;
    list->last = i;
}

static void stage_remove(struct syns *o, uint32_t i)
{
    struct syn *y = &o->v[i];
    struct stage *list = &o->stages[y->stage];
    *(y->prev == TCP_NONE ? &list->first : &o->v[y->prev].next) = y->next;
    *(y->next == TCP_NONE ? &list->last : &o->v[y->next].prev) = y->prev;
}

static uint32_t record_take(struct tcp *t)
{
    struct syns *o = t->syns;
    uint32_t i = o->free;
    if (i != TCP_NONE)
        o->free = o->v[i].next;
    else if (o->touched < t->cfg.syns_max)
        i = o->touched++;
    else
        return TCP_NONE;
    stat_set(t->stats, STAT_SYNS, ++o->n);
    return i;
}

static void record_give(struct tcp *t, uint32_t i)
{
    struct syns *o = t->syns;
    o->v[i].next = o->free;
    o->free = i;
    stat_set(t->stats, STAT_SYNS, --o->n);
}

static struct tcp_tuple syn_tuple(const struct syn *y)
{
    return (struct tcp_tuple){.peer = y->peer, .peer_port = y->peer_port, .port = y->port, .local = y->local};
}

bool syn_is(const struct tcp *t, uint32_t index, const struct tcp_tuple *k)
{
    const struct syn *y = &t->syns->v[index];
    return ip_addr_eq(&y->peer, &k->peer) && y->peer_port == k->peer_port && y->port == k->port && y->local == k->local;
}

/* Without a trace: back to LISTEN. */
static void forget(struct tcp *t, uint32_t i)
{
    struct tcp_tuple k = syn_tuple(&t->syns->v[i]);
    tcp_table_remove(t, tuple_hash(t, &k), tcp_ref(TCP_KIND_SYN, i));
    stage_remove(t->syns, i);
    record_give(t, i);
}

/* ---- the SYN-ACK */

/* RFC 7323 2.2: its window is never scaled. RFC 3168 6.1.1: ECE alone accepts ECN. */
static struct tcp_head synack_head(struct tcp *t, const struct syn *y, const struct tcp_tuple *k)
{
    struct tcp_head h = {.sport = y->port, .dport = y->peer_port, .seq = y->iss, .ack = y->irs + 1, .wnd = y->wnd};
    h.flags = TH_SYN | TH_ACK | (y->flags & CF_ECN ? TH_ECE : 0);
    h.mss = tcp_mss_ours(t, &k->peer);
    h.wscale = y->flags & CF_WSCALE ? (int8_t)tcp_wscale(&t->cfg) : -1;
    h.sack_ok = y->flags & CF_SACK;
    h.ts = y->flags & CF_TS;
    h.ts_val = t->now_ms + y->ts_offset;
    h.ts_ecr = y->ts_recent;
    return h;
}

static uint32_t times_max(const struct tcp *t)
{
    return t->guard ? guard_synack_times(t->guard) : STAGES;
}

/* The guard was asked for the first one. */
static void synack_say(struct tcp *t, struct syn *y)
{
    struct tcp_tuple k = syn_tuple(y);
    struct tcp_head h = synack_head(t, y, &k);
    y->said_ms = t->now_ms;
    if (!tcp_answer(t, &k, &h))
        return;
    stat_add(t->stats, STAT_SYNACK_OUT, 1);
    if (y->said++ > 0)
        stat_add(t->stats, STAT_SYNACK_AGAIN, 1);
}

static void synack_again(struct tcp *t, struct syn *y)
{
    if (y->said < times_max(t) && tcp_may_answer(t))
        synack_say(t, y);
}

/* ---- a new SYN */

static uint16_t options_agreed(const struct tcp *t, const struct tcp_seg *s)
{
    bool ecn = (s->flags & (TH_ECE | TH_CWR)) == (TH_ECE | TH_CWR);
    return (uint16_t)((s->has_ts && t->cfg.timestamps ? CF_TS : 0) | (s->sack_ok && t->cfg.sack ? CF_SACK : 0) |
                      (ecn && t->cfg.ecn ? CF_ECN : 0) | (s->has_wscale ? CF_WSCALE : 0));
}

static void record_fill(struct tcp *t, struct syn *y, const struct tcp_seg *s, const struct tcp_tuple *k)
{
    *y = (struct syn){.peer = k->peer, .peer_port = k->peer_port, .port = k->port, .local = k->local};
    y->flags = options_agreed(t, s);
    y->irs = s->seq;
    y->iss = tcp_isn(t, k, &y->ts_offset);
    y->ts_recent = s->ts_val;
    y->born_ms = t->now_ms;
    y->mss = tcp_mss_theirs(s);
    y->wnd = rx_window_first(t);
    y->snd_ws = s->has_wscale ? (s->wscale > WSCALE_MAX ? WSCALE_MAX : s->wscale) : 0;
}

static bool guard_lets(struct tcp *t, const struct tcp_tuple *k)
{
    if (t->guard && guard_syn(t->guard, &k->peer, t->now_us) != GUARD_PASS)
        return false;
    stat_add(t->stats, STAT_SYN_IN, 1);
    return true;
}

/* A SYN that the guard let in; false (counted): nobody else is to be answered just now. */
static bool may_answer(struct tcp *t)
{
    bool may = tcp_may_answer(t);
    stat_add(t->stats, STAT_DROP_RATE, !may);
    return may;
}

static void overflow(struct tcp *t, const struct tcp_seg *s, const struct tcp_tuple *k)
{
    if (!t->cfg.syn_cookies)
        stat_add(t->stats, STAT_DROP_SYN_FULL, 1);
    else if (may_answer(t))
        cookie_new(t, s, k);
}

void syn_new(struct tcp *t, const struct tcp_seg *s, const struct tcp_tuple *k)
{
    if (!guard_lets(t, k))
        return;
    if (t->syns->n == t->cfg.syns_max)
        return overflow(t, s, k);
    if (!may_answer(t))
        return;
    uint32_t i = record_take(t);
    if (!tcp_table_add(t, tuple_hash(t, k), tcp_ref(TCP_KIND_SYN, i))) {
        stat_add(t->stats, STAT_DROP_SYN_FULL, 1);
        return record_give(t, i);
    }
    record_fill(t, &t->syns->v[i], s, k);
    stage_append(t->syns, i, 0);
    synack_say(t, &t->syns->v[i]);
}

/* RFC 9293 3.6.1, MAY-2: our number has to be beyond all that the old connection used. No cookie: the tuple has an
 * entry already. */
bool syn_reuse(struct tcp *t, const struct tcp_seg *s, const struct tcp_tuple *k, uint32_t was, uint32_t above)
{
    if (!guard_lets(t, k))
        return false;
    if (t->syns->n == t->cfg.syns_max) {
        stat_add(t->stats, STAT_DROP_SYN_FULL, 1);
        return false;
    }
    if (!may_answer(t))
        return false;
    uint32_t i = record_take(t);
    struct syn *y = &t->syns->v[i];
    record_fill(t, y, s, k);
    if (seq_leq(y->iss, above))
        y->iss = above + 1;
    tcp_table_set(t, tuple_hash(t, k), was, tcp_ref(TCP_KIND_SYN, i));
    stage_append(t->syns, i, 0);
    synack_say(t, y);
    return true;
}

/* ---- SYN-RECEIVED */

/* RFC 5961: whoever is out of step hears where we are; a few times in a handshake's life. */
static void challenge(struct tcp *t, struct syn *y, const struct tcp_tuple *k)
{
    if (y->challenges == CHALLENGES || !tcp_may_answer(t)) {
        stat_add(t->stats, STAT_CHALLENGE_HELD, 1);
        return;
    }
    y->challenges++;
    struct tcp_head h = synack_head(t, y, k);
    h.flags = TH_ACK;
    h.seq = y->iss + 1;
    h.mss = 0;
    h.wscale = -1;
    h.sack_ok = false;
    h.wnd =
        (uint16_t)(y->flags & CF_WSCALE ? (y->wnd + (1u << tcp_wscale(&t->cfg)) - 1) >> tcp_wscale(&t->cfg) : y->wnd);
    if (tcp_answer(t, k, &h))
        stat_add(t->stats, STAT_CHALLENGE, 1);
}

/* RFC 7323 3.2, 5.3: once agreed, each segment has a timestamp, none older than the SYN's. */
static bool timestamp_fine(struct tcp *t, struct syn *y, const struct tcp_seg *s, const struct tcp_tuple *k)
{
    if (!(y->flags & CF_TS) || (s->has_ts && seq_geq(s->ts_val, y->ts_recent)))
        return true;
    stat_add(t->stats, STAT_DROP_TCP_PAWS, 1);
    if (s->has_ts)
        challenge(t, y, k);
    return false;
}

/* What the handshake agreed. snd_wnd is this segment's: the SYN's own may be old. */
static void conn_agree(struct tcp *t, struct tcp_conn *c, const struct syn *y, const struct tcp_seg *s)
{
    c->flags |= y->flags;
    c->snd_una = c->snd_nxt = c->snd_max = y->iss + 1;
    c->rcv_nxt = c->acked_in = y->irs + 1;
    c->rcv_edge = c->rcv_nxt + y->wnd;
    c->snd_ws = y->snd_ws;
    c->rcv_ws = y->flags & CF_WSCALE ? tcp_wscale(&t->cfg) : 0;
    c->snd_wnd = c->snd_wnd_max = (uint32_t)s->wnd << c->snd_ws;
    c->snd_wl1 = s->seq;
    c->snd_wl2 = s->ack;
    c->ts_recent = y->ts_recent;
    c->ts_recent_at = y->born_ms;
    c->ts_offset = y->ts_offset;
    cong_init(t, c);
    if (y->said == 1)
        rto_sample(t, c, t->now_ms - y->born_ms);
    else
        c->rto = RTO_UNKNOWN_MS;
}

void syn_accepted(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    stat_add(t->stats, STAT_CONN_ACCEPTED, 1);
    stat_add(t->stats, STAT_SEG_IN, 1);
    conn_event(t, c, TCP_EV_ACCEPTED);
    conn_input(t, c, s);
}

/* The connection takes the record's place in the table. Without room for one the handshake goes on: the peer will say
 * something again. */
static void complete(struct tcp *t, uint32_t i, const struct tcp_seg *s, const struct tcp_tuple *k)
{
    struct syn *y = &t->syns->v[i];
    struct tcp_conn *c = conn_new(t, k, tcp_ref(TCP_KIND_SYN, i), TCP_ESTABLISHED, y->mss);
    if (!c) {
        stat_add(t->stats, STAT_DROP_CONNS_FULL, 1);
        return;
    }
    conn_agree(t, c, y, s);
    stage_remove(t->syns, i);
    record_give(t, i);
    syn_accepted(t, c, s);
}

/* The peer's SYN once more: a knock like the first one, that the guard counts. Another one is out of step. */
static void syn_again(struct tcp *t, struct syn *y, const struct tcp_seg *s, const struct tcp_tuple *k)
{
    if (!guard_lets(t, k))
        return;
    if (s->seq == y->irs && !(s->flags & TH_ACK))
        synack_again(t, y);
    else
        challenge(t, y, k);
}

static void reset_input(struct tcp *t, uint32_t i, const struct tcp_seg *s)
{
    if (s->seq == t->syns->v[i].irs + 1)
        forget(t, i);
    else
        stat_add(t->stats, STAT_DROP_TCP_WINDOW, 1);
}

void syn_input(struct tcp *t, uint32_t index, const struct tcp_seg *s, const struct tcp_tuple *k)
{
    struct syn *y = &t->syns->v[index];
    if (s->flags & TH_RST)
        return reset_input(t, index, s);
    if (s->flags & TH_SYN)
        return syn_again(t, y, s, k);
    if (!timestamp_fine(t, y, s, k))
        return;
    if (!tcp_acceptable(y->irs + 1, y->wnd, s->seq, tcp_seg_len(s))) {
        stat_add(t->stats, STAT_DROP_TCP_WINDOW, 1);
        return challenge(t, y, k);
    }
    if (!(s->flags & TH_ACK))
        return stat_add(t->stats, STAT_DROP_TCP_ACK, 1);
    if (s->ack != y->iss + 1)
        return tcp_send_rst(t, s);
    complete(t, index, s, k);
}

/* ---- time */

static uint32_t due_ms(const struct tcp *t, uint32_t stage, const struct syn *y)
{
    uint32_t life = t->cfg.syn_life_ms;
    return y->born_ms + (stage_ms[stage] < life ? stage_ms[stage] : life);
}

static void stage_over(struct tcp *t, uint32_t i)
{
    struct syns *o = t->syns;
    struct syn *y = &o->v[i];
    if (t->now_ms - y->born_ms >= t->cfg.syn_life_ms) {
        stat_add(t->stats, STAT_SYN_EXPIRED, 1);
        return forget(t, i);
    }
    uint8_t next = (uint8_t)(y->stage + 1);
    stage_remove(o, i);
    stage_append(o, i, next);
    if (t->now_ms - y->said_ms >= SAID_JUST_MS)
        synack_again(t, y);
}

void syns_tick(struct tcp *t)
{
    struct syns *o = t->syns;
    for (uint32_t s = 0; s < STAGES; s++)
        for (uint32_t i; (i = o->stages[s].first) != TCP_NONE && seq_leq(due_ms(t, s, &o->v[i]), t->now_ms);)
            stage_over(t, i);
    cookies_tick(t);
}

uint64_t syns_next_us(const struct tcp *t)
{
    const struct syns *o = t->syns;
    uint64_t next = cookies_next_us(t);
    for (uint32_t s = 0; s < STAGES; s++) {
        if (o->stages[s].first == TCP_NONE)
            continue;
        uint64_t at = tcp_due_us(t, due_ms(t, s, &o->v[o->stages[s].first]));
        next = at < next ? at : next;
    }
    return next;
}

void syns_clear(struct tcp *t)
{
    struct syns *o = t->syns;
    for (uint32_t s = 0; s < STAGES; s++)
        while (o->stages[s].first != TCP_NONE)
            forget(t, o->stages[s].first);
    cookies_clear(t);
}
