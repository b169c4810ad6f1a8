/* The map: what coordination holds decoded, hostile values refused by name, the cached file, the newest map kept. */
#include "cluster/map/map.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster/map/mapper.h"
#include "spool/base/err.h"
#include "tests/unit/map_rig.h"
#include "tests/unit/scratch.h"

#define A "aa00000000000000000000000000000a"
#define B "aa00000000000000000000000000000b"
#define C "aa00000000000000000000000000000c"

struct text_kv {
    const char *key, *value;
};

static const struct text_kv good[] = {
    {"domains/0001", "not the map's"},
    {"leader", "{\"node\":\"a\",\"storage\":\"" A "\"}"},
    {"live/a", "{\"storage\":\"" A "\",\"boot\":\"00000000000000ff\",\"proto\":3,\"wall_us\":1}"},
    {"live/b", "{\"storage\":\"" C "\",\"boot\":\"1\",\"proto\":1}"},
    {"meta", "{\"id\":\"" C "\",\"version\":2,\"repair_delay_s\":30,\"later\":[1,2]}"},
    {"nodes/.hidden", "{"},
    {"nodes/a", "{\"storage\":\"" A "\",\"address\":\"10.0.0.1:7400\",\"zone\":\"z1\",\"weight\":50,\"new\":{}}"},
    {"nodes/b", "{\"storage\":\"" B "\",\"address\":\"10.0.0.2:7400\",\"pool\":\"vip\",\"state\":\"draining\"}"},
    {"pools/shared", "{\"copies\":3,\"acks\":2,\"shards\":8}"},
    {"pools/vip", "{\"copies\":1,\"shards\":2,\"fallback\":\"shared\"}"},
    {"shards/gone/00000", "{"},
    {"shards/shared/00003",
     "{\"owner\":\"" A "\",\"members\":[\"" A "\",\"" B "\"],\"former\":[\"" C "\"],\"next\":\"" B "\",\"epoch\":7}"},
    {"shards/shared/00008", "{"},
    {"shards/vip/00001", "{\"members\":[]}"},
};
#define GOOD_N (sizeof good / sizeof *good)

static size_t kvs_from(const struct text_kv *t, size_t n, struct coord_kv *kvs_r)
{
    for (size_t i = 0; i < n; i++)
        kvs_r[i] = (struct coord_kv){slice_str(t[i].key), slice_str(t[i].value), .mod_rev = 10 + (int64_t)i};
    return n;
}

static const struct cmap *good_map(void)
{
    struct coord_kv kvs[GOOD_N];
    const struct cmap *m = NULL;
    char why[256] = "";
    assert_int_equal(cmap_decode(kvs, kvs_from(good, GOOD_N, kvs), 99, &m, why), 0);
    return m;
}

static void good_check(const struct cmap *m)
{
    assert_int_equal(m->rev, 99);
    assert_int_equal(m->version, 2);
    assert_int_equal(m->repair_delay_s, 30);
    assert_int_equal(m->nodes_n, 2);
    assert_int_equal(m->pools_n, 2);
    assert_int_equal(m->shards_n, 10);
    const struct map_node *a = cmap_node(m, "a"), *b = cmap_node(m, "b");
    assert_true(a->live && a->boot == 255 && a->proto == 3 && a->weight == 50 && a->state == NODE_ACTIVE);
    assert_string_equal(a->pool, "shared");
    assert_false(b->live); /* the name lives with another disk */
    assert_true(b->state == NODE_DRAINING && b->weight == 100);
    const struct map_pool *vip = cmap_pool(m, SLICE_LIT("vip"));
    assert_true(vip->first == 8 && vip->acks == 1 && vip->shards == 2);
    const struct map_shard *s = &m->shards[3];
    assert_true(s->epoch == 7 && s->members_n == 2 && s->former_n == 1 && s->mod_rev > 0 && s->number == 3);
    assert_true(cmap_is_member(s, &b->storage) && storage_id_eq(&s->next, &b->storage));
    assert_true(cmap_storage(m, &s->owner) == a);
    assert_null(cmap_storage(m, &s->former[0]));
    assert_int_equal(m->shards[4].mod_rev, 0);
    assert_int_equal(m->shards[9].pool, 1);
}

static void a_whole_map(void **state)
{
    (void)state;
    const struct cmap *m = good_map();
    good_check(m);
    assert_string_equal(m->leader, "a");
    assert_ptr_equal(cmap_ref(m), m);
    cmap_unref(m);
    cmap_unref(m);
    cmap_unref(NULL);
}

/* Each in the place of a good value: refused, with its key in the reason. */
static void hostile_values(void **state)
{
    (void)state;
    static const struct text_kv bad[] = {
        {"nodes/a", ""},
        {"nodes/a", "[]"},
        {"nodes/a", "{\"storage\":\"xyz\",\"address\":\"h:1\"}"},
        {"nodes/a", "{\"storage\":\"" A "\"}"},
        {"nodes/a", "{\"address\":\"h:1\"}"},
        {"nodes/a", "{\"storage\":\"" A "\",\"address\":\"h:1\",\"weight\":0}"},
        {"nodes/a", "{\"storage\":\"" A "\",\"address\":\"h:1\",\"weight\":-1}"},
        {"nodes/a", "{\"storage\":\"" A "\",\"address\":\"h:1\",\"state\":\"asleep\"}"},
        {"nodes/a", "{\"storage\":\"" A "\",\"address\":\"h:1\",\"zone\":\"a/b\"}"},
        {"nodes/a", "{\"storage\":\"" A "\",\"address\":\"h\\u0000:1\"}"},
        {"live/a", "{\"storage\":\"" A "\",\"boot\":\"what\"}"},
        {"meta", "{\"repair_delay_s\":\"60\"}"},
        {"leader", "{\"node\":\"\"}"},
        {"pools/shared", "{\"copies\":0}"},
        {"pools/shared", "{\"copies\":9}"},
        {"pools/shared", "{\"copies\":2,\"acks\":3}"},
        {"pools/shared", "{\"shards\":0}"},
        {"pools/shared", "{\"shards\":1000000}"},
        {"pools/shared", "{\"shards\":9223372036854775808}"},
        {"shards/shared/00003", "{\"owner\":\"" A "\",\"members\":[\"" B "\"]}"},
        {"shards/shared/00003", "{\"members\":[\"" A "\",\"" A "\"]}"},
        {"shards/shared/00003", "{\"members\":\"" A "\"}"},
        {"shards/shared/00003", "{\"members\":[1]}"},
        {"shards/shared/00003", "{\"epoch\":-1}"},
        {"shards/shared/00003", "{\"epoch\":1.5}"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct coord_kv kvs[GOOD_N];
        const struct cmap *m = NULL;
        char why[256] = "";
        kvs_from(good, GOOD_N, kvs);
        for (size_t k = 0; k < GOOD_N; k++)
            if (slice_eq(kvs[k].key, slice_str(bad[i].key)))
                kvs[k].value = slice_str(bad[i].value);
        assert_int_equal(cmap_decode(kvs, GOOD_N, 1, &m, why), -SATCHEL_EINVAL);
        assert_non_null(strstr(why, bad[i].key));
        assert_null(m);
    }
}

static void nothing_is_a_map(void **state)
{
    (void)state;
    const struct cmap *m = NULL;
    char why[256];
    assert_int_equal(cmap_decode(NULL, 0, 1, &m, why), 0);
    assert_int_equal(cmap_shard_of(m, SLICE_LIT(""), SLICE_LIT("example.org")), UINT32_MAX);
    assert_int_equal(m->repair_delay_s, 60);
    cmap_unref(m);
}

static void domains_find_their_shard(void **state)
{
    (void)state;
    const struct cmap *m = good_map();
    uint32_t s = cmap_shard_of(m, SLICE_LIT("shared"), SLICE_LIT("Example.ORG"));
    assert_true(s < 8);
    assert_int_equal(s, cmap_shard_of(m, SLICE_LIT(""), SLICE_LIT("example.org")));
    assert_int_equal(s, cmap_shard_of(m, SLICE_LIT("unknown"), SLICE_LIT("example.org")));
    assert_int_equal(s, 4); /* the format: must not change */
    assert_true(cmap_shard_of(m, SLICE_LIT("vip"), SLICE_LIT("example.org")) >= 8);
    cmap_unref(m);
}

/* ---- the file */

static char dir[SCRATCH_MAX], path[96];

static void flip(long at)
{
    int fd = open(path, O_RDWR);
    uint8_t b;
    assert_int_equal(pread(fd, &b, 1, at), 1);
    b ^= 1;
    assert_int_equal(pwrite(fd, &b, 1, at), 1);
    close(fd);
}

static void the_file_is_whole_or_refused(void **state)
{
    (void)state;
    const struct cmap *m = good_map(), *back = NULL;
    char why[256];
    assert_int_equal(cmap_load(path, &back, why), -SATCHEL_ENOENT);
    assert_int_equal(cmap_save(m, path), 0);
    assert_int_equal(cmap_save(m, path), 0);
    assert_int_equal(cmap_load(path, &back, why), 0);
    good_check(back);
    assert_int_equal(back->shards[3].mod_rev, m->shards[3].mod_rev);
    cmap_unref(back);
    cmap_unref(m);
    for (long at = 14; at < 600; at += 13) {
        flip(at);
        int res = cmap_load(path, &back, why);
        assert_true(res == -SATCHEL_EDAMAGED || (at < 20 && res == 0)); /* the revision is in the head alone */
        if (res == 0)
            cmap_unref(back);
        else
            assert_non_null(strstr(why, path));
        flip(at);
    }
    assert_int_equal(truncate(path, 300), 0);
    assert_int_equal(cmap_load(path, &back, why), -SATCHEL_EDAMAGED);
    flip(12); /* the version */
    assert_int_equal(cmap_load(path, &back, why), -SATCHEL_EVERSION);
}

/* A pool made later lies behind, whatever its name, in the file, too. */
static void pools_keep_their_place(void **state)
{
    (void)state;
    struct coord_kv kvs[] = {
        {SLICE_LIT("pools/alpha"), SLICE_LIT("{\"shards\":2}"), .mod_rev = 9, .create_rev = 9},
        {SLICE_LIT("pools/shared"), SLICE_LIT("{\"shards\":8}"), .mod_rev = 2, .create_rev = 2},
        {SLICE_LIT("shards/alpha/00001"), SLICE_LIT("{\"epoch\":5}"), .mod_rev = 10, .create_rev = 10},
    };
    const struct cmap *m = NULL, *back = NULL;
    char why[256] = "";
    assert_int_equal(cmap_decode(kvs, 3, 11, &m, why), 0);
    assert_int_equal(cmap_save(m, path), 0);
    assert_int_equal(cmap_load(path, &back, why), 0);
    for (int i = 0; i < 2; i++) {
        const struct cmap *each = i ? back : m;
        assert_int_equal(cmap_pool(each, SLICE_LIT("alpha"))->first, 8);
        assert_int_equal(cmap_pool(each, SLICE_LIT("shared"))->first, 0);
        assert_int_equal(each->shards[9].epoch, 5);
        assert_string_equal(cmap_shard_pool(each, &each->shards[9])->name, "alpha");
    }
    cmap_unref(m);
    cmap_unref(back);
}

/* ---- the mapper, against coordination that answers when told */

enum { META = 4 }; /* in `good` */

struct fake {
    struct coord coord;
    uint64_t now;
    struct {
        coord_list_done *done;
        void *arg;
        char prefix[32];
    } calls[16];
    size_t calls_n, lists, watches;
    coord_changed *hint;
    void *hint_arg;
    struct coord_kv kvs[GOOD_N];
    int64_t rev;
    int res;
    size_t maps;
    bool gone; /* everything */
};

static int fake_list(struct coord *c, struct slice prefix, coord_list_done *done, void *arg)
{
    struct fake *f = (struct fake *)c;
    f->lists++;
    f->calls[f->calls_n].done = done;
    f->calls[f->calls_n].arg = arg;
    snprintf(f->calls[f->calls_n++].prefix, 32, "%.*s", SLICE_FMT(prefix));
    return 0;
}

static int fake_watch(struct coord *c, struct slice prefix, coord_changed *changed, void *arg)
{
    struct fake *f = (struct fake *)c;
    (void)prefix;
    f->watches++;
    f->hint = changed;
    f->hint_arg = arg;
    return 0;
}

static uint64_t fake_now(void *ctx)
{
    return ((struct fake *)ctx)->now;
}

/* Answers the oldest call. */
static void fake_answer(struct fake *f)
{
    coord_list_done *done = f->calls[0].done;
    void *arg = f->calls[0].arg;
    size_t n = strlen(f->calls[0].prefix), from = 0, upto;
    while (from < GOOD_N && strncmp((const char *)f->kvs[from].key.p, f->calls[0].prefix, n) != 0)
        from++;
    for (upto = from; upto < GOOD_N && strncmp((const char *)f->kvs[upto].key.p, f->calls[0].prefix, n) == 0;)
        upto++;
    memmove(f->calls, f->calls + 1, --f->calls_n * sizeof *f->calls);
    done(arg, f->res, f->rev, f->kvs + from, f->gone ? 0 : upto - from);
}

static size_t fake_round(struct fake *f, struct mapper *m)
{
    size_t lists = f->lists;
    mapper_tick(m);
    while (f->calls_n)
        fake_answer(f);
    return f->lists - lists;
}

static void on_changed(void *arg, const struct cmap *now, const struct cmap *before)
{
    struct fake *f = arg;
    assert_ptr_equal(before == NULL, f->maps == 0);
    assert_int_equal(now->rev, f->rev);
    f->maps++;
}

static void the_newest_map_is_kept(void **state)
{
    (void)state;
    static const struct coord_ops ops = {.list = fake_list, .watch = fake_watch};
    struct fake f = {.coord = {&ops, -1}, .now = 1000, .rev = 20};
    struct clock clock = {fake_now, fake_now, &f};
    struct mapper_config cfg = {.relist_us = 5000000};
    struct mapper *m;
    kvs_from(good, GOOD_N, f.kvs);
    assert_int_equal(mapper_open(&m, &cfg, &f.coord, &clock, on_changed, &f), 0);
    assert_true(mapper_next_us(m) <= f.now);
    assert_int_equal(fake_round(&f, m), 6);
    assert_int_equal(f.maps, 1);
    assert_int_equal(mapper_map(m)->nodes_n, 2);
    assert_int_equal(fake_round(&f, m), 0); /* not due */
    f.now = mapper_next_us(m);
    f.rev++;
    assert_int_equal(fake_round(&f, m), 6);
    assert_int_equal(f.maps, 1); /* nothing new */

    /* Hints while a round is under way: one more, not many; shards first, and alone. */
    f.hint(f.hint_arg);
    mapper_tick(m);
    assert_int_equal(f.calls_n, 1);
    assert_string_equal(f.calls[0].prefix, "shards/");
    for (int i = 0; i < 5; i++) {
        f.hint(f.hint_arg);
        mapper_tick(m);
    }
    assert_int_equal(f.calls_n, 1);
    f.kvs[6].mod_rev = 50;
    f.kvs[6].value = SLICE_LIT("{\"storage\":\"" A "\",\"address\":\"10.0.0.9:1\"}");
    f.kvs[11].mod_rev = 60; /* a shard that changed, beside one that did not */
    f.kvs[11].value = SLICE_LIT("{\"members\":[\"" B "\"],\"epoch\":8}");
    f.kvs[13].value = SLICE_LIT("not read: the revision is the same");
    while (f.calls_n)
        fake_answer(&f);
    assert_int_equal(f.maps, 2);
    assert_int_equal(mapper_map(m)->shards[3].epoch, 8);
    assert_true(mapper_map(m)->shards[9].mod_rev == 23 && mapper_map(m)->shards[9].pool == 1);
    assert_string_equal(cmap_node(mapper_map(m), "a")->address, "10.0.0.9:1");
    assert_int_equal(fake_round(&f, m), 6);
    assert_int_equal(fake_round(&f, m), 0);

    /* An outage leaves the map, and is not asked in a loop. */
    f.res = -SATCHEL_EAGAIN;
    mapper_refresh(m);
    assert_int_equal(fake_round(&f, m), 1);
    f.hint(f.hint_arg);
    assert_int_equal(fake_round(&f, m), 0);
    f.now = mapper_next_us(m);
    assert_int_equal(fake_round(&f, m), 1);
    assert_int_equal(mapper_map(m)->nodes_n, 2);

    /* Nonsense is refused; the map before it stays. */
    f.res = 0;
    f.kvs[6].mod_rev = 51;
    f.kvs[6].value = SLICE_LIT("nonsense");
    f.now = mapper_next_us(m);
    assert_int_equal(fake_round(&f, m), 6);
    assert_int_equal(f.maps, 2);
    assert_string_equal(cmap_node(mapper_map(m), "a")->address, "10.0.0.9:1");
    mapper_close(&m);
}

/* Coordination that was emptied, or is another cluster's: the map of ours stays, whether it was read or is on disk. */
static void no_map_of_another_cluster_is_taken(void **state)
{
    (void)state;
    static const struct coord_ops ops = {.list = fake_list, .watch = fake_watch};
    struct fake f = {.coord = {&ops, -1}, .now = 1000, .rev = 20};
    struct clock clock = {fake_now, fake_now, &f};
    struct mapper_config cfg = {.relist_us = 5000000};
    struct mapper *m;
    kvs_from(good, GOOD_N, f.kvs);
    assert_int_equal(mapper_open(&m, &cfg, &f.coord, &clock, on_changed, &f), 0);
    fake_round(&f, m);
    assert_int_equal(f.maps, 1);
    cfg.cluster = mapper_map(m)->cluster;
    struct slice meta = f.kvs[META].value;
    f.rev = 1;
    f.gone = true;
    f.now = mapper_next_us(m);
    assert_int_equal(fake_round(&f, m), 6);
    assert_int_equal(f.maps, 1);
    assert_string_equal(mapper_refused(m), "it is empty");
    f.gone = false;
    f.kvs[META].mod_rev = 90;
    f.kvs[META].value = SLICE_LIT("{\"id\":\"0123456789abcdef0123456789abcdef\",\"version\":1}");
    f.now = mapper_next_us(m);
    assert_int_equal(fake_round(&f, m), 6);
    assert_int_equal(f.maps, 1);
    assert_string_equal(mapper_refused(m), "it is that of another cluster");
    f.kvs[META].mod_rev = 91;
    f.kvs[META].value = meta;
    f.now = mapper_next_us(m);
    fake_round(&f, m);
    assert_int_equal(f.maps, 2);
    assert_string_equal(mapper_refused(m), "");
    mapper_close(&m);

    cfg.cluster.b[0] ^= 1;
    assert_int_equal(mapper_open(&m, &cfg, &f.coord, &clock, on_changed, &f), 0);
    fake_round(&f, m);
    assert_int_equal(f.maps, 2);
    assert_null(mapper_map(m));
    mapper_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_map),
        cmocka_unit_test(hostile_values),
        cmocka_unit_test(nothing_is_a_map),
        cmocka_unit_test(domains_find_their_shard),
        cmocka_unit_test(the_file_is_whole_or_refused),
        cmocka_unit_test(pools_keep_their_place),
        cmocka_unit_test(the_newest_map_is_kept),
        cmocka_unit_test(no_map_of_another_cluster_is_taken),
    };
    scratch_make(dir, "map");
    snprintf(path, sizeof path, "%s/map", dir);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_remove(dir);
    return failed;
}
