/* wire_rig.h - frames by hand, and a pool that keeps what was sent, for tests of IP.
 *
 * Our side: MAC 02:..:01, 192.0.2.1/24, 2001:db8::1/64; gateways .254 and ::fe.  Others have MAC 02:..:HH for host HH.
 * Frames are given to IP at the very end of a block of their own, so that a sanitizer finds a byte read beyond. */
#pragma once
#include "dataplane/tcp/be.h"
#include "dataplane/tcp/ip.h"
#include "dataplane/tcp/sum.h"
#include "spool/base/rng.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define WIRE_ROOM 1600u
#define WIRE_KEPT 256u
#define SECOND    1000000ull

struct packet {
    uint8_t b[4096];
    uint32_t n;
};

static struct wire {
    struct frame sent[WIRE_KEPT]; /* frames, in the order in which they left */
    uint32_t n;                   /* how many */
    uint32_t out;                 /* allocated and not given back */
    bool none_left;
    struct stats stats;
    struct ip_config cfg;
    struct ip *ip;
    void *mem;
    uint64_t now_us;
    struct ip_packet p; /* what ip_input gave last */
    struct ip_error e;
    uint8_t *given; /* the block in which p lies */
} wire;

/* ---- the pool */

static bool wire_alloc(void *ctx, struct frame *f_r)
{
    (void)ctx;
    if (wire.none_left)
        return false;
    uint8_t *buf = malloc(FRAME_HEADROOM + WIRE_ROOM);
    *f_r = (struct frame){.p = buf + FRAME_HEADROOM, .room = WIRE_ROOM, .buf = buf};
    wire.out++;
    return true;
}

static void wire_send(void *ctx, struct frame *f)
{
    (void)ctx;
    assert_true(wire.n < WIRE_KEPT);
    assert_true(f->p >= (uint8_t *)f->buf);
    wire.sent[wire.n++] = *f;
    wire.out--;
}

static void wire_drop(void *ctx, struct frame *f)
{
    (void)ctx;
    free(f->buf);
    wire.out--;
}

static const struct frame_pool wire_pool = {wire_alloc, wire_send, wire_drop, NULL};

static inline void wire_forget(void)
{
    for (uint32_t i = 0; i < wire.n; i++)
        free(wire.sent[i].buf);
    wire.n = 0;
}

/* ---- addresses */

static inline void mac_of(uint8_t host, uint8_t mac_r[6])
{
    memcpy(mac_r, (uint8_t[]){2, 0, 0, 0, 0, host}, 6);
}

static inline struct ip_addr addr(const char *text)
{
    struct in_addr in4;
    struct ip_addr a;
    if (inet_pton(AF_INET, text, &in4) == 1)
        return ip_addr_of4(in4.s_addr);
    assert_int_equal(inet_pton(AF_INET6, text, a.b), 1);
    return a;
}

static inline struct ip_prefix prefix(const char *text, uint8_t bits)
{
    struct ip_addr a = addr(text);
    return (struct ip_prefix){a, (uint8_t)(ip_addr_is4(&a) ? bits + 96 : bits)};
}

/* ---- IP under test */

static inline struct ip_config wire_config(void)
{
    struct ip_config cfg = {.mtu = 1500, .neighbours_max = 64, .paths_max = 64, .echo_per_s = 100, .addrs_n = 2};
    mac_of(1, cfg.mac);
    cfg.addrs[0] = prefix("192.0.2.1", 24);
    cfg.addrs[1] = prefix("2001:db8::1", 64);
    cfg.gateway4 = addr("192.0.2.254");
    cfg.gateway6 = addr("2001:db8::fe");
    memset(cfg.key, 7, sizeof cfg.key);
    return cfg;
}

static inline void wire_open(const struct ip_config *cfg)
{
    char why[256] = "";
    memset(&wire, 0, sizeof wire);
    wire.now_us = 1000 * SECOND;
    wire.mem = aligned_alloc(64, ip_bytes(cfg));
    memset(wire.mem, 0, ip_bytes(cfg));
    if (ip_init(&wire.ip, wire.mem, cfg, &wire_pool, &wire.stats, wire.now_us, why) < 0)
        fail_msg("%s", why);
    wire.cfg = *cfg;
}

static inline void wire_wait(uint64_t us)
{
    uint64_t end = wire.now_us + us;
    for (uint64_t next; (next = ip_next_us(wire.ip)) <= end;) {
        wire.now_us = next > wire.now_us ? next : wire.now_us;
        ip_tick(wire.ip, wire.now_us);
        assert_true(ip_next_us(wire.ip) > wire.now_us);
    }
    wire.now_us = end;
}

/* Whoever is still asked for will not answer; then no frame may be left. */
static inline void wire_close(void)
{
    wire_forget();
    wire_wait(10 * SECOND);
    assert_int_equal(wire.out, 0);
    wire_forget();
    free(wire.given);
    free(wire.mem);
}

/* The first n bytes of a packet arrive; returns what ip_input says. */
static inline int wire_give_part(const struct packet *k, uint32_t n, uint16_t flags, uint16_t vlan)
{
    free(wire.given);
    wire.given = malloc(n + 1); /* a block of 0 bytes has no end to watch */
    memcpy(wire.given + 1, k->b, n);
    struct frame *f = calloc(1, sizeof *f);
    *f = (struct frame){.p = wire.given + 1, .n = n, .flags = flags, .vlan = vlan};
    int res = ip_input(wire.ip, f, wire.now_us, &wire.p, &wire.e);
    free(f);
    return res;
}

static inline int wire_give(const struct packet *k)
{
    return wire_give_part(k, k->n, 0, 0);
}

/* Given and dropped, for this reason. */
static inline void wire_dropped(const struct packet *k, enum stat_id why)
{
    uint64_t was = stat_get(&wire.stats, why), all = 0, all_was = 0;
    for (int i = STAT_DROP_SHORT; i <= STAT_DROP_CONNS_FULL; i++)
        all_was += stat_get(&wire.stats, (enum stat_id)i);
    assert_int_equal(wire_give(k), 0);
    for (int i = STAT_DROP_SHORT; i <= STAT_DROP_CONNS_FULL; i++)
        all += stat_get(&wire.stats, (enum stat_id)i);
    assert_int_equal(stat_get(&wire.stats, why), was + 1);
    assert_int_equal(all, all_was + 1);
}

/* A good packet cut at each length, and with bits turned, its inner checksum mended (unless NULL) and the outer one
 * believed, as nothing would get past them: nothing is read beyond, nothing is lost. */
static inline void wire_mangle(const struct packet *k, uint64_t seed, void (*mend)(struct packet *k))
{
    struct rng r;
    rng_seed(&r, seed);
    for (uint32_t n = 0; n <= k->n; n++) {
        wire_give_part(k, n, 0, 0);
        wire_forget();
    }
    for (int i = 0; i < 3000; i++) {
        struct packet m = *k;
        for (uint64_t flips = 1 + rng_below(&r, 4); flips > 0; flips--)
            m.b[rng_below(&r, m.n)] ^= (uint8_t)(1u << rng_below(&r, 8));
        if (mend)
            mend(&m);
        wire_give_part(&m, m.n - (uint32_t)rng_below(&r, 2) * (uint32_t)rng_below(&r, m.n), FRAME_IP_GOOD, 0);
        wire_forget();
    }
}

/* ---- building */

static inline void put(struct packet *k, const void *p, size_t n)
{
    memcpy(k->b + k->n, p, n);
    k->n += (uint32_t)n;
}

static inline void put8(struct packet *k, uint8_t v)
{
    put(k, &v, 1);
}

static inline void put16(struct packet *k, uint16_t v)
{
    put(k, (uint8_t[]){(uint8_t)(v >> 8), (uint8_t)v}, 2);
}

static inline void put32(struct packet *k, uint32_t v)
{
    put16(k, (uint16_t)(v >> 16));
    put16(k, (uint16_t)v);
}

/* From host to us; 0xff: to everybody. */
static inline struct packet ether_from(uint8_t host, uint8_t to, uint16_t type)
{
    struct packet k = {.n = 0};
    uint8_t mac[6];
    mac_of(to, mac);
    put(&k, to == 0xff ? (const uint8_t *)"\xff\xff\xff\xff\xff\xff" : mac, 6);
    mac_of(host, mac);
    put(&k, mac, 6);
    put16(&k, type);
    return k;
}

static inline void sum4_fix(struct packet *k)
{
    uint8_t *p = k->b + 14;
    memset(p + 10, 0, 2);
    uint16_t sum = sum_field(sum_add(0, p, (p[0] & 15u) * 4));
    memcpy(p + 10, &sum, 2);
}

static inline struct packet ip4_from(uint8_t host, const char *src, const char *dst, uint8_t proto, const void *p,
                                     uint32_t n)
{
    struct packet k = ether_from(host, 1, 0x0800);
    struct ip_addr s = addr(src), d = addr(dst);
    put(&k, (uint8_t[]){0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 60, proto, 0, 0}, 12);
    be16_put(k.b + 16, (uint16_t)(20 + n));
    put(&k, s.b + 12, 4);
    put(&k, d.b + 12, 4);
    put(&k, p, n);
    sum4_fix(&k);
    return k;
}

static inline struct packet ip6_from(uint8_t host, const char *src, const char *dst, uint8_t proto, uint8_t hops,
                                     const void *p, uint32_t n)
{
    struct packet k = ether_from(host, 1, 0x86dd);
    struct ip_addr s = addr(src), d = addr(dst);
    if (d.b[0] == 0xff) {
        memcpy(k.b, "\x33\x33", 2);
        memcpy(k.b + 2, d.b + 12, 4);
    }
    put32(&k, 0x60000000);
    put16(&k, (uint16_t)n);
    put8(&k, proto);
    put8(&k, hops);
    put(&k, s.b, 16);
    put(&k, d.b, 16);
    put(&k, p, n);
    return k;
}

/* An ICMP message, its checksum made. */
static inline struct packet icmp4_from(uint8_t host, const char *src, const char *dst, uint8_t *p, uint32_t n)
{
    memset(p + 2, 0, 2);
    uint16_t sum = sum_field(sum_add(0, p, n));
    memcpy(p + 2, &sum, 2);
    return ip4_from(host, src, dst, 1, p, n);
}

static inline struct packet icmp6_from(uint8_t host, const char *src, const char *dst, uint8_t hops, uint8_t *p,
                                       uint32_t n)
{
    struct ip_addr s = addr(src), d = addr(dst);
    memset(p + 2, 0, 2);
    uint16_t sum = sum_field(sum_add(sum_pseudo(&s, &d, 58, n), p, n));
    memcpy(p + 2, &sum, 2);
    return ip6_from(host, src, dst, 58, hops, p, n);
}

enum { ARP_ASK = 1, ARP_ANSWER = 2 };

static inline struct packet arp_from(uint8_t host, uint8_t to, uint16_t op, const char *sender, const char *target)
{
    struct packet k = ether_from(host, to, 0x0806);
    struct ip_addr s = addr(sender), t = addr(target);
    uint8_t mac[6];
    put16(&k, 1);
    put16(&k, 0x0800);
    put16(&k, 0x0604);
    put16(&k, op);
    mac_of(host, mac);
    put(&k, mac, 6);
    put(&k, s.b + 12, 4);
    memset(mac, 0, 6);
    put(&k, mac, 6);
    put(&k, t.b + 12, 4);
    return k;
}

/* Neighbour messages; flags as in the header's first byte; option 0: none, else with the host's MAC. */
static inline struct packet ndp_from(uint8_t host, const char *src, const char *dst, uint8_t type, uint8_t flags,
                                     const char *target, uint8_t option)
{
    uint8_t p[32] = {type};
    struct ip_addr t = addr(target);
    p[4] = flags;
    memcpy(p + 8, t.b, 16);
    p[24] = option;
    p[25] = 1;
    mac_of(host, p + 26);
    return icmp6_from(host, src, dst, 255, p, option ? 32 : 24);
}

/* ---- what left */

static inline const uint8_t *sent(uint32_t i)
{
    if (i >= wire.n)
        fail_msg("only %u frames were sent", wire.n);
    return wire.sent[i].p;
}

static inline bool sent_to(uint32_t i, uint8_t host)
{
    uint8_t mac[6];
    mac_of(host, mac);
    return memcmp(sent(i), mac, 6) == 0;
}

/* An ARP frame of ours: op, sender, target. */
static inline void assert_arp(uint32_t i, uint16_t op, const char *sender, const char *target)
{
    const uint8_t *p = sent(i);
    struct ip_addr s = addr(sender), t = addr(target);
    assert_int_equal(wire.sent[i].n, 42);
    assert_memory_equal(p + 12, "\x08\x06\0\x01\x08\0\x06\x04", 8);
    assert_int_equal(be16_get(p + 20), op);
    assert_memory_equal(p + 22, wire.cfg.mac, 6);
    assert_memory_equal(p + 28, s.b + 12, 4);
    assert_memory_equal(p + 38, t.b + 12, 4);
}

/* A neighbour message of ours, its checksum good. */
static inline void assert_ndp(uint32_t i, uint8_t type, const char *src, const char *dst, const char *target)
{
    const uint8_t *p = sent(i);
    struct ip_addr s = addr(src), d = addr(dst), t = addr(target);
    assert_int_equal(be16_get(p + 12), 0x86dd);
    assert_int_equal(p[14] >> 4, 6);
    uint32_t n = be16_get(p + 18);
    assert_int_equal(wire.sent[i].n, 54 + n);
    assert_int_equal(p[20], 58);
    assert_int_equal(p[21], 255);
    assert_memory_equal(p + 22, s.b, 16);
    assert_memory_equal(p + 38, d.b, 16);
    assert_int_equal(p[54], type);
    assert_memory_equal(p + 62, t.b, 16);
    assert_true(sum_good(sum_add(sum_pseudo(&s, &d, 58, n), p + 54, n)));
}

/* Sends a segment of n bytes of TCP from our address `local`. */
static inline void wire_output(uint8_t local, const char *dst, uint32_t n)
{
    struct frame f;
    struct ip_route to = {.dst = addr(dst), .local = local};
    assert_true(wire_alloc(NULL, &f));
    f.n = n;
    memset(f.p, 0x5a, n);
    memset(f.p + 16, 0, 2);
    ip_output(wire.ip, &f, &to, wire.now_us);
}

/* host answers to our question. */
static inline void wire_resolve4(uint8_t host, const char *ip)
{
    struct packet k = arp_from(host, 1, ARP_ANSWER, ip, "192.0.2.1");
    assert_int_equal(wire_give(&k), 0);
}
