/* tcp_rig.h - one struct tcp without its sending half, for tests of the receiving files: what leaves is kept, segments
 * are made by hand.  A test includes the .c it looks into and brings what that calls of other files. */
#pragma once
#include "dataplane/tcp/be.h"
#include "dataplane/tcp/sum.h"
#include "dataplane/tcp/tcp_in.h"
#include "spool/base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define SECOND   1000000ull
#define RIG_KEPT 64u
#define RIG_MTU  1500u

static struct rig {
    struct tcp t;
    struct stats stats;
    uint8_t sent[RIG_KEPT][256]; /* TCP headers, in the order in which they left */
    uint32_t n;
    bool none_left;
    struct ip_route to; /* of the last one */
} rig;

static bool rig_alloc(void *ctx, struct frame *f_r)
{
    (void)ctx;
    if (rig.none_left)
        return false;
    uint8_t *buf = malloc(2 * FRAME_HEADROOM);
    *f_r = (struct frame){.p = buf + FRAME_HEADROOM, .room = FRAME_HEADROOM, .buf = buf};
    return true;
}

static void rig_send(void *ctx, struct frame *f, const struct ip_route *to)
{
    (void)ctx;
    assert_true(f->n >= 20 && f->n <= 60 && f->p >= (uint8_t *)f->buf);
    memcpy(rig.sent[rig.n++ % RIG_KEPT], f->p, f->n);
    rig.to = *to;
    free(f->buf);
}

static uint16_t rig_mtu(void *ctx, const struct ip_addr *dst)
{
    (void)ctx;
    (void)dst;
    return RIG_MTU;
}

static inline void rig_at(uint64_t now_us)
{
    rig.t.now_us = now_us;
    rig.t.now_ms = (uint32_t)(now_us / 1000);
}

/* Small tables, nothing in them. */
static inline void rig_open(void)
{
    memset(&rig, 0, sizeof rig);
    rig.t.cfg = (struct tcp_config){.conns_max = 8,
                                    .syns_max = 4,
                                    .time_waits_max = 4,
                                    .pages_max = 64,
                                    .window_bytes = 65536,
                                    .conn_bytes = sizeof(struct tcp_conn),
                                    .syn_cookies = true,
                                    .sack = true,
                                    .timestamps = true,
                                    .ecn = true,
                                    .syn_life_ms = 15000,
                                    .time_wait_ms = 60000,
                                    .delack_ms = 40,
                                    .linger_bytes = 3000,
                                    .rst_per_s = 5,
                                    .challenge_per_s = 3};
    rig.t.stats = &rig.stats;
    rig.t.out = (struct tcp_out){rig_alloc, rig_send, rig_mtu, NULL};
    for (uint8_t i = 0; i < 16; i++) {
        rig.t.key_table[i] = i;
        rig.t.key_isn[i] = (uint8_t)(i + 100);
        rig.t.key_cookie[i] = (uint8_t)(i + 150);
    }
    rig.t.ports[rig.t.ports_n++] = 25;
    rig_at(7000 * SECOND);
}

static inline void *rig_part(size_t bytes)
{
    void *mem = aligned_alloc(64, tcp_rounded(bytes));
    memset(mem, 0, tcp_rounded(bytes));
    return mem;
}

static inline uint64_t rig_stat(enum stat_id id)
{
    return stat_get(&rig.stats, id);
}

/* ---- tuples and segments */

static inline struct tcp_tuple rig_tuple(uint32_t n)
{
    return (struct tcp_tuple){
        .peer = ip_addr_of4(htobe32(0xc6336400u + n / 60000)), .peer_port = (uint16_t)(1024 + n % 60000), .port = 25};
}

struct rig_seg {
    struct tcp_seg s;
    struct ip_packet ip;
    struct frame frame;
};

/* Of tuple k, without data; rig_seg stays where it is as long as s is used. */
static inline struct tcp_seg *rig_segment(struct rig_seg *g, const struct tcp_tuple *k, uint16_t flags, uint32_t seq,
                                          uint32_t ack)
{
    memset(g, 0, sizeof *g);
    g->ip = (struct ip_packet){.src = k->peer, .local = k->local, .frame = &g->frame, .proto = 6};
    g->s = (struct tcp_seg){
        .ip = &g->ip, .sport = k->peer_port, .dport = k->port, .seq = seq, .ack = ack, .flags = flags, .wnd = 30000};
    return &g->s;
}

/* ---- what was sent */

static inline const uint8_t *rig_last(void)
{
    assert_true(rig.n > 0);
    return rig.sent[(rig.n - 1) % RIG_KEPT];
}

static inline uint32_t rig_seq(void)
{
    return be32_get(rig_last() + 4);
}

static inline uint32_t rig_ack(void)
{
    return be32_get(rig_last() + 8);
}

static inline uint8_t rig_flags(void)
{
    return rig_last()[13];
}

static inline uint16_t rig_wnd(void)
{
    return be16_get(rig_last() + 14);
}

/* Where option `kind` of the last one stands; NULL: it has none. */
static inline const uint8_t *rig_option(uint8_t kind)
{
    const uint8_t *p = rig_last(), *end = p + (p[12] >> 4) * 4;
    for (p += 20; p < end && *p != 0; p += *p == 1 ? 1 : p[1])
        if (*p == kind)
            return p;
    return NULL;
}
