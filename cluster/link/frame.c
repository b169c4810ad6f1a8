/* frame.c - the table of frames, and the splitter. */
#include "cluster/link/frame.h"

#include "cluster/link/peers.h"
#include "spool/base/copy.h"
#include "spool/base/err.h"

#include <stdlib.h>

enum { PART_KEEP_BYTES = 64 * 1024 }; /* a larger one is given back when its frame is done */

const char *frame_name(uint16_t type)
{
    switch (type) {
#define X(name, number, version)                                                                                       \
    case number:                                                                                                       \
        return #name;
#include "cluster/link/frames.def"
#undef X
    default:
        return NULL;
    }
}

void frame_split_init(struct frame_split *s, uint32_t payload_max)
{
    *s = (struct frame_split){.payload_max = payload_max};
}

void frame_split_free(struct frame_split *s)
{
    free(s->part);
    *s = (struct frame_split){0};
}

/* Length of the frame that begins here, head included; 0: the head is not whole. */
static int64_t frame_len(const struct frame_split *s, const uint8_t *p, size_t n)
{
    struct wire_rd r = wire_rd(slice_of(p, n));
    uint32_t payload = wire_u32(&r);
    if (n < FRAME_HEAD_BYTES)
        return 0;
    return payload > s->payload_max ? -SATCHEL_ETOOBIG : (int64_t)payload + FRAME_HEAD_BYTES;
}

static void frame_at(const uint8_t *p, size_t n, struct frame *f_r)
{
    struct wire_rd r = wire_rd(slice_of(p, n));
    (void)wire_u32(&r);
    f_r->type = wire_u16(&r);
    f_r->version = wire_u16(&r);
    f_r->payload = wire_get(&r, n - FRAME_HEAD_BYTES);
}

static void frame_split_forget(struct frame_split *s)
{
    s->part_n = 0;
    s->given = false;
    if (s->part_cap <= PART_KEEP_BYTES)
        return;
    free(s->part);
    s->part = NULL;
    s->part_cap = 0;
}

static int frame_split_reserve(struct frame_split *s, size_t n)
{
    if (n <= s->part_cap)
        return 0;
    size_t cap = n < 4096 ? 4096 : n;
    uint8_t *p = realloc(s->part, cap);
    if (!p)
        return -SATCHEL_ENOMEM;
    s->part = p;
    s->part_cap = cap;
    return 0;
}

/* Takes input until part holds n bytes.  1: it does. */
static int frame_split_take(struct frame_split *s, struct slice *in, size_t n)
{
    int rc = frame_split_reserve(s, n);
    if (rc < 0)
        return rc;
    if (s->part_n < n && in->n > 0) {
        size_t more = n - s->part_n < in->n ? n - s->part_n : in->n;
        copy_long(s->part + s->part_n, in->p, more);
        s->part_n += more;
        *in = slice_of(in->p + more, in->n - more);
    }
    return s->part_n >= n;
}

static int frame_split_join(struct frame_split *s, struct slice *in, struct frame *f_r)
{
    int rc = frame_split_take(s, in, FRAME_HEAD_BYTES);
    if (rc <= 0)
        return rc;
    int64_t n = frame_len(s, s->part, s->part_n);
    if (n < 0)
        return (int)n;
    rc = frame_split_take(s, in, (size_t)n);
    if (rc <= 0)
        return rc;
    frame_at(s->part, (size_t)n, f_r);
    s->given = true;
    return 1;
}

int frame_split_next(struct frame_split *s, struct slice *in, struct frame *f_r)
{
    if (s->given)
        frame_split_forget(s);
    if (in->n == 0)
        return 0;
    if (s->part_n > 0)
        return frame_split_join(s, in, f_r);
    int64_t n = frame_len(s, in->p, in->n);
    if (n < 0)
        return (int)n;
    if (n == 0 || (size_t)n > in->n)
        return frame_split_join(s, in, f_r);
    frame_at(in->p, (size_t)n, f_r);
    *in = slice_of(in->p + n, in->n - (size_t)n);
    return 1;
}
