/* ip4.c - the IPv4 header (RFC 791, RFC 1122 3.2.1, RFC 6864).
 *
 *   0 version, length | 1 DSCP, ECN | 2 total length | 4 ID | 6 flags, fragment offset | 8 TTL | 9 protocol
 *   10 checksum | 12 source | 16 destination | 20 options */
#include "dataplane/tcp/ip_impl.h"
#include "dataplane/tcp/sum.h"

#define DONT_FRAGMENT 0x4000u
#define FRAGMENT_MASK 0x3fffu /* more fragments, offset */

enum { OPT_END = 0, OPT_NOP = 1, OPT_LSRR = 131, OPT_SSRR = 137 };

/* Options are skipped by their lengths; a source route is not (RFC 7126 4.3). */
static bool options_fine(const uint8_t *p, uint32_t n)
{
    for (uint32_t i = 0; i < n && p[i] != OPT_END;) {
        if (p[i] == OPT_NOP) {
            i++;
            continue;
        }
        if (p[i] == OPT_LSRR || p[i] == OPT_SSRR || n - i < 2 || p[i + 1] < 2 || p[i + 1] > n - i)
            return false;
        i += p[i + 1];
    }
    return true;
}

/* Of a header alone or without its options: 20 bytes have a sum of their own, a call costs as much again. */
static uint64_t header_sum(const uint8_t *p, uint32_t n)
{
    uint32_t w[IP4_BYTES / 4];
    memcpy(w, p, sizeof w);
    uint64_t sum = (uint64_t)w[0] + w[1] + w[2] + w[3] + w[4];
    return n == IP4_BYTES ? sum : sum_add(sum, p + IP4_BYTES, n - IP4_BYTES);
}

static int header_check(const uint8_t *p, uint32_t n, uint16_t flags)
{
    if (n < IP4_BYTES)
        return STAT_DROP_SHORT;
    uint32_t header = (p[0] & 15u) * 4, total = be16_get(p + 2);
    if (p[0] >> 4 != 4 || header < IP4_BYTES || header > total)
        return STAT_DROP_IP_HEADER;
    if (total > n)
        return STAT_DROP_SHORT;
    if ((flags & FRAME_IP_BAD) || (!(flags & FRAME_IP_GOOD) && !sum_good(header_sum(p, header))))
        return STAT_DROP_IP_SUM;
    if (!options_fine(p + IP4_BYTES, header - IP4_BYTES))
        return STAT_DROP_IP_HEADER;
    return be16_get(p + 6) & FRAGMENT_MASK ? STAT_DROP_IP_FRAGMENT : 0;
}

int ip4_parse(struct ip *ip, const struct ether *e, struct frame *f, struct ip_in *in_r)
{
    uint8_t *p = e->l3;
    int drop = header_check(p, e->l3_n, f->flags);
    if (drop)
        return drop;
    uint32_t header = (p[0] & 15u) * 4, total = be16_get(p + 2);
    struct ip_packet k = {.src = ip4_addr_at(p + 12), .dst = ip4_addr_at(p + 16), .frame = f};
    int local = ours_find(ip, &k.dst);
    if (local < 0 || !ours_ready(&ip->ours[local]))
        return STAT_DROP_IP_ADDRESS;
    if (!ip_source_valid(ip, &k.src))
        return STAT_DROP_BOGON;
    k.l4 = p + header;
    k.l4_n = total - header;
    k.local = (uint8_t)local;
    k.proto = p[9];
    k.ecn = p[1] & 3;
    k.hops = p[8];
    *in_r = (struct ip_in){.p = k, .mac = e->src};
    return 0;
}

/* ID 0: what may not be fragmented needs none (RFC 6864 4.1). */
void ip4_push(struct ip *ip, struct frame *f, const struct ip_addr *src, const struct ip_addr *dst, uint8_t proto,
              uint8_t ecn)
{
    uint8_t *p = frame_push(f, IP4_BYTES);
    p[0] = 0x45;
    p[1] = ecn & 3;
    be16_put(p + 2, (uint16_t)f->n);
    be16_put(p + 4, 0);
    be16_put(p + 6, DONT_FRAGMENT);
    p[8] = ip_ttl(ip);
    p[9] = proto;
    be16_put(p + 10, 0);
    memcpy(p + 12, &src->w[3], 4);
    memcpy(p + 16, &dst->w[3], 4);
    f->l3 = 0;
    f->l4 = IP4_BYTES;
    if (ip->cfg.tx_ip_sum) {
        f->flags |= FRAME_TX_IP_SUM;
        return;
    }
    uint16_t sum = sum_field(header_sum(p, IP4_BYTES));
    memcpy(p + 10, &sum, sizeof sum);
}
