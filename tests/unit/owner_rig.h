/* owner_rig.h - the owner of shards under test: copies are played by the test, coordination is in memory, time is
 * virtual. */
#pragma once
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
