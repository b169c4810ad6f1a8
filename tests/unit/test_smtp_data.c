/* test_smtp_data.c - the DATA scanner against a naive one that goes byte by byte, on random inputs cut at random
 * places; and the counter of Received fields against itself, whole and cut. */
#include "dataplane/smtp/data.h"
#include "dataplane/smtp/hops.h"
#include "spool/base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h> /* needs the ones above */

struct result {
    uint8_t body[4096];
    size_t n;
    size_t used; /* bytes of the input, the final dot's CRLF included; 0: no end */
    bool bare;
};

/* The definition: cut into lines at CRLF; "." ends; a first dot goes. */
static void naive(struct slice in, struct result *r)
{
    size_t line = 0;
    for (size_t i = 0; i + 1 < in.n; i++) {
        if (in.p[i] == '\r' && in.p[i + 1] != '\n')
            r->bare = true;
        if (in.p[i] == '\n' && (i == 0 || in.p[i - 1] != '\r'))
            r->bare = true;
        if (in.p[i] != '\r' || in.p[i + 1] != '\n')
            continue;
        size_t from = line, to = i + 2;
        line = to;
        if (to - from == 3 && in.p[from] == '.') {
            r->used = to;
            return;
        }
        from += in.p[from] == '.';
        memcpy(r->body + r->n, in.p + from, to - from);
        r->n += to - from;
    }
}

/* Feeds pieces of random sizes, each from a block of its own size. */
static void scan(struct slice in, struct rng *rng, struct result *r)
{
    struct smtp_data d = {0};
    for (size_t at = 0; at < in.n && d.state != DATA_END;) {
        size_t n = rng ? 1 + rng_below(rng, 9) : in.n;
        n = n > in.n - at ? in.n - at : n;
        uint8_t *piece = malloc(n);
        memcpy(piece, in.p + at, n);
        size_t took = 0;
        while (took < n && d.state != DATA_END) {
            struct slice run;
            took += smtp_data_next(&d, slice_of(piece + took, n - took), &run);
            memcpy(r->body + r->n, run.p, run.n);
            r->n += run.n;
        }
        at += took;
        free(piece);
        r->used = d.state == DATA_END ? at : 0;
    }
    r->bare = d.bare;
}

static size_t random_message(struct rng *rng, uint8_t *out)
{
    static const char *const parts[] = {"\r\n", ".", "\r\n.", "x", "text", "\r\n.\r", "..", "\r\n..\r\n", "\x80", ""};
    static const char *const bad[] = {"\r", "\n", "\n.\n", "\r.\r", "\n.\r\n", "\r\n.\n"};
    size_t n = 0;
    bool with_bad = rng_below(rng, 2);
    for (uint64_t i = rng_below(rng, 40); i > 0; i--) {
        const char *p = parts[rng_below(rng, 10)];
        if (with_bad && rng_below(rng, 8) == 0)
            p = bad[rng_below(rng, 6)];
        memcpy(out + n, p, strlen(p));
        n += strlen(p);
    }
    memcpy(out + n, "\r\n.\r\n", 5);
    return n + 5;
}

static void equals_naive(void **state)
{
    struct rng rng;
    unsigned clean = 0;
    (void)state;
    rng_seed(&rng, 1870);
    for (int i = 0; i < 100000; i++) {
        uint8_t in[512];
        size_t n = random_message(&rng, in);
        struct result want = {.n = 0}, got = {.n = 0};
        naive(slice_of(in, n), &want);
        scan(slice_of(in, n), i % 8 ? &rng : NULL, &got);
        assert_int_equal(got.used, want.used);
        assert_int_equal(got.bare, want.bare);
        if (want.bare)
            continue;
        clean++;
        assert_int_equal(got.n, want.n);
        assert_memory_equal(got.body, want.body, want.n);
    }
    assert_in_range(clean, 10000, 90000); /* both kinds were seen */
}

static void finds_long_runs(void **state)
{
    static const char text[] = "one\r\ntwo\r\nthree\r\n..four\r\n.\r\nNOOP\r\n";
    struct smtp_data d = {0};
    struct slice run, in = SLICE_LIT("one\r\ntwo\r\nthree\r\n..four\r\n.\r\nNOOP\r\n");
    (void)state;
    size_t n = smtp_data_next(&d, in, &run);
    assert_int_equal(run.n, 17); /* all lines up to the stuffed dot */
    n += smtp_data_next(&d, slice_of(in.p + n, in.n - n), &run);
    assert_int_equal(run.n, 7);
    n += smtp_data_next(&d, slice_of(in.p + n, in.n - n), &run);
    assert_int_equal(d.state, DATA_END);
    assert_string_equal(text + n, "NOOP\r\n");
}

static void hops_at_any_split(void **state)
{
    static const char *const parts[] = {"Received:",
                                        "received: by",
                                        " by mx.a",
                                        " by\r\n mx.a",
                                        "X-Received: by mx.a",
                                        "\r\n",
                                        "\r\n\t",
                                        ";",
                                        " mx.a ",
                                        "by mx.ab",
                                        "Subject: by mx.a",
                                        "\n"};
    struct rng rng;
    (void)state;
    rng_seed(&rng, 822);
    for (int i = 0; i < 20000; i++) {
        uint8_t in[1024];
        size_t n = 0;
        for (uint64_t k = rng_below(&rng, 30); k > 0; k--) {
            const char *p = parts[rng_below(&rng, 12)];
            memcpy(in + n, p, strlen(p));
            n += strlen(p);
        }
        struct smtp_hops whole, cut;
        smtp_hops_init(&whole, SLICE_LIT("MX.a"));
        smtp_hops_init(&cut, SLICE_LIT("MX.a"));
        smtp_hops_feed(&whole, slice_of(in, n));
        for (size_t at = 0; at < n; at++)
            smtp_hops_feed(&cut, slice_of(in + at, 1));
        assert_int_equal(whole.received, cut.received);
        assert_int_equal(whole.own, cut.own);
    }
}

static void hops_counts(void **state)
{
    struct smtp_hops h;
    (void)state;
    smtp_hops_init(&h, SLICE_LIT("mx.a"));
    smtp_hops_feed(&h,
                   SLICE_LIT("Received: from x by mx.a (y) id 1;\r\n date\r\nSubject: by mx.a\r\nreceived: by mx.ab\r\n"
                             "RECEIVED: from y\r\n\tby\r\n\tMX.A\r\nX: y\r\n\r\nReceived: by mx.a\r\n"));
    assert_int_equal(h.received, 3);
    assert_int_equal(h.own, 2);
    assert_int_equal(h.state, HOPS_BODY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_naive),
        cmocka_unit_test(finds_long_runs),
        cmocka_unit_test(hops_at_any_split),
        cmocka_unit_test(hops_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
