/* test_tcp_timewait.c - records of TIME-WAIT: bounded, in order, silent where an answer would be answered. */
#include "tcp_rig.h"

static struct {
    void *table, *tws;
    struct tcp_conn conns[1];
    struct rig_seg g;
    uint32_t reuses;
    bool refuse;
} r;

/* ---- syn.c's part */

bool syn_reuse(struct tcp *t, const struct tcp_seg *s, const struct tcp_tuple *k, uint32_t was, uint32_t above)
{
    (void)s;
    assert_int_equal(above, 9000);
    r.reuses++;
    if (!r.refuse)
        tcp_table_remove(t, tuple_hash(t, k), was);
    return !r.refuse;
}

bool syn_is(const struct tcp *t, uint32_t index, const struct tcp_tuple *k)
{
    (void)t;
    (void)index;
    (void)k;
    return false;
}

static int setup(void **state)
{
    (void)state;
    memset(&r, 0, sizeof r);
    rig_open();
    rig.t.conns = (uint8_t *)r.conns;
    r.table = rig_part(tcp_table_bytes(&rig.t.cfg));
    r.tws = rig_part(tws_bytes(&rig.t.cfg));
    tcp_table_init(&rig.t, r.table);
    tws_init(&rig.t, r.tws);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_at(rig.t.now_us + 1000 * SECOND);
    tws_tick(&rig.t);
    assert_int_equal(rig_stat(STAT_TIME_WAITS), 0);
    assert_true(tws_next_us(&rig.t) == UINT64_MAX);
    free(r.table);
    free(r.tws);
    return 0;
}

static enum tcp_kind kind_of(uint32_t n, uint32_t *index_r)
{
    struct tcp_tuple k = rig_tuple(n);
    return tcp_table_find(&rig.t, &k, index_r);
}

/* Connection n ends: it expects 5001, and has said all before 9000. */
static void enter(uint32_t n, uint32_t flags, uint32_t ts_recent)
{
    struct tcp_tuple k = rig_tuple(n);
    struct tcp_conn *c = &r.conns[0];
    uint32_t index;
    *c = (struct tcp_conn){.peer = k.peer, .peer_port = k.peer_port, .port = k.port, .rcv_nxt = 5001, .snd_max = 9000};
    c->flags = flags;
    c->ts_recent = ts_recent;
    assert_true(tcp_table_add(&rig.t, tuple_hash(&rig.t, &k), tcp_ref(TCP_KIND_CONN, 0)));
    tw_enter(&rig.t, c, n % 2 ? tuple_hash(&rig.t, &k) : 0);
    assert_true(c->flags & CF_SUCCEEDED);
    memset(c, 0, sizeof *c);
    assert_int_equal(kind_of(n, &index), TCP_KIND_TW);
}

static struct tcp_seg *segment(uint32_t n, uint16_t flags, uint32_t seq)
{
    struct tcp_tuple k = rig_tuple(n);
    return rig_segment(&r.g, &k, flags, seq, 9000);
}

static void give(uint32_t n, const struct tcp_seg *s)
{
    struct tcp_tuple k = rig_tuple(n);
    uint32_t index;
    assert_int_equal(kind_of(n, &index), TCP_KIND_TW);
    tw_input(&rig.t, index, s, &k);
}

static void test_fin_again(void **state)
{
    (void)state;
    uint64_t began = rig.t.now_us;
    enter(1, 0, 0);
    assert_true(tws_next_us(&rig.t) == began + 60 * SECOND);
    rig_at(began + 20 * SECOND);
    give(1, segment(1, TH_FIN | TH_ACK, 5000));
    assert_int_equal(rig.n, 1);
    assert_int_equal(rig_flags(), TH_ACK);
    assert_int_equal(rig_seq(), 9000);
    assert_int_equal(rig_ack(), 5001);
    assert_null(rig_option(8));
    assert_true(tws_next_us(&rig.t) == began + 80 * SECOND);
    give(1, segment(1, TH_FIN | TH_ACK, 4000)); /* another FIN: answered, no time is won */
    assert_int_equal(rig.n, 2);
    rig_at(began + 79 * SECOND);
    tws_tick(&rig.t);
    assert_int_equal(rig_stat(STAT_TIME_WAITS), 1);
    rig_at(began + 80 * SECOND);
    tws_tick(&rig.t);
    assert_int_equal(rig_stat(STAT_TIME_WAITS), 0);
    uint32_t index;
    assert_int_equal(kind_of(1, &index), TCP_KIND_NONE);
}

/* Two sides in TIME-WAIT that disagree must not acknowledge each other for ever. */
static void test_what_has_no_length(void **state)
{
    (void)state;
    enter(1, 0, 0);
    for (uint32_t seq = 4990; seq < 5010; seq++) {
        give(1, segment(1, TH_ACK, seq));
        give(1, segment(1, TH_RST, seq));
        give(1, segment(1, TH_RST | TH_ACK | TH_SYN | TH_FIN, seq));
    }
    assert_int_equal(rig.n, 0);
    assert_int_equal(rig_stat(STAT_TIME_WAITS), 1);
    assert_int_equal(rig_stat(STAT_DROP_TCP_CLOSED), 60);
}

static void test_data(void **state)
{
    (void)state;
    enter(1, CF_TS, 77);
    struct tcp_seg *s = segment(1, TH_ACK, 4000);
    s->data_n = 100;
    give(1, s);
    assert_int_equal(rig.n, 1);
    assert_int_equal(be32_get(rig_option(8) + 6), 77);
    rig.none_left = true;
    give(1, s);
    assert_int_equal(rig.n, 1);
    assert_int_equal(rig_stat(STAT_TX_NOBUF), 1);
}

static void test_oldest_goes(void **state)
{
    (void)state;
    uint32_t index;
    for (uint32_t n = 0; n < 7; n++)
        enter(n, 0, 0);
    assert_int_equal(rig_stat(STAT_TIME_WAITS), 4);
    for (uint32_t n = 0; n < 7; n++)
        assert_int_equal(kind_of(n, &index), n < 3 ? TCP_KIND_NONE : TCP_KIND_TW);
    give(3, segment(3, TH_FIN | TH_ACK, 5000)); /* is the youngest now */
    enter(8, 0, 0);
    assert_int_equal(kind_of(3, &index), TCP_KIND_TW);
    assert_int_equal(kind_of(4, &index), TCP_KIND_NONE);
}

/* Who may have the tuple again: seq, ts (0: none) of the SYN; the record expects 5001 and saw timestamp 100, or none.
 */
static void test_syn(void **state)
{
    (void)state;
    static const struct {
        uint32_t flags, seq, ts;
        bool new;
    } cases[] = {{0, 5002, 0, true},        {0, 5001, 0, false},
                 {0, 5000, 0, false},       {0, 0x90000000, 0, false},
                 {0, 5002, 1, true},        {CF_TS, 5002, 101, true},
                 {CF_TS, 4000, 101, true},  {CF_TS, 5002, 99, false},
                 {CF_TS, 4000, 99, false},  {CF_TS, 5002, 100, true},
                 {CF_TS, 4000, 100, false}, {CF_TS, 5002, 0, true},
                 {CF_TS, 4000, 0, false},   {CF_TS, 4000, 0x80000063, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enter(1, cases[i].flags, 100);
        struct tcp_seg *s = segment(1, TH_SYN, cases[i].seq);
        s->has_ts = cases[i].ts != 0;
        s->ts_val = cases[i].ts;
        r.reuses = rig.n = 0;
        give(1, s);
        assert_int_equal(r.reuses, cases[i].new);
        assert_int_equal(rig.n, !cases[i].new); /* an old one is acknowledged */
        assert_int_equal(rig_stat(STAT_TIME_WAITS), !cases[i].new);
        teardown(NULL);
        setup(NULL);
    }
}

static void test_syn_not_let_in(void **state)
{
    (void)state;
    enter(1, 0, 0);
    r.refuse = true;
    give(1, segment(1, TH_SYN, 6000));
    assert_int_equal(r.reuses, 1);
    assert_int_equal(rig.n, 0);
    assert_int_equal(rig_stat(STAT_TIME_WAITS), 1);
    rig.t.ports_n = 0; /* nobody listens */
    give(1, segment(1, TH_SYN, 6000));
    assert_int_equal(r.reuses, 1);
    assert_int_equal(rig.n, 1);
    rig.t.ports_n = 1;
    give(1, segment(1, TH_SYN | TH_ACK, 6000));
    assert_int_equal(r.reuses, 1);
}

static void test_none_at_all(void **state)
{
    (void)state;
    rig.t.cfg.time_waits_max = 0;
    struct tcp_conn c = {.rcv_nxt = 1};
    tw_enter(&rig.t, &c, 0);
    assert_false(c.flags & CF_SUCCEEDED);
    assert_int_equal(rig_stat(STAT_TIME_WAITS), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_fin_again), TEST(test_what_has_no_length), TEST(test_data),        TEST(test_oldest_goes),
        TEST(test_syn),       TEST(test_syn_not_let_in),     TEST(test_none_at_all),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
