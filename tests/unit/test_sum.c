/* test_sum.c - the Internet checksum against a plain one, at each alignment and length. */
#include "dataplane/tcp/sum.h"
#include "spool/base/rng.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* As RFC 1071 4.1 has it: words of the wire, carries at the end. */
static uint16_t plain(const uint8_t *p, size_t n)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return htons((uint16_t)sum);
}

/* Zero has two forms; only all zeros sum to the one that is 0. */
static void assert_sum(uint16_t got, uint16_t expected)
{
    assert_int_equal(got % 0xffff, expected % 0xffff);
}

static void every_alignment_and_length(void **state)
{
    struct rng r;
    (void)state;
    rng_seed(&r, 1);
    for (size_t align = 0; align < 16; align++)
        for (size_t n = 0; n <= 200; n++) {
            uint8_t *block = malloc(align + n + 1), *p = block + align + 1;
            for (size_t i = 0; i < n; i++)
                p[i] = (uint8_t)rng_u64(&r);
            assert_sum(sum_fold(sum_add(0, p, n)), plain(p, n));
            free(block);
        }
}

static void carries_are_kept(void **state)
{
    static uint8_t ones[70001];
    (void)state;
    memset(ones, 0xff, sizeof ones);
    for (size_t n = 0; n < sizeof ones; n = n * 2 + 1) {
        assert_int_equal(sum_fold(sum_add(0, ones, n)), plain(ones, n));
        assert_sum(sum_fold(sum_add(UINT64_MAX, ones, n)), plain(ones, n));
    }
}

static void runs_add_up(void **state)
{
    struct rng r;
    uint8_t p[1500];
    (void)state;
    rng_seed(&r, 2);
    for (size_t i = 0; i < sizeof p; i++)
        p[i] = (uint8_t)rng_u64(&r);
    for (int i = 0; i < 1000; i++) {
        size_t n = rng_below(&r, sizeof p + 1), cut = rng_below(&r, n + 1) & ~(size_t)1;
        assert_sum(sum_fold(sum_add(sum_add(0, p, cut), p + cut, n - cut)), plain(p, n));
    }
}

/* The example of RFC 1071 3. */
static void known_answer(void **state)
{
    static const uint8_t p[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
    (void)state;
    assert_int_equal(ntohs(sum_fold(sum_add(0, p, sizeof p))), 0xddf2);
}

static void pseudo_headers(void **state)
{
    struct ip_addr a4 = ip_addr_of4(htonl(0xc0000201)), b4 = ip_addr_of4(htonl(0xcb007107)), a6, b6;
    uint8_t head[40] = {0};
    (void)state;
    memcpy(head, &a4.w[3], 4);
    memcpy(head + 4, &b4.w[3], 4);
    head[9] = 6;
    head[10] = 0x12, head[11] = 0x34;
    assert_sum(sum_fold(sum_pseudo(&a4, &b4, 6, 0x1234)), plain(head, 12));
    for (int i = 0; i < 16; i++) {
        a6.b[i] = (uint8_t)(0xf0 + i);
        b6.b[i] = (uint8_t)(0xa0 - i);
    }
    memset(head, 0, sizeof head);
    memcpy(head, a6.b, 16);
    memcpy(head + 16, b6.b, 16);
    head[33] = 1, head[34] = 0x02, head[35] = 0x03;
    head[39] = 58;
    assert_sum(sum_fold(sum_pseudo(&a6, &b6, 58, 0x10203)), plain(head, 40));
}

static void made_and_verified(void **state)
{
    struct rng r;
    (void)state;
    rng_seed(&r, 3);
    for (int round = 0; round < 2000; round++) {
        uint8_t p[64];
        size_t n = 20 + rng_below(&r, sizeof p - 20);
        for (size_t i = 0; i < n; i++)
            p[i] = (uint8_t)rng_u64(&r);
        memset(p + 16, 0, 2);
        uint16_t field = sum_field(sum_add(0, p, n));
        memcpy(p + 16, &field, 2);
        assert_true(sum_good(sum_add(0, p, n)));
        p[rng_below(&r, n)] ^= (uint8_t)(1u << rng_below(&r, 8));
        assert_false(sum_good(sum_add(0, p, n)));
    }
}

static void one_word_replaced(void **state)
{
    struct rng r;
    (void)state;
    rng_seed(&r, 4);
    for (int round = 0; round < 2000; round++) {
        uint16_t p[10], was;
        for (int i = 0; i < 10; i++)
            p[i] = (uint16_t)rng_u64(&r);
        p[5] = 0;
        p[5] = sum_field(sum_add(0, p, sizeof p));
        was = p[3];
        p[3] = (uint16_t)rng_u64(&r);
        p[5] = sum_replace(p[5], was, p[3]);
        assert_true(sum_good(sum_add(0, p, sizeof p)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_alignment_and_length),
        cmocka_unit_test(carries_are_kept),
        cmocka_unit_test(runs_add_up),
        cmocka_unit_test(known_answer),
        cmocka_unit_test(pseudo_headers),
        cmocka_unit_test(made_and_verified),
        cmocka_unit_test(one_word_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
