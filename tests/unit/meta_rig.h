/* meta_rig.h - what messages of tests say of themselves. */
#pragma once
#include "spool/base/wire.h"
#include "spool/format/record.h"

/* The body lies in so many chunks, of so many bytes together.  0: it does not. */
static inline void rig_put_chunks(struct wire_wr *meta, uint32_t chunks, uint64_t bytes)
{
    uint8_t v[12];
    struct wire_wr w = wire_wr(v, sizeof v);
    wire_put_u32(&w, chunks);
    wire_put_u64(&w, bytes);
    if (chunks)
        meta_put(meta, RT_CHUNKS, slice_of(v, sizeof v));
}
