/* sum.c - the Internet checksum, eight bytes at a time. */
#include "dataplane/tcp/sum.h"

#include <arpa/inet.h>

typedef unsigned __int128 sum_wide;

static inline uint64_t word_at(const uint8_t *p)
{
    uint64_t w;
    memcpy(&w, p, sizeof w);
    return w;
}

/* The last 0 to 7 bytes, a zero behind an odd one; in steps, as a copy of unknown length is a call. */
static inline uint64_t tail_at(const uint8_t *p, size_t n)
{
    uint64_t sum = 0;
    uint32_t four;
    uint16_t two;
    if (n & 4) {
        memcpy(&four, p, sizeof four);
        sum += four;
        p += 4;
    }
    if (n & 2) {
        memcpy(&two, p, sizeof two);
        sum += two;
        p += 2;
    }
    if (n & 1) {
        two = 0;
        memcpy(&two, p, 1);
        sum += two;
    }
    return sum;
}

/* 2^64 is 1 modulo 2^16 - 1: what was carried out on top comes in again below. */
static inline uint64_t narrow(sum_wide s)
{
    s = (uint64_t)s + (s >> 64);
    return (uint64_t)s + (uint64_t)(s >> 64);
}

uint64_t sum_add(uint64_t sum, const void *p, size_t n)
{
    const uint8_t *at = p;
    sum_wide a = sum, b = 0; /* two chains of carries run beside each other */
    for (; n >= 32; at += 32, n -= 32) {
        a += word_at(at);
        b += word_at(at + 8);
        a += word_at(at + 16);
        b += word_at(at + 24);
    }
    for (; n >= 8; at += 8, n -= 8)
        a += word_at(at);
    if (n)
        b += tail_at(at, n);
    return narrow(a + b);
}

uint64_t sum_pseudo(const struct ip_addr *src, const struct ip_addr *dst, uint8_t proto, uint32_t n)
{
    uint64_t rest = (uint64_t)htonl(n) + htons(proto);
    if (ip_addr_is4(src))
        return rest + src->w[3] + dst->w[3];
    return rest + src->w[0] + src->w[1] + src->w[2] + src->w[3] + dst->w[0] + dst->w[1] + dst->w[2] + dst->w[3];
}
