/* outq.h - frames on their way out of one link: references in a ring, and how far the first of them has gone.
 * Thread: one owner. */
#pragma once
#include "cluster/link/fbuf.h"

struct outq {
    struct fbuf **ring;
    uint32_t cap, head, n; /* cap: a power of two, or 0 */
    uint32_t gone;         /* bytes of the first frame that are out */
    uint64_t bytes;        /* still to go */
};

/* Takes a reference.  0 or -SATCHEL_ENOMEM. */
int outq_push(struct outq *q, struct fbuf *f);
/* What goes next, at most cap bytes: borrowed from the frame where that fills the piece or ends the queue, else
 * gathered from several frames in scratch (cap bytes). */
struct slice outq_gather(const struct outq *q, uint8_t *scratch, size_t cap);
/* So many bytes are out. */
void outq_drop(struct outq *q, size_t n);
void outq_free(struct outq *q);
