/* fuzz_stack.c - libFuzzer's entry: its bytes become a sequence of time steps, segments relative to what the stack has
 * said, raw frames, ICMP, and the owner's calls.  Every frame stands at the very end of its allocation, so that ASan
 * sees a read beyond it.
 *
 * Input: one byte of options, then steps until the bytes run out:
 *   op = byte % 8: 0 time, 1 segment, 2 handshake, 3 raw frame, 4 owner, 5 ICMP error, 6 ARP or NDP, 7 end of the burst
 * Checked after each turn: memory within its configuration, frames given back.  Of each frame sent: sums, options, the
 * window's right edge (peers.c).  At the end, everything aborted and hours later: nothing is held. */
#include "tests/fuzz/fuzz.h"

#include <stdarg.h>
#include <stdlib.h>

#define CONNS      32u
#define STEPS_MAX  400
#define TIMERS_MAX 2000 /* of one step of time: sixty seconds of them all are far less */

struct world world; /* decode.c's */

void world_fail(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    abort();
}

static struct fuzz {
    struct stack *stack;
    void *mem;
    struct stats stats;
    struct stack_config cfg;
    uint64_t now_us;
    struct frame burst[BURST];
    uint32_t burst_n, frames_out;
    struct tcp_conn *conns[CONNS];
} z;

/* ---- frames to send */

static bool pool_alloc(void *ctx, struct frame *f)
{
    (void)ctx;
    uint8_t *b = malloc(FRAME_HEADROOM + FRAME_ROOM);
    *f = (struct frame){.p = b + FRAME_HEADROOM, .room = FRAME_ROOM, .buf = b};
    z.frames_out++;
    return true;
}

static void pool_drop(void *ctx, struct frame *f)
{
    (void)ctx;
    z.frames_out--;
    free(f->buf);
}

static void pool_send(void *ctx, struct frame *f)
{
    if (f->p < (uint8_t *)f->buf || f->p + f->n > (uint8_t *)f->buf + FRAME_HEADROOM + FRAME_ROOM)
        world_fail("a frame left its buffer");
    peers_hear(f->p, f->n);
    pool_drop(ctx, f);
}

/* ---- turns */

static void owner_event(struct tcp_conn *c, uint32_t events)
{
    for (uint32_t i = 0; i < CONNS; i++) {
        if ((events & TCP_EV_ACCEPTED) && !z.conns[i]) {
            z.conns[i] = c;
            break;
        }
    }
    if (!(events & TCP_EV_GONE))
        return;
    for (uint32_t i = 0; i < CONNS; i++)
        if (z.conns[i] == c)
            z.conns[i] = NULL;
    tcp_release(stack_tcp(z.stack), c);
}

/* One frame waits for each neighbour that was asked for. */
static uint32_t frames_waiting(void)
{
    struct ip_neighbour v[16];
    uint32_t n = ip_neighbours(stack_ip(z.stack), v, 16, z.now_us), asked = 0;
    for (uint32_t i = 0; i < n && i < 16; i++)
        asked += v[i].state == 0;
    return asked;
}

static void check_bounds(void)
{
    const struct tcp_config *c = &z.cfg.tcp;
    if (stat_get(&z.stats, STAT_PAGES_USED) > c->pages_max ||
        stat_get(&z.stats, STAT_TXBLOCKS_USED) > c->txblocks_max || stat_get(&z.stats, STAT_SYNS) > c->syns_max ||
        stat_get(&z.stats, STAT_CONNS) > c->conns_max || stat_get(&z.stats, STAT_TIME_WAITS) > c->time_waits_max)
        world_fail("more is held than the configuration allows");
    if (z.frames_out > frames_waiting())
        world_fail("%u frames to send were kept beyond the turn", z.frames_out);
}

static void turn(void (*owner)(struct bytes *), struct bytes *b)
{
    struct frame burst[BURST];
    uint32_t n = z.burst_n, events;
    struct tcp_conn *c;
    memcpy(burst, z.burst, sizeof burst);
    z.burst_n = 0;
    stack_input(z.stack, burst, n, z.now_us);
    stack_tick(z.stack, z.now_us);
    while ((c = tcp_event(stack_tcp(z.stack), &events)) != NULL)
        owner_event(c, events);
    if (owner)
        owner(b);
    stack_settle(z.stack);
    stack_flush(z.stack, z.now_us);
    for (uint32_t i = 0; i < n; i++)
        free(burst[i].buf);
    check_bounds();
}

void fuzz_turn(void)
{
    turn(NULL, NULL);
}

bool fuzz_room(void)
{
    return z.burst_n < BURST - 1;
}

void fuzz_give(const uint8_t *p, uint32_t n)
{
    if (n == 0)
        return;
    uint8_t *copy = malloc(n);
    memcpy(copy, p, n);
    z.burst[z.burst_n++] = (struct frame){.p = copy, .n = n, .buf = copy};
    if (z.burst_n == BURST)
        fuzz_turn();
}

/* Time goes as the stack asked, so that timers come when they are due. */
static void pass(uint64_t us)
{
    uint64_t until = z.now_us + us;
    for (int i = 0; stack_next_us(z.stack) <= until; i++) {
        uint64_t at = stack_next_us(z.stack);
        if (i == TIMERS_MAX)
            world_fail("timers without end");
        z.now_us = at > z.now_us ? at : z.now_us;
        fuzz_turn();
    }
    z.now_us = until;
    fuzz_turn();
}

/* ---- the owner */

static void owner(struct bytes *b)
{
    static const uint8_t words[4096];
    struct tcp *t = stack_tcp(z.stack);
    struct tcp_conn *c = z.conns[take8(b) % CONNS];
    if (!c)
        return;
    struct slice in = tcp_peek(t, c);
    switch (take8(b) % 6) {
    case 0:
        tcp_consume(t, c, in.n ? (take8(b) % 4 ? in.n : 1) : 0);
        break;
    case 1:
        tcp_write(t, c, slice_of(words, take16(b) % sizeof words));
        break;
    case 2:
        tcp_close(t, c);
        break;
    case 3:
        tcp_abort(t, c);
        break;
    case 4:
        tcp_timer(t, c, (uint64_t)take8(b) * 10000000);
        break;
    default:
        for (; in.n > 0; in = tcp_peek(t, c))
            tcp_consume(t, c, in.n);
    }
}

static void abort_all(struct bytes *b)
{
    (void)b;
    for (uint32_t i = 0; i < CONNS; i++)
        if (z.conns[i])
            tcp_abort(stack_tcp(z.stack), z.conns[i]);
}

/* ---- a life */

static void configure(uint8_t options)
{
    struct tcp_config *c = &z.cfg.tcp;
    stack_config_default(&z.cfg);
    z.cfg.ip.dad = false;
    z.cfg.ip.mtu = 1500;
    memcpy(z.cfg.ip.mac, peers_mac_us, 6);
    z.cfg.ip.addrs_n = 1;
    z.cfg.ip.addrs[0] = (struct ip_prefix){peers_addr_us(), options & 1 ? 64 : 120};
    z.cfg.ip.neighbours_max = z.cfg.ip.paths_max = 16;
    z.cfg.guard.bogons = false;
    z.cfg.guard.cells = 64;
    z.cfg.guard.blocked_max = 16;
    c->conns_max = 8;
    c->syns_max = options & 4 ? 1 : 16;
    c->time_waits_max = 4;
    c->pages_max = options & 8 ? 8 : 64;
    c->txblocks_max = options & 16 ? 8 : 64;
    c->window_bytes = options & 32 ? 2048 : options & 64 ? 1 << 20 : 65536;
    c->conn_bytes = (uint32_t)tcp_conn_bytes();
}

static void begin(uint8_t options)
{
    static const uint8_t key[64] = {1, 2, 3};
    struct frame_pool pool = {pool_alloc, pool_send, pool_drop, NULL};
    char why[256];
    memset(&z, 0, sizeof z);
    peers_open(options & 1, &z.now_us);
    z.now_us = options & 2 ? 4294967295000ull - 2000000 : 1000000; /* the milliseconds wrap soon */
    configure(options);
    size_t n = (stack_bytes(&z.cfg) + 63) / 64 * 64;
    z.mem = aligned_alloc(64, n);
    memset(z.mem, 0, n);
    if (stack_init(&z.stack, z.mem, &z.cfg, &pool, &z.stats, key, z.now_us, why) != 0)
        world_fail("stack_init: %s", why);
    if (tcp_listen(stack_tcp(z.stack), 25) != 0)
        world_fail("tcp_listen");
}

/* A handshake under way may still come true; at last there is nobody. */
static void end(void)
{
    static const enum stat_id zero[] = {STAT_CONNS, STAT_SYNS, STAT_TIME_WAITS, STAT_PAGES_USED, STAT_TXBLOCKS_USED};
    for (int i = 0; i < 3; i++) {
        turn(abort_all, NULL);
        pass(i == 0 ? 60000000 : 3600 * 1000000ull);
    }
    for (size_t i = 0; i < sizeof zero / sizeof *zero; i++)
        if (stat_get(&z.stats, zero[i]) != 0)
            world_fail("%s is not 0 at the end", stat_rows[zero[i]].name);
    if (z.frames_out != 0)
        world_fail("%u frames to send were never given away", z.frames_out);
    free(z.mem);
}

static void step(struct bytes *b)
{
    static const uint32_t steps_us[] = {0, 1000, 10000, 40000, 200000, 1000000, 3000000, 60000000};
    switch (take8(b) % 8) {
    case 0:
        pass(steps_us[take8(b) % 8]);
        break;
    case 1:
        peers_segment(b);
        break;
    case 2:
        peers_handshake(b);
        break;
    case 3:
        peers_raw(b);
        break;
    case 4:
        turn(owner, b);
        break;
    case 5:
        peers_icmp(b);
        break;
    case 6:
        peers_link(b);
        break;
    default:
        fuzz_turn();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes b = {data, size};
    begin(take8(&b));
    for (int steps = 0; b.n > 0 && steps < STEPS_MAX; steps++)
        step(&b);
    end();
    return 0;
}
