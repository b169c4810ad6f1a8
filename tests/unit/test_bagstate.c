/* test_bagstate.c - the states of a domain on its way out, with a clock that is a number. */
#include "dataplane/relay/bagstate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct bagstate_config *cfg = &bagstate_config_default;
#define S 1000000ull

static void step(struct bagstate *b, enum bag_event e, uint64_t now)
{
    bagstate_step(b, cfg, e, e == BAG_TAKEN ? 1000 : 0, now, 4);
}

static struct bagstate in_state(enum relay_state s)
{
    struct bagstate b;
    bagstate_init(&b, 1);
    if (s == RELAY_DOWN)
        step(&b, BAG_UNREACHABLE, 0);
    if (s == RELAY_CANARY || s == RELAY_DRAINING)
        step(&b, BAG_REACHED, 0);
    for (int i = 0; s == RELAY_DRAINING && i < 3; i++)
        step(&b, BAG_TAKEN, 0);
    assert_int_equal(b.state, s);
    return b;
}

/* One probe at a time, growing waits, never above the cap, whatever is queued. */
static void probes(void **state)
{
    (void)state;
    struct bagstate b = in_state(RELAY_DOWN);
    uint64_t now = 0, last = 0;
    for (int i = 0; i < 30; i++) {
        assert_false(bagstate_may_connect(&b, b.next_probe_us - 1, 0));
        uint64_t wait = b.next_probe_us - now;
        assert_true(wait <= cfg->probe_max_us && wait >= cfg->probe_min_us * 3 / 4);
        assert_true(wait + cfg->probe_max_us / 4 >= last);
        last = wait;
        now = b.next_probe_us;
        assert_true(bagstate_may_connect(&b, now, 0));
        step(&b, BAG_TRY, now);
        assert_false(bagstate_may_connect(&b, now, 1));
        step(&b, BAG_UNREACHABLE, now);
    }
    assert_true(last >= cfg->probe_max_us * 3 / 4);
    step(&b, BAG_KICK, now);
    assert_true(bagstate_may_connect(&b, now, 0));
}

static void failures_at_the_same_time_count_once(void **state)
{
    (void)state;
    struct bagstate b = in_state(RELAY_DRAINING);
    for (int i = 0; i < 4; i++)
        step(&b, BAG_LOST, S);
    assert_int_equal(b.state, RELAY_DOWN);
    assert_int_equal(b.failures, 1);
}

static void canary_then_ramp(void **state)
{
    (void)state;
    struct bagstate b = in_state(RELAY_DOWN);
    step(&b, BAG_TRY, 10 * S);
    step(&b, BAG_REACHED, 10 * S);
    assert_int_equal(b.state, RELAY_CANARY);
    assert_true(bagstate_one_by_one(&b));
    assert_false(bagstate_may_connect(&b, 10 * S, 1));
    for (int i = 0; i < 3; i++)
        step(&b, BAG_TAKEN, 10 * S);
    assert_int_equal(b.state, RELAY_DRAINING);
    assert_int_equal(b.width, 1);
    assert_int_equal(b.failures, 0);
    for (int i = 0; i < 8; i++)
        step(&b, BAG_TAKEN, 10 * S);
    assert_int_equal(b.width, 2);
    for (int i = 0; i < 100; i++)
        step(&b, BAG_TAKEN, 10 * S);
    assert_int_equal(b.width, 4); /* the domain's limit */
    step(&b, BAG_DEFERRED, 10 * S);
    assert_int_equal(b.width, 2);
    step(&b, BAG_EMPTY, 10 * S);
    assert_int_equal(b.state, RELAY_UP);
}

static void a_canary_that_fails_keeps_its_backoff(void **state)
{
    (void)state;
    struct bagstate b = in_state(RELAY_DOWN);
    for (uint32_t i = 2; i < 6; i++) {
        step(&b, BAG_TRY, b.next_probe_us);
        step(&b, BAG_REACHED, b.next_probe_us);
        step(&b, BAG_BUSY, 100 * S);
        assert_int_equal(b.state, RELAY_BROWNOUT);
        assert_int_equal(b.failures, i);
    }
}

static void refusals_after_an_outage(void **state)
{
    (void)state;
    struct bagstate b = in_state(RELAY_DOWN);
    step(&b, BAG_TRY, 10 * S);
    step(&b, BAG_REACHED, 10 * S);
    assert_false(bagstate_believes(&b, cfg, 0));
    assert_true(bagstate_believes(&b, cfg, 5)); /* often enough */
    step(&b, BAG_REFUSED, 10 * S);
    step(&b, BAG_REFUSED, 10 * S);
    assert_int_equal(b.state, RELAY_CANARY);
    step(&b, BAG_REFUSED, 10 * S);
    assert_int_equal(b.state, RELAY_BROWNOUT);
    /* one that is taken among them makes the others credible */
    step(&b, BAG_REACHED, 20 * S);
    step(&b, BAG_TAKEN, 20 * S);
    assert_true(bagstate_believes(&b, cfg, 0));
}

static void first_contact_is_believed(void **state)
{
    (void)state;
    struct bagstate b = in_state(RELAY_CANARY);
    assert_true(bagstate_believes(&b, cfg, 0));
}

static void slow(void **state)
{
    (void)state;
    struct bagstate b = in_state(RELAY_DRAINING);
    for (int i = 0; i < 20; i++)
        bagstate_step(&b, cfg, BAG_TAKEN, 20 * S, 0, 4);
    assert_int_equal(b.state, RELAY_BROWNOUT);
    assert_true(bagstate_may_send(&b)); /* it goes on, one by one */
    assert_int_equal(b.width, 1);
    for (int i = 0; i < 60; i++)
        step(&b, BAG_TAKEN, 0);
    assert_int_equal(b.state, RELAY_DRAINING);
}

static void full_primary(void **state)
{
    (void)state;
    struct bagstate b = in_state(RELAY_DRAINING);
    for (int i = 0; i < 4; i++)
        step(&b, BAG_DEFERRED, 0);
    assert_int_equal(b.state, RELAY_DRAINING);
    step(&b, BAG_DEFERRED, 0);
    assert_int_equal(b.state, RELAY_BROWNOUT);
    assert_false(bagstate_may_send(&b));
}

static void crowded(void **state)
{
    (void)state;
    struct bagstate b = in_state(RELAY_DRAINING);
    for (int i = 0; i < 200; i++)
        step(&b, BAG_TAKEN, 0);
    bagstate_step(&b, cfg, BAG_CROWDED, 2, 0, 4);
    assert_int_equal(b.state, RELAY_DRAINING);
    assert_int_equal(b.width, 2);
    for (int i = 0; i < 900; i++)
        step(&b, BAG_TAKEN, 0);
    assert_int_equal(b.width, 2);
}

static void held(void **state)
{
    (void)state;
    for (enum relay_state s = RELAY_IDLE; s != RELAY_UP; s = s == RELAY_IDLE ? RELAY_DRAINING : RELAY_UP) {
        struct bagstate b = in_state(s);
        step(&b, BAG_HOLD, 0);
        step(&b, BAG_REACHED, 0);
        step(&b, BAG_LOST, 0);
        step(&b, BAG_TAKEN, 0);
        assert_int_equal(b.state, RELAY_HELD);
        assert_false(bagstate_may_connect(&b, 1000 * S, 0) || bagstate_may_send(&b));
        step(&b, BAG_UNHOLD, 0);
        assert_int_equal(b.state, RELAY_IDLE);
    }
}

/* Whatever happens: width within 1..max, a probe planned while away, messages only where the primary answers. */
static void any_order(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 7);
    for (int seed = 0; seed < 200; seed++) {
        struct bagstate b;
        uint64_t now = 0;
        bagstate_init(&b, (uint64_t)seed);
        for (int i = 0; i < 300; i++) {
            now += rng_below(&rng, 10 * S);
            bagstate_step(&b, cfg, (enum bag_event)rng_below(&rng, BAG_KICK + 1), rng_below(&rng, 20 * S), now, 4);
            assert_true(b.width >= 1);
            bool away = b.state == RELAY_DOWN || (b.state == RELAY_BROWNOUT && !b.slow);
            if (away)
                assert_true(b.next_probe_us > 0 && b.next_probe_us <= now + cfg->probe_max_us);
            assert_false(away && bagstate_may_send(&b));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probes),
        cmocka_unit_test(failures_at_the_same_time_count_once),
        cmocka_unit_test(canary_then_ramp),
        cmocka_unit_test(a_canary_that_fails_keeps_its_backoff),
        cmocka_unit_test(refusals_after_an_outage),
        cmocka_unit_test(first_contact_is_believed),
        cmocka_unit_test(slow),
        cmocka_unit_test(full_primary),
        cmocka_unit_test(crowded),
        cmocka_unit_test(held),
        cmocka_unit_test(any_order),
    };
    return cmocka_run_group_tests_name("bagstate", tests, NULL, NULL);
}
