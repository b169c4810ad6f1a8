/* test_tcp_table.c - tuple -> connection, handshake or TIME-WAIT record. */
#include "dataplane/tcp/table.c"
#include "tcp_rig.h"

#include <sodium.h>

/* ---- what an entry stands for: tuple i of the test belongs to record i of each kind */

bool syn_is(const struct tcp *t, uint32_t index, const struct tcp_tuple *k)
{
    struct tcp_tuple own = rig_tuple(index);
    (void)t;
    return ip_addr_eq(&own.peer, &k->peer) && own.peer_port == k->peer_port && own.port == k->port &&
           own.local == k->local;
}

uint64_t tw_hash(const struct tcp *t, uint32_t index)
{
    struct tcp_tuple own = rig_tuple(index);
    return tuple_hash(t, &own);
}

static void *table_mem;

static void table_open(uint32_t conns, uint32_t syns, uint32_t tws)
{
    rig_open();
    rig.t.cfg.conns_max = conns;
    rig.t.cfg.syns_max = syns;
    rig.t.cfg.time_waits_max = tws;
    rig.t.conns = calloc(conns + 1, sizeof(struct tcp_conn));
    for (uint32_t i = 0; i < conns; i++) {
        struct tcp_tuple k = rig_tuple(i);
        struct tcp_conn *c = tcp_conn_at(&rig.t, i);
        c->peer = k.peer;
        c->peer_port = k.peer_port;
        c->port = k.port;
    }
    table_mem = rig_part(tcp_table_bytes(&rig.t.cfg));
    tcp_table_init(&rig.t, table_mem);
}

static int teardown(void **state)
{
    (void)state;
    free(table_mem);
    free(rig.t.conns);
    return 0;
}

static enum tcp_kind find(uint32_t n, uint32_t *index_r)
{
    struct tcp_tuple k = rig_tuple(n);
    *index_r = TCP_NONE;
    return tcp_table_find(&rig.t, &k, index_r);
}

static bool add(uint32_t n, enum tcp_kind kind)
{
    struct tcp_tuple k = rig_tuple(n);
    return tcp_table_add(&rig.t, tuple_hash(&rig.t, &k), tcp_ref(kind, n));
}

static void set(uint32_t n, enum tcp_kind was, enum tcp_kind kind)
{
    struct tcp_tuple k = rig_tuple(n);
    tcp_table_set(&rig.t, tuple_hash(&rig.t, &k), tcp_ref(was, n), tcp_ref(kind, n));
}

static void removed(uint32_t n, enum tcp_kind kind)
{
    struct tcp_tuple k = rig_tuple(n);
    tcp_table_remove(&rig.t, tuple_hash(&rig.t, &k), tcp_ref(kind, n));
}

static void test_kinds(void **state)
{
    (void)state;
    uint32_t index;
    table_open(10, 10, 10);
    assert_int_equal(find(3, &index), TCP_KIND_NONE);
    assert_true(add(3, TCP_KIND_SYN));
    assert_int_equal(find(3, &index), TCP_KIND_SYN);
    assert_int_equal(index, 3);
    set(3, TCP_KIND_SYN, TCP_KIND_CONN);
    assert_int_equal(find(3, &index), TCP_KIND_CONN);
    set(3, TCP_KIND_CONN, TCP_KIND_TW);
    assert_int_equal(find(3, &index), TCP_KIND_TW);
    assert_int_equal(find(4, &index), TCP_KIND_NONE);
    set(3, TCP_KIND_SYN, TCP_KIND_CONN); /* is no SYN any more */
    removed(3, TCP_KIND_SYN);
    assert_int_equal(find(3, &index), TCP_KIND_TW);
    removed(3, TCP_KIND_TW);
    assert_int_equal(find(3, &index), TCP_KIND_NONE);
}

/* Each part of a tuple counts. */
static void test_tuples_apart(void **state)
{
    (void)state;
    uint32_t index;
    table_open(4, 0, 0);
    assert_true(add(1, TCP_KIND_CONN));
    struct tcp_tuple own = rig_tuple(1), k = own;
    assert_int_equal(tcp_table_find(&rig.t, &k, &index), TCP_KIND_CONN);
    for (int i = 0; i < 4; i++) {
        k = own;
        k.peer.b[i == 0 ? 15 : 0] ^= i < 1;
        k.peer_port ^= i == 1;
        k.port ^= i == 2;
        k.local ^= i == 3;
        assert_int_equal(tcp_table_find(&rig.t, &k, &index), TCP_KIND_NONE);
        assert_true(tuple_hash(&rig.t, &k) != tuple_hash(&rig.t, &own));
    }
}

static void test_full(void **state)
{
    (void)state;
    uint32_t index;
    table_open(3, 1, 1);
    for (uint32_t i = 0; i < 5; i++)
        assert_true(add(i, TCP_KIND_SYN));
    assert_false(add(5, TCP_KIND_SYN));
    removed(2, TCP_KIND_SYN);
    removed(2, TCP_KIND_SYN); /* twice does nothing */
    assert_true(add(5, TCP_KIND_SYN));
    assert_false(add(6, TCP_KIND_SYN));
    assert_int_equal(find(5, &index), TCP_KIND_SYN);
    assert_int_equal(find(2, &index), TCP_KIND_NONE);
}

static uint32_t passes(void)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i <= rig.t.table->mask; i++)
        n += rig.t.table->b[i].passed;
    return n;
}

/* Against an array, with buckets that overflow: nobody is lost, and nobody is remembered who left. */
static void test_at_random(void **state)
{
    (void)state;
    enum { N = 3000 };
    static enum tcp_kind want[2 * N];
    struct rng r;
    uint32_t live = 0, overflows = 0;
    rng_seed(&r, 4);
    table_open(N, 0, 0);
    rig.t.conns = realloc(rig.t.conns, 2 * N * sizeof(struct tcp_conn));
    for (int step = 0; step < 400000; step++) {
        uint32_t n = (uint32_t)rng_below(&r, 2 * N), index;
        enum tcp_kind kind = rng_below(&r, 2) ? TCP_KIND_SYN : TCP_KIND_TW;
        assert_int_equal(find(n, &index), want[n]);
        if (want[n] == TCP_KIND_NONE && live < N) {
            assert_true(add(n, kind));
            want[n] = kind;
            live++;
        } else if (want[n] != TCP_KIND_NONE && rng_below(&r, 8) == 0) {
            set(n, want[n], kind);
            want[n] = kind;
        } else if (want[n] != TCP_KIND_NONE) {
            removed(n, want[n]);
            want[n] = TCP_KIND_NONE;
            live--;
        }
        if (step % 1000 == 0)
            overflows += passes() > 0;
    }
    assert_true(overflows > 100); /* else nothing was tried */
    for (uint32_t n = 0; n < 2 * N; n++)
        removed(n, want[n]);
    assert_int_equal(rig.t.table->n, 0);
    assert_int_equal(passes(), 0);
}

/* Twice as many places as entries: nearly every entry stands in its own bucket. */
static void test_few_overflow(void **state)
{
    (void)state;
    enum { N = 1 << 16 };
    table_open(1, N, 0);
    for (uint32_t n = 0; n < N; n++)
        assert_true(add(n, TCP_KIND_SYN));
    assert_true(passes() < N / 20);
    assert_true(tcp_table_bytes(&rig.t.cfg) <= (size_t)N * 40);
}

/* libsodium's SipHash-2-4 of the same bytes. */
/* A lookup by the hash that was made ahead is the lookup without; what has no ports is left to be refused. */
static void test_ahead(void **state)
{
    struct ip_packet p[8] = {0};
    uint8_t ports[8][4];
    uint32_t index;
    (void)state;
    table_open(100, 10, 10);
    for (uint32_t i = 0; i < 8; i++) {
        struct tcp_tuple k = rig_tuple(i);
        be16_put(ports[i], k.peer_port);
        be16_put(ports[i] + 2, k.port);
        p[i] = (struct ip_packet){.src = k.peer, .l4 = ports[i], .l4_n = i == 5 ? 3 : 4};
        assert_true(i % 2 || add(i, TCP_KIND_CONN));
    }
    for (uint32_t i = 0; i < 8; i++)
        tcp_ahead_table(&rig.t, &p[i]);
    for (uint32_t i = 0; i < 8; i++)
        tcp_ahead_conn(&rig.t, &p[i]);
    for (uint32_t i = 0; i < 8; i++) {
        struct tcp_tuple k = rig_tuple(i);
        assert_true(p[i].hash == (i == 5 ? 0 : tuple_hash(&rig.t, &k)));
        k.hash = p[i].hash;
        assert_int_equal(tcp_table_find(&rig.t, &k, &index), i % 2 ? TCP_KIND_NONE : TCP_KIND_CONN);
        assert_true(i % 2 || index == i);
    }
}

/* What a guess says is looked at like any other entry, and whatever it says nobody is missed or mistaken. */
static void test_guess(void **state)
{
    enum { N = 100 };
    uint32_t index, elsewhere = 0;
    (void)state;
    table_open(N, 10, 10);
    for (uint32_t i = 0; i < N; i++)
        assert_true(add(i, TCP_KIND_CONN));
    for (uint32_t i = 0; i < N; i++) {
        uint8_t ports[4];
        struct tcp_tuple k = rig_tuple(i);
        struct ip_packet p = {.src = k.peer, .l4 = ports, .l4_n = 4};
        struct place at;
        be16_put(ports, k.peer_port);
        be16_put(ports + 2, k.port);
        tcp_ahead_table(&rig.t, &p);
        tcp_ahead_conn(&rig.t, &p);
        assert_true(place_find(&rig.t, &k, p.hash, &at));
        if (at.b == &rig.t.table->b[at.home])
            assert_int_equal(p.guess, at.way);
        elsewhere += p.guess > 0;
        for (k.guess = 0; k.guess < WAYS; k.guess++) {
            assert_int_equal(tcp_table_find(&rig.t, &k, &index), TCP_KIND_CONN);
            assert_int_equal(index, i);
        }
        k.guess = p.guess;
        removed(i, TCP_KIND_CONN);
        assert_int_equal(tcp_table_find(&rig.t, &k, &index), TCP_KIND_NONE);
        uint32_t other = i ? i - 1 : N - 1; /* in the same place, by the same tag */
        tcp_table_add(&rig.t, p.hash, tcp_ref(TCP_KIND_CONN, other));
        assert_int_equal(tcp_table_find(&rig.t, &k, &index), TCP_KIND_NONE);
        tcp_table_remove(&rig.t, p.hash, tcp_ref(TCP_KIND_CONN, other));
        assert_true(add(i, TCP_KIND_CONN));
    }
    assert_true(elsewhere > N / 4); /* else nothing was tried */
}

static void test_siphash(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 1);
    for (unsigned n = 0; n < 6; n++) {
        uint64_t w[6], want;
        uint8_t key[16];
        for (int i = 0; i < 6; i++)
            w[i] = rng_u64(&r);
        for (int i = 0; i < 16; i++)
            key[i] = (uint8_t)rng_u64(&r);
        crypto_shorthash((uint8_t *)&want, (const uint8_t *)w, n * 8, key);
        assert_true(siphash(key, w, n, 2, 4) == le64toh(want));
        assert_true(siphash(key, w, n, 1, 3) != le64toh(want));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_kinds, teardown),        cmocka_unit_test_teardown(test_tuples_apart, teardown),
        cmocka_unit_test_teardown(test_full, teardown),         cmocka_unit_test_teardown(test_at_random, teardown),
        cmocka_unit_test_teardown(test_few_overflow, teardown), cmocka_unit_test_teardown(test_ahead, teardown),
        cmocka_unit_test_teardown(test_guess, teardown),        cmocka_unit_test(test_siphash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
