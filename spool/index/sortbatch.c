#include "spool/index/sortbatch.h"

#include <stdlib.h>

static struct slice op_key(const struct sortbatch *b, const struct sortbatch_op *op)
{
    return slice_of(b->bytes + op->key_at, op->key_n);
}

static bool room(struct sortbatch *b, size_t bytes)
{
    if (b->n == b->cap) {
        uint32_t cap = b->cap ? b->cap * 2 : 256;
        struct sortbatch_op *ops = realloc(b->ops, cap * sizeof *ops);
        if (!ops)
            return false;
        b->ops = ops;
        b->cap = cap;
    }
    size_t size = b->size ? b->size : 32768;
    while (size < b->used + bytes)
        size *= 2;
    if (size > UINT32_MAX)
        return false;
    if (size > b->size) {
        uint8_t *p = realloc(b->bytes, size);
        if (!p)
            return false;
        b->bytes = p;
        b->size = (uint32_t)size;
    }
    return true;
}

static uint32_t keep(struct sortbatch *b, struct slice s)
{
    uint32_t at = b->used;
    if (s.n)
        memcpy(b->bytes + at, s.p, s.n);
    b->used += (uint32_t)s.n;
    return at;
}

bool sortbatch_add(struct sortbatch *b, struct slice key, struct slice value, bool del)
{
    if (!room(b, key.n + value.n))
        return false;
    struct sortbatch_op *op = &b->ops[b->n++];
    op->del = del;
    op->key_n = (uint32_t)key.n;
    op->key_at = keep(b, key);
    op->value_n = del ? 0 : (uint32_t)value.n;
    op->value_at = del ? 0 : keep(b, value);
    return true;
}

static int key_cmp(struct slice a, struct slice b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

/* By key; the same key in the order of adding, which is the order of the bytes. */
static int op_cmp(const void *x, const void *y, void *batch)
{
    const struct sortbatch_op *a = x, *b = y;
    int c = key_cmp(op_key(batch, a), op_key(batch, b));
    return c ? c : (a->key_at > b->key_at) - (a->key_at < b->key_at);
}

void sortbatch_drain(struct sortbatch *b, void (*each)(void *arg, struct slice key, struct slice value, bool del),
                     void *arg)
{
    if (b->n)
        qsort_r(b->ops, b->n, sizeof *b->ops, op_cmp, b);
    for (uint32_t i = 0; i < b->n; i++) {
        const struct sortbatch_op *op = &b->ops[i];
        if (i + 1 < b->n && slice_eq(op_key(b, op), op_key(b, op + 1)))
            continue;
        each(arg, op_key(b, op), slice_of(b->bytes + op->value_at, op->value_n), op->del);
    }
    b->n = b->used = 0;
}

void sortbatch_free(struct sortbatch *b)
{
    free(b->ops);
    free(b->bytes);
    *b = (struct sortbatch){0};
}
