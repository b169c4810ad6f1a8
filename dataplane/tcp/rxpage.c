/* rxpage.c - pages for received bytes. */
#include "dataplane/tcp/rxpage.h"
#include "dataplane/tcp/tcp_in.h"

#define NO_BITS 20u /* of a page's number */

/* a - b modulo 2^20, with its sign. */
static inline int32_t no_diff(uint32_t a, uint32_t b)
{
    return (int32_t)((a - b) << (32 - NO_BITS));
}

/* ---- memory: the pool, each page's place in its list, each connection's rxbuf, the pages */

static size_t pool_at(void)
{
    return tcp_rounded(sizeof(struct rxpool));
}

static size_t bufs_at(const struct tcp_config *cfg)
{
    return pool_at() + tcp_rounded(cfg->pages_max * sizeof(struct rxpage));
}

static size_t bytes_at(const struct tcp_config *cfg)
{
    return bufs_at(cfg) + tcp_rounded(cfg->pages_max * sizeof(struct rxbuf));
}

size_t rxpool_bytes(const struct tcp_config *cfg)
{
    return bytes_at(cfg) + (size_t)cfg->pages_max * TCP_PAGE_BYTES;
}

void rxpool_init(struct tcp *t, void *mem)
{
    struct rxpool *o = mem;
    o->page = (struct rxpage *)((uint8_t *)mem + pool_at());
    o->buf = (struct rxbuf *)((uint8_t *)mem + bufs_at(&t->cfg));
    o->bytes = (uint8_t *)mem + bytes_at(&t->cfg);
    o->free = o->buf_free = TCP_NONE;
    t->rx = o;
}

static uint32_t page_take(struct tcp *t)
{
    struct rxpool *o = t->rx;
    uint32_t i = o->free;
    assert(o->used < t->cfg.pages_max);
    if (i == TCP_NONE)
        i = o->touched++;
    else
        o->free = o->page[i].next;
    stat_set(t->stats, STAT_PAGES_USED, ++o->used);
    return i;
}

static void page_give(struct tcp *t, struct rxbuf *b, uint32_t i)
{
    struct rxpool *o = t->rx;
    o->page[i].next = o->free;
    o->free = i;
    b->pages_n--;
    b->near = TCP_NONE;
    stat_set(t->stats, STAT_PAGES_USED, --o->used);
}

/* There are as many as pages, and each in use has one. */
uint32_t rxbuf_take(struct tcp *t)
{
    struct rxpool *o = t->rx;
    uint32_t i = o->buf_free;
    assert(i != TCP_NONE || o->buf_touched < t->cfg.pages_max);
    if (i == TCP_NONE)
        i = o->buf_touched++;
    else
        o->buf_free = o->buf[i].first;
    struct rxbuf *b = &o->buf[i];
    b->first = b->near = TCP_NONE;
    b->pages_n = b->kept = b->ranges_n = 0;
    return i;
}

void rxbuf_give(struct tcp *t, uint32_t index)
{
    struct rxpool *o = t->rx;
    struct rxbuf *b = &o->buf[index];
    for (uint32_t i = b->first, next; i != TCP_NONE; i = next) {
        next = o->page[i].next;
        page_give(t, b, i);
    }
    b->first = o->buf_free;
    o->buf_free = index;
}

/* ---- the list of one connection */

uint32_t rxpage_span(uint32_t seq, uint32_t n)
{
    return n == 0 ? 0 : ((seq % TCP_PAGE_BYTES) + n - 1) / TCP_PAGE_BYTES + 1;
}

/* The last page at or before number no; TCP_NONE: none. */
static uint32_t page_before(const struct tcp *t, struct rxbuf *b, uint32_t no)
{
    const struct rxpage *page = t->rx->page;
    uint32_t found = TCP_NONE, i = b->first;
    if (b->near != TCP_NONE && no_diff(page[b->near].no, no) <= 0)
        i = b->near;
    for (; i != TCP_NONE && no_diff(page[i].no, no) <= 0; i = page[i].next)
        found = i;
    if (found != TCP_NONE)
        b->near = found;
    return found;
}

uint32_t rxbuf_missing(struct tcp *t, struct rxbuf *b, uint32_t seq, uint32_t n)
{
    uint32_t missing = 0, span = rxpage_span(seq, n);
    for (uint32_t k = 0; k < span; k++) {
        uint32_t no = rxpage_of(seq + k * TCP_PAGE_BYTES), i = page_before(t, b, no);
        missing += i == TCP_NONE || t->rx->page[i].no != no;
    }
    return missing;
}

static uint32_t page_make(struct tcp *t, struct rxbuf *b, uint32_t no)
{
    struct rxpage *page = t->rx->page;
    uint32_t before = page_before(t, b, no);
    if (before != TCP_NONE && page[before].no == no)
        return before;
    uint32_t i = page_take(t), *link = before == TCP_NONE ? &b->first : &page[before].next;
    page[i] = (struct rxpage){*link, no};
    *link = b->near = i;
    b->pages_n++;
    return i;
}

static uint32_t in_page(uint32_t seq, uint32_t n)
{
    uint32_t left = TCP_PAGE_BYTES - seq % TCP_PAGE_BYTES;
    return n < left ? n : left;
}

static uint8_t *byte_at(const struct tcp *t, uint32_t page, uint32_t seq)
{
    return t->rx->bytes + (size_t)page * TCP_PAGE_BYTES + seq % TCP_PAGE_BYTES;
}

void rxbuf_write(struct tcp *t, struct rxbuf *b, uint32_t seq, const uint8_t *data, uint32_t n)
{
    for (uint32_t part; n > 0; seq += part, data += part, n -= part) {
        part = in_page(seq, n);
        memcpy(byte_at(t, page_make(t, b, rxpage_of(seq)), seq), data, part);
    }
}

struct slice rxbuf_read(const struct tcp *t, const struct rxbuf *b, uint32_t seq, uint32_t n)
{
    /* What is read first stands first, unless pieces of the page before are still there. */
    uint32_t i = b->first, no = rxpage_of(seq);
    while (t->rx->page[i].no != no)
        i = t->rx->page[i].next;
    return slice_of(byte_at(t, i, seq), in_page(seq, n));
}

void rxbuf_drop_before(struct tcp *t, struct rxbuf *b, uint32_t seq)
{
    const struct rxpage *page = t->rx->page;
    while (b->first != TCP_NONE && no_diff(page[b->first].no, rxpage_of(seq)) < 0) {
        uint32_t i = b->first;
        b->first = page[i].next;
        page_give(t, b, i);
    }
}

void rxbuf_drop_from(struct tcp *t, struct rxbuf *b, uint32_t seq)
{
    struct rxpage *page = t->rx->page;
    uint32_t last = rxpage_of(seq - 1), before = page_before(t, b, last);
    uint32_t *link = before == TCP_NONE ? &b->first : &page[before].next, i = *link;
    *link = TCP_NONE;
    for (uint32_t next; i != TCP_NONE; i = next) {
        next = page[i].next;
        page_give(t, b, i);
    }
}
