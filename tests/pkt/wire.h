/* wire.h - frames as they stand on the wire: bytes in network order, and the checksum, the tests' own. */
#pragma once
#include "dataplane/tcp/addr.h"

#include <stddef.h>
#include <stdint.h>

enum { WIRE_ETHER = 14, WIRE_TAG = 4, WIRE_IP4 = 20, WIRE_IP6 = 40, WIRE_TCP = 20 };
enum { ETHER_IP4 = 0x0800, ETHER_ARP = 0x0806, ETHER_TAG = 0x8100, ETHER_IP6 = 0x86dd };
enum { PROTO_ICMP = 1, PROTO_TCP = 6, PROTO_ICMP6 = 58 };

static inline uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}
static inline uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}
static inline void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}
static inline void put32(uint8_t *p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p + 2, v);
}

/* RFC 1071, byte by byte: slow and plain. sum: from earlier pieces, each of even length but the last. */
static inline uint32_t wire_sum(uint32_t sum, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

static inline uint32_t wire_pseudo_sum(const struct ip_addr *src, const struct ip_addr *dst, uint8_t proto, uint32_t n)
{
    bool v4 = ip_addr_is4(dst);
    uint8_t tail[8] = {0};
    put32(tail, n);
    tail[7] = proto;
    uint32_t sum = wire_sum(0, src->b + (v4 ? 12 : 0), v4 ? 4 : 16);
    sum = wire_sum(sum, dst->b + (v4 ? 12 : 0), v4 ? 4 : 16);
    return wire_sum(sum, tail, sizeof tail);
}
