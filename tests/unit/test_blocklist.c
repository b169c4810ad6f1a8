/* test_blocklist.c - block lists as people write them, and addresses as text. */
#include "dataplane/tcp/addr_text.h"
#include "dataplane/tcp/blocklist.h"
#include "dataplane/tcp/guard.h"
#include "spool/base/err.h"
#include "spool/base/rng.h"
#include "tests/unit/scratch.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char why[BLOCKLIST_WHY_MAX];

/* The list as text, one network after the other. */
static void assert_list(const char *text, const char *expected)
{
    struct blocklist b;
    char got[2048] = "", one[ADDR_TEXT_MAX];
    if (blocklist_parse(slice_str(text), "list", 1000, &b, why) < 0)
        fail_msg("%s", why);
    for (uint32_t i = 0; i < b.n; i++) {
        strcat(got, i ? " " : "");
        strcat(got, addr_format_prefix(&b.v[i], one));
    }
    assert_string_equal(got, expected);
    blocklist_free(&b);
}

static void assert_refused(const char *text, const char *says)
{
    struct blocklist b;
    assert_int_equal(blocklist_parse(slice_str(text), "/etc/satchel/blocked", 1000, &b, why), -SATCHEL_EINVAL);
    assert_null(b.v);
    if (!strstr(why, says))
        fail_msg("\"%s\" does not say \"%s\"", why, says);
}

static void lines(void **state)
{
    (void)state;
    assert_list("", "");
    assert_list("\n\n# nothing\n  \t\r\n;\n", "");
    assert_list("192.0.2.0/24", "192.0.2.0/24");
    assert_list("  192.0.2.0/24\t# a remark\r\n2001:db8::/32 ; SBL1\n9.9.9.9\n2600::1",
                "9.9.9.9/32 192.0.2.0/24 2001:db8::/32 2600::1/128");
}

static void sorted_and_merged(void **state)
{
    (void)state;
    assert_list("9.0.0.0/8\n5.0.0.0/8\n9.0.0.0/8\n9.1.2.0/24\n9.255.255.255\n", "5.0.0.0/8 9.0.0.0/8");
    assert_list("10.0.0.0/9\n10.128.0.0/9\n", "10.0.0.0/8");
    assert_list("10.128.0.0/9\n11.0.0.0/9\n", "10.128.0.0/9 11.0.0.0/9"); /* beside each other, not halves of one */
    assert_list("1.2.3.4\n1.2.3.5\n1.2.3.6\n1.2.3.7\n1.2.3.8/29\n1.2.3.0/30\n", "1.2.3.0/28");
    assert_list("2001:db8:1::/48\n2001:db8::/48\n", "2001:db8::/47");
    assert_list("0.0.0.0/1\n128.0.0.0/1\n", "0.0.0.0/1 128.0.0.0/1"); /* never all addresses */
    assert_list("8000::/1\n255.255.255.255\n", "255.255.255.255/32 8000::/1");
}

static void refused(void **state)
{
    (void)state;
    assert_refused("9.0.0.0/8\n\nmail.example.com # x\n",
                   "/etc/satchel/blocked:3: \"mail.example.com\": expected a network");
    assert_refused("9.0.0.1/8", "blocked:1: \"9.0.0.1/8\": expected no bits behind the prefix, as in 9.0.0.0/8");
    assert_refused("2001:db8::1/64", "as in 2001:db8::/64");
    assert_refused("0.0.0.0/0", "not all of them");
    assert_refused("::/0", "not all of them");
    assert_refused("::/8", "leaves out ::ffff:0:0/96");
    assert_refused("9.0.0.0/33", "a network like");
    assert_refused("9.0.0.0/", "a network like");
    assert_refused("9.0.0.0/08", "a network like");
    assert_refused("9.0.0.0/-1", "a network like");
    assert_refused("/8", "a network like");
    assert_refused("9.0.0/24", "a network like");
    assert_refused("9.0.0.0/24 9.1.0.0/24", "a network like");
    assert_refused("2001:db8::/129", "a network like");
    assert_refused("::ffff:9.9.9.9", "a network like");
    assert_refused("::ffff:9.9.9.9/128", "a network like");
    assert_refused("\x01\xff", "a network like");
    assert_refused("11111111111111111111111111111111111111111111111111111111111111111111", "a network like");
}

static void too_many(void **state)
{
    struct blocklist b;
    (void)state;
    assert_int_equal(blocklist_parse(slice_str("1.1.1.1\n2.2.2.2\n3.3.3.3\n"), "list", 2, &b, why), -SATCHEL_EFULL);
    assert_string_equal(why, "list: 3 networks: expected at most 2");
    assert_int_equal(blocklist_parse(slice_str("1.1.1.2\n1.1.1.3\n1.1.1.2\n"), "list", 1, &b, why), 0);
    blocklist_free(&b);
}

/* Whatever is listed: the guard takes the result, and says of each address what the lines say. */
static void as_the_lines_say(void **state)
{
    struct rng r;
    (void)state;
    rng_seed(&r, 1);
    for (int round = 0; round < 200; round++) {
        struct ip_prefix in[40];
        char text[4096] = "", one[ADDR_TEXT_MAX];
        struct blocklist b;
        uint32_t n = (uint32_t)rng_below(&r, 40);
        for (uint32_t i = 0; i < n; i++) { /* in a small world: they overlap */
            bool six = rng_below(&r, 2);
            struct ip_addr a = six ? (struct ip_addr){.b = {0x26}} : ip_addr_of4(htonl(0x14000000));
            a.b[15] = (uint8_t)rng_below(&r, 64);
            in[i].bits = (uint8_t)(122 + rng_below(&r, 7));
            in[i].addr = ip_addr_masked(&a, in[i].bits);
            strcat(strcat(text, addr_format_prefix(&in[i], one)), "\n");
        }
        assert_int_equal(blocklist_parse(slice_str(text), "list", 1000, &b, why), 0);
        for (uint32_t i = 0; i < 128; i++) {
            struct ip_addr a = i < 64 ? (struct ip_addr){.b = {0x26}} : ip_addr_of4(htonl(0x14000000));
            a.b[15] = (uint8_t)(i % 64);
            bool expected = false, got = false;
            for (uint32_t k = 0; k < n; k++)
                expected |= ip_prefix_has(&in[k], &a);
            for (uint32_t k = 0; k < b.n; k++)
                got |= ip_prefix_has(&b.v[k], &a);
            assert_int_equal(got, expected);
        }
        struct guard_config cfg = guard_config_default;
        struct guard *g;
        struct stats stats = {0};
        uint8_t key[16] = {1};
        cfg.cells = 2;
        void *mem = calloc(1, guard_bytes(&cfg));
        assert_int_equal(guard_init(&g, mem, &cfg, key, &stats, 0), 0);
        assert_int_equal(guard_block(g, b.v, b.n), 0);
        free(mem);
        blocklist_free(&b);
    }
}

static void garbage(void **state)
{
    struct rng r;
    (void)state;
    rng_seed(&r, 2);
    for (int round = 0; round < 20000; round++) {
        static const char letters[] = "0129./:abf#; \n\r\t";
        struct blocklist b;
        size_t n = rng_below(&r, 40);
        uint8_t *p = malloc(n + 1); /* without a NUL behind it */
        for (size_t i = 0; i < n; i++)
            p[i + 1] = (uint8_t)letters[rng_below(&r, sizeof letters)];
        int res = blocklist_parse(slice_of(p + 1, n), "list", 1000, &b, why);
        assert_true(res == 0 || res == -SATCHEL_EINVAL);
        blocklist_free(&b);
        free(p);
    }
}

static void files(void **state)
{
    char dir[SCRATCH_MAX], path[96];
    struct blocklist b;
    (void)state;
    scratch_make(dir, "blocklist");
    snprintf(path, sizeof path, "%s/list", dir);
    FILE *f = fopen(path, "w");
    for (uint32_t i = 0; i < 20000; i++)
        fprintf(f, "20.%u.%u.0/24 # %u\n", i / 128, i % 128 * 2, i);
    fclose(f);
    assert_int_equal(blocklist_read(path, 65536, &b, why), 0);
    assert_int_equal(b.n, 20000);
    blocklist_free(&b);
    f = fopen(path, "a");
    fprintf(f, "oops\n");
    fclose(f);
    assert_int_equal(blocklist_read(path, 65536, &b, why), -SATCHEL_EINVAL);
    assert_non_null(strstr(why, path));
    assert_non_null(strstr(why, ":20001: \"oops\""));
    unlink(path);
    assert_int_equal(blocklist_read(path, 65536, &b, why), -ENOENT);
    assert_non_null(strstr(why, path));
    assert_int_equal(blocklist_read(dir, 65536, &b, why), -EISDIR);
    assert_int_equal(scratch_remove(dir), 0);
}

static void texts(void **state)
{
    static const char *const same[] = {"0.0.0.0/0", "192.0.2.1/24", "255.255.255.255/32",
                                       "::/0",      "::1/128",      "2001:db8::1/64"};
    struct ip_prefix p;
    char text[ADDR_TEXT_MAX];
    (void)state;
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        assert_true(addr_parse_prefix(slice_str(same[i]), &p));
        assert_string_equal(addr_format_prefix(&p, text), same[i]);
    }
    assert_true(addr_parse_prefix(slice_str("192.0.2.1"), &p));
    assert_int_equal(p.bits, 128);
    assert_false(addr_parse(slice_str(""), &p.addr));
    assert_false(addr_parse(slice_of("1.2.3.4\0", 8), &p.addr));
    assert_false(addr_parse(slice_str("1.2.3"), &p.addr));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines),
        cmocka_unit_test(sorted_and_merged),
        cmocka_unit_test(refused),
        cmocka_unit_test(too_many),
        cmocka_unit_test(as_the_lines_say),
        cmocka_unit_test(garbage),
        cmocka_unit_test(files),
        cmocka_unit_test(texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
