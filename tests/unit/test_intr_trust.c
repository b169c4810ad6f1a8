/* test_intr_trust.c - when a device's interrupts are believed, and when no longer. */
#include "dataplane/net/intr_trust.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static struct intr_trust trust;

static int setup(void **state)
{
    (void)state;
    intr_trust_init(&trust);
    return 0;
}

/* One sleep; told: an interrupt ended it. */
static bool woke(bool told, bool frames)
{
    unsigned armed = intr_trust_arm(&trust);
    if (told)
        intr_trust_came(&trust);
    return intr_trust_woke(&trust, armed, frames);
}

static void a_device_shows_first_that_it_tells(void **state)
{
    (void)state;
    assert_false(intr_trusted(&trust));
    assert_false(woke(true, false)); /* its link came: no frames */
    assert_false(intr_trusted(&trust));
    assert_true(woke(true, true));
    assert_true(intr_trusted(&trust));
    assert_false(woke(true, true));
}

static void one_that_never_tells_is_never_trusted(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100; i++)
        assert_false(woke(false, true));
    assert_false(intr_trusted(&trust));
}

static void one_that_tells_no_more_loses_it(void **state)
{
    (void)state;
    woke(true, true);
    for (unsigned i = 1; i < INTR_UNTOLD_MAX; i++) {
        assert_false(woke(false, true));
        assert_false(woke(false, false)); /* for something else */
        assert_true(intr_trusted(&trust));
    }
    assert_true(woke(false, true));
    assert_false(intr_trusted(&trust));
    assert_true(woke(true, true));
    assert_true(intr_trusted(&trust));
}

static void frames_on_their_way_cost_no_trust(void **state)
{
    (void)state;
    woke(true, true);
    for (unsigned i = 0; i < 100; i++)
        assert_false(woke(i % INTR_UNTOLD_MAX == 0, true));
    assert_true(intr_trusted(&trust));
}

/* Many sleep on one queue.  Who wakes after the first finds the interrupt taken, and its frames not yet. */
static void one_interrupt_tells_all_who_slept(void **state)
{
    (void)state;
    unsigned armed[2 * INTR_UNTOLD_MAX];
    woke(true, true);
    for (unsigned i = 0; i < 2 * INTR_UNTOLD_MAX; i++)
        armed[i] = intr_trust_arm(&trust);
    intr_trust_came(&trust);
    for (unsigned i = 0; i < 2 * INTR_UNTOLD_MAX; i++)
        assert_false(intr_trust_woke(&trust, armed[i], true));
    assert_true(intr_trusted(&trust));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_device_shows_first_that_it_tells, setup),
        cmocka_unit_test_setup(one_that_never_tells_is_never_trusted, setup),
        cmocka_unit_test_setup(one_that_tells_no_more_loses_it, setup),
        cmocka_unit_test_setup(frames_on_their_way_cost_no_trust, setup),
        cmocka_unit_test_setup(one_interrupt_tells_all_who_slept, setup),
    };
    return cmocka_run_group_tests_name("intr_trust", tests, NULL, NULL);
}
