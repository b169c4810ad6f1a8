/* addr.h - IP addresses as 16 bytes: IPv6 as it is, IPv4 as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2), so that tables know one
 * kind.  A packet with such an address in an IPv6 header is bogus and never gets here. */
#pragma once
#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct ip_addr {
    union {
        uint8_t b[16];
        uint16_t h[8]; /* network order */
        uint32_t w[4]; /* network order */
        uint64_t q[2];
    };
};

static inline bool ip_addr_eq(const struct ip_addr *a, const struct ip_addr *b)
{
    return a->q[0] == b->q[0] && a->q[1] == b->q[1];
}

static inline bool ip_addr_is4(const struct ip_addr *a)
{
    return a->q[0] == 0 && a->h[4] == 0 && a->h[5] == 0xffff;
}

/* w: network order */
static inline struct ip_addr ip_addr_of4(uint32_t w)
{
    struct ip_addr a;
    memset(&a, 0, sizeof a);
    a.h[5] = 0xffff;
    a.w[3] = w;
    return a;
}

/* A network. Those that compare and search want the bits behind the prefix to be 0. */
struct ip_prefix {
    struct ip_addr addr;
    uint8_t bits; /* of the 128: an IPv4 /24 is 120 */
};

/* The first `bits` of one half, the 64 bits that stand at `from`; in network order. */
static inline uint64_t ip_mask64(uint8_t bits, uint8_t from)
{
    if (bits <= from)
        return 0;
    return bits >= from + 64 ? UINT64_MAX : htobe64(~(UINT64_MAX >> (bits - from)));
}

static inline struct ip_addr ip_addr_masked(const struct ip_addr *a, uint8_t bits)
{
    struct ip_addr m;
    m.q[0] = a->q[0] & ip_mask64(bits, 0);
    m.q[1] = a->q[1] & ip_mask64(bits, 64);
    return m;
}

static inline bool ip_prefix_has(const struct ip_prefix *p, const struct ip_addr *a)
{
    return ((p->addr.q[0] ^ a->q[0]) & ip_mask64(p->bits, 0)) == 0 &&
           ((p->addr.q[1] ^ a->q[1]) & ip_mask64(p->bits, 64)) == 0;
}

/* The bits of an IPv4 address that tell hosts of one network apart, in the machine's order. */
static inline uint32_t ip_mask4_hosts(uint8_t bits)
{
    return ~(uint32_t)be64toh(ip_mask64(bits, 64));
}

/* An IPv6 network so wide that all of IPv4 stands in it, as addresses are kept here. */
static inline bool ip_prefix_holds4(const struct ip_prefix *p)
{
    struct ip_addr any4 = ip_addr_of4(0);
    return p->bits < 96 && ip_prefix_has(p, &any4);
}
