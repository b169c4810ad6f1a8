/* The ground floor: clocks, arenas, cursors, statuses, random numbers, logs, metrics. */
#include "spool/base/arena.h"
#include "spool/base/clock.h"
#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/metrics.h"
#include "spool/base/rng.h"
#include "spool/base/status.h"
#include "spool/base/wire.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void clock_writes_dates(void **state)
{
    (void)state;
    char out[CLOCK_RFC5322_MAX], iso[CLOCK_RFC3339_MAX];
    clock_rfc5322(1795475700ull * 1000000u, out);
    assert_string_equal(out, "Mon, 23 Nov 2026 23:15:00 +0000");
    clock_rfc3339(1795475700123456ull, iso);
    assert_string_equal(iso, "2026-11-23T23:15:00.123Z");
    clock_rfc5322(UINT64_MAX, out); /* must not overrun */
}

static void arena_forgets_after_mark(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 10000);
    assert_non_null(arena_alloc(&a, 100));
    struct arena_mark m = arena_mark(&a);
    size_t used = a.used;
    char *p = arena_strdup(&a, SLICE_LIT("hello"));
    assert_string_equal(p, "hello");
    assert_non_null(arena_alloc(&a, 5000));
    assert_null(arena_alloc(&a, 6000)); /* the limit */
    arena_reset(&a, m);
    assert_int_equal(a.used, used);
    assert_ptr_equal(arena_alloc(&a, 16), p); /* the same place again */
    arena_free(&a);
    assert_null(a.head);
}

static void wire_sticks_to_its_error(void **state)
{
    (void)state;
    uint8_t buf[8];
    struct wire_wr w = wire_wr(buf, sizeof buf);
    wire_put_u32(&w, 0x01020304);
    wire_put_u16(&w, 0x0506);
    assert_false(w.bad);
    wire_put_u32(&w, 1);
    assert_true(w.bad);
    wire_put_u8(&w, 1); /* would fit, but the error stays */
    assert_int_equal(wire_len(&w), 6);
    struct wire_rd r = wire_rd(slice_of(buf, 6));
    assert_int_equal(wire_u32(&r), 0x01020304);
    assert_int_equal(wire_u16(&r), 0x0506);
    assert_int_equal(wire_u8(&r), 0);
    assert_true(r.bad);
}

static void status_is_one_printable_line(void **state)
{
    (void)state;
    struct smtp_status st;
    char out[400];
    status_set(&st, 550, 5, 1, 1, "no such\r\nuser \"%s\"", "x");
    status_format(&st, out, sizeof out);
    assert_string_equal(out, "550 5.1.1 no such??user \"x\"");
    assert_int_equal(status_format(&st, out, 5), 4);
}

static void rng_repeats_from_its_seed(void **state)
{
    (void)state;
    struct rng a, b;
    rng_seed(&a, 7);
    rng_seed(&b, 7);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(rng_u64(&a), rng_u64(&b));
        assert_true(rng_below(&a, 10) < 10);
        rng_below(&b, 10);
    }
    rng_seed(&b, 8);
    assert_int_not_equal(rng_u64(&a), rng_u64(&b));
}

static void log_quotes_what_came_from_outside(void **state)
{
    (void)state;
    char out[64], small[12];
    assert_string_equal(log_quote(SLICE_LIT("a\"b\\c\n"), out, sizeof out), "\"a\\\"b\\\\c\\x0a\"");
    log_quote(SLICE_LIT("0123456789012345"), small, sizeof small);
    assert_true(strlen(small) < sizeof small);
    assert_int_equal(log_level_parse("warning"), LOG_LEVEL_WARNING);
    assert_int_equal(log_level_parse("loud"), -1);
}

static void *count_some(void *arg)
{
    (void)arg;
    for (int i = 0; i < 1000; i++)
        metric_add(M_SMTP_CONNECTIONS, 2);
    return NULL;
}

static void metrics_sum_over_threads(void **state)
{
    (void)state;
    pthread_t t[4];
    uint64_t before = metric_read(M_SMTP_CONNECTIONS);
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, count_some, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(metric_read(M_SMTP_CONNECTIONS) - before, 8000);
    metric_set(M_SPOOL_FENCED, 1);
    size_t n = metrics_text(NULL, 0);
    char *text = malloc(n + 1);
    assert_int_equal(metrics_text(text, n + 1), n);
    assert_non_null(strstr(text, "# TYPE satchel_spool_fenced gauge\nsatchel_spool_fenced 1\n"));
    free(text);
}

static void errors_have_words(void **state)
{
    (void)state;
    assert_string_equal(satchel_strerror(-SATCHEL_ETORN), "torn tail");
    assert_string_equal(satchel_strerror(-ENOSPC), "No space left on device");
    assert_string_equal(satchel_strerror(-999999), "unknown error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clock_writes_dates),        cmocka_unit_test(arena_forgets_after_mark),
        cmocka_unit_test(wire_sticks_to_its_error),  cmocka_unit_test(status_is_one_printable_line),
        cmocka_unit_test(rng_repeats_from_its_seed), cmocka_unit_test(log_quotes_what_came_from_outside),
        cmocka_unit_test(metrics_sum_over_threads),  cmocka_unit_test(errors_have_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
