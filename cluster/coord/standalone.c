/* standalone.c - coordination of one node with itself: a kvstore behind a queue of calls.
 *
 * A call is copied and waits for the next poll, where all that wait are done in order and their callbacks run; calls
 * made by those callbacks wait for the poll after.  A watch whose prefix was touched in one poll runs in the next.
 * Leases never end by themselves: what they guard against, a peer that takes over, is not there. */
#include "cluster/coord/kvstore.h"
#include "spool/base/err.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum call_kind { CALL_LIST, CALL_TXN, CALL_GRANT, CALL_KEEPALIVE, CALL_REVOKE };

struct call {
    struct call *next;
    enum call_kind kind;
    union {
        coord_list_done *list;
        coord_txn_done *txn;
        coord_lease_done *lease;
    } done;
    void *arg;
    struct kvstore_txn_args *txn;
    int64_t lease;
    int64_t since;
    uint32_t ttl_s;
    uint64_t sent_us;
    size_t prefix_n;
    uint8_t prefix[];
};

struct watch {
    struct watch *next;
    coord_changed *changed;
    void *arg;
    bool due;
    size_t prefix_n;
    uint8_t prefix[];
};

struct standalone {
    struct coord base;
    const struct clock *clock;
    struct kvstore *store;
    struct call *first, **last;
    struct watch *watches;
    uint64_t since_us, calls;
    bool closing;
};

static struct standalone *self_of(struct coord *c)
{
    return (struct standalone *)c; /* base comes first */
}

static void self_ring(struct standalone *s)
{
    uint64_t one = 1;
    ssize_t n = write(s->base.fd, &one, sizeof one);
    (void)n; /* full means readable: what is wanted */
}

/* NULL: closing. */
static struct call *call_new(struct coord *c, enum call_kind kind, struct slice prefix, void *arg)
{
    struct standalone *s = self_of(c);
    if (s->closing)
        return NULL;
    struct call *call = calloc(1, sizeof *call + prefix.n);
    if (!call)
        abort();
    call->kind = kind;
    call->arg = arg;
    call->sent_us = clock_boot_us(s->clock);
    call->prefix_n = prefix.n;
    if (prefix.n)
        memcpy(call->prefix, prefix.p, prefix.n);
    *s->last = call;
    s->last = &call->next;
    s->calls++;
    self_ring(s);
    return call;
}

static int standalone_list_since(struct coord *c, struct slice prefix, int64_t since, coord_list_done *done, void *arg)
{
    struct call *call = call_new(c, CALL_LIST, prefix, arg);
    if (!call)
        return -SATCHEL_ESHUT;
    call->done.list = done;
    call->since = since;
    return 0;
}

static int standalone_list(struct coord *c, struct slice prefix, coord_list_done *done, void *arg)
{
    return standalone_list_since(c, prefix, 0, done, arg);
}

static int standalone_txn(struct coord *c, const struct coord_cmp *cmps, size_t cmps_n, const struct coord_op *ops,
                          size_t ops_n, coord_txn_done *done, void *arg)
{
    struct call *call = call_new(c, CALL_TXN, (struct slice){0}, arg);
    if (!call)
        return -SATCHEL_ESHUT;
    call->done.txn = done;
    call->txn = kvstore_txn_copy(cmps, cmps_n, ops, ops_n);
    return 0;
}

static int standalone_grant(struct coord *c, uint32_t ttl_s, coord_lease_done *done, void *arg)
{
    struct call *call = call_new(c, CALL_GRANT, (struct slice){0}, arg);
    if (!call)
        return -SATCHEL_ESHUT;
    call->done.lease = done;
    call->ttl_s = ttl_s;
    return 0;
}

static int standalone_keepalive(struct coord *c, int64_t lease, coord_lease_done *done, void *arg)
{
    struct call *call = call_new(c, CALL_KEEPALIVE, (struct slice){0}, arg);
    if (!call)
        return -SATCHEL_ESHUT;
    call->done.lease = done;
    call->lease = lease;
    return 0;
}

static int standalone_revoke(struct coord *c, int64_t lease, coord_lease_done *done, void *arg)
{
    struct call *call = call_new(c, CALL_REVOKE, (struct slice){0}, arg);
    if (!call)
        return -SATCHEL_ESHUT;
    call->done.lease = done;
    call->lease = lease;
    return 0;
}

static int standalone_watch(struct coord *c, struct slice prefix, coord_changed *changed, void *arg)
{
    struct standalone *s = self_of(c);
    struct watch *w = calloc(1, sizeof *w + prefix.n);
    if (!w)
        abort();
    w->changed = changed;
    w->arg = arg;
    w->prefix_n = prefix.n;
    if (prefix.n)
        memcpy(w->prefix, prefix.p, prefix.n);
    w->next = s->watches;
    s->watches = w;
    return 0;
}

static void standalone_info(struct coord *c, struct coord_info *info_r)
{
    const struct standalone *s = self_of(c);
    *info_r = (struct coord_info){.reachable = true, .since_us = s->since_us, .endpoint = "standalone"};
    info_r->calls = s->calls;
}

/* kvstore_change */
static void store_changed(void *arg, struct slice key, const struct coord_kv *kv)
{
    struct standalone *s = arg;
    (void)kv;
    for (struct watch *w = s->watches; w; w = w->next)
        w->due |= key.n >= w->prefix_n && memcmp(key.p, w->prefix, w->prefix_n) == 0;
}

static void call_list(struct standalone *s, struct call *call)
{
    const struct coord_kv *kvs;
    size_t n = kvstore_list(s->store, slice_of(call->prefix, call->prefix_n), &kvs), kept = 0;
    struct coord_kv *news = calloc(n + 1, sizeof *news);
    if (!news)
        abort();
    for (size_t i = 0; i < n; i++)
        if (kvs[i].mod_rev >= call->since)
            news[kept++] = kvs[i];
    call->done.list(call->arg, 0, kvstore_rev(s->store), news, kept);
    free(news);
}

static void call_txn(struct standalone *s, struct call *call)
{
    const struct kvstore_txn_args *a = call->txn;
    bool succeeded;
    int64_t rev;
    int res = kvstore_txn(s->store, a->cmps, a->cmps_n, a->ops, a->ops_n, &succeeded, &rev);
    call->done.txn(call->arg, res, succeeded, rev);
}

static void call_lease(struct standalone *s, struct call *call)
{
    uint64_t now = clock_boot_us(s->clock);
    int64_t lease = call->lease;
    uint32_t ttl_s = call->ttl_s;
    int res = 0;
    if (call->kind == CALL_GRANT)
        lease = kvstore_grant(s->store, ttl_s, now);
    else if (call->kind == CALL_KEEPALIVE)
        res = kvstore_keepalive(s->store, lease, now, &ttl_s);
    else
        res = kvstore_revoke(s->store, lease);
    call->done.lease(call->arg, res, lease, ttl_s, call->sent_us);
}

static void call_do(struct standalone *s, struct call *call)
{
    if (call->kind == CALL_LIST)
        call_list(s, call);
    else if (call->kind == CALL_TXN)
        call_txn(s, call);
    else
        call_lease(s, call);
}

static void call_cancel(struct call *call)
{
    if (call->kind == CALL_LIST)
        call->done.list(call->arg, -SATCHEL_ESHUT, 0, NULL, 0);
    else if (call->kind == CALL_TXN)
        call->done.txn(call->arg, -SATCHEL_ESHUT, false, 0);
    else
        call->done.lease(call->arg, -SATCHEL_ESHUT, call->lease, 0, call->sent_us);
}

static struct call *calls_take(struct standalone *s)
{
    struct call *calls = s->first;
    s->first = NULL;
    s->last = &s->first;
    return calls;
}

static void call_free(struct call *call)
{
    free(call->txn);
    free(call);
}

static void standalone_poll(struct coord *c)
{
    struct standalone *s = self_of(c);
    uint64_t rung;
    ssize_t n = read(s->base.fd, &rung, sizeof rung);
    (void)n; /* not rung: nothing waits */
    for (struct watch *w = s->watches; w; w = w->next) {
        if (!w->due)
            continue;
        w->due = false;
        w->changed(w->arg);
    }
    for (struct call *call = calls_take(s), *next; call; call = next) {
        next = call->next;
        call_do(s, call);
        call_free(call);
    }
    for (struct watch *w = s->watches; w; w = w->next)
        if (w->due)
            self_ring(s);
}

static uint64_t standalone_next_us(struct coord *c)
{
    (void)c;
    return UINT64_MAX; /* the fd says it all */
}

static void standalone_close(struct coord **c)
{
    if (!*c)
        return;
    struct standalone *s = self_of(*c);
    s->closing = true;
    for (struct call *call = calls_take(s), *next; call; call = next) {
        next = call->next;
        call_cancel(call);
        call_free(call);
    }
    for (struct watch *w = s->watches, *next; w; w = next) {
        next = w->next;
        free(w);
    }
    kvstore_free(&s->store);
    close(s->base.fd);
    free(s);
    *c = NULL;
}

static const struct coord_ops standalone_ops = {
    .list = standalone_list,
    .list_since = standalone_list_since,
    .txn = standalone_txn,
    .grant = standalone_grant,
    .keepalive = standalone_keepalive,
    .revoke = standalone_revoke,
    .watch = standalone_watch,
    .info = standalone_info,
    .poll = standalone_poll,
    .next_us = standalone_next_us,
    .close = standalone_close,
};

int coord_standalone_open(struct coord **c_r, const struct clock *clock)
{
    struct standalone *s = calloc(1, sizeof *s);
    if (!s)
        abort();
    s->base.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->base.fd < 0) {
        int res = -errno;
        free(s);
        return res;
    }
    s->base.ops = &standalone_ops;
    s->clock = clock;
    s->store = kvstore_new();
    s->last = &s->first;
    s->since_us = clock_boot_us(clock);
    kvstore_on_change(s->store, store_changed, s);
    *c_r = &s->base;
    return 0;
}
