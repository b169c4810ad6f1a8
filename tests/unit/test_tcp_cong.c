/* test_tcp_cong.c - the congestion window: RFC 5681, 6582, 6675, 3042, 3168, 6928. */
#include "dataplane/tcp/cong.c"
#include "tcp_send_rig.h"

void conn_mtu(struct tcp *t, struct tcp_conn *c)
{
    (void)t;
    c->mss = c->mss_peer;
}

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

static void acked(uint32_t n)
{
    conn->snd_una += n;
    conn->snd_nxt = seq_max(conn->snd_nxt, conn->snd_una);
    sb_trim(&rig.t, conn);
    cong_acked(&rig.t, conn, n);
}

static void duplicates(int n)
{
    for (int i = 0; i < n; i++)
        cong_duplicate(&rig.t, conn);
}

static void report(uint32_t from, uint32_t to)
{
    struct tcp_seg s = {.sack_n = 1, .sack = {{UNA + from, UNA + to}}};
    if (sb_note(&rig.t, conn, &s) > 0)
        cong_duplicate(&rig.t, conn);
}

/* ---- RFC 6928 2, RFC 5681 3.1 */

static void test_initial_window(void **state)
{
    (void)state;
    static const uint32_t want[][2] = {{536, 5360}, {1000, 10000}, {1460, 14600}, {2000, 14600}, {8960, 17920}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        conn->mss_peer = (uint16_t)want[i][0];
        cong_init(&rig.t, conn);
        assert_int_equal(conn->cwnd, want[i][1]);
    }
}

static void test_slow_start_counts_bytes(void **state)
{
    (void)state;
    conn->flags |= CF_LIMITED;
    send_out(10 * MSS);
    acked(1);
    assert_int_equal(conn->cwnd, 10 * MSS + 1); /* split acknowledgements gain nothing */
    acked(MSS - 1);
    assert_int_equal(conn->cwnd, 11 * MSS);
    acked(5 * MSS);
    assert_int_equal(conn->cwnd, 12 * MSS); /* a segment at most (RFC 3465, L = 1) */
}

static void test_congestion_avoidance(void **state)
{
    (void)state;
    conn->flags |= CF_LIMITED;
    conn->ssthresh = conn->cwnd;
    send_out(10 * MSS);
    for (int i = 0; i < 10; i++)
        acked(MSS);
    assert_in_range(conn->cwnd, 10 * MSS + 900, 11 * MSS);
    conn->cwnd = 1u << 29; /* each acknowledgement by a byte at least */
    send_out(1);
    acked(1);
    assert_int_equal(conn->cwnd, (1u << 29) + 1);
}

static void test_no_growth_unless_it_was_used(void **state)
{
    (void)state;
    send_out(MSS);
    acked(MSS);
    assert_int_equal(conn->cwnd, 10 * MSS);
}

/* ---- RFC 5681 3.2, RFC 3042, RFC 6582 */

static void test_three_duplicates(void **state)
{
    (void)state;
    send_out(10 * MSS);
    duplicates(2);
    assert_int_equal(cong_under_way(&rig.t, conn), 8 * MSS); /* limited transmit: two may leave */
    assert_false(conn->flags & CF_RECOVERY);
    send_out(2 * MSS);
    duplicates(1);
    assert_true(conn->flags & CF_RECOVERY && conn->flags & CF_RTX);
    assert_int_equal(conn->ssthresh, 5 * MSS); /* of ten: limited transmit doesn't count */
    assert_int_equal(conn->cwnd, 5 * MSS);
    assert_int_equal(cong_under_way(&rig.t, conn), 9 * MSS);
    assert_int_equal(conn->recover, UNA + 12 * MSS);
    assert_int_equal(rig_stat(STAT_FAST_RETRANS), 1);
}

static void test_duplicates_buy_no_more_than_was_out(void **state)
{
    (void)state;
    send_out(10 * MSS);
    duplicates(1000);
    assert_int_equal(conn->dupacks, 10);
    send_out(5 * MSS);
    duplicates(1000);
    assert_int_equal(cong_under_way(&rig.t, conn), 5 * MSS);
}

static void test_partial_acknowledgement(void **state)
{
    (void)state;
    send_out(10 * MSS);
    duplicates(7);
    conn->flags &= ~(uint32_t)CF_RTX;
    acked(3 * MSS); /* one was a repetition, two had been counted */
    assert_true(conn->flags & CF_RECOVERY && conn->flags & CF_RTX);
    assert_int_equal(conn->dupacks, 5);
    assert_int_equal(cong_under_way(&rig.t, conn), 2 * MSS);
}

static void test_full_acknowledgement(void **state)
{
    (void)state;
    send_out(10 * MSS);
    duplicates(5);
    acked(10 * MSS);
    assert_false(conn->flags & (CF_RECOVERY | CF_RTX));
    assert_int_equal(conn->cwnd, 2 * MSS); /* no burst with nothing under way */
    assert_int_equal(conn->ssthresh, 5 * MSS);
    assert_int_equal(conn->dupacks, 0);
}

/* RFC 6582 3.2, step 1: duplicates of what was sent needlessly begin nothing. */
static void test_no_recovery_after_another_without_progress(void **state)
{
    (void)state;
    send_out(10 * MSS);
    duplicates(3);
    acked(10 * MSS);
    send_out(10 * MSS);
    duplicates(5);
    assert_false(conn->flags & CF_RECOVERY);
    acked(MSS);
    duplicates(3);
    assert_true(conn->flags & CF_RECOVERY);
}

/* ---- RFC 6675 */

static void test_reports_begin_recovery(void **state)
{
    (void)state;
    conn->flags |= CF_SACK;
    send_out(10 * MSS);
    report(MSS, 3 * MSS);
    assert_false(conn->flags & CF_RECOVERY);
    report(3 * MSS, 3 * MSS + 1); /* more than two segments' worth */
    assert_true(conn->flags & CF_RECOVERY);
    assert_int_equal(cong_under_way(&rig.t, conn), 10 * MSS - 2 * MSS - 1 - MSS);
    acked(3 * MSS + 1);
    assert_true(conn->flags & CF_RECOVERY);
    assert_false(conn->flags & CF_RTX && conn->dupacks); /* holes say where to go on */
    acked(7 * MSS - 1);
    assert_false(conn->flags & CF_RECOVERY);
}

/* ---- RFC 5681 3.1: timeout */

static void test_timeout(void **state)
{
    (void)state;
    conn->flags |= CF_SACK;
    send_out(10 * MSS);
    report(2 * MSS, 3 * MSS);
    cong_timeout(&rig.t, conn);
    assert_int_equal(conn->cwnd, MSS);
    assert_int_equal(conn->ssthresh, 5 * MSS);
    assert_int_equal(conn->snd_nxt, conn->snd_una);
    assert_int_equal(conn->sb, TCP_NONE); /* RFC 2018 8 */
    assert_int_equal(cong_under_way(&rig.t, conn), 0);
    conn->rtx_n = 1;
    cong_timeout(&rig.t, conn);
    assert_int_equal(conn->ssthresh, 5 * MSS); /* the same segment again */
    conn->snd_nxt += MSS;
    duplicates(5);
    assert_false(conn->flags & CF_RECOVERY);
    assert_int_equal(conn->dupacks, 0);
    conn->flags |= CF_LIMITED;
    acked(MSS);
    assert_int_equal(conn->cwnd, 2 * MSS);
    acked(9 * MSS);
    assert_false(conn->flags & CF_RTO);
}

static void test_never_below_two_segments(void **state)
{
    (void)state;
    send_out(MSS);
    cong_timeout(&rig.t, conn);
    assert_int_equal(conn->ssthresh, 2 * MSS);
}

/* ---- RFC 3168 6.1.2 */

static void test_ece_cuts_once_a_flight(void **state)
{
    (void)state;
    conn->flags |= CF_ECN;
    send_out(10 * MSS);
    cong_ece(conn, UNA + MSS);
    assert_int_equal(conn->cwnd, 5 * MSS);
    assert_true(conn->flags & CF_CWR_OUT);
    acked(MSS);
    cong_ece(conn, UNA + 2 * MSS);
    acked(9 * MSS);
    cong_ece(conn, UNA + 10 * MSS);
    assert_int_equal(conn->cwnd, 5 * MSS);
    send_out(4 * MSS);
    cong_ece(conn, UNA + 11 * MSS);
    assert_int_equal(conn->cwnd, 2 * MSS);
}

static void test_ece_and_loss_cut_once(void **state)
{
    (void)state;
    conn->flags |= CF_ECN;
    send_out(10 * MSS);
    duplicates(3);
    cong_ece(conn, UNA + MSS);
    assert_int_equal(conn->cwnd, 5 * MSS);
    acked(10 * MSS);
    cong_ece(conn, UNA + 10 * MSS);
    assert_int_equal(conn->ssthresh, 5 * MSS);
}

/* ---- RFC 5681 4.1, and marks over the wrap */

static void test_idle(void **state)
{
    (void)state;
    conn->cwnd = 50 * MSS;
    conn->sent_at = rig.t.now_ms - conn->rto;
    cong_restart(&rig.t, conn);
    assert_int_equal(conn->cwnd, 50 * MSS);
    conn->sent_at--;
    cong_restart(&rig.t, conn);
    assert_int_equal(conn->cwnd, 10 * MSS);
    conn->cwnd = MSS;
    cong_restart(&rig.t, conn);
    assert_int_equal(conn->cwnd, MSS);
}

/* Three times around the circle without a loss, then one. */
static void test_marks_follow(void **state)
{
    (void)state;
    conn->flags |= CF_ECN;
    for (int i = 0; i < 48; i++) {
        send_out(1u << 28);
        acked(1u << 28);
    }
    send_out(10 * MSS);
    duplicates(3);
    assert_true(conn->flags & CF_RECOVERY);
    acked(10 * MSS);
    send_out(10 * MSS);
    acked(MSS);
    cong_ece(conn, conn->snd_una + MSS);
    assert_true(conn->ece_until == conn->snd_max);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_initial_window),
        TEST(test_slow_start_counts_bytes),
        TEST(test_congestion_avoidance),
        TEST(test_no_growth_unless_it_was_used),
        TEST(test_three_duplicates),
        TEST(test_duplicates_buy_no_more_than_was_out),
        TEST(test_partial_acknowledgement),
        TEST(test_full_acknowledgement),
        TEST(test_no_recovery_after_another_without_progress),
        TEST(test_reports_begin_recovery),
        TEST(test_timeout),
        TEST(test_never_below_two_segments),
        TEST(test_ece_cuts_once_a_flight),
        TEST(test_ece_and_loss_cut_once),
        TEST(test_idle),
        TEST(test_marks_follow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
