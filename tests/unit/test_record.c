/* test_record.c - the record, meta, state and message ID codecs: round trips, and what damage does to them. */
#include "spool/base/err.h"
#include "spool/base/status.h"
#include "spool/base/wire.h"
#include "spool/format/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const uint64_t POS = 7ull << 32 | 8192;

static struct record sample(uint8_t *meta, size_t cap)
{
    struct wire_wr w = wire_wr(meta, cap);
    meta_put(&w, RT_DOMAIN, SLICE_LIT("example.com"));
    meta_put(&w, RT_SENDER, SLICE_LIT(""));
    meta_put(&w, RT_RCPT, SLICE_LIT("ann@example.com"));
    meta_put(&w, RT_RCPT, SLICE_LIT("bob@example.com"));
    static const uint8_t copyset[32] = {1, 2, 3};
    struct record r = {.type = REC_MSG,
                       .flags = REC_F_8BIT,
                       .id = {{0xff, 0x01}, 42},
                       .arrival_us = 1234567890,
                       .copyset = slice_of(copyset, sizeof copyset),
                       .meta = slice_of(meta, wire_len(&w)),
                       .body = SLICE_LIT("Subject: hi\r\n\r\nhello\r\n")};
    r.body_sum = record_body_sum(r.body);
    return r;
}

static size_t encode(const struct record *r, uint64_t pos, uint8_t *out_r)
{
    memset(out_r, 0, record_size(r));
    record_encode_head(r, pos, out_r);
    memcpy(out_r + record_head_size(r), r->body.p, r->body.n);
    return record_size(r);
}

static void test_record_comes_back(void **state)
{
    (void)state;
    uint8_t meta[256], buf[1024];
    struct record r = sample(meta, sizeof meta), back;
    size_t n = encode(&r, POS, buf), size;
    assert_int_equal(n % REC_ALIGN, 0);
    assert_int_equal(record_decode(slice_of(buf, n), POS, &back, &size), 0);
    assert_int_equal(size, n);
    assert_int_equal(back.type, REC_MSG);
    assert_int_equal(back.flags, REC_F_8BIT);
    assert_int_equal(back.arrival_us, r.arrival_us);
    assert_true(msgid_eq(&back.id, &r.id));
    assert_true(slice_eq(back.meta, r.meta) && slice_eq(back.copyset, r.copyset) && slice_eq(back.body, r.body));
    assert_true(record_body_ok(&back));
}

static void test_every_bit_flip_is_caught(void **state)
{
    (void)state;
    uint8_t meta[256], buf[1024];
    struct record r = sample(meta, sizeof meta), back;
    size_t n = encode(&r, POS, buf), size, used = record_head_size(&r) + r.body.n;
    for (size_t bit = 0; bit < used * 8; bit++) {
        buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int rc = record_decode(slice_of(buf, n), POS, &back, &size);
        assert_true(rc != 0 || !record_body_ok(&back));
        buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void test_record_is_bound_to_its_place(void **state)
{
    (void)state;
    uint8_t meta[256], buf[1024];
    struct record r = sample(meta, sizeof meta), back;
    size_t n = encode(&r, POS, buf), size;
    assert_int_equal(record_decode(slice_of(buf, n), POS + 8, &back, &size), -SATCHEL_EDAMAGED);
    assert_int_equal(record_decode(slice_of(buf, n), POS + (1ull << 32), &back, &size), -SATCHEL_EDAMAGED);
}

static void test_every_cut_is_torn(void **state)
{
    (void)state;
    uint8_t meta[256], buf[1024];
    struct record r = sample(meta, sizeof meta), back;
    encode(&r, POS, buf);
    size_t size, head = record_head_size(&r);
    for (size_t n = 0; n < head + r.body.n; n++) {
        uint8_t *cut = malloc(n ? n : 1); /* of its exact size, so that asan sees a read past it */
        memcpy(cut, buf, n);
        assert_int_equal(record_decode(slice_of(cut, n), POS, &back, &size), -SATCHEL_ETORN);
        assert_int_equal(size, n < head ? 0 : record_size(&r));
        free(cut);
    }
}

static void test_unknown_type_and_flags_pass(void **state)
{
    (void)state;
    uint8_t meta[256], buf[1024];
    struct record r = sample(meta, sizeof meta), back;
    r.type = 200;
    r.flags = 0x8000;
    size_t n = encode(&r, POS, buf), size;
    assert_int_equal(record_decode(slice_of(buf, n), POS, &back, &size), 0);
    assert_int_equal(back.type, 200);
    assert_int_equal(back.flags, 0x8000);
}

static void test_head_alone(void **state)
{
    (void)state;
    uint8_t meta[256], buf[1024];
    struct record r = sample(meta, sizeof meta), back;
    size_t n = encode(&r, POS, buf), size;
    assert_int_equal(record_decode_head(slice_of(buf, record_head_size(&r)), POS, &back, &size), 0);
    assert_int_equal(size, n);
    assert_null(back.body.p);
    assert_int_equal(back.body.n, r.body.n);
    assert_false(record_body_ok(&back));
}

static void test_meta_walk(void **state)
{
    (void)state;
    uint8_t meta[256];
    struct record r = sample(meta, sizeof meta);
    assert_true(slice_eq(meta_find(r.meta, RT_DOMAIN), SLICE_LIT("example.com")));
    assert_non_null(meta_find(r.meta, RT_SENDER).p);
    assert_null(meta_find(r.meta, RT_HELO).p);
    assert_int_equal(meta_rcpts(r.meta), 2);
}

static void test_meta_long_value_and_cuts(void **state)
{
    (void)state;
    enum { LONG = 70000 };
    uint8_t *big = calloc(1, LONG), *meta = malloc(LONG + 16);
    struct wire_wr w = wire_wr(meta, LONG + 16);
    meta_put(&w, RT_TRACE, slice_of(big, LONG));
    assert_int_equal(meta_find(slice_of(meta, wire_len(&w)), RT_TRACE).n, LONG);
    struct wire_rd rd = wire_rd(slice_of(meta, wire_len(&w) - 1));
    struct meta_tlv t;
    assert_false(meta_next(&rd, &t));
    assert_true(rd.bad);
    free(big);
    free(meta);
}

static void test_result_comes_back(void **state)
{
    (void)state;
    uint8_t meta[512];
    struct smtp_status st, back;
    status_set(&st, 550, 5, 1, 1, "no such user");
    struct wire_wr w = wire_wr(meta, sizeof meta);
    result_put(&w, 3, ITEM_BOUNCED, &st);
    struct slice v = meta_find(slice_of(meta, wire_len(&w)), RT_RESULT);
    uint32_t item;
    enum item_end end;
    assert_int_equal(result_parse(v, &item, &end, &back), 0);
    assert_int_equal(item, 3);
    assert_int_equal(end, ITEM_BOUNCED);
    assert_true(back.code == 550 && back.class == 5 && back.subject == 1 && back.detail == 1);
    assert_string_equal(back.text, "no such user");
    assert_int_equal(result_parse(slice_of(v.p, 11), &item, &end, &back), -SATCHEL_EINVAL);
}

static void test_state_comes_back(void **state)
{
    (void)state;
    struct msg_state s = {.seq = 9, .attempts = 4, .due_us = 77, .held = true, .items = 5, .live = 5}, back;
    state_finish(&s, 4, ITEM_BOUNCED);
    state_finish(&s, 1, ITEM_DELIVERED);
    state_finish(&s, 1, ITEM_EXPIRED); /* is final already */
    assert_int_equal(s.live, 3);
    uint8_t buf[64];
    size_t n = state_encode(&s, buf, sizeof buf);
    assert_int_equal(state_encode(&s, buf, n - 1), 0);
    assert_int_equal(state_decode(slice_of(buf, n), &back), 0);
    assert_true(back.seq == 9 && back.attempts == 4 && back.due_us == 77 && back.held && back.live == 3);
    assert_int_equal(state_end(&back, 1), ITEM_DELIVERED);
    assert_int_equal(state_end(&back, 4), ITEM_BOUNCED);
    assert_int_equal(state_end(&back, 0), ITEM_LIVE);
    for (size_t cut = 0; cut < n; cut++)
        assert_int_equal(state_decode(slice_of(buf, cut), &back), -SATCHEL_EINVAL);
    buf[21]++; /* live */
    assert_int_equal(state_decode(slice_of(buf, n), &back), -SATCHEL_EINVAL);
}

static void test_msgid_text(void **state)
{
    (void)state;
    struct msgid id = {{0}, UINT64_MAX}, back;
    char text[MSGID_TEXT_MAX];
    for (int i = 0; i < 16; i++)
        id.incarnation[i] = (uint8_t)(0xf7 + 29 * i);
    int n = msgid_format(&id, text);
    assert_int_equal(n, strlen(text));
    assert_int_equal(msgid_parse(slice_str(text), &back), 0);
    assert_true(msgid_eq(&id, &back));
    memset(id.incarnation, 0xff, 16);
    msgid_format(&id, text);
    assert_memory_equal(text, "7zzzzzzzzzzzzzzzzzzzzzzzzz-", 27);
    assert_int_equal(msgid_parse(SLICE_LIT("7ZZZZZZZZZZZZZZZZZZZZZZZZZ-1"), &back), 0);
    assert_memory_equal(back.incarnation, id.incarnation, 16);
    static const char *const bad[] = {"",
                                      "7zzzzzzzzzzzzzzzzzzzzzzzzz-",
                                      "7zzzzzzzzzzzzzzzzzzzzzzzzz-0",
                                      "7zzzzzzzzzzzzzzzzzzzzzzzzz-01",
                                      "7zzzzzzzzzzzzzzzzzzzzzzzzz-18446744073709551616",
                                      "8zzzzzzzzzzzzzzzzzzzzzzzzz-1",
                                      "7zzzzzzzzuzzzzzzzzzzzzzzzz-1",
                                      "7zzzzzzzzzzzzzzzzzzzzzzzzz_1",
                                      "7zzzzzzzzzzzzzzzzzzzzzzzzz-1x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(msgid_parse(slice_str(bad[i]), &back), -SATCHEL_EINVAL);
}

static void test_msgid_key_sorts_by_counter(void **state)
{
    (void)state;
    struct msgid a = {{5}, 255}, b = {{5}, 256};
    uint8_t ka[MSGID_KEY_BYTES], kb[MSGID_KEY_BYTES];
    msgid_key(&a, ka);
    msgid_key(&b, kb);
    assert_true(memcmp(ka, kb, sizeof ka) < 0);
}

static void test_a_meta_is_filled_to_eight(void **state)
{
    (void)state;
    for (size_t n = 0; n < 24; n++) {
        uint8_t buf[64];
        struct wire_wr w = wire_wr(buf, sizeof buf);
        meta_put(&w, RT_DOMAIN, slice_of("a.very.long.name.example", n));
        size_t before = wire_len(&w);
        meta_fill(&w);
        assert_true(!w.bad && wire_len(&w) % 8 == 0 && wire_len(&w) - before <= META_FILL_MAX);
        struct slice meta = slice_of(buf, wire_len(&w));
        assert_int_equal(meta_find(meta, RT_DOMAIN).n, n);
        struct wire_rd r = wire_rd(meta);
        for (struct meta_tlv t; meta_next(&r, &t);)
            assert_true(t.tag == RT_DOMAIN || t.tag == RT_FILL);
        assert_false(r.bad);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_meta_is_filled_to_eight),
        cmocka_unit_test(test_record_comes_back),
        cmocka_unit_test(test_every_bit_flip_is_caught),
        cmocka_unit_test(test_record_is_bound_to_its_place),
        cmocka_unit_test(test_every_cut_is_torn),
        cmocka_unit_test(test_unknown_type_and_flags_pass),
        cmocka_unit_test(test_head_alone),
        cmocka_unit_test(test_meta_walk),
        cmocka_unit_test(test_meta_long_value_and_cuts),
        cmocka_unit_test(test_result_comes_back),
        cmocka_unit_test(test_state_comes_back),
        cmocka_unit_test(test_msgid_text),
        cmocka_unit_test(test_msgid_key_sorts_by_counter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
