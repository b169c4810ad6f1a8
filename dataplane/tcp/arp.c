/* arp.c - ARP for IPv4 over Ethernet (RFC 826) and its use to find conflicts (RFC 5227).
 *
 *   0 htype 1 | 2 ptype 0x0800 | 4 hlen 6 | 5 plen 4 | 6 op 1 request, 2 reply
 *   8 sender MAC | 14 sender IP | 18 target MAC | 24 target IP | 28 padding */
#include "dataplane/tcp/ip_impl.h"

#define ARP_BYTES 28u

enum { ARP_REQUEST = 1, ARP_REPLY = 2 };

static const uint8_t nobody[6];

/* ---- out */

struct arp {
    uint16_t op;
    const uint8_t *to; /* Ethernet's destination */
    const uint8_t *target_mac;
    uint32_t sender_ip, target_ip; /* network order */
};

static void arp_send(struct ip *ip, const struct arp *a)
{
    struct frame f;
    if (!ip_frame(ip, &f))
        return;
    uint8_t *p = frame_push(&f, ARP_BYTES);
    be16_put(p, 1);
    be16_put(p + 2, ETHER_IP4);
    p[4] = 6;
    p[5] = 4;
    be16_put(p + 6, a->op);
    memcpy(p + 8, ip->cfg.mac, 6);
    memcpy(p + 14, &a->sender_ip, 4);
    memcpy(p + 18, a->target_mac, 6);
    memcpy(p + 24, &a->target_ip, 4);
    ether_push(&ip->cfg, &f, a->to, ETHER_ARP);
    ip->pool.send(ip->pool.ctx, &f);
}

void arp_probe(struct ip *ip, const struct ip_addr *ours)
{
    arp_send(ip, &(struct arp){ARP_REQUEST, ether_broadcast, nobody, 0, ours->w[3]});
}

void arp_announce(struct ip *ip, const struct ip_addr *ours)
{
    arp_send(ip, &(struct arp){ARP_REQUEST, ether_broadcast, nobody, ours->w[3], ours->w[3]});
}

void arp_ask(struct ip *ip, const struct ip_addr *ours, const struct ip_addr *whom, const uint8_t *to)
{
    arp_send(ip, &(struct arp){ARP_REQUEST, to ? to : ether_broadcast, to ? to : nobody, ours->w[3], whom->w[3]});
}

/* ---- in */

static bool is_well_formed(const struct ether *e)
{
    const uint8_t *p = e->l3;
    return e->l3_n >= ARP_BYTES && be16_get(p) == 1 && be16_get(p + 2) == ETHER_IP4 && p[4] == 6 && p[5] == 4 &&
           (be16_get(p + 6) == ARP_REQUEST || be16_get(p + 6) == ARP_REPLY) && !(p[8] & 1) &&
           memcmp(p + 8, nobody, 6) != 0;
}

/* Somebody else with our address, or two who probe for it at once (RFC 5227 2.1.1). */
static bool find_conflict(struct ip *ip, const uint8_t *p, const struct ip_addr *sender, int target, uint64_t now_us)
{
    int i = ours_find(ip, sender);
    bool rival = sender->w[3] == 0 && be16_get(p + 6) == ARP_REQUEST && target >= 0 && !ours_ready(&ip->ours[target]);
    if (i < 0 && !rival)
        return false;
    ours_conflict(ip, (uint8_t)(i < 0 ? target : i), p + 8, now_us);
    return true;
}

static void answer(struct ip *ip, const uint8_t *p, uint8_t local, const struct ip_addr *sender)
{
    if (!ip->cfg.quiet)
        arp_send(ip, &(struct arp){ARP_REPLY, p + 8, p + 8, ip->ours[local].prefix.addr.w[3], sender->w[3]});
}

/* False: dropped. */
static bool heard(struct ip *ip, const struct ether *e, uint64_t now_us)
{
    const uint8_t *p = e->l3;
    if (!is_well_formed(e) || memcmp(p + 8, ip->cfg.mac, 6) == 0) /* our own, come back by some other way */
        return false;
    struct ip_addr sender = ip4_addr_at(p + 14), target_ip = ip4_addr_at(p + 24);
    int target = ours_find(ip, &target_ip);
    if (find_conflict(ip, p, &sender, target, now_us))
        return true;
    bool probe = sender.w[3] == 0, reply = be16_get(p + 6) == ARP_REPLY;
    if (!probe && !ip_source_valid(ip, &sender))
        return false;
    bool to_us = reply && target >= 0 && e->dst[0] != 0xff;
    bool known = !probe && neigh_hear(&ip->neigh, &sender, p + 8, to_us ? NEIGH_ANSWER : NEIGH_CLAIM, now_us);
    if (reply || target < 0 || !ours_ready(&ip->ours[target]))
        return known;
    answer(ip, p, (uint8_t)target, &sender);
    return true;
}

void arp_input(struct ip *ip, const struct ether *e, uint64_t now_us)
{
    if (!heard(ip, e, now_us))
        ip_drop_shared(ip, STAT_DROP_ARP);
}
