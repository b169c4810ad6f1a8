/* test_tcp_rto.c - the retransmission timeout: its sums, its bounds, and what measures it. */
#include "dataplane/tcp/rto.c"
#include "tcp_send_rig.h"

static int setup(void **state)
{
    (void)state;
    send_open(4);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    send_close();
    return 0;
}

static void pass(uint32_t ms)
{
    rig_at(rig.t.now_us + ms * 1000ull);
}

static void sample(uint32_t ms, uint32_t rto)
{
    rto_sample(&rig.t, conn, ms);
    assert_int_equal(conn->rto, rto);
}

/* [from, to) leaves, as distances from UNA; what output.c does around it. */
static void sent(uint32_t from, uint32_t to)
{
    rto_sent(&rig.t, conn, UNA + from, UNA + to);
    conn->snd_max = seq_max(conn->snd_max, UNA + to);
    conn->sent_at = rig.t.now_ms;
}

/* What ack.c does: una first. */
static void acked(uint32_t to, uint32_t echo)
{
    struct tcp_seg s = {.ack = UNA + to, .has_ts = true, .ts_ecr = echo};
    conn->snd_una = s.ack;
    rto_acked(&rig.t, conn, &s);
}

/* ---- RFC 6298 2 */

static void test_sums(void **state)
{
    (void)state;
    sample(100, 300);
    sample(100, 250);
    sample(100, 213);
    sample(500, 150 + 485); /* the variance jumps */
}

static void test_bounds(void **state)
{
    (void)state;
    sample(0, 200);
    assert_true(conn->srtt8 > 0); /* 0 stands for no sample */
    conn->srtt8 = 0;
    sample(UINT32_MAX, 60000);
    sample(UINT32_MAX, 60000);
}

static void test_settles(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++)
        rto_sample(&rig.t, conn, 300);
    assert_in_range(conn->rto, 300, 305);
}

static void test_backs_off(void **state)
{
    (void)state;
    static const uint32_t want[] = {2000, 4000, 8000, 16000, 32000, 60000, 60000};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        rto_back_off(&rig.t, conn);
        assert_int_equal(conn->rto, want[i]);
    }
}

static void test_probes_back_off_without_end(void **state)
{
    (void)state;
    conn->rto = 200;
    for (conn->rtx_n = 0; conn->rtx_n < 9; conn->rtx_n++)
        assert_int_equal(rto_probe_ms(&rig.t, conn), 200u << conn->rtx_n);
    for (conn->rtx_n = 9; conn->rtx_n < 255; conn->rtx_n++)
        assert_int_equal(rto_probe_ms(&rig.t, conn), 60000);
    assert_int_equal(conn->rto, 200);
}

/* ---- without timestamps: Karn */

static void test_one_segment_is_watched(void **state)
{
    (void)state;
    sent(0, 1000);
    pass(10);
    sent(1000, 2000);
    pass(90);
    acked(999, 0);
    assert_int_equal(conn->srtt8, 0);
    acked(1000, 0);
    assert_int_equal(conn->srtt8, 800);
    acked(2000, 0); /* nobody watched that one */
    assert_int_equal(conn->srtt8, 800);
    pass(50);
    sent(2000, 3000);
    pass(100);
    acked(3000, 0);
    assert_int_equal(conn->rto, 250);
}

static void test_what_was_repeated_is_no_measure(void **state)
{
    (void)state;
    sent(0, 1000);
    pass(1000);
    sent(0, 1000);
    pass(100);
    acked(1000, 0);
    assert_int_equal(conn->srtt8, 0);
}

static void test_nor_what_waited_for_a_repetition(void **state)
{
    (void)state;
    sent(0, 1000);
    acked(0, 0);
    conn->flags &= ~(uint32_t)CF_RTT;
    sent(1000, 2000);
    pass(1000);
    sent(0, 1000);
    pass(100);
    acked(2000, 0);
    assert_int_equal(conn->srtt8, 0);
}

/* With SACK its own report is a measure all the same, its acknowledgement is not. */
static void test_a_report_measures(void **state)
{
    (void)state;
    struct tcp_seg s = {.sack_n = 1, .sack = {{UNA + 1000, UNA + 2000}}};
    conn->flags |= CF_SACK;
    sent(0, 1000);
    conn->flags &= ~(uint32_t)CF_RTT;
    sent(1000, 2000);
    pass(20);
    sent(0, 1000);
    pass(80);
    sb_note(&rig.t, conn, &s);
    rto_reported(&rig.t, conn);
    assert_int_equal(conn->srtt8, 800);
    sb_drop(&rig.t, conn);

    conn->srtt8 = 0;
    sent(2000, 3000);
    sent(0, 1000);
    pass(500);
    acked(3000, 0);
    assert_int_equal(conn->srtt8, 0);
}

static void test_repeated_itself_a_report_does_not(void **state)
{
    (void)state;
    struct tcp_seg s = {.sack_n = 1, .sack = {{UNA + 1000, UNA + 2000}}};
    conn->flags |= CF_SACK;
    conn->snd_max = UNA + 1000;
    sent(1000, 2000);
    pass(500);
    sent(1500, 2000);
    sb_note(&rig.t, conn, &s);
    rto_reported(&rig.t, conn);
    assert_int_equal(conn->srtt8, 0);
}

/* ---- with timestamps */

static void test_echoes_once_a_flight(void **state)
{
    (void)state;
    conn->flags |= CF_TS;
    conn->ts_offset = 0xfffffff0;
    uint32_t ts = rig.t.now_ms + conn->ts_offset;
    sent(0, 4000);
    pass(100);
    acked(1000, ts);
    assert_int_equal(conn->rto, 300);
    acked(2000, ts);
    assert_int_equal(conn->rto, 300); /* of the same flight */
    sent(4000, 5000);
    ts = rig.t.now_ms + conn->ts_offset;
    pass(100);
    acked(5000, ts);
    assert_int_equal(conn->rto, 250);
}

static void test_echo_of_the_future_is_no_measure(void **state)
{
    (void)state;
    conn->flags |= CF_TS;
    sent(0, 1000);
    acked(1000, rig.t.now_ms + 1);
    assert_int_equal(conn->srtt8, 0);
}

/* RFC 7323 4: the echo says which copy it means; that of the first, after a timeout, measures the timeout. */
static void test_echo_after_a_timeout(void **state)
{
    (void)state;
    conn->flags |= CF_TS;
    uint32_t first = rig.t.now_ms;
    sent(0, 1000);
    pass(30000);
    conn->rtx_n = 1;
    sent(0, 1000);
    uint32_t second = rig.t.now_ms;
    pass(100);
    acked(500, first);
    assert_int_equal(conn->srtt8, 0);
    acked(1000, second);
    assert_int_equal(conn->rto, 300);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_sums),
        TEST(test_bounds),
        TEST(test_settles),
        TEST(test_backs_off),
        TEST(test_probes_back_off_without_end),
        TEST(test_one_segment_is_watched),
        TEST(test_what_was_repeated_is_no_measure),
        TEST(test_nor_what_waited_for_a_repetition),
        TEST(test_a_report_measures),
        TEST(test_repeated_itself_a_report_does_not),
        TEST(test_echoes_once_a_flight),
        TEST(test_echo_of_the_future_is_no_measure),
        TEST(test_echo_after_a_timeout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
