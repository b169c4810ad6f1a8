/* test_domains.c - the registry: names, primaries, snapshots, and a file that is old or new but never half. */
#include "dataplane/conf/domains.h"
#include "spool/base/err.h"
#include "tests/unit/scratch.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[SCRATCH_MAX], why[256];

static void path_of(const char *name, char out_r[128])
{
    snprintf(out_r, 128, "%s/%s", dir, name);
}

static int setup(void **state)
{
    (void)state;
    scratch_make(dir, "domains");
    return 0;
}

static int teardown(void **state)
{
    char path[128];
    (void)state;
    path_of("domains.json", path);
    unlink(path);
    path_of("domains.json.new", path);
    unlink(path);
    rmdir(path);
    return rmdir(dir);
}

static void file_write(const char *name, const char *text)
{
    char path[128];
    path_of(name, path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static struct domains *opened(void)
{
    struct domains *d;
    if (domains_open(&d, dir, why) < 0)
        fail_msg("%s", why);
    return d;
}

static struct domain domain_of(const char *name, const char *primary)
{
    struct domain dom;
    if (domain_init(&dom, slice_str(name), why) < 0)
        fail_msg("%s", why);
    assert_int_equal(primary_parse(slice_str(primary), &dom.primaries[0], why), 0);
    dom.primaries_n = 1;
    return dom;
}

static void add(struct domains *d, const char *name)
{
    struct domain dom = domain_of(name, "192.0.2.1:26");
    if (domains_set(d, &dom, false, why) < 0)
        fail_msg("%s", why);
}

/* ---- values */

static void names_are_checked(void **state)
{
    (void)state;
    static const char *const good[] = {"example.com",           "EXAMPLE.com", "a.b",
                                       "xn--bcher-kva.example", "1.example",   "a_b.c"};
    static const char *const bad[] = {"",
                                      "com",
                                      "example.com.",
                                      ".example.com",
                                      "a..b",
                                      "-a.b",
                                      "a-.b",
                                      "a b.com",
                                      "1.2.3.4",
                                      "b\xc3\xbc"
                                      "cher.example",
                                      "a/b.com",
                                      "[1.2.3.4]"};
    struct domain dom;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(domain_init(&dom, slice_str(good[i]), why), 0);
        assert_int_equal(dom.keep_s, 30 * 86400);
        assert_int_equal(dom.connections, 4);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(domain_init(&dom, slice_str(bad[i]), why), -SATCHEL_EINVAL);
    assert_int_equal(domain_init(&dom, SLICE_LIT("a.b\0c"), why), -SATCHEL_EINVAL);
    char label[80] = "", name[400] = "";
    memset(label, 'a', 63);
    snprintf(name, sizeof name, "%s.%s.%s.%.61s", label, label, label, label);
    assert_int_equal(domain_init(&dom, slice_str(name), why), 0);
    strcat(name, "a");
    assert_int_equal(domain_init(&dom, slice_str(name), why), -SATCHEL_EINVAL);
    snprintf(name, sizeof name, "%sa.b", label);
    assert_int_equal(domain_init(&dom, slice_str(name), why), -SATCHEL_EINVAL);
}

static void primaries_are_read_and_written(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host, *whole;
        uint16_t port;
    } good[] = {
        {"mail.example.com:26", "mail.example.com", "mail.example.com:26", 26},
        {"MAIL.example.com", "mail.example.com", "mail.example.com:25", 25},
        {"localhost:2526", "localhost", "localhost:2526", 2526},
        {"192.0.2.1:25", "192.0.2.1", "192.0.2.1:25", 25},
        {"[::1]:2526", "::1", "[::1]:2526", 2526},
        {"[2001:db8::1]", "2001:db8::1", "[2001:db8::1]:25", 25},
        {"2001:db8::1", "2001:db8::1", "[2001:db8::1]:25", 25},
    };
    static const char *const bad[] = {"",       ":25",    "a:",     "a:0",   "a:65536", "a:b",         "[::1",
                                      "[::1]x", "[::1]:", "a b:25", "::1:x", "1.2.3",   "a:100000025", "x/y"};
    struct primary p;
    char text[PRIMARY_TEXT_MAX];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(primary_parse(slice_str(good[i].text), &p, why), 0);
        assert_string_equal(p.host, good[i].host);
        assert_int_equal(p.port, good[i].port);
        assert_string_equal(primary_format(&p, text), good[i].whole);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(primary_parse(slice_str(bad[i]), &p, why), -SATCHEL_EINVAL);
}

/* ---- the registry */

static void changes_are_found_again_after_a_restart(void **state)
{
    (void)state;
    struct domains *d = opened();
    struct domain dom = domain_of("b.example", "[::1]:2526");
    dom.held = true;
    dom.order = ORDER_WINDOW;
    dom.keep_s = 3600;
    dom.max_message_bytes = 1 << 20;
    assert_int_equal(domains_set(d, &dom, false, why), 0);
    add(d, "a.example");
    add(d, "c.example");
    assert_int_equal(domains_remove(d, SLICE_LIT("C.example"), why), 0);
    domains_close(&d);
    assert_null(d);

    d = opened();
    const struct domains_snapshot *s = domains_get(d);
    assert_int_equal(domains_count(s), 2);
    assert_string_equal(domains_at(s, 0)->name, "a.example");
    const struct domain *found = domains_find(s, SLICE_LIT("B.EXAMPLE"));
    assert_non_null(found);
    assert_memory_equal(found, &dom, sizeof dom);
    assert_null(domains_find(s, SLICE_LIT("c.example")));
    assert_null(domains_find(s, SLICE_LIT("")));
    domains_put(s);
    domains_close(&d);
}

static void wrong_changes_are_refused(void **state)
{
    (void)state;
    struct domains *d = opened();
    uint64_t version = domains_version(d);
    struct domain dom = domain_of("a.example", "192.0.2.1");
    assert_int_equal(domains_set(d, &dom, true, why), -SATCHEL_ENOENT);
    assert_int_equal(domains_remove(d, SLICE_LIT("a.example"), why), -SATCHEL_ENOENT);
    add(d, "a.example");
    assert_int_equal(domains_version(d), version + 1);
    assert_int_equal(domains_set(d, &dom, false, why), -SATCHEL_EEXIST);
    dom.primaries_n = 0;
    assert_int_equal(domains_set(d, &dom, true, why), -SATCHEL_EINVAL);
    assert_int_equal(domains_version(d), version + 1);
    domains_close(&d);
}

static void a_snapshot_stays_what_it_was(void **state)
{
    (void)state;
    struct domains *d = opened();
    add(d, "a.example");
    const struct domains_snapshot *before = domains_get(d);
    const struct domain *a = domains_find(before, SLICE_LIT("a.example"));
    struct domain changed = *a;
    changed.held = true;
    assert_int_equal(domains_set(d, &changed, true, why), 0);
    assert_int_equal(domains_remove(d, SLICE_LIT("a.example"), why), 0);
    assert_int_equal(domains_count(before), 1);
    assert_false(a->held);
    assert_ptr_equal(domains_find(before, SLICE_LIT("a.example")), a);
    const struct domains_snapshot *after = domains_get(d);
    assert_int_equal(domains_count(after), 0);
    domains_put(after);
    domains_close(&d); /* the snapshot outlives even the registry */
    assert_string_equal(a->name, "a.example");
    domains_put(before);
}

static void many_are_added_at_once(void **state)
{
    (void)state;
    enum { N = 300 };
    struct domains *d = opened();
    struct domain *doms = calloc(N, sizeof *doms);
    char name[32];
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "d%04d.test", (i * 7) % N);
        doms[i] = domain_of(name, "192.0.2.1");
    }
    add(d, "d0005.test");
    uint64_t version = domains_version(d);
    assert_int_equal(domains_add_missing(d, doms, N, why), N - 1);
    assert_int_equal(domains_version(d), version + 1);
    assert_int_equal(domains_add_missing(d, doms, N, why), 0);
    const struct domains_snapshot *s = domains_get(d);
    assert_int_equal(domains_count(s), N);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "d%04d.test", i);
        assert_string_equal(domains_at(s, (size_t)i)->name, name);
        assert_ptr_equal(domains_find(s, slice_str(name)), domains_at(s, (size_t)i));
    }
    assert_int_equal(domains_find(s, SLICE_LIT("d0005.test"))->primaries[0].port, 26); /* kept as it was */
    domains_put(s);
    domains_close(&d);
    free(doms);
}

/* ---- the file */

static void what_a_crash_left_aside_is_ignored(void **state)
{
    (void)state;
    struct domains *d = opened();
    add(d, "a.example");
    domains_close(&d);
    file_write("domains.json.new", "{\"version\": 1, \"domai");
    d = opened();
    const struct domains_snapshot *s = domains_get(d);
    assert_int_equal(domains_count(s), 1);
    domains_put(s);
    add(d, "b.example"); /* and is no obstacle */
    domains_close(&d);
}

static void a_change_that_cannot_be_written_does_not_happen(void **state)
{
    (void)state;
    char aside[128];
    struct domains *d = opened();
    add(d, "a.example");
    path_of("domains.json.new", aside);
    assert_int_equal(mkdir(aside, 0700), 0); /* also stops root */
    struct domain dom = domain_of("b.example", "192.0.2.1");
    assert_true(domains_set(d, &dom, false, why) < 0);
    assert_non_null(strstr(why, "domains.json.new: cannot write"));
    const struct domains_snapshot *s = domains_get(d);
    assert_int_equal(domains_count(s), 1);
    domains_put(s);
    domains_close(&d);
    d = opened();
    s = domains_get(d);
    assert_int_equal(domains_count(s), 1);
    domains_put(s);
    domains_close(&d);
    assert_int_equal(rmdir(aside), 0);
}

static void damaged_files_are_refused_with_their_place(void **state)
{
    (void)state;
    static const struct {
        const char *text, *expected;
        int res;
    } cases[] = {
        {"", ":1:0: '[' or '{' expected near end of file", -SATCHEL_EDAMAGED},
        {"{\"version\": 1,\n \"domains\": [}", ":2:14: unexpected token near '}'", -SATCHEL_EDAMAGED},
        {"{}", ": 1:1: expected {\"version\": 1, \"domains\": [...]}", -SATCHEL_EDAMAGED},
        {"{\"version\": 2, \"domains\": []}", ": version 2; this Satchel reads version 1", -SATCHEL_EVERSION},
        {"{\"version\": 1, \"domains\": [{\"name\": \"a.b\"}]}", NULL, -SATCHEL_EDAMAGED},
        {"{\"version\": 1, \"domains\": [{\"name\": \"a.b\", \"primaries\": [\"x\"], \"colour\": 1}]}",
         ": domain 1: colour: not a key of a domain", -SATCHEL_EDAMAGED},
        {"{\"version\": 1, \"domains\": [{\"name\": \"a.b\", \"primaries\": [\"x\"]}, {\"name\": \"A.B\", "
         "\"primaries\": "
         "[\"x\"]}]}",
         ": a.b is there twice", -SATCHEL_EDAMAGED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct domains *d = NULL;
        char path[128];
        path_of("domains.json", path);
        file_write("domains.json", cases[i].text);
        assert_int_equal(domains_open(&d, dir, why), cases[i].res);
        assert_memory_equal(why, path, strlen(path));
        if (cases[i].expected)
            assert_string_equal(why + strlen(path), cases[i].expected);
        assert_null(d);
    }
}

/* ---- threads */

struct racing {
    struct domains *d;
    atomic_bool stop;
};

/* Whatever it sees is whole: a domain is there in one of its two forms, or not. */
static void *reader_main(void *arg)
{
    struct racing *r = arg;
    uintptr_t seen = 0;
    while (!atomic_load(&r->stop)) {
        const struct domains_snapshot *s = domains_get(r->d);
        const struct domain *dom = domains_find(s, SLICE_LIT("b.example"));
        if (dom && (dom->connections != (dom->held ? 7u : 4u) || strcmp(dom->name, "b.example") != 0))
            seen |= 1;
        domains_put(s);
    }
    return (void *)seen;
}

/* Here a failure would be the disk's; it has words. */
static void done(int res)
{
    if (res != 0)
        fail_msg("%s", why);
}

static void readers_see_whole_states(void **state)
{
    (void)state;
    struct racing r = {.d = opened()};
    pthread_t readers[2];
    void *seen;
    add(r.d, "a.example");
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, reader_main, &r), 0);
    for (int i = 0; i < 30; i++) {
        struct domain dom = domain_of("b.example", "192.0.2.1");
        done(domains_set(r.d, &dom, false, why));
        dom.held = true;
        dom.connections = 7;
        done(domains_set(r.d, &dom, true, why));
        done(domains_remove(r.d, SLICE_LIT("b.example"), why));
    }
    atomic_store(&r.stop, true);
    for (int i = 0; i < 2; i++) {
        pthread_join(readers[i], &seen);
        assert_null(seen);
    }
    domains_close(&r.d);
}

static bool begins_with_b(void *arg, const struct domain *dom)
{
    (void)arg;
    return dom->name[0] == 'b';
}

/* What is kept elsewhere replaces its part, and nothing is written where nothing differs. */
static void a_part_is_replaced_as_a_whole(void **state)
{
    (void)state;
    struct domains *d = opened();
    struct domain a = domain_of("a.example", "mail.a.example"), b = domain_of("b.example", "mail.b.example"),
                  gone = domain_of("bb.example", "mail.b.example");
    assert_int_equal(domains_set(d, &a, false, why), 0);
    assert_int_equal(domains_set(d, &gone, false, why), 0);
    assert_int_equal(domains_replace_part(d, begins_with_b, NULL, &b, 1, why), 0);
    const struct domains_snapshot *s = domains_get(d);
    assert_int_equal(domains_count(s), 2);
    assert_non_null(domains_find(s, SLICE_LIT("a.example")));
    assert_non_null(domains_find(s, SLICE_LIT("b.example")));
    domains_put(s);

    uint64_t version = domains_version(d);
    assert_int_equal(domains_replace_part(d, begins_with_b, NULL, &b, 1, why), 0);
    assert_int_equal(domains_version(d), version);
    b.held = true;
    assert_int_equal(domains_replace_part(d, begins_with_b, NULL, &b, 1, why), 0);
    assert_int_not_equal(domains_version(d), version);
    assert_int_equal(domains_replace_part(d, begins_with_b, NULL, NULL, 0, why), 0);
    domains_close(&d);

    d = opened();
    s = domains_get(d);
    assert_int_equal(domains_count(s), 1);
    assert_null(domains_find(s, SLICE_LIT("b.example")));
    domains_put(s);
    domains_close(&d);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(names_are_checked),
        T(primaries_are_read_and_written),
        T(changes_are_found_again_after_a_restart),
        T(wrong_changes_are_refused),
        T(a_snapshot_stays_what_it_was),
        T(many_are_added_at_once),
        T(what_a_crash_left_aside_is_ignored),
        T(a_change_that_cannot_be_written_does_not_happen),
        T(damaged_files_are_refused_with_their_place),
        T(a_part_is_replaced_as_a_whole),
        T(readers_see_whole_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
