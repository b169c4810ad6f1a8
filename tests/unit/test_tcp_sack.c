/* test_tcp_sack.c - the scoreboard: what is believed, what it means for loss, what bounds it. */
#include "dataplane/tcp/sack.c"
#include "tcp_send_rig.h"

#define OUT (40 * MSS)

static int setup(void **state)
{
    (void)state;
    send_open(4);
    send_out(OUT);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    send_close();
    return 0;
}

/* Reports [from, to) as distances from UNA; returns what was new. */
static uint32_t report(int32_t from, int32_t to)
{
    struct tcp_seg s = {.sack_n = 1, .sack = {{UNA + (uint32_t)from, UNA + (uint32_t)to}}};
    return sb_note(&rig.t, conn, &s);
}

static void acked(uint32_t n)
{
    conn->snd_una += n;
    sb_trim(&rig.t, conn);
}

static uint32_t ranges(void)
{
    return conn->sb == TCP_NONE ? 0 : sb_of(&rig.t, conn)->n;
}

static void holds(uint32_t i, uint32_t from, uint32_t to)
{
    assert_int_equal(sb_of(&rig.t, conn)->v[i].start, UNA + from);
    assert_int_equal(sb_of(&rig.t, conn)->v[i].end, UNA + to);
}

/* ---- RFC 2018 4, 5 */

static void test_forged_blocks_are_not_believed(void **state)
{
    (void)state;
    static const int32_t bad[][2] = {
        {0, 1000},
        {-2000, -1000},
        {-1000, 1000},
        {2000, 1000},
        {1000, 1000},
        {1000, OUT + 1},
        {OUT, OUT + 1000},
        {OUT + 5000, OUT + 6000},
        {INT32_MAX, INT32_MIN},
        {INT32_MAX, -1},
        {1000, INT32_MIN},
        {INT32_MIN, 1000},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(report(bad[i][0], bad[i][1]), 0);
    assert_int_equal(conn->sb, TCP_NONE);
    assert_int_equal(report(1, OUT), OUT - 1);
}

static void test_ranges_join(void **state)
{
    (void)state;
    assert_int_equal(report(5000, 6000), 1000);
    assert_int_equal(report(1000, 2000), 1000);
    assert_int_equal(report(3000, 4000), 1000);
    assert_int_equal(ranges(), 3);
    assert_int_equal(report(1000, 2000), 0);
    assert_int_equal(report(1500, 3000), 1000); /* touches both */
    assert_int_equal(ranges(), 2);
    holds(0, 1000, 4000);
    assert_int_equal(report(500, 7000), 2500);
    assert_int_equal(ranges(), 1);
    holds(0, 500, 7000);
}

static void test_acknowledged_parts_go(void **state)
{
    (void)state;
    report(1000, 2000);
    report(3000, 5000);
    acked(2000);
    assert_int_equal(ranges(), 1);
    acked(2000); /* into the range: the rest stays */
    holds(0, 4000, 5000);
    assert_int_equal(sb_below(&rig.t, conn, UNA + OUT), 1000);
    acked(1000);
    assert_int_equal(conn->sb, TCP_NONE);
    assert_int_equal(rig_stat(STAT_TXBLOCKS_USED), 0);
}

static void test_full_scoreboard_forgets_the_new(void **state)
{
    (void)state;
    send_out(200 * MSS);
    for (int32_t i = 0; i < (int32_t)RANGES_MAX; i++)
        assert_int_equal(report(1000 + 200 * i, 1100 + 200 * i), 100);
    assert_int_equal(report(100000, 100100), 0);
    assert_int_equal(ranges(), RANGES_MAX);
    assert_int_equal(report(1100, 1150), 50); /* joining needs no room */
    assert_int_equal(report(1150, 1200), 50);
    assert_int_equal(ranges(), RANGES_MAX - 1);
    assert_int_equal(report(100000, 100100), 100);
}

static void test_without_a_block_nothing_is_remembered(void **state)
{
    (void)state;
    while (txblock_take(&rig.t) != TCP_NONE)
        ;
    assert_int_equal(report(1000, 2000), 0);
    assert_false(sb_first_lost(&rig.t, conn));
    assert_int_equal(sb_below(&rig.t, conn, UNA + OUT), 0);
}

/* ---- RFC 6675 4 */

static void test_lost_by_bytes(void **state)
{
    (void)state;
    report(1000, 3000);
    assert_false(sb_first_lost(&rig.t, conn)); /* not more than two segments */
    report(3000, 3001);
    assert_true(sb_first_lost(&rig.t, conn));
}

static void test_lost_by_ranges(void **state)
{
    (void)state;
    report(1000, 1001);
    report(2000, 2001);
    assert_false(sb_first_lost(&rig.t, conn));
    report(3000, 3001);
    assert_true(sb_first_lost(&rig.t, conn));
}

static void finds(uint32_t from, bool lost, uint32_t start, uint32_t end)
{
    struct tcp_range r;
    assert_true(sb_hole(&rig.t, conn, UNA + from, lost, &r));
    assert_int_equal(r.start, UNA + start);
    assert_int_equal(r.end, UNA + end);
}

static void test_holes(void **state)
{
    (void)state;
    struct tcp_range r;
    assert_false(sb_hole(&rig.t, conn, UNA, false, &r));
    report(1000, 2000);
    report(3000, 4000);
    report(5000, 6000);
    finds(0, true, 0, 1000);
    finds(400, true, 400, 1000);
    finds(1000, false, 2000, 3000);
    assert_false(sb_hole(&rig.t, conn, UNA + 1000, true, &r)); /* two ranges, two segments above it */
    report(7000, 8000);
    finds(1000, true, 2000, 3000);
    finds(5500, false, 6000, 7000);
    assert_false(sb_hole(&rig.t, conn, UNA + 7000, false, &r)); /* above the highest: not known */
}

/* Of 40 segments: 3 reported above two holes; one hole lost, one not, then sent again. */
static void test_pipe(void **state)
{
    (void)state;
    conn->flags |= CF_RECOVERY;
    report(1000, 3000);
    report(4000, 5000);
    assert_int_equal(sb_pipe(&rig.t, conn), OUT - 3000 - 1000);
    conn->rtx_next = UNA + 1000;
    assert_int_equal(sb_pipe(&rig.t, conn), OUT - 3000);
    conn->rtx_next = UNA + 4000; /* rule 3: what is not lost counts twice */
    assert_int_equal(sb_pipe(&rig.t, conn), OUT - 3000 + 1000);
}

static void test_skip(void **state)
{
    (void)state;
    uint32_t seq = UNA;
    report(1000, 2000);
    report(3000, 4000);
    assert_int_equal(sb_skip(&rig.t, conn, &seq), 1000);
    seq = UNA + 1000;
    assert_int_equal(sb_skip(&rig.t, conn, &seq), 1000);
    assert_int_equal(seq, UNA + 2000);
    seq = UNA + 3999;
    assert_int_equal(sb_skip(&rig.t, conn, &seq), UINT32_MAX);
    assert_int_equal(seq, UNA + 4000);
}

static void test_below(void **state)
{
    (void)state;
    report(1000, 2000);
    report(3000, 4000);
    assert_int_equal(sb_below(&rig.t, conn, UNA + 1000), 0);
    assert_int_equal(sb_below(&rig.t, conn, UNA + 1500), 500);
    assert_int_equal(sb_below(&rig.t, conn, UNA + 3500), 1500);
    assert_true(sb_has(&rig.t, conn, UNA + 1000));
    assert_false(sb_has(&rig.t, conn, UNA + 2000));
}

/* Against a byte map. */
static void test_at_random(void **state)
{
    (void)state;
    static uint8_t map[OUT];
    struct rng rng;
    rng_seed(&rng, 5);
    for (int round = 0; round < 300; round++) {
        memset(map, 0, sizeof map);
        sb_drop(&rig.t, conn);
        for (int i = 0; i < 60; i++) {
            uint32_t from = 1 + (uint32_t)rng_below(&rng, OUT - 1), n = 1 + (uint32_t)rng_below(&rng, OUT - from);
            uint32_t fresh = 0;
            n = 1 + n / 8;
            for (uint32_t at = from; at < from + n; at++) {
                fresh += !map[at];
                map[at] = 1;
            }
            assert_int_equal(report((int32_t)from, (int32_t)(from + n)), fresh);
        }
        uint32_t all = 0;
        for (uint32_t at = 0; at < OUT; at++) {
            assert_int_equal(sb_has(&rig.t, conn, UNA + at), map[at]);
            all += map[at];
        }
        assert_int_equal(sb_below(&rig.t, conn, UNA + OUT), all);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_forged_blocks_are_not_believed),
        TEST(test_ranges_join),
        TEST(test_acknowledged_parts_go),
        TEST(test_full_scoreboard_forgets_the_new),
        TEST(test_without_a_block_nothing_is_remembered),
        TEST(test_lost_by_bytes),
        TEST(test_lost_by_ranges),
        TEST(test_holes),
        TEST(test_pipe),
        TEST(test_skip),
        TEST(test_below),
        TEST(test_at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
