/* frame_rig.h - numbered frames. */
#pragma once
#include "cluster/link/peers.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { SEQ_TYPE = FRAME_PUT };

/* n: bytes of payload, 8 at least: the number, and what can be told from it. */
static struct fbuf *seq_frame(uint64_t seq, size_t n)
{
    struct fbuf *f = fbuf_new(SEQ_TYPE, 1, n);
    struct wire_wr w = fbuf_writer(f);
    wire_put_u64(&w, seq);
    for (size_t i = 8; i < n; i++)
        *w.p++ = (uint8_t)(seq + i);
    assert_int_equal(fbuf_end(f, &w), 0);
    return f;
}
