/* test_tcp_output.c - what a connection sends: pieces, windows, acknowledgements, probes.  Congestion, scoreboard and
 * queue are the real ones. */
#include "dataplane/tcp/output.c"
#include "tcp_send_rig.h"

static struct {
    struct out {
        uint32_t seq, ack, n, sacks;
        uint16_t flags, wnd;
        uint8_t ecn;
    } v[128];
    uint32_t n;
    bool none_left, gap;
    uint16_t mss;
    uint32_t edge;
} o;

/* ---- the rest of TCP */

void connect_output(struct tcp *t, struct tcp_conn *c)
{
    (void)t;
    (void)c;
}

void conn_timer_update(struct tcp *t, struct tcp_conn *c)
{
    (void)t;
    (void)c;
}

uint32_t rx_edge(struct tcp *t, const struct tcp_conn *c)
{
    (void)t;
    return seq_max(o.edge, c->rcv_edge);
}

bool rx_has_gap(const struct tcp *t, const struct tcp_conn *c)
{
    (void)t;
    (void)c;
    return o.gap;
}

uint8_t rx_sack(struct tcp *t, struct tcp_conn *c, struct tcp_range *out_r, uint8_t cap)
{
    (void)t;
    (void)c;
    assert_true(cap > 0);
    out_r[0] = (struct tcp_range){7, 9};
    return 1;
}

uint16_t tcp_mss_ours(struct tcp *t, const struct ip_addr *peer)
{
    (void)t;
    (void)peer;
    return o.mss;
}

static uint8_t buffer[FRAME_HEADROOM + 2048];

static bool alloc(void *ctx, struct frame *f_r)
{
    (void)ctx;
    *f_r = (struct frame){.p = buffer + FRAME_HEADROOM, .room = 2048, .buf = buffer};
    return !o.none_left;
}

static uint8_t byte_at(uint32_t seq)
{
    return (uint8_t)((seq - UNA) * 2654435761u >> 23);
}

static void keep(void *ctx, struct frame *f, const struct ip_route *to)
{
    (void)ctx;
    uint32_t head = (f->p[12] >> 4) * 4u, seq = be32_get(f->p + 4);
    assert_true(o.n < 128);
    o.v[o.n++] = (struct out){.seq = seq - UNA,
                              .ack = be32_get(f->p + 8),
                              .n = f->n - head,
                              .flags = f->p[13],
                              .wnd = be16_get(f->p + 14),
                              .ecn = to->ecn,
                              .sacks = head > 20};
    for (uint32_t i = head; i < f->n; i++)
        assert_int_equal(f->p[i], byte_at(seq + i - head));
}

/* ---- */

static int setup(void **state)
{
    (void)state;
    memset(&o, 0, sizeof o);
    send_open(200);
    rig.t.out.alloc = alloc;
    rig.t.out.send = keep;
    o.mss = MSS;
    conn->rcv_nxt = conn->acked_in = 5000;
    conn->rcv_edge = o.edge = 5000 + 30000;
    conn->sent_at = rig.t.now_ms;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    send_close();
    return 0;
}

static void say_bytes(uint32_t n)
{
    uint8_t bytes[64 * 1024];
    for (uint32_t i = 0; i < n; i++)
        bytes[i] = byte_at(conn_tx_end(conn) + i);
    assert_int_equal(txq_put(&rig.t, conn, slice_of(bytes, n)), n);
}

static void flush(void)
{
    o.n = 0;
    conn_output(&rig.t, conn);
}

static void acked(uint32_t n)
{
    conn->snd_una += n;
    conn->snd_nxt = seq_max(conn->snd_nxt, conn->snd_una);
    txq_acked(&rig.t, conn, n);
    sb_trim(&rig.t, conn);
    cong_acked(&rig.t, conn, n);
}

static void sends(uint32_t i, uint32_t seq, uint32_t n, uint16_t flags)
{
    assert_true(i < o.n);
    assert_int_equal(o.v[i].seq, seq);
    assert_int_equal(o.v[i].n, n);
    assert_int_equal(o.v[i].flags, flags | TH_ACK);
}

/* ---- segments */

static void test_nothing_to_say(void **state)
{
    (void)state;
    flush();
    assert_int_equal(o.n, 0);
    assert_int_equal(conn->rtx_at | conn->ack_at, 0);
}

static void test_segments_and_push(void **state)
{
    (void)state;
    say_bytes(2 * MSS + 1);
    flush();
    assert_int_equal(o.n, 3);
    sends(0, 0, MSS, 0);
    sends(1, MSS, MSS, 0);
    sends(2, 2 * MSS, 1, TH_PSH);
    assert_int_equal(o.v[0].ack, 5000);
    assert_int_equal(conn->rtx_at, rig.t.now_ms + conn->rto);
    flush();
    assert_int_equal(o.n, 0);
}

static void test_fin_with_the_last(void **state)
{
    (void)state;
    say_bytes(MSS);
    conn->flags |= CF_FIN_QUEUED;
    flush();
    sends(0, 0, MSS, TH_PSH | TH_FIN);
    assert_int_equal(conn->snd_max, UNA + MSS + 1);
    flush();
    assert_int_equal(o.n, 0);
}

static void test_fin_alone(void **state)
{
    (void)state;
    say_bytes(10);
    flush();
    conn->flags |= CF_FIN_QUEUED;
    flush();
    assert_int_equal(o.n, 1);
    sends(0, 10, 0, TH_FIN);
}

/* ---- windows */

static void test_congestion_window_is_of_the_flight(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        say_bytes(4 * MSS);
        flush();
        assert_int_equal(o.n, i < 2 ? 4 : i == 2 ? 2 : 0);
    }
    assert_true(conn->flags & CF_LIMITED);
    assert_int_equal(conn->snd_nxt, UNA + 10 * MSS);
}

/* RFC 9293 3.8.6.2.1: no crumbs. */
static void test_peers_window(void **state)
{
    (void)state;
    conn->snd_wnd = 2 * MSS + 300;
    say_bytes(5 * MSS);
    flush();
    assert_int_equal(o.n, 2);
    assert_false(conn->flags & (CF_PERSIST | CF_LIMITED)); /* an acknowledgement will come */
    acked(2 * MSS);
    conn->snd_wnd = 400;
    conn->snd_wnd_max = 700; /* half of the largest is worth it */
    flush();
    assert_int_equal(o.n, 1);
    assert_int_equal(o.v[0].n, 400);
}

static void test_window_taken_back(void **state)
{
    (void)state;
    say_bytes(5 * MSS);
    flush();
    acked(MSS);
    conn->snd_wnd = MSS;
    say_bytes(MSS);
    flush();
    assert_int_equal(o.n, 0);
}

/* A segment without payload keeps within the window, or the peer would not look at it. */
static void test_bare_number(void **state)
{
    (void)state;
    say_bytes(5 * MSS);
    flush();
    assert_int_equal(conn_bare_seq(conn), UNA + 5 * MSS);
    conn->snd_wnd = 2 * MSS;
    assert_int_equal(conn_bare_seq(conn), UNA + 2 * MSS);
}

/* ---- a shut window: RFC 9293 3.8.6.1 */

static void test_persist(void **state)
{
    (void)state;
    conn->snd_wnd = 0;
    conn->rto = 300;
    say_bytes(100);
    flush();
    assert_int_equal(o.n, 0);
    assert_true(conn->flags & CF_PERSIST);
    assert_int_equal(conn->rtx_at, rig.t.now_ms + 300);
    assert_int_equal(conn->life_at, rig.t.now_ms + 600000);
    output_probe(&rig.t, conn);
    sends(0, 0, 1, 0);
    assert_int_equal(conn->snd_nxt, UNA);
    assert_int_equal(conn->snd_max, UNA + 1);
    conn->snd_wnd = 1000;
    flush();
    sends(0, 0, 100, TH_PSH);
    assert_false(conn->flags & CF_PERSIST);
    assert_int_equal(conn->life_at, 0);
    assert_int_equal(conn->rtx_at, rig.t.now_ms + 300);
}

static void test_probe_fills_a_tiny_window(void **state)
{
    (void)state;
    conn->snd_wnd = 7;
    say_bytes(100);
    flush();
    assert_true(conn->flags & CF_PERSIST);
    output_probe(&rig.t, conn);
    sends(0, 0, 7, 0);
}

static void test_probe_with_fin(void **state)
{
    (void)state;
    conn->snd_wnd = 0;
    conn->flags |= CF_FIN_QUEUED;
    flush();
    assert_int_equal(o.n, 0);
    output_probe(&rig.t, conn);
    sends(0, 0, 0, TH_FIN);
    assert_int_equal(conn->snd_max, UNA + 1);
    conn->snd_wnd = 10;
    flush();
    sends(0, 0, 0, TH_FIN);
}

/* ---- what is sent again */

static void test_after_a_timeout(void **state)
{
    (void)state;
    say_bytes(5 * MSS);
    flush();
    cong_timeout(&rig.t, conn);
    conn->rtx_at = 0;
    flush();
    assert_int_equal(o.n, 1);
    sends(0, 0, MSS, 0);
    assert_int_equal(rig_stat(STAT_RETRANS), 1);
    assert_int_equal(conn->rtx_at, rig.t.now_ms + conn->rto);
}

/* What is reported meanwhile is left out. */
static void test_after_a_timeout_without_what_is_reported(void **state)
{
    (void)state;
    struct tcp_seg s = {.sack_n = 1, .sack = {{UNA + 1500, UNA + 3 * MSS}}};
    conn->flags |= CF_SACK;
    say_bytes(5 * MSS);
    flush();
    cong_timeout(&rig.t, conn);
    conn->cwnd = 10 * MSS;
    sb_note(&rig.t, conn, &s);
    flush();
    assert_int_equal(o.n, 4);
    sends(0, 0, MSS, 0);
    sends(1, MSS, 500, 0);
    sends(2, 3 * MSS, MSS, 0);
    sends(3, 4 * MSS, MSS, TH_PSH);
}

static void test_recovery_without_sack(void **state)
{
    (void)state;
    say_bytes(10 * MSS);
    flush();
    conn->rtx_at = 1;
    for (int i = 0; i < 3; i++)
        cong_duplicate(&rig.t, conn);
    flush();
    assert_int_equal(o.n, 1);
    sends(0, 0, MSS, 0);
    assert_int_equal(conn->snd_nxt, UNA + 10 * MSS);
    assert_int_equal(conn->rtx_at, rig.t.now_ms + conn->rto);
    flush();
    assert_int_equal(o.n, 0);
    acked(2 * MSS);
    flush();
    assert_int_equal(o.n, 1);
    sends(0, 2 * MSS, MSS, 0);
}

static void test_recovery_with_holes(void **state)
{
    (void)state;
    struct tcp_seg s = {.sack_n = 2, .sack = {{UNA + MSS, UNA + 3 * MSS}, {UNA + 4 * MSS, UNA + 10 * MSS}}};
    conn->flags |= CF_SACK;
    say_bytes(10 * MSS);
    flush();
    sb_note(&rig.t, conn, &s);
    cong_duplicate(&rig.t, conn);
    flush();
    assert_int_equal(o.n, 2);
    sends(0, 0, MSS, 0);
    sends(1, 3 * MSS, MSS, 0);
    flush();
    assert_int_equal(o.n, 0);
}

/* RFC 6675 4, NextSeg: new bytes come before holes that are not yet called lost. */
static void test_new_bytes_before_doubtful_holes(void **state)
{
    (void)state;
    struct tcp_seg s = {.sack_n = 2, .sack = {{UNA + MSS, UNA + 4 * MSS}, {UNA + 5 * MSS, UNA + 6 * MSS}}};
    conn->flags |= CF_SACK;
    say_bytes(6 * MSS);
    flush();
    say_bytes(1);
    sb_note(&rig.t, conn, &s);
    cong_duplicate(&rig.t, conn);
    conn->cwnd = 4 * MSS;
    flush();
    assert_int_equal(o.n, 3);
    sends(0, 0, MSS, 0);
    sends(1, 6 * MSS, 1, TH_PSH);
    sends(2, 4 * MSS, MSS, 0);
}

static void test_fin_again(void **state)
{
    (void)state;
    conn->flags |= CF_FIN_QUEUED;
    say_bytes(10);
    flush();
    acked(10);
    cong_timeout(&rig.t, conn);
    flush();
    assert_int_equal(o.n, 1);
    sends(0, 10, 0, TH_FIN);
}

/* ---- the path */

static void test_narrower_path(void **state)
{
    (void)state;
    say_bytes(MSS);
    flush();
    o.mss = 600;
    conn->flags |= CF_MTU;
    flush();
    assert_int_equal(o.n, 2);
    sends(0, 0, 600, 0);
    sends(1, 600, 400, TH_PSH);
    assert_int_equal(conn->cwnd, 10 * MSS); /* no congestion */
    conn->flags |= CF_MTU;
    flush();
    assert_int_equal(o.n, 0); /* nothing new */
}

static void test_options_take_from_the_segment(void **state)
{
    (void)state;
    conn->flags |= CF_TS;
    say_bytes(MSS);
    flush();
    assert_int_equal(o.v[0].n, MSS - 12);
}

/* ---- acknowledgements */

static void test_delayed(void **state)
{
    (void)state;
    conn->flags |= CF_ACK_LATER;
    conn->delack_n = 1;
    conn->rcv_nxt += MSS;
    flush();
    assert_int_equal(o.n, 0);
    uint32_t at = rig.t.now_ms + 40;
    assert_int_equal(conn->ack_at, at);
    rig_at(rig.t.now_us + 10000);
    flush();
    assert_int_equal(o.n, 0);
    assert_int_equal(conn->ack_at, at); /* the first one's time counts */
    conn->delack_n = 2;                 /* MUST-59 */
    flush();
    assert_int_equal(o.n, 1);
    sends(0, 0, 0, 0);
    assert_int_equal(conn->ack_at | conn->delack_n, 0);
    assert_int_equal(conn->acked_in, 5000 + MSS);
}

static void test_not_delayed(void **state)
{
    (void)state;
    rig.t.cfg.delack_ms = 0;
    conn->flags |= CF_ACK_LATER;
    conn->delack_n = 1;
    flush();
    assert_int_equal(o.n, 1);
    sends(0, 0, 0, 0);
    assert_int_equal(conn->ack_at | conn->delack_n, 0);
}

static void test_data_acknowledges(void **state)
{
    (void)state;
    conn->flags |= CF_ACK_NOW;
    conn->ack_at = 77;
    say_bytes(10);
    flush();
    assert_int_equal(o.n, 1);
    assert_false(conn->flags & CF_ACK_NOW);
    assert_int_equal(conn->ack_at, 0);
}

/* Blocks that find no room beside a full segment leave with one of their own. */
static void test_reports_beside_data(void **state)
{
    (void)state;
    conn->flags |= CF_SACK | CF_ACK_NOW;
    o.gap = true;
    say_bytes(MSS);
    flush();
    assert_int_equal(o.n, 2);
    assert_int_equal(o.v[0].n, MSS);
    assert_false(o.v[0].sacks);
    assert_int_equal(o.v[1].n, 0);
    assert_true(o.v[1].sacks);
    conn->flags |= CF_ACK_NOW;
    say_bytes(MSS - 12);
    flush();
    assert_int_equal(o.n, 1);
    assert_true(o.v[0].sacks);
}

static void test_no_frame(void **state)
{
    (void)state;
    o.none_left = true;
    conn->flags |= CF_ACK_NOW;
    say_bytes(10);
    flush();
    assert_int_equal(conn->snd_nxt, UNA);
    assert_true(conn->flags & CF_ACK_NOW);
    assert_false(conn->flags & CF_PERSIST);
    assert_int_equal(conn->ack_at, rig.t.now_ms + OUTPUT_RETRY_MS);
    assert_int_equal(rig_stat(STAT_TX_NOBUF), 2);
    o.none_left = false;
    flush();
    assert_int_equal(o.n, 1);
}

/* ---- our window, scaled: it never says less than before */

static void test_window_is_never_taken_back_by_rounding(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 1);
    for (uint8_t ws = 0; ws <= 5; ws++) {
        conn->rcv_ws = ws;
        conn->rcv_nxt = 0xffffff00;
        conn->rcv_edge = conn->rcv_nxt;
        uint32_t edge = conn->rcv_edge;
        for (int i = 0; i < 2000; i++) {
            uint32_t limit = conn->rcv_nxt + (uint32_t)rng_below(&rng, 60000u << ws);
            uint16_t field = output_window(conn, seq_max(limit, conn->rcv_edge));
            uint32_t said = conn->rcv_nxt + ((uint32_t)field << ws);
            assert_true(seq_geq(said, edge));
            assert_int_equal(said, conn->rcv_edge);
            assert_true(seq_lt(said, seq_max(limit, edge) + (1u << ws)));
            edge = said;
            conn->rcv_nxt += (uint32_t)rng_below(&rng, edge - conn->rcv_nxt + 1);
        }
    }
}

/* ---- ECN */

static void test_marks(void **state)
{
    (void)state;
    conn->flags |= CF_ECN | CF_CWR_OUT | CF_ECE_OUT;
    say_bytes(2 * MSS);
    flush();
    sends(0, 0, MSS, TH_CWR | TH_ECE);
    sends(1, MSS, MSS, TH_PSH | TH_ECE);
    assert_int_equal(o.v[0].ecn, 2);
    cong_timeout(&rig.t, conn);
    conn->cwnd = 10 * MSS;
    say_bytes(1);
    flush();
    assert_int_equal(o.v[0].ecn, 0); /* RFC 3168 6.1.5 */
    sends(2, 2 * MSS, 1, TH_CWR | TH_ECE | TH_PSH);
    conn->flags |= CF_ACK_NOW;
    flush();
    assert_int_equal(o.v[0].ecn, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_nothing_to_say),
        TEST(test_segments_and_push),
        TEST(test_fin_with_the_last),
        TEST(test_fin_alone),
        TEST(test_congestion_window_is_of_the_flight),
        TEST(test_peers_window),
        TEST(test_window_taken_back),
        TEST(test_bare_number),
        TEST(test_persist),
        TEST(test_probe_fills_a_tiny_window),
        TEST(test_probe_with_fin),
        TEST(test_after_a_timeout),
        TEST(test_after_a_timeout_without_what_is_reported),
        TEST(test_recovery_without_sack),
        TEST(test_recovery_with_holes),
        TEST(test_new_bytes_before_doubtful_holes),
        TEST(test_fin_again),
        TEST(test_narrower_path),
        TEST(test_options_take_from_the_segment),
        TEST(test_delayed),
        TEST(test_not_delayed),
        TEST(test_data_acknowledges),
        TEST(test_reports_beside_data),
        TEST(test_no_frame),
        TEST(test_window_is_never_taken_back_by_rounding),
        TEST(test_marks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
