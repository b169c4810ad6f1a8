/* stack.c - IP, guard and TCP of one queue, joined. */
#include "dataplane/tcp/stack.h"
#include "spool/base/err.h"
#include "spool/base/fetch.h"

#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

#define BURST   64u
#define AHEAD   4u /* frames whose headers are fetched before their turn comes */
#define WHY_MAX 256

struct stack {
    struct ip *ip;
    struct guard *guard;
    struct tcp *tcp;
    struct frame_pool pool;
    uint64_t now_us; /* of this turn: what TCP sends in between leaves with it */
};

void stack_config_default(struct stack_config *cfg_r)
{
    *cfg_r = (struct stack_config){.guard = guard_config_default, .tcp = tcp_config_default};
    cfg_r->ip =
        (struct ip_config){.mtu = 1500, .neighbours_max = 1024, .paths_max = 1024, .echo_per_s = 100, .dad = true};
}

/* ---- memory: the stack, then each part */

static size_t rounded(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

size_t stack_bytes(const struct stack_config *cfg)
{
    return rounded(sizeof(struct stack)) + rounded(ip_bytes(&cfg->ip)) + rounded(guard_bytes(&cfg->guard)) +
           rounded(tcp_bytes(&cfg->tcp));
}

/* ---- what TCP sends through */

static bool out_alloc(void *ctx, struct frame *f_r)
{
    struct stack *s = ctx;
    return s->pool.alloc(s->pool.ctx, f_r);
}

static void out_send(void *ctx, struct frame *f, const struct ip_route *to)
{
    struct stack *s = ctx;
    ip_output(s->ip, f, to, s->now_us);
}

static uint16_t out_mtu(void *ctx, const struct ip_addr *dst)
{
    struct stack *s = ctx;
    return ip_mtu(s->ip, dst, s->now_us);
}

static int refuse(int res, char *why_r, const char *why)
{
    snprintf(why_r, WHY_MAX, "%s", why);
    return res;
}

/* key: 32 bytes for TCP, 16 for the guard, 16 for IP. */
int stack_init(struct stack **s_r, void *mem, const struct stack_config *cfg, const struct frame_pool *pool,
               struct stats *stats, const uint8_t key[64], uint64_t now_us, char *why_r)
{
    struct stack *s = mem;
    uint8_t *rest = (uint8_t *)mem + rounded(sizeof *s);
    struct ip_config ip = cfg->ip;
    memcpy(ip.key, key + 48, sizeof ip.key);
    s->pool = *pool;
    s->now_us = now_us;
    int res = ip_init(&s->ip, rest, &ip, pool, stats, now_us, why_r);
    if (res < 0)
        return res;
    rest += rounded(ip_bytes(&cfg->ip));
    res = guard_init(&s->guard, rest, &cfg->guard, key + 32, stats, now_us);
    if (res < 0)
        return refuse(res, why_r, "guard: expected cells of a power of two up to 2^24, and 1 SYN-ACK or more");
    rest += rounded(guard_bytes(&cfg->guard));
    ip_guard(s->ip, s->guard);
    struct tcp_out out = {.alloc = out_alloc, .send = out_send, .mtu = out_mtu, .ctx = s};
    res = tcp_init(&s->tcp, rest, &cfg->tcp, &out, s->guard, stats, key, now_us);
    if (res < 0)
        return refuse(res, why_r, "tcp: a limit or a time is out of its range");
    *s_r = s;
    return 0;
}

/* ---- a turn */

/* A too-big report that TCP knows to be about what it sent narrows the path; TCP cuts anew at its next flush. */
static void error_input(struct stack *s, const struct ip_error *e)
{
    if (tcp_error(s->tcp, e, s->now_us))
        ip_mtu_learn(s->ip, &e->dst, e->mtu, s->now_us);
}

/* All headers first, then all segments: TCP's lookups find their packets in the cache, and what they look up. */
static void burst_input(struct stack *s, struct frame *frames, uint32_t n)
{
    struct ip_packet packets[BURST];
    struct ip_error error;
    uint32_t packets_n = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (i + AHEAD < n)
            cache_fetch(frames[i + AHEAD].p);
        switch (ip_input(s->ip, &frames[i], s->now_us, &packets[packets_n], &error)) {
        case 1:
            tcp_ahead_table(s->tcp, &packets[packets_n++]);
            break;
        case 2:
            error_input(s, &error);
            break;
        default:
            break;
        }
    }
    for (uint32_t i = 0; i < packets_n; i++)
        tcp_ahead_conn(s->tcp, &packets[i]);
    for (uint32_t i = 0; i < packets_n; i++)
        tcp_input(s->tcp, &packets[i], s->now_us);
}

void stack_input(struct stack *s, struct frame *frames, uint32_t n, uint64_t now_us)
{
    s->now_us = now_us;
    for (uint32_t i = 0; i < n && i < AHEAD; i++)
        cache_fetch(frames[i].p);
    for (uint32_t i = 0; i < n; i += BURST)
        burst_input(s, frames + i, n - i < BURST ? n - i : BURST);
}

void stack_tick(struct stack *s, uint64_t now_us)
{
    s->now_us = now_us;
    ip_tick(s->ip, now_us);
    tcp_tick(s->tcp, now_us);
}

void stack_settle(struct stack *s)
{
    tcp_settle(s->tcp);
}

void stack_flush(struct stack *s, uint64_t now_us)
{
    s->now_us = now_us;
    tcp_flush(s->tcp, now_us);
}

uint64_t stack_next_us(const struct stack *s)
{
    uint64_t ip = ip_next_us(s->ip), tcp = tcp_busy(s->tcp) ? 0 : tcp_next_us(s->tcp);
    return ip < tcp ? ip : tcp;
}

/* ---- its parts */

struct tcp *stack_tcp(struct stack *s)
{
    return s->tcp;
}

struct ip *stack_ip(struct stack *s)
{
    return s->ip;
}

struct guard *stack_guard(struct stack *s)
{
    return s->guard;
}

void stack_sockaddr(const struct ip_addr *a, uint16_t port, struct sockaddr_storage *ss_r)
{
    memset(ss_r, 0, sizeof *ss_r);
    if (ip_addr_is4(a)) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = a->w[3]};
        memcpy(ss_r, &in, sizeof in);
        return;
    }
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    memcpy(&in6.sin6_addr, a->b, sizeof in6.sin6_addr);
    memcpy(ss_r, &in6, sizeof in6);
}
