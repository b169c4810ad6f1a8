/* test_queue.c - bags: order, claims, putting off, flushing, counters, listing, replay; on the index in memory. */
#include "spool/queue/heap.h"
#include "spool/queue/table.h"
#include "tests/unit/fakelog.h"

static const char A[] = "a.example", B[] = "b.example";

static int setup(void **state)
{
    (void)state;
    fake_start(&fakelog, &queue_config_default, 65536);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_stop(&fakelog);
    return 0;
}

static void accept(uint64_t n, const char *domain, uint64_t arrival_us, uint32_t rcpts)
{
    uint8_t meta[4096];
    struct record m = fake_msg(n, domain, arrival_us, rcpts, SLICE_LIT("body"), 0, meta);
    fake_put(&fakelog, &m);
}

static void accept_chunked(uint64_t n, uint32_t chunks, bool msg)
{
    uint8_t meta[4096];
    for (uint32_t i = 0; i < chunks; i++) {
        struct record c = fake_chunk(n, i, SLICE_LIT("part of a body"), meta);
        fake_put(&fakelog, &c);
    }
    struct record m = fake_msg(n, A, n, 1, (struct slice){0}, chunks, meta);
    if (msg)
        fake_put(&fakelog, &m);
}

/* Counters of the messages claimed, as text: "1 2 3". */
static const char *due(const char *domain, size_t cap, struct claim *claims_r)
{
    static char out[1024];
    size_t n = queue_claim(fakelog.q, slice_str(domain), CLAIM_DUE, 0, claims_r, cap), at = 0;
    out[0] = 0;
    for (size_t i = 0; i < n; i++)
        at += (size_t)sprintf(out + at, "%s%llu", i ? " " : "", (unsigned long long)claims_r[i].id.counter);
    return out;
}

static void finish(const char *domain, const struct claim *c, uint32_t item, enum item_end end, uint64_t due_us)
{
    struct item_result r = {.item = item, .end = end};
    status_set(&r.status, end == ITEM_LIVE ? 451 : 250, end == ITEM_LIVE ? 4 : 2, 0, 0, "as said");
    assert_int_equal(queue_finish(fakelog.q, slice_str(domain), c, &r, 1, due_us, false, NULL), 0);
    fake_turn(&fakelog);
}

static struct bag_stat bag_of(const char *domain)
{
    struct bag_stat st;
    queue_bag_stat(fakelog.q, slice_str(domain), &st);
    return st;
}

static void reopen(uint64_t lost_commits)
{
    queue_close(&fakelog.q);
    fakelog.pending_n = 0;
    uint64_t unflushed = index_ram_unflushed(fakelog.ix);
    index_ram_crash(fakelog.ix, unflushed - (lost_commits < unflushed ? lost_commits : unflushed));
    fake_roll(&fakelog);
    fakelog.q = fake_queue(&fakelog, fakelog.ix, &queue_config_default);
    fake_replay(&fakelog, fakelog.q, 3);
}

static void test_order(void **state)
{
    (void)state;
    struct claim c[10];
    accept(1, A, 10, 1);
    accept(2, B, 11, 1);
    accept(3, A, 30, 1);
    accept(4, A, 20, 1); /* later in the log, earlier in its bag */
    assert_string_equal(due(A, 10, c), "1 4 3");
    assert_int_equal(c[0].state.items, 1);
    assert_int_equal(c[0].body_bytes, 4);
    assert_string_equal(due(A, 10, c), "");
    assert_string_equal(due(B, 10, c), "2");
    assert_string_equal(due("none.example", 10, c), "");
    accept(5, A, 15, 1); /* even earlier than what was handed out */
    accept(6, A, 40, 1);
    assert_string_equal(due(A, 10, c), "5 6");
}

static void test_unclaim_comes_first(void **state)
{
    (void)state;
    struct claim c[10];
    for (uint64_t i = 1; i <= 6; i++)
        accept(i, A, i, 1);
    assert_string_equal(due(A, 4, c), "1 2 3 4");
    queue_unclaim(fakelog.q, &c[2].id);
    queue_unclaim(fakelog.q, &c[1].id);
    assert_string_equal(due(A, 3, c), "2 3 5");
    assert_string_equal(due(A, 3, c), "6");
}

static void test_finish(void **state)
{
    (void)state;
    struct claim c[10];
    struct queue_entry e;
    char domain[256];
    accept(1, A, 1, 1);
    accept(2, A, 2, 3);
    assert_string_equal(due(A, 10, c), "1 2");
    finish(A, &c[0], 0, ITEM_DELIVERED, 0);
    assert_int_equal(queue_find(fakelog.q, &c[0].id, &e, domain), -SATCHEL_ENOENT);
    finish(A, &c[1], 1, ITEM_BOUNCED, 5000000000);
    assert_int_equal(queue_find(fakelog.q, &c[1].id, &e, domain), 0);
    assert_string_equal(domain, A);
    assert_int_equal(e.state.live, 2);
    assert_int_equal(e.state.attempts, 1);
    assert_int_equal(e.state.due_us, 5000000000);
    assert_int_equal(state_end(&e.state, 1), ITEM_BOUNCED);
    assert_int_equal(bag_of(A).messages, 1);
    assert_int_equal(bag_of(A).deferred, 1);
    assert_int_equal(bag_of(A).claimed, 0);
    fake_check_scan(&fakelog, &queue_config_default);
}

static void test_deferred(void **state)
{
    (void)state;
    struct claim c[10];
    for (uint64_t i = 1; i <= 3; i++)
        accept(i, A, i, 1);
    uint64_t now = fakelog.now_us;
    assert_int_equal(queue_next_due(fakelog.q, slice_str(A)), 0);
    assert_string_equal(due(A, 10, c), "1 2 3");
    assert_int_equal(queue_next_due(fakelog.q, slice_str(A)), UINT64_MAX);
    finish(A, &c[0], 0, ITEM_LIVE, now + 200);
    finish(A, &c[1], 0, ITEM_LIVE, now + 100);
    finish(A, &c[2], 0, ITEM_LIVE, now + 300);
    assert_string_equal(due(A, 10, c), "");
    assert_int_equal(queue_next_due(fakelog.q, slice_str(A)), now + 100);
    accept(4, A, 4, 1);
    fakelog.now_us = now + 250;
    assert_int_equal(queue_next_due(fakelog.q, slice_str(A)), 0);
    assert_string_equal(due(A, 10, c), "1 2 4");
    queue_unclaim(fakelog.q, &c[0].id);
    assert_string_equal(due(A, 10, c), "1");
    assert_int_equal(queue_next_due(fakelog.q, slice_str(A)), now + 300);
    reopen(2);
    assert_string_equal(due(A, 10, c), "1 2 4"); /* claims are forgotten, due times are not */
    fakelog.now_us = now + 300;
    assert_string_equal(due(A, 10, c), "3");
}

static void test_flush(void **state)
{
    (void)state;
    struct claim c[10];
    for (uint64_t i = 1; i <= 4; i++)
        accept(i, A, i, 1);
    uint64_t later = fakelog.now_us + 1000;
    assert_string_equal(due(A, 3, c), "1 2 3");
    for (int i = 0; i < 3; i++)
        finish(A, &c[i], 0, ITEM_LIVE, later);
    fakelog.ready_n = 0;
    assert_int_equal(queue_flush_domain(fakelog.q, slice_str(A)), 3);
    assert_int_equal(fakelog.ready_n, 1);
    assert_int_equal(queue_next_due(fakelog.q, slice_str(A)), 0);
    assert_string_equal(due(A, 2, c), "1 2");
    finish(A, &c[0], 0, ITEM_LIVE, later); /* tried again, put off again: its turn is over */
    assert_string_equal(due(A, 10, c), "3 4");
    assert_string_equal(due(A, 10, c), "");
    assert_int_equal(queue_flush_domain(fakelog.q, slice_str(B)), 0);
}

static void test_held(void **state)
{
    (void)state;
    struct claim c[10], by_id;
    char domain[256];
    struct item_result r = {.end = ITEM_LIVE};
    accept(1, A, 1, 1);
    accept(2, A, 2, 1);
    struct msgid id = fake_id(1);
    assert_int_equal(queue_claim_id(fakelog.q, &id, &by_id, domain), 0);
    assert_int_equal(queue_claim_id(fakelog.q, &id, &by_id, domain), -SATCHEL_EBUSY);
    assert_int_equal(queue_finish(fakelog.q, slice_str(domain), &by_id, &r, 1, 0, true, NULL), 0);
    fake_turn(&fakelog);
    assert_int_equal(bag_of(A).held, 1);
    assert_string_equal(due(A, 10, c), "2");
    assert_int_equal(queue_claim(fakelog.q, slice_str(A), CLAIM_OLDER, 2, c, 10), 1); /* expiry sees it */
    assert_int_equal(c[0].id.counter, 1);
    queue_unclaim(fakelog.q, &c[0].id);
    assert_string_equal(due(A, 10, c), "");
    queue_flush_domain(fakelog.q, slice_str(A));
    assert_string_equal(due(A, 10, c), "");
    assert_int_equal(queue_claim_id(fakelog.q, &id, &by_id, domain), 0);
    fakelog.ready_n = 0;
    assert_int_equal(queue_finish(fakelog.q, slice_str(domain), &by_id, &r, 1, 0, false, NULL), 0);
    fake_turn(&fakelog);
    assert_int_equal(fakelog.ready_n, 1);
    assert_string_equal(due(A, 10, c), "1");
}

static void test_older(void **state)
{
    (void)state;
    struct claim c[10];
    for (uint64_t i = 1; i <= 5; i++)
        accept(i, A, i, 1);
    assert_int_equal(queue_claim(fakelog.q, slice_str(A), CLAIM_OLDER, 4, c, 2), 2);
    assert_int_equal(queue_claim(fakelog.q, slice_str(A), CLAIM_OLDER, 4, c + 2, 10), 1);
    assert_int_equal(c[2].id.counter, 3);
    assert_int_equal(queue_claim(fakelog.q, slice_str(A), CLAIM_OLDER, 4, c, 10), 0);
    struct claim d[10];
    assert_string_equal(due(A, 10, d), "4 5");
    queue_unclaim(fakelog.q, &c[2].id);
    assert_string_equal(due(A, 10, d), "3");
}

static void test_refused(void **state)
{
    (void)state;
    struct claim c[10];
    struct item_result r = {.end = ITEM_DELIVERED};
    accept(1, A, 1, 1);
    accept(2, A, 2, 1);
    assert_string_equal(due(A, 1, c), "1");
    fakelog.refuse = -SATCHEL_EFENCED;
    assert_int_equal(queue_finish(fakelog.q, slice_str(A), &c[0], &r, 1, 0, false, NULL), -SATCHEL_EFENCED);
    fakelog.refuse = 0;
    assert_string_equal(due(A, 10, c), "1 2");
    assert_int_equal(queue_finish(fakelog.q, slice_str(A), &c[0], &r, 1, 0, false, NULL), 0);
    struct seglog_entry *e = fakelog.pending[--fakelog.pending_n];
    e->done(e, -SATCHEL_EIO); /* the sync failed later */
    assert_string_equal(due(A, 10, c), "1");
}

static void test_chunks(void **state)
{
    (void)state;
    struct claim c[10];
    uint64_t pos;
    uint32_t size;
    accept_chunked(1, 3, true);
    accept_chunked(2, 2, false);
    assert_string_equal(due(A, 10, c), "1");
    assert_int_equal(c[0].chunks, 3);
    assert_int_equal(c[0].body_bytes, 300);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(queue_chunk(fakelog.q, &c[0].id, i, &pos, &size), 0);
    assert_int_equal(queue_chunk(fakelog.q, &c[0].id, 3, &pos, &size), -SATCHEL_ENOENT);
    finish(A, &c[0], 0, ITEM_DELIVERED, 0);
    assert_int_equal(queue_chunk(fakelog.q, &c[0].id, 0, &pos, &size), -SATCHEL_ENOENT);
    struct msgid open = fake_id(2);
    assert_int_equal(queue_chunk(fakelog.q, &open, 1, &pos, &size), 0);
    reopen(0); /* nobody was told that message 2 is safe */
    assert_int_equal(queue_chunk(fakelog.q, &open, 1, &pos, &size), -SATCHEL_ENOENT);
    accept(3, A, 3, 1); /* in the next segment */
    fake_reclaim_all(&fakelog, false);
    struct queue_stat st;
    queue_stat(fakelog.q, &st);
    assert_true(st.reclaimed > 0);
}

static void test_abort(void **state)
{
    (void)state;
    struct claim c[10];
    uint64_t pos;
    uint32_t size;
    accept(1, A, 1, 1);
    accept_chunked(2, 2, true);
    struct record a = fake_abort(1);
    fake_put(&fakelog, &a);
    a = fake_abort(2);
    fake_put(&fakelog, &a);
    assert_string_equal(due(A, 10, c), "");
    assert_int_equal(bag_of(A).messages, 0);
    assert_int_equal(queue_chunk(fakelog.q, &a.id, 1, &pos, &size), -SATCHEL_ENOENT);
    fake_check_scan(&fakelog, &queue_config_default);
}

static void test_ready(void **state)
{
    (void)state;
    struct claim c[10];
    accept(1, A, 1, 1);
    assert_int_equal(fakelog.ready_n, 1);
    assert_string_equal(fakelog.ready[0], A);
    accept(2, A, 2, 1);
    assert_int_equal(fakelog.ready_n, 1);
    assert_string_equal(due(A, 10, c), "1 2");
    accept(3, A, 3, 1); /* the relay has seen the bag empty */
    assert_int_equal(fakelog.ready_n, 2);
    fakelog.ready_n = 0;
    reopen(1);
    assert_int_equal(fakelog.ready_n, 1);
}

static void test_replay_is_idempotent(void **state)
{
    (void)state;
    struct claim c[10];
    for (uint64_t i = 1; i <= 20; i++)
        accept(i, i % 2 ? A : B, i, 2);
    due(A, 10, c);
    finish(A, &c[0], 0, ITEM_DELIVERED, 7);
    finish(A, &c[1], 1, ITEM_LIVE, 9);
    finish(A, &c[2], 0, ITEM_BOUNCED, 9);
    struct item_result both[2] = {{.end = ITEM_EXPIRED}, {.item = 1, .end = ITEM_DELETED}};
    assert_int_equal(queue_finish(fakelog.q, slice_str(A), &c[3], both, 2, 0, false, NULL), 0);
    fake_turn(&fakelog);
    char *before = fake_digest(fakelog.q);
    for (size_t i = 0; i < fakelog.segs[0].n; i++) {
        const struct fakerec *r = &fakelog.segs[0].recs[i];
        assert_int_equal(queue_apply(fakelog.q, &r->rec, r->pos, r->size), 0);
    }
    char *after = fake_digest(fakelog.q);
    assert_string_equal(before, after);
    free(after);
    reopen(15);
    after = fake_digest(fakelog.q);
    assert_string_equal(before, after);
    assert_int_equal(bag_of(A).messages, 9);
    assert_int_equal(bag_of(B).messages, 10);
    free(after);
    free(before);
}

/* A segment with live mail is gone, or the counters disagree: the caller rebuilds the index from the log. */
static void test_contradiction(void **state)
{
    (void)state;
    accept(1, A, 1, 1);
    fake_roll(&fakelog);
    accept(2, A, 2, 1);
    queue_close(&fakelog.q);
    fakelog.q = fake_queue(&fakelog, fakelog.ix, &queue_config_default);
    uint64_t only = 2;
    assert_int_equal(queue_recovered(fakelog.q, &only, 1), -SATCHEL_EDAMAGED);
}

/* ---- looking */

struct listed {
    char out[1024];
    size_t n, stop_at;
};

static bool listed_each(void *arg, const struct queue_entry *e)
{
    struct listed *l = arg;
    sprintf(l->out + strlen(l->out), "%.*s:%llu ", 1, (const char *)e->domain.p, (unsigned long long)e->id.counter);
    return ++l->n != l->stop_at;
}

static void test_list(void **state)
{
    (void)state;
    uint8_t cursor[QUEUE_CURSOR_MAX];
    size_t cursor_n = 0;
    struct claim c[10];
    for (uint64_t i = 1; i <= 6; i++)
        accept(i, i % 2 ? A : B, i, 1);
    struct listed l = {.stop_at = 2};
    struct slice none = {0};
    assert_int_equal(queue_list(fakelog.q, slice_str(A), none, listed_each, &l, cursor, &cursor_n), 0);
    assert_string_equal(l.out, "a:1 a:3 ");
    l = (struct listed){0};
    queue_list(fakelog.q, slice_str(A), slice_of(cursor, cursor_n), listed_each, &l, NULL, NULL);
    assert_string_equal(l.out, "a:5 ");
    l = (struct listed){.stop_at = 4};
    queue_list(fakelog.q, none, none, listed_each, &l, cursor, &cursor_n);
    assert_string_equal(l.out, "a:1 a:3 a:5 b:2 ");
    l = (struct listed){0};
    queue_list(fakelog.q, none, slice_of(cursor, cursor_n), listed_each, &l, NULL, NULL);
    assert_string_equal(l.out, "b:4 b:6 ");
    due(A, 1, c); /* the cursor's message ends: the listing goes on behind it */
    finish(A, &c[0], 0, ITEM_DELIVERED, 0);
    assert_int_equal(bag_of(A).oldest_us, 3);
    assert_int_equal(queue_commit(fakelog.q, queue_applied(fakelog.q)), 0);
    l = (struct listed){0};
    queue_list(fakelog.q, slice_str(A), none, listed_each, &l, NULL, NULL);
    assert_string_equal(l.out, "a:3 a:5 ");
    assert_int_equal(queue_list(fakelog.q, none, SLICE_LIT("odd"), listed_each, &l, NULL, NULL), -SATCHEL_EINVAL);
}

static void test_stats(void **state)
{
    (void)state;
    struct queue_stat st;
    accept(1, A, 5, 1);
    accept(2, B, 3, 1);
    accept(3, B, 9, 1);
    queue_stat(fakelog.q, &st);
    assert_int_equal(st.messages, 3);
    assert_int_equal(st.domains, 2);
    assert_int_equal(st.oldest_us, 3);
    assert_true(st.bytes >= 3 * REC_HEADER_BYTES);
    assert_int_equal(bag_of("none.example").messages, 0);
}

/* A bag of deferred mail is not walked again and again, and not in one go. */
static void test_many_deferred(void **state)
{
    (void)state;
    static struct claim c[20000];
    enum { N = 20000 };
    for (uint64_t i = 1; i <= N; i++)
        accept(i, A, i, 1);
    size_t n = 0, got;
    while ((got = queue_claim(fakelog.q, slice_str(A), CLAIM_DUE, 0, c + n, N - n)))
        n += got;
    assert_int_equal(n, N);
    struct item_result r = {.end = ITEM_LIVE};
    for (size_t i = 0; i < N - 1; i++)
        assert_int_equal(queue_finish(fakelog.q, slice_str(A), &c[i], &r, 1, fakelog.now_us + 1000, false, NULL), 0);
    fake_turn(&fakelog);
    reopen(0);
    fakelog.ready_n = 0;
    int calls = 0;
    while (queue_claim(fakelog.q, slice_str(A), CLAIM_DUE, 0, c, 10) == 0) {
        assert_true(fakelog.ready_n > 0); /* there may be more: come again */
        assert_true(++calls < 10);
    }
    assert_int_equal(c[0].id.counter, N);
    fakelog.now_us += 1000;
    for (n = 0; (got = queue_claim(fakelog.q, slice_str(A), CLAIM_DUE, 0, c + n, N - n)); n += got)
        ;
    assert_int_equal(n, N - 1);
}

/* ---- parts */

static bool int_eq(const void *item, const void *key)
{
    return *(const int *)item == *(const int *)key;
}

/* Few hashes for many items: probing and shifting back, against a plain array. */
static void test_table(void **state)
{
    (void)state;
    static int items[500];
    bool there[500] = {false};
    struct table t = {0};
    struct rng rng;
    rng_seed(&rng, 3);
    for (int i = 0; i < 500; i++)
        items[i] = i;
    for (int step = 0; step < 20000; step++) {
        int i = (int)rng_below(&rng, 500);
        uint64_t hash = (uint64_t)i * 2654435761u >> 3 & ~7ull;
        void *found = table_find(&t, hash, int_eq, &i);
        assert_ptr_equal(found, there[i] ? &items[i] : NULL);
        if (there[i])
            table_del(&t, hash, &items[i]);
        else
            table_add(&t, hash, &items[i]);
        there[i] = !there[i];
    }
    size_t at = 0, n = 0;
    while (table_next(&t, &at))
        n++;
    assert_int_equal(n, t.n);
    table_clear(&t, NULL);
}

static void test_heap(void **state)
{
    (void)state;
    struct heap h = {0};
    struct rng rng;
    rng_seed(&rng, 4);
    for (int i = 0; i < 500; i++)
        heap_push(&h, &(struct place){rng_below(&rng, 50), fake_id(rng_below(&rng, 100))}, 0);
    struct place last = {0};
    while (h.n) {
        struct place top = heap_top(&h)->at;
        assert_true(place_cmp(&last, &top) <= 0);
        last = top;
        heap_pop(&h);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_order),
        TEST(test_unclaim_comes_first),
        TEST(test_finish),
        TEST(test_deferred),
        TEST(test_flush),
        TEST(test_held),
        TEST(test_older),
        TEST(test_refused),
        TEST(test_chunks),
        TEST(test_abort),
        TEST(test_ready),
        TEST(test_replay_is_idempotent),
        TEST(test_contradiction),
        TEST(test_list),
        TEST(test_stats),
        TEST(test_many_deferred),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_heap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
