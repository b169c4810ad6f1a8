/* build.c - frames that peers send. */
#include "tests/pkt/build.h"

#include <stdlib.h>

enum { FRONT_ROOM = 4096 }; /* for headers; extension headers are the longest */

/* The packet grows to the front, as the stack's own do. */
struct bytes {
    uint8_t *p;
    uint32_t n;
};

static uint8_t *push(struct bytes *b, uint32_t n)
{
    b->p -= n;
    b->n += n;
    memset(b->p, 0, n);
    return b->p;
}

static uint8_t *push_copy(struct bytes *b, const void *p, uint32_t n)
{
    push(b, n);
    if (n > 0)
        memcpy(b->p, p, n);
    return b->p;
}

/* ---- transport */

static void payload(struct bytes *b, const struct spec *s)
{
    uint8_t *p = push(b, s->payload_n);
    for (uint32_t i = 0; i < s->payload_n; i++)
        p[i] = s->junk ? '!' : peer_byte(s->payload_rel + i);
}

static void tcp(struct bytes *b, const struct spec *s)
{
    uint32_t padded = (s->opts_n + 3) & ~3u;
    payload(b, s);
    push(b, padded - s->opts_n);
    push_copy(b, s->opts, s->opts_n);
    uint8_t *p = push(b, WIRE_TCP);
    put16(p, s->sport);
    put16(p + 2, s->dport);
    put32(p + 4, s->seq);
    put32(p + 8, s->ack);
    p[12] = (uint8_t)((s->has_doff ? s->doff : (WIRE_TCP + padded) / 4) << 4);
    p[13] = (uint8_t)s->flags_tcp;
    put16(p + 14, s->wnd);
    put16(p + 18, s->urg);
    uint32_t sum = ~wire_sum(wire_pseudo_sum(&s->src, &s->dst, PROTO_TCP, b->n), p, b->n) & 0xffff;
    put16(p + 16, s->zero_sum ? 0 : s->bad_sum ? sum ^ 0x1000 : sum);
}

static void icmp(struct bytes *b, const struct spec *s)
{
    push_copy(b, s->body, s->body_n);
    uint8_t *p = push(b, 8);
    p[0] = s->type;
    p[1] = s->code;
    memcpy(p + 4, s->rest, 4);
    uint32_t pseudo = ip_addr_is4(&s->dst) ? 0 : wire_pseudo_sum(&s->src, &s->dst, PROTO_ICMP6, b->n);
    put16(p + 2, (~wire_sum(pseudo, p, b->n) & 0xffff) ^ (s->bad_sum ? 0x0100 : 0));
}

static void ndp(struct bytes *b, const struct spec *s)
{
    push_copy(b, s->body, s->body_n);
    if (!s->no_mac_option) {
        uint8_t *o = push(b, 8);
        o[0] = s->type == 135 ? 1 : 2;
        o[1] = 1;
        memcpy(o + 2, s->mac, 6);
    }
    push_copy(b, s->target.b, 16);
    uint8_t *p = push(b, 8);
    p[0] = s->type;
    p[1] = s->code;
    put32(p + 4, s->na_flags);
    uint32_t sum = wire_sum(wire_pseudo_sum(&s->src, &s->dst, PROTO_ICMP6, b->n), p, b->n);
    put16(p + 2, (~sum & 0xffff) ^ (s->bad_sum ? 0x0100 : 0));
}

static void arp(struct bytes *b, const struct spec *s)
{
    uint8_t *p = push(b, 28);
    memcpy(p, (uint8_t[]){0, 1, 8, 0, 6, 4, 0, s->type}, 8);
    memcpy(p + 8, s->mac, 6);
    memcpy(p + 14, s->sender.b + 12, 4);
    memcpy(p + 24, s->target.b + 12, 4);
}

/* ---- IP */

/* What a fragment carries of the packet. */
static void cut_fragment(struct bytes *b, const struct spec *s)
{
    uint32_t at = s->frag_at < b->n ? s->frag_at : b->n;
    b->p += at;
    b->n -= at;
}

static void ip4(struct bytes *b, const struct spec *s, uint8_t proto)
{
    if (s->frag)
        cut_fragment(b, s);
    push_copy(b, s->options, s->options_n);
    uint8_t *p = push(b, WIRE_IP4);
    uint8_t ihl = s->has_ihl ? s->ihl : (uint8_t)((WIRE_IP4 + s->options_n) / 4);
    p[0] = (uint8_t)((s->has_version ? s->version : 4) << 4 | ihl);
    p[1] = s->tos;
    put16(p + 2, (uint32_t)((int)b->n + s->ip_extra));
    put16(p + 4, 0x1234);
    put16(p + 6, s->frag ? s->frag_at / 8 | (s->more ? 0x2000 : 0) : 0x4000);
    p[8] = s->ttl ? s->ttl : 64;
    p[9] = s->proto ? s->proto : proto;
    memcpy(p + 12, s->src.b + 12, 4);
    memcpy(p + 16, s->dst.b + 12, 4);
    uint32_t n = 4u * ihl < b->n ? 4u * ihl : b->n;
    put16(p + 10, (~wire_sum(0, p, n) & 0xffff) ^ (s->bad_ip_sum ? 0x0100 : 0));
}

static uint8_t extensions(struct bytes *b, const struct spec *s, uint8_t next)
{
    if (s->frag) {
        cut_fragment(b, s);
        uint8_t *p = push(b, 8);
        p[0] = next;
        put16(p + 2, (s->frag_at & ~7u) | (s->more ? 1 : 0));
        put32(p + 4, 0x12345678);
        next = 44;
    }
    for (unsigned i = s->ext_n; i-- > 0;) {
        push_copy(b, s->ext[i].body, s->ext[i].n);
        push(b, 1)[0] = next;
        next = s->ext[i].type;
    }
    return next;
}

static void ip6(struct bytes *b, const struct spec *s, uint8_t proto)
{
    uint8_t next = extensions(b, s, s->proto ? s->proto : proto);
    uint32_t n = b->n;
    uint8_t *p = push(b, WIRE_IP6);
    p[0] = (uint8_t)((s->has_version ? s->version : 6) << 4 | s->tos >> 4);
    p[1] = (uint8_t)(s->tos << 4);
    put16(p + 4, (uint32_t)((int)n + s->ip_extra));
    p[6] = next;
    p[7] = s->ttl ? s->ttl : 64;
    memcpy(p + 8, s->src.b, 16);
    memcpy(p + 24, s->dst.b, 16);
}

/* ---- Ethernet */

static void ether(const struct world *w, struct bytes *b, const struct spec *s, uint16_t type)
{
    int vlan = s->vlan == SPEC_DEFAULT ? w->vlan : s->vlan;
    if (vlan >= 0 && !s->vlan_taken_off) {
        uint8_t *tag = push(b, WIRE_TAG);
        put16(tag, (uint32_t)vlan);
        put16(tag + 2, s->ethertype ? s->ethertype : type);
        type = ETHER_TAG;
    } else if (s->ethertype) {
        type = s->ethertype;
    }
    uint8_t *p = push(b, WIRE_ETHER), mac[6];
    world_mac(HOST_US, mac);
    memcpy(p, s->has_dmac ? s->dmac : mac, 6);
    world_mac(10, mac);
    memcpy(p + 6, s->has_smac ? s->smac : mac, 6);
    put16(p + 12, type);
}

/* Returns the protocol, by IPv4's numbers or IPv6's. */
static uint8_t transport(struct bytes *b, const struct spec *s, bool v4)
{
    if (s->kind == PKT_TCP) {
        tcp(b, s);
        return PROTO_TCP;
    }
    if (s->kind == PKT_ICMP)
        icmp(b, s);
    else
        ndp(b, s);
    return v4 ? PROTO_ICMP : PROTO_ICMP6;
}

static void whole(const struct world *w, struct bytes *b, const struct spec *s)
{
    if (s->kind == PKT_OTHER) {
        push_copy(b, s->raw, s->raw_n);
        return;
    }
    if (s->kind == PKT_ARP) {
        arp(b, s);
        return ether(w, b, s, ETHER_ARP);
    }
    bool v4 = ip_addr_is4(&s->dst);
    uint8_t proto = transport(b, s, v4);
    if (v4)
        ip4(b, s, proto);
    else
        ip6(b, s, proto);
    ether(w, b, s, v4 ? ETHER_IP4 : ETHER_IP6);
}

void build_send(struct world *w, const struct spec *s)
{
    uint32_t n = FRONT_ROOM + s->payload_n + s->body_n + s->raw_n;
    uint8_t *room = malloc(n + s->pad);
    struct bytes b = {room + n, 0};
    memset(room + n, 0, s->pad);
    whole(w, &b, s);
    int vlan = s->vlan == SPEC_DEFAULT ? w->vlan : s->vlan;
    bool off = s->vlan_taken_off && vlan >= 0;
    uint16_t flags = (uint16_t)(s->flags | (off ? FRAME_VLAN : 0));
    if (w->variant.truncated)
        world_truncations(w, b.p, b.n);
    n = s->has_truncate && s->truncate < b.n + s->pad ? s->truncate : b.n + s->pad;
    world_frame(w, b.p, n, flags, off ? (uint16_t)vlan : 0);
    free(room);
}

uint32_t build_quote(uint8_t *out, const struct ip_addr *src, const struct ip_addr *dst, uint16_t sport, uint16_t dport,
                     uint32_t seq, uint32_t tcp_n)
{
    struct spec q = {.kind = PKT_TCP, .src = *src, .dst = *dst, .sport = sport, .dport = dport, .seq = seq};
    uint8_t *room = calloc(1, 8192);
    struct bytes b = {room + 4096, 0};
    q.payload_n = 1460; /* as large as the link takes: what was too big was larger than what is said to fit */
    q.flags_tcp = F_ACK;
    tcp(&b, &q);
    if (ip_addr_is4(dst))
        ip4(&b, &q, PROTO_TCP);
    else
        ip6(&b, &q, PROTO_TCP);
    uint32_t n = (ip_addr_is4(dst) ? WIRE_IP4 : WIRE_IP6) + tcp_n;
    memcpy(out, b.p, n < b.n ? n : b.n);
    free(room);
    return n < b.n ? n : b.n;
}
