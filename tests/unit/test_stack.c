/* test_stack.c - IP, guard and TCP joined: a TCP of the test's own notes what reaches it, and sends when it is told. */
#include "wire_rig.h"

#include "dataplane/tcp/stack.h"
#include "spool/base/err.h"

#include <netinet/in.h>
#include <sys/socket.h>

/* ---- TCP as the stack sees it */

#define FAKE_BYTES 1000u

struct tcp {
    uint8_t bytes[FAKE_BYTES];
};

static struct fake {
    struct tcp_out out;
    struct guard *guard;
    struct tcp *mem;
    uint8_t key[32];
    uint16_t sports[512]; /* of the segments, in their order */
    uint32_t ahead;       /* packets announced */
    uint32_t found;       /* whose connection was looked for */
    uint32_t inputs, errors, ticks, settles, flushes;
    uint64_t now_us, next_us;
    struct ip_error error;
    bool genuine, busy, refuse;
    uint16_t mtu_at_error;
    const char *send_to; /* at the next flush */
} fake;

const struct tcp_config tcp_config_default = {.conns_max = 1, .pages_max = 12345};

size_t tcp_bytes(const struct tcp_config *cfg)
{
    (void)cfg;
    return FAKE_BYTES;
}

int tcp_init(struct tcp **t_r, void *mem, const struct tcp_config *cfg, const struct tcp_out *out, struct guard *guard,
             struct stats *stats, const uint8_t key[32], uint64_t now_us)
{
    (void)cfg;
    (void)now_us;
    assert_ptr_equal(stats, &wire.stats);
    fake.out = *out;
    fake.guard = guard;
    fake.mem = *t_r = mem;
    memcpy(fake.key, key, 32);
    memset(mem, 0xab, FAKE_BYTES);
    return fake.refuse ? -SATCHEL_EINVAL : 0;
}

void tcp_ahead_table(struct tcp *t, struct ip_packet *p)
{
    assert_ptr_equal(t, fake.mem);
    p->hash = ++fake.ahead;
}

void tcp_ahead_conn(struct tcp *t, struct ip_packet *p)
{
    assert_ptr_equal(t, fake.mem);
    assert_int_equal(p->hash, ++fake.found); /* of the burst none has been given in yet */
    assert_true(fake.found > fake.inputs);
}

void tcp_input(struct tcp *t, const struct ip_packet *p, uint64_t now_us)
{
    assert_ptr_equal(t, fake.mem);
    assert_int_equal(p->hash, fake.inputs + 1); /* looked at ahead in the same order */
    assert_int_equal(fake.found, fake.ahead);
    assert_int_equal(p->proto, 6);
    fake.now_us = now_us;
    fake.sports[fake.inputs++ % 512] = be16_get(p->l4);
}

bool tcp_error(struct tcp *t, const struct ip_error *e, uint64_t now_us)
{
    (void)t;
    fake.errors++;
    fake.now_us = now_us;
    fake.error = *e;
    fake.mtu_at_error = fake.out.mtu(fake.out.ctx, &e->dst);
    return fake.genuine;
}

void tcp_tick(struct tcp *t, uint64_t now_us)
{
    (void)t;
    fake.ticks++;
    fake.now_us = now_us;
}

uint64_t tcp_next_us(const struct tcp *t)
{
    (void)t;
    return fake.next_us;
}

bool tcp_busy(const struct tcp *t)
{
    (void)t;
    return fake.busy;
}

void tcp_settle(struct tcp *t)
{
    (void)t;
    fake.settles++;
}

void tcp_flush(struct tcp *t, uint64_t now_us)
{
    struct frame f;
    (void)t;
    fake.flushes++;
    fake.now_us = now_us;
    if (!fake.send_to || !fake.out.alloc(fake.out.ctx, &f))
        return;
    struct ip_route to = {.dst = addr(fake.send_to), .local = 0};
    f.n = 20;
    memset(f.p, 0, 20);
    fake.out.send(fake.out.ctx, &f, &to);
    fake.send_to = NULL;
}

/* ---- the stack */

static struct stack *stack;
static uint8_t key[64];

static struct stack_config config(void)
{
    struct stack_config cfg;
    struct ip_config ip = wire_config();
    stack_config_default(&cfg);
    ip.echo_per_s = cfg.ip.echo_per_s;
    ip.dad = false;
    memset(ip.key, 0, sizeof ip.key);
    cfg.ip = ip;
    cfg.guard.cells = 64;
    return cfg;
}

static int open_with(const struct stack_config *cfg, char *why_r)
{
    memset(&wire, 0, sizeof wire);
    memset(&fake, 0, sizeof fake);
    fake.next_us = UINT64_MAX;
    wire.now_us = 1000 * SECOND;
    wire.cfg = cfg->ip;
    for (int i = 0; i < 64; i++)
        key[i] = (uint8_t)i;
    size_t n = stack_bytes(cfg);
    assert_int_equal(n % 64, 0);
    wire.mem = aligned_alloc(64, n);
    memset(wire.mem, 0, n);
    int res = stack_init(&stack, wire.mem, cfg, &wire_pool, &wire.stats, key, wire.now_us, why_r);
    if (res == 0)
        wire.ip = stack_ip(stack);
    return res;
}

static int setup(void **state)
{
    struct stack_config cfg = config();
    char why[256];
    (void)state;
    if (open_with(&cfg, why) < 0)
        fail_msg("%s", why);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    wire_close();
    return 0;
}

static struct packet segment_from(uint8_t host, uint16_t sport)
{
    uint8_t p[20] = {(uint8_t)(sport >> 8), (uint8_t)sport, 0, 25};
    char src[32];
    snprintf(src, sizeof src, "192.0.2.%u", host);
    return ip4_from(host, src, "192.0.2.1", 6, p, sizeof p);
}

static void parts(void **state)
{
    uint8_t *mem = wire.mem;
    struct stack_config cfg = config();
    (void)state;
    assert_ptr_equal(stack_tcp(stack), fake.mem);
    assert_ptr_equal(stack_guard(stack), fake.guard);
    assert_memory_equal(fake.key, key, 32);
    assert_in_range((uint8_t *)fake.mem - mem, 64, stack_bytes(&cfg) - FAKE_BYTES);
    assert_int_equal((uintptr_t)fake.mem % 64, 0);
    assert_true((uint8_t *)stack_guard(stack) + guard_bytes(&cfg.guard) <= (uint8_t *)fake.mem);
    assert_true((uint8_t *)stack_ip(stack) + ip_bytes(&cfg.ip) <= (uint8_t *)stack_guard(stack));
    struct ip_addr us = ip_addr_at(stack_ip(stack), 0), expected = addr("192.0.2.1");
    assert_true(ip_addr_eq(&us, &expected)); /* TCP's memory is another */
}

static void defaults(void **state)
{
    struct stack_config cfg;
    (void)state;
    stack_config_default(&cfg);
    assert_int_equal(cfg.ip.mtu, 1500);
    assert_int_equal(cfg.ip.neighbours_max, 1024);
    assert_int_equal(cfg.ip.paths_max, 1024);
    assert_int_equal(cfg.ip.echo_per_s, 100);
    assert_true(cfg.ip.dad);
    assert_true(cfg.guard.bogons);
    assert_int_equal(cfg.tcp.pages_max, 12345);
}

static void a_burst_in_order(void **state)
{
    static struct packet k[150];
    static struct frame f[150];
    (void)state;
    for (uint32_t i = 0; i < 150; i++) { /* with others in between */
        k[i] = i % 10 == 3   ? arp_from(9, 0xff, ARP_ASK, "192.0.2.9", "192.0.2.1")
               : i % 10 == 7 ? ether_from(9, 1, 0x1234)
                             : segment_from((uint8_t)(2 + i % 100), (uint16_t)i);
        f[i] = (struct frame){.p = k[i].b, .n = k[i].n};
    }
    stack_input(stack, f, 150, wire.now_us + 5);
    assert_int_equal(fake.inputs, 120);
    assert_int_equal(fake.now_us, wire.now_us + 5);
    uint32_t expected = 0;
    for (uint32_t i = 0; i < 120; i++, expected++) {
        while (expected % 10 == 3 || expected % 10 == 7)
            expected++;
        assert_int_equal(fake.sports[i], expected);
    }
    assert_int_equal(wire.n, 15);
    assert_int_equal(stat_get(&wire.stats, STAT_DROP_ETHER), 15);
    stack_input(stack, f, 0, wire.now_us);
    assert_int_equal(fake.inputs, 120);
}

static void too_big_is_learnt_when_genuine(void **state)
{
    uint8_t p[36] = {3, 4, 0, 0, 0, 0, 0x05, 0x14, 0x45, 0, 0x05, 0xdc, 0, 0, 0x40, 0, 1, 6};
    struct ip_addr us = addr("192.0.2.1"), him = addr("198.51.100.9");
    (void)state;
    memcpy(p + 20, us.b + 12, 4);
    memcpy(p + 24, him.b + 12, 4);
    struct packet k = icmp4_from(254, "203.0.113.7", "192.0.2.1", p, sizeof p);
    struct frame f = {.p = k.b, .n = k.n};
    stack_input(stack, &f, 1, wire.now_us);
    assert_int_equal(fake.errors, 1);
    assert_int_equal(fake.error.mtu, 1300);
    assert_int_equal(fake.out.mtu(fake.out.ctx, &him), 1500);
    fake.genuine = true;
    stack_input(stack, &f, 1, wire.now_us);
    assert_int_equal(fake.mtu_at_error, 1500);
    assert_int_equal(fake.out.mtu(fake.out.ctx, &him), 1300);
    assert_int_equal(stat_get(&wire.stats, STAT_PATH_MTU), 1);
    assert_int_equal(fake.inputs, 0);
}

static void a_turn(void **state)
{
    (void)state;
    fake.send_to = "192.0.2.9";
    stack_tick(stack, wire.now_us + 1);
    assert_int_equal(fake.now_us, wire.now_us + 1);
    stack_settle(stack);
    stack_flush(stack, wire.now_us + 2);
    assert_int_equal(fake.now_us, wire.now_us + 2);
    assert_int_equal(fake.ticks + fake.settles + fake.flushes, 3);
    assert_arp(0, ARP_ASK, "192.0.2.1", "192.0.2.9");
    assert_int_equal(stack_next_us(stack), wire.now_us + 2 + SECOND); /* the question, once more */
    fake.next_us = wire.now_us + 7;
    assert_int_equal(stack_next_us(stack), wire.now_us + 7);
    fake.busy = true;
    assert_int_equal(stack_next_us(stack), 0);
    fake.busy = false;
    stack_tick(stack, wire.now_us + 2 + SECOND);
    assert_int_equal(wire.n, 2);
    struct packet k = arp_from(9, 1, ARP_ANSWER, "192.0.2.9", "192.0.2.1");
    struct frame f = {.p = k.b, .n = k.n};
    stack_input(stack, &f, 1, wire.now_us + 2 * SECOND);
    assert_int_equal(wire.n, 3);
    assert_true(sent_to(2, 9));
}

static void echo_asks_the_guard(void **state)
{
    uint8_t p[16] = {8};
    struct ip_prefix blocked = prefix("8.8.8.8", 32);
    (void)state;
    struct packet k = icmp4_from(254, "8.8.8.8", "192.0.2.1", p, sizeof p);
    struct frame f = {.p = k.b, .n = k.n};
    guard_block(stack_guard(stack), &blocked, 1);
    stack_input(stack, &f, 1, wire.now_us);
    assert_int_equal(stat_get(&wire.stats, STAT_DROP_BLOCKED), 1);
    assert_int_equal(wire.n, 0);
}

static void refused(void **state)
{
    struct stack_config cfg = config();
    char why[256];
    (void)state;
    teardown(NULL);
    cfg.ip.vlan = 5000;
    assert_int_equal(open_with(&cfg, why), -SATCHEL_EINVAL);
    assert_non_null(strstr(why, "vlan 5000"));
    free(wire.mem);
    cfg = config();
    cfg.guard.cells = 1000;
    assert_int_equal(open_with(&cfg, why), -SATCHEL_EINVAL);
    assert_non_null(strstr(why, "guard"));
    free(wire.mem);
    setup(NULL);
}

static void sockaddrs(void **state)
{
    struct sockaddr_storage ss;
    struct ip_addr a = addr("192.0.2.9");
    char text[64];
    (void)state;
    stack_sockaddr(&a, 25, &ss);
    struct sockaddr_in *in = (struct sockaddr_in *)&ss;
    assert_int_equal(ss.ss_family, AF_INET);
    assert_int_equal(ntohs(in->sin_port), 25);
    assert_string_equal(inet_ntop(AF_INET, &in->sin_addr, text, sizeof text), "192.0.2.9");
    a = addr("2001:db8::9");
    stack_sockaddr(&a, 40000, &ss);
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&ss;
    assert_int_equal(ss.ss_family, AF_INET6);
    assert_int_equal(ntohs(in6->sin6_port), 40000);
    assert_string_equal(inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text), "2001:db8::9");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(parts),
        T(defaults),
        T(a_burst_in_order),
        T(too_big_is_learnt_when_genuine),
        T(a_turn),
        T(echo_asks_the_guard),
        T(refused),
        T(sockaddrs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
