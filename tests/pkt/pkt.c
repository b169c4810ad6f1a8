/* pkt.c - frames taken apart, strictly: the stack must not send what does not hold here. */
#include "tests/pkt/pkt.h"
#include "tests/pkt/peer.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>

struct cut {
    const uint8_t *p;
    uint32_t n;
    char *why;
};

__attribute__((format(printf, 2, 3))) static bool wrong(struct cut *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->why, 256, fmt, ap);
    va_end(ap);
    return false;
}

static void skip(struct cut *c, uint32_t n)
{
    c->p += n;
    c->n -= n;
}

/* ---- TCP */

static bool option(struct pkt *k, struct cut *c, const uint8_t *o, uint8_t n)
{
    static const uint8_t lengths[] = {[2] = 4, [3] = 3, [4] = 2, [8] = 10};
    if (o[0] < sizeof lengths && lengths[o[0]] && lengths[o[0]] != n)
        return wrong(c, "TCP option %u has length %u", o[0], n);
    switch (o[0]) {
    case 2:
        k->has_mss = true;
        k->mss = get16(o + 2);
        return true;
    case 3:
        k->has_ws = true;
        k->ws = o[2];
        return o[2] <= 14 || wrong(c, "window scale %u", o[2]);
    case 4:
        k->sackok = true;
        return true;
    case 5:
        if ((n - 2) % 8 || n < 10 || n > 34)
            return wrong(c, "SACK option has length %u", n);
        for (k->sack_n = 0; k->sack_n < (n - 2) / 8; k->sack_n++) {
            k->sack[k->sack_n][0] = get32(o + 2 + 8 * k->sack_n);
            k->sack[k->sack_n][1] = get32(o + 6 + 8 * k->sack_n);
        }
        return true;
    case 8:
        k->has_ts = true;
        k->ts_val = get32(o + 2);
        k->ts_ecr = get32(o + 6);
        return true;
    default:
        return wrong(c, "TCP option %u is not ours to send", o[0]);
    }
}

static bool options(struct pkt *k, struct cut *c, const uint8_t *o, uint32_t n)
{
    for (uint32_t i = 0; i < n && o[i] != 0;) {
        if (o[i] == 1) {
            i++;
            continue;
        }
        if (i + 1 >= n || o[i + 1] < 2 || i + o[i + 1] > n)
            return wrong(c, "TCP option %u does not fit", o[i]);
        if (!option(k, c, o + i, o[i + 1]))
            return false;
        i += o[i + 1];
    }
    return true;
}

static bool tcp(struct pkt *k, struct cut *c)
{
    k->kind = PKT_TCP;
    if (c->n < WIRE_TCP)
        return wrong(c, "TCP header cut off");
    if (wire_sum(wire_pseudo_sum(&k->src, &k->dst, PROTO_TCP, c->n), c->p, c->n) != 0xffff)
        return wrong(c, "TCP checksum is wrong");
    uint32_t head = 4u * (c->p[12] >> 4);
    if (head < WIRE_TCP || head > c->n)
        return wrong(c, "TCP data offset %u of %u bytes", head, c->n);
    if (c->p[12] & 15)
        return wrong(c, "reserved bits of the TCP header are set");
    k->sport = get16(c->p);
    k->dport = get16(c->p + 2);
    k->seq = get32(c->p + 4);
    k->ack = get32(c->p + 8);
    k->flags = c->p[13];
    k->wnd = get16(c->p + 14);
    k->urg = get16(c->p + 18);
    const uint8_t *o = c->p + WIRE_TCP;
    skip(c, head);
    k->data = c->p;
    k->n = c->n;
    return options(k, c, o, head - WIRE_TCP);
}

/* ---- ICMP, neighbour discovery, ARP */

static bool neighbour6(struct pkt *k, struct cut *c)
{
    k->kind = PKT_NDP;
    if (c->n < 24)
        return wrong(c, "NDP cut off");
    if (k->ttl != 255)
        return wrong(c, "NDP with hop limit %u (RFC 4861 wants 255)", k->ttl);
    memcpy(k->target.b, c->p + 8, 16);
    k->na_flags = get32(c->p + 4);
    skip(c, 24);
    for (; c->n >= 8; skip(c, 8u * c->p[1])) {
        if (c->p[1] == 0 || 8u * c->p[1] > c->n)
            return wrong(c, "NDP option of length %u", c->p[1]);
        if (c->p[0] == 1 || c->p[0] == 2) {
            k->has_option_mac = true;
            memcpy(k->option_mac, c->p + 2, 6);
        }
    }
    return c->n == 0 || wrong(c, "NDP option cut off");
}

static bool icmp(struct pkt *k, struct cut *c)
{
    k->kind = PKT_ICMP;
    if (c->n < 8)
        return wrong(c, "ICMP cut off");
    uint32_t sum = k->v6 ? wire_pseudo_sum(&k->src, &k->dst, PROTO_ICMP6, c->n) : 0;
    if (wire_sum(sum, c->p, c->n) != 0xffff)
        return wrong(c, "ICMP checksum is wrong");
    k->type = c->p[0];
    k->code = c->p[1];
    if (k->v6 && (k->type == 135 || k->type == 136))
        return neighbour6(k, c);
    k->id = get16(c->p + 4);
    k->number = get16(c->p + 6);
    skip(c, 8);
    k->data = c->p;
    k->n = c->n;
    return true;
}

static bool arp(struct pkt *k, struct cut *c)
{
    static const uint8_t head[6] = {0, 1, 8, 0, 6, 4};
    uint32_t w;
    k->kind = PKT_ARP;
    if (c->n < 28 || memcmp(c->p, head, 6) != 0)
        return wrong(c, "ARP malformed");
    k->type = c->p[7];
    memcpy(&w, c->p + 14, 4);
    k->sender = ip_addr_of4(w);
    memcpy(&w, c->p + 24, 4);
    k->target = ip_addr_of4(w);
    memcpy(k->option_mac, c->p + 8, 6);
    return memcmp(c->p + 8, k->smac, 6) == 0 || wrong(c, "ARP speaks for another MAC");
}

/* ---- IP, Ethernet */

static bool ip4(struct pkt *k, struct cut *c)
{
    uint32_t w;
    if (c->n < WIRE_IP4 || c->p[0] != 0x45)
        return wrong(c, "IPv4 header malformed");
    if (get16(c->p + 2) != c->n)
        return wrong(c, "IPv4 length %u of %u bytes", get16(c->p + 2), c->n);
    if (wire_sum(0, c->p, WIRE_IP4) != 0xffff)
        return wrong(c, "IPv4 header checksum is wrong");
    if (get16(c->p + 6) & 0xbfff)
        return wrong(c, "an IPv4 fragment");
    k->df = get16(c->p + 6) & 0x4000;
    k->tos = c->p[1];
    k->ttl = c->p[8];
    memcpy(&w, c->p + 12, 4);
    k->src = ip_addr_of4(w);
    memcpy(&w, c->p + 16, 4);
    k->dst = ip_addr_of4(w);
    k->ip_n = c->n;
    uint8_t proto = c->p[9];
    skip(c, WIRE_IP4);
    return proto == PROTO_TCP ? tcp(k, c) : proto == PROTO_ICMP ? icmp(k, c) : wrong(c, "protocol %u", proto);
}

/* The one place where we send an extension header: a report of groups, with a router alert (RFC 3810 5). */
static bool report6(struct pkt *k, struct cut *c)
{
    static const uint8_t alert[8] = {PROTO_ICMP6, 0, 5, 2, 0, 0, 1, 0};
    if (c->n < sizeof alert + 8 || memcmp(c->p, alert, sizeof alert) != 0)
        return wrong(c, "hop-by-hop options that are no router alert");
    skip(c, sizeof alert);
    if (k->ttl != 1 || c->p[0] != 143)
        return wrong(c, "a router alert, but hop limit %u and type %u", k->ttl, c->p[0]);
    return icmp(k, c);
}

static bool ip6(struct pkt *k, struct cut *c)
{
    if (c->n < WIRE_IP6 || c->p[0] >> 4 != 6)
        return wrong(c, "IPv6 header malformed");
    if (get16(c->p + 4) != c->n - WIRE_IP6)
        return wrong(c, "IPv6 length %u of %u bytes", get16(c->p + 4), c->n - WIRE_IP6);
    k->v6 = true;
    k->tos = (uint8_t)(get16(c->p) >> 4);
    k->ttl = c->p[7];
    memcpy(k->src.b, c->p + 8, 16);
    memcpy(k->dst.b, c->p + 24, 16);
    k->ip_n = c->n;
    uint8_t proto = c->p[6];
    skip(c, WIRE_IP6);
    if (proto == 0)
        return report6(k, c);
    return proto == PROTO_TCP ? tcp(k, c) : proto == PROTO_ICMP6 ? icmp(k, c) : wrong(c, "next header %u", proto);
}

bool pkt_decode(struct pkt *k, const uint8_t *p, uint32_t n, char *why_r)
{
    struct cut c = {p, n, why_r};
    *k = (struct pkt){.vlan = -1};
    if (n < WIRE_ETHER)
        return wrong(&c, "Ethernet header cut off");
    memcpy(k->dmac, p, 6);
    memcpy(k->smac, p + 6, 6);
    uint16_t type = get16(p + 12);
    skip(&c, WIRE_ETHER);
    if (type == ETHER_TAG && n >= WIRE_ETHER + WIRE_TAG) {
        k->vlan = get16(c.p) & 0xfff;
        type = get16(c.p + 2);
        skip(&c, WIRE_TAG);
    }
    switch (type) {
    case ETHER_IP4:
        return ip4(k, &c) && (k->ttl > 0 || wrong(&c, "TTL 0"));
    case ETHER_IP6:
        return ip6(k, &c) && (k->ttl > 0 || wrong(&c, "hop limit 0"));
    case ETHER_ARP:
        return arp(k, &c);
    default:
        return wrong(&c, "EtherType %04x", type);
    }
}

/* ---- for people */

struct text {
    char *p;
    size_t n, room;
};

__attribute__((format(printf, 2, 3))) static void say(struct text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(t->p + t->n, t->room - t->n, fmt, ap);
    va_end(ap);
    if (n > 0)
        t->n = t->n + (size_t)n < t->room ? t->n + (size_t)n : t->room - 1;
}

static void say_addr(struct text *t, const struct ip_addr *a)
{
    char s[INET6_ADDRSTRLEN];
    if (ip_addr_is4(a))
        inet_ntop(AF_INET, &a->w[3], s, sizeof s);
    else
        inet_ntop(AF_INET6, a->b, s, sizeof s);
    say(t, " %s", s);
}

static void say_tcp(struct text *t, const struct pkt *k, const struct peer *c, bool ours)
{
    static const char letters[] = "FSRP.UEW";
    uint32_t mine = !c ? 0 : ours ? c->our_isn : c->isn, others = !c ? 0 : ours ? c->isn : c->our_isn;
    for (int i = 0; i < 8; i++)
        if (k->flags & 1 << i)
            say(t, "%c", letters[i]);
    if (!k->flags)
        say(t, "-");
    uint32_t seq = k->seq - mine;
    say(t, " %d:%d(%u)", (int32_t)seq, (int32_t)(seq + k->n), k->n);
    if (k->flags & F_ACK)
        say(t, " ack %d", (int32_t)(k->ack - others));
    uint8_t ws = c && c->ws_on && !(k->flags & F_SYN) ? (ours ? c->ws_ours : c->ws_peers) : 0;
    say(t, " win %u", (uint32_t)k->wnd << ws);
    if (k->has_mss)
        say(t, " mss %u", k->mss);
    if (k->sackok)
        say(t, " sackok");
    if (k->has_ws)
        say(t, " wscale %u", k->ws);
    if (k->has_ts)
        say(t, " ts %u %u", k->ts_val, k->ts_ecr);
    for (int i = 0; i < k->sack_n; i++)
        say(t, "%s%d:%d", i ? " " : " sack ", (int32_t)(k->sack[i][0] - others), (int32_t)(k->sack[i][1] - others));
    if (k->urg)
        say(t, " urg %u", k->urg);
    if (k->tos & 3)
        say(t, " %s", (k->tos & 3) == 3 ? "ce" : (k->tos & 3) == 2 ? "ect0" : "ect1");
}

void pkt_text(const struct pkt *k, const struct peer *c, bool ours, char *out, size_t room)
{
    struct text t = {out, 0, room};
    *out = 0;
    if (c && c->name[0] && strcmp(c->name, "a") != 0)
        say(&t, "@%s ", c->name);
    switch (k->kind) {
    case PKT_TCP:
        say_tcp(&t, k, c, ours);
        break;
    case PKT_ICMP:
        say(&t, "icmp type %u code %u id %u number %u (%u)", k->type, k->code, k->id, k->number, k->n);
        break;
    case PKT_ARP:
        say(&t, "arp %s for", k->type == 1 ? "request" : "reply");
        say_addr(&t, &k->target);
        say(&t, " from");
        say_addr(&t, &k->sender);
        break;
    case PKT_NDP:
        say(&t, "ndp %s for", k->type == 135 ? "solicit" : "advert");
        say_addr(&t, &k->target);
        say(&t, " from");
        say_addr(&t, &k->src);
        say(&t, " to");
        say_addr(&t, &k->dst);
        break;
    default:
        say(&t, "a frame of no known kind");
    }
}
