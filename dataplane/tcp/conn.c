/* conn.c - a connection's birth, its states, what its owner asks of it, and its end.
 *
 *   SYN-SENT     -> ESTABLISHED  the peer's SYN and its acknowledgement of ours (connect.c); servers begin here
 *   ESTABLISHED  -> FIN-WAIT-1   tcp_close           CLOSE-WAIT -> LAST-ACK  likewise
 *   ESTABLISHED  -> CLOSE-WAIT   the peer's FIN      FIN-WAIT-1 -> CLOSING, FIN-WAIT-2 -> TIME-WAIT  likewise
 *   FIN-WAIT-1   -> FIN-WAIT-2   our FIN acknowledged; CLOSING -> TIME-WAIT, LAST-ACK -> the end  likewise
 *   any          -> GONE         the end: by the above (TIME-WAIT is a record of its own), a reset, a timer, tcp_abort
 *   GONE         -> FREE         tcp_release
 * Nothing goes back.
 *
 * An object released while it stands on a list is given back by whoever takes it off. */
#include "dataplane/tcp/tcp_send.h"
#include "spool/base/log.h"

#define RTO_FIRST_MS 1000u /* RFC 6298 2.1 */

/* ---- lists, by index */

void conn_event(struct tcp *t, struct tcp_conn *c, uint16_t events)
{
    uint32_t index = tcp_conn_index(t, c);
    c->events |= events;
    if (c->on & ON_EVENTS)
        return;
    c->on |= ON_EVENTS;
    c->next_event = TCP_NONE;
    *(t->events_head == TCP_NONE ? &t->events_head : &tcp_conn_at(t, t->events_tail)->next_event) = index;
    t->events_tail = index;
}

void conn_flush_later(struct tcp *t, struct tcp_conn *c)
{
    uint32_t index = tcp_conn_index(t, c);
    if (c->on & ON_FLUSH)
        return;
    c->on |= ON_FLUSH;
    c->next_flush = TCP_NONE;
    *(t->flush_head == TCP_NONE ? &t->flush_head : &tcp_conn_at(t, t->flush_tail)->next_flush) = index;
    t->flush_tail = index;
}

void conn_settle_later(struct tcp *t, struct tcp_conn *c)
{
    if (c->on & ON_SETTLE)
        return;
    c->on |= ON_SETTLE;
    c->next_settle = t->settle_head;
    t->settle_head = tcp_conn_index(t, c);
}

/* ---- objects */

static void give(struct tcp *t, struct tcp_conn *c)
{
    c->next_event = t->conn_free;
    t->conn_free = tcp_conn_index(t, c);
}

bool conn_unlist(struct tcp *t, struct tcp_conn *c, uint8_t list)
{
    c->on &= (uint8_t)~list;
    if (c->state != TCP_FREE)
        return true;
    if (c->on == 0)
        give(t, c);
    return false;
}

static struct tcp_conn *take(struct tcp *t)
{
    uint32_t index = t->conn_free;
    if (index != TCP_NONE)
        t->conn_free = tcp_conn_at(t, index)->next_event;
    else if (t->conns_touched < t->cfg.conns_max)
        index = t->conns_touched++;
    else
        return NULL;
    struct tcp_conn *c = tcp_conn_at(t, index);
    memset(c, 0, t->cfg.conn_bytes);
    return c;
}

static bool enter_table(struct tcp *t, uint64_t hash, uint32_t was, uint32_t index)
{
    uint32_t ref = tcp_ref(TCP_KIND_CONN, index);
    if (!was)
        return tcp_table_add(t, hash, ref);
    tcp_table_set(t, hash, was, ref);
    return true;
}

struct tcp_conn *conn_new(struct tcp *t, const struct tcp_tuple *k, uint32_t was, enum tcp_state state,
                          uint16_t mss_peer)
{
    struct tcp_conn *c = take(t);
    if (!c)
        return NULL;
    c->peer = k->peer;
    c->peer_port = k->peer_port;
    c->port = k->port;
    c->local = k->local;
    c->rx = c->tx_head = c->tx_tail = c->tx_at = c->sb = TCP_NONE;
    c->next_event = c->next_flush = c->next_settle = TCP_NONE;
    c->mss_peer = mss_peer;
    c->rto = RTO_FIRST_MS;
    c->active_at = t->now_ms;
    if (!enter_table(t, tuple_hash(t, k), was, tcp_conn_index(t, c))) {
        give(t, c);
        return NULL;
    }
    conn_enter(t, c, state);
    stat_set(t->stats, STAT_CONNS, ++t->conns_n);
    return c;
}

/* ---- states */

static const char *const names[] = {
    [TCP_FREE] = "CLOSED",          [TCP_SYN_SENT] = "SYN-SENT",    [TCP_ESTABLISHED] = "ESTABLISHED",
    [TCP_FIN_WAIT1] = "FIN-WAIT-1", [TCP_FIN_WAIT2] = "FIN-WAIT-2", [TCP_CLOSE_WAIT] = "CLOSE-WAIT",
    [TCP_CLOSING] = "CLOSING",      [TCP_LAST_ACK] = "LAST-ACK",    [TCP_GONE] = "CLOSED",
};

const char *tcp_conn_state(const struct tcp_conn *c)
{
    return c->state == TCP_SYN_SENT && c->flags & CF_SYN_IN ? "SYN-RECEIVED" : names[c->state];
}

void conn_enter(struct tcp *t, struct tcp_conn *c, enum tcp_state s)
{
    log_debug("tcp.state", "conn=%u port=%u peer_port=%u from=%s to=%s", tcp_conn_index(t, c), c->port, c->peer_port,
              names[c->state], names[s]);
    c->state = (uint8_t)s;
    if (s == TCP_FIN_WAIT2) {
        c->life_at = tcp_in_ms(t, t->cfg.fin_wait2_ms);
        conn_flush_later(t, c); /* the peer's FIN is often in the same segment, and then nothing waits */
    }
}

static void leave_table(struct tcp *t, const struct tcp_conn *c)
{
    struct tcp_tuple k = conn_tuple(c);
    if (!(c->flags & CF_SUCCEEDED))
        tcp_table_remove(t, tuple_hash(t, &k), tcp_ref(TCP_KIND_CONN, tcp_conn_index(t, c)));
}

static void end(struct tcp *t, struct tcp_conn *c, uint16_t why)
{
    leave_table(t, c);
    conn_timer_stop(t, c);
    rx_drop(t, c);
    txq_drop(t, c);
    sb_drop(t, c);
    c->rtx_at = c->ack_at = c->life_at = c->app_at = 0;
    conn_enter(t, c, TCP_GONE);
    conn_event(t, c, TCP_EV_GONE | why);
}

void conn_end(struct tcp *t, struct tcp_conn *c, uint16_t why)
{
    stat_add(t->stats,
             why & TCP_EV_RESET     ? STAT_CONN_RESET_IN
             : why & TCP_EV_TIMEOUT ? STAT_CONN_TIMEOUT
                                    : STAT_CONN_CLOSED,
             1);
    end(t, c, why);
}

/* ---- what the owner asks */

static bool is_over(const struct tcp_conn *c)
{
    return c->state == TCP_FREE || c->state == TCP_GONE;
}

struct slice tcp_peek(struct tcp *t, struct tcp_conn *c)
{
    return rx_peek(t, c);
}

void tcp_consume(struct tcp *t, struct tcp_conn *c, size_t n)
{
    rx_consume(t, c, (uint32_t)n);
    if (is_over(c) || !rx_edge_news(t, c))
        return;
    c->flags |= CF_ACK_NOW;
    conn_flush_later(t, c);
}

/* Not before the handshake is done: nothing is sent with a SYN. */
size_t tcp_write(struct tcp *t, struct tcp_conn *c, struct slice data)
{
    if (c->state != TCP_ESTABLISHED && c->state != TCP_CLOSE_WAIT)
        return 0;
    size_t n = txq_put(t, c, data);
    if (n > 0)
        conn_flush_later(t, c);
    return n;
}

void tcp_want_acked(struct tcp_conn *c)
{
    c->flags |= CF_WANT_ACKED;
}

uint32_t tcp_unacked(const struct tcp_conn *c)
{
    return c->tx_bytes;
}

/* RFC 9293 3.10.4: in SYN-SENT there is nobody to tell. */
void tcp_close(struct tcp *t, struct tcp_conn *c)
{
    if (c->state == TCP_SYN_SENT) {
        tcp_abort(t, c);
        return;
    }
    if (c->state != TCP_ESTABLISHED && c->state != TCP_CLOSE_WAIT)
        return;
    conn_enter(t, c, c->state == TCP_ESTABLISHED ? TCP_FIN_WAIT1 : TCP_LAST_ACK);
    rx_drop(t, c);
    c->flags |= CF_FIN_QUEUED | CF_DISCARD;
    conn_flush_later(t, c);
}

void tcp_abort(struct tcp *t, struct tcp_conn *c)
{
    if (is_over(c))
        return;
    if (c->state != TCP_SYN_SENT || c->flags & CF_SYN_IN)
        conn_send_bare(t, c, TH_RST | TH_ACK, conn_bare_seq(c));
    stat_add(t->stats, STAT_CONN_RESET_OUT, 1);
    end(t, c, 0);
}

void tcp_release(struct tcp *t, struct tcp_conn *c)
{
    assert(c->state != TCP_FREE);
    tcp_abort(t, c);
    conn_enter(t, c, TCP_FREE);
    stat_set(t->stats, STAT_CONNS, --t->conns_n);
    if (c->on == 0)
        give(t, c);
}

void tcp_timer(struct tcp *t, struct tcp_conn *c, uint64_t in_us)
{
    if (is_over(c))
        return;
    c->app_at = in_us == 0 ? 0 : tcp_in_ms(t, (uint32_t)((in_us + 999) / 1000));
    conn_timer_update(t, c);
}

void tcp_conn_peer(const struct tcp_conn *c, struct ip_addr *addr_r, uint16_t *port_r)
{
    *addr_r = c->peer;
    *port_r = c->peer_port;
}

void tcp_conn_local(const struct tcp_conn *c, uint8_t *local_r, uint16_t *port_r)
{
    *local_r = c->local;
    *port_r = c->port;
}

uint32_t tcp_conn_held(const struct tcp *t, const struct tcp_conn *c)
{
    return rx_held(t, c) + txq_held(c);
}

uint32_t tcp_conn_pages_held(const struct tcp *t, const struct tcp_conn *c)
{
    return rx_held(t, c);
}

void tcp_conns(struct tcp *t, bool (*visit)(void *ctx, struct tcp_conn *c), void *ctx)
{
    for (uint32_t i = 0; i < t->conns_touched; i++) {
        struct tcp_conn *c = tcp_conn_at(t, i);
        if (!is_over(c) && !visit(ctx, c))
            return;
    }
}
