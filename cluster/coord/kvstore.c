/* kvstore.c - keys, revisions and leases in memory; see kvstore.h. */
#include "cluster/coord/kvstore.h"
#include "spool/base/err.h"

#include <stdlib.h>

#define FIRST_LEASE 1000 /* apart from revisions, so that mixing them up shows */

struct lease {
    int64_t id;
    uint32_t ttl_s;
    uint64_t ends_us;
};

struct kvstore {
    struct coord_kv *kvs; /* sorted by key; key.p and value.p are the store's */
    size_t n, cap;
    int64_t rev, last_lease;
    struct lease *leases; /* sorted by id: they are granted in that order */
    size_t leases_n, leases_cap;
    kvstore_change *change;
    void *change_arg;
};

struct kvstore *kvstore_new(void)
{
    struct kvstore *s = calloc(1, sizeof *s);
    if (!s)
        abort();
    s->rev = 1;
    s->last_lease = FIRST_LEASE;
    return s;
}

void kvstore_free(struct kvstore **s)
{
    if (!*s)
        return;
    for (size_t i = 0; i < (*s)->n; i++) {
        free((void *)(*s)->kvs[i].key.p);
        free((void *)(*s)->kvs[i].value.p);
    }
    free((*s)->kvs);
    free((*s)->leases);
    free(*s);
    *s = NULL;
}

void kvstore_on_change(struct kvstore *s, kvstore_change *change, void *arg)
{
    s->change = change;
    s->change_arg = arg;
}

int64_t kvstore_rev(const struct kvstore *s)
{
    return s->rev;
}

static struct slice slice_dup(struct slice s)
{
    uint8_t *p = malloc(s.n + 1);
    if (!p)
        abort();
    if (s.n)
        memcpy(p, s.p, s.n);
    return slice_of(p, s.n);
}

static int key_cmp(struct slice a, struct slice b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

/* First position whose key is not before `key`. */
static size_t key_pos(const struct kvstore *s, struct slice key)
{
    size_t lo = 0, hi = s->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (key_cmp(s->kvs[mid].key, key) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool key_at(const struct kvstore *s, size_t pos, struct slice key)
{
    return pos < s->n && slice_eq(s->kvs[pos].key, key);
}

size_t kvstore_list(const struct kvstore *s, struct slice prefix, const struct coord_kv **kvs_r)
{
    size_t from = key_pos(s, prefix), to = from;
    while (to < s->n && s->kvs[to].key.n >= prefix.n && slice_eq(slice_of(s->kvs[to].key.p, prefix.n), prefix))
        to++;
    *kvs_r = s->kvs + from;
    return to - from;
}

const struct coord_kv *kvstore_get(const struct kvstore *s, struct slice key)
{
    size_t pos = key_pos(s, key);
    return key_at(s, pos, key) ? &s->kvs[pos] : NULL;
}

static void kv_insert(struct kvstore *s, size_t pos, struct slice key, int64_t rev)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 16;
        s->kvs = realloc(s->kvs, s->cap * sizeof *s->kvs);
        if (!s->kvs)
            abort();
    }
    memmove(s->kvs + pos + 1, s->kvs + pos, (s->n - pos) * sizeof *s->kvs);
    s->kvs[pos] = (struct coord_kv){.key = slice_dup(key), .create_rev = rev};
    s->n++;
}

static void kv_put(struct kvstore *s, const struct coord_op *op, int64_t rev)
{
    size_t pos = key_pos(s, op->key);
    if (!key_at(s, pos, op->key))
        kv_insert(s, pos, op->key, rev);
    struct coord_kv *kv = &s->kvs[pos];
    struct slice value = slice_dup(op->value); /* may be a copy of what it replaces */
    free((void *)kv->value.p);
    kv->value = value;
    kv->mod_rev = rev;
    kv->lease = op->lease;
    if (s->change)
        s->change(s->change_arg, kv->key, kv);
}

static void kv_delete(struct kvstore *s, size_t pos)
{
    struct coord_kv gone = s->kvs[pos];
    s->n--;
    memmove(s->kvs + pos, s->kvs + pos + 1, (s->n - pos) * sizeof *s->kvs);
    if (s->change)
        s->change(s->change_arg, gone.key, NULL);
    free((void *)gone.key.p);
    free((void *)gone.value.p);
}

static struct lease *lease_find(const struct kvstore *s, int64_t id)
{
    for (size_t i = 0; i < s->leases_n; i++)
        if (s->leases[i].id == id)
            return &s->leases[i];
    return NULL;
}

/* The request alone, whether or not its compares hold. */
static int txn_check(size_t cmps_n, const struct coord_op *ops, size_t ops_n)
{
    if (cmps_n > COORD_TXN_OPS_MAX || ops_n > COORD_TXN_OPS_MAX)
        return -SATCHEL_EINVAL;
    for (size_t i = 0; i < ops_n; i++)
        for (size_t j = 0; j < i; j++)
            if (slice_eq(ops[i].key, ops[j].key))
                return -SATCHEL_EINVAL;
    return 0;
}

static int txn_check_leases(const struct kvstore *s, const struct coord_op *ops, size_t ops_n)
{
    for (size_t i = 0; i < ops_n; i++)
        if (ops[i].kind == COORD_PUT && ops[i].lease && !lease_find(s, ops[i].lease))
            return -SATCHEL_ENOENT;
    return 0;
}

static bool txn_holds(const struct kvstore *s, const struct coord_cmp *cmps, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct coord_kv *kv = kvstore_get(s, cmps[i].key);
        if ((kv ? kv->mod_rev : 0) != cmps[i].mod_rev)
            return false;
    }
    return true;
}

int kvstore_txn(struct kvstore *s, const struct coord_cmp *cmps, size_t cmps_n, const struct coord_op *ops,
                size_t ops_n, bool *succeeded_r, int64_t *rev_r)
{
    bool changed = false;
    int res = txn_check(cmps_n, ops, ops_n);
    bool holds = res == 0 && txn_holds(s, cmps, cmps_n);
    if (holds)
        res = txn_check_leases(s, ops, ops_n);
    *succeeded_r = holds && res == 0;
    for (size_t i = 0; *succeeded_r && i < ops_n; i++) {
        size_t pos = key_pos(s, ops[i].key);
        bool there = key_at(s, pos, ops[i].key);
        if (ops[i].kind == COORD_PUT)
            kv_put(s, &ops[i], s->rev + 1);
        else if (there)
            kv_delete(s, pos);
        changed |= there || ops[i].kind == COORD_PUT;
    }
    s->rev += changed;
    *rev_r = s->rev;
    return res;
}

static uint64_t lease_end(uint32_t ttl_s, uint64_t now_us)
{
    return now_us + ttl_s * UINT64_C(1000000);
}

int64_t kvstore_grant(struct kvstore *s, uint32_t ttl_s, uint64_t now_us)
{
    if (s->leases_n == s->leases_cap) {
        s->leases_cap = s->leases_cap ? s->leases_cap * 2 : 8;
        s->leases = realloc(s->leases, s->leases_cap * sizeof *s->leases);
        if (!s->leases)
            abort();
    }
    s->leases[s->leases_n++] = (struct lease){++s->last_lease, ttl_s, lease_end(ttl_s, now_us)};
    return s->last_lease;
}

int kvstore_keepalive(struct kvstore *s, int64_t lease, uint64_t now_us, uint32_t *ttl_s_r)
{
    struct lease *l = lease_find(s, lease);
    if (!l)
        return -SATCHEL_ENOENT;
    l->ends_us = lease_end(l->ttl_s, now_us);
    *ttl_s_r = l->ttl_s;
    return 0;
}

int kvstore_revoke(struct kvstore *s, int64_t lease)
{
    struct lease *l = lease_find(s, lease);
    bool changed = false;
    if (!l)
        return -SATCHEL_ENOENT;
    s->leases_n--;
    memmove(l, l + 1, (size_t)(s->leases + s->leases_n - l) * sizeof *l);
    for (size_t i = s->n; i-- > 0;) {
        if (s->kvs[i].lease != lease)
            continue;
        kv_delete(s, i);
        changed = true;
    }
    s->rev += changed;
    return 0;
}

size_t kvstore_expire(struct kvstore *s, uint64_t now_us)
{
    size_t ended = 0;
    for (size_t i = 0; i < s->leases_n;) {
        if (s->leases[i].ends_us > now_us) {
            i++;
            continue;
        }
        kvstore_revoke(s, s->leases[i].id);
        ended++;
    }
    return ended;
}

uint64_t kvstore_expiry_us(const struct kvstore *s)
{
    uint64_t next = UINT64_MAX;
    for (size_t i = 0; i < s->leases_n; i++)
        if (s->leases[i].ends_us < next)
            next = s->leases[i].ends_us;
    return next;
}

/* Moves the bytes of s to *at. */
static struct slice bytes_move(uint8_t **at, struct slice s)
{
    struct slice to = slice_of(*at, s.n);
    if (s.n)
        memcpy(*at, s.p, s.n);
    *at += s.n;
    return to;
}

struct kvstore_txn_args *kvstore_txn_copy(const struct coord_cmp *cmps, size_t cmps_n, const struct coord_op *ops,
                                          size_t ops_n)
{
    size_t bytes = 0;
    for (size_t i = 0; i < cmps_n; i++)
        bytes += cmps[i].key.n;
    for (size_t i = 0; i < ops_n; i++)
        bytes += ops[i].key.n + ops[i].value.n;
    struct kvstore_txn_args *a = malloc(sizeof *a + cmps_n * sizeof *cmps + ops_n * sizeof *ops + bytes);
    if (!a)
        abort();
    *a = (struct kvstore_txn_args){cmps_n, ops_n, (struct coord_cmp *)(a + 1), NULL};
    a->ops = (struct coord_op *)(a->cmps + cmps_n);
    uint8_t *at = (uint8_t *)(a->ops + ops_n);
    for (size_t i = 0; i < cmps_n; i++)
        a->cmps[i] = (struct coord_cmp){bytes_move(&at, cmps[i].key), cmps[i].mod_rev};
    for (size_t i = 0; i < ops_n; i++) {
        a->ops[i] = ops[i];
        a->ops[i].key = bytes_move(&at, ops[i].key);
        a->ops[i].value = bytes_move(&at, ops[i].value);
    }
    return a;
}

struct coord_kv *kvstore_kvs_copy(const struct coord_kv *kvs, size_t n)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        bytes += kvs[i].key.n + kvs[i].value.n;
    struct coord_kv *copy = malloc(n * sizeof *copy + bytes + 1);
    if (!copy)
        abort();
    uint8_t *at = (uint8_t *)(copy + n);
    for (size_t i = 0; i < n; i++) {
        copy[i] = kvs[i];
        copy[i].key = bytes_move(&at, kvs[i].key);
        copy[i].value = bytes_move(&at, kvs[i].value);
    }
    return copy;
}
