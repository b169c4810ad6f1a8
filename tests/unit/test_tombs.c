/* test_tombs.c - copies of the same messages come, end, are forgotten and come again, in random order and with crashes
 * anywhere, while segments are reclaimed:
 *
 *   - what ended never lives again, neither here nor in a full scan of what is left of the log (no tombstone disappears
 *     before every copy that it kills);
 *   - what was stored and not ended or forgotten since is there; an end that came while somebody held the message
 * counts from then on, and takes hold at the latest when nobody holds it any more;
 *   - the index says what a full scan says; digests and counters say what the index says.
 *
 *   SEED=n runs one seed;  SEEDS=n runs that many (default 60). */
#include "spool/queue/queue_impl.h"
#include "tests/unit/fakelog.h"

enum { MSGS = 60, CLAIMS = 20, STEPS = 1200 };

static const char *const DOMAIN = "a.example";
static const struct storage_id B = {"bbbbbbbbbbbbbbb"}, C = {"ccccccccccccccc"};
static uint8_t BOTH[32];

struct known {
    uint32_t items, chunks;
    bool must_live; /* stored, and nobody asked to end or forget it since */
    bool ended;     /* had a tombstone */
    uint32_t over;  /* mask of items whose end came while it was held, until that was seen to be so */
};

struct world {
    struct rng rng;
    uint64_t seed;
    struct queue_config cfg;
    struct known msgs[MSGS + 1];
    struct claim claims[CLAIMS];
    size_t claims_n;
    int merges; /* under way */
    size_t freed, late, expired, overs;
};

static struct world world;

static uint64_t below(struct world *w, uint64_t n)
{
    return rng_below(&w->rng, n);
}

static bool is_live(uint64_t n)
{
    struct queue_entry e;
    char domain[256];
    struct msgid id = fake_id(n);
    return queue_find(fakelog.q, &id, &e, domain) == 0;
}

static bool has_tomb(uint64_t n)
{
    uint8_t buf[QUEUE_TOMB_BYTES];
    struct storage_state st;
    struct msgid id = fake_id(n);
    return queue_tomb(fakelog.q, &id, &st, buf) == 0;
}

/* What the queue has applied is what the model has to go by. */
static void learn(struct world *w)
{
    for (uint64_t n = 1; n <= MSGS; n++)
        w->msgs[n].ended = w->msgs[n].ended || has_tomb(n);
}

/* ---- steps */

/* A message, its duplicate, or what comes after its end.  After its end it is sent no more once the tombstone is gone:
 * everybody knows then. */
static void do_store(struct world *w)
{
    static uint8_t body[600];
    uint8_t meta[4096];
    uint64_t n = 1 + below(w, MSGS);
    struct known *k = &w->msgs[n];
    fake_turn(&fakelog);
    learn(w);
    if (k->ended && !has_tomb(n))
        return;
    if (!is_live(n))
        k->over = 0; /* it was forgotten, and with it what some items came to */
    if (k->items == 0) {
        k->items = 1 + (uint32_t)below(w, 3);
        k->chunks = below(w, 4) == 0 ? 1 + (uint32_t)below(w, 3) : 0;
    }
    for (uint32_t i = 0; i < k->chunks; i++) {
        struct record c = fake_chunk(n, i, slice_of(body, 100), meta);
        fake_put(&fakelog, &c);
    }
    struct record m = fake_msg(n, DOMAIN, 1000 + n, k->items, slice_of(body, n * 7 % 600), k->chunks, meta);
    fake_put(&fakelog, &m);
    w->late += k->ended;
    k->must_live = !k->ended && !k->over;
}

static void do_claim(struct world *w)
{
    size_t cap = 1 + below(w, 3);
    if (w->claims_n + cap <= CLAIMS)
        w->claims_n += queue_claim(fakelog.q, slice_str(DOMAIN), CLAIM_DUE, 0, w->claims + w->claims_n, cap);
}

static void do_finish(struct world *w)
{
    struct item_result r[3];
    size_t n = 0, i = w->claims_n ? below(w, w->claims_n) : 0;
    if (w->claims_n == 0)
        return;
    struct claim *c = &w->claims[i];
    const struct finish_copies copies = {.owed = slice_of(BOTH, below(w, 3) * 16)};
    for (uint32_t k = 0; k < c->state.items; k++)
        if (state_end(&c->state, k) == ITEM_LIVE) {
            r[n] = (struct item_result){.item = k, .end = below(w, 3) ? ITEM_DELIVERED : ITEM_LIVE};
            status_set(&r[n++].status, 250, 2, 0, 0, "ok");
        }
    if (below(w, 6) == 0)
        queue_unclaim(fakelog.q, &c->id);
    else if (queue_finish(fakelog.q, slice_str(DOMAIN), c, r, n, 0, false, &copies) == 0)
        w->msgs[c->id.counter].must_live = false;
    w->claims[i] = w->claims[--w->claims_n];
}

static void merged(void *arg, int res)
{
    struct world *w = arg;
    assert_int_equal(res, 0);
    w->merges--;
}

static void do_merge(struct world *w)
{
    uint64_t n = 1 + below(w, MSGS);
    struct known *k = &w->msgs[n];
    struct storage_state st = {.id = fake_id(n),
                               .arrival_us = 1000 + n,
                               .domain = slice_str(DOMAIN),
                               .owed = slice_of(BOTH, below(w, 3) * 16)};
    if (k->items == 0 || (k->ended && !has_tomb(n)))
        return;
    st.state.items = st.state.live = k->items;
    st.state.seq = (uint32_t)below(w, 5);
    for (uint32_t i = 0; i < k->items; i++)
        state_finish(&st.state, i, below(w, 3) ? ITEM_DELIVERED : ITEM_LIVE);
    int res = queue_merge(fakelog.q, &st, merged, w);
    w->merges += res == 0;
    if (res == 0 || res == -SATCHEL_EBUSY)
        k->must_live = false;
    else if (res != 1 && res != -SATCHEL_ENOENT)
        fail_msg("seed %llu: merge said %d", (unsigned long long)w->seed, res);
    for (uint32_t i = 0; res == -SATCHEL_EBUSY && i < k->items; i++)
        k->over |= state_end(&st.state, i) != ITEM_LIVE ? 1u << i : 0;
}

static void do_forget(struct world *w)
{
    uint64_t n = 1 + below(w, MSGS);
    struct msgid id = fake_id(n);
    if (queue_forget(fakelog.q, &id) == 0)
        w->msgs[n].must_live = false;
}

static void do_confirm(struct world *w)
{
    struct msgid ids[10];
    fake_turn(&fakelog); /* the queue's lock: nobody is between a record and its batch */
    for (int i = 0; i < 10; i++)
        ids[i] = fake_id(1 + below(w, MSGS));
    uint64_t by = below(w, 3);
    queue_tombs_confirm(fakelog.q, by == 0 ? &B : by == 1 ? &C : NULL, ids, 10);
}

/* Compaction knew of everything that the counters call needed. */
static void check_segments(const struct world *w)
{
    for (size_t i = 0; i < fakelog.q->segs.n; i++)
        if (fakelog.q->segs.items[i]->stuck)
            fail_msg("seed %llu: segment %llu was not read as a whole", (unsigned long long)w->seed,
                     (unsigned long long)fakelog.q->segs.items[i]->seg);
}

static void do_reclaim(struct world *w)
{
    static uint64_t segs[4096];
    bool more = true;
    for (uint64_t steps = 1 + below(w, 6); more && steps; steps--) {
        more = queue_reclaim(fakelog.q, segs, fake_segs(&fakelog, segs, false), below(w, 2) == 0);
        if (below(w, 2) && fakelog.pending_n)
            fake_turn_some(&fakelog, 1 + below(w, fakelog.pending_n));
    }
    if (fakelog.frees_n && below(w, 3)) {
        size_t n = 1 + below(w, fakelog.frees_n);
        w->freed += n;
        fake_run_frees(&fakelog, n);
    }
}

/* ---- checks */

static bool digest_add(void *arg, const struct queue_entry *e)
{
    *(uint64_t *)arg += queue_entry_digest(&e->id, &e->state);
    return true;
}

static bool count(void *arg, const struct storage_state *st)
{
    (void)st;
    ++*(uint64_t *)arg;
    return true;
}

static void check_counters(const struct world *w)
{
    struct queue_totals t;
    struct bag_stat bag;
    uint64_t sum = 0, owed = 0, tombs = 0;
    queue_totals(fakelog.q, &t);
    queue_bag_stat(fakelog.q, slice_str(DOMAIN), &bag);
    queue_list(fakelog.q, slice_str(DOMAIN), (struct slice){0}, digest_add, &sum, NULL, NULL);
    queue_tombs_owed(fakelog.q, NULL, NULL, count, &owed);
    for (uint64_t n = 1; n <= MSGS; n++)
        tombs += has_tomb(n);
    if (bag.digest != sum || t.tombs != tombs || t.tombs_owed != owed)
        fail_msg("seed %llu: tombs %llu of %llu, owed %llu of %llu, digest %s", (unsigned long long)w->seed,
                 (unsigned long long)t.tombs, (unsigned long long)tombs, (unsigned long long)t.tombs_owed,
                 (unsigned long long)owed, bag.digest == sum ? "right" : "wrong");
}

static void check_equal(const struct world *w, const char *now, const char *scan)
{
    while (*now && *now == *scan) {
        size_t a = strcspn(now, "\n"), b = strcspn(scan, "\n");
        if (a != b || memcmp(now, scan, a) != 0)
            break;
        now += a + 1;
        scan += a + 1;
    }
    if (*now || *scan)
        fail_msg("seed %llu: the index says \"%.*s\", a scan says \"%.*s\"", (unsigned long long)w->seed,
                 (int)strcspn(now, "\n"), now, (int)strcspn(scan, "\n"), scan);
}

/* What came while it was held is so when nobody holds it. */
static void check_over(struct world *w, uint64_t n)
{
    struct msgid id = fake_id(n);
    struct queue_entry e;
    char domain[256];
    if (hold_find(fakelog.q, &id))
        return;
    bool live = queue_find(fakelog.q, &id, &e, domain) == 0;
    for (uint32_t i = 0; i < w->msgs[n].items; i++)
        if (live && w->msgs[n].over & 1u << i && state_end(&e.state, i) == ITEM_LIVE)
            fail_msg("seed %llu: item %u of message %llu lives, its end came while it was held",
                     (unsigned long long)w->seed, i, (unsigned long long)n);
    w->overs += w->msgs[n].over != 0;
    w->msgs[n].over = 0;
}

static void check_now(struct world *w)
{
    fake_turn(&fakelog);
    learn(w);
    char *now = fake_digest(fakelog.q), *scan = fake_scan_digest(&fakelog, &w->cfg, 1 + below(w, 20));
    check_equal(w, now, scan);
    free(now);
    free(scan);
    for (uint64_t n = 1; n <= MSGS; n++) {
        struct known *k = &w->msgs[n];
        bool live = is_live(n);
        if (live ? k->ended : k->must_live)
            fail_msg("seed %llu: message %llu %s", (unsigned long long)w->seed, (unsigned long long)n,
                     live ? "came back" : "is lost");
        w->expired += k->ended && !has_tomb(n);
        check_over(w, n);
    }
    check_counters(w);
    check_segments(w);
}

static void do_crash(struct world *w)
{
    size_t keep = fakelog.pending_n ? below(w, fakelog.pending_n + 1) : 0;
    learn(w);
    for (size_t i = 0; i < keep; i++)
        fake_write(&fakelog, &fakelog.pending[i]->rec);
    fakelog.pending_n = 0;
    for (size_t i = 0; i < fakelog.frees_n; i++)
        if (below(w, 2))
            fake_seg_free(&fakelog.segs[fakelog.frees[i] - 1]);
    fakelog.frees_n = 0;
    w->claims_n = 0;
    w->merges = 0;
    for (uint64_t n = 1; n <= MSGS; n++)
        w->msgs[n].over = 0; /* it is said again */
    queue_close(&fakelog.q);
    if (below(w, 4) == 0) {
        fakelog.ix->ops->close(&fakelog.ix);
        assert_int_equal(index_ram_open(&fakelog.ix), 0);
    } else {
        index_ram_crash(fakelog.ix, below(w, index_ram_unflushed(fakelog.ix) + 1));
    }
    fake_roll(&fakelog);
    fakelog.q = fake_queue(&fakelog, fakelog.ix, &w->cfg);
    fake_replay(&fakelog, fakelog.q, 1 + below(w, 20));
    check_now(w);
}

static void run_seed(uint64_t seed)
{
    struct world *w = &world;
    const struct world all = *w;
    *w = (struct world){.seed = seed,
                        .cfg = queue_config_default,
                        .freed = all.freed,
                        .late = all.late,
                        .expired = all.expired,
                        .overs = all.overs};
    rng_seed(&w->rng, seed);
    w->cfg.flush_bytes = below(w, 2) ? 2000 + below(w, 40000) : 1u << 30;
    w->cfg.move_inflight = 1 + (uint32_t)below(w, 10);
    w->cfg.compact_live_pct = 20 + (uint32_t)below(w, 60);
    w->cfg.tomb_min_us = 1 + below(w, 20000);
    fake_start(&fakelog, &w->cfg, 4096 + 3000 + (uint32_t)below(w, 12000));
    static const struct {
        uint64_t weight;
        void (*run)(struct world *w);
    } steps[] = {{30, do_store},   {15, do_claim},   {20, do_finish}, {20, do_merge}, {8, do_forget},
                 {14, do_confirm}, {25, do_reclaim}, {2, check_now},  {1, do_crash}};
    for (int i = 0; i < STEPS; i++) {
        uint64_t at = below(w, 135), k = 0;
        fakelog.now_us += below(w, 100);
        while (at >= steps[k].weight)
            at -= steps[k++].weight;
        steps[k].run(w);
        learn(w); /* before a step that may let it expire */
    }
    check_now(w);
    assert_int_equal(w->merges, 0);
    fake_stop(&fakelog);
}

static void test_random(void **state)
{
    (void)state;
    const char *one = getenv("SEED"), *many = getenv("SEEDS");
    memcpy(BOTH, B.b, 16);
    memcpy(BOTH + 16, C.b, 16);
    if (one) {
        run_seed(strtoull(one, NULL, 10));
        return;
    }
    uint64_t seeds = many ? strtoull(many, NULL, 10) : 60;
    for (uint64_t s = 1; s <= seeds; s++)
        run_seed(s);
    print_message("# %zu segments freed, %zu copies came late, %zu tombstones gone, %zu ends came while held\n",
                  world.freed, world.late, world.expired, world.overs);
    assert_true(world.freed > seeds && world.late > seeds && world.expired > seeds && world.overs > seeds);
}

/* What was said of a copy that was given up does not reach the one that came later, wherever compaction takes it. */
static void test_lives(void **state)
{
    (void)state;
    uint8_t meta[4096];
    struct claim c;
    struct queue_entry e;
    char domain[256];
    struct item_result r = {.item = 0, .end = ITEM_DELIVERED};
    struct msgid id = fake_id(1);
    struct storage_state st = {.id = id, .arrival_us = 1001, .domain = slice_str(DOMAIN)};
    struct record m = fake_msg(1, DOMAIN, 1001, 2, SLICE_LIT("body"), 0, meta);
    status_set(&r.status, 250, 2, 0, 0, "ok");
    world = (struct world){0};
    fake_start(&fakelog, &queue_config_default, 65536);
    fake_put(&fakelog, &m); /* segment 1, which stays */
    struct record other =
        fake_msg(2, DOMAIN, 1002, 1, SLICE_LIT("a body that is rather longer than the other"), 0, meta);
    fake_put(&fakelog, &other);
    fake_roll(&fakelog);
    assert_int_equal(queue_claim_id(fakelog.q, &id, &c, domain), 0);
    assert_int_equal(queue_finish(fakelog.q, slice_str(DOMAIN), &c, &r, 1, 0, false, NULL), 0);
    fake_turn(&fakelog); /* segment 2: item 0 is delivered */
    fake_roll(&fakelog);
    assert_int_equal(queue_forget(fakelog.q, &id), 0);
    fake_turn(&fakelog); /* segment 3 */
    fake_roll(&fakelog);
    m = fake_msg(1, DOMAIN, 1001, 2, SLICE_LIT("body"), 0, meta);
    fake_put(&fakelog, &m); /* segment 4: again, and item 1 is delivered */
    st.state = (struct msg_state){.items = 2, .live = 2, .seq = 1};
    state_finish(&st.state, 1, ITEM_DELIVERED);
    assert_int_equal(queue_merge(fakelog.q, &st, merged, &world), 0);
    world.merges++;
    fake_turn(&fakelog);
    fake_roll(&fakelog);
    static uint64_t two[] = {2};
    for (int i = 0; i < 20; i++) {
        queue_reclaim(fakelog.q, two, 1, true);
        fake_turn(&fakelog);
    }
    struct queue_stat stat;
    queue_stat(fakelog.q, &stat);
    assert_true(stat.moved_bytes > 0); /* the DONE, behind the copy */
    assert_int_equal(queue_find(fakelog.q, &id, &e, domain), 0);
    assert_int_equal(state_end(&e.state, 0), ITEM_LIVE);
    assert_int_equal(state_end(&e.state, 1), ITEM_DELIVERED);
    fake_check_scan(&fakelog, &queue_config_default);
    fake_stop(&fakelog);
}

/* A crash between the two records of a message of which one recipient is done: whichever is left, compaction and a
 * second copy may come, and a scan says what the index says. */
static void test_torn(void **state)
{
    (void)state;
    uint8_t meta[4096];
    struct claim c;
    char domain[256];
    struct item_result r[2] = {{.item = 0, .end = ITEM_DELIVERED}, {.item = 1, .end = ITEM_LIVE}};
    struct msgid id = fake_id(1);
    struct record m = fake_msg(1, DOMAIN, 1001, 2, SLICE_LIT("body"), 0, meta);
    status_set(&r[0].status, 250, 2, 0, 0, "ok");
    status_set(&r[1].status, 451, 4, 0, 0, "later");
    world = (struct world){0};
    fake_start(&fakelog, &queue_config_default, 65536);
    fake_put(&fakelog, &m); /* segment 1, which stays */
    fake_roll(&fakelog);
    assert_int_equal(queue_claim_id(fakelog.q, &id, &c, domain), 0);
    assert_int_equal(queue_finish(fakelog.q, slice_str(DOMAIN), &c, r, 2, 1, false, NULL), 0);
    assert_int_equal(fakelog.pending_n, 2);
    fake_write(&fakelog, &fakelog.pending[0]->rec); /* segment 2 */
    fakelog.pending_n = 0;
    queue_close(&fakelog.q);
    fake_roll(&fakelog);
    fakelog.q = fake_queue(&fakelog, fakelog.ix, &queue_config_default);
    fake_replay(&fakelog, fakelog.q, 1);
    fake_put(&fakelog, &m); /* segment 3: again */
    fake_roll(&fakelog);
    fake_put(&fakelog, &(struct record){.type = REC_ABORT, .id = fake_id(9)});
    fake_check_scan(&fakelog, &queue_config_default);
    static uint64_t two[] = {2};
    for (int i = 0; i < 20 && fake_seg(&fakelog, 2); i++) {
        queue_reclaim(fakelog.q, two, 1, true);
        fake_turn(&fakelog);
        fake_run_frees(&fakelog, fakelog.frees_n);
    }
    assert_null(fake_seg(&fakelog, 2));
    fake_check_scan(&fakelog, &queue_config_default);
    fake_stop(&fakelog);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lives),
        cmocka_unit_test(test_torn),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
