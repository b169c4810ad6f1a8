/* test_twheel.c - the timer wheel against a plain list, at every distance and over the wrap of its clock. */
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/twheel.h"
#include "spool/base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define NODES 200u

static struct {
    struct twheel w;
    struct twheel_node nodes[NODES];
    _Alignas(64) uint8_t bins[NODES * 64];
    uint64_t looked;      /* nodes asked for: what things cost */
    uint8_t fetch[NODES]; /* fetched since it was set last */
} s;

static struct twheel_node *node(void *ctx, uint32_t index)
{
    (void)ctx;
    assert_true(index < NODES);
    s.looked++;
    return &s.nodes[index];
}

static void fetch(void *ctx, uint32_t index)
{
    (void)ctx;
    assert_true(index < NODES && s.nodes[index].place);
    s.fetch[index] = 1;
}

static void open_at(uint32_t now)
{
    s = (typeof(s)){.looked = 0};
    assert_true(twheel_bytes(NODES) <= sizeof s.bins);
    memset(s.bins, 0xa5, sizeof s.bins);
    twheel_init(&s.w, s.bins, now, &(struct twheel_owner){node, fetch, NULL});
}

static uint32_t expired(uint32_t now)
{
    uint32_t budget = UINT32_MAX;
    return twheel_expired(&s.w, now, &budget);
}

static void comes_up_at(uint32_t now, uint32_t index)
{
    assert_int_equal(expired(now - 1), TWHEEL_NONE);
    assert_int_equal(expired(now), index);
    assert_int_equal(expired(now), TWHEEL_NONE);
    assert_int_equal(s.nodes[index].place, 0);
}

/* SMTP's timers are 10 minutes, ours for idle owners 2 hours; days, and 3 weeks, must work as well. */
static void test_each_distance(void **state)
{
    (void)state;
    static const uint32_t starts[] = {0, 1, 255, 256, 65535, 0xfffffff0, 0xffffff00, 0x7ffffffe, 0xff000000, 123456789};
    static const uint32_t ahead[] = {1,     2,     255,    256,     257,      511,      65535,     65536,
                                     65537, 40000, 600000, 7200000, 16777215, 16777216, 2000000000};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
        for (size_t j = 0; j < sizeof ahead / sizeof *ahead; j++) {
            open_at(starts[i]);
            twheel_set(&s.w, 7, starts[i] + ahead[j]);
            comes_up_at(starts[i] + ahead[j], 7);
        }
}

static void test_past_comes_up_next_tick(void **state)
{
    (void)state;
    open_at(1000);
    twheel_set(&s.w, 1, 1000);
    twheel_set(&s.w, 2, 5);
    assert_int_equal(expired(1000), TWHEEL_NONE);
    assert_int_equal(expired(1001), 2);
    assert_int_equal(expired(1001), 1);
    assert_int_equal(expired(1001), TWHEEL_NONE);
}

static void test_moves_only_to_sooner(void **state)
{
    (void)state;
    open_at(0);
    twheel_set(&s.w, 3, 5000);
    twheel_set(&s.w, 3, 9000);
    assert_int_equal(s.nodes[3].at, 5000);
    twheel_set(&s.w, 3, 300);
    comes_up_at(300, 3);
    twheel_set(&s.w, 3, 5000);
    twheel_stop(&s.w, 3);
    twheel_stop(&s.w, 3);
    assert_int_equal(expired(6000), TWHEEL_NONE);
}

static void test_next(void **state)
{
    (void)state;
    uint32_t at;
    open_at(0xfffffff0);
    assert_false(twheel_next(&s.w, &at));
    twheel_set(&s.w, 0, 0xfffffff0 + 700000);
    unsigned woken = 0;
    for (; twheel_next(&s.w, &at); woken++) {
        assert_true(seq_gt(at, s.w.now) && seq_leq(at, 0xfffffff0 + 700000)); /* maybe early, never late */
        if (expired(at) == 0)
            break;
    }
    assert_int_equal(at, 0xfffffff0 + 700000);
    assert_in_range(woken, 1, 3);
}

/* Three weeks of sleep, and a thousand far nodes, cost next to nothing. */
static void test_cost_is_that_of_the_due(void **state)
{
    (void)state;
    open_at(77);
    for (uint32_t i = 1; i < NODES; i++)
        twheel_set(&s.w, i, 77 + 1900000000 + i);
    twheel_set(&s.w, 0, 77 + 1800000000);
    s.looked = 0;
    comes_up_at(77 + 1800000000, 0);
    assert_in_range(s.looked, 1, 40);
}

/* What comes a level down in one tick does so by pieces; meanwhile there is something to do at once. */
static void test_many_in_one_tick(void **state)
{
    (void)state;
    uint32_t at, budget, calls = 0, up = 0;
    open_at(0);
    for (uint32_t i = 0; i < NODES; i++)
        twheel_set(&s.w, i, 65536 + 300 + i / 100);
    for (bool more = true; more; calls++) {
        budget = 10;
        s.looked = 0;
        while (twheel_expired(&s.w, 70000, &budget) != TWHEEL_NONE)
            up++;
        assert_in_range(s.looked, 0, 10);
        more = twheel_next(&s.w, &at);
        assert_true(!more || at == s.w.now || budget > 0);
    }
    assert_int_equal(up, NODES);
    assert_in_range(calls, 3 * NODES / 10, 3 * NODES / 10 + 2); /* two levels down, and up */
}

/* ---- against a list */

static struct {
    uint32_t at[NODES];
    bool set[NODES];
} model;

static void model_set(uint32_t index, uint32_t at)
{
    if (seq_leq(at, s.w.now))
        at = s.w.now + 1;
    if (!model.set[index] || seq_lt(at, model.at[index]))
        model.at[index] = at;
    model.set[index] = true;
    twheel_set(&s.w, index, at);
}

static bool model_due(uint32_t now)
{
    for (uint32_t i = 0; i < NODES; i++)
        if (model.set[i] && seq_leq(model.at[i], now))
            return true;
    return false;
}

static void expire_some(uint32_t now, uint32_t *budget)
{
    uint32_t index, last = s.w.now;
    while ((index = twheel_expired(&s.w, now, budget)) != TWHEEL_NONE) {
        assert_true(model.set[index] && seq_leq(model.at[index], now));
        assert_int_equal(model.at[index], s.w.now); /* at its tick, in order */
        assert_true(seq_geq(s.w.now, last));
        assert_true(s.fetch[index]); /* before it was looked at */
        s.fetch[index] = 0;
        last = s.w.now;
        model.set[index] = false;
    }
}

static void expire_one_go(uint32_t now, struct rng *rng)
{
    (void)rng;
    uint32_t budget = UINT32_MAX;
    expire_some(now, &budget);
    assert_false(model_due(now));
}

/* A few at a time, and what else happens in between. */
static void expire_by_turns(uint32_t now, struct rng *rng)
{
    uint32_t at;
    for (uint32_t budget = 0; budget == 0;) {
        budget = 1 + (uint32_t)rng_below(rng, 5);
        expire_some(now, &budget);
        if (budget == 0 && model_due(now))
            assert_true(twheel_next(&s.w, &at) && seq_leq(at, now));
        if (budget == 0 && rng_below(rng, 2))
            model_set((uint32_t)rng_below(rng, NODES), s.w.now + (uint32_t)rng_below(rng, 1u << rng_below(rng, 24)));
    }
    assert_false(model_due(now));
}

/* Whatever order nodes go in. */
static void bins_are_few(void)
{
    uint32_t set = 0;
    for (uint32_t i = 0; i < NODES; i++)
        set += model.set[i];
    assert_in_range(s.w.bins_n, set > 0, set);
    assert_in_range(s.w.touched, s.w.bins_n, NODES);
}

static void test_against_a_list(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 11);
    open_at(0xffff0000);
    memset(&model, 0, sizeof model);
    for (uint32_t round = 0, now = s.w.now; round < 20000; round++) {
        uint32_t index = (uint32_t)rng_below(&rng, NODES), bits = (uint32_t)rng_below(&rng, 24);
        if (rng_below(&rng, 8) == 0) {
            twheel_stop(&s.w, index);
            model.set[index] = false;
        } else {
            model_set(index, s.w.now + (uint32_t)rng_below(&rng, 2u << bits));
        }
        bins_are_few();
        if (rng_below(&rng, 4) == 0)
            (rng_below(&rng, 2) ? expire_one_go
                                : expire_by_turns)(now += (uint32_t)rng_below(&rng, 1u << rng_below(&rng, 20)), &rng);
    }
    expire_one_go(s.w.now + (1u << 25), &rng);
    assert_int_equal(s.w.bins_n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_distance),           cmocka_unit_test(test_past_comes_up_next_tick),
        cmocka_unit_test(test_moves_only_to_sooner),    cmocka_unit_test(test_next),
        cmocka_unit_test(test_cost_is_that_of_the_due), cmocka_unit_test(test_against_a_list),
        cmocka_unit_test(test_many_in_one_tick),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
