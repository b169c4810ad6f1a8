/* addr.h - IP addresses as 16 bytes: IPv6 as it is, IPv4 as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2), so that tables know one
 * kind.  A packet with such an address in an IPv6 header is bogus and never gets here. */
#pragma once
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
