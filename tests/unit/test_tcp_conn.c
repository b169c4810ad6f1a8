/* test_tcp_conn.c - connections from birth to end, as their owner sees them: TCP as a whole behind tcp.h, its peer made
 * by hand. */
#include "dataplane/tcp/be.h"
#include "dataplane/tcp/sum.h"
#include "dataplane/tcp/tcp_send.h"
#include "spool/base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define OWNER 24u /* bytes of the owner's behind the connection */
#define IRS   7000u

static struct {
    struct tcp *t;
    struct tcp_config cfg;
    struct stats stats;
    void *mem;
    uint64_t now_us;
    uint8_t sent[64][64]; /* TCP headers */
    uint32_t n;
} w;

static uint8_t buffer[FRAME_HEADROOM + 2048];

static bool alloc(void *ctx, struct frame *f_r)
{
    (void)ctx;
    *f_r = (struct frame){.p = buffer + FRAME_HEADROOM, .room = 2048, .buf = buffer};
    return true;
}

static void keep(void *ctx, struct frame *f, const struct ip_route *to)
{
    (void)ctx;
    (void)to;
    assert_true(w.n < 64);
    memcpy(w.sent[w.n++], f->p, f->n < 64 ? f->n : 64);
}

static uint16_t mtu(void *ctx, const struct ip_addr *dst)
{
    (void)ctx;
    (void)dst;
    return 1500;
}

static int make(const struct tcp_config *cfg)
{
    static const uint8_t key[32] = {9};
    struct tcp_out out = {alloc, keep, mtu, NULL};
    return tcp_init(&w.t, w.mem, cfg, &out, NULL, &w.stats, key, w.now_us);
}

static int setup(void **state)
{
    (void)state;
    memset(&w, 0, sizeof w);
    w.now_us = 5000000;
    w.cfg = tcp_config_default;
    w.cfg.conns_max = 3;
    w.cfg.syns_max = w.cfg.time_waits_max = 4;
    w.cfg.pages_max = 16;
    w.cfg.txblocks_max = 16;
    w.cfg.conn_bytes = (uint32_t)tcp_conn_bytes() + OWNER;
    size_t n = (tcp_bytes(&w.cfg) + 63) & ~(size_t)63;
    w.mem = aligned_alloc(64, n);
    memset(w.mem, 0, n);
    assert_int_equal(make(&w.cfg), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(w.mem);
    return 0;
}

/* ---- the peer */

static struct ip_addr peer(void)
{
    return ip_addr_of4(htobe32(0xc6336401u));
}

static void segment(uint16_t port, uint16_t our_port, uint16_t flags, uint32_t seq, uint32_t ack, uint32_t data_n)
{
    uint8_t bytes[2048] = {0};
    be16_put(bytes, port);
    be16_put(bytes + 2, our_port);
    be32_put(bytes + 4, seq);
    be32_put(bytes + 8, ack);
    bytes[12] = 5 << 4;
    bytes[13] = (uint8_t)flags;
    be16_put(bytes + 14, 30000);
    struct frame f = {.p = bytes, .n = 20 + data_n, .flags = FRAME_L4_GOOD};
    struct ip_packet p = {.src = peer(), .frame = &f, .l4 = bytes, .l4_n = f.n, .proto = 6};
    tcp_input(w.t, &p, w.now_us);
    tcp_settle(w.t);
}

static uint32_t last_seq(void)
{
    return be32_get(w.sent[w.n - 1] + 4);
}

static uint8_t last_flags(void)
{
    return w.sent[w.n - 1][13];
}

static struct tcp_conn *event(uint32_t want)
{
    uint32_t events = 0;
    struct tcp_conn *c = tcp_event(w.t, &events);
    assert_int_equal(events, want);
    return c;
}

static void no_event(void)
{
    uint32_t events;
    assert_null(tcp_event(w.t, &events));
}

static void flush(void)
{
    tcp_flush(w.t, w.now_us);
    assert_false(tcp_busy(w.t));
}

/* A connection from `port` that stands; *una_r: our next number. */
static struct tcp_conn *accept_from(uint16_t port, uint32_t *una_r)
{
    segment(port, 25, TH_SYN, IRS, 0, 0);
    *una_r = last_seq() + 1;
    segment(port, 25, TH_ACK, IRS + 1, *una_r, 0);
    return event(TCP_EV_ACCEPTED);
}

/* ---- making */

static void test_limits_of_the_configuration(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint32_t bad;
    } v[] = {
#define BAD(field, value) {offsetof(struct tcp_config, field), value}
        BAD(conns_max, 0),      BAD(syns_max, 0),       BAD(pages_max, 0),      BAD(txblocks_max, 0),
        BAD(conn_bytes, 8),     BAD(conn_bytes, 257),   BAD(window_bytes, 100), BAD(window_bytes, (1u << 20) + 1),
        BAD(send_bytes, 0),     BAD(rto_min_ms, 0),     BAD(rto_max_ms, 100),   BAD(delack_ms, 501),
        BAD(r2_ms, UINT32_MAX), BAD(zero_window_ms, 0), BAD(time_waits_max, 0), BAD(fin_wait2_ms, 0),
        BAD(time_wait_ms, 0),   BAD(syn_life_ms, 0),
#undef BAD
    };
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
        struct tcp_config cfg = w.cfg;
        memcpy((char *)&cfg + v[i].at, &v[i].bad, sizeof v[i].bad);
        assert_int_equal(make(&cfg), -SATCHEL_EINVAL);
    }
}

static void test_ports_are_bounded(void **state)
{
    (void)state;
    for (uint16_t i = 0; i < TCP_LISTEN_MAX; i++)
        assert_int_equal(tcp_listen(w.t, 1000 + i), 0);
    assert_int_equal(tcp_listen(w.t, 25), -SATCHEL_EFULL);
}

/* ---- life */

static void test_owners_bytes_are_zeroed(void **state)
{
    (void)state;
    uint32_t una;
    tcp_listen(w.t, 25);
    for (uint16_t i = 0; i < 2; i++) {
        struct tcp_conn *c = accept_from((uint16_t)(40000 + i), &una);
        uint8_t *own = (uint8_t *)c + tcp_conn_bytes();
        for (uint32_t k = 0; k < OWNER; k++)
            assert_int_equal(own[k], 0);
        memset(own, 0xff, OWNER);
        tcp_abort(w.t, c);
        event(TCP_EV_GONE);
        tcp_release(w.t, c);
    }
}

static void test_table_of_connections_is_bounded(void **state)
{
    (void)state;
    uint32_t una;
    struct tcp_conn *c[3];
    tcp_listen(w.t, 25);
    for (uint16_t i = 0; i < 3; i++)
        c[i] = accept_from((uint16_t)(40000 + i), &una);
    segment(40003, 25, TH_SYN, IRS, 0, 0);
    segment(40003, 25, TH_ACK, IRS + 1, last_seq() + 1, 0);
    no_event();
    tcp_abort(w.t, c[1]); /* not free before it is released */
    event(TCP_EV_GONE);
    assert_int_equal(stat_get(&w.stats, STAT_CONNS), 3);
    tcp_release(w.t, c[1]);
    assert_int_equal(stat_get(&w.stats, STAT_CONNS), 2);
    assert_ptr_equal(accept_from(40004, &una), c[1]);
}

/* Released with an event, a flush and a settle to come: none of them finds it, and its place is used once. */
static void test_released_while_on_lists(void **state)
{
    (void)state;
    uint32_t una, events;
    tcp_listen(w.t, 25);
    struct tcp_conn *c = accept_from(40000, &una);
    tcp_write(w.t, c, slice_of("x", 1));
    segment(40000, 25, TH_ACK | TH_PSH, IRS + 1, una, 10);
    w.n = 0;
    tcp_release(w.t, c);
    assert_int_equal(w.n, 1);
    assert_true(last_flags() & TH_RST);
    assert_int_equal(stat_get(&w.stats, STAT_CONNS), 0);
    assert_null(tcp_event(w.t, &events));
    tcp_settle(w.t);
    flush();
    assert_int_equal(w.n, 1);
    struct tcp_conn *d = accept_from(40001, &una), *e = accept_from(40002, &una);
    assert_true(d != e);
    assert_int_equal(stat_get(&w.stats, STAT_TXBLOCKS_USED), 0);
    assert_int_equal(stat_get(&w.stats, STAT_PAGES_USED), 0);
}

static void test_calls_after_the_end_do_nothing(void **state)
{
    (void)state;
    uint32_t una;
    tcp_listen(w.t, 25);
    struct tcp_conn *c = accept_from(40000, &una);
    segment(40000, 25, TH_RST, IRS + 1, 0, 0);
    event(TCP_EV_GONE | TCP_EV_RESET);
    w.n = 0;
    assert_int_equal(tcp_write(w.t, c, slice_of("x", 1)), 0);
    assert_int_equal(tcp_peek(w.t, c).n, 0);
    tcp_close(w.t, c);
    tcp_abort(w.t, c);
    tcp_timer(w.t, c, 1000);
    flush();
    assert_int_equal(w.n, 0);
    no_event();
    assert_int_equal(tcp_next_us(w.t), UINT64_MAX);
    assert_string_equal(tcp_conn_state(c), "CLOSED");
    tcp_release(w.t, c);
}

static bool count(void *ctx, struct tcp_conn *c)
{
    assert_non_null(c);
    return ++*(int *)ctx < 2;
}

static void test_visits(void **state)
{
    (void)state;
    uint32_t una;
    int n = 0;
    tcp_listen(w.t, 25);
    tcp_conns(w.t, count, &n);
    assert_int_equal(n, 0);
    struct tcp_conn *c = accept_from(40000, &una);
    accept_from(40001, &una);
    tcp_abort(w.t, c);
    tcp_conns(w.t, count, &n);
    assert_int_equal(n, 1); /* not one that is over */
    event(TCP_EV_GONE);
    accept_from(40002, &una);
    n = 0;
    tcp_conns(w.t, count, &n);
    assert_int_equal(n, 2);
    n = 1;
    tcp_conns(w.t, count, &n);
    assert_int_equal(n, 2); /* ended by the visitor */
}

static void test_bytes_unread_at_close_are_dropped(void **state)
{
    (void)state;
    uint32_t una;
    tcp_listen(w.t, 25);
    struct tcp_conn *c = accept_from(40000, &una);
    segment(40000, 25, TH_ACK, IRS + 1, una, 100);
    event(TCP_EV_READABLE);
    assert_int_equal(tcp_conn_held(w.t, c), TCP_PAGE_BYTES);
    tcp_close(w.t, c);
    assert_int_equal(tcp_conn_held(w.t, c), 0);
    flush();
    assert_int_equal(last_flags(), TH_FIN | TH_ACK);
    assert_int_equal(be32_get(w.sent[w.n - 1] + 8), IRS + 101);
}

/* A peer that keeps its side open is left to itself on time, though the FIN's repetition would have come later. */
static void test_fin_wait_2_is_short(void **state)
{
    (void)state;
    uint32_t una;
    w.cfg.fin_wait2_ms = 50;
    memset(w.mem, 0, tcp_bytes(&w.cfg));
    assert_int_equal(make(&w.cfg), 0);
    tcp_listen(w.t, 25);
    struct tcp_conn *c = accept_from(40000, &una);
    tcp_close(w.t, c);
    flush();
    segment(40000, 25, TH_ACK, IRS + 1, una + 1, 0);
    flush();
    assert_string_equal(tcp_conn_state(c), "FIN-WAIT-2");
    tcp_tick(w.t, w.now_us += 49000);
    no_event();
    tcp_tick(w.t, w.now_us += 1000);
    event(TCP_EV_GONE);
    tcp_release(w.t, c);
}

/* ---- active open */

static void test_port_of_ones_own(void **state)
{
    (void)state;
    struct ip_addr to = peer();
    uint16_t port[3];
    uint8_t local;
    for (int i = 0; i < 3; i++) {
        struct tcp_conn *c = tcp_connect(w.t, 0, 0, &to, 25, w.now_us);
        assert_non_null(c);
        tcp_conn_local(c, &local, &port[i]);
        assert_in_range(port[i], 32768, 60999);
        for (int k = 0; k < i; k++)
            assert_true(port[i] != port[k]);
    }
    assert_null(tcp_connect(w.t, 0, 0, &to, 25, w.now_us)); /* the table is full */
}

static void test_tuple_in_use(void **state)
{
    (void)state;
    struct ip_addr to = peer();
    assert_non_null(tcp_connect(w.t, 0, 4000, &to, 25, w.now_us));
    assert_null(tcp_connect(w.t, 0, 4000, &to, 25, w.now_us));
    assert_non_null(tcp_connect(w.t, 0, 4000, &to, 26, w.now_us));
}

static void test_connected(void **state)
{
    (void)state;
    struct ip_addr to = peer();
    struct tcp_conn *c = tcp_connect(w.t, 0, 4000, &to, 25, w.now_us);
    flush();
    assert_int_equal(last_flags(), TH_SYN);
    assert_int_equal(tcp_write(w.t, c, slice_of("x", 1)), 0); /* not yet */
    assert_string_equal(tcp_conn_state(c), "SYN-SENT");
    segment(25, 4000, TH_SYN | TH_ACK, IRS, last_seq() + 1, 50);
    assert_ptr_equal(event(TCP_EV_CONNECTED), c);
    assert_int_equal(tcp_peek(w.t, c).n, 0); /* data with the SYN-ACK comes again */
    flush();
    assert_int_equal(last_flags(), TH_ACK);
    assert_int_equal(be32_get(w.sent[w.n - 1] + 8), IRS + 1);
    assert_int_equal(tcp_write(w.t, c, slice_of("x", 1)), 1);
}

static void test_closed_before_connected(void **state)
{
    (void)state;
    struct ip_addr to = peer();
    struct tcp_conn *c = tcp_connect(w.t, 0, 4000, &to, 25, w.now_us);
    flush();
    w.n = 0;
    tcp_close(w.t, c);
    assert_ptr_equal(event(TCP_EV_GONE), c);
    assert_int_equal(w.n, 0); /* there is nobody to tell */
    tcp_release(w.t, c);
}

/* ---- RFC 5927 */

static void test_errors(void **state)
{
    (void)state;
    uint32_t una;
    tcp_listen(w.t, 25);
    struct tcp_conn *c = accept_from(40000, &una);
    struct ip_error e = {.dst = peer(), .sport = 25, .dport = 40000, .seq = una, .mtu = 1200};
    assert_false(tcp_error(w.t, &e, w.now_us)); /* nothing is out */
    tcp_write(w.t, c, slice_of("hello", 5));
    flush();
    e.seq = una + 5;
    assert_false(tcp_error(w.t, &e, w.now_us));
    e.seq = una - 1;
    assert_false(tcp_error(w.t, &e, w.now_us));
    e.seq = una + 4;
    e.mtu = 576; /* what a peer without MSS option gets anyway */
    assert_false(tcp_error(w.t, &e, w.now_us));
    e.mtu = 575;
    assert_true(tcp_error(w.t, &e, w.now_us));
    flush();
    e.mtu = 0;
    e.hard = true;
    assert_false(tcp_error(w.t, &e, w.now_us));
    no_event();
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_limits_of_the_configuration),
        TEST(test_ports_are_bounded),
        TEST(test_owners_bytes_are_zeroed),
        TEST(test_table_of_connections_is_bounded),
        TEST(test_released_while_on_lists),
        TEST(test_calls_after_the_end_do_nothing),
        TEST(test_visits),
        TEST(test_bytes_unread_at_close_are_dropped),
        TEST(test_fin_wait_2_is_short),
        TEST(test_port_of_ones_own),
        TEST(test_tuple_in_use),
        TEST(test_connected),
        TEST(test_closed_before_connected),
        TEST(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
