/* rxbuf.c - received bytes that wait or came out of order.
 *
 * The usual case keeps nothing: bytes in order stay in their frames, chained at the connection, the owner reads them
 * within the turn, and the pages that a settling would need are only promised.  As soon as something is kept (the owner
 * left bytes, or they came before their time) everything goes to pages at once; so there are never both.
 *
 * Budget.  Pages are charged whole.  What is out of order may not take the last eighth of the pool, and gives way to
 * what is in order (RFC 2018 8 lets a receiver forget what it reported), so that a stream always moves on.  The owner's
 * window bounds one connection, ranges are bounded in number. */
#include "dataplane/tcp/rxpage.h"
#include "dataplane/tcp/tcp_in.h"

/* Windows are rounded up by the peer's scale: so much more may come than was meant. */
#define SLACK_BYTES TCP_PAGE_BYTES

static struct rxbuf *buf_of(const struct tcp *t, const struct tcp_conn *c)
{
    return c->rx == TCP_NONE ? NULL : &t->rx->buf[c->rx];
}

/* Where what is in order ends, and where the first unread byte stands. */
static uint32_t end_of(const struct tcp_conn *c)
{
    return c->rcv_nxt - !!(c->flags & CF_FIN_IN);
}

static uint32_t head_of(const struct tcp_conn *c)
{
    return end_of(c) - c->unread;
}

/* Pages promised to what lies in frames. */
static uint32_t promise(const struct tcp_conn *c)
{
    return c->in ? rxpage_span(head_of(c), c->unread) : 0;
}

/* Gives back what holds nothing any more. */
static void trim(struct tcp *t, struct tcp_conn *c)
{
    struct rxbuf *b = buf_of(t, c);
    uint32_t need = head_of(c);
    if (b->kept == 0 && b->ranges_n == 0) {
        rxbuf_give(t, c->rx);
        c->rx = TCP_NONE;
        return;
    }
    if (b->kept == 0) {
        need = b->ranges[0].start;
        for (uint32_t i = 1; i < b->ranges_n; i++)
            need = seq_min(need, b->ranges[i].start);
    }
    rxbuf_drop_before(t, b, need);
}

/* ---- in order */

static bool frame_note(struct tcp *t, struct tcp_conn *c, struct frame *f, const uint8_t *data, uint32_t n)
{
    uint32_t more = rxpage_span(head_of(c), c->unread + n) - promise(c);
    if (more > rxpool_free(t))
        return false;
    t->rx->promised += more;
    f->data = (uint32_t)(data - f->p);
    f->data_n = n;
    f->next = NULL;
    if (c->in) {
        c->in_last->next = f;
    } else {
        c->in = f;
        conn_settle_later(t, c);
    }
    c->in_last = f;
    return true;
}

/* What came out of order makes room. */
static void ranges_forget(struct tcp *t, struct tcp_conn *c, struct rxbuf *b)
{
    b->ranges_n = 0;
    if (b->kept > 0)
        return rxbuf_drop_from(t, b, end_of(c));
    rxbuf_give(t, c->rx);
    c->rx = TCP_NONE;
}

static bool page_write(struct tcp *t, struct tcp_conn *c, struct frame *f, const uint8_t *data, uint32_t n)
{
    struct rxbuf *b = buf_of(t, c);
    if (rxbuf_missing(t, b, c->rcv_nxt, n) > rxpool_free(t)) {
        ranges_forget(t, c, b);
        if (c->rx == TCP_NONE)
            return frame_note(t, c, f, data, n);
        if (rxbuf_missing(t, b, c->rcv_nxt, n) > rxpool_free(t))
            return false;
    }
    rxbuf_write(t, b, c->rcv_nxt, data, n);
    b->kept += n;
    return true;
}

bool rx_in_order(struct tcp *t, struct tcp_conn *c, struct frame *f, const uint8_t *data, uint32_t n)
{
    if (c->unread + n > t->cfg.window_bytes + SLACK_BYTES)
        return false;
    if (!(c->rx == TCP_NONE ? frame_note : page_write)(t, c, f, data, n))
        return false;
    c->rcv_nxt += n;
    c->unread += n;
    return true;
}

/* The promise is kept. */
void rx_settle(struct tcp *t, struct tcp_conn *c)
{
    if (!c->in)
        return;
    t->rx->promised -= promise(c);
    c->rx = rxbuf_take(t);
    struct rxbuf *b = buf_of(t, c);
    uint32_t seq = head_of(c);
    for (const struct frame *f = c->in; f; seq += f->data_n, f = f->next)
        rxbuf_write(t, b, seq, f->p + f->data, f->data_n);
    b->kept = c->unread;
    c->in = c->in_last = NULL;
}

/* ---- reading */

struct slice rx_peek(struct tcp *t, const struct tcp_conn *c)
{
    const struct rxbuf *b = buf_of(t, c);
    if (b && b->kept > 0)
        return rxbuf_read(t, b, head_of(c), b->kept);
    if (c->in)
        return slice_of(c->in->p + c->in->data, c->in->data_n);
    return slice_of(NULL, 0);
}

static void frames_consume(struct tcp *t, struct tcp_conn *c, uint32_t n)
{
    uint32_t before = promise(c);
    c->unread -= n;
    while (n > 0) {
        struct frame *f = c->in;
        uint32_t part = n < f->data_n ? n : f->data_n;
        f->data += part;
        f->data_n -= part;
        n -= part;
        if (f->data_n == 0)
            c->in = f->next;
    }
    if (!c->in)
        c->in_last = NULL;
    t->rx->promised -= before - promise(c);
}

void rx_consume(struct tcp *t, struct tcp_conn *c, uint32_t n)
{
    struct rxbuf *b = buf_of(t, c);
    assert(n <= c->unread);
    if (n == 0)
        return;
    if (!b)
        return frames_consume(t, c, n);
    c->unread -= n;
    b->kept -= n;
    trim(t, c);
}

uint32_t rx_held(const struct tcp *t, const struct tcp_conn *c)
{
    const struct rxbuf *b = buf_of(t, c);
    return b ? b->pages_n * TCP_PAGE_BYTES : 0;
}

void rx_drop(struct tcp *t, struct tcp_conn *c)
{
    t->rx->promised -= promise(c);
    c->in = c->in_last = NULL;
    c->unread = 0;
    if (c->rx == TCP_NONE)
        return;
    rxbuf_give(t, c->rx);
    c->rx = TCP_NONE;
}

/* ---- out of order */

bool rx_has_gap(const struct tcp *t, const struct tcp_conn *c)
{
    const struct rxbuf *b = buf_of(t, c);
    return b && b->ranges_n > 0;
}

static bool touches(struct tcp_range a, struct tcp_range b)
{
    return seq_leq(a.start, b.end) && seq_leq(b.start, a.end);
}

/* The part of `new` that `old` has; empty: none. */
static struct tcp_range common(struct tcp_range a, struct tcp_range b)
{
    struct tcp_range both = {seq_max(a.start, b.start), seq_min(a.end, b.end)};
    return seq_lt(both.start, both.end) ? both : (struct tcp_range){0, 0};
}

static void range_remove(struct rxbuf *b, uint32_t i)
{
    memmove(&b->ranges[i], &b->ranges[i + 1], (--b->ranges_n - i) * sizeof *b->ranges);
}

/* What is there already of r, the first piece of it (RFC 2883 4.2); how many ranges r would join. */
static struct tcp_range overlap(const struct rxbuf *b, struct tcp_range r, uint32_t *joins_r)
{
    struct tcp_range dup = {0, 0};
    *joins_r = 0;
    for (uint32_t i = 0; i < b->ranges_n; i++) {
        struct tcp_range both = common(r, b->ranges[i]);
        *joins_r += touches(r, b->ranges[i]);
        if (both.start != both.end && (dup.start == dup.end || seq_lt(both.start, dup.start)))
            dup = both;
    }
    return dup;
}

/* r and all that it touches become one, the latest. */
static void range_add(struct rxbuf *b, struct tcp_range r)
{
    for (uint32_t i = 0; i < b->ranges_n;) {
        if (!touches(r, b->ranges[i])) {
            i++;
            continue;
        }
        r.start = seq_min(r.start, b->ranges[i].start);
        r.end = seq_max(r.end, b->ranges[i].end);
        range_remove(b, i);
    }
    memmove(&b->ranges[1], &b->ranges[0], b->ranges_n * sizeof *b->ranges);
    b->ranges[0] = r;
    b->ranges_n++;
}

static bool room_for(struct tcp *t, struct rxbuf *b, struct tcp_range r, uint32_t joins)
{
    uint32_t reserve = t->cfg.pages_max / 8 + 1, free = rxpool_free(t);
    return b->ranges_n - joins < RX_RANGES_MAX &&
           rxbuf_missing(t, b, r.start, r.end - r.start) <= (free > reserve ? free - reserve : 0);
}

static bool range_keep(struct tcp *t, struct rxbuf *b, struct tcp_range r, const uint8_t *data, struct tcp_range *dup_r)
{
    uint32_t joins;
    *dup_r = overlap(b, r, &joins);
    if (!room_for(t, b, r, joins))
        return false;
    if (dup_r->start != r.start || dup_r->end != r.end)
        rxbuf_write(t, b, r.start, data, r.end - r.start);
    range_add(b, r);
    return true;
}

bool rx_out_of_order(struct tcp *t, struct tcp_conn *c, uint32_t seq, const uint8_t *data, uint32_t n,
                     struct tcp_range *dup_r)
{
    struct tcp_range r = {seq, seq + n};
    *dup_r = (struct tcp_range){0, 0};
    rx_settle(t, c);
    if (seq + n - head_of(c) > t->cfg.window_bytes + SLACK_BYTES)
        return false;
    if (c->rx == TCP_NONE && rxpool_free(t) > 0)
        c->rx = rxbuf_take(t);
    struct rxbuf *b = buf_of(t, c);
    if (!b)
        return false;
    bool kept = range_keep(t, b, r, data, dup_r);
    trim(t, c);
    return kept;
}

static bool join_one(struct tcp_conn *c, struct rxbuf *b)
{
    for (uint32_t i = 0; i < b->ranges_n; i++) {
        struct tcp_range r = b->ranges[i];
        if (seq_gt(r.start, c->rcv_nxt))
            continue;
        uint32_t more = seq_gt(r.end, c->rcv_nxt) ? r.end - c->rcv_nxt : 0;
        c->rcv_nxt += more;
        c->unread += more;
        b->kept += more;
        range_remove(b, i);
        return true;
    }
    return false;
}

void rx_join(struct tcp *t, struct tcp_conn *c)
{
    struct rxbuf *b = buf_of(t, c);
    while (b && join_one(c, b))
        ;
}

/* ---- SACK */

void rx_dsack(struct tcp *t, struct tcp_conn *c, struct tcp_range dup)
{
    (void)t;
    if (c->flags & CF_SACK && dup.start != dup.end)
        c->dsack = dup;
}

uint8_t rx_sack(struct tcp *t, struct tcp_conn *c, struct tcp_range *out_r, uint8_t cap)
{
    const struct rxbuf *b = buf_of(t, c);
    uint8_t n = 0;
    if (c->dsack.start != c->dsack.end && n < cap)
        out_r[n++] = c->dsack;
    c->dsack = (struct tcp_range){0, 0};
    for (uint32_t i = 0; b && i < b->ranges_n && n < cap; i++)
        out_r[n++] = b->ranges[i];
    return n;
}

/* ---- the window */

/* One connection may be offered half of what is free: a few slow ones leave room for the others. */
static uint32_t share_bytes(const struct tcp *t)
{
    uint64_t half = (uint64_t)rxpool_free(t) * TCP_PAGE_BYTES / 2;
    return half < INT32_MAX ? (uint32_t)half : INT32_MAX;
}

/* RFC 9293 3.8.6.2.2, MUST-39: half the buffer, or a segment. */
static uint32_t step_bytes(const struct tcp *t, const struct tcp_conn *c)
{
    uint32_t segment = c->mss > 1460 ? c->mss : 1460, half = t->cfg.window_bytes / 2;
    return segment < half ? segment : half;
}

uint32_t rx_edge(struct tcp *t, const struct tcp_conn *c)
{
    uint32_t wnd = t->cfg.window_bytes - seq_min(c->unread, t->cfg.window_bytes), share = share_bytes(t);
    uint32_t most = (uint32_t)UINT16_MAX << c->rcv_ws;
    wnd = wnd < share ? wnd : share;
    wnd = (wnd < most ? wnd : most) & ~((1u << c->rcv_ws) - 1);
    return seq_geq(c->rcv_nxt + wnd, c->rcv_edge + step_bytes(t, c)) ? c->rcv_nxt + wnd : c->rcv_edge;
}

bool rx_edge_news(struct tcp *t, const struct tcp_conn *c)
{
    uint32_t edge = rx_edge(t, c);
    return !(c->flags & CF_FIN_IN) && edge != c->rcv_edge &&
           edge - c->rcv_nxt >= 2 * (uint64_t)(c->rcv_edge - c->rcv_nxt);
}

uint16_t rx_window_first(const struct tcp *t)
{
    uint32_t wnd = t->cfg.window_bytes, share = share_bytes(t);
    wnd = wnd < share ? wnd : share;
    wnd = wnd < UINT16_MAX ? wnd : UINT16_MAX;
    return (uint16_t)(wnd & ~((1u << tcp_wscale(&t->cfg)) - 1));
}
