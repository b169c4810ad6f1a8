/* test_tcp_ack.c - what an acknowledgement means: bounds, duplicates, windows, timers, FIN. */
#include "dataplane/tcp/ack.c"
#include "tcp_send_rig.h"

static struct {
    uint32_t flushes, duplicates, eces;
    uint16_t events;
    uint32_t acked, measured;
} r;

void conn_event(struct tcp *t, struct tcp_conn *c, uint16_t events)
{
    (void)t;
    (void)c;
    r.events |= events;
}

void conn_flush_later(struct tcp *t, struct tcp_conn *c)
{
    (void)t;
    (void)c;
    r.flushes++;
}

void cong_acked(struct tcp *t, struct tcp_conn *c, uint32_t n)
{
    (void)t;
    (void)c;
    r.acked += n;
}

void cong_duplicate(struct tcp *t, struct tcp_conn *c)
{
    (void)t;
    (void)c;
    r.duplicates++;
}

void cong_ece(struct tcp_conn *c, uint32_t ack)
{
    (void)c;
    (void)ack;
    r.eces++;
}

void rto_acked(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    (void)t;
    (void)c;
    (void)s;
    r.measured++;
}

void rto_reported(struct tcp *t, struct tcp_conn *c)
{
    (void)t;
    (void)c;
}

static int setup(void **state)
{
    (void)state;
    static const uint8_t words[10 * MSS];
    memset(&r, 0, sizeof r);
    send_open(64);
    conn->snd_wl1 = 5000;
    conn->snd_wl2 = UNA;
    conn->snd_wnd = conn->snd_wnd_max = 30000;
    conn->rto = 300;
    assert_int_equal(txq_put(&rig.t, conn, slice_of(words, sizeof words)), sizeof words);
    send_out(4 * MSS);
    conn->rtx_at = rig.t.now_ms + 10;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    send_close();
    return 0;
}

static struct tcp_seg segment(int64_t ack)
{
    return (struct tcp_seg){.seq = 5000, .ack = UNA + (uint32_t)ack, .flags = TH_ACK, .wnd = 30000};
}

static enum ack_result give(const struct tcp_seg *s)
{
    bool fin_acked;
    enum ack_result res = ack_input(&rig.t, conn, s, &fin_acked);
    assert_false(fin_acked);
    return res;
}

static enum ack_result ack(int64_t to)
{
    struct tcp_seg s = segment(to);
    return give(&s);
}

/* ---- RFC 9293 3.10.7.4, fifth; RFC 5961 5.2 */

static void test_bounds(void **state)
{
    (void)state;
    assert_int_equal(ack(4 * MSS + 1), ACK_FUTURE);
    assert_int_equal(ack(INT32_MAX), ACK_FUTURE);
    assert_int_equal(ack(-30001), ACK_OLD);
    assert_int_equal(ack(INT32_MIN + 5000), ACK_OLD);
    assert_int_equal(ack(-30000), ACK_FINE);
    assert_int_equal(ack(-1), ACK_FINE);
    assert_int_equal(conn->snd_una, UNA);
    assert_int_equal(r.events | r.flushes | r.duplicates, 0);
}

static void test_new(void **state)
{
    (void)state;
    conn->rtx_n = 3;
    conn->life_at = 77;
    assert_int_equal(ack(MSS), ACK_FINE);
    assert_int_equal(conn->snd_una, UNA + MSS);
    assert_int_equal(conn->tx_bytes, 9 * MSS);
    assert_int_equal(r.acked, MSS);
    assert_int_equal(r.events, 0); /* nobody asked */
    assert_int_equal(r.flushes, 1);
    assert_int_equal(conn->rtx_n, 0);
    assert_int_equal(conn->life_at, 0); /* R2 begins anew */
    assert_int_equal(conn->rtx_at, rig.t.now_ms + 300);
}

static void test_acked_is_told_once(void **state)
{
    (void)state;
    conn->flags |= CF_WANT_ACKED;
    assert_int_equal(ack(0), ACK_FINE);
    assert_int_equal(r.events, 0);
    assert_int_equal(ack(MSS), ACK_FINE);
    assert_int_equal(r.events, TCP_EV_ACKED);
    r.events = 0;
    assert_int_equal(ack(2 * MSS), ACK_FINE);
    assert_int_equal(r.events, 0);
}

/* RFC 6298 5.3: nothing new, nothing restarted. */
static void test_duplicate_leaves_the_timer(void **state)
{
    (void)state;
    uint32_t at = conn->rtx_at;
    conn->rtx_n = 2;
    ack(0);
    assert_int_equal(conn->rtx_at, at);
    assert_int_equal(conn->rtx_n, 2);
    assert_int_equal(r.measured, 0);
}

static void test_all_stops_the_timer(void **state)
{
    (void)state;
    ack(4 * MSS);
    assert_int_equal(conn->rtx_at, 0);
}

/* After a timeout snd_nxt stands behind what the peer has. */
static void test_beyond_snd_nxt(void **state)
{
    (void)state;
    conn->snd_nxt = UNA + MSS;
    ack(3 * MSS);
    assert_int_equal(conn->snd_nxt, UNA + 3 * MSS);
}

/* ---- RFC 5681 2 */

static void test_what_is_no_duplicate(void **state)
{
    (void)state;
    struct tcp_seg s = segment(0);
    s.data_n = 1; /* it says something */
    give(&s);
    s = segment(0);
    s.flags |= TH_FIN;
    give(&s);
    s = segment(0);
    s.wnd = 29999; /* another window */
    give(&s);
    conn->snd_nxt = conn->snd_una; /* nothing is out */
    ack(0);
    assert_int_equal(r.duplicates, 0);
}

static void test_what_is(void **state)
{
    (void)state;
    ack(0);
    assert_int_equal(r.duplicates, 1);
    conn->flags |= CF_SACK;
    ack(0); /* RFC 6675 2: it reports nothing */
    assert_int_equal(r.duplicates, 1);
    struct tcp_seg s = segment(0);
    s.sack_n = 1;
    s.sack[0] = (struct tcp_range){UNA + MSS, UNA + 2 * MSS};
    s.wnd = 10; /* ... whatever else it says */
    give(&s);
    assert_int_equal(r.duplicates, 2);
    give(&s);
    assert_int_equal(r.duplicates, 2);
}

/* ---- SND.WND, SND.WL1, SND.WL2 */

static void window(uint32_t seq, int64_t to, uint16_t wnd, uint32_t want)
{
    struct tcp_seg s = segment(to);
    s.seq = seq;
    s.wnd = wnd;
    give(&s);
    assert_int_equal(conn->snd_wnd, want);
}

static void test_windows(void **state)
{
    (void)state;
    window(5000, 0, 20000, 20000);
    window(4999, 0, 1, 20000);     /* older */
    window(5001, 0, 10000, 10000); /* newer */
    window(5000, 0, 1, 10000);
    window(5001, 0, 40000, 40000); /* the same, again */
    assert_int_equal(conn->snd_wnd_max, 40000);
    window(4000, MSS, 7000, 7000); /* a repetition that acknowledges something new is new */
    window(5000, MSS, 1, 7000);    /* and what came before it stays old */
    conn->flags |= CF_WSCALE;
    conn->snd_ws = 7;
    window(5001, MSS, 1000, 128000);
}

/* ---- FIN */

static void test_fin(void **state)
{
    (void)state;
    bool fin_acked;
    struct tcp_seg s = segment(10 * MSS);
    send_out(6 * MSS);
    conn->flags |= CF_FIN_QUEUED | CF_FIN_SENT;
    send_out(1);
    assert_int_equal(ack_input(&rig.t, conn, &s, &fin_acked), ACK_FINE);
    assert_false(fin_acked);
    s.ack++;
    r.events = 0;
    assert_int_equal(ack_input(&rig.t, conn, &s, &fin_acked), ACK_FINE);
    assert_true(fin_acked);
    assert_int_equal(r.events, 0); /* no byte */
    assert_false(conn->flags & CF_FIN_QUEUED);
    assert_false(conn_waits(conn));
    s.ack++;
    assert_int_equal(ack_input(&rig.t, conn, &s, &fin_acked), ACK_FUTURE);
}

/* ---- a shut window */

static void test_probe_taken(void **state)
{
    (void)state;
    ack(4 * MSS);
    conn->flags |= CF_PERSIST;
    conn->life_at = 1234;
    conn->rtx_n = 5;
    conn->snd_max++; /* snd_nxt stays */
    ack(4 * MSS + 1);
    assert_true(conn->flags & CF_PERSIST);
    assert_int_equal(conn->life_at, 1234); /* no progress to speak of */
    assert_int_equal(conn->rtx_n, 0);
    assert_int_equal(conn->snd_nxt, UNA + 4 * MSS + 1);
}

static void test_last_probe_taken(void **state)
{
    (void)state;
    ack(4 * MSS);
    send_out(6 * MSS - 1);
    ack(10 * MSS - 1);
    conn->flags |= CF_PERSIST;
    conn->life_at = 1234;
    conn->snd_max++;
    ack(10 * MSS);
    assert_false(conn->flags & CF_PERSIST);
    assert_int_equal(conn->life_at | conn->rtx_at, 0);
}

/* ---- ECN */

static void test_ece(void **state)
{
    (void)state;
    struct tcp_seg s = segment(MSS);
    s.flags |= TH_ECE;
    give(&s);
    assert_int_equal(r.eces, 0);
    conn->flags |= CF_ECN | CF_LIMITED;
    s.ack += MSS;
    give(&s);
    assert_int_equal(r.eces, 1);
    assert_false(conn->flags & CF_LIMITED); /* no growth by this one */
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_bounds),
        TEST(test_new),
        TEST(test_acked_is_told_once),
        TEST(test_duplicate_leaves_the_timer),
        TEST(test_all_stops_the_timer),
        TEST(test_beyond_snd_nxt),
        TEST(test_what_is_no_duplicate),
        TEST(test_what_is),
        TEST(test_windows),
        TEST(test_fin),
        TEST(test_probe_taken),
        TEST(test_last_probe_taken),
        TEST(test_ece),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
