/* icmp.c - ICMP (RFC 792, RFC 1122 3.2.2) and ICMPv6 (RFC 4443): echo, and errors about our segments.
 *
 *   0 type | 1 code | 2 checksum | 4 echo: identifier, sequence; too big: MTU (IPv4: from 6) | 8 echo's data, or the
 *   packet that the error is about
 *
 * Errors are looked at as far as IP can: the quoted packet is TCP from the address to which the error came, whole up to
 * its sequence number, and a too-big report names less than what was sent.  Source quench (RFC 6633), redirects and
 * everything else is dropped.  No errors are sent. */
#include "dataplane/tcp/guard.h"
#include "dataplane/tcp/ip_impl.h"
#include "dataplane/tcp/sum.h"

#define ICMP_BYTES 8u
#define TCP_QUOTED 8u /* ports and sequence number */

enum {
    ICMP4_ECHO_REPLY = 0,
    ICMP4_UNREACHABLE = 3,
    ICMP4_ECHO = 8,
    ICMP4_TIME_EXCEEDED = 11,
    ICMP4_PARAMETER = 12,
    ICMP4_TOO_BIG = 4, /* a code of UNREACHABLE */
    ICMP6_UNREACHABLE = 1,
    ICMP6_TOO_BIG = 2,
    ICMP6_TIME_EXCEEDED = 3,
    ICMP6_PARAMETER = 4,
    ICMP6_ECHO = 128,
    ICMP6_ECHO_REPLY = 129,
    ICMP6_LISTENER_QUERY = 130,
    ICMP6_ROUTER_SOLICIT = 133,
    ICMP6_NEIGHBOUR_SOLICIT = 135,
    ICMP6_NEIGHBOUR_ADVERTISE = 136,
    ICMP6_REDIRECT = 137
};

#define BIT(n) (1u << (n))
/* Codes of "unreachable" that are final: protocol, port; administratively (RFC 1122 4.2.3.9, RFC 1812 5.2.7.1). */
#define HARD4 (BIT(2) | BIT(3) | BIT(9) | BIT(10) | BIT(13))
/* Administratively, port, source policy, reject route (RFC 4443 3.1). */
#define HARD6 (BIT(1) | BIT(4) | BIT(5) | BIT(6))

/* ---- echo */

static bool echo_allowed(struct ip *ip, const struct ip_packet *k, uint64_t now_us)
{
    if (ip->guard && guard_stranger(ip->guard, &k->src) != GUARD_PASS)
        return false; /* counted there */
    if (ip->cfg.echo_per_s && bucket_take(&ip->echo_rate, &ip->echo_full_ns, now_us) &&
        (!ip->guard || guard_answer(ip->guard, now_us)))
        return true;
    ip_drop(ip, STAT_DROP_ICMP_LIMIT);
    return false;
}

/* The request, returned: type and addresses turned. */
static void echo_answer(struct ip *ip, const struct ip_packet *k, uint64_t now_us)
{
    struct frame f;
    bool is4 = ip_addr_is4(&k->src);
    const struct ip_addr *ours = &ip->ours[k->local].prefix.addr;
    if (k->l4_n + (is4 ? IP4_BYTES : IP6_BYTES) > ip_mtu(ip, &k->src, now_us)) {
        ip_drop(ip, STAT_DROP_ICMP);
        return;
    }
    if (!echo_allowed(ip, k, now_us) || !ip_frame(ip, &f))
        return;
    if (k->l4_n > f.room) {
        ip->pool.drop(ip->pool.ctx, &f);
        ip_drop(ip, STAT_DROP_ICMP);
        return;
    }
    f.n = k->l4_n;
    memcpy(f.p, k->l4, k->l4_n);
    f.p[0] = is4 ? ICMP4_ECHO_REPLY : ICMP6_ECHO_REPLY;
    memset(f.p + 2, 0, 2);
    uint16_t sum = sum_field(sum_add(is4 ? 0 : sum_pseudo(ours, &k->src, IP_PROTO_ICMP6, f.n), f.p, f.n));
    memcpy(f.p + 2, &sum, sizeof sum);
    if (is4)
        ip4_push(ip, &f, ours, &k->src, IP_PROTO_ICMP4, 0);
    else
        ip6_push(&f, ours, &k->src, IP_PROTO_ICMP6, 0, ip_ttl(ip));
    stat_add(ip->stats, STAT_ECHO_OUT, 1);
    ip_send(ip, &f, &k->src, k->local, now_us);
}

static int echo_input(struct ip *ip, const struct ip_in *in, uint64_t now_us)
{
    if (in->multicast || in->p.l4[1] != 0)
        return ip_drop_shared(ip, STAT_DROP_ICMP);
    if (!ip->cfg.quiet)
        echo_answer(ip, &in->p, now_us);
    return 0;
}

/* ---- errors */

/* What was quoted: from our address to the peer, TCP, its IP packet of so many bytes. */
struct quote {
    struct ip_addr src, dst;
    const uint8_t *tcp;
    uint32_t packet_n;
};

static bool quote4(const uint8_t *p, uint32_t n, struct quote *q_r)
{
    if (n < IP4_BYTES || p[0] >> 4 != 4)
        return false;
    uint32_t header = (p[0] & 15u) * 4, w[2];
    *q_r = (struct quote){.packet_n = be16_get(p + 2), .tcp = p + header};
    if (header < IP4_BYTES || n < header + TCP_QUOTED || q_r->packet_n < header + TCP_QUOTED || p[9] != IP_PROTO_TCP ||
        (be16_get(p + 6) & 0x1fff))
        return false;
    memcpy(w, p + 12, sizeof w);
    q_r->src = ip_addr_of4(w[0]);
    q_r->dst = ip_addr_of4(w[1]);
    return true;
}

/* We send no extension headers. */
static bool quote6(const uint8_t *p, uint32_t n, struct quote *q_r)
{
    if (n < IP6_BYTES + TCP_QUOTED || p[0] >> 4 != 6 || p[6] != IP_PROTO_TCP || be16_get(p + 4) < TCP_QUOTED)
        return false;
    *q_r = (struct quote){.packet_n = IP6_BYTES + be16_get(p + 4), .tcp = p + IP6_BYTES};
    memcpy(&q_r->src, p + 8, 16);
    memcpy(&q_r->dst, p + 24, 16);
    return true;
}

/* An MTU in the message, held against what was sent; 0: it makes no sense. */
static uint16_t mtu_of(uint32_t said, const struct quote *q)
{
    uint32_t least = path_floor(&q->dst), mtu = said < least ? least : said;
    return mtu < q->packet_n ? (uint16_t)mtu : 0;
}

static int error_input(struct ip *ip, const struct ip_in *in, bool hard, bool too_big, uint32_t mtu,
                       struct ip_error *e_r)
{
    const struct ip_packet *k = &in->p;
    struct quote q;
    bool is4 = ip_addr_is4(&k->dst);
    if (in->multicast || !(is4 ? quote4 : quote6)(k->l4 + ICMP_BYTES, k->l4_n - ICMP_BYTES, &q) ||
        !ip_addr_eq(&q.src, &k->dst) || !ip_source_valid(ip, &q.dst))
        return ip_drop_shared(ip, STAT_DROP_ICMP);
    *e_r = (struct ip_error){.dst = q.dst, .local = k->local, .hard = hard};
    e_r->sport = be16_get(q.tcp);
    e_r->dport = be16_get(q.tcp + 2);
    e_r->seq = be32_get(q.tcp + 4);
    if (too_big) {
        e_r->mtu = mtu_of(mtu, &q);
        if (e_r->mtu == 0)
            return ip_drop_shared(ip, STAT_DROP_ICMP);
    }
    return 2;
}

/* ---- each version */

static bool sum_fine(const struct ip_packet *k, bool is4)
{
    return !(k->frame->flags & FRAME_L4_BAD) && k->l4_n >= ICMP_BYTES &&
           sum_good(sum_add(is4 ? 0 : sum_pseudo(&k->src, &k->dst, IP_PROTO_ICMP6, k->l4_n), k->l4, k->l4_n));
}

int icmp4_input(struct ip *ip, const struct ip_in *in, uint64_t now_us, struct ip_error *e_r)
{
    const uint8_t *p = in->p.l4;
    if (!sum_fine(&in->p, true))
        return ip_drop_shared(ip, STAT_DROP_ICMP);
    switch (p[0]) {
    case ICMP4_ECHO:
        return echo_input(ip, in, now_us);
    case ICMP4_UNREACHABLE:
        return error_input(ip, in, p[1] < 32 && (HARD4 & BIT(p[1])), p[1] == ICMP4_TOO_BIG, be16_get(p + 6), e_r);
    case ICMP4_TIME_EXCEEDED:
    case ICMP4_PARAMETER:
        return error_input(ip, in, false, false, 0, e_r);
    default:
        return ip_drop_shared(ip, STAT_DROP_ICMP);
    }
}

int icmp6_input(struct ip *ip, const struct ip_in *in, uint64_t now_us, struct ip_error *e_r)
{
    const uint8_t *p = in->p.l4;
    if (!sum_fine(&in->p, false))
        return ip_drop_shared(ip, STAT_DROP_ICMP);
    switch (p[0]) {
    case ICMP6_ECHO:
        return echo_input(ip, in, now_us);
    case ICMP6_UNREACHABLE:
        return error_input(ip, in, p[1] < 32 && (HARD6 & BIT(p[1])), false, 0, e_r);
    case ICMP6_TOO_BIG:
        return error_input(ip, in, false, true, be32_get(p + 4), e_r);
    case ICMP6_TIME_EXCEEDED:
        return error_input(ip, in, false, false, 0, e_r);
    case ICMP6_PARAMETER: /* code 1: they know no TCP (RFC 4443 3.4) */
        return error_input(ip, in, p[1] == 1, false, 0, e_r);
    case ICMP6_LISTENER_QUERY:
        return mld_query(ip, in, now_us) ? 0 : ip_drop_shared(ip, STAT_DROP_ICMP);
    case ICMP6_NEIGHBOUR_SOLICIT:
    case ICMP6_NEIGHBOUR_ADVERTISE:
        ndp_input(ip, in, now_us);
        return 0;
    default:
        return ip_drop_shared(ip,
                              p[0] >= ICMP6_ROUTER_SOLICIT && p[0] <= ICMP6_REDIRECT ? STAT_DROP_NDP : STAT_DROP_ICMP);
    }
}
