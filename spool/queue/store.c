/* store.c - one open batch over the index, and which keys it touches. */
#include "spool/queue/store.h"
#include "spool/base/err.h"
#include "spool/queue/table.h"
#include <assert.h>

static uint64_t pending_hash(const struct key *k)
{
    return table_hash(key_slice(k)) | 1;
}

static void pending_add(struct store *s, const struct key *k)
{
    uint64_t h = pending_hash(k);
    size_t i = (h >> 1) % STORE_PENDING_SLOTS;
    while (s->pending[i] && s->pending[i] != h)
        i = (i + 1) % STORE_PENDING_SLOTS;
    if (s->pending[i])
        return;
    assert(s->pending_n < STORE_PENDING_SLOTS - 1);
    s->pending[i] = h;
    s->used[s->pending_n++] = (uint32_t)i;
}

static bool pending_has(const struct store *s, const struct key *k)
{
    if (s->pending_n == 0)
        return false;
    uint64_t h = pending_hash(k);
    for (size_t i = (h >> 1) % STORE_PENDING_SLOTS; s->pending[i]; i = (i + 1) % STORE_PENDING_SLOTS)
        if (s->pending[i] == h)
            return true;
    return false;
}

void store_put(struct store *s, const struct key *k, struct slice value)
{
    pending_add(s, k);
    s->ix->ops->put(s->ix, key_slice(k), value);
}

void store_del(struct store *s, const struct key *k)
{
    pending_add(s, k);
    s->ix->ops->del(s->ix, key_slice(k));
}

int store_settle(struct store *s)
{
    assert(!s->writing);
    return s->pending_n ? s->settle(s->settle_arg) : s->err;
}

int64_t store_get(struct store *s, const struct key *k, void *out_r, size_t cap)
{
    if (pending_has(s, k) && store_settle(s))
        return s->err;
    int64_t n = s->ix->ops->get(s->ix, key_slice(k), out_r, cap);
    if (n < 0 && n != -SATCHEL_ENOENT && !s->err)
        s->err = (int)n;
    return n;
}

struct index_iter *store_iter(struct store *s, const struct key *from, const struct key *to)
{
    if (store_settle(s))
        return NULL;
    return s->ix->ops->iter(s->ix, key_slice(from), key_slice(to));
}

bool store_full(const struct store *s)
{
    return s->pending_n >= STORE_PENDING_MAX;
}

int store_commit(struct store *s, uint64_t pos)
{
    assert(!s->writing);
    if (!s->err)
        s->err = s->ix->ops->commit(s->ix, pos);
    while (s->pending_n)
        s->pending[s->used[--s->pending_n]] = 0;
    return s->err;
}
