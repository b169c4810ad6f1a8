/* test_late.c - the end of a message comes from elsewhere while somebody here holds it: the claim is over at once, and
 * what came is taken in when the hold ends, however that is. */
#include "spool/queue/queue_impl.h"
#include "tests/unit/fakelog.h"

static const char A[] = "a.example";
static const struct storage_id B = {"bbbbbbbbbbbbbbb"}, C = {"ccccccccccccccc"};

static int setup(void **state)
{
    (void)state;
    fake_start(&fakelog, &queue_config_default, 65536);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_check_scan(&fakelog, &queue_config_default);
    fake_stop(&fakelog);
    return 0;
}

static void accept(uint64_t n, uint32_t rcpts)
{
    uint8_t meta[4096];
    struct record m = fake_msg(n, A, 10 + n, rcpts, SLICE_LIT("body"), 0, meta);
    fake_put(&fakelog, &m);
}

static struct claim claim_one(uint64_t n)
{
    struct claim c;
    assert_int_equal(queue_claim(fakelog.q, slice_str(A), CLAIM_DUE, 0, &c, 1), 1);
    assert_int_equal(c.id.counter, n);
    assert_false(*c.over);
    return c;
}

static void merged(void *arg, int res)
{
    (void)arg;
    (void)res;
    fail(); /* what is refused as busy is not answered later */
}

/* ends: one letter an item, D delivered, L live; owed to C. */
static int come(uint64_t n, const char *ends, uint32_t seq)
{
    struct storage_state st = {
        .id = fake_id(n), .arrival_us = 10 + n, .domain = slice_str(A), .owed = slice_of(&C, sizeof C)};
    st.state.items = st.state.live = (uint32_t)strlen(ends);
    st.state.seq = seq;
    for (uint32_t i = 0; ends[i]; i++)
        state_finish(&st.state, i, ends[i] == 'D' ? ITEM_DELIVERED : ITEM_LIVE);
    return queue_merge(fakelog.q, &st, merged, NULL);
}

static void come_busy(uint64_t n, const char *ends, uint32_t seq)
{
    assert_int_equal(come(n, ends, seq), -SATCHEL_EBUSY);
}

static void finish(const struct claim *c, enum item_end end, uint64_t due_us)
{
    const struct finish_copies copies = {.owed = slice_of(&B, sizeof B)};
    struct item_result r = {.item = 0, .end = end};
    status_set(&r.status, end == ITEM_LIVE ? 451 : 250, end == ITEM_LIVE ? 4 : 2, 0, 0, "as said");
    assert_int_equal(queue_finish(fakelog.q, slice_str(A), c, &r, 1, due_us, false, &copies), 0);
}

static bool is_live(uint64_t n)
{
    struct queue_entry e;
    char domain[256];
    struct msgid id = fake_id(n);
    return queue_find(fakelog.q, &id, &e, domain) == 0;
}

static struct msg_state live_state(uint64_t n)
{
    struct queue_entry e;
    char domain[256];
    struct msgid id = fake_id(n);
    assert_int_equal(queue_find(fakelog.q, &id, &e, domain), 0);
    return e.state;
}

static void assert_tomb(uint64_t n, const struct storage_id *owed)
{
    uint8_t buf[QUEUE_TOMB_BYTES];
    struct storage_state st;
    struct msgid id = fake_id(n);
    assert_false(is_live(n));
    assert_int_equal(queue_tomb(fakelog.q, &id, &st, buf), 0);
    assert_int_equal(st.state.live, 0);
    assert_int_equal(st.owed.n, sizeof *owed);
    assert_memory_equal(st.owed.p, owed, sizeof *owed);
}

static void assert_none_held(void)
{
    assert_int_equal(fakelog.q->holds.n, 0);
}

static void given_back(void **state)
{
    (void)state;
    accept(1, 1);
    struct claim c = claim_one(1), again;
    fakelog.ready_n = 0;
    come_busy(1, "D", 3);
    assert_true(*c.over);
    assert_int_equal(fakelog.ready_n, 1); /* so that the relay asks */
    come_busy(1, "D", 3);
    assert_int_equal(fakelog.ready_n, 1);
    assert_true(is_live(1)); /* the relay may say yet that it has delivered it */
    queue_unclaim(fakelog.q, &c.id);
    assert_int_equal(queue_claim(fakelog.q, slice_str(A), CLAIM_DUE, 0, &again, 1), 0);
    fake_turn(&fakelog);
    assert_tomb(1, &C);
    assert_none_held();
    assert_int_equal(come(1, "D", 3), 1);
}

/* One recipient is served, the other is not: the claim is over, and the message comes out again with the rest. */
static void some_recipients(void **state)
{
    (void)state;
    accept(1, 2);
    struct claim c = claim_one(1);
    come_busy(1, "LD", 1);
    assert_true(*c.over);
    queue_unclaim(fakelog.q, &c.id);
    fake_turn(&fakelog);
    c = claim_one(1);
    assert_int_equal(state_end(&c.state, 0), ITEM_LIVE);
    assert_int_equal(state_end(&c.state, 1), ITEM_DELIVERED);
    finish(&c, ITEM_DELIVERED, 0);
    fake_turn(&fakelog);
    assert_tomb(1, &B);
}

static void several_come(void **state)
{
    (void)state;
    accept(1, 3);
    struct claim c = claim_one(1);
    come_busy(1, "LDL", 1);
    come_busy(1, "LLD", 1);
    queue_unclaim(fakelog.q, &c.id);
    fake_turn(&fakelog);
    c = claim_one(1);
    assert_int_equal(c.state.live, 1);
    come_busy(1, "DLL", 1);
    queue_unclaim(fakelog.q, &c.id);
    fake_turn(&fakelog);
    assert_tomb(1, &C);
}

static void no_end_is_no_news(void **state)
{
    (void)state;
    accept(1, 2);
    struct claim c = claim_one(1);
    come_busy(1, "LL", 7);
    assert_false(*c.over);
    queue_unclaim(fakelog.q, &c.id);
    fake_turn(&fakelog);
    assert_int_equal(live_state(1).seq, 0);
    claim_one(1);
}

static void delivered_here_too(void **state)
{
    (void)state;
    accept(1, 1);
    struct claim c = claim_one(1);
    finish(&c, ITEM_DELIVERED, 0);
    come_busy(1, "D", 1);
    fake_turn(&fakelog);
    assert_tomb(1, &B); /* what the relay said */
    assert_none_held();
}

static void put_off_here(void **state)
{
    (void)state;
    accept(1, 1);
    struct claim c = claim_one(1);
    finish(&c, ITEM_LIVE, 5000);
    come_busy(1, "D", 1);
    fake_turn(&fakelog);
    assert_tomb(1, &C);
    assert_none_held();
}

/* Attempts and due time are the relay's: it knows better than one who has not tried. */
static void put_off_here_in_part(void **state)
{
    (void)state;
    accept(1, 2);
    struct claim c = claim_one(1);
    come_busy(1, "LD", 0);
    finish(&c, ITEM_LIVE, UINT64_MAX / 2);
    fake_turn(&fakelog);
    struct msg_state s = live_state(1);
    assert_int_equal(s.live, 1);
    assert_int_equal(state_end(&s, 1), ITEM_DELIVERED);
    assert_int_equal(s.attempts, 1);
    assert_true(s.due_us == UINT64_MAX / 2);
    assert_none_held();
}

/* The copy is not needed here, and that is on its way: the end stays known all the same, a copy that comes is dead. */
static void forgotten_here(void **state)
{
    (void)state;
    struct msgid id = fake_id(1);
    accept(1, 1);
    assert_int_equal(queue_forget(fakelog.q, &id), 0);
    come_busy(1, "D", 1);
    fake_turn(&fakelog);
    assert_tomb(1, &C);
    accept(1, 1);
    assert_false(is_live(1));
}

static void aborted_under_the_claim(void **state)
{
    (void)state;
    accept(1, 1);
    struct claim c = claim_one(1);
    come_busy(1, "D", 1);
    struct record abort = fake_abort(1);
    fake_put(&fakelog, &abort);
    queue_unclaim(fakelog.q, &c.id);
    fake_turn(&fakelog);
    assert_tomb(1, &C);
    assert_none_held();
}

static void count_merged(void *arg, int res)
{
    assert_int_equal(res, 0);
    ++*(int *)arg;
}

/* Another end is on its way into the log. */
static void merged_meanwhile(void **state)
{
    (void)state;
    int merges = 0;
    struct storage_state st = {.id = fake_id(1), .arrival_us = 11, .domain = slice_str(A)};
    accept(1, 2);
    st.state = (struct msg_state){.items = 2, .live = 2, .seq = 1};
    state_finish(&st.state, 0, ITEM_DELIVERED);
    assert_int_equal(queue_merge(fakelog.q, &st, count_merged, &merges), 0);
    come_busy(1, "LD", 1);
    fake_turn(&fakelog);
    assert_int_equal(merges, 1);
    assert_tomb(1, &C);
    assert_none_held();
}

/* The end came before the message, and is in the log behind it: between the two somebody claims it. */
static void on_its_way_before_the_message(void **state)
{
    (void)state;
    int merges = 0;
    uint8_t meta[4096];
    struct record msg = fake_msg(1, A, 11, 1, SLICE_LIT("body"), 0, meta);
    struct storage_state st = {
        .id = fake_id(1), .arrival_us = 11, .domain = slice_str(A), .owed = slice_of(&C, sizeof C)};
    st.state = (struct msg_state){.items = 1, .live = 1, .seq = 1};
    state_finish(&st.state, 0, ITEM_DELIVERED);
    assert_int_equal(queue_merge(fakelog.q, &st, count_merged, &merges), 0);
    struct fakerec *r = fake_write(&fakelog, &msg);
    assert_int_equal(queue_apply(fakelog.q, &r->rec, r->pos, r->size), 0);
    assert_int_equal(queue_commit(fakelog.q, r->pos + r->size), 0);
    struct claim c = claim_one(1);
    fake_turn(&fakelog);
    assert_int_equal(merges, 1);
    assert_int_equal(fakelog.q->holds.n, 1); /* the claim is the relay's, and over */
    assert_true(*c.over);
    queue_unclaim(fakelog.q, &c.id);
    assert_tomb(1, &C);
    assert_none_held();
}

/* Chunks are forgotten, and then their message comes and is claimed. */
static void chunks_forgotten_meanwhile(void **state)
{
    (void)state;
    uint8_t meta[4096];
    struct msgid id = fake_id(1);
    struct record chunk = fake_chunk(1, 0, SLICE_LIT("part"), meta);
    fake_put(&fakelog, &chunk);
    assert_int_equal(queue_forget(fakelog.q, &id), 0);
    assert_int_equal(fakelog.pending_n, 1);
    struct record msg = fake_msg(1, A, 11, 1, (struct slice){0}, 1, meta);
    struct fakerec *r = fake_write(&fakelog, &msg);
    assert_int_equal(queue_apply(fakelog.q, &r->rec, r->pos, r->size), 0);
    assert_int_equal(queue_commit(fakelog.q, r->pos + r->size), 0);
    struct claim c = claim_one(1);
    fake_turn(&fakelog);
    assert_int_equal(fakelog.q->holds.n, 1);
    assert_true(*c.over); /* the ABORT took the message, too */
    queue_unclaim(fakelog.q, &c.id);
    assert_none_held();
}

/* Compaction holds it: the record is written again, and then the end behind it. */
static void moved(void **state)
{
    (void)state;
    static uint64_t segs[] = {1};
    struct queue_stat stat;
    for (uint64_t n = 1; n <= 8; n++)
        accept(n, 1);
    for (uint64_t n = 1; n <= 7; n++) {
        struct claim c = claim_one(n);
        finish(&c, ITEM_DELIVERED, 0);
    }
    fake_turn(&fakelog);
    fake_roll(&fakelog);
    accept(9, 1); /* what is in the last segment but one has been applied */
    for (int i = 0; i < 10 && !fakelog.pending_n; i++)
        queue_reclaim(fakelog.q, segs, 1, true);
    assert_non_null(hold_find(fakelog.q, &(struct msgid){.incarnation = {7, 7, 7}, .counter = 8}));
    come_busy(8, "D", 1);
    fake_turn(&fakelog);
    queue_stat(fakelog.q, &stat);
    assert_true(stat.moved_bytes > 0);
    assert_tomb(8, &C);
    assert_none_held();
}

static void forgotten_in_a_crash(void **state)
{
    (void)state;
    accept(1, 1);
    claim_one(1);
    come_busy(1, "D", 1);
    queue_close(&fakelog.q);
    fakelog.q = fake_queue(&fakelog, fakelog.ix, &queue_config_default);
    fake_replay(&fakelog, fakelog.q, 1);
    claim_one(1); /* who said it says it again */
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(given_back),
        T(some_recipients),
        T(several_come),
        T(no_end_is_no_news),
        T(delivered_here_too),
        T(put_off_here),
        T(put_off_here_in_part),
        T(forgotten_here),
        T(aborted_under_the_claim),
        T(merged_meanwhile),
        T(on_its_way_before_the_message),
        T(chunks_forgotten_meanwhile),
        T(moved),
        T(forgotten_in_a_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
