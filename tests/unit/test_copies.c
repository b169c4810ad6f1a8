/* test_copies.c - copies: accepting, stand-ins, ends, comparison, shedding; real cores, faked storages and network. */
#include "tests/unit/fake_cluster.h"

static struct copies_config cfg;

static int setup(void **state)
{
    (void)state;
    cfg = copies_config_default;
    cfg.scrub_bytes_s = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fstop();
    return 0;
}

static uint32_t holders_of(uint64_t n)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < net.n; i++)
        count += net.nodes[i].msgs[n].what != 0;
    return count;
}

/* ---- requests */

struct freq {
    struct copy_request cr;
    uint8_t meta[512];
    bool done;
    int res;
    uint32_t holders; /* when it was settled */
};

static void freq_settled(struct copy_request *cr, int res)
{
    struct freq *q = (struct freq *)cr;
    assert_false(q->done);
    q->done = true;
    q->res = res;
    q->holders = holders_of(cr->rec.id.counter);
}

static void freq_body(struct freq *q, struct slice body)
{
    q->cr.rec.body = body;
    q->cr.rec.body_sum = record_body_sum(body);
    q->cr.settled = freq_settled;
}

static void freq_send(struct freq *q, uint32_t node, uint64_t n, uint32_t d, uint32_t chunks)
{
    memset(q, 0, sizeof *q);
    size_t meta = fmeta(q->meta, sizeof q->meta, d, 1, chunks);
    q->cr.domain = fdomain(d);
    q->cr.rec = (struct record){.type = REC_MSG, .id = fid(n), .arrival_us = farrival(n)};
    q->cr.rec.flags = chunks ? REC_F_CHUNKED : 0;
    q->cr.rec.meta = slice_of(q->meta, meta);
    freq_body(q, chunks ? (struct slice){0} : SLICE_LIT("a body"));
    copies_request(net.nodes[node].copies, &q->cr);
    assert_false(q->done); /* never from within */
}

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

static int answered = 1;
static void on_done(void *arg, uint32_t shard, int res)
{
    (void)arg;
    (void)shard;
    answered = res;
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
        T(test_flush),
        T(test_flush_taken),
        T(test_part_comes_before_the_message),
        T(test_part_for_a_former_member),
        T(test_dsn_first),
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
        T(test_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
