/* test_index.c - one suite for both indexes: batches, order, snapshots, the applied position; and what a crash keeps.
 */
#include "spool/base/err.h"
#include "spool/index/index.h"
#include "tests/unit/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    struct index *ix;
    char dir[SCRATCH_MAX];
};

static void rocks_open(struct fixture *f)
{
    assert_int_equal(index_rocks_open(&f->ix, f->dir, 1 << 20, 1 << 20), 0);
}

static int setup_ram(void **state)
{
    static struct fixture f;
    f = (struct fixture){0};
    *state = &f;
    return index_ram_open(&f.ix);
}

static int setup_rocks(void **state)
{
    static struct fixture f;
    f = (struct fixture){0};
    scratch_make(f.dir, "index");
    rocks_open(&f);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->ix)
        f->ix->ops->close(&f->ix);
    if (f->dir[0])
        return scratch_remove(f->dir);
    return 0;
}

static void put(struct index *ix, const char *k, const char *v)
{
    ix->ops->put(ix, slice_str(k), slice_str(v));
}

static void expect(struct index *ix, const char *k, const char *v)
{
    char buf[64];
    int64_t n = ix->ops->get(ix, slice_str(k), buf, sizeof buf);
    if (!v) {
        assert_int_equal(n, -SATCHEL_ENOENT);
        return;
    }
    assert_int_equal(n, strlen(v));
    assert_memory_equal(buf, v, strlen(v));
}

/* Keys of a range, joined by commas. */
static void range(struct index_iter *it, const struct index_ops *ops, char *out_r)
{
    struct slice k, v;
    *out_r = 0;
    while (ops->next(it, &k, &v))
        sprintf(out_r + strlen(out_r), "%.*s,", SLICE_FMT(k));
}

static void test_batch(void **state)
{
    struct index *ix = ((struct fixture *)*state)->ix;
    assert_int_equal(ix->ops->applied(ix), 0);
    put(ix, "a", "1");
    put(ix, "b", "2");
    expect(ix, "a", NULL); /* not committed */
    assert_int_equal(ix->ops->commit(ix, 77), 0);
    assert_int_equal(ix->ops->applied(ix), 77);
    expect(ix, "a", "1");
    put(ix, "a", "one");
    ix->ops->del(ix, slice_str("b"));
    ix->ops->del(ix, slice_str("nothing"));
    put(ix, "c", "");
    assert_int_equal(ix->ops->commit(ix, 78), 0);
    expect(ix, "a", "one");
    expect(ix, "b", NULL);
    expect(ix, "c", "");
    char two[2] = {0};
    assert_int_equal(ix->ops->get(ix, slice_str("a"), two, 2), 3); /* cut, and says how long it is */
    assert_memory_equal(two, "on", 2);
    put(ix, "d", "1"); /* the last word in a batch counts */
    ix->ops->del(ix, slice_str("d"));
    ix->ops->del(ix, slice_str("e"));
    put(ix, "e", "2");
    assert_int_equal(ix->ops->commit(ix, 79), 0);
    expect(ix, "d", NULL);
    expect(ix, "e", "2");
}

static void test_iterate(void **state)
{
    struct index *ix = ((struct fixture *)*state)->ix;
    const struct index_ops *ops = ix->ops;
    char out[256];
    for (const char *k = "qwertyuiopasdfghjklzxcvbnm"; *k; k++)
        ops->put(ix, slice_of(k, 1), slice_str("v"));
    assert_int_equal(ops->commit(ix, 1), 0);
    struct index_iter *it = ops->iter(ix, slice_str("c"), slice_str("g"));
    range(it, ops, out);
    assert_string_equal(out, "c,d,e,f,");
    ops->iter_free(&it);
    it = ops->iter(ix, slice_str("cc"), slice_str("d"));
    range(it, ops, out);
    assert_string_equal(out, "");
    ops->iter_free(&it);
    assert_null(it);
}

static void test_snapshot(void **state)
{
    struct index *ix = ((struct fixture *)*state)->ix;
    const struct index_ops *ops = ix->ops;
    char out[256];
    put(ix, "a", "1");
    put(ix, "b", "1");
    put(ix, "d", "1");
    assert_int_equal(ops->commit(ix, 1), 0);
    struct index_iter *it = ops->iter(ix, slice_str("a"), slice_str("z"));
    ops->del(ix, slice_str("b"));
    put(ix, "c", "1");
    assert_int_equal(ops->commit(ix, 2), 0);
    range(it, ops, out);
    assert_string_equal(out, "a,b,d,");
    ops->iter_free(&it);
    it = ops->iter(ix, slice_str("a"), slice_str("z"));
    range(it, ops, out);
    assert_string_equal(out, "a,c,d,");
    ops->iter_free(&it);
}

static void test_durable(void **state)
{
    struct index *ix = ((struct fixture *)*state)->ix;
    assert_int_equal(ix->ops->durable(ix), 0);
    put(ix, "a", "1");
    assert_int_equal(ix->ops->commit(ix, 10), 0);
    assert_int_equal(ix->ops->flush(ix), 0);
    assert_int_equal(ix->ops->durable(ix), 10);
    put(ix, "b", "1");
    assert_int_equal(ix->ops->commit(ix, 20), 0);
    assert_int_equal(ix->ops->flush_start(ix), 0);
    for (int i = 0; i < 5000 && ix->ops->durable(ix) < 20; i++)
        usleep(1000);
    assert_int_equal(ix->ops->durable(ix), 20);
}

/* Random batches against a plain array. */
static void test_random(void **state)
{
    struct index *ix = ((struct fixture *)*state)->ix;
    int model[500];
    char k[16], v[16];
    memset(model, -1, sizeof model);
    srand(5);
    for (int i = 0; i < 300; i++) {
        for (int n = rand() % 20; n; n--) {
            int key = rand() % 500;
            sprintf(k, "%03d", key);
            sprintf(v, "%d", i);
            model[key] = rand() % 3 ? i : -1;
            if (model[key] < 0)
                ix->ops->del(ix, slice_str(k));
            else
                put(ix, k, v);
        }
        assert_int_equal(ix->ops->commit(ix, (uint64_t)i + 1), 0);
    }
    struct index_iter *it = ix->ops->iter(ix, slice_str(""), slice_str("~"));
    struct slice ks, vs;
    /* keys of the index itself begin with NUL and come first */
    for (int key = 0; key < 500; key++) {
        if (model[key] < 0)
            continue;
        do
            assert_true(ix->ops->next(it, &ks, &vs));
        while (ks.p[0] == 0);
        sprintf(k, "%03d", key);
        sprintf(v, "%d", model[key]);
        assert_true(slice_eq(ks, slice_str(k)) && slice_eq(vs, slice_str(v)));
    }
    assert_false(ix->ops->next(it, &ks, &vs));
    ix->ops->iter_free(&it);
}

static void test_ram_crash(void **state)
{
    struct index *ix = ((struct fixture *)*state)->ix;
    char v[16];
    for (uint64_t i = 1; i <= 10; i++) {
        sprintf(v, "%d", (int)i);
        put(ix, "k", v);
        assert_int_equal(ix->ops->commit(ix, i), 0);
        if (i == 4)
            assert_int_equal(ix->ops->flush(ix), 0);
    }
    assert_int_equal(index_ram_unflushed(ix), 6);
    put(ix, "lost", "x");
    index_ram_crash(ix, 3);
    assert_int_equal(ix->ops->applied(ix), 7);
    expect(ix, "k", "7");
    assert_int_equal(ix->ops->commit(ix, 8), 0);
    expect(ix, "lost", NULL);
    index_ram_crash(ix, 0);
    assert_int_equal(ix->ops->applied(ix), 7);
}

/* The process that ends without closing. RocksDB's threads do not survive a fork, so it is this program anew. */
static int crash_main(const char *dir)
{
    struct index *ix;
    char v[16];
    if (index_rocks_open(&ix, dir, 1 << 20, 1 << 20))
        return 1;
    for (uint64_t i = 1; i <= 9; i++) {
        sprintf(v, "%d", (int)i);
        put(ix, "k", v);
        if (ix->ops->commit(ix, i) || (i == 5 && ix->ops->flush(ix)))
            return 1;
    }
    _exit(0);
}

/* What was flushed is kept, and of the rest a prefix. */
static void test_rocks_crash(void **state)
{
    struct fixture *f = *state;
    char v[16];
    f->ix->ops->close(&f->ix);
    pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", "test_index", "crash", f->dir, (char *)NULL);
        _exit(2);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    rocks_open(f);
    uint64_t at = f->ix->ops->applied(f->ix);
    assert_in_range(at, 5, 9);
    assert_int_equal(f->ix->ops->durable(f->ix), at);
    sprintf(v, "%d", (int)at);
    expect(f->ix, "k", v);
}

static void test_rocks_damaged(void **state)
{
    struct fixture *f = *state;
    char path[128];
    put(f->ix, "a", "1");
    assert_int_equal(f->ix->ops->commit(f->ix, 3), 0);
    assert_int_equal(f->ix->ops->flush(f->ix), 0);
    f->ix->ops->close(&f->ix);
    snprintf(path, sizeof path, "%s/CURRENT", f->dir);
    FILE *c = fopen(path, "w");
    fputs("nonsense\n", c);
    fclose(c);
    assert_int_not_equal(index_rocks_open(&f->ix, f->dir, 1 << 20, 1 << 20), 0);
    assert_null(f->ix);
    assert_int_equal(index_rocks_destroy(f->dir), 0);
    rocks_open(f);
    assert_int_equal(f->ix->ops->applied(f->ix), 0);
    expect(f->ix, "a", NULL);
}

#define BOTH(test)                                                                                                     \
    cmocka_unit_test_setup_teardown(test, setup_ram, teardown),                                                        \
        cmocka_unit_test_setup_teardown(test, setup_rocks, teardown)

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "crash") == 0)
        return crash_main(argv[2]);
    const struct CMUnitTest tests[] = {
        BOTH(test_batch),
        BOTH(test_iterate),
        BOTH(test_snapshot),
        BOTH(test_durable),
        BOTH(test_random),
        cmocka_unit_test_setup_teardown(test_ram_crash, setup_ram, teardown),
        cmocka_unit_test_setup_teardown(test_rocks_crash, setup_rocks, teardown),
        cmocka_unit_test_setup_teardown(test_rocks_damaged, setup_rocks, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
