/* test_gate.c - the relay's door behind the gate: grants, deadlines, claims that are withdrawn, two threads at once. */
#include "tests/unit/fake_outlet.h"

#include "cluster/own/gate.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define BATCH 8

static uint64_t now_us;

static uint64_t fake_boot(void *ctx)
{
    (void)ctx;
    return now_us;
}

static const struct clock test_clock = {fake_boot, fake_boot, NULL};

/* "3.test" lies in shard 3. */
static uint32_t shard_of(void *arg, struct slice domain)
{
    (void)arg;
    return domain.n && domain.p[0] >= '0' && domain.p[0] <= '9' ? (uint32_t)(domain.p[0] - '0') : UINT32_MAX;
}

struct house {
    struct gate *gate;
    struct fake_outlet *in;
    struct outlet *out;
};

static int setup(void **state)
{
    struct house *h = calloc(1, sizeof *h);
    now_us = 1000;
    assert_int_equal(gate_open(&h->gate, &test_clock, shard_of, NULL), 0);
    h->in = fake_open();
    assert_int_equal(gate_outlet(h->gate, &h->in->o, &h->out), 0);
    gate_deadline(h->gate, 2000);
    *state = h;
    return 0;
}

static int teardown(void **state)
{
    struct house *h = *state;
    h->out->ops->close(&h->out);
    assert_true(h->in->closed);
    gate_close(&h->gate);
    fake_free(h->in);
    free(h);
    return 0;
}

static void add(struct house *h, const char *domain)
{
    fake_add(h->in, domain, "s@sender.test", "a@x b@x", "hi", 0);
}

static size_t claim(struct house *h, const char *domain, struct outlet_msg **m)
{
    return h->out->ops->claim(h->out, slice_str(domain), CLAIM_DUE, 0, m, BATCH);
}

static bool readable(const struct outlet *o)
{
    struct pollfd p = {o->fd, POLLIN, 0};
    return poll(&p, 1, 0) == 1;
}

static void only_granted_shards(void **state)
{
    struct house *h = *state;
    struct outlet_msg *m[BATCH];
    struct slice domain;
    struct bag_stat st;
    add(h, "3.test");
    add(h, "4.test");
    add(h, "none.test");
    assert_false(h->out->ops->ready(h->out, &domain));
    assert_int_equal(claim(h, "3.test", m), 0);
    gate_grant(h->gate, 3, true);
    fake_announce(h->in, "4.test");
    fake_announce(h->in, "3.test");
    fake_announce(h->in, "none.test");
    assert_true(h->out->ops->ready(h->out, &domain));
    assert_true(slice_eq(domain, slice_str("3.test")));
    assert_false(h->out->ops->ready(h->out, &domain));
    assert_int_equal(claim(h, "4.test", m), 0);
    assert_int_equal(claim(h, "none.test", m), 0);
    assert_int_equal(claim(h, "3.test", m), 1);
    assert_int_equal(gate_claims(h->gate, 3), 1);
    h->out->ops->stat(h->out, slice_str("3.test"), &st);
    assert_int_equal(st.messages, 1);
    h->out->ops->stat(h->out, slice_str("4.test"), &st);
    assert_int_equal(st.messages, 0);
    h->out->ops->release(h->out, m[0]);
    assert_int_equal(gate_claims(h->gate, 3), 0);
    gate_grant(h->gate, GATE_SHARDS_MAX, true);
    assert_false(gate_granted(h->gate, GATE_SHARDS_MAX));
    assert_false(gate_granted(h->gate, UINT32_MAX));
}

/* A process that was stopped past its deadline: nobody had to run for the gate to be closed. */
static void deadline(void **state)
{
    struct house *h = *state;
    struct outlet_msg *m[BATCH], *later[BATCH];
    struct item_result put_off = {.item = 0, .end = ITEM_LIVE};
    add(h, "3.test");
    add(h, "3.test");
    gate_grant(h->gate, 3, true);
    assert_int_equal(claim(h, "3.test", m), 2);
    assert_true(h->out->ops->may(h->out, m[0]));
    now_us = 2000;
    assert_false(h->out->ops->may(h->out, m[0]));
    assert_false(gate_may(h->gate, 3));
    assert_int_equal(h->out->ops->finish(h->out, m[0], &put_off, 1, 0, false, NULL), -SATCHEL_EAGAIN);
    assert_int_equal(fake_look(h->in, 0).m.state.attempts, 0);
    assert_int_equal(claim(h, "3.test", later), 0);
    gate_deadline(h->gate, 3000); /* the lease never ended */
    assert_true(h->out->ops->may(h->out, m[1]));
    assert_int_equal(claim(h, "3.test", later), 1);
    gate_deadline(h->gate, 0);
    assert_false(h->out->ops->may(h->out, m[1]));
    h->out->ops->release(h->out, later[0]);
    h->out->ops->release(h->out, m[1]);
}

/* The spool itself withdrew it: its end came from elsewhere. */
static void what_is_over_inside(void **state)
{
    struct house *h = *state;
    struct outlet_msg *m[BATCH];
    struct slice domain;
    struct item_result bounced = {.item = 0, .end = ITEM_BOUNCED};
    add(h, "3.test");
    add(h, "3.test");
    gate_grant(h->gate, 3, true);
    assert_int_equal(claim(h, "3.test", m), 2);
    while (h->out->ops->ready(h->out, &domain))
        ;
    fake_end(h->in, 1);
    assert_true(h->out->ops->ready(h->out, &domain));
    assert_true(slice_eq(domain, slice_str("3.test")));
    assert_true(h->out->ops->may(h->out, m[0]));
    assert_false(h->out->ops->may(h->out, m[1]));
    assert_int_equal(h->out->ops->finish(h->out, m[1], &bounced, 1, 0, false, NULL), -SATCHEL_EAGAIN);
    assert_int_equal(gate_claims(h->gate, 3), 1);
    h->out->ops->release(h->out, m[0]);
}

/* The shard was closed and opened again: somebody else may have delivered these in between. */
static void old_claims_stay_withdrawn(void **state)
{
    struct house *h = *state;
    struct outlet_msg *m[BATCH];
    struct slice domain;
    add(h, "3.test");
    add(h, "3.test");
    gate_grant(h->gate, 3, true);
    while (h->out->ops->ready(h->out, &domain))
        ;
    assert_int_equal(claim(h, "3.test", m), 2);
    assert_true(h->out->ops->sleep(h->out));
    assert_false(readable(h->out));
    gate_grant(h->gate, 3, false);
    gate_grant(h->gate, 3, false);
    assert_true(readable(h->out));
    assert_false(h->out->ops->sleep(h->out));
    assert_true(h->out->ops->ready(h->out, &domain));
    assert_true(slice_eq(domain, slice_str("3.test")));
    h->out->ops->release(h->out, m[0]);
    while (h->out->ops->ready(h->out, &domain))
        ;
    assert_false(readable(h->out));
    assert_true(h->out->ops->sleep(h->out));
    gate_grant(h->gate, 3, true);
    gate_grant(h->gate, 3, true);
    assert_true(gate_may(h->gate, 3));
    assert_false(h->out->ops->may(h->out, m[1]));
    assert_int_equal(gate_claims(h->gate, 3), 1);
    h->out->ops->release(h->out, m[1]);
    assert_int_equal(claim(h, "3.test", m), 2);
    assert_true(h->out->ops->may(h->out, m[0]));
    h->out->ops->release(h->out, m[1]);
    h->out->ops->release(h->out, m[0]);
}

/* What the primary took is true, whoever owns the shard by now. */
static void delivered_is_said_late(void **state)
{
    struct house *h = *state;
    struct outlet_msg *m[BATCH];
    struct item_result res[2] = {{.item = 0, .end = ITEM_DELIVERED}, {.item = 1, .end = ITEM_DELIVERED}};
    add(h, "3.test");
    add(h, "3.test");
    gate_grant(h->gate, 3, true);
    assert_int_equal(claim(h, "3.test", m), 2);
    gate_grant(h->gate, 3, false);
    assert_int_equal(h->out->ops->finish(h->out, m[0], res, 2, 0, false, NULL), 0);
    res[0].end = res[1].end = ITEM_DELETED;
    assert_int_equal(h->out->ops->finish(h->out, m[1], res, 2, 0, false, NULL), -SATCHEL_EAGAIN);
    assert_int_equal(fake_count(h->in, "3.test", ITEM_DELIVERED), 2);
    assert_int_equal(fake_count(h->in, "3.test", ITEM_LIVE), 2);
    assert_int_equal(gate_claims(h->gate, 3), 0);
}

static void doubt_stops_expiry(void **state)
{
    struct house *h = *state;
    struct outlet_msg *m[BATCH];
    add(h, "3.test");
    gate_grant(h->gate, 3, true);
    gate_clock_doubt(h->gate, true);
    assert_int_equal(h->out->ops->claim(h->out, slice_str("3.test"), CLAIM_OLDER, UINT64_MAX, m, BATCH), 0);
    assert_int_equal(claim(h, "3.test", m), 1);
    h->out->ops->release(h->out, m[0]);
    gate_clock_doubt(h->gate, false);
    assert_int_equal(h->out->ops->claim(h->out, slice_str("3.test"), CLAIM_OLDER, UINT64_MAX, m, BATCH), 1);
    h->out->ops->release(h->out, m[0]);
}

/* ---- two threads */

struct pair {
    struct house *h;
    atomic_bool stop;
    atomic_uint holds, worked; /* holds: claims that the relay's thread believes to stand */
};

static void *relay_main(void *arg)
{
    struct pair *p = arg;
    struct house *h = p->h;
    struct outlet_msg *m[BATCH];
    struct slice domain;
    while (!atomic_load(&p->stop)) {
        while (h->out->ops->ready(h->out, &domain))
            ;
        size_t n = claim(h, "3.test", m);
        for (size_t i = 0; i < n; i++) {
            atomic_fetch_add(&p->worked, h->out->ops->may(h->out, m[i]));
            atomic_fetch_add(&p->holds, 1);
        }
        for (size_t i = 0; i < n; i++) {
            atomic_fetch_sub(&p->holds, 1);
            h->out->ops->release(h->out, m[i]);
        }
    }
    return NULL;
}

static void closing_races_claiming(void **state)
{
    struct pair p = {.h = *state};
    struct gate *g = p.h->gate;
    pthread_t t;
    for (int i = 0; i < 4; i++)
        add(p.h, "3.test");
    gate_grant(g, 3, true);
    pthread_create(&t, NULL, relay_main, &p);
    for (int i = 0; i < 3000; i++) {
        gate_grant(g, 3, false);
        while (gate_claims(g, 3) > 0)
            ;
        for (int k = 0; k < 20; k++)
            assert_int_equal(atomic_load(&p.holds), 0);
        gate_grant(g, 3, true);
    }
    uint64_t end = clock_boot_us(clock_system()) + 5000000;
    while (atomic_load(&p.worked) == 0 && clock_boot_us(clock_system()) < end)
        ;
    atomic_store(&p.stop, true);
    pthread_join(t, NULL);
    assert_true(atomic_load(&p.worked) > 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(only_granted_shards),    T(deadline),           T(old_claims_stay_withdrawn), T(what_is_over_inside),
        T(delivered_is_said_late), T(doubt_stops_expiry), T(closing_races_claiming),
    };
    return cmocka_run_group_tests_name("gate", tests, NULL, NULL);
}
