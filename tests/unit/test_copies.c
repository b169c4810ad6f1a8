/* test_copies.c - copies: accepting, stand-ins, ends, hostile frames. */
#include "tests/unit/copies_rig.h"

/* ---- requests */

static void freq_chunk(struct freq *q, uint32_t node, uint64_t n, uint32_t d, uint32_t index)
{
    memset(q, 0, sizeof *q);
    size_t meta = fmeta_chunk(q->meta, sizeof q->meta, index);
    q->cr.domain = fdomain(d);
    q->cr.rec = (struct record){.type = REC_CHUNK, .id = fid(n), .arrival_us = farrival(n)};
    q->cr.rec.meta = slice_of(q->meta, meta);
    freq_body(q, SLICE_LIT("a part"));
    copies_request(net.nodes[node].copies, &q->cr);
}

static void freq_abort(struct freq *q, uint32_t node, uint64_t n, uint32_t d)
{
    memset(q, 0, sizeof *q);
    q->cr.domain = fdomain(d);
    q->cr.rec = (struct record){.type = REC_ABORT, .id = fid(n)};
    q->cr.settled = freq_settled;
    copies_request(net.nodes[node].copies, &q->cr);
    assert_false(q->done);
}

static void test_two_of_two(void **state)
{
    struct freq q;
    (void)state;
    fstart(3, 2, 2, 1, &cfg);
    for (uint32_t node = 0; node < 3; node++) { /* owner, follower, neither */
        freq_send(&q, node, 1 + node, 0, 0);
        frun(100000, NULL);
        assert_true(q.done);
        assert_int_equal(q.res, 0);
        assert_int_equal(q.holders, 2);
        assert_int_equal(net.nodes[0].msgs[1 + node].what, 1);
        assert_int_equal(net.nodes[1].msgs[1 + node].what, 1);
        assert_int_equal(net.nodes[2].msgs[1 + node].what, 0);
    }
}

static void test_two_of_three(void **state)
{
    struct freq q;
    (void)state;
    fstart(3, 3, 2, 1, &cfg);
    net.nodes[2].silent = true;
    freq_send(&q, 0, 1, 0, 0);
    frun(5000, NULL);
    assert_true(q.done);
    assert_int_equal(q.res, 0);
    assert_int_equal(q.holders, 2);
    struct copies_info info;
    copies_info(net.nodes[0].copies, &info);
    assert_int_equal(info.requests, 0);
}

static void test_standin_for_one_that_is_down(void **state)
{
    struct freq q;
    (void)state;
    fstart(3, 2, 2, 1, &cfg);
    fisolate(1, true);
    freq_send(&q, 0, 1, 0, 0);
    frun(5000, NULL);
    assert_true(q.done);
    assert_int_equal(q.res, 0);
    assert_int_equal(q.holders, 2);
    assert_int_equal(net.nodes[2].msgs[1].what, 1);
}

static void test_standin_for_one_that_is_late(void **state)
{
    struct freq q;
    (void)state;
    fstart(3, 2, 2, 1, &cfg);
    net.nodes[1].silent = true;
    freq_send(&q, 0, 1, 0, 0);
    frun(900000, NULL);
    assert_false(q.done);
    frun(300000, NULL);
    assert_true(q.done);
    assert_int_equal(q.res, 0);
    assert_int_equal(net.nodes[2].msgs[1].what, 1);
    struct copies_info info;
    copies_info(net.nodes[0].copies, &info);
    assert_int_equal(info.standins, 1);
}

/* The link ends with the PUT on it: the stand-in comes at once. */
static void test_standin_for_one_that_is_lost(void **state)
{
    struct freq q;
    (void)state;
    fstart(3, 2, 2, 1, &cfg);
    freq_send(&q, 0, 1, 0, 0);
    flink(0, 1, false);
    frun(5000, NULL);
    assert_true(q.done);
    assert_int_equal(q.res, 0);
    assert_int_equal(net.nodes[1].msgs[1].what, 0);
    assert_int_equal(net.nodes[2].msgs[1].what, 1);
    struct copies_info info;
    copies_info(net.nodes[0].copies, &info);
    assert_int_equal(info.unaccounted, 1);
}

static void test_too_few(void **state)
{
    struct freq q;
    (void)state;
    fstart(2, 2, 2, 1, &cfg);
    freq_send(&q, 0, 1, 0, 0);
    fisolate(1, true);
    frun(10000, NULL);
    assert_true(q.done);
    assert_int_equal(q.res, -SATCHEL_EAGAIN);
    assert_int_equal(holders_of(1), 0); /* ours was forgotten, although its put was under way then */
    freq_send(&q, 0, 2, 0, 0);
    frun(10000, NULL);
    assert_true(q.done);
    assert_int_equal(q.res, -SATCHEL_EAGAIN);
    assert_int_equal(holders_of(2), 0);
}

/* Answers that come after it was given up: the FORGET that was sent before them is obeyed when the put is over. */
static void test_late_answer(void **state)
{
    struct freq q;
    (void)state;
    fstart(2, 2, 2, 1, &cfg);
    net.nodes[1].silent = true;
    freq_send(&q, 0, 1, 0, 0);
    frun(7900000, NULL);
    assert_false(q.done);
    frun(300000, NULL);
    assert_true(q.done);
    assert_int_equal(q.res, -SATCHEL_EAGAIN);
    net.nodes[1].silent = false;
    for (struct fop *o = net.nodes[1].ops; o; o = o->next)
        o->due_us = net.now_us;
    frun(100000, NULL);
    assert_int_equal(holders_of(1), 0);
}

static void test_full_disk(void **state)
{
    struct freq q;
    (void)state;
    fstart(3, 2, 2, 1, &cfg);
    net.nodes[1].full = true;
    freq_send(&q, 0, 1, 0, 0);
    frun(10000, NULL);
    assert_true(q.done);
    assert_int_equal(q.res, 0);
    assert_int_equal(net.nodes[2].msgs[1].what, 1);
    net.nodes[2].full = true;
    freq_send(&q, 0, 2, 0, 0);
    frun(10000, NULL);
    assert_int_equal(q.res, -SATCHEL_EFULL);
    assert_int_equal(holders_of(2), 0);
}

static void test_unknown_shard(void **state)
{
    struct freq q;
    (void)state;
    fstart(2, 2, 2, 1, &cfg);
    fmembers(0, "", "");
    fmap_tell();
    freq_send(&q, 0, 1, 0, 0);
    frun(10000, NULL);
    assert_int_equal(q.res, -SATCHEL_EAGAIN);
    freq_send(&q, 0, 2, 0, 0);
    q.cr.domain = SLICE_LIT("elsewhere");
    frun(10000, NULL);
    assert_int_equal(q.res, -SATCHEL_EAGAIN);
}

static void test_chunks(void **state)
{
    struct freq q[3];
    (void)state;
    fstart(3, 2, 2, 1, &cfg);
    freq_chunk(&q[0], 2, 1, 0, 0);
    freq_chunk(&q[1], 2, 1, 0, 1);
    freq_send(&q[2], 2, 1, 0, 2); /* all of them at once */
    frun(10000, NULL);
    for (int i = 0; i < 3; i++)
        assert_true(q[i].done && q[i].res == 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(net.nodes[i].msgs[1].what, 1);
        assert_int_equal(net.nodes[i].msgs[1].chunks, 2);
    }
    assert_int_equal(net.nodes[2].msgs[1].what, 0);
}

/* A storage that missed a chunk never gets the MSG. */
static void test_chunk_lost(void **state)
{
    struct freq q[3];
    (void)state;
    fstart(3, 2, 2, 1, &cfg);
    freq_chunk(&q[0], 2, 1, 0, 0);
    frun(10000, NULL);
    assert_int_equal(q[0].res, 0);
    freq_chunk(&q[1], 2, 1, 0, 1);
    flink(1, 2, false);
    flink(1, 2, true);
    freq_send(&q[2], 2, 1, 0, 2);
    frun(10000, NULL);
    assert_true(q[1].done && q[1].res == -SATCHEL_EAGAIN);
    assert_true(q[2].done && q[2].res == -SATCHEL_EAGAIN);
    assert_int_equal(holders_of(1), 0);
}

/* One that was started again after it had acked a chunk has forgotten that: it never gets the MSG, either. */
static void test_chunk_forgotten(void **state)
{
    struct freq q[2];
    (void)state;
    for (uint32_t members = 2; members <= 3; members++) {
        fstart(4, members, 2, 1, &cfg);
        freq_chunk(&q[0], 3, 1, 0, 0);
        frun(10000, NULL);
        assert_true(q[0].done && q[0].res == 0);
        flink(1, 3, false);
        net.nodes[1].msgs[1].chunks = 0;
        flink(1, 3, true);
        freq_send(&q[1], 3, 1, 0, 1);
        frun(10000, NULL);
        assert_true(q[1].done && q[1].res == (members == 2 ? -SATCHEL_EAGAIN : 0));
        assert_int_equal(net.nodes[1].msgs[1].what, 0);
        if (members == 2)
            fstop();
    }
}

static bool forgets_are_lost(uint32_t from, uint32_t to, uint16_t type)
{
    (void)from;
    (void)to;
    return type == FRAME_FORGET;
}

/* One disk refuses a chunk and would take the MSG: it never gets it, so no FORGET is needed to undo it. */
static void test_chunk_refused(void **state)
{
    struct freq q[2];
    (void)state;
    fstart(3, 2, 2, 1, &cfg);
    net.drop = forgets_are_lost;
    net.nodes[1].full_chunks = true;
    freq_chunk(&q[0], 2, 1, 0, 0);
    freq_send(&q[1], 2, 1, 0, 1);
    frun(10000, NULL);
    assert_true(q[1].done && q[1].res < 0);
    assert_int_equal(net.nodes[1].msgs[1].what, 0);
}

static void test_abort(void **state)
{
    struct freq q[2];
    (void)state;
    fstart(3, 2, 2, 1, &cfg);
    freq_chunk(&q[0], 2, 1, 0, 0);
    frun(10000, NULL);
    assert_int_equal(net.nodes[1].msgs[1].chunks, 1);
    freq_abort(&q[1], 2, 1, 0);
    frun(10000, NULL);
    assert_true(q[1].done && q[1].res == 0);
    assert_int_equal(net.nodes[0].msgs[1].chunks, 0);
    assert_int_equal(net.nodes[1].msgs[1].chunks, 0);
    freq_send(&q[0], 2, 2, 0, 0);
    frun(10000, NULL);
    freq_abort(&q[1], 2, 2, 0);
    frun(10000, NULL);
    assert_int_equal(holders_of(2), 0);
}

/* ---- ends */

static void test_end_is_pushed(void **state)
{
    (void)state;
    fstart(3, 3, 2, 1, &cfg);
    for (uint32_t i = 0; i < 3; i++)
        fput(&net.nodes[i], 1, 0, 1);
    frun(100000, NULL);
    fdeliver(0, 1, 7, 0);
    frun(50000, NULL);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(net.nodes[i].msgs[1].what, 2);
    frun(100000, NULL); /* SETTLED */
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(net.nodes[i].msgs[1].owed, 0);
}

/* A former owner comes back and tells whom it believes to hold copies; the owner of now tells its members. */
static void test_owner_passes_ends_on(void **state)
{
    (void)state;
    cfg.compare_us = 1000000000;
    fstart(4, 3, 2, 1, &cfg);
    frun(100000, NULL);
    fisolate(3, true);
    for (uint32_t i = 0; i < 4; i++)
        fput(&net.nodes[i], 1, 0, 1);
    fdeliver(3, 1, 1, 0); /* owed to node 0 alone */
    frun(100000, NULL);
    flink(0, 3, true);
    frun(500000, NULL);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(net.nodes[i].msgs[1].what, 2);
        assert_int_equal(net.nodes[i].msgs[1].owed, 0);
    }
}

static void test_end_of_a_claimed_message(void **state)
{
    (void)state;
    fstart(2, 2, 2, 1, &cfg);
    fput(&net.nodes[0], 1, 0, 1);
    fput(&net.nodes[1], 1, 0, 1);
    net.nodes[1].msgs[1].claimed = true;
    fdeliver(0, 1, 3, 0);
    frun(500000, NULL);
    assert_int_equal(net.nodes[1].msgs[1].what, 1);
    net.nodes[1].msgs[1].claimed = false;
    frun(100000, NULL);
    assert_int_equal(net.nodes[1].msgs[1].what, 2);
    assert_int_equal(net.nodes[0].msgs[1].owed, 0);
}

static void test_returning_member(void **state)
{
    (void)state;
    fstart(3, 3, 2, 1, &cfg);
    for (uint32_t n = 1; n <= 3000; n++)
        for (uint32_t i = 0; i < 3; i++)
            fput(&net.nodes[i], n, 0, 1);
    fisolate(2, true);
    for (uint32_t n = 1; n <= 3000; n++)
        fdeliver(0, n, 7, 0);
    frun(3000000, NULL);
    for (uint32_t n = 1; n <= 3000; n++)
        assert_int_equal(net.nodes[1].msgs[n].what, 2);
    fisolate(2, false);
    frun(300000, NULL);
    for (uint32_t n = 1; n <= 3000; n++)
        assert_int_equal(net.nodes[2].msgs[n].what, 2);
}

/* The former owner is the only one that knows; a new member learns it before it could take the stale copy for new. */
static void test_new_member_learns_ends(void **state)
{
    (void)state;
    fstart(3, 2, 2, 1, &cfg);
    fput(&net.nodes[1], 1, 0, 1);
    fput(&net.nodes[0], 1, 0, 1);
    fisolate(1, true);
    fdeliver(0, 1, 3, 0);
    frun(1000000, NULL);
    fmembers(0, "012", "");
    fmap_tell();
    frun(1000000, NULL);
    assert_int_equal(net.nodes[2].msgs[1].what, 2);
    assert_int_equal(net.nodes[2].msgs[1].owed, 2);
}

/* Who is owed an end is gathered before it is written; a member that came meanwhile may have the copy by then. */
static void test_end_from_before_a_new_member(void **state)
{
    (void)state;
    cfg.compare_us = 1000000000;
    fstart(3, 2, 2, 1, &cfg);
    fput(&net.nodes[0], 1, 0, 1);
    fput(&net.nodes[1], 1, 0, 1);
    frun(100000, NULL);
    fmembers(0, "012", "");
    fmap_tell();
    frun(1000000, NULL);
    assert_int_equal(net.nodes[2].msgs[1].what, 1);
    fdeliver(0, 1, 3, 0); /* owed to node 1 alone */
    answered = 1;
    copies_flush(net.nodes[0].copies, 0, &net.nodes[2].id, 1000000, on_done, NULL);
    for (int i = 0; i < 1000 && answered == 1; i++)
        frun(1000, NULL);
    assert_int_equal(answered, 0);
    assert_int_equal(net.nodes[2].msgs[1].what, 2); /* it may own the shard now */
}

/* Node 0 owns, node 2 stands in; the owner tells it the end of message 1, and cannot tell member 1. */
static void stand_in_alone_is_told(void)
{
    cfg.compare_us = 1000000000;
    fstart(3, 2, 2, 1, &cfg);
    frun(2000000, NULL);
    for (uint32_t i = 0; i < 3; i++)
        fput(&net.nodes[i], 1, 0, 1);
    flink(0, 1, false);
    fdeliver(0, 1, 7, 0);
    frun(1000000, NULL);
    assert_int_equal(net.nodes[2].msgs[1].what, 2);
    assert_int_equal(net.nodes[1].msgs[1].what, 1); /* it is the owner's to tell, for a while */
}

static void test_stand_in_tells_a_member(void **state)
{
    (void)state;
    stand_in_alone_is_told();
    frun(4500000, NULL);
    assert_int_equal(net.nodes[1].msgs[1].what, 2);
}

static void test_stand_in_tells_the_next_owner(void **state)
{
    (void)state;
    stand_in_alone_is_told();
    fisolate(0, true);
    fmembers(0, "10", "");
    fmap_tell();
    frun(50000, NULL);
    assert_int_equal(net.nodes[1].msgs[1].what, 2);
}

/* What is learned while a walk over what is owed is under way, and is behind its place, is not left to the next of
 * habit. */
static void test_stand_in_told_during_a_walk(void **state)
{
    enum { N = 20000 };
    (void)state;
    cfg.compare_us = 1000000000;
    cfg.push_us = 0;
    fstart(3, 2, 2, 1, &cfg);
    frun(2000000, NULL);
    for (uint32_t n = 1; n <= N; n++)
        for (uint32_t i = 0; i < 3; i++)
            fput(&net.nodes[i], n, 0, 1);
    fisolate(1, true);
    for (uint32_t n = 2; n <= N; n++)
        fdeliver(0, n, 7, 0);
    frun(10000000, NULL);
    assert_int_equal(net.nodes[2].msgs[N].what, 2);
    flink(2, 1, true);
    frun(1000, NULL);
    fdeliver(0, 1, 7, 0);
    frun(6000000, NULL);
    assert_int_equal(net.nodes[1].msgs[N].what, 2);
    assert_int_equal(net.nodes[2].msgs[1].what, 2);
    assert_int_equal(net.nodes[1].msgs[1].what, 2);
}

static void test_flush(void **state)
{
    (void)state;
    fstart(3, 2, 2, 1, &cfg);
    fput(&net.nodes[0], 1, 0, 1);
    fput(&net.nodes[1], 1, 0, 1);
    fdeliver(0, 1, 3, 0);
    frun(400, NULL);
    answered = 1;
    copies_flush(net.nodes[0].copies, 0, &net.nodes[1].id, 1000000, on_done, NULL);
    assert_int_equal(answered, 1);
    frun(100000, NULL);
    assert_int_equal(answered, 0);
    assert_int_equal(net.nodes[1].msgs[1].what, 2);
    fisolate(1, true);
    answered = 1;
    copies_flush(net.nodes[0].copies, 0, &net.nodes[1].id, 1000000, on_done, NULL);
    frun(990000, NULL);
    assert_int_equal(answered, 1);
    frun(50000, NULL);
    assert_int_equal(answered, -SATCHEL_EAGAIN);
}

/* A shard is handed over when the heir will not deliver what ended here: it need not be durable there. */
static void test_flush_taken(void **state)
{
    (void)state;
    for (int holds = 0; holds < 2; holds++) {
        fstart(3, 2, 2, 1, &cfg);
        fput(&net.nodes[0], 1, 0, 1);
        fput(&net.nodes[1], 1, 0, 1);
        frun(2000000, NULL);
        net.nodes[1].holds = holds;
        net.nodes[1].silent = true;
        fdeliver(0, 1, 3, 0);
        frun(400, NULL);
        answered = 1;
        copies_flush(net.nodes[0].copies, 0, &net.nodes[1].id, 1000000, on_done, NULL);
        frun(900000, NULL);
        assert_int_equal(answered, holds ? 0 : 1);
        assert_int_equal(net.nodes[0].msgs[1].owed, 2);
        if (!holds)
            fstop();
    }
}

/* What became of one recipient comes before the message itself, which somebody else sends: the member that does not
 * have it yet is out of sync until a comparison told it, and no shard is handed to it before. */
static void test_part_comes_before_the_message(void **state)
{
    (void)state;
    fstart(3, 3, 2, 1, &cfg);
    net.shards[1].owner = net.nodes[0].id;
    fmap_tell();
    frun(300000, NULL);
    assert_int_equal(copies_synced(net.nodes[0].copies, 0), 7);
    assert_int_equal(copies_synced(net.nodes[0].copies, 1), 7);
    fput(&net.nodes[0], 1, 0, 2);
    fput(&net.nodes[1], 1, 0, 2);
    fdeliver_first(0, 1, 6);
    frun(400, NULL);
    answered = 1;
    copies_flush(net.nodes[0].copies, 0, &net.nodes[2].id, 1000000, on_done, NULL);
    frun(30000, NULL);
    assert_int_equal(net.nodes[1].msgs[1].ends, 1);
    assert_int_equal(copies_synced(net.nodes[0].copies, 0), 3);
    assert_int_equal(copies_synced(net.nodes[0].copies, 1), 7);
    assert_int_equal(answered, 1);
    fput(&net.nodes[2], 1, 0, 2); /* as it was accepted */
    frun(900000, NULL);
    assert_int_equal(net.nodes[2].msgs[1].ends, 1);
    assert_int_equal(copies_synced(net.nodes[0].copies, 0), 7);
    assert_int_equal(answered, 0);
}

/* One that left the shard is not to have it: there is nothing that it lacks. */
static void test_part_for_a_former_member(void **state)
{
    (void)state;
    fstart(3, 2, 2, 1, &cfg);
    fmembers(0, "01", "2");
    fmap_tell();
    frun(200000, NULL);
    uint64_t sums = net.frames[FRAME_SUMS];
    fput(&net.nodes[0], 1, 0, 2);
    fput(&net.nodes[1], 1, 0, 2);
    fdeliver_first(0, 1, 6);
    frun(1000000, NULL);
    assert_int_equal(net.nodes[1].msgs[1].ends, 1);
    assert_int_equal(copies_synced(net.nodes[0].copies, 0), 3);
    assert_int_equal(net.frames[FRAME_SUMS], sums);
}

/* The end of a message waits until the DSN about it is on enough storages. */
static void test_dsn_first(void **state)
{
    (void)state;
    fstart(3, 2, 2, 1, &cfg);
    fput(&net.nodes[0], 1, 0, 1);
    fput(&net.nodes[1], 1, 0, 1);
    fisolate(2, true);
    frun(100000, NULL);
    fput(&net.nodes[0], 2, 2, 1); /* shard 2: nodes 2 and 0 */
    fdeliver(0, 1, 3, 2);
    frun(3000000, NULL);
    assert_int_equal(net.nodes[1].msgs[1].what, 1);
    fisolate(2, false);
    frun(1000000, NULL);
    assert_int_equal(net.nodes[2].msgs[2].what, 1);
    assert_int_equal(net.nodes[1].msgs[1].what, 2);
}

/* ---- hostile frames */

static void test_nonsense(void **state)
{
    (void)state;
    static uint8_t bytes[400];
    fstart(2, 2, 2, 1, &cfg);
    for (int i = 0; i < 200000; i++) {
        size_t n = rng_below(&net.rng, i % 2 ? 40 : sizeof bytes);
        uint8_t *exact = malloc(n ? n : 1);
        for (size_t k = 0; k < n; k++)
            exact[k] = rng_below(&net.rng, 3) ? (uint8_t)rng_below(&net.rng, 4) : (uint8_t)rng_u64(&net.rng);
        copies_frame(net.nodes[0].copies, &net.nodes[1].id, (uint16_t)(16 + rng_below(&net.rng, 13)), 1,
                     slice_of(exact, n));
        free(exact);
        if (i % 1000 == 0)
            frun(1000, NULL);
    }
    struct freq q;
    freq_send(&q, 0, 70000, 0, 0);
    frun(1000000, NULL);
    assert_true(q.done && q.res == 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_two_of_two),
        T(test_two_of_three),
        T(test_standin_for_one_that_is_down),
        T(test_standin_for_one_that_is_late),
        T(test_standin_for_one_that_is_lost),
        T(test_too_few),
        T(test_late_answer),
        T(test_full_disk),
        T(test_unknown_shard),
        T(test_chunks),
        T(test_chunk_lost),
        T(test_chunk_forgotten),
        T(test_chunk_refused),
        T(test_abort),
        T(test_end_is_pushed),
        T(test_owner_passes_ends_on),
        T(test_end_of_a_claimed_message),
        T(test_returning_member),
        T(test_new_member_learns_ends),
        T(test_end_from_before_a_new_member),
        T(test_stand_in_tells_a_member),
        T(test_stand_in_tells_the_next_owner),
        T(test_stand_in_told_during_a_walk),
        T(test_flush),
        T(test_flush_taken),
        T(test_part_comes_before_the_message),
        T(test_part_for_a_former_member),
        T(test_dsn_first),
        T(test_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
