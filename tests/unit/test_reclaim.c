/* test_reclaim.c - random workloads of accept, claim, finish, defer, abort, move and free, with crashes anywhere: a
 * full scan of what is left in the log, and the surviving prefix of the index with a replay, must both say what the
 * queue says and what the test remembers.
 *
 *   SEED=n runs one seed;  SEEDS=n runs that many (default 40). */
#include "tests/unit/fakelog.h"
#include <stdio.h>

enum { MSGS_MAX = 4000, CLAIMS_MAX = 400, BODY = 700 };

/* What the test knows of each message, from the answers it got. */
struct known {
    uint32_t chunks;
    bool accepted, final;
};

struct world {
    struct rng rng;
    struct queue_config cfg;
    struct known msgs[MSGS_MAX];
    uint64_t next;
    struct claim claims[CLAIMS_MAX];
    char domains[CLAIMS_MAX][16];
    size_t claims_n;
    size_t sticky; /* so many of the first claims are held for long: what is under them cannot be moved */
    uint64_t seed;
    size_t freed;
};

static struct world world;
static const char *const domains[] = {"a.example", "b.example", "c.example"};

static uint64_t below(struct world *w, uint64_t n)
{
    return rng_below(&w->rng, n);
}

static void do_accept(struct world *w)
{
    static uint8_t body[BODY];
    uint8_t meta[4096];
    if (w->next == MSGS_MAX)
        return;
    uint64_t n = w->next++;
    struct known *k = &w->msgs[n];
    k->chunks = below(w, 6) == 0 ? 1 + (uint32_t)below(w, 4) : 0;
    for (uint32_t i = 0; i < k->chunks; i++) {
        struct record c = fake_chunk(n, i, slice_of(body, 50 + below(w, BODY - 50)), meta);
        fake_put(&fakelog, &c);
    }
    uint64_t fate = below(w, 20);
    if (fate == 0 && k->chunks)
        return; /* its client went away, and nobody said so */
    if (fate != 1) {
        struct record m = fake_msg(n, domains[below(w, 3)], fakelog.now_us++ - below(w, 3), 1 + (uint32_t)below(w, 4),
                                   slice_of(body, below(w, BODY)), k->chunks, meta);
        fake_put(&fakelog, &m);
        k->accepted = true;
    }
    if (fate <= 2) {
        struct record a = fake_abort(n);
        fake_put(&fakelog, &a);
        k->accepted = false;
    }
}

static void do_claim(struct world *w)
{
    const char *domain = domains[below(w, 3)];
    size_t cap = 1 + below(w, 30);
    if (w->claims_n + cap > CLAIMS_MAX)
        return;
    enum claim_mode mode = below(w, 8) ? CLAIM_DUE : CLAIM_OLDER;
    size_t n =
        queue_claim(fakelog.q, slice_str(domain), mode, fakelog.now_us - below(w, 500), w->claims + w->claims_n, cap);
    for (size_t i = 0; i < n; i++)
        snprintf(w->domains[w->claims_n + i], 16, "%s", domain);
    w->claims_n += n;
}

static size_t random_results(struct world *w, const struct msg_state *s, struct item_result *results, bool *final)
{
    uint64_t style = below(w, 4);
    size_t n = 0;
    *final = true;
    for (uint32_t i = 0; i < s->items; i++) {
        if (state_end(s, i) != ITEM_LIVE)
            continue;
        enum item_end end = style <= 1 ? ITEM_DELIVERED : style == 2 ? ITEM_LIVE : (enum item_end)below(w, 3);
        results[n].item = i;
        results[n].end = end;
        status_set(&results[n].status, end == ITEM_LIVE ? 451 : 250, end == ITEM_LIVE ? 4 : 2, 0, 0, "said so");
        *final = *final && end != ITEM_LIVE;
        n++;
    }
    return n;
}

static void do_finish(struct world *w)
{
    struct item_result results[8];
    bool final;
    if (w->claims_n == 0)
        return;
    size_t first = w->claims_n > w->sticky && below(w, 300) ? w->sticky : 0;
    size_t i = first + below(w, w->claims_n - first);
    struct claim *c = &w->claims[i];
    if (below(w, 8) == 0) {
        queue_unclaim(fakelog.q, &c->id);
    } else {
        size_t n = random_results(w, &c->state, results, &final);
        int res = queue_finish(fakelog.q, slice_str(w->domains[i]), c, results, n,
                               below(w, 6) ? fakelog.now_us + below(w, 3000) : 0, below(w, 30) == 0, NULL);
        assert_int_equal(res, 0);
        if (final)
            w->msgs[c->id.counter].final = true;
    }
    w->claims[i] = w->claims[--w->claims_n];
    memcpy(w->domains[i], w->domains[w->claims_n], 16);
}

static void do_reclaim(struct world *w)
{
    static uint64_t segs[4096];
    bool more = true;
    for (uint64_t steps = 1 + below(w, 6); more && steps; steps--) {
        more = queue_reclaim(fakelog.q, segs, fake_segs(&fakelog, segs, false), below(w, 3) == 0);
        if (below(w, 2) && fakelog.pending_n)
            fake_turn_some(&fakelog, 1 + below(w, fakelog.pending_n));
    }
    if (fakelog.frees_n && below(w, 2)) {
        size_t n = 1 + below(w, fakelog.frees_n);
        w->freed += n;
        fake_run_frees(&fakelog, n);
    }
}

/* ---- checks */

/* Everything accepted and not final is there; everything final is not. */
static void check_model(const struct world *w, const char *digest)
{
    for (uint64_t i = 1; i < w->next; i++) {
        struct msgid id = fake_id(i);
        char text[MSGID_TEXT_MAX + 2] = " ";
        msgid_format(&id, text + 1);
        strcat(text, " ");
        bool there = strstr(digest, text) != NULL;
        if (there != (w->msgs[i].accepted && !w->msgs[i].final))
            fail_msg("seed %llu: message %llu accepted=%d final=%d there=%d", (unsigned long long)w->seed,
                     (unsigned long long)i, w->msgs[i].accepted, w->msgs[i].final, there);
    }
}

static void check_now(struct world *w)
{
    fake_turn(&fakelog);
    char *now = fake_digest(fakelog.q), *scan = fake_scan_digest(&fakelog, &w->cfg, 1 + below(w, 20));
    if (strcmp(now, scan))
        print_error("seed %llu\n", (unsigned long long)w->seed);
    assert_string_equal(now, scan);
    check_model(w, now);
    free(now);
    free(scan);
}

/* Some of what is pending becomes durable without being applied; the rest and some commits of the index are lost. */
static void do_crash(struct world *w)
{
    size_t keep = fakelog.pending_n ? below(w, fakelog.pending_n + 1) : 0;
    for (size_t i = 0; i < keep; i++)
        fake_write(&fakelog, &fakelog.pending[i]->rec);
    for (size_t i = 0; i < w->next; i++)
        w->msgs[i].final = false; /* found out below: what was pending may be gone */
    fakelog.pending_n = 0;
    for (size_t i = 0; i < fakelog.frees_n; i++)
        if (below(w, 2))
            fake_seg_free(&fakelog.segs[fakelog.frees[i] - 1]);
    fakelog.frees_n = 0;
    w->claims_n = 0;
    queue_close(&fakelog.q);
    index_ram_crash(fakelog.ix, below(w, index_ram_unflushed(fakelog.ix) + 1));
    fake_roll(&fakelog);
    fakelog.q = fake_queue(&fakelog, fakelog.ix, &w->cfg);
    fake_replay(&fakelog, fakelog.q, 1 + below(w, 20));
}

/* Before a crash pending results are unknown: the test settles them first, then crashes with moves alone in flight. */
static void learn_final(struct world *w)
{
    for (uint64_t i = 1; i < w->next; i++) {
        struct queue_entry e;
        char domain[256];
        struct msgid id = fake_id(i);
        w->msgs[i].final = w->msgs[i].accepted && queue_find(fakelog.q, &id, &e, domain) == -SATCHEL_ENOENT;
    }
}

static void crash_and_check(struct world *w)
{
    static bool was_final[MSGS_MAX];
    static bool had_results[MSGS_MAX];
    for (uint64_t i = 1; i < w->next; i++)
        had_results[i] = w->msgs[i].final;
    learn_final(w); /* applied already: these must stay final */
    for (uint64_t i = 1; i < w->next; i++)
        was_final[i] = w->msgs[i].final;
    do_crash(w);
    learn_final(w);
    for (uint64_t i = 1; i < w->next; i++) {
        if (was_final[i] && !w->msgs[i].final)
            fail_msg("seed %llu: message %llu came back", (unsigned long long)w->seed, (unsigned long long)i);
        if (!had_results[i] && w->msgs[i].final)
            fail_msg("seed %llu: message %llu is lost", (unsigned long long)w->seed, (unsigned long long)i);
    }
    check_now(w);
}

static void run_seed(uint64_t seed)
{
    struct world *w = &world;
    *w = (struct world){.seed = seed, .next = 1, .cfg = queue_config_default};
    rng_seed(&w->rng, seed);
    w->cfg.flush_bytes = below(w, 2) ? 2000 + below(w, 40000) : 1u << 30;
    w->sticky = below(w, 4);
    w->cfg.move_inflight = 1 + (uint32_t)below(w, 10);
    w->cfg.compact_live_pct = 20 + (uint32_t)below(w, 60);
    fake_start(&fakelog, &w->cfg, 4096 + 4000 + (uint32_t)below(w, 20000));
    uint64_t accepts = 30;
    for (int i = 0; i < 1500; i++) {
        uint64_t what = below(w, 100);
        fakelog.now_us += below(w, 40);
        if (i % 100 == 0)
            accepts = below(w, 3) * 25; /* bags fill, stay, drain */
        if (what < accepts)
            do_accept(w);
        else if (what < 55)
            do_claim(w);
        else if (what < 80)
            do_finish(w);
        else if (what < 96)
            do_reclaim(w);
        else if (what < 98)
            check_now(w);
        else if (what < 99)
            fake_turn(&fakelog);
        else
            crash_and_check(w);
    }
    check_now(w);
    fake_stop(&fakelog);
}

static void test_random(void **state)
{
    (void)state;
    const char *one = getenv("SEED"), *many = getenv("SEEDS");
    if (one) {
        run_seed(strtoull(one, NULL, 10));
        return;
    }
    size_t freed = 0;
    for (uint64_t s = 1; s <= (many ? strtoull(many, NULL, 10) : 40); s++) {
        run_seed(s);
        freed += world.freed;
    }
    assert_true(freed > 100);
}

/* A segment is closed in the log before its records are applied: nothing in the index speaks for it yet. */
static void test_unapplied_segment_stays(void **state)
{
    (void)state;
    uint8_t meta[4096];
    struct record m = fake_msg(1, "a.example", 5, 1, (struct slice){0}, 0, meta);
    fake_start(&fakelog, &queue_config_default, 65536);
    struct fakerec written = *fake_write(&fakelog, &m);
    fake_roll(&fakelog);
    fake_reclaim_all(&fakelog, true);
    assert_non_null(fake_seg(&fakelog, 1));
    assert_int_equal(queue_apply(fakelog.q, &written.rec, written.pos, written.size), 0);
    assert_int_equal(queue_commit(fakelog.q, written.pos + written.size), 0);
    fake_check_scan(&fakelog, &queue_config_default);
    fake_stop(&fakelog);
}

/* n messages of one bag, of which all but every keep-th are delivered. */
static void fill_and_deliver(uint64_t n, uint64_t keep, uint64_t from)
{
    static uint8_t body[1000];
    uint8_t meta[4096];
    struct claim c;
    char domain[256];
    struct item_result r = {.end = ITEM_DELIVERED};
    status_set(&r.status, 250, 2, 0, 0, "ok");
    for (uint64_t i = from; i < from + n; i++) {
        struct record m = fake_msg(i, "a.example", i, 1, slice_of(body, sizeof body), 0, meta);
        fake_put(&fakelog, &m);
    }
    for (uint64_t i = from; i < from + n; i++) {
        struct msgid id = fake_id(i);
        if (i % keep == 0)
            continue;
        assert_int_equal(queue_claim_id(fakelog.q, &id, &c, domain), 0);
        assert_int_equal(queue_finish(fakelog.q, slice_str(domain), &c, &r, 1, 0, false, NULL), 0);
        fake_turn(&fakelog);
    }
}

static size_t used_segments(void)
{
    static uint64_t segs[4096];
    return fake_segs(&fakelog, segs, true);
}

static void test_dead_segments_go_unread(void **state)
{
    (void)state;
    struct queue_stat st;
    fake_start(&fakelog, &queue_config_default, 32768);
    fill_and_deliver(200, UINT64_MAX, 1);
    assert_true(used_segments() > 5);
    fake_reclaim_all(&fakelog, false);
    assert_int_equal(used_segments(), 1);
    queue_stat(fakelog.q, &st);
    assert_int_equal(st.moved_bytes, 0);
    fake_check_scan(&fakelog, &queue_config_default);
    fake_stop(&fakelog);
}

/* Sparse segments shrink to what lives, order is kept, and then there is nothing more to move, however often asked. */
static void test_compaction_ends(void **state)
{
    (void)state;
    static struct claim claims[100];
    struct queue_stat before, after;
    fake_start(&fakelog, &queue_config_default, 32768);
    fill_and_deliver(600, 20, 1);
    fake_reclaim_all(&fakelog, false);
    assert_true(used_segments() <= 8);
    queue_stat(fakelog.q, &before);
    assert_int_equal(before.messages, 30);
    assert_true(before.moved_bytes > 0);
    for (int i = 0; i < 20; i++) {
        fake_reclaim_all(&fakelog, true);
        fake_roll(&fakelog);
    }
    queue_stat(fakelog.q, &before);
    fake_reclaim_all(&fakelog, true);
    queue_stat(fakelog.q, &after);
    assert_int_equal(before.moved_bytes, after.moved_bytes);
    fake_check_scan(&fakelog, &queue_config_default);
    assert_int_equal(queue_claim(fakelog.q, slice_str("a.example"), CLAIM_DUE, 0, claims, 100), 30);
    for (uint64_t i = 0; i < 30; i++)
        assert_int_equal(claims[i].id.counter, (i + 1) * 20);
    fake_stop(&fakelog);
}

/* While a message is written again it keeps its place: nothing behind it overtakes. */
static void test_move_keeps_order(void **state)
{
    (void)state;
    static struct claim claims[100];
    static uint64_t segs[256];
    fake_start(&fakelog, &queue_config_default, 32768);
    fill_and_deliver(60, 20, 1);
    while (fakelog.pending_n == 0)
        queue_reclaim(fakelog.q, segs, fake_segs(&fakelog, segs, false), false);
    assert_int_equal(queue_claim(fakelog.q, slice_str("a.example"), CLAIM_DUE, 0, claims, 100), 0);
    fakelog.ready_n = 0;
    fake_turn(&fakelog);
    assert_true(fakelog.ready_n > 0);
    fake_reclaim_all(&fakelog, false);
    assert_int_equal(queue_claim(fakelog.q, slice_str("a.example"), CLAIM_DUE, 0, claims, 100), 3);
    for (uint64_t i = 0; i < 3; i++)
        assert_int_equal(claims[i].id.counter, (i + 1) * 20);
    fake_stop(&fakelog);
}

/* A log that takes no more stops compaction without harm; it goes on later. */
static void test_move_refused(void **state)
{
    (void)state;
    static uint64_t segs[256];
    fake_start(&fakelog, &queue_config_default, 32768);
    fill_and_deliver(60, 20, 1);
    fakelog.refuse = -SATCHEL_EFULL;
    for (int i = 0; i < 10; i++)
        queue_reclaim(fakelog.q, segs, fake_segs(&fakelog, segs, false), true);
    assert_int_equal(fakelog.pending_n, 0);
    fakelog.refuse = 0;
    size_t before = used_segments();
    fake_reclaim_all(&fakelog, false);
    assert_true(used_segments() < before);
    fake_check_scan(&fakelog, &queue_config_default);
    fake_stop(&fakelog);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unapplied_segment_stays),
        cmocka_unit_test(test_dead_segments_go_unread),
        cmocka_unit_test(test_compaction_ends),
        cmocka_unit_test(test_move_keeps_order),
        cmocka_unit_test(test_move_refused),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
