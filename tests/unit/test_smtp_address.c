/* test_smtp_address.c - paths: what is one, what its parts are, and that no input makes the parser read too far. */
#include "dataplane/smtp/address.h"
#include "spool/base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h> /* needs the ones above */

struct good {
    const char *in, *local, *domain, *rest;
};

static void assert_slice(struct slice s, const char *want)
{
    assert_int_equal(s.n, strlen(want));
    assert_memory_equal(s.p ? s.p : (const uint8_t *)"", want, s.n);
}

static void paths_have_parts(void **state)
{
    static const struct good good[] = {
        {"<a@b>", "a", "b", ""},
        {"<a.b.c@example.com> SIZE=1", "a.b.c", "example.com", " SIZE=1"},
        {"<!#$%&'*+-/=?^_`{|}~@x.y>", "!#$%&'*+-/=?^_`{|}~", "x.y", ""},
        {"<\"\"@x>", "\"\"", "x", ""},
        {"<\"a b\\\"@\\\\\"@x>", "\"a b\\\"@\\\\\"", "x", ""},
        {"<@r1,@[1.2.3.4],@r-2.com:u@d>", "u", "d", ""},
        {"<u@[IPv6:::1]>", "u", "[IPv6:::1]", ""},
        {"<u@xn--bcher-kva.example>", "u", "xn--bcher-kva.example", ""},
        {"<u@my_host.1>", "u", "my_host.1", ""},
        {"<PostMaster>", "PostMaster", "", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct smtp_path p;
        struct slice rest;
        assert_int_equal(smtp_path_parse(slice_str(good[i].in), &p, &rest), PATH_OK);
        assert_slice(p.local, good[i].local);
        assert_slice(p.domain, good[i].domain);
        assert_slice(rest, good[i].rest);
        assert_false(p.null);
        assert_int_equal(p.literal, good[i].domain[0] == '[');
    }
}

static void null_path(void **state)
{
    struct smtp_path p;
    struct slice rest;
    (void)state;
    assert_int_equal(smtp_path_parse(SLICE_LIT("<> X"), &p, &rest), PATH_OK);
    assert_true(p.null);
    assert_int_equal(p.address.n, 0);
    assert_slice(rest, " X");
}

static void bad_paths(void **state)
{
    static const char *const bad[] = {
        "",         "<",        "a@b",     "<a@b",       "<a>",         "<@b>",          "<a@>",    "<.a@b>",
        "<a.@b>",   "<a..b@c>", "<a b@c>", "<a@b c>",    "<a@b.>",      "<a@.b>",        "<a@-b>",  "<a@b->",
        "<a@b..c>", "<a@b@c>",  "<\"a@b>", "<\"a\"b@c>", "<a\"b\"@c>",  "<a\\@b@c>",     "<a@[>",   "<a@[]>",
        "<a@[1]x>", "<@r:>",    "<@r>",    "<@r u@d>",   "<@r,:u@d>",   "<@:u@d>",       "<a@b\t>", "<<a@b>>",
        "< a@b>",   "<a@b >",   "<a,b@c>", "<a@b:25>",   "<postmaste>", "<\"a\x01\"@b>", "<\"a\\",  "<a@[a[b]>",
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct smtp_path p;
        struct slice rest;
        if (smtp_path_parse(slice_str(bad[i]), &p, &rest) != PATH_SYNTAX)
            fail_msg("taken for a path: %s", bad[i]);
    }
}

static enum smtp_path_error parse_sized(size_t local_n, size_t label_n, size_t labels)
{
    char text[1024];
    size_t n = 0;
    text[n++] = '<';
    memset(text + n, 'l', local_n);
    n += local_n;
    text[n++] = '@';
    for (size_t i = 0; i < labels; i++) {
        if (i)
            text[n++] = '.';
        memset(text + n, 'd', label_n);
        n += label_n;
    }
    text[n++] = '>';
    struct smtp_path p;
    struct slice rest;
    return smtp_path_parse(slice_of(text, n), &p, &rest);
}

static void lengths(void **state)
{
    (void)state;
    assert_int_equal(parse_sized(64, 63, 2), PATH_OK);
    assert_int_equal(parse_sized(64, 64, 1), PATH_SYNTAX);
    assert_int_equal(parse_sized(250, 3, 1), PATH_OK); /* 254 in all */
    assert_int_equal(parse_sized(251, 3, 1), PATH_SYNTAX);
}

static void not_ascii(void **state)
{
    struct smtp_path p;
    struct slice rest;
    (void)state;
    assert_int_equal(smtp_path_parse(SLICE_LIT("<\xc3\xa4@b>"), &p, &rest), PATH_NOT_ASCII);
    assert_int_equal(smtp_path_parse(SLICE_LIT("<a@\xc3\xa4>"), &p, &rest), PATH_NOT_ASCII);
}

/* Random strings of the characters that matter, each in a block of its own size for the sanitizer: whatever is taken
 * for a path has one '@' outside quotes before its domain, and a domain without '@'. */
static void random_paths(void **state)
{
    static const char set[] = "<>@@ab.\"\\:,[]-_ \x80%";
    struct rng r;
    (void)state;
    rng_seed(&r, 5321);
    for (int i = 0; i < 200000; i++) {
        size_t n = 2 + rng_below(&r, 14);
        uint8_t *text = malloc(n);
        text[0] = '<';
        for (size_t j = 1; j < n; j++)
            text[j] = (uint8_t)set[rng_below(&r, sizeof set - 1)];
        struct smtp_path p;
        struct slice rest;
        if (smtp_path_parse(slice_of(text, n), &p, &rest) == PATH_OK && !p.null) {
            assert_true(p.domain.n > 0 && p.local.n > 0);
            assert_null(memchr(p.domain.p, '@', p.domain.n));
            assert_int_equal(p.domain.p[-1], '@');
            assert_ptr_equal(p.local.p + p.local.n + 1, p.domain.p);
            assert_int_equal(p.domain.p[p.domain.n], '>');
        }
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_have_parts), cmocka_unit_test(null_path), cmocka_unit_test(bad_paths),
        cmocka_unit_test(lengths),          cmocka_unit_test(not_ascii), cmocka_unit_test(random_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
