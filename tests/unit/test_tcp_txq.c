/* test_tcp_txq.c - bytes to send: kept, read anywhere, given back, within both limits. */
#include "dataplane/tcp/txq.c"
#include "tcp_send_rig.h"

static int setup(void **state)
{
    (void)state;
    send_open(16);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    send_close();
    return 0;
}

static uint8_t byte_at(uint32_t pos)
{
    return (uint8_t)(pos * 2654435761u >> 23);
}

static size_t put(uint32_t pos, size_t n)
{
    uint8_t bytes[70000];
    assert_true(n <= sizeof bytes);
    for (size_t i = 0; i < n; i++)
        bytes[i] = byte_at(pos + (uint32_t)i);
    return txq_put(&rig.t, conn, slice_of(bytes, n));
}

static void acked(uint32_t n)
{
    conn->snd_una += n;
    txq_acked(&rig.t, conn, n);
}

static void reads(uint32_t pos, uint32_t offset, uint32_t n)
{
    uint8_t out[8200];
    assert_true(n <= sizeof out);
    txq_read(&rig.t, conn, offset, out, n);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(out[i], byte_at(pos + offset + i));
}

static void test_empty_holds_nothing(void **state)
{
    (void)state;
    assert_int_equal(put(0, 0), 0);
    assert_int_equal(txq_held(conn), 0);
    assert_int_equal(put(0, 1), 1);
    assert_int_equal(txq_held(conn), TCP_TXBLOCK_BYTES);
    acked(1);
    assert_int_equal(txq_held(conn), 0);
    assert_int_equal(conn->tx_head, TCP_NONE);
    assert_int_equal(rig_stat(STAT_TXBLOCKS_USED), 0);
}

static void test_blocks_are_exact(void **state)
{
    (void)state;
    assert_int_equal(put(0, TCP_TXBLOCK_BYTES), TCP_TXBLOCK_BYTES);
    assert_int_equal(rig_stat(STAT_TXBLOCKS_USED), 1);
    assert_int_equal(put(TCP_TXBLOCK_BYTES, 1), 1);
    assert_int_equal(rig_stat(STAT_TXBLOCKS_USED), 2);
    acked(TCP_TXBLOCK_BYTES - 1);
    assert_int_equal(rig_stat(STAT_TXBLOCKS_USED), 2);
    acked(1);
    assert_int_equal(rig_stat(STAT_TXBLOCKS_USED), 1);
    reads(TCP_TXBLOCK_BYTES, 0, 1);
}

static void test_pool_runs_out(void **state)
{
    (void)state;
    assert_int_equal(put(0, 20000), 16 * TCP_TXBLOCK_BYTES);
    assert_int_equal(put(0, 1), 0);
    acked(TCP_TXBLOCK_BYTES);
    assert_int_equal(put(16 * TCP_TXBLOCK_BYTES, 1000), TCP_TXBLOCK_BYTES);
    reads(TCP_TXBLOCK_BYTES, 0, 16 * TCP_TXBLOCK_BYTES);
}

static void test_limit_of_a_connection(void **state)
{
    (void)state;
    rig.t.cfg.send_bytes = 1000;
    assert_int_equal(put(0, 1200), 1000);
    assert_int_equal(put(0, 1), 0);
    acked(10);
    assert_int_equal(put(1000, 20), 10);
}

/* Segments are read forwards, then from the beginning again, while what is before goes. */
static void test_block_read_last_is_forgotten_with_it(void **state)
{
    (void)state;
    assert_int_equal(put(0, 5000), 5000);
    reads(0, 4000, 1000);
    reads(0, 0, 10);
    reads(0, 600, 400);
    assert_int_equal(conn->tx_at_seq, UNA + 512);
    acked(1100);
    assert_int_equal(conn->tx_at, TCP_NONE);
    assert_int_equal(put(5000, 1000), 1000); /* in the blocks that were given back */
    reads(1100, 0, 4900);
}

static void test_drop(void **state)
{
    (void)state;
    put(0, 5000);
    reads(0, 3000, 10);
    txq_drop(&rig.t, conn);
    assert_int_equal(rig_stat(STAT_TXBLOCKS_USED), 0);
    assert_int_equal(conn->tx_bytes, 0);
    assert_int_equal(put(0, 10), 10);
    reads(0, 0, 10);
}

static void test_at_random(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 3);
    uint32_t una = 0, end = 0;
    for (int i = 0; i < 20000; i++) {
        uint32_t n = (uint32_t)rng_below(&rng, 1 + (2000u >> rng_below(&rng, 11)));
        if (rng_below(&rng, 2))
            end += (uint32_t)put(end, n);
        n = n < end - una ? n : end - una;
        if (rng_below(&rng, 3) == 0) {
            acked(n);
            una += n;
        }
        assert_int_equal(conn->tx_bytes, end - una);
        uint32_t offset = (uint32_t)rng_below(&rng, end - una + 1);
        reads(una, offset, (uint32_t)rng_below(&rng, end - una - offset + 1));
        assert_true(txq_held(conn) >= end - una && txq_held(conn) < end - una + 2 * TCP_TXBLOCK_BYTES);
        assert_int_equal(txq_held(conn), rig_stat(STAT_TXBLOCKS_USED) * TCP_TXBLOCK_BYTES);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_empty_holds_nothing),
        TEST(test_blocks_are_exact),
        TEST(test_pool_runs_out),
        TEST(test_limit_of_a_connection),
        TEST(test_block_read_last_is_forgotten_with_it),
        TEST(test_drop),
        TEST(test_at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
