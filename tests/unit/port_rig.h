/* port_rig.h - frames of numbered flows through ports, for tests of ports.
 *
 * A frame of flow F with number N: TCP over IPv4 (F even) or IPv6 (F odd), from an address and a port made of F, with N
 * as its sequence number and bytes that follow from both behind it. */
#pragma once
#include "dataplane/net/port.h"
#include "dataplane/tcp/be.h"
#include "dataplane/tcp/sum.h"
#include "spool/base/err.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

enum { RIG_PATIENCE_MS = 10000, RIG_FRAME_MIN = 74, RIG_FRAME_MAX = 1514, RIG_QUEUES = 8 };

static const uint8_t rig_here[6] = {2, 0, 0, 0, 0, 1}, rig_there[6] = {2, 0, 0, 0, 0, 2};

/* A port and what its queues count. */
struct rig_port {
    struct port *p;
    struct stats stats[RIG_QUEUES];
};

static inline struct port_queue *rig_queue(struct rig_port *r, uint32_t i)
{
    struct port_queue *q = r->p->ops->queue(r->p, i);
    assert_non_null(q);
    q->stats = &r->stats[i];
    return q;
}

static inline uint64_t rig_now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* ---- frames of flows */

struct rig_frame {
    uint32_t n;
    uint8_t b[RIG_FRAME_MAX + 4]; /* a tag may come in */
};

static inline uint32_t rig_ether(uint8_t *p, uint16_t type)
{
    memcpy(p, rig_here, 6);
    memcpy(p + 6, rig_there, 6);
    be16_put(p + 12, type);
    return 14;
}

static inline uint32_t rig_ip4(uint8_t *p, uint32_t flow, uint32_t l4)
{
    memset(p, 0, 20);
    p[0] = 0x45;
    be16_put(p + 2, (uint16_t)(20 + l4));
    p[8] = 64;
    p[9] = 6;
    memcpy(p + 12, (uint8_t[]){10, (uint8_t)(flow >> 16), (uint8_t)(flow >> 8), (uint8_t)flow}, 4);
    memcpy(p + 16, (uint8_t[]){192, 0, 2, 1}, 4);
    uint16_t sum = sum_field(sum_add(0, p, 20));
    memcpy(p + 10, &sum, 2);
    return 20;
}

static inline uint32_t rig_ip6(uint8_t *p, uint32_t flow, uint32_t l4)
{
    memset(p, 0, 40);
    p[0] = 0x60;
    be16_put(p + 4, (uint16_t)l4);
    p[6] = 6;
    p[7] = 64;
    memcpy(p + 8, (uint8_t[]){0x20, 1, 0xd, 0xb8}, 4);
    be32_put(p + 20, flow);
    memcpy(p + 24, (uint8_t[]){0x20, 1, 0xd, 0xb8}, 4);
    p[39] = 1;
    return 40;
}

static inline uint64_t rig_pseudo(const uint8_t *ip, uint32_t l4)
{
    struct ip_addr s, d;
    if (ip[0] >> 4 == 4) {
        uint32_t w[2];
        memcpy(w, ip + 12, 8);
        s = ip_addr_of4(w[0]);
        d = ip_addr_of4(w[1]);
    } else {
        memcpy(&s, ip + 8, 16);
        memcpy(&d, ip + 24, 16);
    }
    return sum_pseudo(&s, &d, 6, l4);
}

/* l4_r: where TCP begins.  n: of the whole frame, at least RIG_FRAME_MIN. */
static inline struct rig_frame rig_frame(uint32_t flow, uint32_t number, uint32_t n, uint32_t *l4_r)
{
    struct rig_frame f = {.n = n};
    bool is4 = flow % 2 == 0;
    assert_in_range(n, RIG_FRAME_MIN, RIG_FRAME_MAX);
    uint32_t at = rig_ether(f.b, is4 ? 0x0800 : 0x86dd);
    uint32_t l4 = n - at - (is4 ? 20 : 40);
    at += is4 ? rig_ip4(f.b + at, flow, l4) : rig_ip6(f.b + at, flow, l4);
    be16_put(f.b + at, (uint16_t)(1024 + flow % 60000));
    be16_put(f.b + at + 2, 25);
    be32_put(f.b + at + 4, number);
    be16_put(f.b + at + 12, 0x5010);
    for (uint32_t i = at + 20; i < n; i++)
        f.b[i] = (uint8_t)(flow * 31 + number * 7 + i);
    uint16_t sum = sum_field(sum_add(rig_pseudo(f.b + 14, l4), f.b + at, l4));
    memcpy(f.b + at + 16, &sum, 2);
    if (l4_r)
        *l4_r = at;
    return f;
}

static inline struct rig_frame rig_tagged(const struct rig_frame *f, uint16_t vlan)
{
    struct rig_frame t = {.n = f->n + 4};
    memcpy(t.b, f->b, 12);
    be16_put(t.b + 12, 0x8100);
    be16_put(t.b + 14, vlan);
    memcpy(t.b + 16, f->b + 12, f->n - 12);
    return t;
}

static inline struct rig_frame rig_arp(void)
{
    struct rig_frame f = {.n = 60};
    rig_ether(f.b, 0x0806);
    memcpy(f.b + 14, "\0\1\x08\0\6\4\0\1", 8);
    return f;
}

/* The flow and the number of what rig_frame made; false: it is not of its making. */
static inline bool rig_read(const struct frame *f, uint32_t *flow_r, uint32_t *number_r)
{
    uint32_t at = f->n >= 18 && be16_get(f->p + 12) == 0x8100 ? 18 : 14;
    if (f->n < at + 40)
        return false;
    bool is4 = f->p[at] >> 4 == 4;
    *flow_r = (is4 ? be32_get(f->p + at + 12) : be32_get(f->p + at + 20)) & 0xffffff;
    *number_r = be32_get(f->p + at + (is4 ? 20 : 40) + 4);
    return memcmp(f->p + 6, rig_there, 6) == 0;
}

/* ---- sending and receiving */

/* As the stack does it: what follows the first 64 bytes, then those in front of it. */
static inline bool rig_fill(struct port_queue *q, const struct rig_frame *from, struct frame *f_r)
{
    uint32_t head = from->n < 64 ? from->n : 64;
    if (!q->port->ops->alloc(q, f_r))
        return false;
    assert_true(f_r->room >= from->n - head);
    memcpy(f_r->p, from->b + head, from->n - head);
    f_r->n = from->n - head;
    memcpy(frame_push(f_r, head), from->b, head);
    return true;
}

static inline void rig_send(struct port_queue *q, const struct rig_frame *from)
{
    struct frame f;
    assert_true(rig_fill(q, from, &f));
    q->port->ops->send(q, &f);
}

/* Waits until at least `least` frames were received; the caller frees them. */
static inline uint32_t rig_receive(struct port_queue *q, struct frame *f_r, uint32_t least, uint32_t cap)
{
    uint32_t n = 0;
    for (uint64_t end = rig_now_ms() + RIG_PATIENCE_MS; n < least && rig_now_ms() < end;)
        n += q->port->ops->rx(q, f_r + n, cap - n < PORT_BURST_MAX ? cap - n : PORT_BURST_MAX);
    if (n < least)
        fail_msg("%u frames of %u came", n, least);
    return n;
}

static inline void rig_free(struct port_queue *q, struct frame *f, uint32_t n)
{
    for (uint32_t at = 0; at < n; at += PORT_BURST_MAX)
        q->port->ops->free(q, f + at, n - at < PORT_BURST_MAX ? n - at : PORT_BURST_MAX);
}

static inline void rig_assert_frame(const struct frame *f, const struct rig_frame *was)
{
    assert_int_equal(f->n, was->n);
    assert_memory_equal(f->p, was->b, was->n);
}

static inline bool rig_readable(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, ms) == 1;
}

static inline void rig_expect_stat(const struct rig_port *r, uint32_t queue, enum stat_id id, uint64_t n)
{
    assert_int_equal(stat_get(&r->stats[queue], id), n);
}
