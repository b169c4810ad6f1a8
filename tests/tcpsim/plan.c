/* plan.c - one history, drawn from its seed: mild ones that must end whole, and wild ones that must only end well. */
#include "tests/tcpsim/tcpsim.h"

static struct rng r;

static uint64_t pick(const uint64_t *v, size_t n)
{
    return v[rng_below(&r, n)];
}
#define PICK(...) pick((const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

static bool one_in(uint32_t n)
{
    return rng_below(&r, n) == 0;
}

static void plan_tcp(struct tcp_config *c, bool wild)
{
    *c = tcp_config_default;
    c->conns_max = 512;
    c->syns_max = wild && one_in(2) ? (uint32_t)PICK(1, 2, 8) : 256;
    c->time_waits_max = wild && one_in(3) ? (uint32_t)PICK(1, 4) : 1024;
    c->pages_max = one_in(wild ? 2 : 4) ? (uint32_t)PICK(3, 6, 16, 40) : 4096;
    c->txblocks_max = one_in(wild ? 2 : 4) ? (uint32_t)PICK(4, 16, 64) : 8192;
    c->window_bytes = (uint32_t)PICK(2048, 8192, 65536, 65536, 65536, 262144, 1048576);
    c->send_bytes = (uint32_t)PICK(2048, 16384, 65536, 262144);
    c->sack = !one_in(3);
    c->timestamps = !one_in(3);
    c->ecn = one_in(2);
    c->delack_ms = (uint32_t)PICK(1, 40, 40, 200);
    c->rto_min_ms = (uint32_t)PICK(200, 200, 1000);
    c->syn_cookies = !one_in(4);
    if (wild)
        return;
    c->r2_ms = 3600 * 1000; /* five losses in a row are no reason to give up where all must arrive, */
    c->time_wait_ms = c->fin_wait2_ms = 240 * 1000; /* nor is a FIN repeated after a minute one to reset */
}

static void plan_net(struct net_plan *n, bool v6, bool wild)
{
    *n = (struct net_plan){.delay_us = (uint32_t)PICK(50, 500, 5000, 40000, 150000)};
    n->lose = (uint32_t)PICK(0, 0, 1000, 10000, 50000, 100000);
    n->dup = (uint32_t)PICK(0, 0, 10000, 100000);
    n->reorder = (uint32_t)PICK(0, 0, 10000, 200000);
    n->damage = (uint32_t)PICK(0, 0, 10000, 50000);
    n->mark_ce = (uint32_t)PICK(0, 0, 50000);
    n->jitter_us = one_in(3) ? n->delay_us : 0;
    n->bytes_per_s = PICK(0, 0, 0, 20000, 200000, 5000000);
    n->queue_bytes = (uint32_t)PICK(8000, 64000, 1000000);
    if (one_in(3))
        n->mtu = (uint16_t)(v6 ? PICK(1280, 1400, 1492) : PICK(576, 620, 1280, 1400, 1492));
    if (!wild)
        return;
    n->lose = (uint32_t)PICK(0, 100000, 200000, 300000);
    if (one_in(4))
        n->too_big = NET_SILENT;
    if (one_in(2)) {
        n->cut_from_us = rng_below(&r, 20000000);
        n->cut_to_us = n->cut_from_us + PICK(500000, 5000000, 60000000, 400000000);
    }
}

static void plan_talk(struct talk_plan *t, uint32_t i, bool wild, uint64_t budget)
{
    t->port = (uint16_t)(30000 + i);
    t->begin_us = rng_below(&r, 3000000);
    t->answer_after = one_in(2);
    for (int side = 0; side < HOSTS; side++) {
        t->bytes[side] = rng_below(&r, PICK(1, 2000, 20000, budget) + 1);
        t->chunk[side] = (uint32_t)PICK(1 << 20, 1 << 20, 1 << 20, 5000, 700);
        t->nap_us[side] = t->chunk[side] < 6000 ? PICK(1000, 20000, 100000) : 0;
        if (!wild || !one_in(4))
            continue;
        t->end[side] = (enum talk_end)PICK(TALK_EARLY, TALK_ABORT, TALK_MUTE);
        t->end_at[side] = rng_below(&r, t->bytes[side] + 2);
    }
    if (i > 0 && wild && one_in(3)) { /* the port of one before, again */
        t->port = (uint16_t)(30000 + rng_below(&r, i));
        t->begin_us += PICK(1000000, 20000000, 70000000);
    }
}

void plan_make(struct plan *p, uint64_t seed)
{
    rng_seed(&r, seed);
    *p = (struct plan){.seed = seed};
    bool wild = one_in(2);
    p->clean = !wild;
    p->v6 = one_in(2);
    p->hardware_sums = one_in(2);
    p->epoch_us =
        PICK(1000000, 1000000, 4294967295000ull - 5000000, 2147483648000ull - 3000000, (1ull << 32) - 1000000);
    p->talks_n = (uint32_t)PICK(1, 1, 1, 3, 8, wild ? 60 : 20);
    uint64_t budget = p->talks_n <= 3 ? PICK(100000, 300000, 1000000) : 30000;
    for (int i = 0; i < HOSTS; i++) {
        plan_tcp(&p->tcp[i], wild);
        plan_net(&p->net[i], p->v6, wild);
        p->no_buffer[i] = (uint32_t)PICK(0, 0, 0, 10000);
        if (wild && one_in(3)) {
            p->pause_from_us[i] = rng_below(&r, 10000000);
            p->pause_to_us[i] = p->pause_from_us[i] + PICK(100000, 3000000, 120000000);
        }
    }
    for (uint32_t i = 0; i < p->talks_n; i++)
        plan_talk(&p->talk[i], i, wild, budget);
}
