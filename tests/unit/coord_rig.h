/* coord_rig.h - drives a struct coord in tests: one open answer a struct, and loops that wait for it with a bound. */
#pragma once
#include "cluster/coord/kvstore.h"
#include "spool/base/err.h"
#include "spool/base/log.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

struct answer {
    bool done;
    int res;
    bool succeeded;
    int64_t rev, lease;
    uint32_t ttl_s;
    uint64_t sent_us;
    struct coord_kv *kvs; /* a copy */
    size_t n;
};

static inline void answer_list(void *arg, int res, int64_t rev, const struct coord_kv *kvs, size_t n)
{
    struct answer *a = arg;
    assert_false(a->done);
    *a = (struct answer){.done = true, .res = res, .rev = rev, .kvs = kvstore_kvs_copy(kvs, n), .n = n};
}

static inline void answer_txn(void *arg, int res, bool succeeded, int64_t rev)
{
    struct answer *a = arg;
    assert_false(a->done);
    *a = (struct answer){.done = true, .res = res, .succeeded = succeeded, .rev = rev};
}

static inline void answer_lease(void *arg, int res, int64_t lease, uint32_t ttl_s, uint64_t sent_us)
{
    struct answer *a = arg;
    assert_false(a->done);
    *a = (struct answer){.done = true, .res = res, .lease = lease, .ttl_s = ttl_s, .sent_us = sent_us};
}

static inline void count_changed(void *arg)
{
    ++*(unsigned *)arg;
}

static inline uint64_t now_ms(void)
{
    return clock_boot_us(clock_system()) / 1000;
}

/* One turn as the cluster's thread makes it: sleeps on the fd, not past next_us nor until_ms. */
static inline void coord_turn(struct coord *c, uint64_t until_ms)
{
    uint64_t now = clock_boot_us(clock_system()), next = c->ops->next_us(c);
    uint64_t left_ms = until_ms > now / 1000 ? until_ms - now / 1000 : 0;
    uint64_t wait_ms = next <= now ? 0 : (next - now + 999) / 1000;
    struct pollfd fd = {.fd = c->fd, .events = POLLIN};
    poll(&fd, 1, (int)(wait_ms < left_ms ? wait_ms : left_ms));
    c->ops->poll(c);
}

static inline bool coord_wait(struct coord *c, const bool *flag, uint64_t ms)
{
    for (uint64_t until = now_ms() + ms; !*flag && now_ms() < until;)
        coord_turn(c, until);
    return *flag;
}

static inline bool coord_wait_count(struct coord *c, const unsigned *count, unsigned more_than, uint64_t ms)
{
    for (uint64_t until = now_ms() + ms; *count <= more_than && now_ms() < until;)
        coord_turn(c, until);
    return *count > more_than;
}

#define WAIT_MS 8000

static inline struct answer do_list(struct coord *c, const char *prefix)
{
    struct answer a = {0};
    assert_int_equal(c->ops->list(c, slice_str(prefix), answer_list, &a), 0);
    assert_true(coord_wait(c, &a.done, WAIT_MS));
    return a;
}

static inline struct answer do_txn(struct coord *c, const struct coord_cmp *cmps, size_t cmps_n,
                                   const struct coord_op *ops, size_t ops_n)
{
    struct answer a = {0};
    assert_int_equal(c->ops->txn(c, cmps, cmps_n, ops, ops_n, answer_txn, &a), 0);
    assert_true(coord_wait(c, &a.done, WAIT_MS));
    return a;
}

/* Puts without comparing; under a lease, or 0. */
static inline struct answer do_put(struct coord *c, const char *key, const char *value, int64_t lease)
{
    struct coord_op op = {COORD_PUT, slice_str(key), slice_str(value), lease};
    return do_txn(c, NULL, 0, &op, 1);
}

static inline struct answer do_grant(struct coord *c, uint32_t ttl_s)
{
    struct answer a = {0};
    assert_int_equal(c->ops->grant(c, ttl_s, answer_lease, &a), 0);
    assert_true(coord_wait(c, &a.done, WAIT_MS));
    return a;
}

static inline struct answer do_keepalive(struct coord *c, int64_t lease)
{
    struct answer a = {0};
    assert_int_equal(c->ops->keepalive(c, lease, answer_lease, &a), 0);
    assert_true(coord_wait(c, &a.done, WAIT_MS));
    return a;
}

static inline struct answer do_revoke(struct coord *c, int64_t lease)
{
    struct answer a = {0};
    assert_int_equal(c->ops->revoke(c, lease, answer_lease, &a), 0);
    assert_true(coord_wait(c, &a.done, WAIT_MS));
    return a;
}
