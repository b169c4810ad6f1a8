/* fake_coord.h - coordination in memory under a virtual clock, that is slow, away, or forgets to answer, to order.
 *
 * A call is done at the store when it is made, or not at all while `away`; its answer comes when the clock has moved
 * by delay_us.  Calls made while away, and those that `mute` swallows the answers of, end with -SATCHEL_EAGAIN after
 * 3 s, as a client's timeout would. */
#pragma once
#include "cluster/coord/kvstore.h"
#include "spool/base/err.h"

#include <assert.h>
#include <stdlib.h>

#define FAKE_TIMEOUT_US 3000000ull

static uint64_t fake_now_us = 1000000000;

static uint64_t fake_boot_us(void *ctx)
{
    (void)ctx;
    return fake_now_us;
}

static const struct clock fake_clock = {fake_boot_us, fake_boot_us, NULL};

struct fake_call {
    struct fake_call *next;
    uint64_t at_us, sent_us;
    enum { FAKE_LIST, FAKE_TXN, FAKE_LEASE } kind;
    coord_list_done *list;
    coord_txn_done *txn;
    coord_lease_done *lease_done;
    void *arg;
    int res;
    bool succeeded;
    int64_t rev, lease;
    uint32_t ttl_s;
    struct coord_kv *kvs;
    size_t n;
};

struct fake_coord {
    struct coord base;
    struct kvstore *store;
    struct fake_call *first, **last;
    uint64_t delay_us;
    bool away;     /* nothing reaches the store */
    uint32_t mute; /* so many txns are done, and nobody hears of it */
    uint32_t grants, keepalives, revokes, txns;
};

static struct fake_coord *fake_coord_of(struct coord *c)
{
    return (struct fake_coord *)c;
}

static struct fake_call *fake_call_new(struct coord *c, void *arg)
{
    struct fake_coord *f = fake_coord_of(c);
    struct fake_call *call = calloc(1, sizeof *call);
    call->arg = arg;
    call->sent_us = fake_now_us;
    call->at_us = fake_now_us + f->delay_us;
    if (f->away) {
        call->at_us = fake_now_us + FAKE_TIMEOUT_US;
        call->res = -SATCHEL_EAGAIN;
    }
    *f->last = call;
    f->last = &call->next;
    return call;
}

static int fake_coord_list(struct coord *c, struct slice prefix, coord_list_done *done, void *arg)
{
    struct fake_coord *f = fake_coord_of(c);
    struct fake_call *call = fake_call_new(c, arg);
    const struct coord_kv *kvs;
    call->kind = FAKE_LIST;
    call->list = done;
    if (call->res == 0) {
        call->n = kvstore_list(f->store, prefix, &kvs);
        call->kvs = kvstore_kvs_copy(kvs, call->n);
        call->rev = kvstore_rev(f->store);
    }
    return 0;
}

static int fake_coord_txn(struct coord *c, const struct coord_cmp *cmps, size_t cmps_n, const struct coord_op *ops,
                          size_t ops_n, coord_txn_done *done, void *arg)
{
    struct fake_coord *f = fake_coord_of(c);
    struct fake_call *call = fake_call_new(c, arg);
    call->kind = FAKE_TXN;
    call->txn = done;
    f->txns++;
    if (call->res == 0)
        call->res = kvstore_txn(f->store, cmps, cmps_n, ops, ops_n, &call->succeeded, &call->rev);
    if (call->res == 0 && f->mute > 0) {
        f->mute--;
        call->res = -SATCHEL_EAGAIN;
        call->succeeded = false;
        call->at_us = fake_now_us + FAKE_TIMEOUT_US;
    }
    return 0;
}

static int fake_coord_lease(struct coord *c, struct fake_call *call, coord_lease_done *done)
{
    (void)c;
    call->kind = FAKE_LEASE;
    call->lease_done = done;
    return 0;
}

static int fake_coord_grant(struct coord *c, uint32_t ttl_s, coord_lease_done *done, void *arg)
{
    struct fake_coord *f = fake_coord_of(c);
    struct fake_call *call = fake_call_new(c, arg);
    call->ttl_s = ttl_s;
    if (call->res == 0) {
        call->lease = kvstore_grant(f->store, ttl_s, fake_now_us);
        f->grants++;
    }
    return fake_coord_lease(c, call, done);
}

static int fake_coord_keepalive(struct coord *c, int64_t lease, coord_lease_done *done, void *arg)
{
    struct fake_coord *f = fake_coord_of(c);
    struct fake_call *call = fake_call_new(c, arg);
    call->lease = lease;
    f->keepalives++;
    if (call->res == 0)
        call->res = kvstore_keepalive(f->store, lease, fake_now_us, &call->ttl_s);
    return fake_coord_lease(c, call, done);
}

static int fake_coord_revoke(struct coord *c, int64_t lease, coord_lease_done *done, void *arg)
{
    struct fake_coord *f = fake_coord_of(c);
    struct fake_call *call = fake_call_new(c, arg);
    call->lease = lease;
    f->revokes++;
    if (call->res == 0)
        call->res = kvstore_revoke(f->store, lease);
    return fake_coord_lease(c, call, done);
}

static int fake_coord_watch(struct coord *c, struct slice prefix, coord_changed *changed, void *arg)
{
    (void)c;
    (void)prefix;
    (void)changed;
    (void)arg;
    return 0;
}

static void fake_coord_info(struct coord *c, struct coord_info *info_r)
{
    *info_r = (struct coord_info){.reachable = !fake_coord_of(c)->away};
}

static void fake_call_end(struct fake_call *call, int res)
{
    if (call->kind == FAKE_LIST)
        call->list(call->arg, res, call->rev, call->kvs, call->n);
    else if (call->kind == FAKE_TXN)
        call->txn(call->arg, res, call->succeeded, call->rev);
    else
        call->lease_done(call->arg, res, call->lease, call->ttl_s, call->sent_us);
    free(call->kvs);
    free(call);
}

static void fake_coord_poll(struct coord *c)
{
    struct fake_coord *f = fake_coord_of(c);
    if (!f->away)
        kvstore_expire(f->store, fake_now_us);
    struct fake_call *due = NULL, **due_last = &due;
    for (struct fake_call **at = &f->first; *at;) {
        struct fake_call *call = *at;
        if (call->at_us > fake_now_us) {
            at = &call->next;
            continue;
        }
        *at = call->next;
        call->next = NULL;
        *due_last = call;
        due_last = &call->next;
    }
    f->last = &f->first;
    while (*f->last)
        f->last = &(*f->last)->next;
    while (due) {
        struct fake_call *call = due;
        due = call->next;
        fake_call_end(call, call->res);
    }
}

static uint64_t fake_coord_next_us(struct coord *c)
{
    uint64_t at = UINT64_MAX;
    for (const struct fake_call *call = fake_coord_of(c)->first; call; call = call->next)
        at = call->at_us < at ? call->at_us : at;
    return at;
}

static void fake_coord_close(struct coord **c)
{
    struct fake_coord *f = fake_coord_of(*c);
    while (f->first) {
        struct fake_call *call = f->first;
        f->first = call->next;
        fake_call_end(call, -SATCHEL_ESHUT);
    }
    kvstore_free(&f->store);
    free(f);
    *c = NULL;
}

static const struct coord_ops fake_coord_ops = {
    .list = fake_coord_list,
    .txn = fake_coord_txn,
    .grant = fake_coord_grant,
    .keepalive = fake_coord_keepalive,
    .revoke = fake_coord_revoke,
    .watch = fake_coord_watch,
    .info = fake_coord_info,
    .poll = fake_coord_poll,
    .next_us = fake_coord_next_us,
    .close = fake_coord_close,
};

static struct fake_coord *fake_coord_open(void)
{
    struct fake_coord *f = calloc(1, sizeof *f);
    f->base = (struct coord){&fake_coord_ops, -1};
    f->store = kvstore_new();
    f->last = &f->first;
    return f;
}

/* The test's own hand in the store; value NULL: deletes.  Returns the revision. */
static inline int64_t fake_coord_set(struct fake_coord *f, const char *key, const char *value)
{
    struct coord_op op = {.kind = value ? COORD_PUT : COORD_DELETE, .key = slice_str(key)};
    bool done;
    int64_t rev;
    if (value)
        op.value = slice_str(value);
    int rc = kvstore_txn(f->store, NULL, 0, &op, 1, &done, &rev);
    assert(rc == 0 && done);
    (void)rc;
    return rev;
}

/* NUL-terminated, static; NULL: not there. */
static inline const char *fake_coord_get(struct fake_coord *f, const char *key)
{
    static char text[4096];
    const struct coord_kv *kv = kvstore_get(f->store, slice_str(key));
    if (!kv)
        return NULL;
    assert(kv->value.n < sizeof text);
    memcpy(text, kv->value.p, kv->value.n);
    text[kv->value.n] = 0;
    return text;
}

/* All that the store holds as a map. */
static inline const struct cmap *fake_coord_map(struct fake_coord *f)
{
    const struct coord_kv *kvs;
    const struct cmap *map;
    char why[256];
    size_t n = kvstore_list(f->store, slice_of(NULL, 0), &kvs);
    int rc = cmap_decode(kvs, n, kvstore_rev(f->store), &map, why);
    assert(rc == 0);
    (void)rc;
    return map;
}
