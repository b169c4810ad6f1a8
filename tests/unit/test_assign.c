/* The assignment: rules, movement and balance over many seeds. */
#include "cluster/map/assign.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "spool/base/rng.h"
#include "tests/unit/map_rig.h"

enum { NODES = 40, SHARDS = 600 };

struct rig {
    struct map_node nodes[NODES];
    struct map_pool pools[2];
    struct map_shard shards[SHARDS];
    struct cmap draft;
    bool lost[NODES]; /* by node number, not by index */
    struct assign_want want[SHARDS];
    struct assign_stat stat;
};

static void rig_init(struct rig *r, uint32_t nodes, uint32_t zones, uint32_t copies, uint32_t shards)
{
    *r = (struct rig){0};
    for (uint32_t i = 0; i < nodes; i++) {
        char zone[16] = "";
        if (zones)
            snprintf(zone, sizeof zone, "z%u", i % zones);
        r->nodes[i] = rig_node(i, zone, POOL_SHARED);
    }
    r->pools[0] = (struct map_pool){.name = POOL_SHARED, .copies = copies, .acks = 1, .shards = shards};
    r->draft = (struct cmap){
        .nodes = r->nodes, .nodes_n = nodes, .pools = r->pools, .pools_n = 1, .shards = r->shards, .shards_n = shards};
    for (uint32_t i = 0; i < shards; i++)
        r->shards[i].number = i;
}

/* Computes only. */
static void rig_compute(struct rig *r)
{
    const struct cmap *m = cmap_copy(&r->draft);
    bool lost[NODES];
    for (uint32_t i = 0; i < m->nodes_n; i++)
        lost[i] = r->lost[rig_index(&m->nodes[i].storage)];
    struct assign_input in = {m, lost};
    assert_int_equal(assign_compute(&in, r->want, &r->stat), 0);
    cmap_unref(m);
}

/* Computes, and takes the plan as done. */
static void rig_assign(struct rig *r)
{
    rig_compute(r);
    for (uint32_t i = 0; i < r->draft.shards_n; i++) {
        r->shards[i].owner = r->want[i].owner;
        r->shards[i].members_n = r->want[i].members_n;
        memcpy(r->shards[i].members, r->want[i].members, sizeof r->shards[i].members);
        r->shards[i].mod_rev = 1;
    }
}

static void rig_done_is_done(struct rig *r)
{
    rig_compute(r);
    assert_int_equal(r->stat.copies_moved, 0);
    assert_int_equal(r->stat.owners_moved, 0);
}

static uint32_t zones_of(const struct rig *r, const struct map_shard *s)
{
    uint32_t zones = 0;
    for (uint8_t i = 0; i < s->members_n; i++) {
        const struct map_node *n = &r->nodes[rig_index(&s->members[i])];
        bool seen = false;
        for (uint8_t j = 0; j < i; j++)
            seen |= n->zone[0] && strcmp(r->nodes[rig_index(&s->members[j])].zone, n->zone) == 0;
        zones += !seen;
    }
    return zones;
}

static uint32_t owned(const struct rig *r, uint32_t node)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->draft.shards_n; i++)
        n += storage_id_eq(&r->shards[i].owner, &r->nodes[node].storage);
    return n;
}

static uint32_t stored(const struct rig *r, uint32_t node)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->draft.shards_n; i++)
        n += cmap_is_member(&r->shards[i], &r->nodes[node].storage);
    return n;
}

static void check_shape(const struct rig *r, uint32_t zones, uint32_t copies)
{
    for (uint32_t i = 0; i < r->draft.shards_n; i++) {
        const struct map_shard *s = &r->shards[i];
        assert_int_equal(s->members_n, copies);
        assert_true(cmap_is_member(s, &s->owner));
        assert_int_equal(zones_of(r, s), zones < copies ? zones : copies);
        for (uint8_t a = 0; a < s->members_n; a++)
            for (uint8_t b = 0; b < a; b++)
                assert_false(storage_id_eq(&s->members[a], &s->members[b]));
    }
}

static void random_fleets(void **state)
{
    (void)state;
    uint64_t had_all = 0, moved_all = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct rng rng;
        struct rig r;
        rng_seed(&rng, seed);
        uint32_t nodes = 6 + (uint32_t)rng_below(&rng, NODES - 6), zones = 1 + (uint32_t)rng_below(&rng, 6);
        uint32_t copies = 1 + (uint32_t)rng_below(&rng, 4), usable_zones = zones < nodes ? zones : nodes;
        rig_init(&r, nodes, zones, copies, SHARDS);
        for (uint32_t i = 0; i < nodes; i++)
            r.nodes[i].weight = 50 + (uint32_t)rng_below(&rng, 150);
        rig_assign(&r);
        check_shape(&r, usable_zones, copies);
        rig_done_is_done(&r);

        /* One that leaves takes its own along and little else. */
        uint32_t gone = (uint32_t)rng_below(&rng, nodes), had = stored(&r, gone);
        r.nodes[gone].state = NODE_DRAINING;
        rig_assign(&r);
        assert_int_equal(stored(&r, gone), 0);
        had_all += had;
        moved_all += r.stat.copies_moved;
        rig_done_is_done(&r);
    }
    assert_in_range(moved_all, had_all, had_all + had_all / 10);
}

static void the_same_everywhere(void **state)
{
    (void)state;
    struct rig a, b;
    rig_init(&a, 20, 4, 3, SHARDS);
    rig_init(&b, 20, 4, 3, SHARDS);
    for (uint32_t i = 0; i < 10; i++) { /* in another order */
        struct map_node n = b.nodes[i];
        b.nodes[i] = b.nodes[19 - i];
        b.nodes[19 - i] = n;
    }
    rig_compute(&a);
    rig_compute(&b);
    assert_memory_equal(a.want, b.want, sizeof a.want);
}

static void balance_and_movement(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 5, 0, 3, SHARDS); /* 120 shards a node */
    r.nodes[4].live = false;
    r.lost[4] = true;
    rig_assign(&r);
    for (uint32_t i = 0; i < 4; i++)
        assert_in_range(owned(&r, i), 135, 165);
    r.nodes[4].live = true; /* a new node gets its share, and nobody else moves */
    r.lost[4] = false;
    rig_assign(&r);
    assert_in_range(r.stat.copies_moved, 350, 370);
    assert_in_range(r.stat.owners_moved, 110, 130);
    assert_in_range(stored(&r, 4), 350, 370);
    for (uint32_t i = 0; i < 5; i++)
        assert_in_range(owned(&r, i), 108, 132);
    uint32_t had = stored(&r, 2), owned_before = owned(&r, 2);
    r.nodes[2].live = false;
    r.lost[2] = true;
    rig_assign(&r);
    assert_int_equal(r.stat.copies_moved, had);
    assert_in_range(r.stat.owners_moved, owned_before, owned_before + owned_before / 10);
}

static void weights_count(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 6, 0, 2, SHARDS);
    r.nodes[0].weight = 300; /* of 800 */
    rig_assign(&r);
    assert_in_range(stored(&r, 0), 405, 495);
    assert_in_range(owned(&r, 0), 200, 250);
    assert_in_range(stored(&r, 1), 130, 170);
}

/* Dead for a short time: copies stay, ownership goes; cordoned: all stays and nothing comes. */
static void states_of_nodes(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 6, 3, 3, SHARDS);
    rig_assign(&r);
    uint32_t had = stored(&r, 1), own = owned(&r, 1);
    r.nodes[1].live = false;
    rig_assign(&r);
    assert_int_equal(r.stat.copies_moved, 0);
    assert_int_equal(stored(&r, 1), had);
    assert_int_equal(owned(&r, 1), 0);
    r.nodes[1].live = true;
    rig_assign(&r);
    assert_int_equal(r.stat.copies_moved, 0);
    assert_in_range(owned(&r, 1), own * 9 / 10, own * 11 / 10);

    r.nodes[1].state = NODE_CORDONED;
    had = stored(&r, 1);
    own = owned(&r, 1);
    r.nodes[3].state = NODE_DRAINING;
    rig_assign(&r);
    assert_int_equal(stored(&r, 1), had);
    assert_int_equal(owned(&r, 1), own);
    assert_int_equal(stored(&r, 3), 0);
    check_shape(&r, 3, 3);
}

static void too_few_nodes(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 2, 0, 3, 64);
    rig_assign(&r);
    assert_int_equal(r.stat.copies_short, 64);
    assert_int_equal(stored(&r, 0), 64);
    assert_int_equal(stored(&r, 1), 64);
    r.draft.nodes_n = 0;
    rig_compute(&r);
    assert_int_equal(r.stat.copies_short, 3 * 64);
    assert_true(storage_id_zero(&r.want[0].owner));
}

/* A label that comes late is a rule, too. */
static void zones_are_repaired(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 9, 0, 3, SHARDS);
    rig_assign(&r);
    for (uint32_t i = 0; i < 9; i++)
        snprintf(r.nodes[i].zone, sizeof r.nodes[i].zone, "z%u", i / 3);
    rig_assign(&r);
    check_shape(&r, 3, 3);
    rig_done_is_done(&r);
}

static void pools_and_their_fallback(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 8, 0, 3, SHARDS);
    r.draft.pools_n = 2;
    r.pools[0].shards = SHARDS - 8;
    r.pools[1] = (struct map_pool){
        .name = "vip", .copies = 2, .acks = 1, .shards = 8, .fallback = POOL_SHARED, .first = SHARDS - 8};
    for (uint32_t i = 0; i < 8; i++)
        r.shards[SHARDS - 8 + i].pool = 1, r.shards[SHARDS - 8 + i].number = i;
    for (uint32_t i = 6; i < 8; i++)
        snprintf(r.nodes[i].pool, sizeof r.nodes[i].pool, "vip");
    rig_assign(&r);
    assert_int_equal(stored(&r, 6), 8);
    assert_int_equal(stored(&r, 7), 8);
    r.nodes[6].live = false;
    rig_assign(&r);
    assert_int_equal(owned(&r, 7), 8);
    r.nodes[7].live = false;
    rig_assign(&r);
    assert_int_equal(stored(&r, 6) + stored(&r, 7), 0);
    for (uint32_t i = SHARDS - 8; i < SHARDS; i++)
        assert_int_equal(r.shards[i].members_n, 2);
    r.nodes[6].live = r.nodes[7].live = true; /* heal */
    rig_assign(&r);
    assert_int_equal(stored(&r, 6), 8);
    assert_int_equal(owned(&r, 6) + owned(&r, 7), 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_fleets),        cmocka_unit_test(the_same_everywhere),
        cmocka_unit_test(balance_and_movement), cmocka_unit_test(weights_count),
        cmocka_unit_test(states_of_nodes),      cmocka_unit_test(too_few_nodes),
        cmocka_unit_test(zones_are_repaired),   cmocka_unit_test(pools_and_their_fallback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
