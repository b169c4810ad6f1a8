/* net.c - the network between two hosts: a heap of frames by their time of arrival, and everything that befalls them.
 */
#include "tests/tcpsim/tcpsim.h"

#include <stdlib.h>

struct flight {
    uint64_t at_us, order;
    uint8_t *p;
    uint32_t n;
    uint16_t flags;
    bool whole;
};

static struct lane {
    struct flight *heap;
    uint32_t n, cap;
    uint64_t free_us; /* the wire is busy until then */
} lanes[HOSTS];       /* by where they go */
static uint64_t order;

void net_open(void)
{
    memset(lanes, 0, sizeof lanes);
    order = 0;
}

static bool before(const struct flight *a, const struct flight *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void lane_put(struct lane *l, struct flight f)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 64;
        l->heap = realloc(l->heap, l->cap * sizeof *l->heap);
    }
    uint32_t i = l->n++;
    for (; i > 0 && before(&f, &l->heap[(i - 1) / 2]); i = (i - 1) / 2)
        l->heap[i] = l->heap[(i - 1) / 2];
    l->heap[i] = f;
}

static struct flight lane_take(struct lane *l)
{
    struct flight top = l->heap[0], last = l->heap[--l->n];
    uint32_t i = 0, child;
    for (; (child = 2 * i + 1) < l->n; i = child) {
        if (child + 1 < l->n && before(&l->heap[child + 1], &l->heap[child]))
            child++;
        if (!before(&l->heap[child], &last))
            break;
        l->heap[i] = l->heap[child];
    }
    l->heap[i] = last;
    return top;
}

/* A byte of what checksums cover changes; now and then the frame is cut short. ARP and Ethernet's header have no
 * checksum of their own: there the wire's is trusted. */
static void damage(struct flight *f)
{
    f->whole = false;
    if (rng_below(&world.rng, 8) == 0)
        f->n = (uint32_t)rng_below(&world.rng, f->n - 34) + 35;
    uint32_t i = 34 + (uint32_t)rng_below(&world.rng, f->n - 34);
    f->p[i] ^= (uint8_t)(1 + rng_below(&world.rng, 255));
    f->flags = world.plan.hardware_sums && world_chance(500000) ? FRAME_L4_BAD : 0;
}

static uint16_t sum16(const uint8_t *p, uint32_t n, uint32_t sum)
{
    for (uint32_t i = 0; i < n; i++)
        sum += (uint32_t)(i % 2 ? p[i] : p[i] << 8);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static void mark_ce(uint8_t *p, const struct wire_tcp *w)
{
    if (w->ecn != 1 && w->ecn != 2)
        return;
    if (w->v6) {
        p[15] |= 0x30;
        return;
    }
    p[15] |= 3;
    p[24] = p[25] = 0;
    uint16_t s = sum16(p + 14, (p[14] & 15) * 4u, 0);
    p[24] = (uint8_t)(s >> 8), p[25] = (uint8_t)s;
}

static struct flight flight_of(const uint8_t *p, uint32_t n)
{
    struct flight f = {.p = malloc(n), .n = n, .order = order++, .whole = true};
    memcpy(f.p, p, n);
    if (world.plan.hardware_sums)
        f.flags = FRAME_IP_GOOD | FRAME_L4_GOOD;
    return f;
}

static void arrive(int to, const struct net_plan *np, struct flight f, uint64_t extra_us)
{
    f.at_us = world.now_us + np->delay_us + extra_us + (np->jitter_us ? rng_below(&world.rng, np->jitter_us) : 0);
    lane_put(&lanes[to], f);
}

/* What a router says of a packet that does not fit (RFC 792, 4443), from an address of its own. */
static void too_big(int back_to, const uint8_t *p, const struct wire_tcp *w, uint16_t mtu)
{
    uint8_t f[14 + 40 + 8 + 64] = {0};
    memcpy(f, p + 6, 6);
    memcpy(f + 6, p, 6);
    memcpy(f + 12, p + 12, 2);
    uint8_t *ip = f + 14, *icmp = ip + (w->v6 ? 40 : 20);
    uint32_t quote = w->v6 ? 64 : 28, n = 8 + quote;
    memcpy(icmp + 8, p + 14, quote);
    icmp[0] = w->v6 ? 2 : 3, icmp[1] = w->v6 ? 0 : 4;
    icmp[6] = (uint8_t)(mtu >> 8), icmp[7] = (uint8_t)mtu;
    uint32_t pseudo = 0;
    if (w->v6) {
        ip[0] = 0x60, ip[5] = (uint8_t)n, ip[6] = 58, ip[7] = 64;
        memcpy(ip + 8, w->dst.b, 16);
        ip[23] ^= 0x40; /* the router's address: a neighbour of dst */
        memcpy(ip + 24, w->src.b, 16);
        pseudo = (uint32_t)(uint16_t)~sum16(ip + 8, 32, n + 58);
    } else {
        ip[0] = 0x45, ip[3] = (uint8_t)(20 + n), ip[8] = 64, ip[9] = 1;
        memcpy(ip + 12, &w->dst.w[3], 4);
        ip[15] ^= 0x40;
        memcpy(ip + 16, &w->src.w[3], 4);
        uint16_t s = sum16(ip, 20, 0);
        ip[10] = (uint8_t)(s >> 8), ip[11] = (uint8_t)s;
    }
    uint16_t s = sum16(icmp, n, pseudo);
    icmp[2] = (uint8_t)(s >> 8), icmp[3] = (uint8_t)s;
    arrive(back_to, &world.plan.net[!back_to], flight_of(f, (uint32_t)(icmp - f) + n), 0);
}

/* The wire sends one after the other, and what does not fit in the queue before it is lost. */
static bool wire_takes(struct lane *l, const struct net_plan *np, uint32_t n, uint64_t *wait_us_r)
{
    *wait_us_r = 0;
    if (np->bytes_per_s == 0)
        return true;
    uint64_t from = l->free_us > world.now_us ? l->free_us : world.now_us;
    if ((from - world.now_us) * np->bytes_per_s / 1000000 > np->queue_bytes)
        return false;
    l->free_us = from + n * 1000000ull / np->bytes_per_s;
    *wait_us_r = l->free_us - world.now_us;
    return true;
}

void net_send(int from, const uint8_t *p, uint32_t n)
{
    const struct net_plan *np = &world.plan.net[from];
    int to = !from;
    struct wire_tcp w;
    bool tcp = wire_decode(&w, p, n);
    uint64_t wait_us, at = world.now_us - world.begin_us;
    if ((at >= np->cut_from_us && at < np->cut_to_us) || world_chance(np->lose))
        return;
    if (tcp && np->mtu && n - 14 > np->mtu) {
        if (np->too_big == NET_TELLS)
            too_big(from, p, &w, np->mtu);
        return;
    }
    if (!wire_takes(&lanes[to], np, n, &wait_us))
        return;
    struct flight f = flight_of(p, n);
    if (tcp && world_chance(np->mark_ce))
        mark_ce(f.p, &w);
    if (world_chance(np->reorder))
        wait_us += rng_below(&world.rng, 4ull * np->delay_us + 1000);
    if (world_chance(np->dup))
        arrive(to, np, flight_of(f.p, f.n), wait_us);
    if (tcp && world_chance(np->damage))
        damage(&f);
    arrive(to, np, f, wait_us);
}

uint8_t *net_take(int to, uint32_t *n_r, uint16_t *flags_r)
{
    struct lane *l = &lanes[to];
    if (l->n == 0 || l->heap[0].at_us > world.now_us)
        return NULL;
    struct flight f = lane_take(l);
    if (f.whole)
        watch_arrived(to, f.p, f.n);
    *n_r = f.n;
    *flags_r = f.flags;
    return f.p;
}

uint64_t net_next_us(int to)
{
    return lanes[to].n ? lanes[to].heap[0].at_us : UINT64_MAX;
}

void net_close(void)
{
    for (int i = 0; i < HOSTS; i++) {
        for (uint32_t k = 0; k < lanes[i].n; k++)
            free(lanes[i].heap[k].p);
        free(lanes[i].heap);
    }
}
