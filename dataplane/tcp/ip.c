/* ip.c - IP of one port queue: a frame in, a packet out. */
#include "dataplane/tcp/guard.h"
#include "dataplane/tcp/ip_impl.h"
#include "dataplane/tcp/sum.h"
#include "spool/base/err.h"

#include <sodium.h>

#define TCP_SUM_AT 16u

/* ---- making */

static size_t rounded(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

size_t ip_bytes(const struct ip_config *cfg)
{
    return rounded(sizeof(struct ip)) + rounded(neigh_table_bytes(cfg->neighbours_max)) +
           rounded(path_table_bytes(cfg->paths_max));
}

static void ask(void *ctx, const struct neigh *e, bool everybody, uint64_t now_us);
static void leave(void *ctx, struct frame *f, const struct neigh *e);
static void cannot_leave(void *ctx, struct frame *f);

static void gateway_pin(struct ip *ip, const struct ip_addr *gateway)
{
    if (gateway->q[0] || gateway->q[1])
        neigh_pin(&ip->neigh, gateway);
}

int ip_init(struct ip **ip_r, void *mem, const struct ip_config *cfg, const struct frame_pool *pool,
            struct stats *stats, uint64_t now_us, char *why_r)
{
    int res = ip_config_check(cfg, why_r);
    if (res < 0)
        return res;
    struct ip *ip = mem;
    uint8_t *rest = (uint8_t *)mem + rounded(sizeof *ip);
    ip->cfg = *cfg;
    ip->pool = *pool;
    ip->stats = stats;
    ip->report_us = UINT64_MAX;
    ip->echo_rate = bucket_rate(cfg->echo_per_s, cfg->echo_per_s);
    neigh_table_init(&ip->neigh, rest, cfg->neighbours_max, cfg->key,
                     &(struct neigh_ops){.ask = ask, .send = leave, .drop = cannot_leave, .ctx = ip});
    rest += rounded(neigh_table_bytes(cfg->neighbours_max));
    path_table_init(&ip->paths, rest, cfg->paths_max, cfg->key);
    gateway_pin(ip, &cfg->gateway4);
    gateway_pin(ip, &cfg->gateway6);
    ours_init(ip, now_us);
    *ip_r = ip;
    return 0;
}

void ip_guard(struct ip *ip, struct guard *g)
{
    ip->guard = g;
}

uint64_t ip_draw(struct ip *ip, uint64_t n)
{
    uint64_t hash;
    ip->draws++;
    crypto_shorthash((uint8_t *)&hash, (const uint8_t *)&ip->draws, sizeof ip->draws, ip->cfg.key);
    return hash % n;
}

/* ---- in */

/* Of a network that is ours, the address that stands for all of its hosts; IPv4 only. */
static bool is_broadcast_of(const struct ip_prefix *p, const struct ip_addr *a)
{
    uint32_t hosts = ip_mask4_hosts(p->bits), w = be32toh(a->w[3]) & hosts;
    return hosts > 1 && (w == 0 || w == hosts) && ip_prefix_has(p, a);
}

static bool source4_valid(const struct ip *ip, const struct ip_addr *src)
{
    uint32_t w = be32toh(src->w[3]);
    if (w == 0 || w >> 24 == 127 || w >> 28 == 14 || w == UINT32_MAX)
        return false;
    for (int i = 0; i < ip->ours_n; i++) {
        const struct ip_prefix *p = &ip->ours[i].prefix;
        if (ip_addr_is4(&p->addr) && (ip_addr_eq(&p->addr, src) || is_broadcast_of(p, src)))
            return false;
    }
    return true;
}

bool ip_source_valid(const struct ip *ip, const struct ip_addr *src)
{
    if (ip_addr_is4(src))
        return source4_valid(ip, src);
    bool nobody_or_loopback = src->q[0] == 0 && be64toh(src->q[1]) <= 1;
    return src->b[0] != 0xff && !nobody_or_loopback && ours_find(ip, src) < 0;
}

static int packet_input(struct ip *ip, const struct ip_in *in, uint64_t now_us, struct ip_packet *p_r,
                        struct ip_error *e_r)
{
    bool is4 = ip_addr_is4(&in->p.dst);
    if (in->p.proto == IP_PROTO_TCP) {
        *p_r = in->p;
        return 1;
    }
    if (in->p.proto == (is4 ? IP_PROTO_ICMP4 : IP_PROTO_ICMP6))
        return (is4 ? icmp4_input : icmp6_input)(ip, in, now_us, e_r);
    return ip_drop(ip, STAT_DROP_IP_PROTOCOL);
}

int ip_input(struct ip *ip, struct frame *f, uint64_t now_us, struct ip_packet *p_r, struct ip_error *e_r)
{
    struct ether e;
    struct ip_in in;
    int drop = ether_parse(&ip->cfg, f, &e);
    if (drop)
        return ip_drop(ip, drop);
    if (e.type == ETHER_ARP) {
        arp_input(ip, &e, now_us);
        return 0;
    }
    drop = (e.type == ETHER_IP4 ? ip4_parse : ip6_parse)(ip, &e, f, &in);
    return drop ? ip_drop(ip, drop) : packet_input(ip, &in, now_us, p_r, e_r);
}

bool ip_frame_shared(const struct frame *f)
{
    const uint8_t *p = f->p + ETHER_BYTES;
    if (f->n < ETHER_BYTES + ETHER_VLAN)
        return false;
    uint32_t n = f->n - ETHER_BYTES;
    uint16_t type = be16_get(p - 2);
    if (type == ETHER_8021Q) {
        type = be16_get(p + 2);
        p += ETHER_VLAN;
        n -= ETHER_VLAN;
    }
    return type == ETHER_ARP || (type == ETHER_IP4 && n > 9 && p[9] == IP_PROTO_ICMP4) ||
           (type == ETHER_IP6 && n > 6 && p[6] == IP_PROTO_ICMP6);
}

/* ---- out */

bool ip_frame(struct ip *ip, struct frame *f_r)
{
    if (ip->pool.alloc(ip->pool.ctx, f_r))
        return true;
    stat_add(ip->stats, STAT_TX_NOBUF, 1);
    return false;
}

static void cannot_leave(void *ctx, struct frame *f)
{
    struct ip *ip = ctx;
    stat_add(ip->stats, STAT_TX_NO_NEIGHBOUR, 1);
    ip->pool.drop(ip->pool.ctx, f);
}

static void leave(void *ctx, struct frame *f, const struct neigh *e)
{
    struct ip *ip = ctx;
    ether_push(&ip->cfg, f, e->mac, ip_addr_is4(&e->addr) ? ETHER_IP4 : ETHER_IP6);
    ip->pool.send(ip->pool.ctx, f);
}

static bool is_on_link(const struct ours *o, const struct ip_addr *a)
{
    return ip_addr_is4(&o->prefix.addr) == ip_addr_is4(a) && ip_prefix_has(&o->prefix, a);
}

/* The address that asks for a neighbour: the one whose packet wants to go there, unless another is in his network. */
static const struct ours *speaker(const struct ip *ip, const struct neigh *e)
{
    const struct ours *best = &ip->ours[e->local];
    for (int i = 0; i < ip->ours_n && !is_on_link(best, &e->addr); i++)
        if (is_on_link(&ip->ours[i], &e->addr) && ours_ready(&ip->ours[i]))
            best = &ip->ours[i];
    return best;
}

static void ask(void *ctx, const struct neigh *e, bool everybody, uint64_t now_us)
{
    struct ip *ip = ctx;
    const struct ours *o = speaker(ip, e);
    (void)now_us;
    (ip_addr_is4(&e->addr) ? arp_ask : ndp_ask)(ip, &o->prefix.addr, &e->addr, everybody ? NULL : e->mac);
}

/* Where a packet goes first; NULL: nowhere. */
static const struct ip_addr *next_hop(const struct ip *ip, const struct ip_addr *dst)
{
    const struct ip_addr *gateway = ip_addr_is4(dst) ? &ip->cfg.gateway4 : &ip->cfg.gateway6;
    bool on_link = false;
    for (int i = 0; i < ip->ours_n; i++) {
        if (ip_addr_eq(&ip->ours[i].prefix.addr, dst))
            return NULL;
        on_link |= is_on_link(&ip->ours[i], dst);
    }
    if (on_link)
        return dst;
    return gateway->q[0] || gateway->q[1] ? gateway : NULL;
}

void ip_send(struct ip *ip, struct frame *f, const struct ip_addr *dst, uint8_t local, uint64_t now_us)
{
    const struct ip_addr *hop = ours_ready(&ip->ours[local]) ? next_hop(ip, dst) : NULL;
    assert(f->n <= ip->cfg.mtu);
    if (hop)
        neigh_send(&ip->neigh, hop, local, f, now_us);
    else
        cannot_leave(ip, f);
}

/* The checksum of the TCP segment at f->p, or the pseudo header's sum for the port to go on from. */
static void tcp_sum(const struct ip *ip, struct frame *f, const struct ip_addr *src, const struct ip_addr *dst)
{
    uint64_t pseudo = sum_pseudo(src, dst, IP_PROTO_TCP, f->n);
    uint16_t field = ip->cfg.tx_tcp_sum ? sum_fold(pseudo) : sum_field(sum_add(pseudo, f->p, f->n));
    memcpy(f->p + TCP_SUM_AT, &field, sizeof field);
    if (ip->cfg.tx_tcp_sum)
        f->flags |= FRAME_TX_TCP_SUM;
}

void ip_output(struct ip *ip, struct frame *f, const struct ip_route *to, uint64_t now_us)
{
    assert(to->local < ip->ours_n);
    const struct ip_addr *src = &ip->ours[to->local].prefix.addr;
    assert(ip_addr_is4(src) == ip_addr_is4(&to->dst));
    tcp_sum(ip, f, src, &to->dst);
    if (ip_addr_is4(src))
        ip4_push(ip, f, src, &to->dst, IP_PROTO_TCP, to->ecn);
    else
        ip6_push(f, src, &to->dst, IP_PROTO_TCP, to->ecn, ip_ttl(ip));
    ip_send(ip, f, &to->dst, to->local, now_us);
}

/* ---- paths */

uint16_t ip_mtu(struct ip *ip, const struct ip_addr *dst, uint64_t now_us)
{
    uint16_t known = path_mtu(&ip->paths, dst, now_us);
    return known && known < ip->cfg.mtu ? known : ip->cfg.mtu;
}

void ip_mtu_learn(struct ip *ip, const struct ip_addr *dst, uint16_t mtu, uint64_t now_us)
{
    if ((mtu < path_floor(dst) ? path_floor(dst) : mtu) >= ip_mtu(ip, dst, now_us))
        return; /* a report never makes a path wider (RFC 8201 4) */
    stat_add(ip->stats, STAT_PATH_MTU, 1);
    path_learn(&ip->paths, dst, mtu, now_us);
}

/* ---- time, and what `port show` asks */

void ip_tick(struct ip *ip, uint64_t now_us)
{
    ours_tick(ip, now_us);
    mld_tick(ip, now_us);
    neigh_tick(&ip->neigh, now_us);
}

uint64_t ip_next_us(const struct ip *ip)
{
    uint64_t ours = ours_next_us(ip), neigh = neigh_next_us(&ip->neigh);
    uint64_t soonest = ours < neigh ? ours : neigh;
    return soonest < ip->report_us ? soonest : ip->report_us;
}

uint8_t ip_addrs_n(const struct ip *ip)
{
    return ip->ours_n;
}

struct ip_addr ip_addr_at(const struct ip *ip, uint8_t i)
{
    assert(i < ip->ours_n);
    return ip->ours[i].prefix.addr;
}

bool ip_addr_ready(const struct ip *ip, uint8_t i)
{
    return i < ip->ours_n && ours_ready(&ip->ours[i]);
}

uint32_t ip_neighbours(const struct ip *ip, struct ip_neighbour *out_r, uint32_t cap, uint64_t now_us)
{
    static const uint8_t shown[] = {[NEIGH_ASKED] = 0, [NEIGH_REACHABLE] = 1, [NEIGH_STALE] = 2, [NEIGH_FAILED] = 3};
    const struct neigh *e;
    uint32_t n = 0;
    for (uint32_t i = 0; (e = neigh_at(&ip->neigh, i)); i++) {
        if (e->state == NEIGH_NONE)
            continue;
        bool known = e->state == NEIGH_REACHABLE || e->state == NEIGH_STALE;
        struct ip_neighbour *o = n < cap ? &out_r[n] : NULL;
        n++;
        if (!o)
            continue;
        *o = (struct ip_neighbour){.addr = e->addr, .state = shown[e->state]};
        o->age_s = (uint32_t)((now_us - (known ? e->confirmed_us : e->asked_us)) / 1000000);
        memcpy(o->mac, e->mac, 6);
    }
    return n;
}
