/* test_handover.c - shards that go from one owner to the next: by plan, and in an orderly stop. */
#include "tests/unit/owner_rig.h"

static void on_left(void *arg)
{
    (void)arg;
    the->left++;
}

static void plan_next(struct house *h, const char *to)
{
    set_shard(h, 3, SELF, to, 5);
    give_map(h);
}

static void assert_handed(struct house *h, const char *to)
{
    const char *value = fake_coord_get(h->coord, "shards/shared/00003");
    char word[80];
    snprintf(word, sizeof word, "\"owner\":\"%s\"", to);
    assert_non_null(strstr(value, word));
    assert_non_null(strstr(value, "\"epoch\":6"));
    assert_null(strstr(value, "next"));
    assert_int_equal(owner_shard(h->o, 3), OWNER_NOT_OURS);
    const struct frame *f = last_frame(h, FRAME_HANDED);
    assert_non_null(f);
    struct wire_rd r = wire_rd(payload_of(f->f));
    assert_true(slice_eq(wire_get(&r, wire_u16(&r)), slice_str("shared")));
    assert_int_equal(wire_u32(&r), 3);
    assert_int_equal(wire_u64(&r), 6);
    assert_true(wire_u64(&r) > 0);
    assert_false(r.bad);
    assert_int_equal(f->to.b[0], to[1] - '0');
}

/* ---- hand-over */

/* Shard 3 has a message, and the relay has it in hand. */
static struct outlet_msg *claim_one(struct house *h)
{
    struct outlet_msg *m[4];
    fake_add(h->in, "3.test", "s@x", "a@x", "hi", 0);
    assert_int_equal(h->out->ops->claim(h->out, slice_str("3.test"), CLAIM_DUE, 0, m, 4), 1);
    return m[0];
}

/* The heir knows what it is owed: the relay may be interrupted. */
static void run_warm(struct house *h)
{
    run(h, 100 * MS);
    assert_int_equal(owner_shard(h->o, 3), OWNER_OWNED);
    answer(&flushes[3], 3, 0);
    run(h, 100 * MS);
}

static void hand_over_in_order(void **state)
{
    struct house *h = *state;
    h->bags[0] = "3.test";
    own(h);
    struct outlet_msg *m = claim_one(h);
    plan_next(h, B);
    run(h, 50 * MS);
    assert_int_equal(owner_shard(h->o, 3), OWNER_OWNED); /* B is told what it is owed, and mail flows */
    assert_true(h->out->ops->may(h->out, m));
    answer(&flushes[3], 3, 0);
    run(h, 50 * MS);
    assert_int_equal(owner_shard(h->o, 3), OWNER_QUIET);
    assert_false(h->out->ops->may(h->out, m));
    h->claimed = 1; /* its end is on its way to the log */
    h->out->ops->release(h->out, m);
    run(h, 50 * MS);
    assert_int_equal(flushes_n, 1);
    h->claimed = 0;
    run(h, 3 * MS);
    assert_int_equal(owner_shard(h->o, 3), OWNER_HANDING);
    assert_int_equal(flushes_n, 2);
    assert_non_null(strstr(fake_coord_get(h->coord, "shards/shared/00003"), "\"epoch\":5"));
    answer(&flushes[3], 3, 0);
    run(h, 10 * MS);
    assert_handed(h, B);
}

static void idle_hand_over_is_quick(void **state)
{
    struct house *h = *state;
    own(h);
    prompt = true;
    plan_next(h, B);
    uint64_t from = fake_now_us;
    while (owner_shard(h->o, 3) != OWNER_NOT_OURS && fake_now_us < from + SEC)
        run(h, MS);
    assert_true(fake_now_us - from < 20 * MS);
    assert_handed(h, B);
}

static void waits_for_sync(void **state)
{
    struct house *h = *state;
    own(h);
    prompt = true;
    synced[3] = 1 | 4;
    plan_next(h, B);
    run(h, 5 * SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_OWNED);
    synced[3] = 7;
    owner_synced(h->o, 3);
    run(h, 100 * MS);
    assert_handed(h, B);
}

/* The first flush fails: mail flows on, and it is tried again. */
static void heir_cannot_be_told(void **state)
{
    struct house *h = *state;
    own(h);
    plan_next(h, B);
    run(h, 100 * MS);
    answer(&flushes[3], 3, -SATCHEL_EAGAIN);
    run(h, SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_OWNED);
    assert_true(gate_may(h->gate, 3));
    assert_int_equal(flushes_n, 1);
    run(h, 2 * SEC);
    assert_int_equal(flushes_n, 2);
    prompt = true;
    run(h, SEC);
    assert_handed(h, B);
}

static void primary_keeps_us_waiting(void **state)
{
    struct house *h = *state;
    own(h);
    struct outlet_msg *m = claim_one(h);
    plan_next(h, B);
    run_warm(h);
    run(h, 29 * SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_QUIET);
    run(h, 2 * SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_OWNED);
    assert_true(gate_may(h->gate, 3));
    assert_false(h->out->ops->may(h->out, m));
    h->out->ops->release(h->out, m);
}

static void flush_fails(void **state)
{
    struct house *h = *state;
    own(h);
    plan_next(h, B);
    run_warm(h);
    answer(&flushes[3], 3, -SATCHEL_EAGAIN);
    run(h, 100 * MS);
    assert_int_equal(owner_shard(h->o, 3), OWNER_OWNED);
    run(h, 5 * SEC); /* and once more */
    assert_int_equal(flushes_n, 3);
    run_warm(h);
    assert_int_equal(flushes_n, 4);
    answer(&flushes[3], 3, 0);
    run(h, 100 * MS);
    assert_handed(h, B);
}

static void next_dies(void **state)
{
    struct house *h = *state;
    own(h);
    plan_next(h, B);
    run_warm(h);
    assert_int_equal(owner_shard(h->o, 3), OWNER_HANDING);
    fake_coord_set(h->coord, "live/b", NULL);
    give_map(h);
    run(h, 100 * MS);
    assert_int_equal(owner_shard(h->o, 3), OWNER_OWNED);
    assert_true(gate_may(h->gate, 3));
    answer(&flushes[3], 3, 0);
    run(h, 5 * SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_OWNED);
    assert_null(last_frame(h, FRAME_HANDED));
}

static void plan_is_dropped(void **state)
{
    struct house *h = *state;
    own(h);
    plan_next(h, B);
    run_warm(h);
    plan_next(h, "");
    run(h, 100 * MS);
    assert_int_equal(owner_shard(h->o, 3), OWNER_OWNED);
}

/* It was done, and nobody told us. */
static void unknown_but_done(void **state)
{
    struct house *h = *state;
    own(h);
    prompt = true;
    h->frozen = true;
    h->coord->mute = 1;
    plan_next(h, B);
    run(h, 2 * SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_HANDING);
    run(h, 10 * SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_HANDING); /* never back on a guess */
    assert_false(gate_granted(h->gate, 3));
    h->frozen = false;
    h->changed = true;
    run(h, SEC);
    assert_handed(h, B);
}

/* We asked coordination to make B the owner, and hear no answer. */
static void hand_over_in_the_air(struct house *h)
{
    own(h);
    prompt = true;
    plan_next(h, B);
    h->coord->away = true;
    run(h, SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_HANDING);
}

static void unknown_and_not_done(void **state)
{
    struct house *h = *state;
    hand_over_in_the_air(h);
    run(h, 9 * SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_HANDING);
    h->coord->away = false;
    run(h, 5 * SEC);
    assert_handed(h, B);
}

/* The lease went while a hand-over was in the air: what may still come of it is fenced off before we deliver again. */
static void unknown_then_lease_lost(void **state)
{
    struct house *h = *state;
    hand_over_in_the_air(h);
    int64_t rev = kvstore_get(h->coord->store, slice_str("shards/shared/00003"))->mod_rev;
    owner_lease(h->o, false);
    run(h, 5 * SEC);
    h->coord->away = false;
    h->frozen = true;
    synced[3] = 1;
    owner_lease(h->o, true);
    run(h, 5 * SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_OWNED);
    assert_true(kvstore_get(h->coord->store, slice_str("shards/shared/00003"))->mod_rev > rev);
}

/* Its heir died while the hand-over was in the air: it may have been done, so nothing is delivered on a guess. */
static void next_dies_in_doubt(void **state)
{
    struct house *h = *state;
    hand_over_in_the_air(h);
    fake_coord_set(h->coord, "live/b", NULL);
    give_map(h);
    run(h, 5 * SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_HANDING);
    set_shard(h, 3, SELF, "", 5); /* the leader saw it, too: whatever was in the air now fails */
    h->coord->away = false;
    give_map(h);
    run(h, 5 * SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_OWNED);
    assert_null(last_frame(h, FRAME_HANDED));
}

/* Something else of the shard changed: the answer is a plain no, and it is tried again on what is there now. */
static void failed_cas(void **state)
{
    struct house *h = *state;
    own(h);
    prompt = true;
    h->frozen = true;
    plan_next(h, B);
    set_shard(h, 3, SELF, B, 5);
    run(h, 5 * SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_HANDING);
    h->frozen = false;
    h->changed = true;
    run(h, SEC);
    assert_handed(h, B);
}

/* ---- handed to us */

static void say_handed(struct house *h, uint64_t epoch)
{
    uint8_t text[64];
    struct storage_id from = {{2}};
    struct wire_wr w = wire_wr(text, sizeof text);
    wire_put_u16(&w, 6);
    wire_put(&w, "shared", 6);
    wire_put_u32(&w, 3);
    wire_put_u64(&w, epoch);
    wire_put_u64(&w, 99);
    owner_frame(h->o, &from, FRAME_HANDED, slice_of(text, wire_len(&w)));
}

/* Shard 3 is B's at epoch 5 and planned to come to us, who have the lease. */
static void b_owns(struct house *h)
{
    owner_lease(h->o, true);
    set_shard(h, 3, B, SELF, 5);
    give_map(h);
}

static void handed_before_the_map(void **state)
{
    struct house *h = *state;
    b_owns(h);
    set_shard(h, 3, SELF, "", 6);
    say_handed(h, 6);
    assert_true(h->changed);
    run(h, 10 * MS);
    assert_int_equal(owner_shard(h->o, 3), OWNER_OWNED);
    assert_int_equal(merges_n, 0);
}

static void handed_after_the_map(void **state)
{
    struct house *h = *state;
    owner_lease(h->o, true);
    set_shard(h, 3, SELF, "", 6);
    give_map(h);
    run(h, 10 * MS);
    assert_int_equal(owner_shard(h->o, 3), OWNER_MERGING);
    say_handed(h, 5); /* of another time */
    run(h, 10 * MS);
    assert_int_equal(owner_shard(h->o, 3), OWNER_MERGING);
    say_handed(h, 6);
    run(h, 10 * MS);
    assert_int_equal(owner_shard(h->o, 3), OWNER_OWNED);
}

/* The word was on an epoch that has gone by: a leader took the shard over after it. */
static void handed_at_another_epoch(void **state)
{
    struct house *h = *state;
    b_owns(h);
    say_handed(h, 6);
    set_shard(h, 3, SELF, "", 7);
    run(h, SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_MERGING);
}

static void handed_long_ago(void **state)
{
    struct house *h = *state;
    b_owns(h);
    say_handed(h, 6);
    run(h, 11 * SEC);
    set_shard(h, 3, SELF, "", 6);
    give_map(h);
    run(h, SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_MERGING);
}

static void malformed_frames(void **state)
{
    struct house *h = *state;
    struct storage_id from = {{2}};
    static const uint8_t bytes[40] = {6, 0, 's', 'h', 'a', 'r', 'e', 'd', 3};
    own(h);
    for (size_t n = 0; n < sizeof bytes; n++) {
        owner_frame(h->o, &from, FRAME_HANDED, slice_of(bytes, n));
        owner_frame(h->o, &from, FRAME_REPORT, slice_of(bytes, n));
    }
    static const uint8_t huge[] = {255, 255, 1, 2, 3};
    owner_frame(h->o, &from, FRAME_HANDED, slice_of(huge, sizeof huge));
    assert_int_equal(owner_shard(h->o, 3), OWNER_OWNED);
}

/* ---- orderly stop */

static void own_many(struct house *h, uint32_t n)
{
    fake_coord_set(h->coord, "pools/shared", POOL("200"));
    for (uint32_t i = 0; i < n; i++)
        set_shard(h, i, SELF, "", 5);
    prompt = true;
    give_map(h);
    owner_lease(h->o, true);
    run(h, SEC);
    struct owner_info info;
    owner_info(h->o, &info);
    assert_int_equal(info.owned, n);
}

static uint32_t owned_by(struct house *h, uint8_t first)
{
    const struct cmap *map = fake_coord_map(h->coord);
    uint32_t n = 0;
    for (uint32_t i = 0; i < map->shards_n; i++)
        n += map->shards[i].owner.b[0] == first;
    cmap_unref(map);
    return n;
}

static void leave_hands_over_everything(void **state)
{
    struct house *h = *state;
    own_many(h, 200);
    uint32_t txns = h->coord->txns;
    uint64_t from = fake_now_us;
    owner_leave(h->o, 20 * SEC, on_left, h);
    assert_int_equal(h->left, 0);
    while (!h->left && fake_now_us < from + 5 * SEC)
        run(h, 10 * MS);
    assert_int_equal(h->left, 1);
    assert_true(fake_now_us - from <= SEC);
    assert_true(h->coord->txns - txns <= 10);
    assert_int_equal(owned_by(h, 1), 0);
    assert_true(owned_by(h, 2) > 50 && owned_by(h, 3) > 50);
    for (uint32_t i = 0; i < 200; i++)
        assert_false(gate_granted(h->gate, i));
    set_shard(h, 9, SELF, "", 9); /* given back by a leader that does not know: not taken */
    give_map(h);
    run(h, SEC);
    assert_int_equal(owner_shard(h->o, 9), OWNER_NOT_OURS);
}

static void leave_prefers_those_that_stay(void **state)
{
    struct house *h = *state;
    own_many(h, 20);
    fake_coord_set(h->coord, "nodes/b",
                   "{\"storage\":\"" B "\",\"address\":\"x:1\",\"pool\":\"shared\",\"state\":\"draining\"}");
    give_map(h);
    owner_leave(h->o, 20 * SEC, on_left, h);
    run(h, SEC);
    assert_int_equal(owned_by(h, 3), 20);
}

static void leave_alone(void **state)
{
    struct house *h = *state;
    own_many(h, 5);
    fake_coord_set(h->coord, "live/b", NULL);
    fake_coord_set(h->coord, "live/c", NULL);
    give_map(h);
    owner_leave(h->o, 20 * SEC, on_left, h);
    run(h, 10 * MS);
    assert_false(gate_may(h->gate, 2)); /* who takes over when the lease is back is told what came of the last claims */
    assert_int_equal(h->left, 0);
    run(h, SEC);
    assert_int_equal(h->left, 1);
}

static void leave_gives_up(void **state)
{
    struct house *h = *state;
    own_many(h, 5);
    synced[2] = 1; /* nobody has all of it */
    owner_leave(h->o, 3 * SEC, on_left, h);
    run(h, 2 * SEC);
    assert_int_equal(h->left, 0);
    assert_int_equal(owned_by(h, 1), 1);
    assert_true(gate_may(h->gate, 2)); /* delivered to the end */
    run(h, 2 * SEC);
    assert_int_equal(h->left, 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(hand_over_in_order),
        T(idle_hand_over_is_quick),
        T(waits_for_sync),
        T(primary_keeps_us_waiting),
        T(heir_cannot_be_told),
        T(flush_fails),
        T(next_dies),
        T(plan_is_dropped),
        T(unknown_but_done),
        T(unknown_and_not_done),
        T(unknown_then_lease_lost),
        T(next_dies_in_doubt),
        T(failed_cas),
        T(handed_before_the_map),
        T(handed_after_the_map),
        T(handed_at_another_epoch),
        T(handed_long_ago),
        T(malformed_frames),
        T(leave_hands_over_everything),
        T(leave_prefers_those_that_stay),
        T(leave_alone),
        T(leave_gives_up),
    };
    return cmocka_run_group_tests_name("handover", tests, NULL, NULL);
}
