/* decode.c - reads TCP frames by the RFCs' pictures, apart from the product's parser, so that both must agree. */
#include "tests/tcpsim/tcpsim.h"

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static void decode_sack(struct wire_tcp *w, const uint8_t *p, uint32_t n)
{
    w->malformed |= n % 8 != 0 || n > 32;
    for (; n >= 8 && w->sack_n < 4; n -= 8, p += 8)
        w->sack[w->sack_n++] = (struct wire_sack){get32(p), get32(p + 4)};
}

static void decode_options(struct wire_tcp *w, const uint8_t *p, uint32_t n)
{
    uint32_t i = 0;
    while (i < n && p[i] != 0) {
        uint32_t len = p[i] == 1 ? 1 : i + 1 < n ? p[i + 1] : 0;
        if (len == 0 || i + len > n || (p[i] != 1 && len < 2)) {
            w->malformed = true;
            return;
        }
        if (p[i] == 2 && len == 4)
            w->mss = get16(p + i + 2);
        else if (p[i] == 3 && len == 3)
            w->wscale = p[i + 2];
        else if (p[i] == 5)
            decode_sack(w, p + i + 2, len - 2);
        else if (p[i] == 8 && len == 10) {
            w->has_ts = true;
            w->ts_val = get32(p + i + 2);
        }
        i += len;
    }
}

/* Where TCP begins, and how long it is; NULL: not TCP. */
static const uint8_t *decode_ip(struct wire_tcp *w, const uint8_t *p, uint32_t *tcp_n_r)
{
    const uint8_t *ip = p + w->ip_off;
    if (get16(p + 12) == 0x0800 && ip[9] == 6) {
        uint32_t head = (ip[0] & 15) * 4u;
        w->src = w->dst = ip_addr_of4(0);
        memcpy(&w->src.w[3], ip + 12, 4);
        memcpy(&w->dst.w[3], ip + 16, 4);
        w->ecn = ip[1] & 3;
        *tcp_n_r = get16(ip + 2) - head;
        return ip + head;
    }
    if (get16(p + 12) != 0x86dd || ip[6] != 6)
        return NULL;
    w->v6 = true;
    memcpy(w->src.b, ip + 8, 16);
    memcpy(w->dst.b, ip + 24, 16);
    w->ecn = ip[1] >> 4 & 3;
    *tcp_n_r = get16(ip + 4);
    return ip + 40;
}

static void decode_flags(struct wire_tcp *w, uint8_t f)
{
    w->fin = f & 1;
    w->syn = f & 2;
    w->rst = f & 4;
    w->psh = f & 8;
    w->ack = f & 16;
    w->ece = f & 64;
    w->cwr = f & 128;
}

bool wire_decode(struct wire_tcp *w, const uint8_t *p, uint32_t n)
{
    *w = (struct wire_tcp){.wscale = -1, .ip_off = 14};
    uint32_t tcp_n = 0;
    const uint8_t *tcp = n < 14 + 40 ? NULL : decode_ip(w, p, &tcp_n);
    if (!tcp)
        return false;
    uint32_t head = (uint32_t)(tcp[12] >> 4) * 4;
    if (head < 20 || head > tcp_n || (uint32_t)(tcp - p) + tcp_n > n)
        return false;
    w->sport = get16(tcp);
    w->dport = get16(tcp + 2);
    w->seq = get32(tcp + 4);
    w->ackno = get32(tcp + 8);
    decode_flags(w, tcp[13]);
    w->wnd = get16(tcp + 14);
    w->data_n = tcp_n - head;
    decode_options(w, tcp + 20, head - 20);
    return true;
}
