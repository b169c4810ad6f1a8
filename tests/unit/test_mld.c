/* test_mld.c - reports of the groups that we listen to. */
#include "wire_rig.h"

#include "spool/base/log.h"

static int setup(void **state)
{
    struct ip_config cfg = wire_config();
    (void)state;
    log_level_now = LOG_LEVEL_ERROR;
    cfg.addrs_n = 4;
    cfg.addrs[2] = prefix("2001:db8::ab:cdef", 64);
    cfg.addrs[3] = prefix("2001:db8:1::1", 64); /* of the same group as 2001:db8::1 and the link-local address */
    wire_open(&cfg);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    wire_close();
    return 0;
}

/* A frame that is a report of both groups. */
static void assert_report(uint32_t i, const char *src, uint8_t type)
{
    const uint8_t *p = sent(i);
    struct ip_addr s = addr(src), d = addr("ff02::16"), one = addr("ff02::1:ff00:1"), two = addr("ff02::1:ffab:cdef");
    assert_int_equal(wire.sent[i].n, 14 + 40 + 8 + 8 + 40);
    assert_memory_equal(p, "\x33\x33\0\0\0\x16", 6);
    assert_memory_equal(p + 12, "\x86\xdd\x60\0\0\0\0\x38\0\x01", 10); /* hop-by-hop next, one hop */
    assert_memory_equal(p + 22, s.b, 16);
    assert_memory_equal(p + 38, d.b, 16);
    assert_memory_equal(p + 54, "\x3a\0\x05\x02\0\0\x01\0", 8); /* ICMPv6 next; router alert: MLD */
    p += 62;
    assert_int_equal(p[0], 143);
    assert_int_equal(be16_get(p + 6), 2);
    assert_true(sum_good(sum_add(sum_pseudo(&s, &d, 58, 48), p, 48)));
    assert_memory_equal(p + 8, ((uint8_t[]){type, 0, 0, 0}), 4);
    assert_memory_equal(p + 12, one.b, 16);
    assert_memory_equal(p + 28, ((uint8_t[]){type, 0, 0, 0}), 4);
    assert_memory_equal(p + 32, two.b, 16);
}

static struct packet query(const char *src, uint8_t hops, uint16_t code, uint32_t n)
{
    uint8_t p[28] = {130};
    be16_put(p + 4, code);
    return icmp6_from(9, src, "ff02::1", hops, p, n);
}

static void joined_before_the_probe(void **state)
{
    (void)state;
    struct ip_config cfg = wire.cfg;
    uint32_t reports = 0;
    wire_close();
    cfg.dad = true;
    wire_open(&cfg);
    while (wire.n == 0 || sent(wire.n - 1)[12] == 0x08) /* ARP probes come in between */
        wire_wait(SECOND / 1000);
    for (uint32_t i = 0; i < wire.n && reports == 0; i++)
        if (sent(i)[12] == 0x86) {
            assert_report(i, "::", 4);
            reports++;
        }
    assert_int_equal(reports, 1);
    wire_wait(10 * SECOND);
    for (uint32_t i = wire.n - 1; i > 0; i--)
        if (wire.sent[i].n == 110) {
            assert_report(i, "fe80::ff:fe00:1", 4); /* from a usable address, when there is one */
            return;
        }
    fail_msg("no report with the announcement");
}

static void queries_answered_in_time(void **state)
{
    (void)state;
    struct packet k = query("fe80::9", 1, 2000, 28);
    for (int i = 0; i < 50; i++)
        assert_int_equal(wire_give(&k), 0);
    assert_int_equal(stat_get(&wire.stats, STAT_DROP_ICMP), 0);
    wire_wait(2 * SECOND);
    assert_int_equal(wire.n, 1); /* one for all of them */
    assert_report(0, "fe80::ff:fe00:1", 2);
    wire_wait(100 * SECOND);
    assert_int_equal(wire.n, 1);
    k = query("fe80::9", 1, 0, 24); /* of version 1, at once */
    wire_give(&k);
    wire_wait(0);
    assert_int_equal(wire.n, 2);
    k = query("fe80::9", 1, 0xffff, 28); /* hours, it says */
    wire_give(&k);
    wire_wait(10 * SECOND);
    assert_int_equal(wire.n, 3);
}

static void queries_refused(void **state)
{
    (void)state;
    struct packet k = query("fe80::9", 2, 0, 28);
    wire_dropped(&k, STAT_DROP_ICMP);
    k = query("2001:db8::9", 1, 0, 28);
    wire_dropped(&k, STAT_DROP_ICMP);
    k = query("fe80::9", 1, 0, 23);
    wire_dropped(&k, STAT_DROP_ICMP);
    wire_wait(20 * SECOND);
    assert_int_equal(wire.n, 0);
}

static void quiet_queues_do_not_report(void **state)
{
    (void)state;
    struct ip_config cfg = wire.cfg;
    struct packet k = query("fe80::9", 1, 0, 28);
    wire_close();
    cfg.dad = cfg.quiet = true;
    wire_open(&cfg);
    wire_wait(10 * SECOND);
    wire_give(&k);
    wire_wait(10 * SECOND);
    assert_int_equal(wire.n, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(joined_before_the_probe),
        T(queries_answered_in_time),
        T(queries_refused),
        T(quiet_queues_do_not_report),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
