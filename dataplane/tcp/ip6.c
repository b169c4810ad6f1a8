/* ip6.c - the IPv6 header and those that extend it (RFC 8200).
 *
 *   0 version, class, flow | 4 payload length | 6 next header | 7 hop limit | 8 source | 24 destination | 40 ...
 *
 * Hop-by-hop options (first only), destination options and routing headers that are used up are skipped: at most 8,
 * 256 bytes in all.  An option that wants a packet dropped when it is not understood gets its will (RFC 8200 4.2); no
 * error is sent, as it would go to whoever the source is said to be. */
#include "dataplane/tcp/ip_impl.h"

#define EXTENSIONS_MAX       8u
#define EXTENSIONS_BYTES_MAX 256u

enum { NEXT_HOP_BY_HOP = 0, NEXT_ROUTING = 43, NEXT_FRAGMENT = 44, NEXT_DESTINATION = 60 };

static bool options_fine(const uint8_t *p, uint32_t n)
{
    for (uint32_t i = 0; i < n;) {
        if (p[i] == 0) { /* Pad1 */
            i++;
            continue;
        }
        if (p[i] >> 6 || n - i < 2 || p[i + 1] > n - i - 2)
            return false;
        i += 2u + p[i + 1];
    }
    return true;
}

static bool is_extension(uint8_t next)
{
    return next == NEXT_HOP_BY_HOP || next == NEXT_ROUTING || next == NEXT_DESTINATION;
}

/* One extension header at p, of which n bytes are there: its length, 0: refused. */
static uint32_t extension_check(uint8_t kind, const uint8_t *p, uint32_t n)
{
    uint32_t length = n < 8 ? 0 : 8 + p[1] * 8u;
    if (length == 0 || length > n)
        return 0;
    if (kind == NEXT_ROUTING)
        return p[3] == 0 ? length : 0; /* segments left */
    return options_fine(p + 2, length - 2) ? length : 0;
}

/* Moves k past the extensions; k->proto is what follows. */
static int extensions_skip(struct ip_packet *k)
{
    uint32_t bytes = 0;
    for (uint32_t i = 0; is_extension(k->proto); i++) {
        uint32_t length = extension_check(k->proto, k->l4, k->l4_n);
        bytes += length;
        if (length == 0 || bytes > EXTENSIONS_BYTES_MAX || i == EXTENSIONS_MAX ||
            (k->proto == NEXT_HOP_BY_HOP && i > 0))
            return STAT_DROP_IP_HEADER;
        k->proto = k->l4[0];
        k->l4 += length;
        k->l4_n -= length;
    }
    return k->proto == NEXT_FRAGMENT ? STAT_DROP_IP_FRAGMENT : 0;
}

/* A group in which we are: all nodes, and those of our addresses, also while they are probed (RFC 4861 7.2.1). */
static bool is_our_group(const struct ip *ip, const struct ip_addr *dst)
{
    static const struct ip_addr all_nodes = {.b = {0xff, 2, [15] = 1}};
    bool any6 = false;
    for (int i = 0; i < ip->ours_n; i++) {
        const struct ip_addr *a = &ip->ours[i].prefix.addr;
        struct ip_addr group = ndp_group_of(a);
        if (!ip_addr_is4(a) && ip_addr_eq(&group, dst))
            return true;
        any6 |= !ip_addr_is4(a);
    }
    return any6 && ip_addr_eq(&all_nodes, dst);
}

static bool is_unspecified(const struct ip_addr *a)
{
    return a->q[0] == 0 && a->q[1] == 0;
}

/* Only neighbour messages may go to groups; only those may come from nobody, who probes, or from an address of ours,
 * which somebody else has. */
static int addresses_check(const struct ip *ip, const struct ether *e, struct ip_in *in)
{
    struct ip_packet *k = &in->p;
    int local = ours_find(ip, &k->dst);
    if (ip_addr_is4(&k->src) || ip_addr_is4(&k->dst))
        return STAT_DROP_BOGON;
    in->multicast = local < 0;
    if (local < 0 ? k->proto != IP_PROTO_ICMP6 || !is_our_group(ip, &k->dst) : !ours_ready(&ip->ours[local]))
        return STAT_DROP_IP_ADDRESS;
    if ((e->dst[0] & 1) && !in->multicast)
        return STAT_DROP_ETHER;
    bool exempt = in->multicast && (is_unspecified(&k->src) || ours_find(ip, &k->src) >= 0);
    if (!exempt && !ip_source_valid(ip, &k->src))
        return STAT_DROP_BOGON;
    k->local = local < 0 ? 0 : (uint8_t)local;
    return 0;
}

int ip6_parse(struct ip *ip, const struct ether *e, struct frame *f, struct ip_in *in_r)
{
    uint8_t *p = e->l3;
    if (e->l3_n < IP6_BYTES)
        return STAT_DROP_SHORT;
    if (p[0] >> 4 != 6)
        return STAT_DROP_IP_HEADER;
    uint32_t n = be16_get(p + 4);
    if (n > e->l3_n - IP6_BYTES)
        return STAT_DROP_SHORT;
    *in_r =
        (struct ip_in){.p = {.frame = f, .l4 = p + IP6_BYTES, .l4_n = n, .proto = p[6], .hops = p[7]}, .mac = e->src};
    in_r->p.ecn = p[1] >> 4 & 3;
    memcpy(&in_r->p.src, p + 8, 16);
    memcpy(&in_r->p.dst, p + 24, 16);
    int drop = extensions_skip(&in_r->p);
    return drop ? drop : addresses_check(ip, e, in_r);
}

void ip6_push(struct frame *f, const struct ip_addr *src, const struct ip_addr *dst, uint8_t proto, uint8_t ecn,
              uint8_t hops)
{
    uint32_t n = f->n;
    uint8_t *p = frame_push(f, IP6_BYTES);
    be32_put(p, 0x60000000u | (uint32_t)(ecn & 3) << 20);
    be16_put(p + 4, (uint16_t)n);
    p[6] = proto;
    p[7] = hops;
    memcpy(p + 8, src->b, 16);
    memcpy(p + 24, dst->b, 16);
    f->l3 = 0;
    f->l4 = IP6_BYTES;
}
