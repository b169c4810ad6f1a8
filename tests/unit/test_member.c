/* test_member.c - joining a cluster, keeping the lease, the deadline; under a virtual clock. */
#include "cluster/own/member.h"

#include "tests/unit/fake_coord.h"

#include "spool/base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define SEC 1000000ull

struct house {
    struct fake_coord *coord;
    struct member_config cfg;
    struct member *m;
    struct rng rng;
    uint64_t deadline;
    int64_t lease;
    uint32_t leases, losses, left;
    char refused[256];
};

static void on_deadline(void *arg, uint64_t boot_us)
{
    ((struct house *)arg)->deadline = boot_us;
}

static void on_lease(void *arg, int64_t lease)
{
    struct house *h = arg;
    h->lease = lease;
    h->leases += lease != 0;
    h->losses += lease == 0;
    assert_true(lease || h->deadline == 0); /* the gate closes first */
}

static void on_refused(void *arg, const char *why)
{
    snprintf(((struct house *)arg)->refused, 256, "%s", why);
}

static void on_left(void *arg)
{
    ((struct house *)arg)->left++;
}

static void open_member(struct house *h)
{
    struct member_app app = {on_deadline, on_lease, on_refused, h};
    assert_int_equal(member_open(&h->m, &h->cfg, &app, &h->coord->base, &h->rng, &fake_clock), 0);
}

/* As a new process of the same node. */
static void reopen_member(struct house *h)
{
    member_close(&h->m);
    open_member(h);
}

static int setup(void **state)
{
    struct house *h = calloc(1, sizeof *h);
    log_level_now = LOG_LEVEL_ERROR;
    h->coord = fake_coord_open();
    rng_seed(&h->rng, 7);
    h->cfg =
        (struct member_config){.ttl_s = 10, .margin_us = SEC, .pool_default = {.copies = 2, .acks = 2, .shards = 8}};
    struct map_node *n = &h->cfg.self;
    *n = (struct map_node){.storage = {{1}}, .weight = 100};
    snprintf(n->name, sizeof n->name, "b");
    snprintf(n->address, sizeof n->address, "10.0.0.2:7400");
    open_member(h);
    *state = h;
    return 0;
}

static int teardown(void **state)
{
    struct house *h = *state;
    struct coord *c = &h->coord->base;
    c->ops->close(&c);
    member_close(&h->m);
    free(h);
    return 0;
}

/* As the node's loop: poll, tick, move the clock to the next event or the end. */
static void run(struct house *h, uint64_t us)
{
    uint64_t end = fake_now_us + us;
    for (;;) {
        fake_coord_poll(&h->coord->base);
        member_tick(h->m);
        uint64_t next = member_next_us(h->m), calls = fake_coord_next_us(&h->coord->base);
        next = calls < next ? calls : next;
        if (next > end)
            break;
        fake_now_us = next > fake_now_us ? next : fake_now_us;
    }
    fake_now_us = end;
    fake_coord_poll(&h->coord->base);
    member_tick(h->m);
}

static void give_map(struct house *h)
{
    const struct cmap *map = fake_coord_map(h->coord);
    member_map(h->m, map);
    cmap_unref(map);
}

static void assert_in(struct house *h)
{
    assert_true(h->lease != 0);
    assert_true(h->deadline > fake_now_us);
    assert_non_null(fake_coord_get(h->coord, "live/b"));
    assert_string_equal(h->refused, "");
}

/* ---- joining */

static void founds_a_cluster(void **state)
{
    struct house *h = *state;
    run(h, 100000);
    assert_in(h);
    const struct cmap *map = fake_coord_map(h->coord);
    assert_false(storage_id_zero(&map->cluster));
    assert_int_equal(map->pools_n, 1);
    assert_int_equal(map->pools[0].shards, 8);
    const struct map_node *n = cmap_node(map, "b");
    assert_true(n && n->live && n->state == NODE_ACTIVE);
    assert_string_equal(n->pool, "shared");
    cmap_unref(map);
}

static void joins_with_a_pool_of_its_own(void **state)
{
    struct house *h = *state;
    fake_coord_set(h->coord, "meta", "{\"id\":\"aa000000000000000000000000000000\",\"version\":1}");
    fake_coord_set(h->coord, "pools/shared", "{\"copies\":3,\"acks\":2,\"shards\":64}");
    snprintf(h->cfg.self.pool, sizeof h->cfg.self.pool, "acme");
    reopen_member(h);
    run(h, 100000);
    assert_in(h);
    const struct cmap *map = fake_coord_map(h->coord);
    assert_int_equal(map->cluster.b[0], 0xaa);
    assert_int_equal(cmap_pool(map, slice_str("shared"))->shards, 64);
    assert_string_equal(cmap_pool(map, slice_str("acme"))->fallback, "shared");
    cmap_unref(map);
}

static void configuration_changed(void **state)
{
    struct house *h = *state;
    run(h, 100000);
    fake_coord_set(h->coord, "nodes/b",
                   "{\"storage\":\"01000000000000000000000000000000\",\"address\":\"10.0.0.9:1\",\"pool\":\"shared\","
                   "\"state\":\"cordoned\"}");
    reopen_member(h); /* the former process's live/b is taken over at once */
    h->lease = 0;
    run(h, 100000);
    assert_in(h);
    const struct cmap *map = fake_coord_map(h->coord);
    assert_string_equal(cmap_node(map, "b")->address, "10.0.0.2:7400");
    assert_int_equal(cmap_node(map, "b")->state, NODE_CORDONED);
    cmap_unref(map);
}

static void expect_refused(struct house *h, const char *word)
{
    run(h, 100000);
    assert_non_null(strstr(h->refused, word));
    assert_int_equal(h->lease, 0);
    assert_null(fake_coord_get(h->coord, "pools/shared"));
}

static void name_of_another_storage(void **state)
{
    struct house *h = *state;
    fake_coord_set(h->coord, "nodes/b", "{\"storage\":\"02000000000000000000000000000000\",\"address\":\"x:1\"}");
    expect_refused(h, "satchelctl node replace b");
    fake_coord_set(h->coord, "nodes/b", NULL); /* the operator did */
    run(h, 10 * SEC);
    assert_in(h);
}

static void storage_of_another_name(void **state)
{
    struct house *h = *state;
    fake_coord_set(h->coord, "nodes/a", "{\"storage\":\"01000000000000000000000000000000\",\"address\":\"x:1\"}");
    expect_refused(h, "registered as node a");
}

/* Its registration is gone, and its process is not. */
static void name_still_live(void **state)
{
    struct house *h = *state;
    fake_coord_set(h->coord, "live/b", "{\"storage\":\"02000000000000000000000000000000\",\"boot\":\"1\"}");
    expect_refused(h, "still runs under the node name b");
    fake_coord_set(h->coord, "live/b", NULL);
    run(h, 10 * SEC);
    assert_in(h);
}

static void another_cluster(void **state)
{
    struct house *h = *state;
    fake_coord_set(h->coord, "meta", "{\"id\":\"aa000000000000000000000000000000\",\"version\":1}");
    h->cfg.cluster = (struct storage_id){{0xbb}};
    reopen_member(h);
    expect_refused(h, "coordination holds cluster aa");
}

static void emptied_coordination(void **state)
{
    struct house *h = *state;
    h->cfg.cluster = (struct storage_id){{0xbb}};
    reopen_member(h);
    expect_refused(h, "coordination is empty");
    h->cfg.in_memory = true;
    h->refused[0] = 0;
    reopen_member(h);
    run(h, 100000);
    assert_in(h);
    assert_non_null(strstr(fake_coord_get(h->coord, "meta"), "bb0000"));
}

static void newer_cluster(void **state)
{
    struct house *h = *state;
    fake_coord_set(h->coord, "meta", "{\"id\":\"aa000000000000000000000000000000\",\"version\":99}");
    expect_refused(h, "upgrade this node");
}

static void nonsense(void **state)
{
    struct house *h = *state;
    fake_coord_set(h->coord, "nodes/a", "{\"storage\":42}");
    expect_refused(h, "nodes/a");
}

/* ---- the lease */

static void deadline_counts_from_sending(void **state)
{
    struct house *h = *state;
    run(h, 100000);
    uint64_t sent = fake_now_us;
    h->coord->delay_us = 2 * SEC;
    run(h, 10 * SEC);
    assert_in(h);
    for (int i = 0; i < 50; i++) {
        run(h, SEC / 3);
        assert_true(h->deadline <= fake_now_us + 9 * SEC - 2 * SEC + SEC / 3); /* never as if just sent */
        assert_true(h->deadline > fake_now_us);
    }
    assert_true(h->deadline > sent + 20 * SEC);
    assert_int_equal(h->coord->grants, 1);
    assert_int_equal(h->losses, 0);
}

/* Whoever sees live/b gone may deliver: our deadline is past by then, always. */
static void gone_means_past_the_deadline(void **state)
{
    struct house *h = *state;
    run(h, 20 * SEC);
    uint64_t last = h->deadline;
    struct coord *c = &h->coord->base;
    while (fake_coord_get(h->coord, "live/b")) { /* this process is stopped */
        fake_now_us += SEC / 10;
        kvstore_expire(h->coord->store, fake_now_us);
    }
    assert_true(fake_now_us >= last + SEC - SEC / 10);
    assert_int_equal(h->deadline, last);
    (void)c;
    run(h, SEC); /* and goes on */
    assert_int_equal(h->losses, 1);
    assert_int_equal(h->leases, 2);
    assert_in(h);
}

/* The store kept the lease through an outage.  Before the deadline nothing is told.  After it what stands there may be
 * older than what we know (a snapshot): owners close before the gate opens, and ask anew. */
static void outage(void **state)
{
    struct house *h = *state;
    struct member_info info;
    uint32_t ttl;
    run(h, SEC);
    int64_t lease = h->lease;
    h->coord->away = true;
    run(h, 5 * SEC);
    h->coord->away = false;
    run(h, 5 * SEC);
    assert_in(h);
    assert_int_equal(h->losses, 0);
    h->coord->away = true;
    run(h, 30 * SEC);
    assert_true(h->deadline <= fake_now_us);
    assert_int_equal(h->lease, lease);
    member_info(h->m, &info);
    assert_true(info.leased);
    kvstore_keepalive(h->coord->store, lease, fake_now_us, &ttl); /* etcd's new leader gives leases time */
    h->coord->away = false;
    run(h, 5 * SEC);
    assert_in(h);
    assert_int_equal(h->lease, lease);
    assert_int_equal(h->losses, 1); /* with the gate closed: see on_lease */
    assert_int_equal(h->leases, 2);
    member_info(h->m, &info);
    assert_int_equal(info.losses, 0);
    run(h, 20 * SEC);
    assert_int_equal(h->losses, 1);
}

static void lost_and_regained(void **state)
{
    struct house *h = *state;
    run(h, SEC);
    int64_t lease = h->lease;
    kvstore_revoke(h->coord->store, lease);
    run(h, 5 * SEC);
    assert_int_equal(h->losses, 1);
    assert_true(h->lease != lease);
    assert_in(h);
}

static void live_deleted_by_hand(void **state)
{
    struct house *h = *state;
    run(h, SEC);
    fake_coord_set(h->coord, "live/b", NULL);
    give_map(h);
    assert_int_equal(h->lease, 0); /* others may think we are dead */
    assert_int_equal(h->deadline, 0);
    run(h, 4 * SEC);
    assert_in(h);
    assert_int_equal(h->coord->grants, 1);
}

static void removed_while_running(void **state)
{
    struct house *h = *state;
    run(h, SEC);
    give_map(h);
    assert_in(h);
    fake_coord_set(h->coord, "nodes/b", NULL);
    give_map(h);
    assert_int_equal(h->deadline, 0);
    run(h, 20 * SEC);
    assert_non_null(strstr(h->refused, "was removed"));
    assert_null(fake_coord_get(h->coord, "live/b"));
    assert_null(fake_coord_get(h->coord, "nodes/b"));
    h->refused[0] = 0;
    reopen_member(h);
    run(h, SEC);
    assert_in(h);
}

/* A map from before we joined says nothing. */
static void old_maps_are_ignored(void **state)
{
    struct house *h = *state;
    const struct cmap *old = fake_coord_map(h->coord);
    run(h, SEC);
    member_map(h->m, old);
    cmap_unref(old);
    run(h, SEC);
    assert_in(h);
}

/* The answer to the joining txn was lost: it is looked at again, not repeated blindly. */
static void unknown_outcome(void **state)
{
    struct house *h = *state;
    h->coord->mute = 2;
    run(h, 20 * SEC);
    assert_in(h);
    assert_true(h->coord->txns <= 5);
}

static void leave(void **state)
{
    struct house *h = *state;
    run(h, SEC);
    member_leave(h->m, on_left, h);
    assert_int_equal(h->left, 0);
    run(h, SEC);
    assert_int_equal(h->left, 1);
    assert_int_equal(h->lease, 0);
    assert_null(fake_coord_get(h->coord, "live/b"));
    assert_non_null(fake_coord_get(h->coord, "nodes/b"));
    run(h, 20 * SEC);
    assert_int_equal(h->left, 1);
    assert_int_equal(h->coord->grants, 1);
}

static void leave_without_coordination(void **state)
{
    struct house *h = *state;
    run(h, SEC);
    h->coord->away = true;
    member_leave(h->m, on_left, h);
    run(h, 7 * SEC);
    assert_int_equal(h->left, 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(founds_a_cluster),
        T(joins_with_a_pool_of_its_own),
        T(configuration_changed),
        T(name_of_another_storage),
        T(storage_of_another_name),
        T(name_still_live),
        T(another_cluster),
        T(emptied_coordination),
        T(newer_cluster),
        T(nonsense),
        T(deadline_counts_from_sending),
        T(gone_means_past_the_deadline),
        T(outage),
        T(lost_and_regained),
        T(live_deleted_by_hand),
        T(removed_while_running),
        T(old_maps_are_ignored),
        T(unknown_outcome),
        T(leave),
        T(leave_without_coordination),
    };
    return cmocka_run_group_tests_name("member", tests, NULL, NULL);
}
