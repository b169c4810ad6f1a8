/* bags.c - the table of bags and their counters in the index. */
#include "spool/queue/bags.h"
#include "spool/base/err.h"
#include "spool/base/wire.h"
#include <stdlib.h>

static bool bag_eq(const void *item, const void *key)
{
    return slice_eq(bag_name(item), *(const struct slice *)key);
}

struct bag *bags_find(const struct bags *t, struct slice domain)
{
    return table_find(&t->table, table_hash(domain), bag_eq, &domain);
}

struct bag *bags_need(struct bags *t, struct slice domain)
{
    struct bag *b = bags_find(t, domain);
    if (b)
        return b;
    b = calloc(1, sizeof *b + domain.n);
    if (!b)
        abort();
    b->hash = table_hash(domain);
    b->name_n = (uint16_t)domain.n;
    memcpy(b->name, domain.p, domain.n);
    b->low_us = UINT64_MAX;
    b->next_due_us = UINT64_MAX;
    table_add(&t->table, b->hash, b);
    return b;
}

static void bag_free(void *item)
{
    struct bag *b = item;
    heap_free(&b->back);
    free(b);
}

void bags_free(struct bags *t)
{
    table_clear(&t->table, bag_free);
    *t = (struct bags){0};
}

void bag_touch(struct bags *t, struct bag *b)
{
    if (b->dirty)
        return;
    b->dirty = true;
    b->dirty_next = t->dirty;
    t->dirty = b;
}

uint64_t bag_fresh(const struct bag *b)
{
    return b->messages - b->deferred - b->held - b->claimed_fresh;
}

void bag_rewind(struct bag *b)
{
    b->cursor = (struct place){.arrival_us = b->low_us == UINT64_MAX ? 0 : b->low_us};
    heap_free(&b->back);
}

int bags_load(struct bags *t, struct store *st)
{
    struct key from = key_kind(KEY_DOMAIN), to = key_kind(KEY_DOMAIN + 1);
    struct index_iter *it = store_iter(st, &from, &to);
    if (!it)
        return -SATCHEL_EIO;
    struct slice key, value;
    int res = 0;
    while (st->ix->ops->next(it, &key, &value)) {
        struct bag *b = bags_need(t, slice_of(key.p + 1, key.n - 1));
        struct wire_rd r = wire_rd(value);
        b->messages = wire_u64(&r);
        b->bytes = wire_u64(&r);
        b->deferred = wire_u64(&r);
        b->held = wire_u64(&r);
        b->low_us = wire_u64(&r);
        b->newest_us = wire_u64(&r);
        b->digest = wire_u64(&r);
        b->next_due_us = b->deferred ? 0 : UINT64_MAX;
        bag_rewind(b);
        t->messages += b->messages;
        t->bytes += b->bytes;
        if (r.bad)
            res = -SATCHEL_EDAMAGED;
    }
    st->ix->ops->iter_free(&it);
    return res;
}

static void bag_save(const struct bag *b, struct store *st)
{
    uint8_t value[BAG_VALUE_BYTES];
    struct wire_wr w = wire_wr(value, sizeof value);
    wire_put_u64(&w, b->messages);
    wire_put_u64(&w, b->bytes);
    wire_put_u64(&w, b->deferred);
    wire_put_u64(&w, b->held);
    wire_put_u64(&w, b->low_us);
    wire_put_u64(&w, b->newest_us);
    wire_put_u64(&w, b->digest);
    struct key k = key_domain(bag_name(b));
    if (b->messages)
        store_put(st, &k, slice_of(value, sizeof value));
    else
        store_del(st, &k);
}

void bags_save(struct bags *t, struct store *st)
{
    while (t->dirty) {
        struct bag *b = t->dirty;
        t->dirty = b->dirty_next;
        b->dirty = false;
        bag_save(b, st);
        if (b->messages || b->claimed)
            continue;
        table_del(&t->table, b->hash, b);
        bag_free(b);
    }
}
