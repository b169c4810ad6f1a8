/* The leader against a store that means what etcd means, and owners played by the test: nodes die, join, drain, pools
 * fall back and heal, two lead at once, answers get lost. */
#include "cluster/map/leader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cluster/coord/kvstore.h"
#include "spool/base/err.h"
#include "spool/base/rng.h"
#include "tests/unit/map_rig.h"

enum { NODES = 8, SHARDS = 24, CALLS = 64, LEADERS = 2 };
#define SECOND 1000000ull

struct call {
    struct kvstore_txn_args *args;
    coord_txn_done *done;
    void *arg;
};

struct rig;

struct seat {
    struct coord coord; /* first: what the leader calls */
    struct rig *rig;
    struct leader *leader;
    struct call calls[CALLS];
    size_t calls_n;
    int64_t lease;
    bool cut;           /* its maps are old */
    uint32_t succeeded; /* txns, while it was cut */
};

struct rig {
    struct kvstore *store;
    uint64_t now;
    struct clock clock;
    struct rng rng;
    struct seat seats[LEADERS];
    size_t seats_n;
    struct map_node nodes[NODES];
    uint32_t nodes_n;
    const struct cmap *map;
    bool holds[SHARDS * 2][NODES]; /* this storage has all mail of the shard */
    uint32_t lossy_percent;        /* answers that get lost */
    uint32_t under_way_most;
    bool owners_sleep;
};

static uint64_t rig_now(void *ctx)
{
    return ((struct rig *)ctx)->now;
}

static int seat_txn(struct coord *c, const struct coord_cmp *cmps, size_t cmps_n, const struct coord_op *ops,
                    size_t ops_n, coord_txn_done *done, void *arg)
{
    struct seat *s = (struct seat *)c;
    assert_true(cmps_n <= COORD_TXN_OPS_MAX && ops_n <= COORD_TXN_OPS_MAX && s->calls_n < CALLS);
    s->calls[s->calls_n++] = (struct call){kvstore_txn_copy(cmps, cmps_n, ops, ops_n), done, arg};
    return 0;
}

/* ---- the store */

static bool put(struct rig *r, const char *key, char *value, int64_t mod_rev, int64_t lease)
{
    bool ok;
    int64_t rev;
    struct coord_cmp cmp = {slice_str(key), mod_rev};
    struct coord_op op = {.kind = COORD_PUT, .key = slice_str(key), .value = slice_str(value), .lease = lease};
    assert_int_equal(kvstore_txn(r->store, &cmp, mod_rev >= 0, &op, 1, &ok, &rev), 0);
    free(value);
    return ok;
}

static void put_node(struct rig *r, uint32_t i)
{
    char key[CMAP_KEY_MAX];
    snprintf(key, sizeof key, "nodes/%s", r->nodes[i].name);
    put(r, key, cmap_node_encode(&r->nodes[i]), -1, 0);
    snprintf(key, sizeof key, "live/%s", r->nodes[i].name);
    bool ok;
    int64_t rev;
    struct coord_op gone = {.kind = COORD_DELETE, .key = slice_str(key)};
    if (r->nodes[i].live)
        put(r, key, cmap_live_encode(&r->nodes[i], 1), -1, 0);
    else
        kvstore_txn(r->store, NULL, 0, &gone, 1, &ok, &rev);
}

static void set_live(struct rig *r, uint32_t i, bool live)
{
    r->nodes[i].live = live;
    put_node(r, i);
}

static void set_state(struct rig *r, uint32_t i, enum node_state state)
{
    r->nodes[i].state = state;
    put_node(r, i);
}

static void node_remove(struct rig *r, uint32_t i)
{
    char key[CMAP_KEY_MAX];
    bool ok;
    int64_t rev;
    set_live(r, i, false);
    snprintf(key, sizeof key, "nodes/%s", r->nodes[i].name);
    struct coord_op op = {.kind = COORD_DELETE, .key = slice_str(key)};
    assert_int_equal(kvstore_txn(r->store, NULL, 0, &op, 1, &ok, &rev), 0);
}

static void map_read(struct rig *r)
{
    const struct coord_kv *kvs;
    const struct cmap *m;
    char why[256] = "";
    size_t n = kvstore_list(r->store, SLICE_LIT(""), &kvs);
    if (cmap_decode(kvs, n, kvstore_rev(r->store), &m, why) < 0)
        fail_msg("%s", why);
    cmap_unref(r->map);
    r->map = m;
}

/* ---- the owners */

static bool live_storage(const struct rig *r, const struct storage_id *id)
{
    const struct map_node *n = storage_id_zero(id) ? NULL : cmap_storage(r->map, id);
    return n && n->live;
}

static void shard_put(struct rig *r, const struct map_shard *s)
{
    char key[CMAP_KEY_MAX];
    cmap_shard_key(r->map, s, key);
    put(r, key, cmap_shard_encode(s), s->mod_rev, 0);
}

/* Mail is copied from the owner to one member at a time, then reported. */
static void shard_copy(struct rig *r, uint32_t i)
{
    const struct map_shard *s = &r->map->shards[i];
    uint32_t synced = 0;
    for (uint8_t k = 0; k < s->members_n; k++)
        if (live_storage(r, &s->members[k]) && rng_below(&r->rng, 2))
            r->holds[i][rig_index(&s->members[k])] = true;
    for (uint8_t k = 0; k < s->members_n; k++)
        if (live_storage(r, &s->members[k]) && r->holds[i][rig_index(&s->members[k])])
            synced |= 1u << k;
    for (size_t k = 0; k < r->seats_n; k++)
        leader_report(r->seats[k].leader, i, s->epoch, leader_members_hash(s), synced);
}

static void shard_act(struct rig *r, uint32_t i)
{
    struct map_shard s = r->map->shards[i];
    bool next_live = live_storage(r, &s.next);
    if (live_storage(r, &s.owner))
        shard_copy(r, i);
    if (live_storage(r, &s.owner) && next_live && rng_below(&r->rng, 3) == 0) {
        s.owner = s.next;
        s.next = (struct storage_id){0};
        s.epoch++;
        shard_put(r, &s);
    } else if (live_storage(r, &s.owner) && s.former_n && live_storage(r, &s.former[0]) && rng_below(&r->rng, 3) == 0) {
        r->holds[i][rig_index(&s.former[0])] = false;
        memmove(s.former, s.former + 1, --s.former_n * sizeof *s.former);
        shard_put(r, &s);
    }
}

/* ---- rounds */

static void seat_serve(struct rig *r, struct seat *s)
{
    struct call calls[CALLS];
    size_t n = s->calls_n;
    memcpy(calls, s->calls, n * sizeof *calls);
    s->calls_n = 0;
    for (size_t i = 0; i < n; i++) {
        struct kvstore_txn_args *a = calls[i].args;
        bool ok = false, lost = rng_below(&r->rng, 100) < r->lossy_percent, before = rng_below(&r->rng, 2);
        int64_t rev = 0;
        int res =
            lost && before ? -SATCHEL_EAGAIN : kvstore_txn(r->store, a->cmps, a->cmps_n, a->ops, a->ops_n, &ok, &rev);
        free(a);
        s->succeeded += s->cut && ok;
        calls[i].done(calls[i].arg, lost ? -SATCHEL_EAGAIN : res, ok, rev);
    }
}

/* Who lives and owns has the mail, and whoever left was not needed. */
static void check(struct rig *r)
{
    for (uint32_t i = 0; i < r->map->shards_n; i++) {
        const struct map_shard *s = &r->map->shards[i];
        uint32_t have = 0;
        for (uint8_t k = 0; k < s->members_n; k++)
            have += r->holds[i][rig_index(&s->members[k])];
        if (s->mod_rev == 0)
            continue;
        assert_true(storage_id_zero(&s->owner) || r->holds[i][rig_index(&s->owner)]);
        assert_true(have >= cmap_shard_pool(r->map, s)->acks);
        for (uint8_t k = 0; k < s->former_n; k++)
            assert_false(cmap_is_member(s, &s->former[k]));
    }
}

/* Members of a new shard have all there is: nothing. */
static void note_new(struct rig *r, const struct cmap *before)
{
    for (uint32_t i = 0; i < r->map->shards_n; i++)
        for (uint8_t k = 0; (!before || before->shards[i].mod_rev == 0) && k < r->map->shards[i].members_n; k++)
            r->holds[i][rig_index(&r->map->shards[i].members[k])] = true;
}

static void round_once(struct rig *r)
{
    struct leader_info info;
    for (size_t k = 0; k < r->seats_n; k++)
        seat_serve(r, &r->seats[k]);
    const struct cmap *before = r->map ? cmap_ref(r->map) : NULL;
    map_read(r);
    if (!before || before->shards_n == r->map->shards_n)
        note_new(r, before);
    cmap_unref(before);
    for (size_t k = 0; k < r->seats_n; k++) {
        if (!r->seats[k].cut)
            leader_map(r->seats[k].leader, r->map);
        leader_tick(r->seats[k].leader);
        leader_info(r->seats[k].leader, &info);
        r->under_way_most = info.moves_under_way > r->under_way_most ? info.moves_under_way : r->under_way_most;
    }
    for (uint32_t i = 0; !r->owners_sleep && i < r->map->shards_n; i++)
        shard_act(r, i);
    r->now += SECOND / 5;
}

static void rounds(struct rig *r, uint32_t n)
{
    while (n--) {
        round_once(r);
        check(r);
    }
}

static struct leader_info lead_info(struct rig *r)
{
    struct leader_info info = {0}, one;
    for (size_t k = 0; k < r->seats_n; k++) {
        leader_info(r->seats[k].leader, &one);
        info = one.leading ? one : info;
    }
    return info;
}

static bool settled(struct rig *r)
{
    struct leader_info info = lead_info(r);
    bool calm = info.leading && !info.moves_planned && !info.moves_under_way && !info.shards_ownerless;
    for (uint32_t i = 0; i < r->map->shards_n; i++)
        calm &= r->map->shards[i].mod_rev && storage_id_zero(&r->map->shards[i].next);
    return calm;
}

static void until_settled(struct rig *r)
{
    for (int i = 0; i < 600; i++) {
        rounds(r, 1);
        if (settled(r))
            return;
    }
    fail_msg("not settled: planned %u, under way %u", lead_info(r).moves_planned, lead_info(r).moves_under_way);
}

static void seat_open(struct rig *r, uint32_t i)
{
    static const struct coord_ops ops = {.txn = seat_txn};
    struct seat *s = &r->seats[r->seats_n++];
    struct leader_config cfg = {
        .node = r->nodes[i].name, .self = r->nodes[i].storage, .period_us = SECOND, .changes = 4};
    *s = (struct seat){.coord = {&ops, -1}, .rig = r};
    assert_int_equal(leader_open(&s->leader, &cfg, &s->coord, &r->clock), 0);
    s->lease = kvstore_grant(r->store, 10, r->now);
    leader_lease(s->leader, s->lease);
}

static void put_pool(struct rig *r, const char *name, uint32_t copies, uint32_t acks, uint32_t shards,
                     const char *fallback)
{
    char key[CMAP_KEY_MAX];
    struct map_pool p = {.copies = copies, .acks = acks, .shards = shards};
    snprintf(p.fallback, sizeof p.fallback, "%s", fallback);
    snprintf(key, sizeof key, "pools/%s", name);
    put(r, key, cmap_pool_encode(&p), -1, 0);
}

static struct rig *rig_open(uint64_t seed, uint32_t nodes, size_t leaders)
{
    struct rig *r = calloc(1, sizeof *r);
    struct cmap meta = {.version = 1, .repair_delay_s = 10, .cluster = rig_storage(999)};
    r->store = kvstore_new();
    r->now = 100 * SECOND;
    r->clock = (struct clock){rig_now, rig_now, r};
    rng_seed(&r->rng, seed);
    put(r, "meta", cmap_meta_encode(&meta), -1, 0);
    put_pool(r, POOL_SHARED, 3, 2, SHARDS, "");
    for (r->nodes_n = 0; r->nodes_n < nodes; r->nodes_n++) {
        r->nodes[r->nodes_n] = rig_node(r->nodes_n, "", POOL_SHARED);
        put_node(r, r->nodes_n);
    }
    while (leaders--)
        seat_open(r, (uint32_t)r->seats_n);
    until_settled(r);
    return r;
}

static void rig_close(struct rig *r)
{
    for (size_t k = 0; k < r->seats_n; k++) {
        leader_close(&r->seats[k].leader);
        for (size_t i = 0; i < r->seats[k].calls_n; i++)
            free(r->seats[k].calls[i].args);
    }
    cmap_unref(r->map);
    kvstore_free(&r->store);
    free(r);
}

static uint32_t named(const struct rig *r, uint32_t node, bool former)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->map->shards_n; i++)
        n += cmap_is_member(&r->map->shards[i], &r->nodes[node].storage) ||
             (former && cmap_is_former(&r->map->shards[i], &r->nodes[node].storage));
    return n;
}

static uint32_t owned(const struct rig *r, uint32_t node)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->map->shards_n; i++)
        n += storage_id_eq(&r->map->shards[i].owner, &r->nodes[node].storage);
    return n;
}

/* ---- tests */

static void a_new_cluster(void **state)
{
    (void)state;
    struct rig *r = rig_open(1, 4, 1);
    for (uint32_t i = 0; i < SHARDS; i++) {
        assert_int_equal(r->map->shards[i].epoch, 1);
        assert_int_equal(r->map->shards[i].members_n, 3);
    }
    for (uint32_t i = 0; i < 4; i++)
        assert_in_range(owned(r, i), 5, 7);
    assert_string_equal(r->map->leader, "n0");
    rig_close(r);
}

/* Taken over at once; copied anew only after the delay; healed when it is back. */
static void a_node_dies_and_returns(void **state)
{
    (void)state;
    struct rig *r = rig_open(2, 5, 1);
    uint32_t had = named(r, 3, false);
    set_live(r, 3, false);
    rounds(r, 4);
    assert_int_equal(owned(r, 3), 0);
    assert_int_equal(lead_info(r).shards_ownerless, 0);
    rounds(r, 35);
    assert_int_equal(named(r, 3, false), had); /* 7.8 s of 10 */
    until_settled(r);
    rounds(r, 30);
    until_settled(r);
    assert_int_equal(named(r, 3, false), 0);
    assert_true(named(r, 3, true) > 0); /* it may still hold something */
    set_live(r, 3, true);
    until_settled(r);
    assert_true(named(r, 3, false) >= had - 3 && owned(r, 3) >= 3);
    rig_close(r);
}

static void a_short_death_copies_nothing(void **state)
{
    (void)state;
    struct rig *r = rig_open(3, 5, 1);
    uint32_t had = named(r, 3, false), own = owned(r, 3);
    set_live(r, 3, false);
    rounds(r, 20);
    set_live(r, 3, true);
    until_settled(r);
    assert_int_equal(named(r, 3, false), had);
    assert_in_range(owned(r, 3), own - 1, own + 1);
    for (uint32_t i = 0; i < SHARDS; i++)
        assert_int_equal(r->map->shards[i].former_n, 0);
    rig_close(r);
}

static void a_node_joins_step_by_step(void **state)
{
    (void)state;
    struct rig *r = rig_open(4, 4, 1);
    r->under_way_most = 0;
    r->nodes[4] = rig_node(4, "", POOL_SHARED);
    r->nodes_n = 5;
    put_node(r, 4);
    until_settled(r);
    assert_in_range(named(r, 4, false), 13, 15);
    assert_in_range(owned(r, 4), 4, 5);
    assert_in_range(r->under_way_most, 2, 4);
    rig_close(r);
}

static void a_node_is_drained(void **state)
{
    (void)state;
    struct rig *r = rig_open(5, 5, 1);
    set_state(r, 2, NODE_DRAINING);
    until_settled(r);
    for (int i = 0; i < 200 && named(r, 2, true); i++)
        rounds(r, 1);
    assert_int_equal(named(r, 2, true), 0);
    assert_int_equal(owned(r, 2), 0);
    rig_close(r);
}

/* Too few nodes to keep the acks: nothing leaves. */
static void a_drain_that_cannot_be(void **state)
{
    (void)state;
    struct rig *r = rig_open(6, 2, 1);
    set_state(r, 1, NODE_DRAINING);
    rounds(r, 100);
    assert_int_equal(named(r, 1, false), SHARDS);
    assert_int_equal(owned(r, 1), 0);
    rig_close(r);
}

static void nobody_without_the_mail_owns(void **state)
{
    (void)state;
    struct rig *r = rig_open(7, 5, 1);
    const struct map_shard was = r->map->shards[7];
    for (uint8_t i = 0; i < was.members_n; i++)
        set_live(r, rig_index(&was.members[i]), false);
    rounds(r, 100);
    assert_int_equal(r->map->shards[7].epoch, was.epoch);
    assert_true(lead_info(r).shards_ownerless > 0);
    set_live(r, rig_index(&was.members[1]), true);
    rounds(r, 4);
    assert_memory_equal(&r->map->shards[7].owner, &was.members[1], sizeof was.owner);
    rig_close(r);
}

/* When an operator has removed all its members, new mail must flow. */
static void a_shard_starts_anew(void **state)
{
    (void)state;
    struct rig *r = rig_open(8, 5, 1);
    const struct map_shard was = r->map->shards[7];
    for (uint8_t i = 0; i < was.members_n; i++)
        node_remove(r, rig_index(&was.members[i]));
    for (int i = 0; i < 20; i++)
        round_once(r);
    const struct map_shard *s = &r->map->shards[7];
    assert_int_equal(s->epoch, was.epoch + 1);
    assert_int_equal(s->members_n, 2);
    assert_int_equal(s->former_n, 0);
    assert_true(live_storage(r, &s->owner));
    rig_close(r);
}

static void a_pool_falls_back_and_heals(void **state)
{
    (void)state;
    struct rig *r = rig_open(9, 3, 1);
    for (uint32_t i = 3; i < 5; i++) {
        r->nodes[i] = rig_node(i, "", "vip");
        put_node(r, i);
    }
    put_pool(r, "vip", 2, 1, 4, POOL_SHARED);
    until_settled(r);
    assert_int_equal(named(r, 3, false), 4);
    assert_int_equal(owned(r, 3) + owned(r, 4), 4);
    set_live(r, 3, false);
    rounds(r, 5);
    assert_int_equal(owned(r, 4), 4);
    set_live(r, 4, false);
    for (int i = 0; i < 10; i++)
        round_once(r);
    assert_int_equal(owned(r, 3) + owned(r, 4), 0);
    assert_int_equal(lead_info(r).shards_ownerless, 0);
    for (uint32_t i = SHARDS; i < r->map->shards_n; i++)
        r->holds[i][rig_index(&r->map->shards[i].owner)] = true;
    until_settled(r);
    assert_int_equal(named(r, 3, false), 0);
    assert_int_equal(named(r, 3, true), 4);
    set_live(r, 3, true);
    set_live(r, 4, true);
    until_settled(r);
    assert_int_equal(named(r, 3, false), 4);
    assert_int_equal(owned(r, 3) + owned(r, 4), 4);
    for (int i = 0; i < 100; i++)
        rounds(r, 1);
    for (uint32_t i = SHARDS; i < r->map->shards_n; i++)
        assert_int_equal(r->map->shards[i].former_n, 0);
    rig_close(r);
}

static void a_dead_next_is_cleared(void **state)
{
    (void)state;
    struct rig *r = rig_open(10, 5, 1);
    r->owners_sleep = true;
    struct map_shard s = r->map->shards[0];
    s.next = storage_id_eq(&s.owner, &s.members[0]) ? s.members[1] : s.members[0];
    shard_put(r, &s);
    rounds(r, 10);
    assert_memory_equal(&r->map->shards[0].next, &s.next, sizeof s.next); /* an operator's move is left alone */
    set_live(r, rig_index(&s.next), false);
    rounds(r, 4);
    assert_true(storage_id_zero(&r->map->shards[0].next));
    rig_close(r);
}

/* A move that an operator asked for, done by the owner, is not undone. */
static void a_move_by_hand_stays(void **state)
{
    (void)state;
    struct rig *r = rig_open(11, 5, 1);
    struct map_shard s = r->map->shards[0];
    struct storage_id to = storage_id_eq(&s.owner, &s.members[0]) ? s.members[1] : s.members[0];
    s.next = to;
    shard_put(r, &s);
    until_settled(r);
    rounds(r, 20);
    assert_memory_equal(&r->map->shards[0].owner, &to, sizeof to);
    rig_close(r);
}

static void two_stand_and_one_leads(void **state)
{
    (void)state;
    struct rig *r = rig_open(12, 5, 2);
    struct leader_info a, b;
    leader_info(r->seats[0].leader, &a);
    leader_info(r->seats[1].leader, &b);
    assert_true(a.leading && !b.leading);

    /* Somebody dies; then the office ends, and the one who has it does not know. */
    set_live(r, 4, false);
    rounds(r, 10);
    r->seats[0].cut = true;
    kvstore_revoke(r->store, r->seats[0].lease);
    r->now += 60 * SECOND; /* copies are to be made anew: both think they should see to it */
    rounds(r, 20);
    leader_info(r->seats[0].leader, &a);
    leader_info(r->seats[1].leader, &b);
    assert_true(a.leading && b.leading);
    assert_string_equal(r->map->leader, "n1");
    assert_int_equal(r->seats[0].succeeded, 0);
    r->seats[0].cut = false;
    rounds(r, 2);
    leader_info(r->seats[0].leader, &a);
    assert_false(a.leading);
    until_settled(r);
    rig_close(r);
}

/* The same name with a new lease takes the office from itself. */
static void a_leader_comes_back(void **state)
{
    (void)state;
    struct rig *r = rig_open(13, 3, 1);
    leader_lease(r->seats[0].leader, 0);
    assert_false(lead_info(r).leading);
    r->seats[0].lease = kvstore_grant(r->store, 10, r->now);
    leader_lease(r->seats[0].leader, r->seats[0].lease);
    rounds(r, 4);
    assert_true(lead_info(r).leading);
    rig_close(r);
}

static void answers_get_lost(void **state)
{
    (void)state;
    for (uint64_t seed = 100; seed < 130; seed++) {
        struct rig *r = rig_open(seed, 6, 2);
        r->lossy_percent = 30;
        for (int i = 0; i < 4; i++) {
            uint32_t node = (uint32_t)rng_below(&r->rng, 6);
            set_live(r, node, false);
            rounds(r, (uint32_t)rng_below(&r->rng, 90));
            set_live(r, node, true);
            rounds(r, (uint32_t)rng_below(&r->rng, 30));
        }
        set_state(r, 0, NODE_DRAINING);
        until_settled(r);
        assert_int_equal(named(r, 0, false), 0);
        rig_close(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_cluster),
        cmocka_unit_test(a_node_dies_and_returns),
        cmocka_unit_test(a_short_death_copies_nothing),
        cmocka_unit_test(a_node_joins_step_by_step),
        cmocka_unit_test(a_node_is_drained),
        cmocka_unit_test(a_drain_that_cannot_be),
        cmocka_unit_test(nobody_without_the_mail_owns),
        cmocka_unit_test(a_shard_starts_anew),
        cmocka_unit_test(a_pool_falls_back_and_heals),
        cmocka_unit_test(a_dead_next_is_cleared),
        cmocka_unit_test(a_move_by_hand_stays),
        cmocka_unit_test(two_stand_and_one_leads),
        cmocka_unit_test(a_leader_comes_back),
        cmocka_unit_test(answers_get_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
