/* copied.c - records of the intake doors on their way to the copier (copier.h) instead of this node's log.
 *
 * The append that would go to the log carries the request in its own allocation: what the request points to (meta, and
 * in it the domain) lives as long, and settling it is settling the append. */
#include "spool/copier.h"
#include "spool/spool_impl.h"

#include <assert.h>
#include <stdlib.h>

struct copied {
    struct copy_request r;
    struct spool_append *a;
};

size_t copied_bytes(const struct spool *s)
{
    return s->copier ? sizeof(struct copied) + _Alignof(struct copied) : 0;
}

/* On the copier's thread. */
static void copied_settled(struct copy_request *r, int res)
{
    struct spool_append *a = ((struct copied *)r)->a;
    a->res = res == -SATCHEL_EAGAIN ? -SATCHEL_ECOPIES : res;
    if (a->settled)
        a->settled(a);
    append_free(a);
}

/* The request lies behind the meta, which is complete. */
static struct copied *copied_of(struct spool_append *a)
{
    uint8_t *end = a->meta + a->e.rec.meta.n;
    size_t past = (uintptr_t)end % _Alignof(struct copied);
    return (struct copied *)(end + (past ? _Alignof(struct copied) - past : 0));
}

static void copied_post(struct spool *s, struct spool_append *a)
{
    struct copied *c = copied_of(a);
    if (a->e.rec.type != REC_ABORT)
        a->e.rec.arrival_us = spool_stamp_us(s);
    *c = (struct copied){.a = a,
                         .r = {.domain = meta_find(a->e.rec.meta, RT_DOMAIN),
                               .rec = a->e.rec,
                               .body_parts = a->e.body_parts,
                               .body_parts_n = a->e.body_parts_n,
                               .settled = copied_settled}};
    assert(c->r.domain.n);
    s->copier->ops->post(s->copier, &c->r);
}

void intake_post(struct spool *s, struct spool_append *a)
{
    if (s->copier)
        copied_post(s, a);
    else
        append_post(s, a);
}

int copied_admit(struct spool *s, uint64_t size_hint)
{
    return s->copier->ops->admit(s->copier, size_hint);
}

void copied_ring(struct spool *s)
{
    s->copier->ops->ring(s->copier);
}
