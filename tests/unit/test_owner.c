/* test_owner.c - owning shards: adoption, hand-over, orderly stop, drain; copies are played by the test, coordination
 * is in memory, time is virtual. */
#include "tests/unit/fake_outlet.h"

#include "cluster/own/owner.h"

#include "tests/unit/fake_coord.h"

#include "cluster/map/leader.h"
#include "spool/base/log.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define MS         1000ull
#define SEC        1000000ull
#define SHARDS     256
#define SELF       "01000000000000000000000000000000"
#define B          "02000000000000000000000000000000"
#define C          "03000000000000000000000000000000"
#define NODE(id)   "{\"storage\":\"" id "\",\"address\":\"x:1\",\"pool\":\"shared\"}"
#define LIVE(id)   "{\"storage\":\"" id "\",\"boot\":\"1\",\"proto\":1}"
#define POOL(n)    "{\"copies\":3,\"acks\":2,\"shards\":" n "}"
#define FRAMES_MAX 512

/* ---- copies, played */

struct asked {
    void (*done)(void *arg, uint32_t shard, int res);
    void *arg;
};

static struct asked merges[SHARDS], flushes[SHARDS];
static uint32_t merges_n, flushes_n, synced[SHARDS];
static uint64_t holds, unpushed;
static bool prompt; /* merges and flushes are answered in the next turn */

void copies_merge(struct copies *c, uint32_t shard, uint64_t wait_us, void (*done)(void *, uint32_t, int), void *arg)
{
    (void)c;
    (void)wait_us;
    merges[shard] = (struct asked){done, arg};
    merges_n++;
}

void copies_flush(struct copies *c, uint32_t shard, const struct storage_id *to, uint64_t wait_us,
                  void (*done)(void *, uint32_t, int), void *arg)
{
    (void)c;
    (void)to;
    (void)wait_us;
    flushes[shard] = (struct asked){done, arg};
    flushes_n++;
}

uint32_t copies_synced(struct copies *c, uint32_t shard)
{
    (void)c;
    return synced[shard];
}

void copies_holds(struct copies *c, uint32_t shard, uint64_t *messages_r, uint64_t *bytes_r)
{
    (void)c;
    (void)shard;
    *messages_r = *bytes_r = holds;
}

void copies_info(const struct copies *c, struct copies_info *info_r)
{
    (void)c;
    *info_r = (struct copies_info){.states_unpushed = unpushed};
}

static void answer(struct asked *a, uint32_t shard, int res)
{
    struct asked was = *a;
    assert_non_null(was.done);
    a->done = NULL;
    was.done(was.arg, shard, res);
}

/* ---- the house */

struct frame {
    struct storage_id to;
    struct fbuf *f;
};

struct house {
    struct fake_coord *coord;
    struct peers peers;
    struct storage storage;
    struct gate *gate;
    struct fake_outlet *in;
    struct outlet *out;
    struct owner_env env;
    struct owner *o;
    bool changed, frozen; /* frozen: the mapper brings nothing */
    struct frame frames[FRAMES_MAX];
    uint32_t frames_n, reports, left;
    struct {
        uint32_t shard, hash, synced;
        uint64_t epoch;
    } report;
    const char *bags[8];
    uint64_t claimed; /* in the queue, in each bag */
    char made_ready[8][64];
    uint32_t ready_n;
    struct storage_stat stat;
};

static struct house *the;

static int send_frame(struct peers *p, const struct storage_id *to, struct fbuf *f)
{
    (void)p;
    assert_true(the->frames_n < FRAMES_MAX);
    the->frames[the->frames_n++] = (struct frame){*to, fbuf_ref(f)};
    return 0;
}

static void list_bags(struct storage *s, void (*each)(void *arg, struct slice domain, const struct bag_stat *st),
                      void *arg)
{
    (void)s;
    for (int i = 0; i < 8 && the->bags[i]; i++) {
        struct bag_stat st = {.messages = 1, .claimed = the->claimed};
        each(arg, slice_str(the->bags[i]), &st);
    }
}

static void make_ready(struct storage *s, struct slice domain)
{
    (void)s;
    snprintf(the->made_ready[the->ready_n++ % 8], 64, "%.*s", SLICE_FMT(domain));
}

static void storage_stat(struct storage *s, struct storage_stat *st_r)
{
    (void)s;
    *st_r = the->stat;
}

static const struct peers_ops peers_fake = {.send = send_frame};
static void stat_bag(struct storage *s, struct slice domain, struct bag_stat *st_r)
{
    (void)s;
    (void)domain;
    *st_r = (struct bag_stat){.claimed = the->claimed};
}

static const struct storage_ops storage_fake = {
    .bags = list_bags, .bag = stat_bag, .ready = make_ready, .stat = storage_stat};

/* "7.test" lies in shard 7. */
static uint32_t shard_of(void *arg, struct slice domain)
{
    (void)arg;
    return (uint32_t)strtoul((const char *)domain.p, NULL, 10);
}

static void on_report(void *arg, uint32_t shard, uint64_t epoch, uint32_t hash, uint32_t bits)
{
    (void)arg;
    the->reports++;
    the->report.shard = shard;
    the->report.epoch = epoch;
    the->report.hash = hash;
    the->report.synced = bits;
}

static void on_changed(void *arg)
{
    (void)arg;
    the->changed = true;
}

static void on_left(void *arg)
{
    (void)arg;
    the->left++;
}

static void give_map(struct house *h)
{
    const struct cmap *map = fake_coord_map(h->coord);
    owner_map(h->o, map);
    cmap_unref(map);
}

static void open_owner(struct house *h)
{
    struct owner_config cfg = owner_config_default;
    snprintf(cfg.node, sizeof cfg.node, "a");
    cfg.self.b[0] = 1;
    assert_int_equal(owner_open(&h->o, &cfg, &h->env), 0);
}

static int setup(void **state)
{
    struct house *h = the = calloc(1, sizeof *h);
    log_level_now = LOG_LEVEL_ERROR;
    memset(merges, 0, sizeof merges);
    memset(flushes, 0, sizeof flushes);
    merges_n = flushes_n = 0;
    holds = unpushed = 0;
    prompt = false;
    for (int i = 0; i < SHARDS; i++)
        synced[i] = 7;
    h->coord = fake_coord_open();
    h->coord->delay_us = MS;
    h->peers = (struct peers){&peers_fake, -1};
    h->storage = (struct storage){&storage_fake, -1};
    assert_int_equal(gate_open(&h->gate, &fake_clock, shard_of, NULL), 0);
    gate_deadline(h->gate, UINT64_MAX);
    h->in = fake_open();
    assert_int_equal(gate_outlet(h->gate, &h->in->o, &h->out), 0);
    h->env = (struct owner_env){
        .clock = &fake_clock,
        .coord = &h->coord->base,
        .peers = &h->peers,
        .storage = &h->storage,
        .gate = h->gate,
        .report = on_report,
        .changed = on_changed,
    };
    fake_coord_set(h->coord, "meta", "{\"id\":\"aa000000000000000000000000000000\",\"version\":1}");
    fake_coord_set(h->coord, "pools/shared", POOL("8"));
    fake_coord_set(h->coord, "nodes/a", NODE(SELF));
    fake_coord_set(h->coord, "nodes/b", NODE(B));
    fake_coord_set(h->coord, "nodes/c", NODE(C));
    fake_coord_set(h->coord, "live/a", LIVE(SELF));
    fake_coord_set(h->coord, "live/b", LIVE(B));
    fake_coord_set(h->coord, "live/c", LIVE(C));
    open_owner(h);
    *state = h;
    return 0;
}

static int teardown(void **state)
{
    struct house *h = *state;
    struct coord *c = &h->coord->base;
    c->ops->close(&c);
    owner_close(&h->o);
    h->out->ops->close(&h->out);
    gate_close(&h->gate);
    for (uint32_t i = 0; i < h->frames_n; i++)
        fbuf_unref(h->frames[i].f);
    fake_free(h->in);
    free(h);
    return 0;
}

static bool answer_all(void)
{
    bool any = false;
    for (uint32_t i = 0; prompt && i < SHARDS; i++) {
        any |= merges[i].done || flushes[i].done;
        if (merges[i].done)
            answer(&merges[i], i, 0);
        if (flushes[i].done)
            answer(&flushes[i], i, 0);
    }
    return any;
}

static void turn(struct house *h)
{
    fake_coord_poll(&h->coord->base);
    answer_all();
    if (h->changed && !h->frozen) {
        h->changed = false;
        give_map(h);
    }
    owner_tick(h->o);
}

static void run(struct house *h, uint64_t us)
{
    uint64_t end = fake_now_us + us;
    for (;;) {
        turn(h);
        uint64_t next = owner_next_us(h->o), calls = fake_coord_next_us(&h->coord->base);
        next = calls < next ? calls : next;
        if (next > end && !answer_all())
            break;
        fake_now_us = next > fake_now_us && next <= end ? next : fake_now_us;
    }
    fake_now_us = end;
    turn(h);
}

static void set_shard(struct house *h, uint32_t shard, const char *owner, const char *next, int epoch)
{
    char key[64], value[400];
    snprintf(key, sizeof key, "shards/shared/%05u", shard);
    snprintf(value, sizeof value, "{\"owner\":\"%s\",\"members\":[\"%s\",\"%s\",\"%s\"],\"next\":\"%s\",\"epoch\":%d}",
             owner, SELF, B, C, next, epoch);
    fake_coord_set(h->coord, key, value);
}

/* Shard 3 is ours and delivered. */
static void own(struct house *h)
{
    set_shard(h, 3, SELF, "", 5);
    give_map(h);
    owner_lease(h->o, true);
    run(h, 10 * MS);
    answer(&merges[3], 3, 0);
    run(h, 100 * MS);
    assert_int_equal(owner_shard(h->o, 3), OWNER_OWNED);
    assert_true(gate_may(h->gate, 3));
}

static void plan_next(struct house *h, const char *to)
{
    set_shard(h, 3, SELF, to, 5);
    give_map(h);
}

static const struct frame *last_frame(struct house *h, uint16_t type)
{
    for (uint32_t i = h->frames_n; i-- > 0;) {
        uint16_t t;
        memcpy(&t, h->frames[i].f->data + 4, 2);
        if (t == type)
            return &h->frames[i];
    }
    return NULL;
}

static struct slice payload_of(const struct fbuf *f)
{
    return slice_of(f->data + FRAME_HEAD_BYTES, f->n - FRAME_HEAD_BYTES);
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

/* ---- hand-over */

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
    struct outlet_msg *m[4];
    h->bags[0] = "3.test";
    own(h);
    fake_add(h->in, "3.test", "s@x", "a@x", "hi", 0);
    assert_int_equal(h->out->ops->claim(h->out, slice_str("3.test"), CLAIM_DUE, 0, m, 4), 1);
    plan_next(h, B);
    run(h, 50 * MS);
    assert_int_equal(owner_shard(h->o, 3), OWNER_OWNED); /* B is told what it is owed, and mail flows */
    assert_true(h->out->ops->may(h->out, m[0]));
    answer(&flushes[3], 3, 0);
    run(h, 50 * MS);
    assert_int_equal(owner_shard(h->o, 3), OWNER_QUIET);
    assert_false(h->out->ops->may(h->out, m[0]));
    h->claimed = 1; /* its end is on its way to the log */
    h->out->ops->release(h->out, m[0]);
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
    struct outlet_msg *m[4];
    own(h);
    fake_add(h->in, "3.test", "s@x", "a@x", "hi", 0);
    assert_int_equal(h->out->ops->claim(h->out, slice_str("3.test"), CLAIM_DUE, 0, m, 4), 1);
    plan_next(h, B);
    run_warm(h);
    run(h, 29 * SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_QUIET);
    run(h, 2 * SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_OWNED);
    assert_true(gate_may(h->gate, 3));
    assert_false(h->out->ops->may(h->out, m[0]));
    h->out->ops->release(h->out, m[0]);
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

static void unknown_and_not_done(void **state)
{
    struct house *h = *state;
    own(h);
    prompt = true;
    plan_next(h, B);
    h->coord->away = true;
    run(h, 10 * SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_HANDING);
    h->coord->away = false;
    run(h, 5 * SEC);
    assert_handed(h, B);
}

/* The lease went while a hand-over was in the air: what may still come of it is fenced off before we deliver again. */
static void unknown_then_lease_lost(void **state)
{
    struct house *h = *state;
    own(h);
    prompt = true;
    plan_next(h, B);
    h->coord->away = true;
    run(h, SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_HANDING);
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
    own(h);
    prompt = true;
    plan_next(h, B);
    h->coord->away = true;
    run(h, SEC);
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

static void handed_before_the_map(void **state)
{
    struct house *h = *state;
    owner_lease(h->o, true);
    set_shard(h, 3, B, SELF, 5);
    give_map(h);
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
    owner_lease(h->o, true);
    set_shard(h, 3, B, SELF, 5);
    give_map(h);
    say_handed(h, 6);
    set_shard(h, 3, SELF, "", 7);
    run(h, SEC);
    assert_int_equal(owner_shard(h->o, 3), OWNER_MERGING);
}

static void handed_long_ago(void **state)
{
    struct house *h = *state;
    owner_lease(h->o, true);
    set_shard(h, 3, B, SELF, 5);
    give_map(h);
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
