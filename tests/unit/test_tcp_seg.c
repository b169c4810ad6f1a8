/* test_tcp_seg.c - segments parsed within their bounds, and built. */
#include "tcp_rig.h"

/* A packet whose segment ends with its block: a sanitizer sees a byte read beyond. */
static struct packet {
    struct ip_packet ip;
    struct frame frame;
    uint8_t *block;
} pk;

static void packet_of(const uint8_t *segment, uint32_t n)
{
    free(pk.block);
    pk.block = malloc(n + 1);
    memcpy(pk.block + 1, segment, n);
    pk.frame = (struct frame){.flags = FRAME_L4_GOOD};
    pk.ip = (struct ip_packet){.src = ip_addr_of4(htobe32(0xc0000201)),
                               .dst = ip_addr_of4(htobe32(0xc0000202)),
                               .frame = &pk.frame,
                               .l4 = pk.block + 1,
                               .l4_n = n,
                               .proto = 6};
}

static int teardown(void **state)
{
    (void)state;
    free(pk.block);
    pk.block = NULL;
    return 0;
}

/* A header of 20 + options_n bytes and a payload of data_n times 0xdd. */
static uint32_t segment_make(uint8_t *out, uint8_t flags, const uint8_t *options, uint32_t options_n, uint32_t data_n)
{
    memset(out, 0, 20);
    be16_put(out, 4000);
    be16_put(out + 2, 25);
    be32_put(out + 4, 0x01020304);
    be32_put(out + 8, 0x05060708);
    out[12] = (uint8_t)((20 + options_n) / 4 << 4);
    out[13] = flags;
    be16_put(out + 14, 0x1122);
    if (options_n > 0)
        memcpy(out + 20, options, options_n);
    memset(out + 20 + options_n, 0xdd, data_n);
    return 20 + options_n + data_n;
}

static int parse(struct tcp_seg *s, uint8_t flags, const uint8_t *options, uint32_t options_n, uint32_t data_n)
{
    uint8_t bytes[256];
    packet_of(bytes, segment_make(bytes, flags, options, options_n, data_n));
    return tcp_seg_parse(s, &pk.ip);
}

static void test_fields(void **state)
{
    (void)state;
    struct tcp_seg s;
    assert_int_equal(parse(&s, TH_ACK | TH_PSH, NULL, 0, 11), 0);
    assert_int_equal(s.sport, 4000);
    assert_int_equal(s.dport, 25);
    assert_int_equal(s.seq, 0x01020304);
    assert_int_equal(s.ack, 0x05060708);
    assert_int_equal(s.flags, TH_ACK | TH_PSH);
    assert_int_equal(s.wnd, 0x1122);
    assert_int_equal(s.data_n, 11);
    assert_ptr_equal(s.data, pk.ip.l4 + 20);
    assert_int_equal(tcp_seg_len(&s), 11);
    assert_int_equal(parse(&s, TH_SYN | TH_FIN, NULL, 0, 1), 0);
    assert_int_equal(tcp_seg_len(&s), 3);
}

static void test_header_bounds(void **state)
{
    (void)state;
    uint8_t bytes[64];
    struct tcp_seg s;
    uint32_t n = segment_make(bytes, TH_ACK, NULL, 0, 10);
    for (uint32_t len = 0; len < 20; len++) {
        packet_of(bytes, len);
        assert_int_equal(tcp_seg_parse(&s, &pk.ip), STAT_DROP_TCP_HEADER);
    }
    for (uint8_t doff = 0; doff < 16; doff++) {
        bytes[12] = (uint8_t)(doff << 4);
        packet_of(bytes, n);
        bool fits = doff >= 5 && doff * 4u <= n;
        assert_int_equal(tcp_seg_parse(&s, &pk.ip), fits ? 0 : STAT_DROP_TCP_HEADER);
        if (fits)
            assert_int_equal(s.data_n, n - doff * 4u);
    }
    for (uint32_t port = 0; port < 4; port += 2) {
        n = segment_make(bytes, TH_ACK, NULL, 0, 0);
        be16_put(bytes + port, 0);
        packet_of(bytes, n);
        assert_int_equal(tcp_seg_parse(&s, &pk.ip), STAT_DROP_TCP_HEADER);
    }
}

static void test_checksum(void **state)
{
    (void)state;
    uint8_t bytes[64];
    struct tcp_seg s;
    uint32_t n = segment_make(bytes, TH_ACK, NULL, 0, 7);
    packet_of(bytes, n);
    uint16_t sum = sum_field(sum_add(sum_pseudo(&pk.ip.src, &pk.ip.dst, 6, n), bytes, n));
    memcpy(bytes + 16, &sum, 2);
    for (uint32_t bit = 0; bit <= n * 8; bit++) {
        uint8_t copy[64];
        memcpy(copy, bytes, n);
        if (bit < n * 8)
            copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        packet_of(copy, n);
        pk.frame.flags = 0;
        assert_int_equal(tcp_seg_parse(&s, &pk.ip), bit < n * 8 ? STAT_DROP_TCP_SUM : 0);
        pk.frame.flags = FRAME_L4_BAD;
        assert_int_equal(tcp_seg_parse(&s, &pk.ip), STAT_DROP_TCP_SUM);
    }
}

/* Each option with each length, at each place. */
static void test_options_of_wrong_size(void **state)
{
    (void)state;
    static const struct {
        uint8_t kind, size;
    } known[] = {{2, 4}, {3, 3}, {4, 2}, {8, 10}};
    for (size_t k = 0; k < sizeof known / sizeof *known; k++)
        for (uint32_t len = 0; len <= 14; len++) {
            uint8_t o[16];
            struct tcp_seg s;
            memset(o, 1, sizeof o);
            o[1] = known[k].kind;
            o[2] = (uint8_t)len;
            assert_int_equal(parse(&s, TH_SYN, o, sizeof o, 3), 0);
            bool taken = len == known[k].size;
            assert_int_equal(s.mss != 0, taken && known[k].kind == 2);
            assert_int_equal(s.has_wscale, taken && known[k].kind == 3);
            assert_int_equal(s.sack_ok, taken && known[k].kind == 4);
            assert_int_equal(s.has_ts, taken && known[k].kind == 8);
        }
}

static void test_options_of_a_syn_alone(void **state)
{
    (void)state;
    static const uint8_t o[12] = {2, 4, 5, 180, 4, 2, 3, 3, 7, 0, 0, 0};
    struct tcp_seg s;
    assert_int_equal(parse(&s, TH_SYN, o, sizeof o, 0), 0);
    assert_int_equal(s.mss, 1460);
    assert_true(s.sack_ok && s.has_wscale);
    assert_int_equal(s.wscale, 7);
    assert_int_equal(parse(&s, TH_ACK, o, sizeof o, 0), 0);
    assert_true(s.mss == 0 && !s.sack_ok && !s.has_wscale);
}

static void test_sack_sizes(void **state)
{
    (void)state;
    for (uint32_t len = 2; len <= 38; len++) {
        uint8_t o[40];
        struct tcp_seg s;
        for (uint8_t i = 0; i < sizeof o; i++)
            o[i] = i;
        o[0] = 5;
        o[1] = (uint8_t)len;
        if (len < sizeof o)
            o[len] = 0;
        assert_int_equal(parse(&s, TH_ACK, o, sizeof o, 0), 0);
        bool whole = len >= 10 && (len - 2) % 8 == 0;
        assert_int_equal(s.sack_n, whole ? (len - 2) / 8 : 0);
        if (whole)
            assert_int_equal(s.sack[0].start, 0x02030405);
    }
}

/* What follows the end of options, or a malformed one, is not looked at. */
static void test_options_end(void **state)
{
    (void)state;
    static const uint8_t ends[4][4] = {{0, 1, 1, 1}, {9, 0, 1, 1}, {9, 1, 1, 1}, {9, 200, 1, 1}};
    for (int i = 0; i < 4; i++) {
        uint8_t o[8] = {0};
        struct tcp_seg s;
        memcpy(o, ends[i], 4);
        memcpy(o + 4, (uint8_t[4]){2, 4, 5, 180}, 4);
        assert_int_equal(parse(&s, TH_SYN, o, sizeof o, 40), 0);
        assert_int_equal(s.mss, 0);
    }
}

/* An option whose rest would be payload is none, however right its length is. */
static void test_options_end_with_the_header(void **state)
{
    (void)state;
    static const uint8_t cut[][4] = {{1, 1, 8, 10}, {1, 1, 2, 4},  {1, 2, 4, 5},
                                     {1, 1, 3, 3},  {1, 1, 5, 10}, {1, 1, 1, 8}};
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        struct tcp_seg s;
        assert_int_equal(parse(&s, TH_SYN | TH_ACK, cut[i], 4, 40), 0);
        assert_true(!s.has_ts && s.mss == 0 && !s.has_wscale && s.sack_n == 0);
        assert_int_equal(s.data_n, 40);
    }
}

/* Whatever stands in the options: nothing behind the header is read as one, and it ends. */
static void test_options_at_random(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 6);
    for (int i = 0; i < 100000; i++) {
        uint8_t o[40];
        struct tcp_seg s;
        uint32_t n = (uint32_t)rng_below(&r, 11) * 4;
        for (uint32_t k = 0; k < n; k++)
            o[k] = (uint8_t)rng_below(&r, rng_below(&r, 3) ? 12 : 256);
        assert_int_equal(parse(&s, (uint8_t)rng_below(&r, 256), o, n, 0), 0);
        assert_true(s.sack_n <= 4);
    }
}

/* ---- built and parsed again */

static void build(struct tcp_seg *s, const struct tcp_head *h, uint32_t data_n)
{
    uint8_t room[FRAME_HEADROOM + 64];
    struct frame f = {.p = room + FRAME_HEADROOM, .n = data_n};
    memset(f.p, 0xaa, data_n);
    uint32_t header = tcp_seg_build(&f, h);
    assert_int_equal(f.n, header + data_n);
    assert_int_equal(header % 4, 0);
    assert_true(header <= 60);
    assert_int_equal(be16_get(f.p + 16), 0);
    packet_of(f.p, f.n);
    assert_int_equal(tcp_seg_parse(s, &pk.ip), 0);
    assert_int_equal(s->data_n, data_n);
}

static void test_built(void **state)
{
    (void)state;
    for (int bits = 0; bits < 16; bits++) {
        struct tcp_head h = {
            .sport = 25, .dport = 999, .seq = 0xfffffffe, .ack = 77, .flags = TH_SYN | TH_ECE, .wnd = 9};
        struct tcp_seg s;
        h.mss = bits & 1 ? 1460 : 0;
        h.wscale = bits & 2 ? 0 : -1;
        h.sack_ok = bits & 4;
        h.ts = bits & 8;
        h.ts_val = 0x11223344;
        h.ts_ecr = 0x55667788;
        build(&s, &h, 5);
        assert_int_equal(s.sport, 25);
        assert_int_equal(s.dport, 999);
        assert_int_equal(s.seq, h.seq);
        assert_int_equal(s.ack, 77);
        assert_int_equal(s.flags, h.flags);
        assert_int_equal(s.wnd, 9);
        assert_int_equal(s.mss, h.mss);
        assert_int_equal(s.has_wscale, h.wscale >= 0);
        assert_int_equal(s.sack_ok, h.sack_ok);
        assert_int_equal(s.has_ts, h.ts);
        assert_int_equal(s.ts_val, h.ts ? h.ts_val : 0);
        assert_int_equal(s.ts_ecr, h.ts ? h.ts_ecr : 0);
    }
}

static void test_built_sack(void **state)
{
    (void)state;
    for (uint8_t n = 0; n <= 4; n++)
        for (int ts = 0; ts < (n == 4 ? 1 : 2); ts++) {
            struct tcp_head h = {.sport = 25, .dport = 9, .flags = TH_ACK, .wscale = -1, .ts = ts, .sack_n = n};
            struct tcp_seg s;
            for (uint32_t i = 0; i < n; i++)
                h.sack[i] = (struct tcp_range){i * 1000 + 1, i * 1000 + 500};
            build(&s, &h, 0);
            assert_int_equal(s.has_ts, ts);
            assert_int_equal(s.sack_n, n);
            assert_memory_equal(s.sack, h.sack, n * sizeof *h.sack);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_fields, teardown),
        cmocka_unit_test_teardown(test_header_bounds, teardown),
        cmocka_unit_test_teardown(test_checksum, teardown),
        cmocka_unit_test_teardown(test_options_of_wrong_size, teardown),
        cmocka_unit_test_teardown(test_options_of_a_syn_alone, teardown),
        cmocka_unit_test_teardown(test_sack_sizes, teardown),
        cmocka_unit_test_teardown(test_options_end, teardown),
        cmocka_unit_test_teardown(test_options_end_with_the_header, teardown),
        cmocka_unit_test_teardown(test_options_at_random, teardown),
        cmocka_unit_test_teardown(test_built, teardown),
        cmocka_unit_test_teardown(test_built_sack, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
