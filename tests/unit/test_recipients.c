/* test_recipients.c - lists of recipients: what people write, what is compared, what lies on disk, what is forgotten.
 */
#include "dataplane/conf/domains.h"
#include "spool/base/err.h"
#include "spool/base/log.h"
#include "tests/unit/scratch.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[SCRATCH_MAX], why[RECIPIENTS_WHY_MAX];

static int setup(void **state)
{
    (void)state;
    log_level_now = LOG_LEVEL_ERROR;
    scratch_make(dir, "lists");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return scratch_remove(dir);
}

static struct recipients_text parsed(const char *text)
{
    struct recipients_text t;
    if (recipients_text_parse(slice_str(text), "example.com", &t, why) < 0)
        fail_msg("%s", why);
    return t;
}

static struct slice text_of(const struct recipients_text *t)
{
    return slice_of(t->p, t->n);
}

static void assert_text(struct recipients_text t, const char *expected)
{
    assert_int_equal(t.n, strlen(expected));
    assert_memory_equal(t.p, expected, t.n);
    recipients_text_free(&t);
}

/* ---- text */

static void a_list_has_one_form(void **state)
{
    (void)state;
    assert_text(parsed("bob\nAlice@Example.COM\r\n\n# remark\n  carol+x \nbob@example.com\n\"dave\"@example.com\n"
                       "\"Eve X\"@example.com\n\"a\\\"\\b\""),
                "\"a\\\"b\"\n\"eve x\"\nalice\nbob\ncarol+x\ndave\n");
    assert_text(parsed(""), "");
    assert_text(parsed("sales+\no'neil\na.b.c"), "a.b.c\no'neil\nsales+\n");
}

static void hostile_lines_are_named(void **state)
{
    static const struct {
        const char *text;
        size_t n, line;
    } cases[] = {
#define CASE(text, line) {text, sizeof(text) - 1, line}
        CASE("a\nb\nbob@other.example\n", 3),
        CASE("two words\n", 1),
        CASE("a\n\n# x\n.dot\n", 4),
        CASE("dot.\n", 1),
        CASE("a..b", 1),
        CASE("m\xc3\xbcller\n", 1),
        CASE("a\nb\0c\n", 2),
        CASE("\"open\n", 1),
        CASE("\"a\"b\"\n", 1),
        CASE("\"a\\\"\n", 1),
        CASE("@example.com\n", 1),
        CASE("a\rb\n", 1),
        CASE("a,b\n", 1),
        CASE("<a@example.com>\n", 1),
        CASE("\x1b[31m\n", 1),
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct recipients_text t;
        char start[32];
        assert_int_equal(recipients_text_parse(slice_of(cases[i].text, cases[i].n), "example.com", &t, why),
                         -SATCHEL_EINVAL);
        snprintf(start, sizeof start, "line %zu: ", cases[i].line);
        assert_memory_equal(why, start, strlen(start));
        assert_null(strpbrk(why, "\x1b\n\r"));
        assert_null(t.p);
    }
}

static void a_local_part_that_is_too_long(void **state)
{
    char text[RECIPIENT_MAX + 2], out[RECIPIENT_MAX];
    (void)state;
    memset(text, 'a', sizeof text);
    assert_int_equal(recipient_canonical(slice_of(text, RECIPIENT_MAX), out), RECIPIENT_MAX);
    assert_int_equal(recipient_canonical(slice_of(text, RECIPIENT_MAX + 1), out), 0);
    text[0] = text[RECIPIENT_MAX - 1] = '"';
    text[5] = ' ';
    assert_int_equal(recipient_canonical(slice_of(text, RECIPIENT_MAX), out), RECIPIENT_MAX);
    text[7] = ':'; /* still fits */
    assert_int_equal(recipient_canonical(slice_of(text, RECIPIENT_MAX), out), RECIPIENT_MAX);
    assert_int_equal(recipient_canonical(slice_of(text, 0), out), 0);
}

static void sets(void **state)
{
    struct recipients_text a = parsed("a\nb\nd"), b = parsed("b\nc\ne"), none = parsed(""), r;
    (void)state;
    assert_int_equal(recipients_text_add(text_of(&a), text_of(&b), &r), 0);
    assert_int_equal(r.count, 5);
    assert_text(r, "a\nb\nc\nd\ne\n");
    assert_int_equal(recipients_text_remove(text_of(&a), text_of(&b), &r), 0);
    assert_int_equal(r.count, 2);
    assert_text(r, "a\nd\n");
    assert_int_equal(recipients_text_add(text_of(&none), text_of(&b), &r), 0);
    assert_text(r, "b\nc\ne\n");
    assert_int_equal(recipients_text_remove(text_of(&none), text_of(&b), &r), 0);
    assert_text(r, "");
    recipients_text_free(&a);
    recipients_text_free(&b);
    recipients_text_free(&none);
}

/* ---- lookups */

static bool listed(const struct recipient_list *l, const char *local)
{
    return recipient_list_has(l, slice_str(local));
}

static void who_is_on_a_list(void **state)
{
    struct recipients *r;
    struct recipients_text t = parsed("bob\ncarol+news\nsales+\n\"eve x\"\n");
    char hash[RECIPIENTS_HASH_MAX];
    (void)state;
    assert_int_equal(recipients_open(&r, dir), 0);
    assert_int_equal(recipients_keep(r, &t, hash, why), 0);
    const struct recipients_snapshot *s = recipients_get(r);
    const struct recipient_list *l = recipients_find(s, hash);
    assert_non_null(l);
    assert_int_equal(recipient_list_count(l), 4);
    static const char *const on[] = {"bob",    "BOB",       "\"bob\"",   "carol+news", "sales",      "sales+x",
                                     "sales+", "Sales+A+B", "\"Eve X\"", "PostMaster", "\"sales+q\""};
    static const char *const off[] = {"bo",           "bobb",   "bob+x", "carol",      "carol+",     "carol+new",
                                      "carol+news+x", "sale+s", "eve x", "\"eve  x\"", "\"eve x+\"", "",
                                      "sales.x"};
    for (size_t i = 0; i < sizeof on / sizeof *on; i++)
        if (!listed(l, on[i]))
            fail_msg("%s is on the list", on[i]);
    for (size_t i = 0; i < sizeof off / sizeof *off; i++)
        if (listed(l, off[i]))
            fail_msg("%s is not on the list", off[i]);
    recipients_put(s);
    recipients_close(&r);
    recipients_text_free(&t);
}

static void a_million(void **state)
{
#ifdef __SANITIZE_THREAD__
    enum { N = 50000 }; /* a million take it half a minute, in one thread */
#else
    enum { N = 1000000 };
#endif
    struct recipients *r;
    struct recipients_text t;
    size_t cap = (size_t)N * 32, n = 0;
    char *text = malloc(cap), hash[RECIPIENTS_HASH_MAX], local[64];
    (void)state;
    for (unsigned i = 0; i < N; i++)
        n += (size_t)snprintf(text + n, cap - n, "user.%07u@example.com\n", (unsigned)((uint64_t)i * 7919 % N));
    assert_int_equal(recipients_text_parse(slice_of(text, n), "example.com", &t, why), 0);
    free(text);
    assert_int_equal(t.count, N);
    assert_int_equal(recipients_open(&r, dir), 0);
    assert_int_equal(recipients_keep(r, &t, hash, why), 0);
    recipients_close(&r);
    assert_int_equal(recipients_open(&r, dir), 0);
    const struct recipients_snapshot *s = recipients_get(r);
    const struct recipient_list *l = recipients_find(s, hash);
    assert_non_null(l);
    for (unsigned i = 0; i < N; i += 997) {
        snprintf(local, sizeof local, "User.%07u", i);
        assert_true(listed(l, local));
        snprintf(local, sizeof local, "user.%07u", i + N);
        assert_false(listed(l, local));
    }
    recipients_put(s);
    recipients_close(&r);
    recipients_text_free(&t);
}

/* ---- files */

static void path_of(const char *hash, char path_r[128])
{
    snprintf(path_r, 128, "%s/lists/%s", dir, hash);
}

static void a_list_is_there_after_a_restart(void **state)
{
    struct recipients *r;
    struct recipients_text t = parsed("a\nb"), back;
    char hash[RECIPIENTS_HASH_MAX], again[RECIPIENTS_HASH_MAX];
    (void)state;
    assert_int_equal(recipients_open(&r, dir), 0);
    assert_int_equal(recipients_keep(r, &t, hash, why), 0);
    uint64_t version = recipients_version(r);
    assert_int_equal(recipients_keep(r, &t, again, why), 0);
    assert_string_equal(hash, again);
    assert_int_equal(recipients_version(r), version);
    recipients_close(&r);
    assert_int_equal(recipients_open(&r, dir), 0);
    assert_true(recipients_have(r, hash));
    assert_int_equal(recipients_read(r, hash, &back, why), 0);
    assert_int_equal(back.count, 2);
    assert_text(back, "a\nb\n");
    assert_int_equal(recipients_read(r, "00000000000000000000000000000000", &back, why), -SATCHEL_ENOENT);
    assert_int_equal(recipients_read(r, "../../etc/passwd", &back, why), -SATCHEL_ENOENT);
    recipients_close(&r);
    recipients_text_free(&t);
}

/* Whatever byte is damaged, the list is not taken for another. */
static void a_damaged_file_is_refused(void **state)
{
    struct recipients *r;
    struct recipients_text t = parsed("alice\nbob\ncarol\ndave\n"), none;
    char hash[RECIPIENTS_HASH_MAX], path[128];
    uint8_t *packed;
    size_t n;
    (void)state;
    assert_int_equal(recipients_open(&r, dir), 0);
    assert_int_equal(recipients_keep(r, &t, hash, why), 0);
    assert_int_equal(recipients_read_packed(r, hash, &packed, &n, why), 0);
    recipients_close(&r);
    path_of(hash, path);
    for (size_t i = 0; i < n; i++) {
        packed[i] ^= 0x40;
        int fd = open(path, O_WRONLY | O_TRUNC);
        assert_int_equal(write(fd, packed, n), n);
        close(fd);
        packed[i] ^= 0x40;
        assert_int_equal(recipients_open(&r, dir), 0);
        const struct recipients_snapshot *s = recipients_get(r);
        const struct recipient_list *l = recipients_find(s, hash);
        assert_true(!l || (recipient_list_count(l) == 4 && listed(l, "carol")));
        recipients_put(s);
        recipients_close(&r);
    }
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(truncate(path, (off_t)i), 0);
        assert_int_equal(recipients_open(&r, dir), 0);
        assert_false(recipients_have(r, hash));
        assert_int_equal(recipients_read(r, hash, &none, why), -SATCHEL_EDAMAGED);
        assert_non_null(strstr(why, hash));
        recipients_close(&r);
        int fd = open(path, O_WRONLY | O_TRUNC);
        assert_int_equal(write(fd, packed, n), n);
        close(fd);
    }
    free(packed);
    recipients_text_free(&t);
}

static void what_a_peer_sends_is_checked(void **state)
{
    struct recipients *r;
    struct recipients_text t = parsed("alice\nbob"), other = parsed("mallory");
    char hash[RECIPIENTS_HASH_MAX];
    uint8_t *packed, *wrong;
    size_t n, wrong_n;
    (void)state;
    recipients_hash(text_of(&t), hash);
    assert_int_equal(recipients_pack(text_of(&t), &packed, &n), 0);
    assert_int_equal(recipients_pack(text_of(&other), &wrong, &wrong_n), 0);
    assert_int_equal(recipients_open(&r, dir), 0);
    assert_int_equal(recipients_keep_packed(r, hash, slice_of(wrong, wrong_n), why), -SATCHEL_EDAMAGED);
    assert_int_equal(recipients_keep_packed(r, hash, SLICE_LIT("nonsense"), why), -SATCHEL_EDAMAGED);
    assert_false(recipients_have(r, hash));
    assert_int_equal(recipients_missing_us(r, hash, 1000), 0);
    assert_int_equal(recipients_missing_us(r, hash, 5000), 4000);
    assert_int_equal(recipients_keep_packed(r, hash, slice_of(packed, n), why), 0);
    assert_true(recipients_have(r, hash));
    assert_int_equal(recipients_missing_us(r, hash, 9000), 0); /* it was there meanwhile */
    recipients_close(&r);
    free(packed);
    free(wrong);
    recipients_text_free(&t);
    recipients_text_free(&other);
}

static bool is_this(void *arg, const char *hash)
{
    return arg && strcmp(arg, hash) == 0;
}

static void what_no_domain_names_goes_after_an_hour(void **state)
{
    struct recipients *r;
    struct recipients_text t = parsed("a"), u = parsed("b");
    char one[RECIPIENTS_HASH_MAX], two[RECIPIENTS_HASH_MAX], path[128];
    uint64_t now_s = (uint64_t)time(NULL);
    (void)state;
    assert_int_equal(recipients_open(&r, dir), 0);
    assert_int_equal(recipients_keep(r, &t, one, why), 0);
    assert_int_equal(recipients_keep(r, &u, two, why), 0);
    path_of(one, path);
    struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    recipients_sweep(r, is_this, two, now_s); /* found unused: the hour begins */
    assert_true(recipients_have(r, one));
    recipients_sweep(r, is_this, two, now_s + RECIPIENTS_UNUSED_S / 2);
    assert_true(recipients_have(r, one));
    const struct recipients_snapshot *held = recipients_get(r);
    recipients_sweep(r, is_this, two, now_s + RECIPIENTS_UNUSED_S + 60);
    assert_false(recipients_have(r, one));
    assert_true(recipients_have(r, two));
    assert_int_equal(access(path, F_OK), -1);
    assert_true(listed(recipients_find(held, one), "a")); /* who holds a snapshot keeps its lists */
    recipients_put(held);
    recipients_close(&r);
    recipients_text_free(&t);
    recipients_text_free(&u);
}

/* ---- threads */

struct racing {
    struct recipients *r;
    atomic_bool stop;
    char hash[4][RECIPIENTS_HASH_MAX];
};

/* A list is whole or not there, whatever comes and goes. */
static void *reader_main(void *arg)
{
    struct racing *race = arg;
    uintptr_t wrong = 0;
    for (unsigned i = 0; !atomic_load(&race->stop); i++) {
        const char *hash = race->hash[i % 4];
        const struct recipients_snapshot *s = recipients_get(race->r);
        const struct recipient_list *l = recipients_find(s, hash);
        if (l && (!listed(l, "bob") || listed(l, "mallory") || recipient_list_count(l) != i % 4 + 1))
            wrong = 1;
        if (!l)
            recipients_missing_us(race->r, hash, i);
        recipients_put(s);
    }
    return (void *)wrong;
}

static void readers_see_whole_lists(void **state)
{
    static const char *const texts[] = {"bob", "bob\na", "bob\na\nb", "bob\na\nb\nc"};
    struct racing race = {0};
    struct recipients_text t[4];
    pthread_t readers[2];
    void *wrong;
    uint64_t now_s = (uint64_t)time(NULL);
    (void)state;
    assert_int_equal(recipients_open(&race.r, dir), 0);
    for (int i = 0; i < 4; i++) {
        t[i] = parsed(texts[i]);
        recipients_hash(text_of(&t[i]), race.hash[i]);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, reader_main, &race), 0);
    for (int round = 0; round < 50; round++) {
        char hash[RECIPIENTS_HASH_MAX];
        for (int i = 0; i < 4; i++)
            assert_int_equal(recipients_keep(race.r, &t[i], hash, why), 0);
        recipients_sweep(race.r, is_this, race.hash[0], now_s);
        recipients_sweep(race.r, is_this, race.hash[0], now_s + RECIPIENTS_UNUSED_S + 600);
        assert_true(recipients_have(race.r, race.hash[0]));
        assert_false(recipients_have(race.r, race.hash[3]));
    }
    atomic_store(&race.stop, true);
    for (int i = 0; i < 2; i++) {
        pthread_join(readers[i], &wrong);
        assert_null(wrong);
    }
    recipients_close(&race.r);
    for (int i = 0; i < 4; i++)
        recipients_text_free(&t[i]);
}

/* ---- with the registry */

static void a_domain_names_its_list(void **state)
{
    struct domains *d;
    struct domain dom;
    struct recipients_text t = parsed("a\nb\nc");
    char hash[RECIPIENTS_HASH_MAX];
    (void)state;
    assert_int_equal(domains_open(&d, dir, why), 0);
    assert_int_equal(domain_init(&dom, SLICE_LIT("example.com"), why), 0);
    assert_int_equal(primary_parse(SLICE_LIT("127.0.0.1"), &dom.primaries[dom.primaries_n++], why), 0);
    assert_int_equal(domains_set(d, &dom, false, why), 0);
    assert_int_equal(recipients_keep(domains_recipients(d), &t, hash, why), 0);
    assert_int_equal(domains_set_recipients(d, SLICE_LIT("other.example"), hash, 3, why), -SATCHEL_ENOENT);
    assert_int_equal(domains_set_recipients(d, SLICE_LIT("Example.com"), hash, 3, why), 0);
    domains_close(&d);
    assert_int_equal(domains_open(&d, dir, why), 0);
    const struct domains_snapshot *s = domains_get(d);
    assert_string_equal(domains_find(s, SLICE_LIT("example.com"))->recipients, hash);
    assert_int_equal(domains_find(s, SLICE_LIT("example.com"))->recipients_n, 3);
    domains_put(s);
    assert_true(recipients_have(domains_recipients(d), hash));
    assert_int_equal(domains_set_recipients(d, SLICE_LIT("example.com"), "", 0, why), 0);
    s = domains_get(d);
    assert_string_equal(domains_find(s, SLICE_LIT("example.com"))->recipients, "");
    domains_put(s);
    domains_close(&d);
    recipients_text_free(&t);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_list_has_one_form),
        TEST(hostile_lines_are_named),
        TEST(a_local_part_that_is_too_long),
        TEST(sets),
        TEST(who_is_on_a_list),
        TEST(a_million),
        TEST(a_list_is_there_after_a_restart),
        TEST(a_damaged_file_is_refused),
        TEST(what_a_peer_sends_is_checked),
        TEST(what_no_domain_names_goes_after_an_hour),
        TEST(readers_see_whole_lists),
        TEST(a_domain_names_its_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
