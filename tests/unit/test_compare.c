/* test_compare.c - copies that differ: comparison, merging, shedding, scrubbing. */
#include "tests/unit/copies_rig.h"

/* ---- comparison */

static bool same(uint32_t shard, uint32_t a, uint32_t b)
{
    for (uint32_t n = 1; n < 3000; n++) {
        const struct fmsg *x = &net.nodes[a].msgs[n], *y = &net.nodes[b].msgs[n];
        if ((x->what == 1 && x->domain % SHARDS == shard) || (y->what == 1 && y->domain % SHARDS == shard))
            if (x->what != y->what || x->ends != y->ends)
                return false;
    }
    return true;
}

static bool all_same(void)
{
    for (uint32_t s = 0; s < SHARDS; s++) {
        const struct map_shard *m = &net.shards[s];
        for (uint32_t i = 1; i < m->members_n; i++)
            if (!same(s, fnode_index(&m->members[0]), fnode_index(&m->members[i])))
                return false;
    }
    return true;
}

/* Messages live, final in part, final or not there, at random; nothing that was final anywhere stays live. */
static void scatter(uint64_t seed, uint32_t n)
{
    struct rng r;
    rng_seed(&r, seed);
    for (uint32_t i = 1; i <= n; i++) {
        uint32_t d = (uint32_t)rng_below(&r, DOMAINS);
        for (uint32_t k = 0; k < net.n; k++) {
            struct fmsg *m = &net.nodes[k].msgs[i];
            uint64_t x = rng_below(&r, 20);
            if (x < 3)
                continue;
            fput(&net.nodes[k], i, d, 2);
            if (x == 3) {
                *m = (struct fmsg){.what = 2, .domain = (uint8_t)d, .items = 2, .ends = 0x11, .seq = 1};
            } else if (x == 4) {
                m->live = 1;
                m->ends = 0x10;
                m->seq = 1;
            }
        }
    }
}

static void check_scattered(uint32_t n)
{
    for (uint32_t i = 1; i <= n; i++) {
        bool final = false, any = false;
        for (uint32_t k = 0; k < net.n; k++)
            final |= net.nodes[k].msgs[i].what == 2;
        for (uint32_t k = 0; k < net.n; k++) {
            any |= net.nodes[k].msgs[i].what != 0;
            if (final)
                assert_int_not_equal(net.nodes[k].msgs[i].what, 1);
        }
        (void)any;
    }
}

static void test_comparison_heals(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        uint32_t n = 2 + (uint32_t)(seed % 3);
        fstart(n, n, 2, seed, &cfg);
        for (uint32_t a = 0; a < n; a++)
            fisolate(a, true);
        scatter(seed, 200 + (uint32_t)(seed % 7) * 300);
        net.loss = seed % 4 ? 0 : 150;
        for (uint32_t a = 0; a < n; a++)
            fisolate(a, false);
        for (int i = 0; i < 40 && net.loss; i++) {
            frun(100000, NULL);
            for (uint32_t a = 0; a < n; a++)
                fisolate(a, false);
        }
        net.loss = 0;
        for (uint32_t a = 0; a < n; a++)
            fisolate(a, false);
        if (!frun(60000000, all_same))
            fail_msg("not equal: seed %llu", (unsigned long long)seed);
        check_scattered(2200);
        for (uint32_t s = 0; s < SHARDS; s++) {
            frun(11000000, NULL);
            assert_int_equal(copies_synced(net.nodes[s % n].copies, s), (1u << n) - 1);
        }
        if (seed < 60)
            fstop();
    }
}

static void test_sync_bit(void **state)
{
    struct freq q;
    (void)state;
    fstart(3, 3, 2, 1, &cfg);
    assert_int_equal(copies_synced(net.nodes[0].copies, 0), 1);
    frun(100000, NULL);
    assert_int_equal(copies_synced(net.nodes[0].copies, 0), 7);
    assert_true(net.nodes[0].synced_calls > 0);
    fisolate(1, true);
    assert_int_equal(copies_synced(net.nodes[0].copies, 0), 5);
    fisolate(1, false);
    frun(100000, NULL);
    assert_int_equal(copies_synced(net.nodes[0].copies, 0), 7);
    net.nodes[2].full = true; /* refuses what we send: not in sync until a comparison says so */
    freq_send(&q, 0, 1, 0, 0);
    frun(10000, NULL);
    assert_int_equal(q.res, 0);
    assert_int_equal(copies_synced(net.nodes[0].copies, 0), 3);
    frun(2000000, NULL);
    assert_int_equal(copies_synced(net.nodes[0].copies, 0), 3);
    net.nodes[2].full = false;
    frun(11000000, NULL);
    assert_int_equal(copies_synced(net.nodes[0].copies, 0), 7);
    assert_int_equal(net.nodes[2].msgs[1].what, 1);
}

static void test_merge(void **state)
{
    (void)state;
    cfg.compare_us = 1000000000;
    fstart(3, 3, 2, 1, &cfg);
    frun(100000, NULL);
    for (uint32_t n = 1; n <= 1500; n++) {
        fput(&net.nodes[0], n, 0, 1);
        fput(&net.nodes[1], n, 0, 1);
        net.nodes[1].msgs[n] = (struct fmsg){.what = n % 2 ? 2 : 1, .items = 1, .live = n % 2 ? 0 : 1, .ends = n % 2};
    }
    frun(300000, NULL); /* the picture of the bags is made anew */
    answered = 1;
    copies_merge(net.nodes[0].copies, 0, 2000000, on_done, NULL);
    assert_int_equal(answered, 1);
    frun(1000000, NULL);
    assert_int_equal(answered, 0);
    for (uint32_t n = 1; n <= 1500; n++) {
        assert_int_equal(net.nodes[0].msgs[n].what, n % 2 ? 2 : 1);
        assert_int_equal(net.nodes[2].msgs[n].what, n % 2 ? 2 : 1); /* was told, too */
    }
    fisolate(2, true);
    answered = 1;
    copies_merge(net.nodes[0].copies, 0, 2000000, on_done, NULL);
    frun(1900000, NULL);
    assert_int_equal(answered, 1);
    frun(200000, NULL);
    assert_int_equal(answered, -SATCHEL_EAGAIN);
}

/* One member brings a message that another one knows to be over, and was asked before: it is asked again. */
static void test_merge_asks_again(void **state)
{
    (void)state;
    cfg.compare_us = 1000000000;
    fstart(3, 3, 2, 1, &cfg);
    frun(100000, NULL);
    fput(&net.nodes[1], 1, 0, 1);
    fput(&net.nodes[1], 2, 0, 1);
    net.nodes[2].msgs[1] = (struct fmsg){.what = 2, .items = 1, .ends = 1};
    net.nodes[2].top = 1;
    frun(300000, NULL); /* the picture of the bags is made anew */
    answered = 1;
    copies_merge(net.nodes[0].copies, 0, 2000000, on_done, NULL);
    for (int i = 0; i < 1000 && answered == 1; i++)
        frun(1000, NULL);
    assert_int_equal(answered, 0);
    assert_int_equal(net.nodes[0].msgs[1].what, 2);
    assert_int_equal(net.nodes[0].msgs[2].what, 1);
}

/* Nobody waits for a node whose lease has ended and whose link is down: adoption would take that much longer. */
static void test_merge_does_not_wait_for_the_dead(void **state)
{
    (void)state;
    fstart(3, 3, 2, 1, &cfg);
    frun(100000, NULL);
    fisolate(2, true);
    net.map_nodes[2].live = false;
    fmap_tell();
    answered = 1;
    copies_merge(net.nodes[0].copies, 0, 2000000, on_done, NULL);
    frun(500000, NULL);
    assert_int_equal(answered, -SATCHEL_EAGAIN);
}

static void test_large_bag_little_traffic(void **state)
{
    (void)state;
    fstart(2, 2, 2, 1, &cfg);
    fisolate(1, true);
    for (uint32_t n = 1; n <= 100000; n++) {
        fput(&net.nodes[0], n, 0, 1);
        if (n != 54321)
            fput(&net.nodes[1], n, 0, 1);
    }
    net.bytes = 0;
    fisolate(1, false);
    frun(2000000, NULL);
    assert_int_equal(net.nodes[1].msgs[54321].what, 1);
    assert_true(net.bytes < 100000);
    assert_int_equal(net.frames[FRAME_PUT], 1);
}

static void test_chunked_repair(void **state)
{
    (void)state;
    fstart(2, 2, 2, 1, &cfg);
    fisolate(1, true);
    fput(&net.nodes[0], 1, 0, 1);
    net.nodes[0].msgs[1].chunks = 3;
    fput(&net.nodes[0], 2, 0, 1);
    fisolate(1, false);
    frun(1000000, NULL);
    assert_int_equal(net.nodes[1].msgs[1].what, 1);
    assert_int_equal(net.nodes[1].msgs[1].chunks, 3);
    assert_int_equal(net.nodes[1].msgs[2].what, 1);
}

/* ---- what is not ours */

static void test_shed(void **state)
{
    (void)state;
    fstart(4, 3, 2, 1, &cfg);
    fisolate(2, true);
    for (uint32_t n = 1; n <= 1200; n++)
        fput(&net.nodes[3], n, 0, 1);
    net.nodes[0].msgs[7] = (struct fmsg){.what = 2, .items = 1, .ends = 1};
    fmembers(0, "012", "3");
    fmap_tell();
    frun(2000000, NULL);
    assert_int_equal(net.nodes[0].msgs[1].what, 0); /* node 2 lives, and is waited for */
    frun(3000000, NULL);
    for (uint32_t n = 1; n <= 1200; n++) { /* those who are there have it; it is not forgotten */
        assert_int_equal(net.nodes[0].msgs[n].what, n == 7 ? 2 : 1);
        assert_int_equal(net.nodes[3].msgs[n].what, n == 7 ? 2 : 1);
    }
    assert_int_equal(net.nodes[3].forgets, 0);
    assert_int_equal(net.nodes[3].emptied[0], 0);
    fisolate(2, false);
    frun(3000000, NULL);
    for (uint32_t n = 1; n <= 1200; n++) {
        assert_int_equal(net.nodes[2].msgs[n].what == 1, n != 7);
        assert_int_not_equal(net.nodes[3].msgs[n].what, 1);
    }
    assert_true(net.nodes[3].emptied[0] > 0);
}

/* A message came to a stand-in when its owner had it already: nobody owes the stand-in the end of it.  The owner of
 * today, who never had it, is not offered it while another member knows better, though that one's link is the last. */
static void test_shed_asks_the_owner_last(void **state)
{
    (void)state;
    fstart(4, 3, 2, 1, &cfg);
    frun(100000, NULL);
    fisolate(2, true);
    fput(&net.nodes[3], 1, 0, 1);
    fput(&net.nodes[3], 2, 0, 1);
    net.nodes[2].msgs[1] = (struct fmsg){.what = 2, .items = 1, .ends = 1};
    net.nodes[2].top = 1;
    fmembers(0, "012", "3");
    fmap_tell();
    for (int ms = 0; ms < 5000; ms++) {
        frun(1000, NULL);
        assert_int_not_equal(net.nodes[0].msgs[1].what, 1);
        if (ms == 1000)
            fisolate(2, false);
    }
    assert_int_equal(net.nodes[3].msgs[1].what, 2);
    assert_int_equal(net.nodes[0].msgs[2].what, 1);
    assert_int_not_equal(net.nodes[3].msgs[2].what, 1);
}

/* The one that should take it does not think that it is a member: nothing is forgotten. */
static void test_shed_refused_by_non_member(void **state)
{
    (void)state;
    fstart(3, 1, 1, 1, &cfg);
    fput(&net.nodes[2], 1, 0, 1);
    fmembers(0, "0", "");
    fmap_tell();
    static struct map_shard other[SHARDS];
    static struct cmap stale;
    stale = fmaps[fmap_turn];
    memcpy(other, net.shards, sizeof other);
    other[0].members[0] = other[0].owner = net.nodes[1].id;
    stale.shards = other;
    copies_map(net.nodes[0].copies, &stale);
    frun(3000000, NULL);
    assert_int_equal(net.nodes[2].msgs[1].what, 1);
    assert_int_equal(net.nodes[2].forgets, 0);
}

static void test_emptied_waits_for_ends(void **state)
{
    (void)state;
    fstart(4, 2, 2, 1, &cfg);
    fput(&net.nodes[0], 1, 0, 1);
    fput(&net.nodes[3], 1, 0, 1);
    fisolate(3, true);
    fdeliver(0, 1, 1 << 3 | 1, 0);
    fisolate(1, true);
    fmembers(0, "12", "0");
    fmap_tell();
    frun(3000000, NULL);
    assert_int_equal(net.nodes[0].emptied[0], 0); /* node 1 does not know yet */
    fisolate(1, false);
    flink(1, 3, false);
    frun(20000000, NULL);
    assert_int_equal(net.nodes[1].msgs[1].what, 2);
    assert_int_equal(net.nodes[1].msgs[1].owed, 1 << 3);
    assert_int_equal(net.nodes[2].msgs[1].what, 2);
    assert_true(net.nodes[0].emptied[0] > 0);
}

static void test_scrub(void **state)
{
    (void)state;
    cfg.scrub_bytes_s = 100000;
    fstart(2, 2, 2, 1, &cfg);
    for (uint32_t n = 1; n <= 50; n++) {
        fput(&net.nodes[0], n, 0, 1);
        fput(&net.nodes[1], n, 0, 1);
    }
    net.nodes[0].msgs[33].damaged = true;
    frun(70000000, NULL);
    assert_false(net.nodes[0].msgs[33].damaged);
    struct copies_info info;
    copies_info(net.nodes[0].copies, &info);
    assert_int_equal(info.scrub_repaired, 1);
}

/* One copy is damaged and there is no other: nobody is asked for it without end, and everything else counts as compared
 * after a while. */
static void test_damaged_alone(void **state)
{
    struct copies_info info;
    (void)state;
    cfg.scrub_bytes_s = 100000;
    fstart(3, 3, 2, 1, &cfg);
    for (uint32_t n = 1; n <= 50; n++)
        fput(&net.nodes[1], n, 0, 1);
    net.nodes[1].msgs[33].damaged = true;
    frun(20000000, NULL);
    assert_int_equal(copies_synced(net.nodes[0].copies, 0), 5);
    uint64_t wants = net.frames[FRAME_WANT];
    frun(80000000, NULL);
    assert_int_equal(copies_synced(net.nodes[0].copies, 0), 7);
    assert_true(net.frames[FRAME_WANT] < wants + 40); /* two a comparison, and what the repair asks once a minute */
    copies_info(net.nodes[1].copies, &info);
    assert_int_equal(info.scrub_repaired, 0);
    for (uint32_t n = 1; n <= 50; n++)
        assert_int_equal(net.nodes[2].msgs[n].what, n == 33 ? 0 : 1);
    fput(&net.nodes[2], 33, 0, 1); /* a disk that was thought lost */
    frun(130000000, NULL);
    assert_false(net.nodes[1].msgs[33].damaged);
    assert_int_equal(net.nodes[0].msgs[33].what, 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_comparison_heals),
        T(test_sync_bit),
        T(test_merge),
        T(test_merge_asks_again),
        T(test_merge_does_not_wait_for_the_dead),
        T(test_large_bag_little_traffic),
        T(test_chunked_repair),
        T(test_shed),
        T(test_shed_asks_the_owner_last),
        T(test_shed_refused_by_non_member),
        T(test_emptied_waits_for_ends),
        T(test_scrub),
        T(test_damaged_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
