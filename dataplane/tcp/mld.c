/* mld.c - telling switches which groups we listen to (MLDv2, RFC 3810), without which those that look into MLD (RFC
 * 4541) would not bring us solicitations for our addresses: NDP rests on these groups (RFC 4861 7.2.1).
 *
 * A report when addresses are probed and announced, and one after each query, within the time that the query allows.
 * Reports name all groups; queries are not told apart, and queriers of version 1 get version 2.
 *
 *   report: 0 type 143 | 2 checksum | 6 number of records | 8 records of 20 bytes: type, 0, no sources, group
 *   query:  0 type 130 | 4 maximum response code */
#include "dataplane/tcp/ip_impl.h"
#include "dataplane/tcp/sum.h"

#define REPORT_BYTES  8u
#define RECORD_BYTES  20u
#define QUERY_BYTES   24u
#define DELAY_MAX_US  10000000u
#define REPORTER_HOPS 1u

enum { MLD_REPORT = 143, NEXT_HOP_BY_HOP = 0 };

/* Hop-by-hop options: a router alert for MLD (RFC 2711), padding; ICMPv6 follows. */
static const uint8_t router_alert[8] = {IP_PROTO_ICMP6, 0, 5, 2, 0, 0, 1, 0};

/* The link-local address once it may be used, nobody's before (RFC 3590). */
static struct ip_addr reporter(const struct ip *ip)
{
    for (int i = 0; i < ip->ours_n; i++)
        if (ip_addr_is_link_local6(&ip->ours[i].prefix.addr) && ours_ready(&ip->ours[i]))
            return ip->ours[i].prefix.addr;
    return (struct ip_addr){0};
}

/* The records at p, in pairs of equal groups the first alone; returns how many. */
static uint16_t records_put(const struct ip *ip, uint8_t *p, enum mld_record type)
{
    uint16_t n = 0;
    for (int i = 0; i < ip->ours_n; i++) {
        struct ip_addr group = ndp_group_of(&ip->ours[i].prefix.addr);
        bool again = ip_addr_is4(&ip->ours[i].prefix.addr);
        for (uint16_t k = 0; k < n; k++)
            again |= memcmp(p + k * RECORD_BYTES + 4, group.b, 16) == 0;
        if (again)
            continue;
        uint8_t *record = p + n++ * RECORD_BYTES;
        memset(record, 0, 4);
        record[0] = (uint8_t)type;
        memcpy(record + 4, group.b, 16);
    }
    return n;
}

void mld_report(struct ip *ip, enum mld_record type)
{
    static const struct ip_addr routers = {.b = {0xff, 2, [15] = 0x16}};
    static const uint8_t mac[6] = {0x33, 0x33, 0, 0, 0, 0x16};
    struct frame f;
    if (ip->cfg.quiet || !ip_frame(ip, &f))
        return;
    struct ip_addr src = reporter(ip);
    uint8_t *p = f.p;
    memset(p, 0, REPORT_BYTES);
    p[0] = MLD_REPORT;
    uint16_t n = records_put(ip, p + REPORT_BYTES, type);
    be16_put(p + 6, n);
    f.n = REPORT_BYTES + n * RECORD_BYTES;
    uint16_t sum = sum_field(sum_add(sum_pseudo(&src, &routers, IP_PROTO_ICMP6, f.n), p, f.n));
    memcpy(p + 2, &sum, sizeof sum);
    memcpy(frame_push(&f, sizeof router_alert), router_alert, sizeof router_alert);
    ip6_push(&f, &src, &routers, NEXT_HOP_BY_HOP, 0, REPORTER_HOPS);
    ether_push(&ip->cfg, &f, mac, ETHER_IP6);
    ip->pool.send(ip->pool.ctx, &f);
}

/* RFC 3810 5.1.3: milliseconds, from 32768 on as mantissa and exponent. */
static uint64_t delay_us(uint16_t code)
{
    uint64_t ms = code < 32768 ? code : (uint64_t)((code & 0xfffu) | 0x1000) << ((code >> 12 & 7) + 3);
    return ms * 1000 < DELAY_MAX_US ? ms * 1000 : DELAY_MAX_US;
}

/* RFC 3810 6.2: from the link only.  A report that is due sooner answers this query too. */
bool mld_query(struct ip *ip, const struct ip_in *in, uint64_t now_us)
{
    if (in->p.hops != 1 || in->p.l4_n < QUERY_BYTES || !ip_addr_is_link_local6(&in->p.src))
        return false;
    uint64_t due_us = now_us + ip_draw(ip, delay_us(be16_get(in->p.l4 + 4)) + 1);
    if (due_us < ip->report_us && !ip->cfg.quiet)
        ip->report_us = due_us;
    return true;
}

void mld_tick(struct ip *ip, uint64_t now_us)
{
    if (now_us < ip->report_us)
        return;
    ip->report_us = UINT64_MAX;
    mld_report(ip, MLD_IS_EXCLUDE);
}
