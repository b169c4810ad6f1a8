/* outq.c - see outq.h. */
#include "cluster/link/outq.h"

#include "spool/base/copy.h"
#include "spool/base/err.h"

#include <assert.h>
#include <stdlib.h>

static struct fbuf *outq_at(const struct outq *q, uint32_t i)
{
    return q->ring[(q->head + i) & (q->cap - 1)];
}

static int outq_grow(struct outq *q)
{
    uint32_t cap = q->cap ? 2 * q->cap : 64;
    struct fbuf **ring = malloc(cap * sizeof *ring);
    if (!ring)
        return -SATCHEL_ENOMEM;
    for (uint32_t i = 0; i < q->n; i++)
        ring[i] = outq_at(q, i);
    free(q->ring);
    q->ring = ring;
    q->cap = cap;
    q->head = 0;
    return 0;
}

int outq_push(struct outq *q, struct fbuf *f)
{
    if (q->n == q->cap && outq_grow(q) < 0)
        return -SATCHEL_ENOMEM;
    q->ring[(q->head + q->n++) & (q->cap - 1)] = fbuf_ref(f);
    q->bytes += f->n;
    return 0;
}

struct slice outq_gather(const struct outq *q, uint8_t *scratch, size_t cap)
{
    if (q->n == 0)
        return (struct slice){scratch, 0};
    const struct fbuf *first = outq_at(q, 0);
    size_t left = first->n - q->gone;
    if (left >= cap || q->n == 1)
        return slice_of(first->data + q->gone, left < cap ? left : cap);
    copy_long(scratch, first->data + q->gone, left);
    size_t n = left;
    for (uint32_t i = 1; i < q->n && n < cap; i++) {
        const struct fbuf *f = outq_at(q, i);
        size_t take = f->n < cap - n ? f->n : cap - n;
        copy_long(scratch + n, f->data, take);
        n += take;
    }
    return slice_of(scratch, n);
}

void outq_drop(struct outq *q, size_t n)
{
    assert(n <= q->bytes);
    q->bytes -= n;
    while (n > 0) {
        struct fbuf *f = outq_at(q, 0);
        size_t left = f->n - q->gone;
        if (n < left) {
            q->gone += (uint32_t)n;
            return;
        }
        n -= left;
        q->gone = 0;
        q->head = (q->head + 1) & (q->cap - 1);
        q->n--;
        fbuf_unref(f);
    }
}

void outq_free(struct outq *q)
{
    for (uint32_t i = 0; i < q->n; i++)
        fbuf_unref(outq_at(q, i));
    free(q->ring);
    *q = (struct outq){0};
}
