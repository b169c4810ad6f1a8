/* host.c - a host: a stack, its memory, its frames, driven one turn at a time. */
#include "tests/tcpsim/tcpsim.h"

#include <stdlib.h>
#include <sys/mman.h>

#define BURST      64
#define FRAME_ROOM 2048u

struct host hosts[HOSTS];

struct ip_addr host_addr(int id)
{
    if (!world.plan.v6) {
        uint8_t b[4] = {10, 0, 0, (uint8_t)(1 + id)};
        uint32_t w;
        memcpy(&w, b, 4);
        return ip_addr_of4(w);
    }
    struct ip_addr a = {.b = {0x20, 0x01, 0x0d, 0xb8}};
    a.b[15] = (uint8_t)(1 + id);
    return a;
}

void host_mac(int id, uint8_t mac[6])
{
    memcpy(mac, (uint8_t[6]){2, 0, 0, 0, 0, (uint8_t)(1 + id)}, 6);
}

static bool pool_alloc(void *ctx, struct frame *f)
{
    struct host *h = ctx;
    if (world_chance(world.plan.no_buffer[h->id]))
        return false;
    uint8_t *b = malloc(FRAME_HEADROOM + FRAME_ROOM);
    *f = (struct frame){.p = b + FRAME_HEADROOM, .room = FRAME_ROOM, .buf = b};
    h->frames_out++;
    return true;
}

static void pool_drop(void *ctx, struct frame *f)
{
    ((struct host *)ctx)->frames_out--;
    free(f->buf);
}

static void pool_send(void *ctx, struct frame *f)
{
    struct host *h = ctx;
    if (f->p < (uint8_t *)f->buf || f->p + f->n > (uint8_t *)f->buf + FRAME_HEADROOM + FRAME_ROOM)
        world_fail("a frame left its buffer");
    world.frames++;
    watch_sent(h->id, f->p, f->n);
    net_send(h->id, f->p, f->n);
    pool_drop(ctx, f);
}

void host_open(int id)
{
    struct host *h = &hosts[id];
    *h = (struct host){.id = id};
    struct stack_config cfg;
    stack_config_default(&cfg);
    cfg.ip.dad = false;
    cfg.ip.mtu = 1500;
    host_mac(id, cfg.ip.mac);
    cfg.ip.addrs_n = 1;
    cfg.ip.addrs[0] = (struct ip_prefix){host_addr(id), world.plan.v6 ? 64 : 120};
    cfg.guard.bogons = false;
    cfg.guard.host_per_s = cfg.guard.network_per_s = 0;
    cfg.guard.cells = 1024;
    cfg.tcp = world.plan.tcp[id];
    cfg.tcp.conn_bytes = (uint32_t)talks_conn_bytes();
    uint8_t key[64];
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)rng_u64(&world.rng);
    h->mem_bytes = stack_bytes(&cfg);
    h->mem = mmap(NULL, h->mem_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (h->mem == MAP_FAILED)
        abort();
    struct frame_pool pool = {pool_alloc, pool_send, pool_drop, h};
    char why[256] = "";
    if (stack_init(&h->stack, h->mem, &cfg, &pool, &h->stats, key, world.now_us, why) != 0)
        world_fail("stack_init: %s", why);
    else if (id == 1 && tcp_listen(stack_tcp(h->stack), 25) != 0)
        world_fail("tcp_listen");
}

static uint32_t host_receive(struct host *h, struct frame *frames)
{
    uint32_t n = 0, bytes;
    uint16_t flags;
    uint8_t *p;
    while (n < BURST && (p = net_take(h->id, &bytes, &flags)) != NULL)
        frames[n++] = (struct frame){.p = p, .n = bytes, .flags = flags, .buf = p};
    return n;
}

/* One frame waits for each neighbour that was asked for and has not answered. */
static uint32_t frames_waiting(const struct host *h)
{
    struct ip_neighbour v[8];
    uint32_t n = ip_neighbours(stack_ip(h->stack), v, 8, world.now_us), asked = 0;
    for (uint32_t i = 0; i < n && i < 8; i++)
        asked += v[i].state == 0;
    return asked;
}

static void host_bounds(const struct host *h)
{
    const struct tcp_config *c = &world.plan.tcp[h->id];
    if (stat_get(&h->stats, STAT_PAGES_USED) > c->pages_max ||
        stat_get(&h->stats, STAT_TXBLOCKS_USED) > c->txblocks_max || stat_get(&h->stats, STAT_SYNS) > c->syns_max ||
        stat_get(&h->stats, STAT_CONNS) > c->conns_max)
        world_fail("host %d holds more than its configuration allows", h->id);
    if (h->frames_out > frames_waiting(h))
        world_fail("host %d keeps %u frames to send after its turn", h->id, h->frames_out);
}

void host_turn(struct host *h)
{
    struct frame frames[BURST];
    struct tcp *t = stack_tcp(h->stack);
    struct tcp_conn *c;
    uint32_t n = host_receive(h, frames), events;
    stack_input(h->stack, frames, n, world.now_us);
    stack_tick(h->stack, world.now_us);
    while ((c = tcp_event(t, &events)) != NULL)
        talks_event(h, c, events);
    talks_turn(h);
    stack_settle(h->stack);
    stack_flush(h->stack, world.now_us);
    for (uint32_t i = 0; i < n; i++)
        free(frames[i].buf);
    host_bounds(h);
}

uint64_t host_next_us(const struct host *h)
{
    uint64_t at = stack_next_us(h->stack), net = net_next_us(h->id), talk = talks_next_us(h);
    at = net < at ? net : at;
    at = talk < at ? talk : at;
    uint64_t since = world.now_us - world.begin_us;
    if (since >= world.plan.pause_from_us[h->id] && since < world.plan.pause_to_us[h->id] && at != UINT64_MAX &&
        at < world.begin_us + world.plan.pause_to_us[h->id])
        at = world.begin_us + world.plan.pause_to_us[h->id];
    return at;
}

void host_close(struct host *h)
{
    munmap(h->mem, h->mem_bytes);
}
