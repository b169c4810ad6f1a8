/* ether.h - Ethernet II and one 802.1Q tag. */
#pragma once
#include "dataplane/tcp/ip.h"

#define ETHER_BYTES 14u
#define ETHER_VLAN  4u

enum { ETHER_IP4 = 0x0800, ETHER_ARP = 0x0806, ETHER_8021Q = 0x8100, ETHER_IP6 = 0x86dd };

extern const uint8_t ether_broadcast[6];

/* A received frame, looked at as far as Ethernet goes. */
struct ether {
    const uint8_t *dst, *src; /* 6 bytes each, in the frame */
    uint8_t *l3;              /* what follows, padding included */
    uint32_t l3_n;
    uint16_t type; /* ETHER_IP4, ETHER_ARP, ETHER_IP6 */
};

/* Of our VLAN, for our MAC or a group that its protocol may use: broadcast for ARP, 33:33 for IPv6.  A tag of VLAN 0
 * (priority alone) counts as none.  0, or the STAT_DROP_* to count. */
int ether_parse(const struct ip_config *cfg, const struct frame *f, struct ether *e_r);

/* Pushes the header, and the tag or the wish for one; moves f->l3 and f->l4, which stood from the IP header, on. */
void ether_push(const struct ip_config *cfg, struct frame *f, const uint8_t dst[6], uint16_t type);
