/* simcoord.c - a store, the way to it, and what gets lost on it. */
#include "tests/csim/simcoord.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "spool/base/err.h"
#include "tests/csim/simnode.h"

#define TIMEOUT_US  3000000u
#define WATCHES_MAX 8

enum call_kind { CALL_LIST, CALL_TXN, CALL_GRANT, CALL_KEEPALIVE, CALL_REVOKE };

struct call {
    struct call *next;
    enum call_kind kind;
    uint64_t sent_us, store_us, answer_us; /* store_us: when the store does it (UINT64_MAX: never) */
    bool stored, answer_lost, told;
    struct slice prefix;
    char prefix_text[128];
    int64_t since;
    struct kvstore_txn_args *txn;
    uint32_t ttl_s;
    int64_t lease;
    /* the answer */
    int res;
    bool succeeded;
    int64_t rev;
    struct coord_kv *kvs;
    size_t kvs_n;
    union {
        coord_list_done *list;
        coord_txn_done *txn;
        coord_lease_done *lease;
    } done;
    void *arg;
};

struct watch {
    char prefix[128];
    coord_changed *changed;
    void *arg;
    uint64_t hints_us[4]; /* due; UINT64_MAX: none */
};

struct view {
    struct coord coord;
    struct simcoord *c;
    uint32_t node;
    bool closed;
    struct call *calls, **tail;
    struct watch watches[WATCHES_MAX];
    uint32_t watches_n;
    struct coord_info info;
    struct view *next;
};

struct simcoord {
    struct world *w;
    struct kvstore *store;
    struct rng rng;
    struct actor *actor;
    struct view *views; /* those that are open, and closed ones with calls under way */
    bool stopped, cut[WORLD_NODES_MAX];
    uint32_t flaky_pct;
    uint64_t store_us; /* the store's clock: stands while it is stopped */
    uint64_t store_seen_us;
    const struct cmap *truth;
    int64_t truth_rev;
    void (*changed)(void *arg, struct slice key, const struct coord_kv *kv);
    void *changed_arg;
};

static struct view *of(struct coord *c)
{
    return (struct view *)c;
}

static void view_wake(struct view *v, uint64_t at_us)
{
    if (!v->closed)
        simnode_wake(v->c->w->nodes[v->node], at_us);
}

/* ---- the store's clock: leases do not end while it is stopped */

static uint64_t store_now(struct simcoord *c)
{
    if (!c->stopped)
        c->store_us += c->w->now_us - c->store_seen_us;
    c->store_seen_us = c->w->now_us;
    return c->store_us;
}

/* ---- hints */

static uint64_t hint_delay(struct simcoord *c)
{
    return chance(&c->rng, 90) ? between(&c->rng, 500, 20000) : between(&c->rng, 20000, 3000000);
}

static void watch_hint(struct view *v, struct watch *x, uint64_t at_us)
{
    for (int i = 0; i < 4; i++) {
        if (x->hints_us[i] != UINT64_MAX)
            continue;
        x->hints_us[i] = at_us;
        view_wake(v, at_us);
        return;
    }
}

static void hint_all(struct simcoord *c, struct slice key)
{
    for (struct view *v = c->views; v; v = v->next) {
        if (v->closed || c->cut[v->node] || c->stopped)
            continue;
        for (uint32_t i = 0; i < v->watches_n; i++) {
            struct watch *x = &v->watches[i];
            size_t n = strlen(x->prefix);
            if (key.n < n || memcmp(key.p, x->prefix, n) != 0 || chance(&c->rng, 8))
                continue;
            watch_hint(v, x, c->w->now_us + hint_delay(c));
            if (chance(&c->rng, 8))
                watch_hint(v, x, c->w->now_us + hint_delay(c));
        }
    }
}

static void on_change(void *arg, struct slice key, const struct coord_kv *kv)
{
    struct simcoord *c = arg;
    struct slice value = kv ? kv->value : SLICE_LIT("-");
    trace("store: %.*s = %.*s", SLICE_FMT(key), SLICE_FMT(value));
    hint_all(c, key);
    if (c->changed)
        c->changed(c->changed_arg, key, kv);
}

/* ---- doing calls */

static void call_free(struct call *x)
{
    free(x->txn);
    free(x->kvs);
    free(x);
}

static void do_list(struct simcoord *c, struct call *x)
{
    const struct coord_kv *kvs;
    size_t n = kvstore_list(c->store, x->prefix, &kvs);
    struct coord_kv *some = calloc(n + 1, sizeof *some);
    assert(some);
    for (size_t i = 0; i < n; i++)
        if (kvs[i].mod_rev >= x->since)
            some[x->kvs_n++] = kvs[i];
    x->kvs = kvstore_kvs_copy(some, x->kvs_n);
    x->rev = kvstore_rev(c->store);
    free(some);
}

static void do_call(struct simcoord *c, struct call *x)
{
    x->stored = true;
    switch (x->kind) {
    case CALL_LIST:
        do_list(c, x);
        break;
    case CALL_TXN:
        x->res =
            kvstore_txn(c->store, x->txn->cmps, x->txn->cmps_n, x->txn->ops, x->txn->ops_n, &x->succeeded, &x->rev);
        break;
    case CALL_GRANT:
        x->lease = kvstore_grant(c->store, x->ttl_s, store_now(c));
        break;
    case CALL_KEEPALIVE:
        x->res = kvstore_keepalive(c->store, x->lease, store_now(c), &x->ttl_s);
        break;
    case CALL_REVOKE:
        x->res = kvstore_revoke(c->store, x->lease);
        break;
    }
}

/* A request that the store cannot be reached with is lost, or (a proposal without quorum) done much later. */
static void call_arrives(struct simcoord *c, struct view *v, struct call *x)
{
    if (c->stopped) {
        bool later = x->kind == CALL_TXN && chance(&c->rng, 30);
        x->store_us = later ? c->w->now_us + between(&c->rng, 100000, 4000000) : UINT64_MAX;
        x->answer_lost = true;
        return;
    }
    if (c->cut[v->node] && !x->answer_lost && chance(&c->rng, 90)) {
        x->store_us = UINT64_MAX;
        return;
    }
    do_call(c, x);
    if (!x->answer_lost && !c->cut[v->node]) {
        x->answer_us = c->w->now_us + between(&c->rng, 200, 4000);
        view_wake(v, x->answer_us);
    }
}

static uint64_t view_store(struct simcoord *c, struct view *v)
{
    uint64_t next = UINT64_MAX;
    for (struct call *x = v->calls; x; x = x->next) {
        if (!x->stored && x->store_us <= c->w->now_us)
            call_arrives(c, v, x);
        if (!x->stored && x->store_us < next)
            next = x->store_us;
    }
    return next;
}

static void view_sweep(struct view *v)
{
    struct call **at = &v->calls;
    while (*at) {
        struct call *x = *at;
        bool over = (x->told || v->closed) && (x->stored || x->store_us == UINT64_MAX);
        if (over) {
            *at = x->next;
            call_free(x);
        } else {
            at = &x->next;
        }
    }
    v->tail = at;
}

static void coord_run(void *arg)
{
    struct simcoord *c = arg;
    uint64_t next = UINT64_MAX;
    if (!c->stopped) {
        kvstore_expire(c->store, store_now(c));
        uint64_t expiry = kvstore_expiry_us(c->store);
        if (expiry != UINT64_MAX)
            next = c->w->now_us + (expiry > c->store_us ? expiry - c->store_us : 0) + between(&c->rng, 1, 500000);
    }
    struct view **at = &c->views;
    while (*at) {
        struct view *v = *at;
        uint64_t due = view_store(c, v);
        view_sweep(v);
        if (v->closed && !v->calls) {
            *at = v->next;
            free(v);
            continue;
        }
        next = due < next ? due : next;
        at = &v->next;
    }
    actor_wake(c->actor, next);
}

/* ---- the table */

static struct call *call_new(struct view *v, enum call_kind kind, void *arg)
{
    struct simcoord *c = v->c;
    struct call *x = v->closed ? NULL : calloc(1, sizeof *x);
    if (!x)
        return NULL;
    x->kind = kind;
    x->arg = arg;
    x->sent_us = c->w->now_us;
    x->store_us = c->w->now_us + between(&c->rng, 200, chance(&c->rng, 95) ? 4000 : 400000);
    x->answer_us = x->sent_us + TIMEOUT_US;
    if (chance(&c->rng, c->flaky_pct)) {
        x->answer_lost = true;
        x->store_us = chance(&c->rng, 50) ? x->store_us : UINT64_MAX;
        if (x->store_us != UINT64_MAX && chance(&c->rng, 20))
            x->store_us += between(&c->rng, 1000000, 5000000);
    }
    *v->tail = x;
    v->tail = &x->next;
    v->info.calls++;
    actor_wake(c->actor, x->store_us);
    view_wake(v, x->answer_us);
    return x;
}

static int op_list_since(struct coord *co, struct slice prefix, int64_t since, coord_list_done *done, void *arg)
{
    struct call *x = call_new(of(co), CALL_LIST, arg);
    if (!x)
        return -SATCHEL_ESHUT;
    x->since = since;
    assert(prefix.n < sizeof x->prefix_text);
    if (prefix.n)
        memcpy(x->prefix_text, prefix.p, prefix.n);
    x->prefix = slice_of(x->prefix_text, prefix.n);
    x->done.list = done;
    return 0;
}

static int op_list(struct coord *co, struct slice prefix, coord_list_done *done, void *arg)
{
    return op_list_since(co, prefix, 0, done, arg);
}

static int op_txn(struct coord *co, const struct coord_cmp *cmps, size_t cmps_n, const struct coord_op *ops,
                  size_t ops_n, coord_txn_done *done, void *arg)
{
    struct call *x = call_new(of(co), CALL_TXN, arg);
    if (!x)
        return -SATCHEL_ESHUT;
    x->txn = kvstore_txn_copy(cmps, cmps_n, ops, ops_n);
    x->done.txn = done;
    return 0;
}

static int lease_call(struct coord *co, enum call_kind kind, int64_t lease, uint32_t ttl_s, coord_lease_done *done,
                      void *arg)
{
    struct call *x = call_new(of(co), kind, arg);
    if (!x)
        return -SATCHEL_ESHUT;
    x->lease = lease;
    x->ttl_s = ttl_s;
    x->done.lease = done;
    return 0;
}

static int op_grant(struct coord *co, uint32_t ttl_s, coord_lease_done *done, void *arg)
{
    return lease_call(co, CALL_GRANT, 0, ttl_s, done, arg);
}

static int op_keepalive(struct coord *co, int64_t lease, coord_lease_done *done, void *arg)
{
    return lease_call(co, CALL_KEEPALIVE, lease, 0, done, arg);
}

static int op_revoke(struct coord *co, int64_t lease, coord_lease_done *done, void *arg)
{
    return lease_call(co, CALL_REVOKE, lease, 0, done, arg);
}

static int op_watch(struct coord *co, struct slice prefix, coord_changed *changed, void *arg)
{
    struct view *v = of(co);
    assert(v->watches_n < WATCHES_MAX);
    struct watch *x = &v->watches[v->watches_n++];
    snprintf(x->prefix, sizeof x->prefix, "%.*s", SLICE_FMT(prefix));
    x->changed = changed;
    x->arg = arg;
    memset(x->hints_us, 0xff, sizeof x->hints_us);
    return 0;
}

static void op_info(struct coord *co, struct coord_info *info_r)
{
    *info_r = of(co)->info;
}

static void note_outcome(struct view *v, bool answered)
{
    if (v->info.reachable != answered)
        v->info.since_us = v->c->w->now_us;
    v->info.failures += !answered;
    if (answered && !v->info.reachable)
        for (uint32_t i = 0; i < v->watches_n; i++)
            watch_hint(v, &v->watches[i], v->c->w->now_us + 1);
    v->info.reachable = answered;
    snprintf(v->info.why, sizeof v->info.why, "%s", answered ? "" : "no answer");
}

static void call_tell(struct call *x, int res)
{
    bool ok = res == 0;
    x->told = true;
    if (x->kind == CALL_LIST)
        x->done.list(x->arg, res, ok ? x->rev : 0, ok ? x->kvs : NULL, ok ? x->kvs_n : 0);
    else if (x->kind == CALL_TXN)
        x->done.txn(x->arg, res, ok && x->succeeded, ok ? x->rev : 0);
    else
        x->done.lease(x->arg, res, ok ? x->lease : 0, ok ? x->ttl_s : 0, x->sent_us);
}

static void call_over(struct view *v, struct call *x)
{
    bool answered = x->stored && !x->answer_lost && x->answer_us < x->sent_us + TIMEOUT_US;
    note_outcome(v, answered);
    call_tell(x, answered ? x->res : -SATCHEL_EAGAIN);
}

static void poll_hints(struct view *v)
{
    for (uint32_t i = 0; i < v->watches_n; i++)
        for (int k = 0; k < 4; k++)
            if (v->watches[i].hints_us[k] <= v->c->w->now_us) {
                v->watches[i].hints_us[k] = UINT64_MAX;
                v->watches[i].changed(v->watches[i].arg);
            }
}

/* A callback may make further calls: they are behind in the list, and due later. */
static void op_poll(struct coord *co)
{
    struct view *v = of(co);
    poll_hints(v);
    for (struct call *x = v->calls; x; x = x->next)
        if (!x->told && x->answer_us <= v->c->w->now_us)
            call_over(v, x);
    view_sweep(v);
}

static uint64_t op_next(struct coord *co)
{
    struct view *v = of(co);
    uint64_t next = UINT64_MAX;
    for (struct call *x = v->calls; x; x = x->next)
        if (!x->told && x->answer_us < next)
            next = x->answer_us;
    for (uint32_t i = 0; i < v->watches_n; i++)
        for (int k = 0; k < 4; k++)
            if (v->watches[i].hints_us[k] < next)
                next = v->watches[i].hints_us[k];
    return next;
}

static void op_close(struct coord **co)
{
    struct view *v = of(*co);
    v->closed = true;
    for (struct call *x = v->calls; x; x = x->next)
        if (!x->told)
            call_tell(x, -SATCHEL_ESHUT);
    actor_wake(v->c->actor, v->c->w->now_us);
    *co = NULL;
}

static const struct coord_ops sim_ops = {
    .list = op_list,
    .list_since = op_list_since,
    .txn = op_txn,
    .grant = op_grant,
    .keepalive = op_keepalive,
    .revoke = op_revoke,
    .watch = op_watch,
    .info = op_info,
    .poll = op_poll,
    .next_us = op_next,
    .close = op_close,
};

struct coord *simcoord_view(struct simcoord *c, uint32_t node)
{
    struct view *v = calloc(1, sizeof *v);
    assert(v);
    v->coord = (struct coord){&sim_ops, -1};
    v->c = c;
    v->node = node;
    v->tail = &v->calls;
    v->next = c->views;
    c->views = v;
    return &v->coord;
}

/* ---- the world */

void simcoord_open(struct simcoord **c_r, struct world *w)
{
    struct simcoord *c = calloc(1, sizeof *c);
    assert(c);
    c->w = w;
    c->store = kvstore_new();
    rng_seed(&c->rng, rng_u64(&w->rng));
    c->actor = world_actor(w, coord_run, c);
    c->store_us = c->store_seen_us = w->now_us;
    kvstore_on_change(c->store, on_change, c);
    *c_r = c;
}

void simcoord_close(struct simcoord **cp)
{
    struct simcoord *c = *cp;
    while (c->views) {
        struct view *v = c->views;
        c->views = v->next;
        for (struct call *x = v->calls, *next; x; x = next) {
            next = x->next;
            call_free(x);
        }
        free(v);
    }
    cmap_unref(c->truth);
    kvstore_free(&c->store);
    free(c);
    *cp = NULL;
}

/* A new leader of the store gives every lease its whole time again. */
static void renew_leases(struct simcoord *c)
{
    const struct coord_kv *kvs;
    size_t n = kvstore_list(c->store, SLICE_LIT(""), &kvs);
    uint32_t ttl_s;
    for (size_t i = 0; i < n; i++)
        if (kvs[i].lease)
            kvstore_keepalive(c->store, kvs[i].lease, store_now(c), &ttl_s);
}

void simcoord_stop(struct simcoord *c, bool stopped)
{
    store_now(c);
    if (c->stopped && !stopped) {
        c->stopped = false;
        renew_leases(c);
    }
    c->stopped = stopped;
    actor_wake(c->actor, c->w->now_us);
}

bool simcoord_stopped(const struct simcoord *c)
{
    return c->stopped;
}

void simcoord_cut(struct simcoord *c, uint32_t node, bool cut)
{
    c->cut[node] = cut;
}

void simcoord_flaky(struct simcoord *c, uint32_t percent)
{
    c->flaky_pct = percent;
}

const struct cmap *simcoord_truth(struct simcoord *c)
{
    char why[256] = "";
    int64_t rev = kvstore_rev(c->store);
    if (c->truth && c->truth_rev == rev)
        return c->truth;
    const struct coord_kv *kvs;
    size_t n = kvstore_list(c->store, SLICE_LIT(""), &kvs);
    cmap_unref(c->truth);
    c->truth = NULL;
    if (cmap_decode(kvs, n, rev, &c->truth, why) != 0)
        history_fail("coordination holds what is no map: %s", why);
    c->truth_rev = rev;
    return c->truth;
}

bool simcoord_lives(struct simcoord *c, const char *name, const struct storage_id *storage)
{
    const struct cmap *m = simcoord_truth(c);
    const struct map_node *n = m ? cmap_node(m, name) : NULL;
    return n && n->live && storage_id_eq(&n->storage, storage);
}

void simcoord_put(struct simcoord *c, const char *key, const char *value)
{
    struct coord_op op = {.kind = value ? COORD_PUT : COORD_DELETE, .key = slice_str(key)};
    bool succeeded;
    int64_t rev;
    if (value)
        op.value = slice_str(value);
    trace("operator: %s = %s", key, value ? value : "-");
    if (kvstore_txn(c->store, NULL, 0, &op, 1, &succeeded, &rev) != 0)
        history_fail("the store refuses %s", key);
}

void simcoord_watch_all(struct simcoord *c, void (*changed)(void *arg, struct slice key, const struct coord_kv *kv),
                        void *arg)
{
    c->changed = changed;
    c->changed_arg = arg;
}
