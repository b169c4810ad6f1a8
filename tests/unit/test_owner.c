/* test_owner.c - owning shards: adoption, drain, reports, pools. */
#include "tests/unit/owner_rig.h"

/* ---- adoption */

static void merges_and_confirms_first(void **state)
{
    struct house *h = *state;
    h->bags[0] = "3.test";
    h->bags[1] = "4.test";
    set_shard(h, 3, SELF, "", 5);
    set_shard(h, 4, B, "", 5);
    give_map(h);
    run(h, SEC);
    assert_int_equal(merges_n, 0); /* no lease yet */
    owner_lease(h->o, true);
    run(h, SEC);
    assert_int_equal(merges_n, 1);
    assert_int_equal(owner_shard(h->o, 3), OWNER_MERGING);
    assert_int_equal(owner_shard(h->o, 4), OWNER_NOT_OURS);
    assert_false(gate_granted(h->gate, 3));
    assert_int_equal(h->ready_n, 0);
    answer(&merges[3], 3, -SATCHEL_EAGAIN); /* a peer was not reached: that does not keep the mail for ever */
    run(h, 100 * MS);
    assert_true(gate_may(h->gate, 3));
    assert_int_equal(h->ready_n, 1);
    assert_string_equal(h->made_ready[0], "3.test");
    struct owner_info info;
    owner_info(h->o, &info);
    assert_int_equal(info.owned, 1);
    assert_int_equal(info.adopted, 1);
}

/* The map is from before: in coordination another owns the shard by now. */
static void old_map(void **state)
{
    struct house *h = *state;
    set_shard(h, 3, SELF, "", 5);
    give_map(h);
    set_shard(h, 3, B, "", 6);
    h->frozen = true;
    prompt = true;
    owner_lease(h->o, true);
    run(h, 20 * SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_MERGING);
    assert_false(gate_granted(h->gate, 3));
    h->frozen = false;
    run(h, SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_NOT_OURS);
}

static void without_coordination_nothing_is_confirmed(void **state)
{
    struct house *h = *state;
    set_shard(h, 3, SELF, "", 5);
    give_map(h);
    h->coord->away = true;
    prompt = true;
    owner_lease(h->o, true);
    run(h, 20 * SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_MERGING);
    h->coord->away = false;
    run(h, 5 * SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_OWNED);
}

static void one_of_many_has_changed(void **state)
{
    struct house *h = *state;
    prompt = true;
    for (uint32_t i = 0; i < 8; i++)
        set_shard(h, i, SELF, "", 5);
    give_map(h);
    set_shard(h, 6, C, "", 6);
    h->frozen = true;
    owner_lease(h->o, true);
    run(h, SEC);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(owner_shard(h->o, i), i == 6 ? OWNER_MERGING : OWNER_OWNED);
}

static void lease_lost_and_back(void **state)
{
    struct house *h = *state;
    own(h);
    owner_lease(h->o, false);
    assert_false(gate_granted(h->gate, 3));
    assert_int_equal(owner_shard(h->o, 3), OWNER_NOT_OURS);
    run(h, SEC);
    owner_lease(h->o, true);
    run(h, SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_MERGING);
    assert_int_equal(merges_n, 2);
    answer(&merges[3], 3, 0);
    run(h, SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_OWNED);
}

/* What was asked before the lease was lost says nothing of now. */
static void late_answers_are_dropped(void **state)
{
    struct house *h = *state;
    set_shard(h, 3, SELF, "", 5);
    give_map(h);
    owner_lease(h->o, true);
    run(h, 10 * MS);
    struct asked first = merges[3];
    owner_lease(h->o, false);
    owner_lease(h->o, true);
    run(h, 10 * MS);
    first.done(first.arg, 3, 0);
    run(h, SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_MERGING);
    answer(&merges[3], 3, 0);
    run(h, SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_OWNED);
}

static void another_takes_over(void **state)
{
    struct house *h = *state;
    own(h);
    set_shard(h, 3, B, "", 6);
    give_map(h);
    assert_false(gate_granted(h->gate, 3));
    assert_int_equal(owner_shard(h->o, 3), OWNER_NOT_OURS);
    assert_null(last_frame(h, FRAME_HANDED));
}

/* ---- drain */

static void set_former(struct house *h)
{
    fake_coord_set(h->coord, "shards/shared/00003",
                   "{\"owner\":\"" B "\",\"members\":[\"" B "\",\"" C "\"],\"former\":[\"" SELF "\"],\"epoch\":5}");
    give_map(h);
}

static void leaves_former(void **state)
{
    struct house *h = *state;
    set_former(h);
    run(h, SEC);
    assert_non_null(strstr(fake_coord_get(h->coord, "shards/shared/00003"), "former"));
    holds = 1;
    owner_emptied(h->o, 3);
    run(h, SEC);
    assert_non_null(strstr(fake_coord_get(h->coord, "shards/shared/00003"), "former"));
    holds = 0;
    run(h, 2 * SEC);
    assert_null(strstr(fake_coord_get(h->coord, "shards/shared/00003"), "former"));
}

static void leaves_former_once_read_again(void **state)
{
    struct house *h = *state;
    set_former(h);
    set_former(h); /* changed meanwhile */
    h->coord->mute = 1;
    owner_emptied(h->o, 3);
    run(h, 10 * SEC);
    assert_null(strstr(fake_coord_get(h->coord, "shards/shared/00003"), "former"));
}

static bool says_drained(struct house *h)
{
    return strstr(fake_coord_get(h->coord, "nodes/a"), "drained") != NULL;
}

static void drained_only_when_proven(void **state)
{
    struct house *h = *state;
    fake_coord_set(h->coord, "nodes/a",
                   "{\"storage\":\"" SELF "\",\"address\":\"x:1\",\"pool\":\"shared\",\"state\":\"draining\"}");
    set_former(h);
    run(h, 5 * SEC);
    assert_false(says_drained(h)); /* a shard names us */
    fake_coord_set(h->coord, "shards/shared/00003", "{\"owner\":\"" B "\",\"members\":[\"" B "\"],\"epoch\":5}");
    h->stat.messages = 1;
    give_map(h);
    run(h, 5 * SEC);
    assert_false(says_drained(h)); /* mail is here */
    h->stat.messages = 0;
    h->stat.tombs_owed = 1;
    run(h, 5 * SEC);
    assert_false(says_drained(h)); /* somebody does not know of an end */
    h->stat.tombs_owed = 0;
    unpushed = 1;
    run(h, 5 * SEC);
    assert_false(says_drained(h));
    unpushed = 0;
    fake_coord_set(h->coord, "shards/shared/00004",
                   "{\"owner\":\"" B "\",\"members\":[\"" B "\",\"" SELF "\"],\"epoch\":5}");
    run(h, 5 * SEC);
    assert_false(says_drained(h)); /* a shard names us, and the map does not say so yet */
    fake_coord_set(h->coord, "shards/shared/00004", NULL);
    run(h, 5 * SEC);
    assert_true(says_drained(h));
    struct owner_info info;
    owner_info(h->o, &info);
    assert_true(info.drained);
}

static void undrained_meanwhile(void **state)
{
    struct house *h = *state;
    fake_coord_set(h->coord, "nodes/a",
                   "{\"storage\":\"" SELF "\",\"address\":\"x:1\",\"pool\":\"shared\",\"state\":\"draining\"}");
    give_map(h);
    h->frozen = true;
    fake_coord_set(h->coord, "nodes/a", NODE(SELF));
    run(h, 10 * SEC);
    assert_false(says_drained(h));
}

/* ---- reports */

static void reports_to_the_leader(void **state)
{
    struct house *h = *state;
    fake_coord_set(h->coord, "leader", "{\"node\":\"b\",\"storage\":\"" B "\"}");
    own(h);
    run(h, SEC);
    uint32_t sent = h->frames_n;
    assert_true(sent > 0 && sent <= 3);
    synced[3] = 5;
    owner_synced(h->o, 3);
    run(h, 600 * MS);
    assert_int_equal(h->frames_n, sent + 1);
    const struct frame *f = last_frame(h, FRAME_REPORT);
    assert_int_equal(f->to.b[0], 2);
    owner_frame(h->o, &f->to, FRAME_REPORT, payload_of(f->f)); /* as if we led */
    const struct cmap *map = fake_coord_map(h->coord);
    assert_int_equal(h->reports, 1);
    assert_int_equal(h->report.shard, 3);
    assert_int_equal(h->report.epoch, 5);
    assert_int_equal(h->report.synced, 5);
    assert_int_equal(h->report.hash, leader_members_hash(&map->shards[3]));
    cmap_unref(map);
    run(h, 12 * SEC);
    assert_true(h->frames_n >= sent + 3); /* everything, now and then */
}

static void reports_to_itself(void **state)
{
    struct house *h = *state;
    own(h);
    fake_coord_set(h->coord, "leader", "{\"node\":\"a\",\"storage\":\"" SELF "\"}");
    give_map(h);
    run(h, 10 * MS);
    assert_int_equal(h->reports, 1);
    assert_int_equal(h->frames_n, 0);
}

/* ---- pools */

static void a_new_pool_disturbs_nobody(void **state)
{
    struct house *h = *state;
    own(h);
    fake_coord_set(h->coord, "pools/acme", POOL("16"));
    give_map(h);
    assert_int_equal(owner_shard(h->o, 3), OWNER_OWNED);
    assert_true(gate_may(h->gate, 3));
    fake_coord_set(h->coord, "shards/acme/00002", "{\"owner\":\"" SELF "\",\"members\":[\"" SELF "\"],\"epoch\":1}");
    prompt = true;
    give_map(h);
    run(h, 100 * MS);
    assert_int_equal(owner_shard(h->o, 10), OWNER_OWNED);
    assert_int_equal(merges_n, 2);
}

static void a_pool_that_goes_closes_all_gates(void **state)
{
    struct house *h = *state;
    fake_coord_set(h->coord, "pools/acme", POOL("16"));
    own(h);
    fake_coord_set(h->coord, "pools/acme", NULL);
    give_map(h);
    assert_false(gate_granted(h->gate, 3));
    prompt = true;
    run(h, 100 * MS);
    assert_int_equal(owner_shard(h->o, 3), OWNER_OWNED);
    assert_int_equal(merges_n, 2);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(merges_and_confirms_first),
        T(old_map),
        T(without_coordination_nothing_is_confirmed),
        T(one_of_many_has_changed),
        T(lease_lost_and_back),
        T(late_answers_are_dropped),
        T(another_takes_over),
        T(leaves_former),
        T(leaves_former_once_read_again),
        T(drained_only_when_proven),
        T(undrained_meanwhile),
        T(reports_to_the_leader),
        T(reports_to_itself),
        T(a_new_pool_disturbs_nobody),
        T(a_pool_that_goes_closes_all_gates),
    };
    return cmocka_run_group_tests_name("owner", tests, NULL, NULL);
}
