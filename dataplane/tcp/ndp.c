/* ndp.c - neighbour solicitation and advertisement (RFC 4861 4.3, 4.4, 7) and their use to find conflicts (RFC 4862
 * 5.4).  Router messages and redirects are not believed and not looked at.
 *
 *   0 type 135, 136 | 1 code 0 | 2 checksum | 4 flags: router, solicited, override | 8 target | 24 options, each:
 *   type (1 source's MAC, 2 target's MAC), length in units of 8 bytes, content */
#include "dataplane/tcp/ip_impl.h"
#include "dataplane/tcp/sum.h"

#define NDP_BYTES       24u
#define NDP_OPTION      8u
#define NDP_OPTIONS_MAX 16u

enum { NDP_SOLICIT = 135, NDP_ADVERTISE = 136, OPTION_SOURCE_MAC = 1, OPTION_TARGET_MAC = 2 };
enum { FLAG_SOLICITED = 0x40, FLAG_OVERRIDE = 0x20 };

static const struct ip_addr unspecified, all_nodes = {.b = {0xff, 2, [15] = 1}};

struct ip_addr ndp_group_of(const struct ip_addr *a)
{
    struct ip_addr g = {.b = {0xff, 2, [11] = 1, [12] = 0xff}};
    memcpy(g.b + 13, a->b + 13, 3);
    return g;
}

static bool is_group(const struct ip_addr *a)
{
    return a->b[0] == 0xff;
}

/* ---- out */

struct ndp {
    const struct ip_addr *src, *dst, *target;
    const uint8_t *to; /* MAC of dst; NULL: dst is a group (RFC 2464 7) */
    uint8_t type, flags, option;
};

static void ndp_send(struct ip *ip, const struct ndp *m)
{
    struct frame f;
    if (!ip_frame(ip, &f))
        return;
    uint32_t n = NDP_BYTES + (m->option ? NDP_OPTION : 0);
    uint8_t *p = frame_push(&f, n), group[6] = {0x33, 0x33};
    memset(p, 0, n);
    p[0] = m->type;
    p[4] = m->flags;
    memcpy(p + 8, m->target->b, 16);
    if (m->option) {
        p[24] = m->option;
        p[25] = 1;
        memcpy(p + 26, ip->cfg.mac, 6);
    }
    uint16_t sum = sum_field(sum_add(sum_pseudo(m->src, m->dst, IP_PROTO_ICMP6, n), p, n));
    memcpy(p + 2, &sum, sizeof sum);
    ip6_push(&f, m->src, m->dst, IP_PROTO_ICMP6, 0, 255);
    memcpy(group + 2, m->dst->b + 12, 4);
    ether_push(&ip->cfg, &f, m->to ? m->to : group, ETHER_IP6);
    ip->pool.send(ip->pool.ctx, &f);
}

void ndp_probe(struct ip *ip, const struct ip_addr *ours)
{
    struct ip_addr group = ndp_group_of(ours);
    ndp_send(ip, &(struct ndp){.src = &unspecified, .dst = &group, .target = ours, .type = NDP_SOLICIT});
}

void ndp_announce(struct ip *ip, const struct ip_addr *ours)
{
    ndp_send(ip, &(struct ndp){.src = ours,
                               .dst = &all_nodes,
                               .target = ours,
                               .type = NDP_ADVERTISE,
                               .flags = FLAG_OVERRIDE,
                               .option = OPTION_TARGET_MAC});
}

void ndp_ask(struct ip *ip, const struct ip_addr *ours, const struct ip_addr *whom, const uint8_t *to)
{
    struct ip_addr group = ndp_group_of(whom);
    ndp_send(ip, &(struct ndp){.src = ours,
                               .dst = to ? whom : &group,
                               .target = whom,
                               .to = to,
                               .type = NDP_SOLICIT,
                               .option = OPTION_SOURCE_MAC});
}

static void answer(struct ip *ip, const struct ip_addr *ours, const struct ip_addr *whom, const uint8_t *to)
{
    if (!ip->cfg.quiet)
        ndp_send(ip, &(struct ndp){.src = ours,
                                   .dst = whom,
                                   .target = ours,
                                   .to = to,
                                   .type = NDP_ADVERTISE,
                                   .flags = FLAG_SOLICITED | FLAG_OVERRIDE,
                                   .option = OPTION_TARGET_MAC});
}

/* ---- in */

static bool is_mac(const uint8_t *p)
{
    return !(p[0] & 1) && (p[0] | p[1] | p[2] | p[3] | p[4] | p[5]) != 0;
}

/* The MAC in the option of this type, *mac_r NULL without one.  False: malformed (RFC 4861 4.6). */
static bool options_parse(const struct ip_packet *k, uint8_t type, const uint8_t **mac_r)
{
    *mac_r = NULL;
    uint32_t count = 0;
    for (uint32_t i = NDP_BYTES; i < k->l4_n; count++) {
        const uint8_t *p = k->l4 + i;
        uint32_t left = k->l4_n - i;
        if (left < NDP_OPTION || p[1] == 0 || p[1] * 8u > left || count == NDP_OPTIONS_MAX)
            return false;
        if (p[0] == type && (p[1] != 1 || !is_mac(p + 2)))
            return false;
        if (p[0] == type)
            *mac_r = p + 2;
        i += p[1] * 8u;
    }
    return true;
}

/* Somebody asks whether our address is free: it is not, or it is he who has it now. */
static bool probed(struct ip *ip, const struct ip_in *in, int local, uint64_t now_us)
{
    struct ip_addr group = ndp_group_of(&ip->ours[local].prefix.addr);
    if (!ip_addr_eq(&in->p.dst, &group))
        return false;
    if (!ours_ready(&ip->ours[local]))
        ours_conflict(ip, (uint8_t)local, in->mac, now_us);
    else if (!ip->cfg.quiet)
        ndp_announce(ip, &ip->ours[local].prefix.addr);
    return true;
}

/* RFC 4861 7.1.1, 7.2.3, 7.2.4 */
static bool solicited(struct ip *ip, const struct ip_in *in, const struct ip_addr *target, uint64_t now_us)
{
    const uint8_t *mac;
    int local = ours_find(ip, target);
    if (local < 0 || !options_parse(&in->p, OPTION_SOURCE_MAC, &mac) || ours_find(ip, &in->p.src) >= 0)
        return false;
    if (ip_addr_eq(&in->p.src, &unspecified))
        return !mac && probed(ip, in, local, now_us);
    if (!ours_ready(&ip->ours[local]))
        return false;
    if (mac)
        neigh_hear(&ip->neigh, &in->p.src, mac, NEIGH_CLAIM, now_us);
    answer(ip, target, &in->p.src, mac ? mac : in->mac);
    return true;
}

/* RFC 4861 7.1.2, 7.2.5 */
static bool advertised(struct ip *ip, const struct ip_in *in, const struct ip_addr *target, uint64_t now_us)
{
    const uint8_t *mac;
    uint8_t flags = in->p.l4[4];
    int local = ours_find(ip, target);
    if ((in->multicast && (flags & FLAG_SOLICITED)) || ip_addr_eq(&in->p.src, &unspecified) ||
        !options_parse(&in->p, OPTION_TARGET_MAC, &mac))
        return false;
    if (local >= 0) {
        ours_conflict(ip, (uint8_t)local, mac ? mac : in->mac, now_us);
        return true;
    }
    const struct neigh *known = neigh_find(&ip->neigh, target);
    if (!mac && known && (known->state == NEIGH_REACHABLE || known->state == NEIGH_STALE))
        mac = known->mac;
    enum neigh_word word = !(flags & FLAG_SOLICITED) ? NEIGH_CLAIM
                           : flags & FLAG_OVERRIDE   ? NEIGH_ANSWER
                                                     : NEIGH_ANSWER_WEAK;
    return mac && neigh_hear(&ip->neigh, target, mac, word, now_us);
}

void ndp_input(struct ip *ip, const struct ip_in *in, uint64_t now_us)
{
    const uint8_t *p = in->p.l4;
    struct ip_addr target;
    bool fine = false;
    if (in->p.hops == 255 && in->p.l4_n >= NDP_BYTES && p[1] == 0) {
        memcpy(&target, p + 8, sizeof target);
        if (!is_group(&target) && !ip_addr_is4(&target))
            fine = p[0] == NDP_SOLICIT ? solicited(ip, in, &target, now_us) : advertised(ip, in, &target, now_us);
    }
    if (!fine)
        ip_drop_shared(ip, STAT_DROP_NDP);
}
