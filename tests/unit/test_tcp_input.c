/* test_tcp_input.c - a segment of a connection: edges, order of checks, limits; what it calls is the test's own. */
#include "dataplane/tcp/input.c"
#include "tcp_rig.h"

#define NXT 0xfffffff8u /* expected next: every window goes over the wrap */

enum { OVER = 1, ABORTED = 2, TIME_WAIT = 4 };

static struct {
    struct tcp_conn c;
    struct rig_seg g;
    uint32_t bare, flushes, timers, ends;
    uint16_t end_why, events;
    uint32_t taken_at, taken_n, early_at, early_n; /* the last that the buffer got */
    bool gap, no_memory, fin_acked;
    enum ack_result ack;
    uint32_t dsack_at, dsack_n;
} r;

/* ---- the rest of TCP */

void conn_send_bare(struct tcp *t, struct tcp_conn *c, uint16_t flags, uint32_t seq)
{
    (void)t;
    assert_int_equal(flags, TH_ACK);
    assert_int_equal(seq, c->snd_max);
    assert_true(c->state != TCP_GONE);
    r.bare++;
}

void conn_flush_later(struct tcp *t, struct tcp_conn *c)
{
    (void)t;
    (void)c;
    r.flushes++;
}

void conn_timer_update(struct tcp *t, struct tcp_conn *c)
{
    (void)t;
    (void)c;
    r.timers++;
}

void conn_end(struct tcp *t, struct tcp_conn *c, uint16_t why)
{
    (void)t;
    c->state = TCP_GONE;
    r.ends |= OVER;
    r.end_why = why;
}

void tcp_abort(struct tcp *t, struct tcp_conn *c)
{
    (void)t;
    c->state = TCP_GONE;
    r.ends |= ABORTED;
}

void tw_enter(struct tcp *t, struct tcp_conn *c, uint64_t hash)
{
    (void)t;
    (void)hash;
    (void)c;
    r.ends |= TIME_WAIT;
}

void conn_enter(struct tcp *t, struct tcp_conn *c, enum tcp_state s)
{
    (void)t;
    c->state = (uint8_t)s;
}

void conn_event(struct tcp *t, struct tcp_conn *c, uint16_t events)
{
    (void)t;
    (void)c;
    r.events |= events;
}

enum ack_result ack_input(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s, bool *fin_acked_r)
{
    (void)t;
    (void)c;
    (void)s;
    *fin_acked_r = r.fin_acked;
    return r.ack;
}

bool rx_in_order(struct tcp *t, struct tcp_conn *c, struct frame *f, const uint8_t *data, uint32_t n)
{
    (void)t;
    assert_ptr_equal(f, &r.g.frame);
    assert_ptr_equal(data, r.g.s.data + (c->rcv_nxt - r.g.s.seq));
    if (r.no_memory)
        return false;
    r.taken_at = c->rcv_nxt;
    r.taken_n = n;
    c->rcv_nxt += n;
    c->unread += n;
    return true;
}

bool rx_out_of_order(struct tcp *t, struct tcp_conn *c, uint32_t seq, const uint8_t *data, uint32_t n,
                     struct tcp_range *dup_r)
{
    (void)t;
    (void)c;
    assert_ptr_equal(data, r.g.s.data + (seq - r.g.s.seq));
    *dup_r = (struct tcp_range){0, 0};
    r.early_at = seq;
    r.early_n = n;
    return !r.no_memory;
}

void rx_join(struct tcp *t, struct tcp_conn *c)
{
    (void)t;
    (void)c;
}

bool rx_has_gap(const struct tcp *t, const struct tcp_conn *c)
{
    (void)t;
    (void)c;
    return r.gap;
}

void rx_dsack(struct tcp *t, struct tcp_conn *c, struct tcp_range dup)
{
    (void)t;
    (void)c;
    r.dsack_at = dup.start;
    r.dsack_n = dup.end - dup.start;
}

/* ---- one connection that has taken all before NXT and offers wnd bytes */

static void open_with(uint32_t wnd)
{
    rig_open();
    memset(&r, 0, sizeof r);
    r.c = (struct tcp_conn){.state = TCP_ESTABLISHED,
                            .rcv_nxt = NXT,
                            .rcv_edge = NXT + wnd,
                            .acked_in = NXT,
                            .snd_una = 100,
                            .snd_nxt = 200,
                            .snd_max = 300,
                            .snd_wnd = 5000,
                            .mss = 1460,
                            .rx = TCP_NONE};
}

static int setup(void **state)
{
    (void)state;
    open_with(1000);
    return 0;
}

static struct tcp_seg *segment(uint16_t flags, uint32_t seq, uint32_t n)
{
    static const uint8_t bytes[4096];
    struct tcp_tuple k = rig_tuple(1);
    rig_segment(&r.g, &k, flags, seq, 150);
    r.g.s.data = bytes;
    r.g.s.data_n = n;
    return &r.g.s;
}

static void give(uint16_t flags, uint32_t seq, uint32_t n)
{
    conn_input(&rig.t, &r.c, segment(flags, seq, n));
}

/* ---- acceptability and trimming, against the definition: byte by byte */

static void one_segment(uint32_t wnd, int32_t from, uint32_t n, bool fin)
{
    open_with(wnd);
    bool inside = false, fin_inside = false;
    uint32_t first = 0, last = 0, bytes = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = (uint32_t)from + i;
        if (at >= wnd)
            continue;
        first = bytes++ ? first : at;
        last = at;
        inside = true;
    }
    if (fin && (uint32_t)from + n < wnd)
        fin_inside = true;
    give((uint16_t)(TH_ACK | (fin ? TH_FIN : 0)), NXT + (uint32_t)from, n);
    bool order = inside && first == 0;
    assert_int_equal(r.taken_n, order ? bytes : 0);
    assert_int_equal(r.early_n, inside && !order ? bytes : 0);
    if (inside && !order)
        assert_int_equal(r.early_at, NXT + first);
    if (inside)
        assert_int_equal(last - first + 1, bytes);
    bool next = fin_inside && (order ? (uint32_t)from + n == bytes : (uint32_t)from + n == 0);
    assert_int_equal(!!(r.c.flags & CF_FIN_IN), next);
    assert_int_equal(r.c.rcv_nxt - NXT, (order ? bytes : 0) + next);
    assert_int_equal(r.c.fin_wait, fin_inside && !next);
    assert_true(r.c.rcv_nxt - NXT <= wnd);
    bool empty_fine = n == 0 && !fin && (wnd ? (uint32_t)from < wnd : from == 0);
    if (!empty_fine) /* whatever was refused or cut is answered, what was taken acknowledged */
        assert_true(r.bare > 0 || r.c.flags & (CF_ACK_NOW | CF_ACK_LATER));
    else
        assert_true(r.bare == 0 && !(r.c.flags & (CF_ACK_NOW | CF_ACK_LATER)));
}

static void test_every_segment_at_every_place(void **state)
{
    (void)state;
    for (uint32_t wnd = 0; wnd <= 12; wnd++)
        for (int32_t from = -20; from <= 20; from++)
            for (uint32_t n = 0; n <= 40; n++) {
                one_segment(wnd, from, n, false);
                one_segment(wnd, from, n, true);
            }
    static const uint32_t far[] = {1u << 31, (1u << 31) - 1, (1u << 31) + 1, 1u << 30, 3u << 30};
    for (size_t i = 0; i < sizeof far / sizeof *far; i++)
        for (uint32_t n = 0; n < 4000; n += 1333) {
            open_with(1000);
            give(TH_ACK | TH_FIN, NXT + far[i], n);
            assert_int_equal(r.taken_n + r.early_n, 0);
            assert_int_equal(r.c.rcv_nxt, NXT);
            assert_false(r.c.fin_wait);
        }
}

/* ---- reset and SYN (RFC 5961) */

static void test_reset(void **state)
{
    (void)state;
    for (int32_t at = -5; at <= 1005; at++) {
        open_with(1000);
        rig.t.cfg.challenge_per_s = 1;
        give(TH_RST | (at & 1 ? TH_ACK : 0), NXT + (uint32_t)at, 0);
        assert_int_equal(r.ends, at == 0 ? OVER : 0);
        assert_int_equal(r.bare, at > 0 && at < 1000);
        assert_int_equal(r.flushes, 0);
    }
    open_with(0);
    give(TH_RST, NXT, 0);
    assert_int_equal(r.ends, OVER);
    assert_int_equal(r.end_why, TCP_EV_RESET);
}

static void test_challenges_per_second(void **state)
{
    (void)state;
    for (int second = 0; second < 3; second++) {
        r.bare = 0;
        for (int i = 0; i < 10; i++)
            give(TH_SYN, NXT, 0);
        for (int i = 0; i < 10; i++)
            give(TH_RST, NXT + 1, 0);
        for (int i = 0; i < 10; i++)
            give(TH_ACK, NXT - 1, 0); /* an acknowledgement out of place: else two sides would go on for ever */
        assert_int_equal(r.bare, 3);
        rig_at(rig.t.now_us + SECOND);
    }
    assert_int_equal(r.flushes, 0);
    assert_int_equal(r.ends, 0);
    assert_int_equal(rig_stat(STAT_CHALLENGE), 9);
    assert_int_equal(rig_stat(STAT_CHALLENGE_HELD), 81);
}

/* A limit from the first second on, wherever the clock stands. */
static void test_challenge_when_the_clock_begins(void **state)
{
    (void)state;
    rig_at(0);
    give(TH_SYN, NXT, 0);
    assert_int_equal(r.bare, 1);
}

/* ---- timestamps */

static void give_ts(uint32_t seq, uint32_t n, uint32_t ts)
{
    struct tcp_seg *s = segment(TH_ACK, seq, n);
    s->has_ts = true;
    s->ts_val = ts;
    conn_input(&rig.t, &r.c, s);
}

static void test_paws(void **state)
{
    (void)state;
    r.c.flags = CF_TS;
    r.c.ts_recent = 5;
    r.c.ts_recent_at = rig.t.now_ms;
    give_ts(NXT, 10, 4);
    assert_int_equal(r.taken_n, 0);
    assert_true(r.c.flags & CF_ACK_NOW);
    give_ts(NXT, 10, 0xfffffff0); /* older still */
    give(TH_ACK, NXT, 10);        /* none at all: silence */
    assert_int_equal(r.taken_n, 0);
    assert_int_equal(rig_stat(STAT_DROP_TCP_PAWS), 3);
    give_ts(NXT, 10, 5);
    assert_int_equal(r.taken_n, 10);
    give_ts(NXT + 10, 10, 9); /* begins behind what was acknowledged: echoed later (RFC 7323 4.3) */
    assert_int_equal(r.c.ts_recent, 5);
    r.c.acked_in = r.c.rcv_nxt;
    give_ts(NXT + 20, 10, 11);
    assert_int_equal(r.c.ts_recent, 11);
    give_ts(NXT + 5000, 10, 900); /* out of the window: nothing is learnt */
    assert_int_equal(r.c.ts_recent, 11);
    rig_at(rig.t.now_us + 25ull * 24 * 3600 * SECOND);
    r.c.acked_in = r.c.rcv_nxt;
    give_ts(NXT + 30, 10, 1);
    assert_int_equal(r.c.ts_recent, 1);
    assert_int_equal(r.c.rcv_nxt, NXT + 40);
}

/* ---- ACK */

static void test_bad_ack_takes_all_with_it(void **state)
{
    (void)state;
    static const enum ack_result bad[] = {ACK_OLD, ACK_FUTURE};
    for (int i = 0; i < 2; i++) {
        r.ack = bad[i];
        give(TH_ACK | TH_FIN, NXT, 10);
        assert_int_equal(r.bare, i + 1);
    }
    r.ack = ACK_FINE;
    give(TH_FIN, NXT, 10); /* none */
    assert_int_equal(r.bare, 2);
    assert_int_equal(r.c.rcv_nxt, NXT);
    assert_false(r.c.fin_wait);
    assert_int_equal(rig_stat(STAT_DROP_TCP_ACK), 3);
}

static void test_states(void **state)
{
    (void)state;
    static const struct {
        enum tcp_state from;
        bool acks, fin;
        enum tcp_state to;
        uint32_t ends;
    } cases[] = {{TCP_ESTABLISHED, false, true, TCP_CLOSE_WAIT, 0},
                 {TCP_FIN_WAIT1, true, false, TCP_FIN_WAIT2, 0},
                 {TCP_FIN_WAIT1, false, true, TCP_CLOSING, 0},
                 {TCP_FIN_WAIT1, true, true, TCP_GONE, OVER | TIME_WAIT},
                 {TCP_FIN_WAIT2, false, true, TCP_GONE, OVER | TIME_WAIT},
                 {TCP_CLOSING, true, false, TCP_GONE, OVER | TIME_WAIT},
                 {TCP_CLOSING, false, false, TCP_CLOSING, 0},
                 {TCP_LAST_ACK, true, false, TCP_GONE, OVER},
                 {TCP_LAST_ACK, false, false, TCP_LAST_ACK, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        open_with(1000);
        r.c.state = (uint8_t)cases[i].from;
        r.c.flags = cases[i].from >= TCP_CLOSE_WAIT ? CF_FIN_IN : 0;
        r.fin_acked = cases[i].acks;
        give((uint16_t)(TH_ACK | (cases[i].fin ? TH_FIN : 0)), NXT, 0);
        assert_int_equal(r.c.state, cases[i].to);
        assert_int_equal(r.ends, cases[i].ends);
        if (cases[i].fin && cases[i].ends) /* nobody else would acknowledge it */
            assert_int_equal(r.bare, 1);
        assert_int_equal(!!(r.events & TCP_EV_FIN), cases[i].fin);
    }
}

/* ---- text */

static void test_fin_with_something_behind_it(void **state)
{
    (void)state;
    give(TH_ACK | TH_FIN, NXT + 10, 0); /* early */
    assert_true(r.c.fin_wait);
    give(TH_ACK, NXT + 5, 20); /* reaches beyond it: cut */
    assert_int_equal(r.early_n, 5);
    give(TH_ACK, NXT, 100);
    assert_int_equal(r.taken_n, 10);
    assert_true(r.c.flags & CF_FIN_IN);
    assert_int_equal(r.c.rcv_nxt, NXT + 11);
    give(TH_ACK, NXT + 11, 10);
    assert_int_equal(r.taken_n, 10);
    assert_int_equal(r.c.rcv_nxt, NXT + 11);
}

/* A FIN that what was taken before contradicts is none. */
static void test_fin_that_was_passed(void **state)
{
    (void)state;
    r.c.fin_wait = true;
    r.c.fin_seq = NXT - 3;
    give(TH_ACK, NXT, 0);
    give(TH_ACK, NXT, 10);
    assert_false(r.c.flags & CF_FIN_IN);
    give(TH_ACK, NXT, 10);
    assert_int_equal(r.c.rcv_nxt, NXT + 10);
}

static void test_no_memory(void **state)
{
    (void)state;
    r.no_memory = true;
    give(TH_ACK | TH_FIN, NXT, 10);
    assert_int_equal(r.c.rcv_nxt, NXT);
    assert_false(r.c.flags & (CF_FIN_IN | CF_ACK_NOW | CF_ACK_LATER));
    assert_false(r.c.fin_wait);
    give(TH_ACK, NXT + 10, 10);
    assert_true(r.c.flags & CF_ACK_NOW);
    assert_int_equal(rig_stat(STAT_DROP_TCP_MEMORY), 2);
}

static void test_delayed(void **state)
{
    (void)state;
    open_with(30000);
    give(TH_ACK, NXT, 100);
    assert_int_equal(r.c.flags, CF_ACK_LATER);
    assert_int_equal(r.flushes, 1); /* which sets the timer, when nothing carried it */
    assert_int_equal(r.timers | r.c.ack_at, 0);
    give(TH_ACK, NXT + 100, 100);
    assert_int_equal(r.flushes, 1);
    give(TH_ACK, NXT + 200, 1460);
    assert_false(r.c.flags & CF_ACK_NOW);
    give(TH_ACK, NXT + 1660, 1460);
    assert_true(r.c.flags & CF_ACK_NOW);
}

static void test_at_once(void **state)
{
    (void)state;
    static const struct {
        int32_t from;
        uint32_t n;
        bool gap;
    } cases[] = {{0, 10, true}, {-5, 10, false}, {-10, 10, false}, {5, 10, false}, {990, 20, false}, {1000, 1, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        open_with(1000);
        r.gap = cases[i].gap;
        give(TH_ACK, NXT + (uint32_t)cases[i].from, cases[i].n);
        assert_true(r.c.flags & CF_ACK_NOW);
        assert_true(r.flushes > 0);
    }
}

/* Without SACK a peer counts duplicates: a burst draws one for each of its early segments. */
static void test_duplicates_of_a_burst(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 5; i++)
        give(TH_ACK, NXT + 10 + i * 10, 10);
    assert_int_equal(r.bare, 4); /* and one with the flush */
    open_with(1000);
    r.c.flags = CF_SACK;
    for (uint32_t i = 0; i < 5; i++)
        give(TH_ACK, NXT + 10 + i * 10, 10);
    assert_int_equal(r.bare, 0);
}

static void test_duplicates_are_reported(void **state)
{
    (void)state;
    give(TH_ACK, NXT - 10, 10);
    assert_int_equal(r.dsack_at, NXT - 10);
    assert_int_equal(r.dsack_n, 10);
    give(TH_ACK, NXT - 10, 30);
    assert_int_equal(r.dsack_at, NXT - 10);
    assert_int_equal(r.dsack_n, 10);
    r.dsack_n = 0;
    give(TH_ACK, NXT - (1u << 30), 10); /* from another life */
    assert_int_equal(r.dsack_n, 0);
    assert_int_equal(rig_stat(STAT_DUP_IN), 1);
}

static void test_after_close(void **state)
{
    (void)state;
    open_with(30000);
    r.c.state = TCP_FIN_WAIT1;
    r.c.flags = CF_DISCARD;
    give(TH_ACK, NXT + 50, 1000); /* early: not kept, acknowledged */
    assert_int_equal(r.early_n, 0);
    assert_true(r.c.flags & CF_ACK_NOW);
    give(TH_ACK, NXT, 2000);
    give(TH_ACK, NXT + 2000, 1000);
    assert_int_equal(r.taken_n, 0);
    assert_int_equal(r.c.rcv_nxt, NXT + 3000);
    assert_int_equal(r.c.unread, 0);
    assert_int_equal(r.ends, 0);
    give(TH_ACK | TH_FIN, NXT + 3000, 1);
    assert_int_equal(r.ends, ABORTED);
}

/* ---- ECN */

static void test_ecn(void **state)
{
    (void)state;
    for (int agreed = 0; agreed < 2; agreed++) {
        open_with(1000);
        r.c.flags = agreed ? CF_ECN : 0;
        segment(TH_ACK, NXT, 10);
        r.g.ip.ecn = 3;
        conn_input(&rig.t, &r.c, &r.g.s);
        assert_int_equal(!!(r.c.flags & CF_ECE_OUT), agreed);
        give(TH_ACK, NXT + 10, 10);
        assert_int_equal(!!(r.c.flags & CF_ECE_OUT), agreed);
        give(TH_ACK | TH_CWR, NXT - 10, 10); /* not acceptable: says nothing */
        assert_int_equal(!!(r.c.flags & CF_ECE_OUT), agreed);
        give(TH_ACK | TH_CWR, NXT + 20, 10);
        assert_false(r.c.flags & CF_ECE_OUT);
        segment(TH_ACK | TH_CWR, NXT + 30, 10);
        r.g.ip.ecn = 3; /* marked anew */
        conn_input(&rig.t, &r.c, &r.g.s);
        assert_int_equal(!!(r.c.flags & CF_ECE_OUT), agreed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup(name, setup)
        TEST(test_every_segment_at_every_place),
        TEST(test_reset),
        TEST(test_challenges_per_second),
        TEST(test_challenge_when_the_clock_begins),
        TEST(test_paws),
        TEST(test_bad_ack_takes_all_with_it),
        TEST(test_states),
        TEST(test_fin_with_something_behind_it),
        TEST(test_fin_that_was_passed),
        TEST(test_no_memory),
        TEST(test_delayed),
        TEST(test_at_once),
        TEST(test_duplicates_of_a_burst),
        TEST(test_duplicates_are_reported),
        TEST(test_after_close),
        TEST(test_ecn),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
