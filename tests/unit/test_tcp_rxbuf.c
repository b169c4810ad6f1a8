/* test_tcp_rxbuf.c - received bytes that wait or came out of order: what is read is what was sent, and nothing is held
 * that is not charged. */
#include "dataplane/tcp/rxpage.h"
#include "tcp_rig.h"

#define FRAMES_MAX 64u

static struct {
    struct tcp_conn c[4];
    void *mem;
    struct frame frames[FRAMES_MAX]; /* of this turn */
    uint32_t frames_n, settle_n;
    struct tcp_conn *settle[FRAMES_MAX];
} r;

void conn_settle_later(struct tcp *t, struct tcp_conn *c)
{
    (void)t;
    r.settle[r.settle_n++] = c;
}

static void open_with(uint32_t pages, uint32_t window, uint32_t first)
{
    rig_open();
    memset(&r, 0, sizeof r);
    rig.t.cfg.pages_max = pages;
    rig.t.cfg.window_bytes = window;
    r.mem = rig_part(rxpool_bytes(&rig.t.cfg));
    rxpool_init(&rig.t, r.mem);
    for (int i = 0; i < 4; i++)
        r.c[i] = (struct tcp_conn){.rx = TCP_NONE, .rcv_nxt = first, .rcv_edge = first + window, .mss = 1460};
}

static struct tcp_conn *open_one(uint32_t pages)
{
    open_with(pages, 65536, 4096 * 5 + 100);
    return &r.c[0];
}

/* The byte of the stream at seq. */
static uint8_t byte(uint32_t seq)
{
    return (uint8_t)(seq * 167 + (seq >> 8));
}

/* A frame that holds [seq, seq + n) behind 40 bytes of headers, exactly. */
static struct frame *frame_with(uint32_t seq, uint32_t n)
{
    assert_true(r.frames_n < FRAMES_MAX);
    struct frame *f = &r.frames[r.frames_n++];
    *f = (struct frame){.p = malloc(40 + n), .n = 40 + n};
    for (uint32_t i = 0; i < n; i++)
        f->p[40 + i] = byte(seq + i);
    return f;
}

static bool in_order(struct tcp_conn *c, uint32_t n)
{
    struct frame *f = frame_with(c->rcv_nxt, n);
    bool taken = rx_in_order(&rig.t, c, f, f->p + 40, n);
    rx_join(&rig.t, c);
    return taken;
}

static bool early(struct tcp_conn *c, uint32_t seq, uint32_t n, struct tcp_range *dup_r)
{
    struct frame *f = frame_with(seq, n);
    return rx_out_of_order(&rig.t, c, seq, f->p + 40, n, dup_r);
}

/* The end of a turn: frames are gone afterwards. */
static void settle(void)
{
    for (uint32_t i = 0; i < r.settle_n; i++)
        rx_settle(&rig.t, r.settle[i]);
    for (uint32_t i = 0; i < r.frames_n; i++) {
        memset(r.frames[i].p, 0xdd, r.frames[i].n);
        free(r.frames[i].p);
    }
    r.settle_n = r.frames_n = 0;
    assert_int_equal(rig.t.rx->promised, 0);
}

/* Reads n bytes in pieces of what is there. */
static void read_bytes(struct tcp_conn *c, uint32_t n)
{
    while (n > 0) {
        struct slice s = rx_peek(&rig.t, c);
        uint32_t seq = c->rcv_nxt - !!(c->flags & CF_FIN_IN) - c->unread;
        assert_true(s.n > 0);
        uint32_t part = s.n < n ? (uint32_t)s.n : n;
        for (uint32_t i = 0; i < part; i++)
            assert_int_equal(s.p[i], byte(seq + i));
        rx_consume(&rig.t, c, part);
        n -= part;
    }
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        rx_drop(&rig.t, &r.c[i]);
    settle();
    assert_int_equal(rig.t.rx->used, 0);
    assert_int_equal(rig_stat(STAT_PAGES_USED), 0);
    free(r.mem);
    return 0;
}

/* ---- in order */

static void test_read_at_once_costs_nothing(void **state)
{
    (void)state;
    struct tcp_conn *c = open_one(8);
    assert_true(in_order(c, 1460));
    assert_true(in_order(c, 700));
    assert_int_equal(c->unread, 2160);
    assert_int_equal(rig.t.rx->promised, 1);
    assert_int_equal(rx_peek(&rig.t, c).n, 1460);
    read_bytes(c, 2160);
    assert_int_equal(rig.t.rx->promised, 0);
    assert_int_equal(rx_peek(&rig.t, c).n, 0);
    settle();
    assert_int_equal(rig.t.rx->touched, 0);
    assert_int_equal(rx_held(&rig.t, c), 0);
}

static void test_left_until_later(void **state)
{
    (void)state;
    struct tcp_conn *c = open_one(8);
    assert_true(in_order(c, 1460));
    assert_true(in_order(c, 1460));
    read_bytes(c, 1500);
    settle();
    assert_int_equal(rx_held(&rig.t, c), TCP_PAGE_BYTES);
    for (int i = 0; i < 3; i++) {
        assert_true(in_order(c, 1460));
        settle();
    }
    assert_int_equal(c->unread, 2 * 1460 - 1500 + 3 * 1460);
    read_bytes(c, 700);
    read_bytes(c, c->unread);
    assert_int_equal(rx_held(&rig.t, c), 0);
    assert_int_equal(rig.t.rx->used, 0);
}

/* A page is charged as long as one of its bytes waits. */
static void test_true_size(void **state)
{
    (void)state;
    struct tcp_conn *c = open_one(8);
    assert_true(in_order(c, 4096 - 100 + 1)); /* one byte in the second page */
    assert_int_equal(rig.t.rx->promised, 2);
    settle();
    assert_int_equal(rx_held(&rig.t, c), 2 * TCP_PAGE_BYTES);
    read_bytes(c, 4096 - 100);
    assert_int_equal(rx_held(&rig.t, c), TCP_PAGE_BYTES);
    read_bytes(c, 1);
    assert_int_equal(rx_held(&rig.t, c), 0);
}

/* What is noted in frames has been promised its pages: settling never finds none left. */
static void test_promises_are_kept(void **state)
{
    (void)state;
    struct tcp_range dup;
    open_with(3, 65536, 0);
    assert_true(in_order(&r.c[0], 4096));
    assert_true(in_order(&r.c[1], 4097));
    assert_int_equal(rig.t.rx->promised, 3);
    assert_false(in_order(&r.c[2], 1));
    assert_false(early(&r.c[3], 100, 1, &dup));
    read_bytes(&r.c[1], 4096);
    assert_int_equal(rig.t.rx->promised, 2);
    assert_true(in_order(&r.c[2], 1));
    settle();
    assert_int_equal(rig.t.rx->used, 3);
    read_bytes(&r.c[0], 4096);
    read_bytes(&r.c[1], 1);
    read_bytes(&r.c[2], 1);
}

static void test_fin_is_no_byte(void **state)
{
    (void)state;
    struct tcp_conn *c = open_one(8);
    assert_true(in_order(c, 10));
    c->rcv_nxt++;
    c->flags |= CF_FIN_IN;
    settle();
    read_bytes(c, 10);
    assert_int_equal(rx_peek(&rig.t, c).n, 0);
}

/* Scales round windows up: what creeps beyond the owner's window ends all the same. */
static void test_never_beyond_the_window(void **state)
{
    (void)state;
    uint32_t n = 0;
    open_with(64, 8192, 77);
    while (in_order(&r.c[0], 100)) {
        n += 100;
        settle();
    }
    assert_true(n >= 8192 && n <= 8192 + TCP_PAGE_BYTES);
}

/* ---- out of order */

static void want_sack(struct tcp_conn *c, uint8_t n, const uint32_t (*want)[2])
{
    struct tcp_range got[4];
    c->flags |= CF_SACK;
    assert_int_equal(rx_sack(&rig.t, c, got, 4), n);
    for (uint8_t i = 0; i < n; i++) {
        assert_int_equal(got[i].start, want[i][0]);
        assert_int_equal(got[i].end, want[i][1]);
    }
}

static void test_latest_first(void **state)
{
    (void)state;
    struct tcp_range dup;
    open_with(32, 65536, 0);
    struct tcp_conn *c = &r.c[0];
    for (uint32_t i = 1; i <= 5; i++)
        assert_true(early(c, i * 200, 100, &dup));
    want_sack(c, 4, (const uint32_t[][2]){{1000, 1100}, {800, 900}, {600, 700}, {400, 500}});
    assert_true(early(c, 300, 100, &dup)); /* joins two */
    want_sack(c, 4, (const uint32_t[][2]){{200, 500}, {1000, 1100}, {800, 900}, {600, 700}});
    assert_true(in_order(c, 200));
    assert_int_equal(c->rcv_nxt, 500);
    want_sack(c, 3, (const uint32_t[][2]){{1000, 1100}, {800, 900}, {600, 700}});
    rx_dsack(&rig.t, c, (struct tcp_range){7, 9});
    want_sack(c, 4, (const uint32_t[][2]){{7, 9}, {1000, 1100}, {800, 900}, {600, 700}});
    want_sack(c, 3, (const uint32_t[][2]){{1000, 1100}, {800, 900}, {600, 700}});
    settle();
    read_bytes(c, 500);
}

static void test_duplicates_named(void **state)
{
    (void)state;
    static const uint32_t cases[][4] = {/* segment; what of it was there: 1000..1100 and 1200..1300 */
                                        {1000, 1100, 1000, 1100}, {1010, 1020, 1010, 1020}, {900, 1001, 1000, 1001},
                                        {1099, 1150, 1099, 1100}, {900, 1400, 1000, 1100},  {1050, 1250, 1050, 1100},
                                        {1100, 1200, 0, 0},       {900, 1000, 0, 0},        {1300, 1310, 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tcp_range dup;
        open_with(32, 65536, 0);
        assert_true(early(&r.c[0], 1200, 100, &dup));
        assert_int_equal(dup.start, dup.end);
        assert_true(early(&r.c[0], 1000, 100, &dup));
        assert_true(early(&r.c[0], cases[i][0], cases[i][1] - cases[i][0], &dup));
        assert_int_equal(dup.end - dup.start, cases[i][3] - cases[i][2]);
        if (dup.start != dup.end)
            assert_int_equal(dup.start, cases[i][2]);
        teardown(NULL);
    }
    open_with(1, 65536, 0);
}

static void test_ranges_are_limited(void **state)
{
    (void)state;
    struct tcp_range dup;
    uint32_t kept = 0;
    open_with(32, 65536, 0);
    struct tcp_conn *c = &r.c[0];
    for (uint32_t i = 1; i <= 50; i++)
        kept += early(c, i * 2, 1, &dup);
    assert_int_equal(kept, RX_RANGES_MAX);
    assert_int_equal(rx_held(&rig.t, c), TCP_PAGE_BYTES);
    assert_false(early(c, 500, 1, &dup));
    assert_true(early(c, 3, 1, &dup)); /* joins two, which makes room */
    settle();
    assert_true(early(c, 500, 1, &dup));
    assert_true(in_order(c, 400));
    assert_int_equal(c->rcv_nxt, 400);
    settle();
    read_bytes(c, 400);
    assert_int_equal(rx_held(&rig.t, c), TCP_PAGE_BYTES);
}

/* One byte in each page: all that they keep free is for what is in order, and it gives way. */
static void test_order_comes_first(void **state)
{
    (void)state;
    struct tcp_range dup;
    open_with(4, 65536, 0);
    struct tcp_conn *c = &r.c[0];
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(early(c, 4096 + i * 4 * 4096, 1, &dup), i < 3);
    assert_int_equal(rig.t.rx->used, 3);
    assert_true(in_order(c, 4096)); /* the last page; joins the byte behind it */
    settle();
    assert_int_equal(c->rcv_nxt, 4097);
    assert_int_equal(rig.t.rx->used, 4);
    assert_true(rx_has_gap(&rig.t, c));
    assert_true(in_order(c, 4096)); /* more than there is: the ranges go */
    settle();
    assert_false(rx_has_gap(&rig.t, c));
    assert_int_equal(c->unread, 4096 + 1 + 4096);
    read_bytes(c, c->unread);
    assert_int_equal(rig.t.rx->used, 0);
}

static void test_gives_way_when_nothing_is_kept(void **state)
{
    (void)state;
    struct tcp_range dup;
    open_with(4, 65536, 0);
    struct tcp_conn *c = &r.c[0];
    for (uint32_t i = 2; i <= 4; i++)
        assert_true(early(c, i * 4096, 1, &dup));
    assert_true(in_order(c, 4096 + 1));
    assert_false(rx_has_gap(&rig.t, c));
    settle();
    read_bytes(c, 4096 + 1);
}

/* ---- the window */

static void test_edge(void **state)
{
    (void)state;
    open_with(64, 65536, 1000);
    struct tcp_conn *c = &r.c[0];
    assert_int_equal(rx_edge(&rig.t, c), 1000 + 65536); /* never back */
    c->rcv_edge = 1000 + 8192;
    assert_int_equal(rx_edge(&rig.t, c), 1000 + 65535); /* 16 bits say no more */
    c->rcv_ws = 1;
    assert_int_equal(rx_edge(&rig.t, c), 1000 + 65536);
    for (int i = 0; i < 5; i++)
        assert_true(in_order(c, 1460));
    settle();
    assert_int_equal(rx_edge(&rig.t, c), 1000 + 65536); /* what waits is taken off */
    c->rcv_edge = 1000 + 65536;
    read_bytes(c, 1400);
    assert_int_equal(rx_edge(&rig.t, c), c->rcv_edge); /* less than a segment */
    read_bytes(c, 100);
    assert_int_equal(rx_edge(&rig.t, c), 1000 + 65536 + 1500);
}

/* Whatever is held: the edge never moves left, and nobody is offered more than half of what is free. */
static void test_edge_and_memory(void **state)
{
    (void)state;
    open_with(16, 65536, 0);
    for (int i = 0; i < 4; i++)
        r.c[i].rcv_edge = 0;
    assert_int_equal(rx_window_first(&rig.t), 8 * TCP_PAGE_BYTES);
    assert_int_equal(rx_edge(&rig.t, &r.c[0]), 8 * TCP_PAGE_BYTES);
    for (int i = 0; i < 8; i++)
        assert_true(in_order(&r.c[0], 4096));
    settle();
    assert_int_equal(rx_edge(&rig.t, &r.c[1]), 4 * TCP_PAGE_BYTES);
    r.c[1].rcv_edge = 50000;
    assert_int_equal(rx_edge(&rig.t, &r.c[1]), 50000);
}

static void test_news(void **state)
{
    (void)state;
    open_with(64, 8192, 0);
    struct tcp_conn *c = &r.c[0];
    c->rcv_edge = 8192;
    assert_false(rx_edge_news(&rig.t, c));
    for (int i = 0; i < 4; i++)
        assert_true(in_order(c, 2048));
    settle();
    read_bytes(c, 1000);
    assert_false(rx_edge_news(&rig.t, c)); /* MUST-39: silly */
    read_bytes(c, 1000);
    assert_true(rx_edge_news(&rig.t, c));
    c->rcv_edge = rx_edge(&rig.t, c);
    read_bytes(c, 1700);
    assert_false(rx_edge_news(&rig.t, c)); /* the peer has most of it still */
    c->flags |= CF_FIN_IN;
    c->rcv_nxt++;
    read_bytes(c, c->unread);
    assert_false(rx_edge_news(&rig.t, c)); /* nothing will come */
}

/* ---- all at random, against a map of what came */

enum { MAP = 1 << 18 };

static struct {
    uint8_t have[MAP]; /* of the stream from `first` on */
    uint32_t first, max;
} model;

static void model_mark(uint32_t seq, uint32_t n)
{
    memset(model.have + (seq - model.first), 1, n);
}

/* rcv_nxt is where the map has its first hole; ranges are its runs beyond. */
static void model_check(struct tcp_conn *c)
{
    struct tcp_range got[RX_RANGES_MAX];
    uint32_t nxt = c->rcv_nxt - model.first, bytes = 0, want = 0;
    assert_true(nxt == 0 || memchr(model.have, 0, nxt) == NULL);
    assert_int_equal(model.have[nxt], 0);
    uint8_t n = rx_sack(&rig.t, c, got, RX_RANGES_MAX);
    for (uint8_t i = 0; i < n; i++) {
        uint32_t a = got[i].start - model.first, b = got[i].end - model.first;
        assert_true(a < b && model.have[a - 1] == 0 && model.have[b] == 0);
        assert_null(memchr(model.have + a, 0, b - a));
        bytes += b - a;
    }
    for (uint32_t i = nxt; i < model.max; i++)
        want += model.have[i];
    assert_int_equal(bytes, want);
}

static void segment_at_random(struct rng *g, struct tcp_conn *c, bool exact)
{
    uint32_t room = c->rcv_nxt - c->unread + rig.t.cfg.window_bytes - c->rcv_nxt, ahead, n;
    struct tcp_range dup;
    if (room < 10 || r.frames_n == FRAMES_MAX)
        return;
    ahead = rng_below(g, 3) ? 0 : (uint32_t)rng_below(g, room < 9000 ? room : 9000);
    n = 1 + (uint32_t)rng_below(g, rng_below(g, 4) ? 1460 : 3);
    n = n < room - ahead ? n : room - ahead;
    if (n == 0)
        return;
    uint32_t seq = c->rcv_nxt + ahead;
    bool taken = ahead ? early(c, seq, n, &dup) : in_order(c, n);
    if (taken)
        model_mark(seq, n);
    if (!exact && !rx_has_gap(&rig.t, c)) /* ranges may have been forgotten */
        memset(model.have + (c->rcv_nxt - model.first), 0, model.max + 10000 - (c->rcv_nxt - model.first));
    uint32_t end = seq + n - model.first;
    model.max = taken && end > model.max ? end : model.max;
    model_check(c);
}

static void at_random(uint32_t pages, bool exact, uint64_t seed)
{
    struct rng g;
    rng_seed(&g, seed);
    open_with(pages, 32768, (uint32_t)rng_u64(&g) | 0xfffff000u); /* over the wrap */
    struct tcp_conn *c = &r.c[0];
    memset(&model, 0, sizeof model);
    model.first = c->rcv_nxt;
    c->flags |= CF_SACK;
    for (int turn = 0; turn < 400 && c->rcv_nxt - model.first < MAP - 100000; turn++) {
        for (uint32_t k = (uint32_t)rng_below(&g, 12); k > 0; k--)
            segment_at_random(&g, c, exact);
        if (rng_below(&g, 2))
            read_bytes(c, (uint32_t)rng_below(&g, c->unread + 1));
        settle();
        if (rng_below(&g, 4) == 0)
            read_bytes(c, rng_below(&g, 2) ? c->unread : (uint32_t)rng_below(&g, c->unread + 1));
        assert_true(rig.t.rx->used <= pages);
        assert_int_equal(rx_held(&rig.t, c), rig.t.rx->used * TCP_PAGE_BYTES);
    }
    assert_true(c->rcv_nxt - model.first > 30000); /* something moved */
    read_bytes(c, c->unread);
    teardown(NULL);
}

static void test_at_random(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++)
        at_random(64, true, seed);
    for (uint64_t seed = 1; seed <= 60; seed++)
        at_random(1 + (uint32_t)(seed % 6), false, seed);
    open_with(1, 65536, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_read_at_once_costs_nothing, teardown),
        cmocka_unit_test_teardown(test_left_until_later, teardown),
        cmocka_unit_test_teardown(test_true_size, teardown),
        cmocka_unit_test_teardown(test_promises_are_kept, teardown),
        cmocka_unit_test_teardown(test_fin_is_no_byte, teardown),
        cmocka_unit_test_teardown(test_never_beyond_the_window, teardown),
        cmocka_unit_test_teardown(test_latest_first, teardown),
        cmocka_unit_test_teardown(test_duplicates_named, teardown),
        cmocka_unit_test_teardown(test_ranges_are_limited, teardown),
        cmocka_unit_test_teardown(test_order_comes_first, teardown),
        cmocka_unit_test_teardown(test_gives_way_when_nothing_is_kept, teardown),
        cmocka_unit_test_teardown(test_edge, teardown),
        cmocka_unit_test_teardown(test_edge_and_memory, teardown),
        cmocka_unit_test_teardown(test_news, teardown),
        cmocka_unit_test_teardown(test_at_random, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
