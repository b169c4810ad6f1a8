/* world.c - the stack under test, its clock and its pool of frames. */
#include "tests/pkt/world.h"
#include "tests/pkt/build.h"
#include "tests/pkt/check.h"
#include "tests/pkt/owner.h"

#include <stdarg.h>
#include <stdlib.h>

void fail(struct world *w, const char *fmt, ...)
{
    if (w->failed)
        return;
    w->failed = true;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&w->why, fmt, ap) < 0)
        w->why = NULL;
    va_end(ap);
}

void trace(struct world *w, const char *arrow, const char *text)
{
    double at = (double)(w->now_us - w->start_us) / 1e6;
    fprintf(w->trace, "%10.3f %s %s\n", at, arrow, text);
    if (w->verbose)
        fprintf(stderr, "%10.3f %s %s\n", at, arrow, text);
}

/* ---- the pool: a fresh block for each frame, so that a write outside is seen */

struct outgoing {
    uint8_t head[FRAME_HEADROOM];
    uint8_t room[];
};

static bool pool_alloc(void *ctx, struct frame *f_r)
{
    struct world *w = ctx;
    if (w->pool_empty)
        return false;
    struct outgoing *o = malloc(sizeof *o + w->room);
    memset(o, 0xee, sizeof *o + w->room);
    *f_r = (struct frame){.p = o->room, .room = w->room, .buf = o};
    w->frames_out++;
    return true;
}

static void pool_drop(void *ctx, struct frame *f)
{
    struct world *w = ctx;
    w->frames_out--;
    free(f->buf);
}

/* What a port with offloads does. */
static uint8_t *offload(struct world *w, struct frame *f, uint32_t *n_r)
{
    bool tag = f->flags & FRAME_VLAN;
    uint8_t *p = malloc(f->n + WIRE_TAG);
    memcpy(p, f->p, f->n);
    if (f->flags & FRAME_TX_TCP_SUM) {
        uint8_t *sum = p + f->l4 + 16;
        put16(sum, ~wire_sum(0, p + f->l4, f->n - f->l4) & 0xffff);
    }
    if (f->flags & FRAME_TX_IP_SUM) {
        put16(p + f->l3 + 10, 0);
        put16(p + f->l3 + 10, ~wire_sum(0, p + f->l3, WIRE_IP4) & 0xffff);
    }
    if (tag) {
        memmove(p + WIRE_ETHER + 2, p + WIRE_ETHER - 2, f->n - WIRE_ETHER + 2);
        put16(p + 12, ETHER_TAG);
        put16(p + 14, f->vlan);
    }
    if ((f->flags & FRAME_TX_TCP_SUM) && !w->cfg.ip.tx_tcp_sum)
        fail(w, "asks for a TCP checksum that the port does not offer");
    *n_r = f->n + (tag ? WIRE_TAG : 0);
    return p;
}

static void pool_send(void *ctx, struct frame *f)
{
    struct world *w = ctx;
    uint32_t n;
    if (f->p < (uint8_t *)f->buf || f->p + f->n > (uint8_t *)f->buf + FRAME_HEADROOM + w->room) {
        fail(w, "a frame to send lies outside of its buffer");
        return pool_drop(ctx, f);
    }
    uint8_t *bytes = offload(w, f, &n);
    pool_drop(ctx, f);
    check_sent(w, bytes, n);
}

/* ---- beginning and end */

static void small_tables(struct world *w)
{
    struct tcp_config *t = &w->cfg.tcp;
    t->conns_max = t->syns_max = t->time_waits_max = 64;
    t->pages_max = 256;
    t->txblocks_max = 4096;
    t->conn_bytes = (uint32_t)((tcp_conn_bytes() + 63) & ~(size_t)63);
    w->cfg.guard.bogons = false;
    w->cfg.guard.cells = 4096;
    w->cfg.guard.blocked_max = 16;
    w->cfg.guard.host_per_s = w->cfg.guard.network_per_s = 0;
    w->cfg.ip.neighbours_max = 16;
    w->cfg.ip.paths_max = 16;
}

static void our_addresses(struct world *w)
{
    struct ip_config *ip = &w->cfg.ip;
    bool v6 = w->variant.v6;
    world_mac(HOST_US, ip->mac);
    ip->mtu = 1500;
    ip->dad = false;
    ip->addrs_n = 2;
    for (int i = 0; i < 2; i++) {
        w->variant.v6 = i == 1;
        ip->addrs[i] = (struct ip_prefix){world_host(w, HOST_US), i ? 64 : 120};
        *(i ? &ip->gateway6 : &ip->gateway4) = world_host(w, HOST_GATEWAY);
    }
    w->variant.v6 = v6;
}

/* Near the wrap: the milliseconds of a 32-bit clock run over 60 ms into the script. */
#define START_US      (7000ull * 1000000)
#define START_WRAP_US (((1ull << 32) - 60) * 1000)

void world_open(struct world *w, const struct script *s, struct variant v)
{
    *w = (struct world){.script = s, .variant = v, .vlan = -1};
    w->trace = open_memstream(&w->trace_text, &w->trace_n);
    w->now_us = w->start_us = v.wrap ? START_WRAP_US : START_US;
    stack_config_default(&w->cfg);
    small_tables(w);
    our_addresses(w);
    w->cfg.ip.tx_tcp_sum = w->cfg.ip.tx_ip_sum = v.wrap;
}

void world_start(struct world *w)
{
    static const uint8_t key[64] = "the key of packet scripts, which must be known: sixty-four bytes";
    if (w->stack || w->failed)
        return;
    if (w->cfg.ip.dad) { /* one address, or probes of both would mix */
        w->cfg.ip.addrs[0] = w->cfg.ip.addrs[w->variant.v6];
        w->cfg.ip.addrs_n = 1;
        *(w->variant.v6 ? &w->cfg.ip.gateway4 : &w->cfg.ip.gateway6) = (struct ip_addr){0};
    }
    w->local = w->variant.v6 && !w->cfg.ip.dad;
    /* So that one script speaks of the same segment size over both. */
    if (w->variant.v6)
        w->cfg.ip.mtu = (uint16_t)(w->cfg.ip.mtu + WIRE_IP6 - WIRE_IP4);
    w->cfg.ip.vlan = (uint16_t)(w->vlan > 0 ? w->vlan : 0);
    w->room = w->cfg.ip.mtu;
    size_t n = stack_bytes(&w->cfg);
    w->mem = aligned_alloc(64, (n + 63) & ~(size_t)63);
    memset(w->mem, 0, (n + 63) & ~(size_t)63);
    struct frame_pool pool = {pool_alloc, pool_send, pool_drop, w};
    char why[256] = "";
    int rc = stack_init(&w->stack, w->mem, &w->cfg, &pool, &w->stats, key, w->now_us, why);
    if (rc != 0) {
        w->stack = NULL;
        fail(w, "stack_init: %d %s", rc, why);
    }
}

static void want_none(struct world *w, enum stat_id id)
{
    uint64_t n = stat_get(&w->stats, id);
    if (n != 0)
        fail(w, "at the end, all connections gone: %s is %llu", stat_rows[id].name, (unsigned long long)n);
}

void world_end(struct world *w)
{
    if (w->failed || !w->stack)
        return;
    if (w->turn_open)
        fail(w, "`turn` without `end`");
    struct sent *s = world_unexpected(w);
    if (s) {
        char text[512];
        pkt_text(&s->k, s->peer, true, text, sizeof text);
        fail(w, "at the end, sent and not asked for: %s", text);
    }
    w->neighbours_silent = false;
    w->pool_empty = false;
    tcp_listen_stop(stack_tcp(w->stack));
    world_turn(w, owner_abort_all, NULL);
    world_until(w, w->now_us + 1200ull * 1000000);
    want_none(w, STAT_CONNS);
    want_none(w, STAT_SYNS);
    want_none(w, STAT_TIME_WAITS);
    want_none(w, STAT_PAGES_USED);
    want_none(w, STAT_TXBLOCKS_USED);
    if (w->frames_out != 0)
        fail(w, "at the end: %d frames of the pool are missing", w->frames_out);
}

void world_close(struct world *w)
{
    for (unsigned i = 0; i < w->in_n; i++)
        free(w->in[i].buf);
    for (size_t i = 0; i < w->sent_n; i++)
        free(w->sent[i].bytes);
    fclose(w->trace);
    free(w->trace_text);
    free(w->sent);
    free(w->replies);
    free(w->mem);
    free(w->why);
}

/* ---- turns */

/* At the very end of its block, at every alignment in turn: one byte read beyond is found. */
static struct frame frame_of(struct world *w, const uint8_t *bytes, uint32_t n, uint16_t flags, uint16_t vlan)
{
    uint32_t shift = (uint32_t)stat_get(&w->stats, STAT_RX_FRAMES) + w->in_n;
    shift &= 3;
    uint8_t *block = malloc(n + shift ? n + shift : 1);
    memcpy(block + shift, bytes, n);
    return (struct frame){.p = block + shift, .n = n, .flags = flags, .vlan = vlan, .buf = block};
}

static void add_frame(struct world *w, const uint8_t *bytes, uint32_t n, uint16_t flags, uint16_t vlan)
{
    if (w->in_n == TURN_FRAMES_MAX)
        fail(w, "more than %d frames in one turn", TURN_FRAMES_MAX);
    else
        w->in[w->in_n++] = frame_of(w, bytes, n, flags, vlan);
}

void world_frame(struct world *w, const uint8_t *bytes, uint32_t n, uint16_t flags, uint16_t vlan)
{
    add_frame(w, bytes, n, flags, vlan);
    if (!w->turn_open && !w->in_turn)
        world_turn(w, NULL, NULL);
}

/* Frames of this turn go back to the port: whoever still looks at them is found. */
static void free_frames(struct frame *in, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        memset(in[i].p, 0xdd, in[i].n);
        free(in[i].buf);
    }
}

static uint64_t dropped(const struct world *w)
{
    uint64_t n = 0;
    for (int i = 0; i < STAT_N; i++)
        if (strncmp(stat_rows[i].name, "drop_", 5) == 0)
            n += stat_get(&w->stats, (enum stat_id)i);
    return n;
}

/* Whatever befalls a frame, it is dropped once. */
static void frames_arrive(struct world *w, struct frame *in, unsigned n)
{
    uint64_t before = dropped(w);
    stack_input(w->stack, in, n, w->now_us);
    if (dropped(w) - before > n)
        fail(w, "%u frames arrived, and %llu count as dropped", n, (unsigned long long)(dropped(w) - before));
}

static void one_turn(struct world *w, void (*owner)(struct world *w, void *arg), void *arg)
{
    static struct frame in[TURN_FRAMES_MAX];
    unsigned n = w->in_n;
    w->in_turn = true; /* what hosts answer meanwhile comes with the next one */
    memcpy(in, w->in, n * sizeof *in);
    w->in_n = 0;
    if (n > 0)
        frames_arrive(w, in, n);
    stack_tick(w->stack, w->now_us);
    owner_events(w);
    if (owner) {
        owner(w, arg);
        owner_events(w);
    }
    stack_settle(w->stack);
    stack_flush(w->stack, w->now_us);
    free_frames(in, n);
    w->in_turn = false;
}

void world_turn(struct world *w, void (*owner)(struct world *w, void *arg), void *arg)
{
    if (!w->stack)
        return;
    one_turn(w, owner, arg);
    for (int i = 0; (w->in_n > 0 && !w->turn_open) || tcp_busy(stack_tcp(w->stack)); i++) {
        if (i == 100)
            return fail(w, "tcp_busy never ends: the queue would not sleep");
        one_turn(w, NULL, NULL);
    }
}

void world_truncations(struct world *w, const uint8_t *bytes, uint32_t n)
{
    if (w->turn_open || w->in_turn)
        return;
    for (uint32_t len = 0; len < n; len += len < 160 || len + 8 > n ? 1 : 13) {
        add_frame(w, bytes, len, 0, 0);
        if (w->in_n == TURN_FRAMES_MAX)
            world_turn(w, NULL, NULL);
    }
    world_turn(w, NULL, NULL);
}

/* ---- time */

bool world_step(struct world *w, uint64_t limit_us)
{
    uint64_t next = stack_next_us(w->stack);
    if (w->failed || next > limit_us)
        return false;
    w->now_us = next > w->now_us ? next : w->now_us;
    world_turn(w, NULL, NULL);
    return true;
}

void world_until(struct world *w, uint64_t at_us)
{
    unsigned still = 0;
    for (uint64_t before = w->now_us; world_step(w, at_us); before = w->now_us) {
        still = w->now_us == before ? still + 1 : 0;
        if (still > 1000)
            return fail(w, "stack_next_us stands still at %.6f s", (double)(w->now_us - w->start_us) / 1e6);
    }
    if (!w->failed)
        w->now_us = at_us;
}

/* ---- who lives on the link */

void world_mac(unsigned host, uint8_t mac_r[6])
{
    memcpy(mac_r, (uint8_t[6]){2, 0, 0, 0, 0, (uint8_t)host}, 6);
}

struct ip_addr world_host(const struct world *w, unsigned host)
{
    struct ip_addr a;
    if (!w->variant.v6) {
        uint8_t b[4] = {192, 0, 2, (uint8_t)host};
        uint32_t word;
        memcpy(&word, b, 4);
        return ip_addr_of4(word);
    }
    memset(&a, 0, sizeof a);
    memcpy(a.b, (uint8_t[4]){0x20, 0x01, 0x0d, 0xb8}, 4);
    a.b[15] = (uint8_t)host;
    return a;
}

struct peer *world_peer(struct world *w, const char *name)
{
    for (unsigned i = 0; i < w->peers_n; i++)
        if (!strcmp(w->peers[i].name, name))
            return &w->peers[i];
    if (w->peers_n == PEERS_MAX) {
        fail(w, "more than %d connections", PEERS_MAX);
        return &w->peers[0];
    }
    struct peer *c = &w->peers[w->peers_n];
    *c = (struct peer){.addr = world_host(w, 10), .port = (uint16_t)(40001 + w->peers_n), .our_port = w->port};
    snprintf(c->name, sizeof c->name, "%s", name);
    world_mac(10, c->mac);
    c->isn = c->next = w->variant.wrap ? 0xfffffff0 : 1000000;
    c->reader = true;
    w->peers_n++;
    return c;
}

struct sent *world_unexpected(struct world *w)
{
    for (size_t i = 0; i < w->sent_n; i++)
        if (!w->sent[i].taken)
            return &w->sent[i];
    return NULL;
}
