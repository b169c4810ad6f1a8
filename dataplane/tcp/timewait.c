/* timewait.c - TIME-WAIT (RFC 9293 3.6.1, 3.10.7.4): 32 bytes a record.
 *
 * A record has the hash of its tuple instead of the tuple: 64 bits of SipHash tell tuples apart well enough, and what a
 * segment says of itself is all that an answer needs.  All wait equally long, so one list keeps them in order; when all
 * are taken the oldest goes.
 *
 * A SYN takes a record over (3.6.1, MAY-2; RFC 6191) when its timestamp is newer than the last one, or, where one side
 * has no timestamps or they are equal, when its number is beyond the old connection's.  A reset does nothing (RFC
 * 1337). What has no length is not answered: two sides in TIME-WAIT that disagree would acknowledge each other for
 * ever. */
#include "dataplane/tcp/tcp_in.h"

struct tw {
    uint64_t hash;
    uint32_t rcv_nxt, snd_nxt;
    uint32_t ts_recent; /* 0: no timestamps */
    uint32_t at_ms;     /* its end */
    uint32_t next, prev;
};
static_assert(sizeof(struct tw) == 32, "a record must stay small");

struct tws {
    uint32_t free, touched, n, first, last;
    uint8_t pad[44];
    struct tw v[];
};
static_assert(sizeof(struct tws) == 64, "records begin on a cache line");

size_t tws_bytes(const struct tcp_config *cfg)
{
    return tcp_rounded(sizeof(struct tws) + cfg->time_waits_max * sizeof(struct tw));
}

void tws_init(struct tcp *t, void *mem)
{
    t->tws = mem;
    t->tws->free = t->tws->first = t->tws->last = TCP_NONE;
}

uint64_t tw_hash(const struct tcp *t, uint32_t index)
{
    return t->tws->v[index].hash;
}

/* ---- the list */

static void list_append(struct tcp *t, uint32_t i)
{
    struct tws *o = t->tws;
    o->v[i].at_ms = t->now_ms + t->cfg.time_wait_ms;
    o->v[i].next = TCP_NONE;
    o->v[i].prev = o->last;
    *(o->last == TCP_NONE ? &o->first : &o->v[o->last].next) = i;
    o->last = i;
}

static void list_remove(struct tws *o, uint32_t i)
{
    const struct tw *w = &o->v[i];
    *(w->prev == TCP_NONE ? &o->first : &o->v[w->prev].next) = w->next;
    *(w->next == TCP_NONE ? &o->last : &o->v[w->next].prev) = w->prev;
}

/* Its entry in the table is gone, or another's already. */
static void record_give(struct tcp *t, uint32_t i)
{
    struct tws *o = t->tws;
    list_remove(o, i);
    o->v[i].next = o->free;
    o->free = i;
    stat_set(t->stats, STAT_TIME_WAITS, --o->n);
}

static void record_end(struct tcp *t, uint32_t i)
{
    tcp_table_remove(t, t->tws->v[i].hash, tcp_ref(TCP_KIND_TW, i));
    record_give(t, i);
}

/* The oldest but one is next: who was here for long is in no cache, and neither is its place in the table. */
static void oldest_goes(struct tcp *t)
{
    struct tws *o = t->tws;
    record_end(t, o->first);
    if (o->first != TCP_NONE)
        tcp_table_fetch(t, o->v[o->first].hash);
}

static uint32_t record_take(struct tcp *t)
{
    struct tws *o = t->tws;
    if (o->n == t->cfg.time_waits_max)
        oldest_goes(t);
    uint32_t i = o->free;
    if (i == TCP_NONE)
        i = o->touched++;
    else
        o->free = o->v[i].next;
    stat_set(t->stats, STAT_TIME_WAITS, ++o->n);
    return i;
}

/* ---- in and out */

void tw_enter(struct tcp *t, struct tcp_conn *c, uint64_t hash)
{
    struct tcp_tuple k = conn_tuple(c);
    k.hash = hash;
    stat_add(t->stats, STAT_TW_IN, 1);
    if (t->cfg.time_waits_max == 0)
        return;
    uint32_t i = record_take(t);
    struct tw *w = &t->tws->v[i];
    w->hash = tuple_hash(t, &k);
    w->rcv_nxt = c->rcv_nxt;
    w->snd_nxt = c->snd_max;
    w->ts_recent = 0;
    if (c->flags & CF_TS)
        w->ts_recent = c->ts_recent ? c->ts_recent : UINT32_MAX;
    list_append(t, i);
    tcp_table_set(t, w->hash, tcp_ref(TCP_KIND_CONN, tcp_conn_index(t, c)), tcp_ref(TCP_KIND_TW, i));
    c->flags |= CF_SUCCEEDED;
}

static void acknowledge(struct tcp *t, const struct tw *w, const struct tcp_tuple *k)
{
    struct tcp_head h = {.sport = k->port, .dport = k->peer_port, .flags = TH_ACK, .wscale = -1};
    uint32_t wnd = t->cfg.window_bytes;
    h.seq = w->snd_nxt;
    h.ack = w->rcv_nxt;
    h.wnd = (uint16_t)(wnd < UINT16_MAX ? wnd : UINT16_MAX); /* not below what was announced */
    h.ts = w->ts_recent != 0;
    h.ts_val = t->now_ms + (h.ts ? tcp_ts_offset(t, k) : 0);
    h.ts_ecr = w->ts_recent;
    if (tcp_may_answer(t))
        tcp_answer(t, k, &h);
}

static bool syn_is_new(const struct tw *w, const struct tcp_seg *s)
{
    if (w->ts_recent && s->has_ts && s->ts_val != w->ts_recent)
        return seq_gt(s->ts_val, w->ts_recent);
    return seq_gt(s->seq, w->rcv_nxt);
}

static bool taken_over(struct tcp *t, uint32_t index, const struct tcp_seg *s, const struct tcp_tuple *k)
{
    struct tw *w = &t->tws->v[index];
    if (s->flags & TH_ACK || !tcp_listens(t, k->port) || !syn_is_new(w, s))
        return false;
    if (syn_reuse(t, s, k, tcp_ref(TCP_KIND_TW, index), w->snd_nxt)) {
        stat_add(t->stats, STAT_TW_REUSED, 1);
        record_give(t, index);
    }
    return true;
}

/* The peer's last FIN once more: it did not hear us. */
static void fin_again(struct tcp *t, uint32_t index, const struct tcp_seg *s)
{
    struct tw *w = &t->tws->v[index];
    if (!(s->flags & TH_FIN) || s->seq + tcp_seg_len(s) != w->rcv_nxt)
        return;
    list_remove(t->tws, index);
    list_append(t, index);
}

void tw_input(struct tcp *t, uint32_t index, const struct tcp_seg *s, const struct tcp_tuple *k)
{
    stat_add(t->stats, STAT_DROP_TCP_CLOSED, s->flags & TH_RST || tcp_seg_len(s) == 0);
    if (s->flags & TH_RST || tcp_seg_len(s) == 0)
        return;
    if (s->flags & TH_SYN && taken_over(t, index, s, k))
        return;
    fin_again(t, index, s);
    acknowledge(t, &t->tws->v[index], k);
}

/* ---- time */

void tws_tick(struct tcp *t)
{
    struct tws *o = t->tws;
    while (o->first != TCP_NONE && seq_leq(o->v[o->first].at_ms, t->now_ms))
        record_end(t, o->first);
}

uint64_t tws_next_us(const struct tcp *t)
{
    const struct tws *o = t->tws;
    return o->first == TCP_NONE ? UINT64_MAX : tcp_due_us(t, o->v[o->first].at_ms);
}
