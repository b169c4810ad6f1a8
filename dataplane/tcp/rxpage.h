/* rxpage.h - pages of 4 KiB for received bytes, by their place in the stream: page N has the sequence numbers from
 * N * 4096 on.  A list of pages in ascending order belongs to one connection; where nothing came there is no page.
 *
 * Thread: its queue's. Numbers of pages are compared modulo 2^20, as sequence numbers are. */
#pragma once
#include "dataplane/tcp/tcp_impl.h"

#define RX_RANGES_MAX 32u

struct rxpage {
    uint32_t next; /* of the same list, or the next free one */
    uint32_t no;   /* sequence number / 4096 */
};

/* What a connection keeps: at least one page, or there is no rxbuf. */
struct rxbuf {
    uint32_t first; /* pages, ascending; next free rxbuf while it is nobody's */
    uint32_t near;  /* the page touched last; TCP_NONE: none */
    uint32_t pages_n;
    uint32_t kept;                          /* bytes in order, from the first unread one on */
    uint32_t ranges_n;                      /* out of order; neither touching each other nor what is in order */
    struct tcp_range ranges[RX_RANGES_MAX]; /* the latest first */
};

struct rxpool {
    uint32_t used, promised; /* pages held; pages that bytes noted in frames may need */
    uint32_t free, touched;  /* free list; those never used follow `touched` */
    uint32_t buf_free, buf_touched;
    struct rxpage *page;
    struct rxbuf *buf;
    uint8_t *bytes;
};

/* Pages that may still be had. */
static inline uint32_t rxpool_free(const struct tcp *t)
{
    return t->cfg.pages_max - t->rx->used - t->rx->promised;
}

static inline uint32_t rxpage_of(uint32_t seq)
{
    return seq / TCP_PAGE_BYTES;
}
/* How many pages [seq, seq + n) touches; n below 2^31. */
uint32_t rxpage_span(uint32_t seq, uint32_t n);

uint32_t rxbuf_take(struct tcp *t);
/* With all its pages. */
void rxbuf_give(struct tcp *t, uint32_t index);
/* How many pages [seq, seq + n) needs beyond those that b has. */
uint32_t rxbuf_missing(struct tcp *t, struct rxbuf *b, uint32_t seq, uint32_t n);
/* The pages for it are free: the caller asked. */
void rxbuf_write(struct tcp *t, struct rxbuf *b, uint32_t seq, const uint8_t *data, uint32_t n);
/* Up to n bytes that stand at seq: as many as one page has. */
struct slice rxbuf_read(const struct tcp *t, const struct rxbuf *b, uint32_t seq, uint32_t n);
/* Gives back the pages that lie before seq wholly. */
void rxbuf_drop_before(struct tcp *t, struct rxbuf *b, uint32_t seq);
/* ... and those that begin at seq or behind it. */
void rxbuf_drop_from(struct tcp *t, struct rxbuf *b, uint32_t seq);
