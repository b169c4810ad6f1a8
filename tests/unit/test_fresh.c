/* test_fresh.c - message IDs of which nothing is here: never one that may be, and nearly all that are not. */
#include "spool/base/rng.h"
#include "spool/queue/fresh.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { NAMES = 4, COUNTERS = 200000 };

/* The index, and what was taken since: a bit for each ID. */
static struct {
    bool index[NAMES][COUNTERS], taken[NAMES][COUNTERS];
    uint64_t asked, asked_busy;
} world;

static struct fresh *fresh;

static struct msgid id_of(uint32_t name, uint64_t counter)
{
    struct msgid id = {.counter = counter};
    memset(id.incarnation, (int)name + 1, sizeof id.incarnation);
    id.incarnation[0] = (uint8_t)(name * 37);
    return id;
}

static uint32_t name_of(const struct msgid *id)
{
    return (uint32_t)id->incarnation[1] - 1;
}

static bool index_any(void *arg, const struct msgid *from)
{
    (void)arg;
    world.asked++;
    world.asked_busy += from->incarnation[15] == 1; /* name 0, and no rare one */
    for (uint64_t c = from->counter; c < COUNTERS; c++)
        if (world.index[name_of(from)][c])
            return true;
    return false;
}

static int setup(void **state)
{
    (void)state;
    memset(&world, 0, sizeof world);
    fresh = fresh_new(index_any, NULL);
    return fresh ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    fresh_free(&fresh);
    assert_null(fresh);
    return 0;
}

/* It may be wrong in one direction alone. */
static bool take(uint32_t name, uint64_t counter)
{
    struct msgid id = id_of(name, counter);
    bool said = fresh_take(fresh, &id);
    if (said) {
        assert_false(world.index[name][counter]);
        assert_false(world.taken[name][counter]);
    }
    world.taken[name][counter] = true;
    return said;
}

static void test_new_ones_are_fresh_and_no_second_time(void **state)
{
    (void)state;
    for (uint64_t c = 1; c < 100000; c++)
        assert_true(take(0, c));
    for (uint64_t c = 1; c < 100000; c++)
        assert_false(take(0, c));
    assert_int_equal(world.asked, 1);
}

static void test_below_the_first_the_index_answers(void **state)
{
    (void)state;
    world.index[0][95] = true;
    assert_true(take(0, 100));
    for (uint64_t c = 1; c < 100; c++)
        assert_false(take(0, c));
    assert_true(take(0, 101));
}

static void test_with_later_ones_in_the_index_nothing_is_fresh(void **state)
{
    (void)state;
    world.index[0][50000] = true;
    for (uint64_t c = 49000; c <= 50000; c++)
        assert_false(take(0, c));
    assert_in_range(world.asked, 2, 20);
    uint64_t n = 0;
    for (uint64_t c = 50001; c < 50201; c++)
        n += take(0, c);
    assert_in_range(n, 136, 200);
}

/* What came before it was sure counts when it is. */
static void test_what_came_before_is_remembered(void **state)
{
    (void)state;
    world.index[0][1000] = true;
    assert_false(take(0, 900));
    for (uint64_t c = 1001; c < 1100; c += 2)
        (void)take(0, c);
    memset(world.index, 0, sizeof world.index); /* all of it was delivered */
    for (uint64_t c = 1100; c < 1200; c++)
        (void)take(0, c);
    for (uint64_t c = 1001; c < 1200; c++)
        (void)take(0, c);
    assert_true(take(0, 1200));
}

static void test_jumps(void **state)
{
    (void)state;
    assert_true(take(0, 1));
    assert_true(take(0, 16383));
    assert_true(take(0, 16384));
    assert_false(take(0, 2));
    assert_true(take(0, 16000));
    assert_true(take(0, 150000));
    assert_false(take(0, 16001));
    assert_true(take(0, 149999));
    assert_false(take(0, 150000));
    struct msgid far = id_of(0, UINT64_MAX - 1), last = id_of(0, UINT64_MAX);
    assert_true(fresh_take(fresh, &far));
    assert_true(fresh_take(fresh, &last));
    assert_false(fresh_take(fresh, &last));
}

/* As connections end: near each other, not in order; several front-ends, one of which comes back with what is known. */
static void test_any_order(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct rng rng;
        uint64_t at[NAMES] = {100, 5000, 1, 60000}, fresh_n = 0, n = 0;
        teardown(state);
        assert_int_equal(setup(state), 0);
        rng_seed(&rng, seed);
        for (uint64_t c = 60000; c < 60200; c += 3)
            world.index[3][c] = true;
        for (; n < 40000; n++) {
            uint32_t name = (uint32_t)rng_u64(&rng) % NAMES;
            uint64_t back = rng_u64(&rng) % 100 == 0 ? rng_u64(&rng) % 20000 : rng_u64(&rng) % 64;
            at[name] += rng_u64(&rng) % 4;
            fresh_n += take(name, at[name] > back ? at[name] - back : 1);
        }
        assert_true(fresh_n > n / 4); /* the others are repetitions */
    }
}

/* More names than places: the table is bounded, and a busy one keeps its place. */
static void test_many_names(void **state)
{
    (void)state;
    uint64_t n = 0;
    for (uint64_t c = 1; c <= 5000; c++) {
        struct msgid rare = {.counter = 1};
        memcpy(rare.incarnation, &c, sizeof c);
        rare.incarnation[1] = 1; /* of name 0, for the index */
        (void)fresh_take(fresh, &rare);
        (void)fresh_take(fresh, &rare);
        assert_false(fresh_take(fresh, &rare));
        n += take(0, c);
    }
    assert_true(n > 4900);
    assert_in_range(world.asked_busy, 1, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_new_ones_are_fresh_and_no_second_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_below_the_first_the_index_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_with_later_ones_in_the_index_nothing_is_fresh, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_came_before_is_remembered, setup, teardown),
        cmocka_unit_test_setup_teardown(test_jumps, setup, teardown),
        cmocka_unit_test_setup_teardown(test_any_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_names, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
