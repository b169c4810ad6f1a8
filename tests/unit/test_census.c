/* test_census.c - what a log of another node holds: records in, messages and ends out, without a log. */
#include "cluster/shared/census.h"
#include "spool/base/status.h"
#include "spool/base/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct census *c;
static uint8_t meta[2048];

static int setup(void **state)
{
    (void)state;
    return census_open(&c);
}

static int teardown(void **state)
{
    (void)state;
    census_close(&c);
    return 0;
}

static struct msgid id_of(uint64_t n)
{
    return (struct msgid){.incarnation = "elsewhere", .counter = n};
}

static void meta_number(struct wire_wr *w, enum rec_tag tag, uint64_t v, size_t n)
{
    meta_put(w, (uint16_t)tag, slice_of(&v, n));
}

static void meta_state(struct wire_wr *w, const struct msg_state *s)
{
    uint8_t text[64 + STATE_ITEMS_MAX / 2];
    meta_put(w, RT_STATE, slice_of(text, state_encode(s, text, sizeof text)));
}

static void feed(enum rec_type type, uint16_t flags, uint64_t n, uint64_t arrival_us, const struct wire_wr *w,
                 uint64_t pos)
{
    struct record rec = {.type = type, .flags = flags, .id = id_of(n), .arrival_us = arrival_us};
    rec.meta = w ? slice_of(meta, wire_len(w)) : slice_of(NULL, 0);
    assert_int_equal(census_record(c, &rec, pos, 100), 0);
}

static struct wire_wr domain_meta(const char *domain, uint32_t rcpts)
{
    struct wire_wr w = wire_wr(meta, sizeof meta);
    meta_put(&w, RT_DOMAIN, slice_str(domain));
    for (uint32_t i = 0; i < rcpts; i++)
        meta_put(&w, RT_RCPT, SLICE_LIT("u@a.test"));
    return w;
}

static void msg(uint64_t n, uint64_t arrival_us, uint64_t pos)
{
    struct wire_wr w = domain_meta("a.test", 2);
    feed(REC_MSG, 0, n, arrival_us, &w, pos);
}

static void done(uint64_t n, uint64_t pos)
{
    struct wire_wr w = domain_meta("a.test", 0);
    feed(REC_DONE, REC_F_FINAL | REC_F_TOMB, n, 7, &w, pos);
}

static uint32_t live_n(void)
{
    assert_int_equal(census_sort(c), 0);
    return census_live_n(c);
}

static const struct census_entry *find(uint64_t n)
{
    struct msgid id = id_of(n);
    return census_find(c, &id);
}

/* ---- tests */

static void live_messages_come_in_order_of_arrival(void **state)
{
    (void)state;
    msg(1, 300, 1000);
    msg(2, 100, 2000);
    msg(3, 200, 3000);
    done(3, 4000);
    assert_int_equal(live_n(), 2);
    assert_int_equal(census_live(c, 0)->id.counter, 2);
    assert_int_equal(census_live(c, 1)->id.counter, 1);
    assert_int_equal(census_live(c, 1)->pos, 1000);
    assert_true(slice_eq(census_name(c, census_live(c, 0)->domain), SLICE_LIT("a.test")));
    assert_int_equal(census_ends_n(c), 1);
    assert_int_equal(census_end(c, 0)->pos, 4000);
}

static void an_end_stays_an_end(void **state)
{
    (void)state;
    done(1, 1000);
    msg(1, 5, 2000);
    assert_int_equal(live_n(), 0);
    assert_int_equal(find(1)->flags, CENSUS_FINAL);
}

static void the_last_record_of_a_message_counts(void **state)
{
    (void)state;
    msg(1, 5, 1000);
    msg(1, 5, 9000);
    assert_int_equal(live_n(), 1);
    assert_int_equal(find(1)->pos, 9000);
}

static void an_abort_takes_back_what_lies_before_it(void **state)
{
    (void)state;
    msg(1, 5, 1000);
    feed(REC_ABORT, 0, 1, 0, NULL, 2000);
    assert_int_equal(live_n(), 0);
    msg(1, 5, 3000);
    assert_int_equal(live_n(), 1);
    /* moved by compaction: it forgets only what lay below its first place */
    struct wire_wr w = wire_wr(meta, sizeof meta);
    meta_number(&w, RT_UPTO, 2000, 8);
    feed(REC_ABORT, REC_F_MOVED, 1, 0, &w, 4000);
    assert_int_equal(live_n(), 1);
}

static void chunks_are_found_by_number(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        struct wire_wr w = wire_wr(meta, sizeof meta);
        meta_number(&w, RT_CHUNK_INDEX, i, 4);
        feed(REC_CHUNK, 0, 1, 0, &w, 1000 + i);
    }
    struct wire_wr moved = wire_wr(meta, sizeof meta);
    meta_number(&moved, RT_CHUNK_INDEX, 1, 4);
    feed(REC_CHUNK, REC_F_MOVED, 1, 0, &moved, 5000);
    struct wire_wr w = domain_meta("a.test", 1);
    struct {
        uint32_t n;
        uint64_t bytes;
    } __attribute__((packed)) chunks = {3, 30};
    meta_put(&w, RT_CHUNKS, slice_of(&chunks, sizeof chunks));
    feed(REC_MSG, REC_F_CHUNKED, 1, 9, &w, 6000);
    const uint64_t want[] = {1000, 5000, 1002};
    uint64_t pos;
    uint32_t size;
    assert_int_equal(find(1)->chunks, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(census_chunk(c, find(1), i, &pos, &size));
        assert_int_equal(pos, want[i]);
    }
    assert_false(census_chunk(c, find(1), 3, &pos, &size));
}

static void some_recipients_are_final_whatever_record_says_so(void **state)
{
    (void)state;
    struct msg_state s;
    struct smtp_status st = {.code = 250};
    msg(1, 5, 1000);
    assert_false(census_state(find(1), &s));
    struct wire_wr w = domain_meta("a.test", 0);
    result_put(&w, 1, ITEM_DELIVERED, &st);
    feed(REC_DONE, 0, 1, 5, &w, 2000); /* the DEFER behind it was torn */
    assert_true(census_state(find(1), &s));
    assert_int_equal(s.live, 1);
    assert_int_equal(state_end(&s, 1), ITEM_DELIVERED);
    struct msg_state later = {.items = 2, .live = 2, .seq = 4, .attempts = 3, .due_us = 99};
    w = domain_meta("a.test", 0);
    meta_state(&w, &later);
    feed(REC_DEFER, 0, 1, 5, &w, 3000);
    assert_true(census_state(find(1), &s));
    assert_int_equal(s.attempts, 3);
    assert_int_equal(s.live, 1);
    assert_int_equal(live_n(), 1);
}

static void a_census_grows(void **state)
{
    (void)state;
    enum { MANY = 20000 };
    for (uint64_t n = 1; n <= MANY; n++) {
        char name[32];
        snprintf(name, sizeof name, "d%llu.test", (unsigned long long)(n % 3000));
        struct wire_wr w = domain_meta(name, 1);
        feed(REC_MSG, 0, n, MANY - n, &w, n * 100);
        if (n % 2)
            done(n, n * 100 + 50);
    }
    assert_int_equal(live_n(), MANY / 2);
    assert_int_equal(census_n(c), MANY);
    assert_int_equal(census_names_n(c), 3001);
    for (uint32_t i = 1; i < census_live_n(c); i++)
        assert_true(census_live(c, i - 1)->arrival_us < census_live(c, i)->arrival_us);
    for (uint64_t n = 1; n <= MANY; n++)
        assert_int_equal(find(n)->flags, n % 2 ? CENSUS_FINAL : CENSUS_MSG);
    assert_null(find(MANY + 1));
}

static void odd_records_are_passed_over(void **state)
{
    (void)state;
    struct wire_wr w = wire_wr(meta, sizeof meta);
    feed(REC_MSG, 0, 1, 5, &w, 1000); /* without a domain */
    w = domain_meta("a.test", 0);
    feed(REC_MSG, 0, 2, 5, &w, 1000); /* without recipients */
    feed((enum rec_type)99, 0, 3, 5, &w, 1000);
    assert_int_equal(live_n(), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(live_messages_come_in_order_of_arrival),
        T(an_end_stays_an_end),
        T(the_last_record_of_a_message_counts),
        T(an_abort_takes_back_what_lies_before_it),
        T(chunks_are_found_by_number),
        T(some_recipients_are_final_whatever_record_says_so),
        T(a_census_grows),
        T(odd_records_are_passed_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
