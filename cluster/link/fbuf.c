/* fbuf.c - frames in memory, counted. */
#include "cluster/link/fbuf.h"

#include "spool/base/err.h"

#include <assert.h>
#include <stdlib.h>

static void fbuf_head(struct fbuf *f, uint16_t type, uint16_t version)
{
    struct wire_wr w = wire_wr(f->data, FRAME_HEAD_BYTES);
    wire_put_u32(&w, 0);
    wire_put_u16(&w, type);
    wire_put_u16(&w, version);
}

struct fbuf *fbuf_new(uint16_t type, uint16_t version, size_t payload_cap)
{
    /* What would not fit a frame makes the writer bad, and fbuf_end says so. */
    size_t cap = FRAME_HEAD_BYTES + (payload_cap < FRAME_PAYLOAD_MAX ? payload_cap : FRAME_PAYLOAD_MAX);
    struct fbuf *f = malloc(sizeof *f + cap);
    if (!f)
        return NULL;
    atomic_init(&f->refs, 1);
    f->n = FRAME_HEAD_BYTES;
    f->cap = (uint32_t)cap;
    fbuf_head(f, type, version);
    return f;
}

struct wire_wr fbuf_writer(struct fbuf *f)
{
    return wire_wr(f->data + FRAME_HEAD_BYTES, f->cap - FRAME_HEAD_BYTES);
}

int fbuf_end(struct fbuf *f, const struct wire_wr *w)
{
    if (w->bad)
        return -SATCHEL_ETOOBIG;
    f->n = FRAME_HEAD_BYTES + (uint32_t)wire_len(w);
    struct wire_wr head = wire_wr(f->data, FRAME_HEAD_BYTES);
    wire_put_u32(&head, (uint32_t)wire_len(w));
    return 0;
}

struct fbuf *fbuf_ref(struct fbuf *f)
{
    unsigned before = atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
    assert(before > 0);
    (void)before;
    return f;
}

void fbuf_unref(struct fbuf *f)
{
    if (!f || atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) != 1)
        return;
    free(f);
}
