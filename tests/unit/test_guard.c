/* test_guard.c - the drop ladder: bogons, the block list, token buckets, answers. */
#include "dataplane/tcp/bogon.h"
#include "dataplane/tcp/guard.h"
#include "dataplane/tcp/sketch.h"
#include "spool/base/err.h"
#include "spool/base/rng.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define SECOND 1000000ull

static struct {
    struct guard *g;
    void *mem;
    struct stats stats;
    uint64_t now_us;
} t;

static struct ip_addr addr(const char *text)
{
    struct in_addr in4;
    struct ip_addr a;
    if (inet_pton(AF_INET, text, &in4) == 1)
        return ip_addr_of4(in4.s_addr);
    assert_int_equal(inet_pton(AF_INET6, text, a.b), 1);
    return a;
}

static struct ip_prefix net(const char *text, uint8_t bits)
{
    struct ip_addr a = addr(text);
    return (struct ip_prefix){a, (uint8_t)(ip_addr_is4(&a) ? bits + 96 : bits)};
}

static void open_with(const struct guard_config *cfg)
{
    static const uint8_t key[16] = {3};
    memset(&t, 0, sizeof t);
    t.now_us = 77 * SECOND;
    t.mem = calloc(1, guard_bytes(cfg));
    assert_int_equal(guard_init(&t.g, t.mem, cfg, key, &t.stats, t.now_us), 0);
}

static int setup(void **state)
{
    (void)state;
    open_with(&guard_config_default);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(t.mem);
    return 0;
}

static enum guard_verdict syn(const char *from)
{
    struct ip_addr a = addr(from);
    return guard_syn(t.g, &a, t.now_us);
}

static enum guard_verdict stranger(const char *from)
{
    struct ip_addr a = addr(from);
    return guard_stranger(t.g, &a);
}

static uint32_t passed(const char *from, uint32_t tries)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < tries; i++)
        n += syn(from) == GUARD_PASS;
    return n;
}

/* ---- bogons */

/* First and last addresses of what is special, and their neighbours that are not. */
static void bogons_to_their_ends(void **state)
{
    static const char *const bad[] = {"0.0.0.0",
                                      "0.255.255.255",
                                      "10.0.0.0",
                                      "10.255.255.255",
                                      "100.64.0.0",
                                      "100.127.255.255",
                                      "127.0.0.0",
                                      "127.255.255.255",
                                      "169.254.0.0",
                                      "169.254.255.255",
                                      "172.16.0.0",
                                      "172.31.255.255",
                                      "192.0.0.0",
                                      "192.0.0.255",
                                      "192.0.2.0",
                                      "192.0.2.255",
                                      "192.88.99.0",
                                      "192.168.0.0",
                                      "192.168.255.255",
                                      "198.18.0.0",
                                      "198.19.255.255",
                                      "198.51.100.0",
                                      "203.0.113.255",
                                      "224.0.0.0",
                                      "239.255.255.255",
                                      "240.0.0.0",
                                      "255.255.255.255",
                                      "::",
                                      "::1",
                                      "::7f00:1",
                                      "100::1",
                                      "100:0:0:1::1",
                                      "64:ff9b:1::1",
                                      "2001:1ff::1",
                                      "2001:2::1",
                                      "2001:10::1",
                                      "2001:1f::1",
                                      "2001:40::1",
                                      "2001:db8::",
                                      "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
                                      "3fff::1",
                                      "3fff:fff::1",
                                      "5f00::1",
                                      "fc00::",
                                      "fdff:ffff::1",
                                      "fe80::1",
                                      "febf::1",
                                      "fec0::1",
                                      "ff00::",
                                      "ff0e::1",
                                      "4000::1",
                                      "1fff:ffff::1"};
    static const char *const good[] = {
        "1.0.0.0",         "9.255.255.255",   "11.0.0.0",      "100.63.255.255", "100.128.0.0",     "126.255.255.255",
        "128.0.0.0",       "169.253.255.255", "169.255.0.0",   "172.15.255.255", "172.32.0.0",      "191.255.255.255",
        "192.0.1.0",       "192.0.3.0",       "192.88.98.255", "192.88.100.0",   "192.167.255.255", "192.169.0.0",
        "198.17.255.255",  "198.20.0.0",      "198.51.99.255", "198.51.101.0",   "203.0.112.255",   "203.0.114.0",
        "223.255.255.255", "192.31.196.1",    "192.52.193.1",  "192.175.48.1",   "2000::",          "2001:0:1::1",
        "2001:3::1",       "2001:4:112::1",   "2001:20::1",    "2001:3f::1",     "2001:200::1",     "2001:db7:ffff::1",
        "2001:db9::",      "2002:808:808::1", "2600::1",       "3ffe:ffff::1",   "3fff:1000::1",    "64:ff9b::808:808"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (stranger(bad[i]) != GUARD_BOGON)
            fail_msg("%s is let in", bad[i]);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (stranger(good[i]) != GUARD_PASS)
            fail_msg("%s is not let in", good[i]);
    assert_int_equal(stat_get(&t.stats, STAT_DROP_BOGON), sizeof bad / sizeof *bad);
}

static void bogons_allowed(void **state)
{
    struct guard_config cfg = guard_config_default;
    (void)state;
    free(t.mem);
    cfg.bogons = false;
    open_with(&cfg);
    assert_int_equal(syn("10.1.1.1"), GUARD_PASS);
    assert_int_equal(syn("fd00::1"), GUARD_PASS);
}

/* ---- the block list */

static void blocked(void **state)
{
    struct ip_prefix list[] = {net("5.0.0.0", 8), net("9.9.9.9", 32), net("11.0.0.0", 31), net("2600::", 32),
                               net("2a00:1::", 48)};
    (void)state;
    assert_int_equal(guard_block(t.g, list, 3), 0);
    assert_int_equal(stranger("5.0.0.0"), GUARD_BLOCKED);
    assert_int_equal(stranger("5.255.255.255"), GUARD_BLOCKED);
    assert_int_equal(stranger("4.255.255.255"), GUARD_PASS);
    assert_int_equal(stranger("6.0.0.0"), GUARD_PASS);
    assert_int_equal(syn("9.9.9.9"), GUARD_BLOCKED);
    assert_int_equal(stranger("9.9.9.8"), GUARD_PASS);
    assert_int_equal(stranger("9.9.9.10"), GUARD_PASS);
    assert_int_equal(stranger("11.0.0.1"), GUARD_BLOCKED);
    assert_int_equal(stranger("11.0.0.2"), GUARD_PASS);
    assert_int_equal(stranger("2600::1"), GUARD_PASS);
    assert_int_equal(guard_block(t.g, list, 5), 0);
    assert_int_equal(stranger("2600::1"), GUARD_BLOCKED);
    assert_int_equal(stranger("2600:0:ffff:ffff:ffff:ffff:ffff:ffff"), GUARD_BLOCKED);
    assert_int_equal(stranger("2600:1::"), GUARD_PASS);
    assert_int_equal(stranger("2a00:1:0:ffff::1"), GUARD_BLOCKED);
    assert_int_equal(stranger("2a00:1:1::1"), GUARD_PASS);
    assert_int_equal(stranger("5.5.5.5"), GUARD_BLOCKED);
    assert_int_equal(guard_block(t.g, NULL, 0), 0);
    assert_int_equal(stranger("5.5.5.5"), GUARD_PASS);
    assert_int_equal(stat_get(&t.stats, STAT_DROP_BLOCKED), 8);
}

static void lists_refused(void **state)
{
    struct ip_prefix good[] = {net("9.9.9.9", 32)}, unsorted[] = {net("9.0.0.0", 8), net("5.0.0.0", 8)},
                     nested[] = {net("5.0.0.0", 8), net("5.1.0.0", 16)},
                     twice[] = {net("5.0.0.0", 8), net("5.0.0.0", 8)}, wide[] = {net("::", 8)};
    struct ip_prefix *many = calloc(guard_config_default.blocked_max + 1, sizeof *many);
    (void)state;
    assert_int_equal(guard_block(t.g, good, 1), 0);
    assert_int_equal(guard_block(t.g, unsorted, 2), -SATCHEL_EINVAL);
    assert_int_equal(guard_block(t.g, nested, 2), -SATCHEL_EINVAL);
    assert_int_equal(guard_block(t.g, twice, 2), -SATCHEL_EINVAL);
    assert_int_equal(guard_block(t.g, wide, 1), -SATCHEL_EINVAL); /* would block all of IPv4 */
    assert_int_equal(guard_block(t.g, many, guard_config_default.blocked_max + 1), -SATCHEL_EFULL);
    assert_int_equal(stranger("9.9.9.9"), GUARD_BLOCKED);
    free(many);
}

static void a_long_list(void **state)
{
    uint32_t n = guard_config_default.blocked_max;
    struct ip_prefix *list = calloc(n, sizeof *list);
    (void)state;
    for (uint32_t i = 0; i < n; i++)
        list[i] = (struct ip_prefix){ip_addr_of4(htonl(0x14000000 + i * 512)), 120}; /* each second /24 from 20.0.0.0 */
    assert_int_equal(guard_block(t.g, list, n), 0);
    for (uint32_t i = 0; i < n; i += 7) {
        struct ip_addr in = ip_addr_of4(htonl(0x14000000 + i * 512 + 77)),
                       out = ip_addr_of4(htonl(0x14000000 + i * 512 + 256));
        assert_int_equal(guard_stranger(t.g, &in), GUARD_BLOCKED);
        assert_int_equal(guard_stranger(t.g, &out), GUARD_PASS);
    }
    free(list);
}

/* ---- token buckets */

static void a_host_has_a_rate(void **state)
{
    (void)state;
    assert_int_equal(passed("8.8.8.8", 1000), 200);
    assert_int_equal(stat_get(&t.stats, STAT_DROP_RATE), 800);
    t.now_us += SECOND;
    assert_int_equal(passed("8.8.8.8", 1000), 50);
    t.now_us += SECOND / 10;
    assert_int_equal(passed("8.8.8.8", 1000), 5);
    t.now_us += 3600 * SECOND;
    assert_int_equal(passed("8.8.8.8", 1000), 200); /* no more than a burst is saved up */
    assert_int_equal(passed("9.9.9.9", 1000), 200);
}

static void a_network_has_a_rate(void **state)
{
    uint32_t n = 0;
    char text[32];
    (void)state;
    for (int i = 0; i < 256; i++) {
        snprintf(text, sizeof text, "8.8.8.%d", i);
        n += passed(text, 10);
    }
    assert_int_equal(n, 800);
    assert_int_equal(passed("8.8.9.1", 10), 10);
}

static void a_host_is_a_64_a_network_a_48(void **state)
{
    (void)state;
    assert_int_equal(passed("2600:1:2:3::1", 150) + passed("2600:1:2:3:ffff::1", 150), 200);
    assert_int_equal(passed("2600:1:2:4::1", 1000), 200);
    assert_int_equal(passed("2600:1:2:5::1", 1000), 200);
    assert_int_equal(passed("2600:1:2:6::1", 1000), 200); /* the network's 800 are gone */
    assert_int_equal(passed("2600:1:2:7::1", 1000), 0);
    assert_int_equal(passed("2600:1:3::1", 1000), 200);
}

/* A refused host takes nothing from its network. */
static void refused_ones_cost_nothing(void **state)
{
    (void)state;
    assert_int_equal(passed("8.8.8.8", 100000), 200);
    assert_int_equal(passed("8.8.8.9", 200) + passed("8.8.8.10", 200) + passed("8.8.8.11", 200), 600);
    assert_int_equal(passed("8.8.8.12", 1), 0);
    t.now_us += SECOND;
    assert_int_equal(passed("8.8.8.12", 1000), 200); /* nor does a refusing network from its hosts */
}

static void no_limits(void **state)
{
    struct guard_config cfg = guard_config_default;
    (void)state;
    free(t.mem);
    cfg.host_per_s = cfg.network_per_s = cfg.answers_per_s = 0;
    open_with(&cfg);
    assert_int_equal(passed("8.8.8.8", 5000), 5000);
    for (int i = 0; i < 1000; i++)
        assert_true(guard_answer(t.g, t.now_us));
}

/* A flood from everywhere does not shut out who comes seldom. */
static void a_flood_shuts_nobody_out(void **state)
{
    struct rng r;
    uint32_t in = 0;
    (void)state;
    rng_seed(&r, 1);
    for (uint32_t i = 0; i < 200000; i++) { /* in one second, from anywhere in 64.0.0.0/3 */
        struct ip_addr a = ip_addr_of4(htonl(0x40000000 | (uint32_t)rng_below(&r, 0x20000000)));
        guard_syn(t.g, &a, t.now_us + i * 5);
        if (i % 200 == 0) {
            a = ip_addr_of4(htonl(0x08000000 + i));
            in += guard_syn(t.g, &a, t.now_us + i * 5) == GUARD_PASS;
        }
    }
    assert_int_equal(in, 1000);
}

/* Networks that meet in one cell let each other in: fewer cells than networks, and nobody is refused his first. */
static void collisions_let_in(void **state)
{
    struct sketch s;
    uint64_t *cells = calloc(1, sketch_bytes(64));
    struct rng r;
    uint32_t first = 0;
    (void)state;
    rng_seed(&r, 2);
    sketch_init(&s, cells, 64, bucket_rate(1, 5));
    for (int i = 0; i < 40; i++) {
        uint64_t hash = rng_u64(&r);
        first += sketch_has(&s, hash, t.now_us);
        for (int k = 0; k < 5; k++)
            sketch_take(&s, hash, t.now_us);
        assert_false(sketch_has(&s, hash, t.now_us));
    }
    assert_in_range(first, 38, 40);
    free(cells);
}

static void answers_are_counted(void **state)
{
    struct guard_config cfg = guard_config_default;
    uint32_t n = 0;
    (void)state;
    free(t.mem);
    cfg.answers_per_s = 20;
    open_with(&cfg);
    for (int i = 0; i < 100; i++)
        n += guard_answer(t.g, t.now_us);
    assert_int_equal(n, 20);
    t.now_us += SECOND / 2;
    for (int i = 0; i < 100; i++)
        n += guard_answer(t.g, t.now_us);
    assert_int_equal(n, 30);
    assert_int_equal(guard_synack_times(t.g), 4);
}

static void configurations_refused(void **state)
{
    struct guard_config cfg = guard_config_default;
    uint8_t key[16] = {0};
    struct guard *g;
    (void)state;
    cfg.cells = 1000;
    assert_int_equal(guard_init(&g, t.mem, &cfg, key, &t.stats, 0), -SATCHEL_EINVAL);
    cfg.cells = 0;
    assert_int_equal(guard_init(&g, t.mem, &cfg, key, &t.stats, 0), -SATCHEL_EINVAL);
    cfg.cells = 1024;
    cfg.synack_times = 0;
    assert_int_equal(guard_init(&g, t.mem, &cfg, key, &t.stats, 0), -SATCHEL_EINVAL);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(bogons_to_their_ends),
        T(bogons_allowed),
        T(blocked),
        T(lists_refused),
        T(a_long_list),
        T(a_host_has_a_rate),
        T(a_network_has_a_rate),
        T(a_host_is_a_64_a_network_a_48),
        T(refused_ones_cost_nothing),
        T(no_limits),
        T(a_flood_shuts_nobody_out),
        T(collisions_let_in),
        T(answers_are_counted),
        T(configurations_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
