/* bogon.c - the tables of special-purpose addresses. */
#include "dataplane/tcp/bogon.h"

#include <stddef.h>

struct range4 {
    uint32_t network;
    uint8_t bits;
};

#define NET4(a, b, c, d) ((uint32_t)(a) << 24 | (b) << 16 | (c) << 8 | (d))

static const struct range4 table4[] = {
    {NET4(0, 0, 0, 0), 8},       /* this network (RFC 791 3.2) */
    {NET4(10, 0, 0, 0), 8},      /* private (RFC 1918) */
    {NET4(100, 64, 0, 0), 10},   /* shared by carriers (RFC 6598) */
    {NET4(127, 0, 0, 0), 8},     /* loopback (RFC 1122 3.2.1.3) */
    {NET4(169, 254, 0, 0), 16},  /* link-local (RFC 3927) */
    {NET4(172, 16, 0, 0), 12},   /* private */
    {NET4(192, 0, 0, 0), 24},    /* IETF protocol assignments (RFC 6890 2.1) */
    {NET4(192, 0, 2, 0), 24},    /* documentation (RFC 5737) */
    {NET4(192, 88, 99, 0), 24},  /* 6to4 relays, given up (RFC 7526) */
    {NET4(192, 168, 0, 0), 16},  /* private */
    {NET4(198, 18, 0, 0), 15},   /* benchmarking (RFC 2544) */
    {NET4(198, 51, 100, 0), 24}, /* documentation */
    {NET4(203, 0, 113, 0), 24},  /* documentation */
    {NET4(224, 0, 0, 0), 4},     /* multicast (RFC 5771) */
    {NET4(240, 0, 0, 0), 4},     /* reserved (RFC 1112 4), limited broadcast (RFC 919 7) */
};

/* The first 64 bits; the first row that matches says it. */
struct range6 {
    uint64_t network;
    uint8_t bits;
    bool bogon;
};

static const struct range6 table6[] = {
    {0x20010db800000000, 32, true},  /* documentation (RFC 3849) */
    {0x3fff000000000000, 20, true},  /* documentation (RFC 9637) */
    {0x2001000000000000, 32, false}, /* Teredo (RFC 4380) */
    {0x2001000300000000, 32, false}, /* AMT (RFC 7450) */
    {0x2001000401120000, 48, false}, /* AS112 (RFC 7535) */
    {0x2001002000000000, 27, false}, /* ORCHIDv2 (RFC 7343), DRIP (RFC 9374): 2001:20::/28, 2001:30::/28 */
    {0x2001000000000000, 23, true},  /* IETF protocol assignments (RFC 2928): benchmarking, ORCHID and more */
    {0x2000000000000000, 3, false},  /* what is given out */
    {0x0064ff9b00000000, 64, false}, /* IPv4 translated: 64:ff9b::/96 (RFC 6052) lies in it */
};

static bool bogon4(uint32_t w)
{
    for (size_t i = 0; i < sizeof table4 / sizeof *table4; i++)
        if ((w ^ table4[i].network) >> (32 - table4[i].bits) == 0)
            return true;
    return false;
}

bool bogon(const struct ip_addr *a)
{
    if (ip_addr_is4(a))
        return bogon4(be32toh(a->w[3]));
    uint64_t q = be64toh(a->q[0]);
    for (size_t i = 0; i < sizeof table6 / sizeof *table6; i++) {
        uint64_t behind = table6[i].bits == 64 ? 0 : UINT64_MAX >> table6[i].bits;
        if (((q ^ table6[i].network) & ~behind) == 0)
            return table6[i].bogon;
    }
    return true;
}
