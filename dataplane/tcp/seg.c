/* seg.c - the TCP header (RFC 9293 3.1) and its options (3.2; RFC 7323, RFC 2018), parsed and built.
 *
 *   0 source port | 2 destination port | 4 sequence number | 8 acknowledgement | 12 data offset, flags | 14 window
 *   16 checksum | 18 urgent pointer | 20 options */
#include "dataplane/tcp/be.h"
#include "dataplane/tcp/sum.h"
#include "dataplane/tcp/tcp_impl.h"

#define HEADER    20u
#define PROTO_TCP 6u

enum { OPT_END = 0, OPT_NOP = 1, OPT_MSS = 2, OPT_WSCALE = 3, OPT_SACK_OK = 4, OPT_SACK = 5, OPT_TS = 8 };
enum { MSS_BYTES = 4, WSCALE_BYTES = 3, SACK_OK_BYTES = 2, TS_BYTES = 10, SACK_BLOCK = 8 };

/* ---- parsing */

static void sack_parse(struct tcp_seg *s, const uint8_t *p, uint32_t n)
{
    if (n < SACK_BLOCK || n % SACK_BLOCK || n > sizeof s->sack)
        return;
    s->sack_n = (uint8_t)(n / SACK_BLOCK);
    for (uint32_t i = 0; i < s->sack_n; i++, p += SACK_BLOCK)
        s->sack[i] = (struct tcp_range){be32_get(p), be32_get(p + 4)};
}

/* One option of n bytes, kind and length included. Of another size than its own it is skipped like one unknown; what
 * belongs to a SYN means nothing elsewhere. */
static void option_parse(struct tcp_seg *s, const uint8_t *p, uint32_t n)
{
    bool syn = s->flags & TH_SYN;
    switch (p[0]) {
    case OPT_MSS:
        if (syn && n == MSS_BYTES)
            s->mss = be16_get(p + 2);
        break;
    case OPT_WSCALE:
        if (syn && n == WSCALE_BYTES) {
            s->has_wscale = true;
            s->wscale = p[2];
        }
        break;
    case OPT_SACK_OK:
        s->sack_ok = s->sack_ok || (syn && n == SACK_OK_BYTES);
        break;
    case OPT_SACK:
        sack_parse(s, p + 2, n - 2);
        break;
    case OPT_TS:
        if (n == TS_BYTES) {
            s->has_ts = true;
            s->ts_val = be32_get(p + 2);
            s->ts_ecr = be32_get(p + 6);
        }
        break;
    default:
        break;
    }
}

static void options_parse(struct tcp_seg *s, const uint8_t *p, uint32_t n)
{
    for (uint32_t i = 0; i < n && p[i] != OPT_END;) {
        if (p[i] == OPT_NOP) {
            i++;
            continue;
        }
        if (n - i < 2 || p[i + 1] < 2 || p[i + 1] > n - i)
            return;
        option_parse(s, p + i, p[i + 1]);
        i += p[i + 1];
    }
}

/* What nearly every segment has: two fillers and timestamps. */
static bool options_usual(struct tcp_seg *s, const uint8_t *p, uint32_t n)
{
    if (n != TS_BYTES + 2 || p[0] != OPT_NOP || p[1] != OPT_NOP || p[2] != OPT_TS || p[3] != TS_BYTES)
        return false;
    s->has_ts = true;
    s->ts_val = be32_get(p + 4);
    s->ts_ecr = be32_get(p + 8);
    return true;
}

static bool sum_verified(const struct ip_packet *p)
{
    if (p->frame->flags & (FRAME_L4_GOOD | FRAME_L4_BAD))
        return !(p->frame->flags & FRAME_L4_BAD);
    return sum_good(sum_add(sum_pseudo(&p->src, &p->dst, PROTO_TCP, p->l4_n), p->l4, p->l4_n));
}

int tcp_seg_parse(struct tcp_seg *s, const struct ip_packet *p)
{
    const uint8_t *h = p->l4;
    if (p->l4_n < HEADER)
        return STAT_DROP_TCP_HEADER;
    if (!sum_verified(p))
        return STAT_DROP_TCP_SUM;
    uint32_t header = (uint32_t)(h[12] >> 4) * 4;
    *s = (struct tcp_seg){.ip = p,
                          .sport = be16_get(h),
                          .dport = be16_get(h + 2),
                          .seq = be32_get(h + 4),
                          .ack = be32_get(h + 8),
                          .flags = h[13],
                          .wnd = be16_get(h + 14)};
    if (header < HEADER || header > p->l4_n || s->sport == 0 || s->dport == 0)
        return STAT_DROP_TCP_HEADER;
    s->data = h + header;
    s->data_n = p->l4_n - header;
    if (!options_usual(s, h + HEADER, header - HEADER))
        options_parse(s, h + HEADER, header - HEADER);
    return 0;
}

/* ---- building: options in front of each other from the last to the first, each padded to whole words */

static uint8_t *sack_push(uint8_t *p, const struct tcp_head *h)
{
    if (h->sack_n == 0)
        return p;
    p -= SACK_BLOCK * h->sack_n + 4;
    memcpy(p, (uint8_t[4]){OPT_NOP, OPT_NOP, OPT_SACK, (uint8_t)(SACK_BLOCK * h->sack_n + 2)}, 4);
    for (uint32_t i = 0; i < h->sack_n; i++) {
        be32_put(p + 4 + SACK_BLOCK * i, h->sack[i].start);
        be32_put(p + 8 + SACK_BLOCK * i, h->sack[i].end);
    }
    return p;
}

/* SACK-permitted takes the place of the fillers before timestamps. */
static uint8_t *ts_push(uint8_t *p, const struct tcp_head *h)
{
    static const uint8_t sack_ok[2] = {OPT_SACK_OK, SACK_OK_BYTES}, fill[2] = {OPT_NOP, OPT_NOP};
    if (h->ts) {
        p -= TS_BYTES + 2;
        memcpy(p, h->sack_ok ? sack_ok : fill, 2);
        p[2] = OPT_TS;
        p[3] = TS_BYTES;
        be32_put(p + 4, h->ts_val);
        be32_put(p + 8, h->ts_ecr);
    } else if (h->sack_ok) {
        p -= 4;
        memcpy(p, fill, 2);
        memcpy(p + 2, sack_ok, 2);
    }
    return p;
}

static uint8_t *syn_options_push(uint8_t *p, const struct tcp_head *h)
{
    if (h->wscale >= 0) {
        p -= 4;
        memcpy(p, (uint8_t[4]){OPT_NOP, OPT_WSCALE, WSCALE_BYTES, (uint8_t)h->wscale}, 4);
    }
    p = ts_push(p, h);
    if (h->mss) {
        p -= MSS_BYTES;
        p[0] = OPT_MSS;
        p[1] = MSS_BYTES;
        be16_put(p + 2, h->mss);
    }
    return p;
}

uint32_t tcp_seg_build(struct frame *f, const struct tcp_head *h)
{
    uint8_t *p = syn_options_push(sack_push(f->p, h), h);
    uint32_t header = HEADER + (uint32_t)(f->p - p);
    p = frame_push(f, header);
    be16_put(p, h->sport);
    be16_put(p + 2, h->dport);
    be32_put(p + 4, h->seq);
    be32_put(p + 8, h->ack);
    p[12] = (uint8_t)(header / 4 << 4);
    p[13] = (uint8_t)h->flags;
    be16_put(p + 14, h->wnd);
    be16_put(p + 16, 0);
    be16_put(p + 18, h->urg);
    return header;
}
