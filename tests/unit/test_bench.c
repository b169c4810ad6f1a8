/* test_bench.c - the instruments: a generator and a sink that measure wrongly would prove anything.
 * Both are joined in memory here, whole and byte by byte. */
#include "bench/lib/hist.h"
#include "bench/lib/loadconn.h"
#include "bench/lib/seen.h"
#include "bench/lib/sinkconn.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- histogram */

static void quantiles_are_right_within_their_step(void **state)
{
    (void)state;
    struct hist *h = calloc(1, sizeof *h);
    for (uint64_t v = 1; v <= 100000; v++)
        hist_add(h, v);
    for (int k = 1; k < 100; k++) {
        double want = k * 1000.0, got = (double)hist_quantile(h, k / 100.0);
        assert_true(got >= want && got <= want * 1.016);
    }
    assert_int_equal(hist_quantile(h, 1), 100000);
    assert_int_equal(hist_mean(h), 50000);
    hist_add(h, UINT64_MAX / 2);
    assert_true(h->max == UINT64_MAX / 2);
    free(h);
}

/* ---- order */

static void arrive(struct seen *s, unsigned seq, unsigned floor)
{
    char head[200];
    int n = snprintf(head, sizeof head, "Received: x\r\nX-Ledger: r-%u\r\nX-Sequence: r d0000.test %010u %010u\r\n",
                     seq, seq, floor);
    struct seen_mark m = seen_read(s, head, (size_t)n);
    assert_true(m.token[0] == 'r');
    seen_add(s, &m);
}

static void broken_order_is_told_from_concurrency(void **state)
{
    (void)state;
    struct seen *s = seen_open();
    arrive(s, 2, 0); /* 1 and 2 were on their way together: may come in any order */
    arrive(s, 1, 0);
    arrive(s, 4, 3); /* 3 had been acknowledged before 4 was sent */
    arrive(s, 3, 2);
    arrive(s, 3, 2);
    struct seen_counts c = seen_counts(s);
    assert_int_equal(c.distinct, 4);
    assert_int_equal(c.duplicates, 1);
    assert_int_equal(c.inversions, 2);
    assert_int_equal(c.fifo_violations, 1);
    struct seen_mark none = seen_read(s, "Subject: x\r\n", 12);
    seen_add(s, &none);
    assert_int_equal(seen_counts(s).unnumbered, 1);
    seen_close(&s);
}

/* ---- generator and sink, joined */

struct pair {
    struct load_book book;
    struct sink_policy policy;
    size_t step; /* bytes moved at a time */
};

static void pair_open(struct pair *p, bool pipelining, bool deep, unsigned messages, size_t step)
{
    struct mint_spec spec = {.run = "run", .domains = 3, .recipients = 2, .size_bytes = 2000, .sender = "a@b.test"};
    memset(p, 0, sizeof *p);
    p->step = step;
    p->book = (struct load_book){.pipelining = pipelining, .deep = deep, .per_session = 1000, .recipients = 2};
    p->book.budget = messages;
    p->book.mint = mint_open(&spec);
    p->policy = (struct sink_policy){.pipelining = true, .dot_every = 1, .seen = seen_open()};
}

static void pair_close(struct pair *p)
{
    mint_close(&p->book.mint);
    seen_close(&p->policy.seen);
}

static bool to_sink(struct pair *p, struct loadconn *c, struct sinkconn *s)
{
    size_t room = 0;
    char *to = sinkconn_room(s, &room);
    if (!c->out_n || !room)
        return false;
    size_t n = c->out[0].iov_len < p->step ? c->out[0].iov_len : p->step;
    n = n < room ? n : room;
    memcpy(to, c->out[0].iov_base, n);
    loadconn_sent(c, n, 1);
    sinkconn_input(s, n, 2);
    return true;
}

static bool to_gen(struct pair *p, struct loadconn *c, struct sinkconn *s)
{
    size_t n = 0;
    const char *out = sinkconn_out(s, &n);
    if (!n)
        return false;
    n = n < p->step ? n : p->step;
    char copy[65536];
    memcpy(copy, out, n);
    sinkconn_sent(s, n);
    assert_true(loadconn_input(c, copy, n, 3));
    if (c->state == LOAD_READY)
        loadconn_begin(c, 3);
    return true;
}

static void talk(struct pair *p)
{
    struct loadconn *c = calloc(1, sizeof *c);
    struct sinkconn *s = sinkconn_open(&p->policy);
    loadconn_open(c, &p->book);
    bool moved = true;
    while (moved) {
        moved = to_sink(p, c, s);
        moved |= to_gen(p, c, s);
    }
    assert_int_equal(c->state, LOAD_ENDED);
    sinkconn_close(&s);
    free(c);
}

static void every_message_arrives_however_the_bytes_fall(void **state)
{
    (void)state;
    static const size_t steps[] = {1, 2, 3, 7, 100, 1999, 65536};
    for (unsigned mode = 0; mode < 3; mode++) {
        for (unsigned i = 0; i < sizeof steps / sizeof *steps; i++) {
            struct pair p;
            pair_open(&p, mode > 0, mode > 1, 20, steps[i]);
            talk(&p);
            struct seen_counts c = seen_counts(p.policy.seen);
            assert_int_equal(p.book.acked, 20);
            assert_int_equal(p.policy.bytes, 20 * 2000);
            assert_int_equal(p.policy.recipients, 40);
            assert_int_equal(c.distinct, 20);
            assert_int_equal(c.duplicates + c.inversions + c.fifo_violations + c.unnumbered, 0);
            assert_int_equal(p.book.dot.n, 20);
            pair_close(&p);
        }
    }
}

static void refusals_are_counted_and_not_acknowledged(void **state)
{
    (void)state;
    struct pair p;
    pair_open(&p, true, true, 20, 65536);
    p.policy.code_at_dot = 451;
    p.policy.dot_every = 4;
    talk(&p);
    assert_int_equal(p.book.acked, 15);
    assert_int_equal(p.book.refused, 5);
    assert_int_equal(p.book.replies.count[451], 5);
    assert_int_equal(seen_counts(p.policy.seen).distinct, 15);
    pair_close(&p);

    pair_open(&p, false, false, 9, 65536);
    p.policy.fail[p.policy.fails++].part = "d0001.test";
    p.policy.fail[0].code = 550;
    talk(&p);
    assert_int_equal(p.book.acked, 6);
    assert_int_equal(p.book.refused, 3);
    pair_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_are_right_within_their_step),
        cmocka_unit_test(broken_order_is_told_from_concurrency),
        cmocka_unit_test(every_message_arrives_however_the_bytes_fall),
        cmocka_unit_test(refusals_are_counted_and_not_acknowledged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
