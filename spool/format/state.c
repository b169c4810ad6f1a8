/* state.c - the changing part of a message: which items are final, when the rest is due.
 *
 * Encoded: u32 seq, u32 attempts, u64 due_us, u8 flags (bit 0: held), u32 items, u32 live, then 4 bits an item, low
 * nibble first.  A reader ignores what follows. */
#include "spool/base/err.h"
#include "spool/base/wire.h"
#include "spool/format/record.h"

#include <assert.h>

enum { STATE_HELD = 1 << 0 };

enum item_end state_end(const struct msg_state *s, uint32_t item)
{
    assert(item < s->items && s->items <= STATE_ITEMS_MAX);
    return (enum item_end)(s->ends[item / 2] >> (item % 2 * 4) & 15);
}

void state_finish(struct msg_state *s, uint32_t item, enum item_end end)
{
    if (end == ITEM_LIVE || state_end(s, item) != ITEM_LIVE)
        return;
    s->ends[item / 2] = (uint8_t)(s->ends[item / 2] | end << (item % 2 * 4));
    s->live--;
}

size_t state_encode(const struct msg_state *s, uint8_t *out_r, size_t cap)
{
    struct wire_wr w = wire_wr(out_r, cap);
    wire_put_u32(&w, s->seq);
    wire_put_u32(&w, s->attempts);
    wire_put_u64(&w, s->due_us);
    wire_put_u8(&w, s->held ? STATE_HELD : 0);
    wire_put_u32(&w, s->items);
    wire_put_u32(&w, s->live);
    wire_put(&w, s->ends, (s->items + 1) / 2);
    return w.bad ? 0 : wire_len(&w);
}

static uint32_t count_live(const struct msg_state *s)
{
    uint32_t live = 0;
    for (uint32_t i = 0; i < s->items; i++)
        live += state_end(s, i) == ITEM_LIVE;
    return live;
}

int state_decode(struct slice in, struct msg_state *s_r)
{
    struct wire_rd r = wire_rd(in);
    *s_r = (struct msg_state){.seq = 0};
    s_r->seq = wire_u32(&r);
    s_r->attempts = wire_u32(&r);
    s_r->due_us = wire_u64(&r);
    s_r->held = wire_u8(&r) & STATE_HELD;
    s_r->items = wire_u32(&r);
    s_r->live = wire_u32(&r);
    if (r.bad || s_r->items > STATE_ITEMS_MAX)
        return -SATCHEL_EINVAL;
    struct slice ends = wire_get(&r, (s_r->items + 1) / 2);
    if (r.bad)
        return -SATCHEL_EINVAL;
    memcpy(s_r->ends, ends.p, ends.n);
    return count_live(s_r) == s_r->live ? 0 : -SATCHEL_EINVAL;
}
