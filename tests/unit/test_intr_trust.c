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

static void a_device_shows_first_that_it_tells(void **state)
{
    (void)state;
    assert_false(intr_trusted(&trust));
    assert_false(intr_trust_woke(&trust, true, false)); /* its link came: no frames */
    assert_false(intr_trusted(&trust));
    assert_true(intr_trust_woke(&trust, true, true));
    assert_true(intr_trusted(&trust));
    assert_false(intr_trust_woke(&trust, true, true));
}

static void one_that_never_tells_is_never_trusted(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100; i++)
        assert_false(intr_trust_woke(&trust, false, true));
    assert_false(intr_trusted(&trust));
}

static void one_that_tells_no_more_loses_it(void **state)
{
    (void)state;
    intr_trust_woke(&trust, true, true);
    for (unsigned i = 1; i < INTR_UNTOLD_MAX; i++) {
        assert_false(intr_trust_woke(&trust, false, true));
        assert_false(intr_trust_woke(&trust, false, false)); /* for something else */
        assert_true(intr_trusted(&trust));
    }
    assert_true(intr_trust_woke(&trust, false, true));
    assert_false(intr_trusted(&trust));
    assert_true(intr_trust_woke(&trust, true, true));
    assert_true(intr_trusted(&trust));
}

static void frames_on_their_way_cost_no_trust(void **state)
{
    (void)state;
    intr_trust_woke(&trust, true, true);
    for (unsigned i = 0; i < 100; i++)
        assert_false(intr_trust_woke(&trust, i % INTR_UNTOLD_MAX == 0, true));
    assert_true(intr_trusted(&trust));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_device_shows_first_that_it_tells, setup),
        cmocka_unit_test_setup(one_that_never_tells_is_never_trusted, setup),
        cmocka_unit_test_setup(one_that_tells_no_more_loses_it, setup),
        cmocka_unit_test_setup(frames_on_their_way_cost_no_trust, setup),
    };
    return cmocka_run_group_tests_name("intr_trust", tests, NULL, NULL);
}
