/* test_icmp.c - ICMP of both versions: echo and its limits, errors as far as IP can judge them. */
#include "wire_rig.h"

#include "dataplane/tcp/guard.h"

static int setup(void **state)
{
    struct ip_config cfg = wire_config();
    (void)state;
    wire_open(&cfg);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    wire_close();
    return 0;
}

/* ---- echo */

static struct packet echo4(uint32_t n)
{
    uint8_t p[2048] = {8, 0, 0, 0, 0x12, 0x34, 0, 1};
    for (uint32_t i = 8; i < n; i++)
        p[i] = (uint8_t)i;
    return icmp4_from(9, "192.0.2.9", "192.0.2.1", p, n);
}

static struct packet echo6(uint32_t n, const char *dst)
{
    uint8_t p[2048] = {128, 0, 0, 0, 0x12, 0x34, 0, 1};
    return icmp6_from(9, "2001:db8::9", dst, 64, p, n);
}

/* So that replies leave at once. */
static void know_host9(void)
{
    struct packet k = ndp_from(9, "2001:db8::9", "2001:db8::1", 136, 0x60, "2001:db8::9", 2);
    wire_output(0, "192.0.2.9", 20);
    wire_resolve4(9, "192.0.2.9");
    wire_output(1, "2001:db8::9", 20);
    wire_give(&k);
    wire_forget();
}

static void echo_answered(void **state)
{
    uint32_t sizes[] = {8, 9, 64, 1480};
    (void)state;
    know_host9();
    for (int i = 0; i < 4; i++) {
        struct packet k = echo4(sizes[i]);
        assert_int_equal(wire_give(&k), 0);
        const uint8_t *p = sent((uint32_t)i);
        assert_true(sent_to((uint32_t)i, 9));
        assert_int_equal(wire.sent[i].n, 34 + sizes[i]);
        assert_memory_equal(p + 26, k.b + 30, 4);
        assert_memory_equal(p + 30, k.b + 26, 4);
        assert_int_equal(p[23], 1);
        assert_int_equal(p[34], 0);
        assert_true(sum_good(sum_add(0, p + 14, 20)));
        assert_true(sum_good(sum_add(0, p + 34, sizes[i])));
        assert_memory_equal(p + 38, k.b + 38, sizes[i] - 4);
    }
    assert_int_equal(stat_get(&wire.stats, STAT_ECHO_OUT), 4);
}

static void echo_answered6(void **state)
{
    (void)state;
    know_host9();
    struct packet k = echo6(64, "2001:db8::1");
    assert_int_equal(wire_give(&k), 0);
    const uint8_t *p = sent(0);
    struct ip_addr us = addr("2001:db8::1"), him = addr("2001:db8::9");
    assert_memory_equal(p + 22, us.b, 16);
    assert_memory_equal(p + 38, him.b, 16);
    assert_int_equal(p[54], 129);
    assert_true(sum_good(sum_add(sum_pseudo(&us, &him, 58, 64), p + 54, 64)));
    k = echo6(64, "ff02::1"); /* to all: nobody is flooded through us */
    wire_dropped(&k, STAT_DROP_ICMP);
}

static void echo_refused(void **state)
{
    (void)state;
    know_host9();
    struct packet k = echo4(7);
    wire_dropped(&k, STAT_DROP_ICMP);
    k = echo4(64);
    k.b[60] ^= 1; /* checksum */
    wire_dropped(&k, STAT_DROP_ICMP);
    k = echo4(64);
    assert_int_equal(wire_give_part(&k, k.n, FRAME_L4_BAD, 0), 0);
    k = echo4(1481); /* came whole, would not go back whole */
    wire_dropped(&k, STAT_DROP_ICMP);
    uint8_t p[16] = {8, 1};
    k = icmp4_from(9, "192.0.2.9", "192.0.2.1", p, sizeof p);
    wire_dropped(&k, STAT_DROP_ICMP);
    assert_int_equal(wire.n, 0);
}

static void echo_has_a_limit(void **state)
{
    (void)state;
    know_host9();
    struct packet k = echo4(64);
    for (int i = 0; i < 150; i++)
        wire_give(&k);
    assert_int_equal(wire.n, 100);
    assert_int_equal(stat_get(&wire.stats, STAT_DROP_ICMP_LIMIT), 50);
    wire_wait(SECOND / 10);
    for (int i = 0; i < 150; i++)
        wire_give(&k);
    assert_int_equal(wire.n, 110);
}

static void echo_asks_the_guard(void **state)
{
    (void)state;
    struct guard_config cfg = guard_config_default;
    struct guard *g;
    struct ip_prefix blocked = prefix("192.0.2.9", 32);
    uint8_t key[16] = {1};
    cfg.cells = 16;
    cfg.answers_per_s = 3;
    void *mem = calloc(1, guard_bytes(&cfg));
    cfg.bogons = false;
    assert_int_equal(guard_init(&g, mem, &cfg, key, &wire.stats, wire.now_us), 0);
    know_host9();
    ip_guard(wire.ip, g);
    struct packet k = echo4(64);
    for (int i = 0; i < 5; i++)
        wire_give(&k);
    assert_int_equal(wire.n, 3);
    wire_wait(SECOND);
    guard_block(g, &blocked, 1);
    wire_dropped(&k, STAT_DROP_BLOCKED);
    ip_guard(wire.ip, NULL);
    free(mem);
}

static void others_dropped(void **state)
{
    static const uint8_t types4[] = {0, 4, 5, 9, 10, 13, 15, 17, 255},
                         types6[] = {0, 100, 129, 130, 131, 132, 138, 143};
    (void)state;
    for (size_t i = 0; i < sizeof types4; i++) {
        uint8_t p[64] = {types4[i]};
        struct packet k = icmp4_from(9, "192.0.2.9", "192.0.2.1", p, sizeof p);
        wire_dropped(&k, STAT_DROP_ICMP);
    }
    for (size_t i = 0; i < sizeof types6; i++) {
        uint8_t p[64] = {types6[i]};
        struct packet k = icmp6_from(9, "2001:db8::9", "2001:db8::1", 64, p, sizeof p);
        wire_dropped(&k, STAT_DROP_ICMP);
    }
    assert_int_equal(wire.n, 0);
}

/* ---- errors */

/* What an error says, and the packet of ours that it quotes. */
struct error {
    uint8_t type, code;
    uint32_t field; /* bytes 4 to 7 */
    const char *src, *dst;
    uint16_t packet_n;
    uint8_t proto;
    uint32_t quoted; /* bytes behind the quoted IP header */
};

static const uint8_t quoted_tcp[20] = {0, 25, 0x9c, 0x40, 0x11, 0x22, 0x33, 0x44};

static struct packet error4(struct error e)
{
    uint8_t p[128] = {e.type, e.code};
    struct ip_addr s = addr(e.src ? e.src : "192.0.2.1"), d = addr(e.dst ? e.dst : "198.51.100.9");
    be32_put(p + 4, e.field);
    memcpy(p + 8, "\x45\0\0\0\0\0\x40\0\x01", 9);
    be16_put(p + 10, e.packet_n ? e.packet_n : 1500);
    p[17] = e.proto ? e.proto : 6;
    memcpy(p + 20, s.b + 12, 4);
    memcpy(p + 24, d.b + 12, 4);
    memcpy(p + 28, quoted_tcp, sizeof quoted_tcp);
    return icmp4_from(254, "203.0.113.77", "192.0.2.1", p, 28 + e.quoted);
}

static struct packet error6(struct error e)
{
    uint8_t p[128] = {e.type, e.code};
    struct ip_addr s = addr(e.src ? e.src : "2001:db8::1"), d = addr(e.dst ? e.dst : "2600::9");
    be32_put(p + 4, e.field);
    p[8] = 0x60;
    be16_put(p + 12, e.packet_n ? e.packet_n : 1460);
    p[14] = e.proto ? e.proto : 6;
    memcpy(p + 16, s.b, 16);
    memcpy(p + 32, d.b, 16);
    memcpy(p + 48, quoted_tcp, sizeof quoted_tcp);
    return icmp6_from(254, "2600::77", "2001:db8::1", 60, p, 48 + e.quoted);
}

#define ERROR4(...) error4((struct error){__VA_ARGS__})
#define ERROR6(...) error6((struct error){__VA_ARGS__})

static void assert_error(const struct packet *k, const char *dst, uint8_t local, bool hard, uint16_t mtu)
{
    struct ip_addr d = addr(dst);
    memset(&wire.e, 0xee, sizeof wire.e);
    assert_int_equal(wire_give(k), 2);
    assert_true(ip_addr_eq(&wire.e.dst, &d));
    assert_int_equal(wire.e.local, local);
    assert_int_equal(wire.e.sport, 25);
    assert_int_equal(wire.e.dport, 40000);
    assert_int_equal(wire.e.seq, 0x11223344);
    assert_int_equal(wire.e.hard, hard);
    assert_int_equal(wire.e.mtu, mtu);
}

static void errors_hard_and_soft(void **state)
{
    (void)state;
    for (uint8_t code = 0; code < 40; code++) {
        struct packet k = ERROR4(.type = 3, .code = code, .quoted = 8);
        bool hard = code == 2 || code == 3 || code == 9 || code == 10 || code == 13;
        if (code != 4)
            assert_error(&k, "198.51.100.9", 0, hard, 0);
        k = ERROR6(.type = 1, .code = code, .quoted = 8);
        assert_error(&k, "2600::9", 1, code == 1 || code == 4 || code == 5 || code == 6, 0);
    }
    struct packet k = ERROR4(.type = 11, .quoted = 20);
    assert_error(&k, "198.51.100.9", 0, false, 0);
    k = ERROR4(.type = 12, .quoted = 20);
    assert_error(&k, "198.51.100.9", 0, false, 0);
    k = ERROR6(.type = 3, .quoted = 20);
    assert_error(&k, "2600::9", 1, false, 0);
    k = ERROR6(.type = 4, .code = 1, .quoted = 20);
    assert_error(&k, "2600::9", 1, true, 0);
    k = ERROR6(.type = 4, .code = 0, .quoted = 20);
    assert_error(&k, "2600::9", 1, false, 0);
}

static void too_big(void **state)
{
    (void)state;
    struct packet k = ERROR4(.type = 3, .code = 4, .field = 1400, .quoted = 8);
    assert_error(&k, "198.51.100.9", 0, false, 1400);
    k = ERROR4(.type = 3, .code = 4, .field = 0, .quoted = 8); /* a router of before RFC 1191 */
    assert_error(&k, "198.51.100.9", 0, false, 576);
    k = ERROR4(.type = 3, .code = 4, .field = 68, .quoted = 8);
    assert_error(&k, "198.51.100.9", 0, false, 576);
    k = ERROR6(.type = 2, .field = 1300, .quoted = 8);
    assert_error(&k, "2600::9", 1, false, 1300);
    k = ERROR6(.type = 2, .field = 100, .quoted = 8);
    assert_error(&k, "2600::9", 1, false, 1280);
    k = ERROR4(.type = 3, .code = 4, .field = 1500, .quoted = 8); /* it would have fitted */
    wire_dropped(&k, STAT_DROP_ICMP);
    k = ERROR4(.type = 3, .code = 4, .field = 68, .packet_n = 576, .quoted = 8);
    wire_dropped(&k, STAT_DROP_ICMP);
    k = ERROR6(.type = 2, .field = 1500, .quoted = 8);
    wire_dropped(&k, STAT_DROP_ICMP);
    k = ERROR6(.type = 2, .field = 0x10000 + 1300, .quoted = 8);
    wire_dropped(&k, STAT_DROP_ICMP);
}

static void quotations_not_ours(void **state)
{
    (void)state;
    struct packet bad[] = {
        ERROR4(.type = 3, .code = 3, .quoted = 7),
        ERROR4(.type = 3, .code = 3, .proto = 17, .quoted = 8),
        ERROR4(.type = 3, .code = 3, .src = "192.0.2.2", .quoted = 8),
        ERROR4(.type = 3, .code = 3, .src = "198.51.100.9", .dst = "192.0.2.1", .quoted = 8),
        ERROR4(.type = 3, .code = 3, .dst = "192.0.2.1", .quoted = 8),
        ERROR4(.type = 3, .code = 3, .dst = "224.0.0.1", .quoted = 8),
        ERROR4(.type = 3, .code = 3, .packet_n = 27, .quoted = 8),
        ERROR6(.type = 1, .code = 4, .quoted = 7),
        ERROR6(.type = 1, .code = 4, .proto = 58, .quoted = 8),
        ERROR6(.type = 1, .code = 4, .src = "2001:db8::2", .quoted = 8),
        ERROR6(.type = 1, .code = 4, .dst = "::1", .quoted = 8),
        ERROR6(.type = 1, .code = 4, .packet_n = 7, .quoted = 8),
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        wire_dropped(&bad[i], STAT_DROP_ICMP);
    struct packet k = ERROR4(.type = 3, .code = 3, .quoted = 8);
    k.b[34 + 8] = 0x46; /* a header that leaves no room */
    k.b[36] = k.b[37] = 0;
    uint16_t sum = sum_field(sum_add(0, k.b + 34, k.n - 34));
    memcpy(k.b + 36, &sum, 2);
    wire_dropped(&k, STAT_DROP_ICMP);
}

static void mend4(struct packet *k)
{
    uint32_t header = (k->b[14] & 15u) * 4, total = be16_get(k->b + 16);
    if (total < header + 4 || 14 + total > k->n)
        return;
    uint8_t *p = k->b + 14 + header;
    memset(p + 2, 0, 2);
    uint16_t sum = sum_field(sum_add(0, p, total - header));
    memcpy(p + 2, &sum, 2);
}

static void mend6(struct packet *k)
{
    struct ip_addr src, dst;
    uint32_t n = be16_get(k->b + 18);
    if (n < 4 || 54 + n > k->n)
        return;
    memcpy(&src, k->b + 22, 16);
    memcpy(&dst, k->b + 38, 16);
    memset(k->b + 56, 0, 2);
    uint16_t sum = sum_field(sum_add(sum_pseudo(&src, &dst, 58, n), k->b + 54, n));
    memcpy(k->b + 56, &sum, 2);
}

static void cut_and_turned(void **state)
{
    (void)state;
    struct packet k = echo4(32);
    wire_mangle(&k, 1, mend4);
    k = ERROR4(.type = 3, .code = 4, .field = 1400, .quoted = 8);
    wire_mangle(&k, 2, mend4);
    k = ERROR6(.type = 2, .field = 1300, .quoted = 8);
    wire_mangle(&k, 3, mend6);
    k = echo6(32, "2001:db8::1");
    wire_mangle(&k, 4, mend6);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(echo_answered),  T(echo_answered6),       T(echo_refused), T(echo_has_a_limit),    T(echo_asks_the_guard),
        T(others_dropped), T(errors_hard_and_soft), T(too_big),      T(quotations_not_ours), T(cut_and_turned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
