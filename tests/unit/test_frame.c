/* test_frame.c - what goes over a link: frames in any pieces, the queue of those to send, HELLO. */
#include "cluster/link/frame.h"
#include "cluster/link/hello.h"
#include "cluster/link/outq.h"
#include "spool/base/err.h"
#include "spool/base/rng.h"
#include "tests/unit/frame_rig.h"

/* ---- frames */

static void frames_have_names(void **state)
{
    (void)state;
    assert_string_equal(frame_name(FRAME_PUT), "PUT");
    assert_string_equal(frame_name(1), "HELLO");
    assert_null(frame_name(9999));
    assert_null(frame_name(0));
}

static void frames_end_within_their_bound(void **state)
{
    (void)state;
    static uint8_t zeros[FRAME_PAYLOAD_MAX + 1];
    for (size_t n = 10; n <= 11; n++) {
        struct fbuf *f = fbuf_new(7, 2, 10);
        struct wire_wr w = fbuf_writer(f);
        wire_put(&w, zeros, n);
        assert_int_equal(fbuf_end(f, &w), n == 10 ? 0 : -SATCHEL_ETOOBIG);
        fbuf_unref(fbuf_ref(f));
        fbuf_unref(f);
    }
    struct fbuf *f = fbuf_new(7, 2, sizeof zeros);
    struct wire_wr w = fbuf_writer(f);
    wire_put(&w, zeros, sizeof zeros);
    assert_int_equal(fbuf_end(f, &w), -SATCHEL_ETOOBIG);
    fbuf_unref(f);
    fbuf_unref(NULL);
}

/* Three frames, in pieces of every size. */
static void splitter_finds_frames_in_any_pieces(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 9000};
    uint8_t stream[9100];
    size_t n = 0;
    for (size_t i = 0; i < 3; i++) {
        struct wire_wr w = wire_wr(stream + n, sizeof stream - n);
        wire_put_u32(&w, (uint32_t)sizes[i]);
        wire_put_u16(&w, (uint16_t)(100 + i));
        wire_put_u16(&w, (uint16_t)(i + 1));
        memset(w.p, (int)i, sizes[i]);
        n += FRAME_HEAD_BYTES + sizes[i];
    }
    for (size_t piece = 1; piece <= n; piece += piece < 40 ? 1 : 331) {
        struct frame_split s;
        struct frame f;
        size_t found = 0;
        frame_split_init(&s, 9000);
        for (size_t at = 0; at < n; at += piece) {
            struct slice in = slice_of(stream + at, n - at < piece ? n - at : piece);
            int rc;
            while ((rc = frame_split_next(&s, &in, &f)) > 0) {
                assert_int_equal(f.type, 100 + found);
                assert_int_equal(f.version, found + 1);
                assert_int_equal(f.payload.n, sizes[found]);
                for (size_t i = 0; i < f.payload.n; i++)
                    assert_int_equal(f.payload.p[i], found);
                found++;
            }
            assert_int_equal(rc, 0);
            assert_int_equal(in.n, 0);
        }
        assert_int_equal(found, 3);
        frame_split_free(&s);
    }
}

static void splitter_refuses_what_is_too_long(void **state)
{
    (void)state;
    static const uint8_t head[8] = {1, 0, 0x20, 0, 1, 0, 1, 0}; /* FRAME_PAYLOAD_MAX and one more */
    for (size_t first = 1; first <= 8; first++) {
        struct frame_split s;
        struct frame f;
        struct slice in = slice_of(head, first), rest = slice_of(head + first, 8 - first);
        frame_split_init(&s, FRAME_PAYLOAD_MAX);
        int rc = frame_split_next(&s, &in, &f);
        if (rc == 0)
            rc = frame_split_next(&s, &rest, &f);
        assert_int_equal(rc, -SATCHEL_ETOOBIG);
        frame_split_free(&s);
    }
}

static void queue_gathers_and_drops_in_any_pieces(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 7);
    for (int round = 0; round < 200; round++) {
        struct outq q = {0};
        uint8_t scratch[1000], all[100 * 1000], got[sizeof all];
        size_t n = 0, at = 0;
        while (n < 90 * 1000) {
            struct fbuf *f = seq_frame(round, 8 + rng_below(&rng, round % 2 ? 300 : 3000));
            memcpy(all + n, f->data, f->n);
            n += f->n;
            assert_int_equal(outq_push(&q, f), 0);
            fbuf_unref(f);
        }
        while (q.n) {
            struct slice s = outq_gather(&q, scratch, sizeof scratch);
            assert_true(s.n > 0 && (s.n == sizeof scratch || s.n == q.bytes));
            size_t took = 1 + rng_below(&rng, s.n);
            memcpy(got + at, s.p, took);
            at += took;
            outq_drop(&q, took);
        }
        assert_int_equal(at, n);
        assert_int_equal(q.bytes, 0);
        assert_memory_equal(all, got, n);
        outq_free(&q);
    }
}

static void hello_says_what_was_meant(void **state)
{
    (void)state;
    struct peer_hello us = {.name = "node-1", .proto = 3, .proto_min = 2, .boot = 77, .wall_us = 88};
    struct hello h;
    memset(us.cluster.b, 1, 16);
    memset(us.storage.b, 2, 16);
    struct fbuf *f = hello_frame(&us, "no\nway");
    struct slice payload = slice_of(f->data + FRAME_HEAD_BYTES, f->n - FRAME_HEAD_BYTES);
    assert_int_equal(hello_parse(payload, &h), 0);
    assert_memory_equal(&h.who, &us, sizeof us);
    assert_string_equal(h.reason, "no?way");
    for (size_t n = 0; n < payload.n; n++)
        assert_int_equal(hello_parse(slice_of(payload.p, n), &h), -SATCHEL_EINVAL);
    uint8_t longer[512] = {0};
    memcpy(longer, payload.p, payload.n);
    assert_int_equal(hello_parse(slice_of(longer, sizeof longer), &h), 0); /* a newer version appends */
    longer[16 + 16 + 4 + 4 + 8 + 8 + 1] = ' ';
    assert_int_equal(hello_parse(slice_of(longer, sizeof longer), &h), -SATCHEL_EINVAL);
    fbuf_unref(f);
}

static void hello_agrees_both_ways(void **state)
{
    (void)state;
    /* ours, oldest of ours, theirs, oldest of theirs */
    static const struct {
        uint32_t a, a_min, b, b_min;
        bool agree;
    } cases[] = {{1, 1, 1, 1, true}, {1, 1, 3, 1, true}, {2, 1, 4, 2, true}, {1, 1, 3, 2, false}, {4, 3, 2, 1, false}};
    char why[WHY_MAX];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct peer_hello a = {.name = "a", .proto = cases[i].a, .proto_min = cases[i].a_min, .cluster = {{1}}};
        struct peer_hello b = {.name = "b", .proto = cases[i].b, .proto_min = cases[i].b_min, .cluster = {{1}}};
        a.storage.b[0] = 1;
        assert_int_equal(hello_agrees(&a, &b, why), cases[i].agree);
        assert_int_equal(hello_agrees(&b, &a, why), cases[i].agree);
        b.storage = a.storage;
        assert_false(hello_agrees(&a, &b, why));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_have_names),
        cmocka_unit_test(frames_end_within_their_bound),
        cmocka_unit_test(splitter_finds_frames_in_any_pieces),
        cmocka_unit_test(splitter_refuses_what_is_too_long),
        cmocka_unit_test(queue_gathers_and_drops_in_any_pieces),
        cmocka_unit_test(hello_says_what_was_meant),
        cmocka_unit_test(hello_agrees_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
