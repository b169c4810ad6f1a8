/* frame.h - frames out of a stream of received bytes.
 *
 *   struct slice in = what was received;
 *   while ((rc = frame_split_next(&s, &in, &f)) > 0)
 *       use f.payload, until the next call
 *
 * A frame that is whole in the input is borrowed from it; one that is not is put together in memory of the splitter's,
 * which is bounded by the largest frame allowed.  Thread: one owner. */
#pragma once
#include "cluster/link/fbuf.h"

struct frame {
    uint16_t type, version;
    struct slice payload;
};

struct frame_split {
    uint8_t *part; /* the frame that is not whole yet */
    size_t part_n, part_cap;
    uint32_t payload_max;
    bool given; /* part was handed out: it goes at the next call */
};

/* payload_max may be changed between frames: a stranger's are small. */
void frame_split_init(struct frame_split *s, uint32_t payload_max);
void frame_split_free(struct frame_split *s);
/* 1: a frame, taken off `in`.  0: `in` is used up.  -SATCHEL_ETOOBIG: a length over the bound, which means that the
 * stream is damaged; -SATCHEL_ENOMEM.  After an error the stream is of no use any more. */
int frame_split_next(struct frame_split *s, struct slice *in, struct frame *f_r);
