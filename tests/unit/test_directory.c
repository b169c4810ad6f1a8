/* test_directory.c - domains in coordination: packed buckets, changes by compare-and-swap, registries that follow. */
#include "cluster/domains/bucket.h"
#include "cluster/domains/directory.h"
#include "spool/base/err.h"
#include "tests/unit/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char why[256];

static struct domain domain_named(const char *name)
{
    struct domain d;
    assert_int_equal(domain_init(&d, slice_str(name), why), 0);
    assert_int_equal(primary_parse(SLICE_LIT("mail.example.com:25"), &d.primaries[0], why), 0);
    d.primaries_n = 1;
    return d;
}

/* ---- buckets */

static void a_bucket_comes_back_as_it_was(void **state)
{
    (void)state;
    struct domain in[300], *out = NULL;
    uint8_t *value;
    size_t value_n, n;
    for (int i = 0; i < 300; i++) {
        char name[64];
        snprintf(name, sizeof name, "customer-%d.example", i);
        in[i] = domain_named(name);
        in[i].held = i % 3 == 0;
        snprintf(in[i].pool, sizeof in[i].pool, "%s", i % 2 ? "acme" : "");
    }
    assert_int_equal(bucket_encode(in, 300, &value, &value_n), 0);
    assert_true(value_n < 300 * 40);
    assert_int_equal(bucket_decode(slice_of(value, value_n), KEEP_PRESET_S, &out, &n, why), 0);
    assert_int_equal(n, 300);
    assert_memory_equal(in, out, sizeof in);
    free(value);
    free(out);
}

static void a_damaged_bucket_is_refused(void **state)
{
    (void)state;
    struct domain in = domain_named("a.example"), *out = NULL;
    uint8_t *value;
    size_t value_n, n;
    assert_int_equal(bucket_encode(&in, 1, &value, &value_n), 0);
    for (size_t cut = 0; cut < value_n; cut++)
        assert_int_equal(bucket_decode(slice_of(value, cut), 1, &out, &n, why), -SATCHEL_EINVAL);
    assert_int_equal(bucket_decode(SLICE_LIT("<html>not found</html>"), 1, &out, &n, why), -SATCHEL_EINVAL);
    free(value);
}

static void keys_of_buckets(void **state)
{
    (void)state;
    char key[BUCKET_KEY_MAX];
    uint32_t bucket;
    bucket_key(42, key);
    assert_string_equal(key, "domains/0042");
    assert_true(bucket_key_parse(slice_str(key), &bucket));
    assert_int_equal(bucket, 42);
    assert_false(bucket_key_parse(SLICE_LIT("domains/9999"), &bucket));
    assert_false(bucket_key_parse(SLICE_LIT("domains/42"), &bucket));
    assert_int_equal(bucket_of(SLICE_LIT("Example.COM")), bucket_of(SLICE_LIT("example.com")));
}

/* ---- the directory: nodes with a registry each over one coordination */

static uint64_t now_us = 1000000;

static uint64_t fake_now(void *ctx)
{
    (void)ctx;
    return now_us;
}

static const struct clock fake_clock = {fake_now, fake_now, NULL};

struct place {
    char dir[SCRATCH_MAX];
    struct domains *registry;
    struct directory *directory;
    unsigned told;
};

/* What stands before the store, which a test may replace by an older one. */
static struct coord *store;

static int front_list(struct coord *c, struct slice prefix, coord_list_done *done, void *arg)
{
    (void)c;
    return store->ops->list(store, prefix, done, arg);
}

static int front_list_since(struct coord *c, struct slice prefix, int64_t since, coord_list_done *done, void *arg)
{
    (void)c;
    return store->ops->list_since(store, prefix, since, done, arg);
}

static int front_txn(struct coord *c, const struct coord_cmp *cmps, size_t cmps_n, const struct coord_op *ops,
                     size_t ops_n, coord_txn_done *done, void *arg)
{
    (void)c;
    return store->ops->txn(store, cmps, cmps_n, ops, ops_n, done, arg);
}

static int front_watch(struct coord *c, struct slice prefix, coord_changed *changed, void *arg)
{
    (void)c;
    return store->ops->watch(store, prefix, changed, arg);
}

static void front_poll(struct coord *c)
{
    (void)c;
    store->ops->poll(store);
}

static const struct coord_ops front_ops = {
    .list = front_list, .list_since = front_list_since, .txn = front_txn, .watch = front_watch, .poll = front_poll};
static struct coord front = {.ops = &front_ops}, *const coord = &front;
static struct place a, b;
static bool stranger; /* the coordination that is there is not ours */

static bool is_ours(void *arg, int64_t rev, const struct coord_kv *kvs, size_t n)
{
    (void)arg;
    (void)rev;
    (void)kvs;
    assert_int_equal(n, 0); /* only meta is asked for, and these stores have none */
    return !stranger;
}

static void on_changed(void *arg)
{
    ((struct place *)arg)->told++;
}

static void place_open(struct place *p)
{
    struct directory_config cfg = {.relist_us = 10 * 1000000, .keep_s = KEEP_PRESET_S, .ours = is_ours};
    memset(p, 0, sizeof *p);
    scratch_make(p->dir, "directory");
    assert_int_equal(domains_open(&p->registry, p->dir, why), 0);
    assert_int_equal(directory_open(&p->directory, &cfg, coord, p->registry, &fake_clock, on_changed, p), 0);
}

static void place_close(struct place *p)
{
    char path[128];
    directory_close(&p->directory);
    domains_close(&p->registry);
    snprintf(path, sizeof path, "%s/domains.json", p->dir);
    unlink(path);
    assert_int_equal(rmdir(p->dir), 0);
}

static int setup(void **state)
{
    (void)state;
    stranger = false;
    assert_int_equal(coord_standalone_open(&store, &fake_clock), 0);
    place_open(&a);
    place_open(&b);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    store->ops->close(&store);
    place_close(&a);
    place_close(&b);
    return 0;
}

static void turns(void)
{
    for (int i = 0; i < 20; i++) {
        coord->ops->poll(coord);
        directory_tick(a.directory);
        directory_tick(b.directory);
    }
}

static const struct domain *served(struct place *p, const char *name)
{
    const struct domains_snapshot *s = domains_get(p->registry);
    const struct domain *d = domains_find(s, slice_str(name));
    static struct domain copy;
    if (d)
        copy = *d;
    domains_put(s);
    return d ? &copy : NULL;
}

struct outcome {
    bool over;
    int res;
};

static void on_done(void *arg, int res, const char *text)
{
    struct outcome *o = arg;
    assert_false(o->over);
    assert_non_null(text);
    *o = (struct outcome){true, res};
}

static int change(struct place *p, enum directory_how how, const struct domain *dom)
{
    struct outcome o = {0};
    assert_int_equal(directory_change(p->directory, how, dom, on_done, &o), 0);
    turns();
    assert_true(o.over);
    return o.res;
}

static void a_domain_added_on_one_node_is_served_by_all(void **state)
{
    (void)state;
    struct domain dom = domain_named("example.com");
    assert_int_equal(change(&a, DIRECTORY_ADD, &dom), 0);
    assert_int_equal(a.told, 1);
    assert_non_null(served(&a, "example.com"));
    assert_non_null(served(&b, "example.com"));
    dom.held = true;
    assert_int_equal(change(&b, DIRECTORY_REPLACE, &dom), 0);
    assert_true(served(&a, "example.com")->held);
    assert_int_equal(change(&b, DIRECTORY_REMOVE, &dom), 0);
    assert_null(served(&a, "example.com"));
    assert_null(served(&b, "example.com"));
}

static void wrong_changes_are_refused(void **state)
{
    (void)state;
    struct domain dom = domain_named("example.com");
    assert_int_equal(change(&a, DIRECTORY_REPLACE, &dom), -SATCHEL_ENOENT);
    assert_int_equal(change(&a, DIRECTORY_REMOVE, &dom), -SATCHEL_ENOENT);
    assert_int_equal(change(&a, DIRECTORY_ADD, &dom), 0);
    assert_int_equal(change(&b, DIRECTORY_ADD, &dom), -SATCHEL_EEXIST);
}

/* Another domain of the same bucket. */
static struct domain beside(const struct domain *dom)
{
    char name[64];
    uint32_t i = 0;
    do
        snprintf(name, sizeof name, "other-%u.example", i++);
    while (bucket_of(slice_str(name)) != bucket_of(slice_str(dom->name)));
    return domain_named(name);
}

/* Both read the bucket before either writes: one compare fails, is read again, and nothing is lost. */
static void two_changes_of_one_bucket_at_once_both_happen(void **state)
{
    (void)state;
    struct domain first = domain_named("example.com"), second = beside(&first);
    struct outcome x = {0}, y = {0};
    directory_change(a.directory, DIRECTORY_ADD, &first, on_done, &x);
    directory_change(b.directory, DIRECTORY_ADD, &second, on_done, &y);
    turns();
    assert_true(x.over && y.over);
    assert_int_equal(x.res, 0);
    assert_int_equal(y.res, 0);
    assert_non_null(served(&b, first.name));
    assert_non_null(served(&a, second.name));
}

static int set_list(struct place *p, const char *name, const char *was, const char *hash, uint64_t n)
{
    struct outcome o = {0};
    assert_int_equal(directory_recipients(p->directory, slice_str(name), was, hash, n, on_done, &o), 0);
    turns();
    assert_true(o.over);
    return o.res;
}

/* Who changes a domain that it read before another set the list does not bring the old list back. */
static void a_list_is_changed_by_itself(void **state)
{
    static const char one[] = "00112233445566778899aabbccddeeff", two[] = "ffeeddccbbaa99887766554433221100";
    (void)state;
    struct domain dom = domain_named("example.com");
    assert_int_equal(set_list(&a, "example.com", NULL, one, 3), -SATCHEL_ENOENT);
    assert_int_equal(change(&a, DIRECTORY_ADD, &dom), 0);
    assert_int_equal(set_list(&a, "example.com", NULL, one, 3), 0);
    assert_string_equal(served(&b, "example.com")->recipients, one);
    assert_int_equal(served(&b, "example.com")->recipients_n, 3);
    dom.held = true;
    assert_int_equal(change(&b, DIRECTORY_REPLACE, &dom), 0);
    assert_true(served(&a, "example.com")->held);
    assert_string_equal(served(&a, "example.com")->recipients, one);
    assert_int_equal(set_list(&b, "example.com", one, two, 4), 0);
    assert_int_equal(set_list(&a, "example.com", one, "", 0), -SATCHEL_EBUSY);
    assert_string_equal(served(&a, "example.com")->recipients, two);
    assert_true(served(&a, "example.com")->held);
    assert_int_equal(set_list(&a, "EXAMPLE.com", NULL, "", 0), 0);
    assert_string_equal(served(&b, "example.com")->recipients, "");
    assert_int_equal(served(&b, "example.com")->recipients_n, 0);
}

/* A coordination that was wiped says nothing of the domains: they stay. */
static void buckets_that_are_not_there_change_nothing(void **state)
{
    (void)state;
    struct domain dom = domain_named("local.example");
    assert_int_equal(domains_set(a.registry, &dom, false, why), 0);
    turns();
    now_us += 60 * 1000000;
    turns();
    assert_non_null(served(&a, "local.example"));
}

static void a_node_brings_its_domains_along(void **state)
{
    (void)state;
    struct domain there = domain_named("there.example"), dom;
    there.held = true;
    assert_int_equal(change(&b, DIRECTORY_ADD, &there), 0);
    for (int i = 0; i < 50; i++) {
        char name[64];
        snprintf(name, sizeof name, "mine-%d.example", i);
        dom = domain_named(name);
        assert_int_equal(domains_set(a.registry, &dom, false, why), 0);
    }
    directory_import(a.directory);
    for (int i = 0; i < 20; i++)
        turns();
    assert_non_null(served(&b, "mine-0.example"));
    assert_non_null(served(&b, "mine-49.example"));
    assert_true(served(&a, "there.example")->held);
}

static void on_txn(void *arg, int res, bool succeeded, int64_t rev)
{
    (void)rev;
    assert_int_equal(res, 0);
    *(bool *)arg = succeeded;
}

/* Nonsense in one bucket is logged, and neither takes domains away nor keeps others from being read. */
static void a_damaged_bucket_leaves_what_was(void **state)
{
    (void)state;
    struct domain dom = domain_named("example.com"), other = domain_named("example.net");
    assert_int_not_equal(bucket_of(slice_str(dom.name)), bucket_of(slice_str(other.name)));
    assert_int_equal(change(&a, DIRECTORY_ADD, &dom), 0);
    char key[BUCKET_KEY_MAX];
    bool done = false;
    bucket_key(bucket_of(slice_str(dom.name)), key);
    struct coord_op op = {.kind = COORD_PUT, .key = slice_str(key), .value = SLICE_LIT("rubbish")};
    coord->ops->txn(coord, NULL, 0, &op, 1, on_txn, &done);
    turns();
    assert_true(done);
    assert_int_equal(change(&b, DIRECTORY_ADD, &other), 0);
    assert_non_null(served(&a, "example.com"));
    assert_non_null(served(&a, "example.net"));
    assert_int_equal(change(&b, DIRECTORY_REMOVE, &dom), -SATCHEL_EINVAL);
}

/* Another store in place of the one before, with these domains of one bucket, and at a lower revision. */
static void replace_store(struct domain *doms, size_t n)
{
    char key[BUCKET_KEY_MAX];
    uint8_t *value;
    size_t value_n;
    bool done = false;
    store->ops->close(&store);
    assert_int_equal(coord_standalone_open(&store, &fake_clock), 0);
    assert_int_equal(bucket_encode(doms, n, &value, &value_n), 0);
    bucket_key(bucket_of(slice_str(doms[0].name)), key);
    struct coord_op op = {.kind = COORD_PUT, .key = slice_str(key), .value = slice_of(value, value_n)};
    assert_int_equal(store->ops->txn(store, NULL, 0, &op, 1, on_txn, &done), 0);
    store->ops->poll(store);
    store->ops->poll(store);
    assert_true(done);
    free(value);
    now_us += 11 * 1000000;
}

/* What was added since the snapshot is served on by those who know it, and is in coordination again. */
static void a_restored_snapshot_takes_no_domain_away(void **state)
{
    (void)state;
    struct domain old = domain_named("old.example"), new = beside(&old), far = domain_named("far.example");
    assert_int_equal(change(&a, DIRECTORY_ADD, &old), 0);
    assert_int_equal(change(&a, DIRECTORY_ADD, &new), 0);
    assert_int_equal(change(&a, DIRECTORY_ADD, &far), 0);
    old.held = true;
    replace_store(&old, 1);
    turns();
    turns();
    assert_non_null(served(&a, new.name));
    assert_non_null(served(&b, new.name));
    assert_int_equal(change(&b, DIRECTORY_ADD, &new), -SATCHEL_EEXIST);
    assert_int_equal(change(&b, DIRECTORY_ADD, &far), -SATCHEL_EEXIST);
    assert_true(served(&a, "old.example")->held); /* as the snapshot says */
    struct domain later = domain_named("later.example");
    assert_int_equal(change(&a, DIRECTORY_ADD, &later), 0);
    now_us += 11 * 1000000;
    turns();
    assert_non_null(served(&b, "later.example")); /* although its revision is one that b has seen before */
}

/* Its buckets would take our domains away. */
static void another_clusters_coordination_is_neither_read_nor_changed(void **state)
{
    (void)state;
    struct domain ours = domain_named("ours.example"), theirs = beside(&ours);
    assert_int_equal(change(&a, DIRECTORY_ADD, &ours), 0);
    stranger = true;
    replace_store(&theirs, 1);
    turns();
    assert_non_null(served(&a, "ours.example"));
    assert_null(served(&a, theirs.name));
    struct domain more = domain_named("more.example");
    assert_int_equal(change(&a, DIRECTORY_ADD, &more), -SATCHEL_EAGAIN);
    assert_non_null(served(&a, "ours.example"));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* A 550 right after one's own `domain add` would bounce mail for good. */
static void who_changed_it_serves_it_when_the_answer_comes(void **state)
{
    (void)state;
    struct domain dom = domain_named("at-once.example");
    struct outcome x = {0};
    directory_tick(a.directory); /* a list is asked that does not know it yet */
    directory_change(a.directory, DIRECTORY_ADD, &dom, on_done, &x);
    while (!x.over)
        coord->ops->poll(coord);
    assert_int_equal(x.res, 0);
    assert_non_null(served(&a, "at-once.example"));
    for (int i = 0; i < 5; i++) {
        coord->ops->poll(coord);
        assert_non_null(served(&a, "at-once.example"));
        directory_tick(a.directory);
    }
    assert_int_equal(change(&a, DIRECTORY_REMOVE, &dom), 0);
    assert_null(served(&a, "at-once.example"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_comes_back_as_it_was),
        cmocka_unit_test(a_damaged_bucket_is_refused),
        cmocka_unit_test(keys_of_buckets),
        T(a_domain_added_on_one_node_is_served_by_all),
        T(wrong_changes_are_refused),
        T(two_changes_of_one_bucket_at_once_both_happen),
        T(who_changed_it_serves_it_when_the_answer_comes),
        T(a_list_is_changed_by_itself),
        T(buckets_that_are_not_there_change_nothing),
        T(a_node_brings_its_domains_along),
        T(a_damaged_bucket_leaves_what_was),
        T(a_restored_snapshot_takes_no_domain_away),
        T(another_clusters_coordination_is_neither_read_nor_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
