/* test_tcp_syn.c - handshakes under way, cookies, initial numbers; connections are the test's own. */
#include "tcp_rig.h"

#define FULL 0xffu /* conns: none is to be had */

static struct {
    struct tcp_conn conns[8];
    uint32_t n; /* made; FULL: there is no room */
    uint32_t accepted, inputs;
    uint32_t sample_ms, samples;
    void *table, *syns, *tws, *rx;
    struct rig_seg g;
} r;

struct tcp_conn *conn_new(struct tcp *t, const struct tcp_tuple *k, uint32_t was, enum tcp_state state,
                          uint16_t mss_peer)
{
    uint32_t ref = tcp_ref(TCP_KIND_CONN, r.n), index;
    if (r.n == FULL)
        return NULL;
    assert_true(r.n < 8);
    struct tcp_conn *c = &r.conns[r.n];
    *c = (struct tcp_conn){
        .peer = k->peer, .peer_port = k->peer_port, .port = k->port, .local = k->local, .state = (uint8_t)state};
    c->rx = TCP_NONE;
    c->mss_peer = mss_peer;
    enum tcp_kind kind = tcp_table_find(t, k, &index);
    assert_int_equal(was, kind == TCP_KIND_NONE ? 0 : tcp_ref(kind, index));
    if (kind == TCP_KIND_NONE)
        assert_true(tcp_table_add(t, tuple_hash(t, k), ref));
    else
        tcp_table_set(t, tuple_hash(t, k), was, ref);
    r.n++;
    return c;
}

void conn_event(struct tcp *t, struct tcp_conn *c, uint16_t events)
{
    (void)t;
    (void)c;
    r.accepted += events & TCP_EV_ACCEPTED;
}

void conn_input(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    (void)t;
    (void)c;
    (void)s;
    r.inputs++;
}

void conn_settle_later(struct tcp *t, struct tcp_conn *c)
{
    (void)t;
    (void)c;
}

void cong_init(struct tcp *t, struct tcp_conn *c)
{
    (void)t;
    c->cwnd = 1;
}

void rto_sample(struct tcp *t, struct tcp_conn *c, uint32_t ms)
{
    (void)t;
    (void)c;
    r.sample_ms = ms;
    r.samples++;
}

static int setup(void **state)
{
    (void)state;
    memset(&r, 0, sizeof r);
    rig_open();
    rig.t.conns = (uint8_t *)r.conns;
    r.table = rig_part(tcp_table_bytes(&rig.t.cfg));
    r.syns = rig_part(syns_bytes(&rig.t.cfg));
    r.tws = rig_part(tws_bytes(&rig.t.cfg));
    r.rx = rig_part(rxpool_bytes(&rig.t.cfg));
    tcp_table_init(&rig.t, r.table);
    syns_init(&rig.t, r.syns);
    tws_init(&rig.t, r.tws);
    rxpool_init(&rig.t, r.rx);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    syns_clear(&rig.t);
    assert_int_equal(rig_stat(STAT_SYNS), 0);
    assert_true(syns_next_us(&rig.t) == UINT64_MAX);
    free(r.table);
    free(r.syns);
    free(r.tws);
    free(r.rx);
    return 0;
}

/* ---- what peers say */

static struct tcp_seg *segment(uint32_t n, uint16_t flags, uint32_t seq, uint32_t ack)
{
    struct tcp_tuple k = rig_tuple(n);
    return rig_segment(&r.g, &k, flags, seq, ack);
}

/* To whom the table says it belongs. */
static void give(uint32_t n, const struct tcp_seg *s)
{
    struct tcp_tuple k = rig_tuple(n);
    uint32_t index = TCP_NONE;
    switch (tcp_table_find(&rig.t, &k, &index)) {
    case TCP_KIND_SYN:
        return syn_input(&rig.t, index, s, &k);
    case TCP_KIND_TW:
        return tw_input(&rig.t, index, s, &k);
    case TCP_KIND_NONE:
        if ((s->flags & (TH_SYN | TH_ACK)) == TH_SYN)
            syn_new(&rig.t, s, &k);
        else if (!cookie_input(&rig.t, s, &k))
            tcp_send_rst(&rig.t, s);
        return;
    case TCP_KIND_CONN:
        return;
    }
}

static uint32_t say_syn(uint32_t n, uint32_t seq)
{
    give(n, segment(n, TH_SYN, seq, 0));
    return rig.n ? rig_seq() : 0;
}

static void pass(uint64_t us)
{
    rig_at(rig.t.now_us + us);
    syns_tick(&rig.t);
}

/* ---- handshakes */

static void test_repeated_and_expired(void **state)
{
    (void)state;
    uint32_t iss = say_syn(1, 500);
    static const uint64_t due_ms[] = {1000, 3000, 7000};
    uint64_t born = rig.t.now_us;
    assert_int_equal(rig_flags(), TH_SYN | TH_ACK);
    assert_int_equal(rig_ack(), 501);
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(syns_next_us(&rig.t) == born + due_ms[i] * 1000);
        rig_at(born + due_ms[i] * 1000 - 1);
        syns_tick(&rig.t);
        assert_int_equal(rig.n, i + 1);
        rig_at(born + due_ms[i] * 1000);
        syns_tick(&rig.t);
        assert_int_equal(rig.n, i + 2);
        assert_int_equal(rig_seq(), iss);
    }
    assert_true(syns_next_us(&rig.t) == born + 15 * SECOND);
    rig_at(born + 15 * SECOND);
    syns_tick(&rig.t);
    assert_int_equal(rig.n, 4);
    assert_int_equal(rig_stat(STAT_SYNS), 0);
    assert_int_equal(rig_stat(STAT_SYN_EXPIRED), 1);
    assert_int_equal(rig_stat(STAT_SYNACK_AGAIN), 3);
}

/* A life that ends before the last repetition. */
static void test_short_life(void **state)
{
    (void)state;
    rig.t.cfg.syn_life_ms = 2000;
    say_syn(1, 500);
    pass(SECOND);
    assert_int_equal(rig.n, 2);
    pass(SECOND);
    assert_int_equal(rig.n, 2);
    assert_int_equal(rig_stat(STAT_SYN_EXPIRED), 1);
}

/* The clock stood still and then leapt: each one is dealt with once. */
static void test_late_tick(void **state)
{
    (void)state;
    say_syn(1, 500);
    pass(4 * SECOND);
    assert_int_equal(rig.n, 2);
    assert_int_equal(rig_stat(STAT_SYNS), 1);
    pass(60 * SECOND);
    assert_int_equal(rig.n, 2);
    assert_int_equal(rig_stat(STAT_SYNS), 0);
}

static void test_completed(void **state)
{
    (void)state;
    struct tcp_seg *s = segment(1, TH_SYN | TH_ECE | TH_CWR, 500, 0);
    s->has_ts = s->sack_ok = s->has_wscale = true;
    s->ts_val = 9999;
    s->wscale = 15;
    s->mss = 1000;
    give(1, s);
    uint32_t iss = rig_seq();
    assert_int_equal(rig_flags(), TH_SYN | TH_ACK | TH_ECE);
    assert_int_equal(rig_wnd(), 65534); /* what the scale of 1 says as well */
    assert_non_null(rig_option(2));
    assert_int_equal(rig_option(3)[2], 1);
    assert_non_null(rig_option(4));
    assert_int_equal(be32_get(rig_option(8) + 6), 9999);
    pass(SECOND / 2);
    s = segment(1, TH_ACK, 501, iss + 1);
    s->has_ts = true;
    s->ts_val = 10000;
    s->wnd = 3;
    give(1, s);
    const struct tcp_conn *c = &r.conns[0];
    assert_int_equal(r.n, 1);
    assert_int_equal(r.accepted, 1);
    assert_int_equal(r.inputs, 1);
    assert_int_equal(c->flags, CF_TS | CF_SACK | CF_ECN | CF_WSCALE);
    assert_int_equal(c->rcv_nxt, 501);
    assert_int_equal(c->rcv_edge, 501 + 65534);
    assert_int_equal(c->acked_in, 501);
    assert_int_equal(c->snd_una, iss + 1);
    assert_int_equal(c->snd_max, iss + 1);
    assert_int_equal(c->snd_wnd, 3 << 14);
    assert_int_equal(c->snd_ws, 14);
    assert_int_equal(c->rcv_ws, 1);
    assert_int_equal(c->mss_peer, 1000);
    assert_int_equal(c->ts_recent, 9999);
    assert_int_equal(c->cwnd, 1);
    assert_int_equal(r.samples, 1);
    assert_int_equal(r.sample_ms, 500);
    assert_int_equal(rig_stat(STAT_SYNS), 0);
    assert_int_equal(rig_stat(STAT_CONN_ACCEPTED), 1);
}

/* RFC 6298 3, 5.7: a repeated SYN-ACK measures nothing. */
static void test_repeated_is_no_sample(void **state)
{
    (void)state;
    uint32_t iss = say_syn(1, 500);
    pass(SECOND);
    give(1, segment(1, TH_ACK, 501, iss + 1));
    assert_int_equal(r.n, 1);
    assert_int_equal(r.samples, 0);
    assert_int_equal(r.conns[0].rto, 3000);
}

static void test_no_room_for_a_connection(void **state)
{
    (void)state;
    uint32_t iss = say_syn(1, 500), sent = rig.n;
    r.n = FULL;
    give(1, segment(1, TH_ACK, 501, iss + 1));
    assert_int_equal(rig_stat(STAT_DROP_CONNS_FULL), 1);
    assert_int_equal(rig_stat(STAT_SYNS), 1);
    assert_int_equal(rig.n, sent);
    r.n = 0;
    give(1, segment(1, TH_ACK, 501, iss + 1));
    assert_int_equal(r.n, 1);
}

/* Whatever comes, a handshake is answered a few times only. */
static void test_challenges_are_limited(void **state)
{
    (void)state;
    say_syn(1, 500);
    uint32_t before = rig.n;
    for (int i = 0; i < 100; i++)
        give(1, segment(1, TH_ACK, 700000000, 1));
    assert_true(rig.n - before <= 10);
    for (int i = 0; i < 100; i++)
        give(1, segment(1, TH_SYN, 9, 0));
    assert_true(rig.n - before <= 10);
    assert_int_equal(rig_stat(STAT_SYNS), 1);
}

static void test_no_frame(void **state)
{
    (void)state;
    rig.none_left = true;
    say_syn(1, 500);
    assert_int_equal(rig_stat(STAT_TX_NOBUF), 1);
    assert_int_equal(rig_stat(STAT_SYNACK_OUT), 0);
    rig.none_left = false;
    pass(SECOND);
    assert_int_equal(rig.n, 1);
    assert_int_equal(rig_stat(STAT_SYNACK_AGAIN), 0);
}

/* Handshakes in all stages, ended in every way: the lists hold and the books balance. */
static void test_at_random(void **state)
{
    (void)state;
    static struct {
        bool live;
        uint32_t irs, iss;
    } want[64];
    struct rng g;
    uint32_t live = 0;
    rng_seed(&g, 11);
    memset(want, 0, sizeof want);
    rig.t.cfg.syn_cookies = false;
    rig.t.cfg.syn_life_ms = 5000;
    for (int step = 0; step < 20000; step++) {
        uint32_t i = (uint32_t)rng_below(&g, 64), irs = (uint32_t)rng_u64(&g), sent = rig.n;
        if (!want[i].live) {
            uint32_t iss = say_syn(i, irs);
            want[i].live = live < 4;
            want[i].irs = irs;
            want[i].iss = iss;
            assert_int_equal(rig.n - sent, live < 4);
            live += live < 4;
        } else if (rng_below(&g, 2)) {
            r.n = 0;
            give(i, segment(i, TH_ACK, want[i].irs + 1, want[i].iss + 1));
            assert_int_equal(r.n, 1);
            struct tcp_tuple k = rig_tuple(i);
            tcp_table_remove(&rig.t, tuple_hash(&rig.t, &k), tcp_ref(TCP_KIND_CONN, 0));
            want[i].live = false;
            live--;
        } else {
            give(i, segment(i, TH_RST, want[i].irs + 1, 0));
            want[i].live = false;
            live--;
        }
        assert_int_equal(rig_stat(STAT_SYNS), live);
        if (rng_below(&g, 10) == 0) {
            uint64_t expired = rig_stat(STAT_SYN_EXPIRED);
            pass(rng_below(&g, 3 * SECOND));
            if (rig_stat(STAT_SYN_EXPIRED) != expired) { /* who, the table knows */
                live = 0;
                for (i = 0; i < 64; i++) {
                    struct tcp_tuple k = rig_tuple(i);
                    uint32_t index;
                    want[i].live = tcp_table_find(&rig.t, &k, &index) == TCP_KIND_SYN;
                    live += want[i].live;
                }
                assert_int_equal(rig_stat(STAT_SYNS), live);
            }
        }
    }
    assert_true(rig_stat(STAT_SYN_EXPIRED) > 100);
}

/* ---- cookies */

static uint32_t overflow_with(uint32_t mss)
{
    for (uint32_t i = 100; i < 104; i++)
        say_syn(i, i);
    struct tcp_seg *s = segment(1, TH_SYN, 500, 0);
    s->mss = (uint16_t)mss;
    s->has_ts = s->sack_ok = s->has_wscale = true;
    give(1, s);
    assert_int_equal(rig_stat(STAT_SYNS), 4);
    return rig_seq();
}

static void test_cookie(void **state)
{
    (void)state;
    static const uint16_t mss[][2] = {{0, 536},     {1, 64},      {64, 64},     {535, 64},    {536, 536},  {1220, 1220},
                                      {1459, 1440}, {1460, 1460}, {8960, 1460}, {1400, 1400}, {1399, 1340}};
    for (size_t i = 0; i < sizeof mss / sizeof *mss; i++) {
        uint32_t iss = overflow_with(mss[i][0]);
        assert_null(rig_option(3)); /* nothing would remember them */
        assert_null(rig_option(4));
        assert_null(rig_option(8));
        assert_non_null(rig_option(2));
        assert_int_equal(rig_ack(), 501);
        give(1, segment(1, TH_ACK, 501, iss + 1));
        assert_int_equal(r.n, 1);
        assert_int_equal(r.conns[0].mss_peer, mss[i][1]);
        assert_int_equal(r.conns[0].flags, 0);
        assert_int_equal(r.conns[0].rcv_nxt, 501);
        assert_int_equal(r.conns[0].snd_una, iss + 1);
        assert_int_equal(r.conns[0].rcv_edge, 501 + 65535);
        teardown(NULL);
        setup(NULL);
    }
}

/* Each bit of both numbers, and each part of the tuple, counts. */
static void test_cookie_forged(void **state)
{
    (void)state;
    uint32_t iss = overflow_with(1460);
    for (uint32_t bit = 0; bit < 32; bit++) {
        give(1, segment(1, TH_ACK, 501, (iss + 1) ^ (1u << bit)));
        give(1, segment(1, TH_ACK, 501 ^ (1u << bit), iss + 1));
    }
    give(2, segment(2, TH_ACK, 501, iss + 1));
    assert_int_equal(r.n, 0);
    assert_int_equal(rig_stat(STAT_COOKIE_BAD), 65);
    give(1, segment(1, TH_ACK | TH_RST, 501, iss + 1));
    give(1, segment(1, 0, 501, iss + 1));
    assert_int_equal(r.n, 0);
    give(1, segment(1, TH_ACK, 501, iss + 1));
    assert_int_equal(r.n, 1);
}

/* Good for two to three minutes, whenever in its minute it was given out. */
static void test_cookie_age(void **state)
{
    (void)state;
    for (uint64_t at = 0; at < 64; at += 21)
        for (uint64_t age = 0; age <= 200; age += 4) {
            rig_at((64000 + at) * SECOND);
            uint32_t iss = overflow_with(1460);
            rig_at((64000 + at + age) * SECOND);
            say_syn(2, 7); /* cookies are still given out */
            give(1, segment(1, TH_ACK, 501, iss + 1));
            if (age <= 128)
                assert_int_equal(r.n, 1);
            if (age > 192)
                assert_int_equal(r.n, 0);
            teardown(NULL);
            setup(NULL);
        }
}

/* The final ACK was lost and the peer waits for our greeting: the SYN-ACK comes again, not for ever. */
static void test_cookie_repeated(void **state)
{
    (void)state;
    uint32_t iss = overflow_with(1460), before = rig.n, again = 0;
    for (uint32_t i = 100; i < 104; i++)
        give(i, segment(i, TH_RST, i + 1, 0));
    for (int i = 0; i < 300; i++) {
        uint32_t n = rig.n;
        uint64_t next = syns_next_us(&rig.t);
        if (next == UINT64_MAX)
            break;
        rig_at(next);
        syns_tick(&rig.t);
        assert_int_equal(rig.n, n + 1);
        assert_int_equal(rig_seq(), iss);
        again++;
    }
    assert_int_equal(again, 2);
    assert_int_equal(rig.n, before + 2);
    assert_int_equal(rig_stat(STAT_COOKIE_OUT), 1);
}

static void test_cookie_not_repeated_to_who_came_back(void **state)
{
    (void)state;
    uint32_t iss = overflow_with(1460);
    give(1, segment(1, TH_ACK, 501, iss + 1));
    for (uint32_t i = 100; i < 104; i++)
        give(i, segment(i, TH_RST, i + 1, 0));
    uint32_t before = rig.n;
    pass(1 * SECOND);
    pass(1 * SECOND);
    assert_int_equal(rig.n, before);
}

/* A flood overwrites the notes; nothing else is lost with them. */
static void test_cookie_notes_are_bounded(void **state)
{
    (void)state;
    uint32_t first = overflow_with(1460);
    for (uint32_t i = 200; i < 300; i++)
        say_syn(i, i);
    assert_int_equal(rig_stat(STAT_COOKIE_OUT), 101);
    give(1, segment(1, TH_ACK, 501, first + 1));
    assert_int_equal(r.n, 1);
    uint64_t again = rig_stat(STAT_SYNACK_AGAIN);
    rig.t.cfg.syn_life_ms = 1; /* the handshakes themselves end */
    pass(1 * SECOND);
    assert_int_equal(rig_stat(STAT_SYNACK_AGAIN) - again, 4);
}

static void test_cookies_off(void **state)
{
    (void)state;
    rig.t.cfg.syn_cookies = false;
    for (uint32_t i = 0; i < 6; i++)
        say_syn(i, i);
    assert_int_equal(rig.n, 4);
    assert_int_equal(rig_stat(STAT_DROP_SYN_FULL), 2);
    give(9, segment(9, TH_ACK, 1, 1));
    assert_int_equal(rig_stat(STAT_COOKIE_BAD), 0);
}

/* ---- the guard */

static void test_guard_is_asked(void **state)
{
    (void)state;
    struct guard_config cfg = guard_config_default;
    uint8_t key[16] = {1};
    cfg.bogons = false;
    cfg.cells = 64;
    cfg.host_burst = 3;
    cfg.host_per_s = 1;
    cfg.synack_times = 2;
    void *mem = rig_part(guard_bytes(&cfg));
    assert_int_equal(guard_init(&rig.t.guard, mem, &cfg, key, &rig.stats, rig.t.now_us), 0);
    say_syn(1, 500);
    say_syn(1, 500); /* its second SYN-ACK, and the last */
    say_syn(1, 500);
    assert_int_equal(rig.n, 2);
    say_syn(2, 500); /* the fourth knock of this host */
    assert_int_equal(rig.n, 2);
    assert_int_equal(rig_stat(STAT_DROP_RATE), 1);
    pass(10 * SECOND);
    assert_int_equal(rig.n, 2);
    syns_clear(&rig.t);
    rig.t.guard = NULL;
    free(mem);
}

static void test_answers_are_limited(void **state)
{
    (void)state;
    struct guard_config cfg = guard_config_default;
    uint8_t key[16] = {1};
    cfg.bogons = false;
    cfg.cells = 64;
    cfg.answers_per_s = 2;
    void *mem = rig_part(guard_bytes(&cfg));
    assert_int_equal(guard_init(&rig.t.guard, mem, &cfg, key, &rig.stats, rig.t.now_us), 0);
    for (uint32_t i = 0; i < 4; i++)
        say_syn(i, 500);
    assert_int_equal(rig.n, 2);
    assert_int_equal(rig_stat(STAT_SYNS), 2);
    give(7, segment(7, TH_ACK, 1, 1));
    assert_int_equal(rig_stat(STAT_RST_OUT), 0);
    rig.t.guard = NULL;
    free(mem);
}

/* ---- resets for strangers */

static void test_resets(void **state)
{
    (void)state;
    give(1, segment(1, TH_ACK, 5, 77));
    assert_int_equal(rig_flags(), TH_RST);
    assert_int_equal(rig_seq(), 77);
    struct tcp_seg *s = segment(1, TH_FIN, 5, 0);
    s->data_n = 10;
    tcp_send_rst(&rig.t, s);
    assert_int_equal(rig_flags(), TH_RST | TH_ACK);
    assert_int_equal(rig_seq(), 0);
    assert_int_equal(rig_ack(), 16);
    tcp_send_rst(&rig.t, segment(1, TH_RST | TH_ACK, 5, 7));
    assert_int_equal(rig.n, 2);
    for (int i = 0; i < 20; i++)
        give(1, segment(1, TH_ACK, 5, 77));
    assert_int_equal(rig.n, 5); /* of this second */
    pass(SECOND);
    give(1, segment(1, TH_ACK, 5, 77));
    assert_int_equal(rig.n, 6);
}

/* ---- TIME-WAIT's SYN */

static void test_reuse_is_above(void **state)
{
    (void)state;
    struct tcp_tuple k = rig_tuple(1);
    uint32_t was = tcp_ref(TCP_KIND_CONN, 0), unused;
    assert_true(tcp_table_add(&rig.t, tuple_hash(&rig.t, &k), was));
    r.conns[0].peer = k.peer;
    r.conns[0].peer_port = k.peer_port;
    r.conns[0].port = k.port;
    uint32_t clock = tcp_isn(&rig.t, &k, &unused);
    assert_true(syn_reuse(&rig.t, segment(1, TH_SYN, 900, 0), &k, was, clock + 1000000));
    assert_int_equal(rig_seq(), clock + 1000001);
    for (uint32_t i = 2; i < 5; i++)
        say_syn(i, i);
    assert_false(syn_reuse(&rig.t, segment(7, TH_SYN, 900, 0), &k, was, 0)); /* full, and no cookie */
    assert_int_equal(rig_stat(STAT_COOKIE_OUT), 0);
}

/* ---- RFC 6528 */

static void test_isn(void **state)
{
    (void)state;
    struct tcp_tuple a = rig_tuple(1), b = rig_tuple(2);
    uint32_t clock_a, clock_b, again, was = tcp_isn(&rig.t, &a, &clock_a), other = tcp_isn(&rig.t, &b, &clock_b);
    rig_at(rig.t.now_us + 4000);
    assert_int_equal(tcp_isn(&rig.t, &a, &again) - was, 1000);
    assert_int_equal(again, clock_a);
    assert_int_equal(tcp_isn(&rig.t, &b, &again) - other, 1000);
    assert_int_not_equal(was, other);
    assert_int_not_equal(clock_a, clock_b);
    assert_int_not_equal(clock_a, was - (uint32_t)((rig.t.now_us - 4000) / 4)); /* not the same half */
    assert_int_equal(tcp_ts_offset(&rig.t, &a), clock_a);
    rig.t.key_isn[3] ^= 1;
    assert_int_not_equal(tcp_isn(&rig.t, &a, &again), was + 1000);
    assert_int_not_equal(again, clock_a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_repeated_and_expired),
        TEST(test_short_life),
        TEST(test_late_tick),
        TEST(test_completed),
        TEST(test_repeated_is_no_sample),
        TEST(test_no_room_for_a_connection),
        TEST(test_challenges_are_limited),
        TEST(test_no_frame),
        TEST(test_at_random),
        TEST(test_cookie),
        TEST(test_cookie_forged),
        TEST(test_cookie_age),
        TEST(test_cookie_repeated),
        TEST(test_cookie_not_repeated_to_who_came_back),
        TEST(test_cookie_notes_are_bounded),
        TEST(test_cookies_off),
        TEST(test_guard_is_asked),
        TEST(test_answers_are_limited),
        TEST(test_resets),
        TEST(test_reuse_is_above),
        TEST(test_isn),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
