/* test_tcp_timers.c - what each deadline does, over the wrap of the clock's milliseconds. */
#include "dataplane/tcp/timers.c"
#include "tcp_send_rig.h"

static struct {
    uint32_t flushes, timeouts, probes, bare, ends;
    uint16_t events, end_why;
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

void conn_end(struct tcp *t, struct tcp_conn *c, uint16_t why)
{
    conn_timer_stop(t, c);
    c->rtx_at = c->ack_at = c->life_at = c->app_at = 0;
    r.ends++;
    r.end_why = why;
}

void conn_send_bare(struct tcp *t, struct tcp_conn *c, uint16_t flags, uint32_t seq)
{
    (void)t;
    (void)c;
    (void)seq;
    assert_true(flags & TH_RST);
    r.bare++;
}

void output_probe(struct tcp *t, struct tcp_conn *c)
{
    (void)t;
    (void)c;
    r.probes++;
}

void cong_timeout(struct tcp *t, struct tcp_conn *c)
{
    (void)t;
    (void)c;
    r.timeouts++;
}

static struct twheel_node *node(void *ctx, uint32_t index)
{
    return &tcp_conn_at(ctx, index / TCP_TIMERS)->timers[index % TCP_TIMERS];
}

static void fetch(void *ctx, uint32_t index)
{
    (void)ctx;
    assert_true(index < 4 * TCP_TIMERS);
}

static _Alignas(64) uint8_t bins[4 * TCP_TIMERS * 64];

/* 60 ms before the milliseconds wrap. */
#define START_US (((1ull << 32) - 60) * 1000)

static int setup(void **state)
{
    (void)state;
    memset(&r, 0, sizeof r);
    send_open(4);
    rig_at(START_US);
    assert_true(twheel_bytes(4 * TCP_TIMERS) <= sizeof bins);
    twheel_init(&rig.t.wheel, bins, rig.t.now_ms, &(struct twheel_owner){node, fetch, &rig.t});
    conn->active_at = rig.t.now_ms;
    conn->rto = 200;
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
    conns_tick(&rig.t);
}

static void set(uint32_t *at, uint32_t ms)
{
    *at = tcp_in_ms(&rig.t, ms);
    conn_timer_update(&rig.t, conn);
}

static void test_none(void **state)
{
    (void)state;
    conn_timer_update(&rig.t, conn);
    assert_int_equal(conns_next_us(&rig.t), UINT64_MAX);
    pass(100000000);
}

/* Deadline 0 stands for none: one that would fall on it comes a millisecond later. */
static void test_on_the_wrap(void **state)
{
    (void)state;
    set(&conn->app_at, 60);
    assert_int_equal(conn->app_at, 1);
    pass(60);
    assert_int_equal(r.events, 0);
    pass(1);
    assert_int_equal(r.events, TCP_EV_TIMER);
}

/* What the turn still changes is looked at when it is over. */
static void test_flush_to_come(void **state)
{
    (void)state;
    conn->on = ON_FLUSH;
    set(&conn->rtx_at, 200);
    set(&conn->app_at, 30);
    set(&conn->app_at, 7000);
    assert_int_equal(conns_next_us(&rig.t), UINT64_MAX);
    conn->on = 0;
    conn->rtx_at = 0;
    conn_timer_update(&rig.t, conn);
    pass(6999);
    assert_int_equal(r.events, 0);
    pass(1);
    assert_int_equal(r.events, TCP_EV_TIMER);
}

static void test_owners_timer_two_hours(void **state)
{
    (void)state;
    set(&conn->app_at, 7200000);
    for (int i = 0; i < 7199; i++)
        pass(1000);
    assert_int_equal(r.events, 0);
    pass(1000);
    assert_int_equal(r.events, TCP_EV_TIMER);
    assert_int_equal(conn->app_at, 0);
}

/* One entry: a deadline moved later comes up early, and is set anew; moved sooner it moves. */
static void test_stop(void **state)
{
    (void)state;
    set(&conn->ack_at, 40);
    set(&conn->app_at, 7000);
    assert_int_not_equal(conns_next_us(&rig.t), UINT64_MAX);
    conn_timer_stop(&rig.t, conn);
    assert_int_equal(conns_next_us(&rig.t), UINT64_MAX);
}

/* The one entry of what comes with an answer leaves the other one where it is. */
static void test_two_entries(void **state)
{
    (void)state;
    set(&conn->app_at, 7000);
    const struct twheel_node late = conn->timers[1];
    for (int i = 0; i < 20; i++) {
        set(&conn->rtx_at, 200);
        assert_int_not_equal(conn->timers[0].place, 0);
        conn->rtx_at = 0; /* acknowledged */
        pass(250);
        assert_memory_equal(&conn->timers[1], &late, sizeof late);
        assert_int_equal(conn->timers[0].place, 0);
    }
    assert_int_equal(r.events, 0);
    pass(2000);
    assert_int_equal(r.events, TCP_EV_TIMER);
}

static void test_moved(void **state)
{
    (void)state;
    set(&conn->app_at, 100);
    set(&conn->app_at, 1000);
    pass(500);
    assert_int_equal(r.events, 0);
    pass(500);
    assert_int_equal(r.events, TCP_EV_TIMER);
    r.events = 0;
    set(&conn->app_at, 1000);
    set(&conn->app_at, 100);
    pass(100);
    assert_int_equal(r.events, TCP_EV_TIMER);
    pass(2000);
}

static void test_next(void **state)
{
    (void)state;
    set(&conn->app_at, 700000);
    for (int i = 0; r.events == 0; i++) {
        uint64_t at = conns_next_us(&rig.t);
        assert_true(i < 5 && at > rig.t.now_us && at <= START_US + 700000 * 1000ull);
        rig_at(at);
        conns_tick(&rig.t);
    }
    assert_int_equal(rig.t.now_us, START_US + 700000 * 1000ull);
}

static void test_delayed_acknowledgement(void **state)
{
    (void)state;
    conn->flags |= CF_ACK_LATER;
    set(&conn->ack_at, 40);
    pass(40);
    assert_true(conn->flags & CF_ACK_NOW);
    assert_int_equal(r.flushes, 1);
    conn->flags = 0;
    set(&conn->ack_at, 10); /* no frame was to be had: nothing is owed */
    pass(10);
    assert_false(conn->flags & CF_ACK_NOW);
    assert_int_equal(r.flushes, 2);
}

/* RFC 6298 5.4 to 5.6, RFC 9293 3.8.3. */
static void test_retransmission_until_r2(void **state)
{
    (void)state;
    send_out(MSS);
    set(&conn->rtx_at, 200);
    pass(200);
    assert_int_equal(r.timeouts, 1);
    assert_int_equal(conn->rto, 400);
    assert_int_equal(r.flushes, 1);
    uint32_t waited = 0;
    while (r.ends == 0 && waited < 1000000) {
        if (conn->rtx_at == 0)
            set(&conn->rtx_at, conn->rto); /* output.c, with the repetition */
        pass(100);
        waited += 100;
    }
    assert_in_range(waited, 100000, 200000);
    assert_int_equal(r.end_why, TCP_EV_TIMEOUT);
    assert_int_equal(r.bare, 0); /* nobody is there to hear it */
    assert_int_equal(rig_stat(STAT_RTO_FIRED), r.timeouts);
}

static void test_syn_r2_is_three_minutes(void **state)
{
    (void)state;
    conn->state = TCP_SYN_SENT;
    conn->rto = 1000;
    send_out(1);
    set(&conn->rtx_at, 1000);
    uint32_t waited = 0;
    for (; r.ends == 0 && waited < 1000000; waited += 1000) {
        if (conn->rtx_at == 0)
            set(&conn->rtx_at, conn->rto);
        pass(1000);
    }
    assert_in_range(waited, 180000, 300000);
}

static void test_nothing_out(void **state)
{
    (void)state;
    set(&conn->rtx_at, 200);
    pass(200);
    assert_int_equal(r.timeouts, 0);
}

/* RFC 9293 3.8.6.1: answered probes go on until the window has been shut for zero_window_ms. */
static void persist(uint32_t heard_every_ms, uint32_t least_ms, uint32_t most_ms)
{
    uint32_t waited = 0;
    conn->flags |= CF_PERSIST;
    set(&conn->life_at, rig.t.cfg.zero_window_ms);
    set(&conn->rtx_at, 200);
    for (; r.ends == 0 && waited < 10000000; waited += 100) {
        if (heard_every_ms && waited % heard_every_ms == 0)
            conn->active_at = rig.t.now_ms;
        pass(100);
    }
    assert_in_range(waited, least_ms, most_ms);
    assert_int_equal(r.end_why, TCP_EV_TIMEOUT);
    assert_int_equal(r.bare, 1); /* a peer that answers should know */
    assert_int_equal(r.timeouts, 0);
}

static void test_persist_answered(void **state)
{
    (void)state;
    persist(60000, 600000, 600100);
    assert_in_range(r.probes, 15, 20);
}

static void test_persist_unanswered(void **state)
{
    (void)state;
    persist(0, 100000, 170000);
}

/* Silence before the window shut is nobody's fault. */
static void test_persist_after_an_hour_of_silence(void **state)
{
    (void)state;
    pass(3600000);
    persist(0, 100000, 170000);
}

/* The last probe may still be answered: another deadline ends nothing. */
static void test_persist_ends_with_a_probe(void **state)
{
    (void)state;
    conn->flags |= CF_PERSIST;
    conn->rtx_n = 9;
    conn->active_at = rig.t.now_ms;
    set(&conn->life_at, rig.t.cfg.zero_window_ms);
    set(&conn->rtx_at, rig.t.cfg.r2_ms + 30000);
    set(&conn->ack_at, rig.t.cfg.r2_ms + 10);
    pass(rig.t.cfg.r2_ms + 10);
    assert_int_equal(conn->ack_at, 0);
    assert_int_equal(r.ends, 0);
    pass(30000);
    assert_int_equal(r.ends, 1);
    assert_int_equal(r.probes, 0);
}

static void test_fin_wait_2_ends(void **state)
{
    (void)state;
    conn->state = TCP_FIN_WAIT2;
    set(&conn->life_at, 60000);
    pass(59999);
    assert_int_equal(r.ends, 0);
    pass(1);
    assert_int_equal(r.ends, 1);
    assert_int_equal(r.end_why, 0);
    assert_int_equal(r.bare, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_none),
        TEST(test_on_the_wrap),
        TEST(test_flush_to_come),
        TEST(test_owners_timer_two_hours),
        TEST(test_stop),
        TEST(test_two_entries),
        TEST(test_moved),
        TEST(test_next),
        TEST(test_delayed_acknowledgement),
        TEST(test_retransmission_until_r2),
        TEST(test_syn_r2_is_three_minutes),
        TEST(test_nothing_out),
        TEST(test_persist_answered),
        TEST(test_persist_unanswered),
        TEST(test_persist_after_an_hour_of_silence),
        TEST(test_persist_ends_with_a_probe),
        TEST(test_fin_wait_2_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
