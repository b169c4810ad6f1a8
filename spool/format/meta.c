/* meta.c - the TLVs between a record's header and its body. */
#include "spool/base/err.h"
#include "spool/base/status.h"
#include "spool/base/wire.h"
#include "spool/format/record.h"

enum { LONG_LENGTH = 0xffff, TLV_HEAD = 4 };

void meta_put(struct wire_wr *w, uint16_t tag, struct slice value)
{
    wire_put_u16(w, tag);
    if (value.n < LONG_LENGTH) {
        wire_put_u16(w, (uint16_t)value.n);
    } else {
        wire_put_u16(w, LONG_LENGTH);
        wire_put_u32(w, (uint32_t)value.n);
    }
    wire_put(w, value.p, value.n);
}

void meta_fill(struct wire_wr *w)
{
    static const uint8_t zeros[REC_ALIGN];
    size_t over = wire_len(w) % REC_ALIGN;
    if (over)
        meta_put(w, RT_FILL, slice_of(zeros, (2 * REC_ALIGN - TLV_HEAD - over) % REC_ALIGN));
}

bool meta_next(struct wire_rd *r, struct meta_tlv *tlv_r)
{
    if (r->bad || wire_left(r) == 0)
        return false;
    tlv_r->tag = wire_u16(r);
    uint32_t n = wire_u16(r);
    if (n == LONG_LENGTH)
        n = wire_u32(r);
    tlv_r->value = wire_get(r, n);
    return !r->bad;
}

struct slice meta_find(struct slice meta, uint16_t tag)
{
    struct wire_rd r = wire_rd(meta);
    for (struct meta_tlv t; meta_next(&r, &t);)
        if (t.tag == tag)
            return t.value;
    return (struct slice){NULL, 0};
}

uint32_t meta_rcpts(struct slice meta)
{
    struct wire_rd r = wire_rd(meta);
    uint32_t n = 0;
    for (struct meta_tlv t; meta_next(&r, &t);)
        n += t.tag == RT_RCPT;
    return n;
}

enum { RESULT_FIXED_BYTES = 4 + 1 + 2 + 1 + 2 + 2 };

void result_put(struct wire_wr *w, uint32_t item, enum item_end end, const struct smtp_status *st)
{
    size_t text = strnlen(st->text, sizeof st->text - 1);
    wire_put_u16(w, RT_RESULT);
    wire_put_u16(w, (uint16_t)(RESULT_FIXED_BYTES + text));
    wire_put_u32(w, item);
    wire_put_u8(w, (uint8_t)end);
    wire_put_u16(w, st->code);
    wire_put_u8(w, st->class);
    wire_put_u16(w, st->subject);
    wire_put_u16(w, st->detail);
    wire_put(w, st->text, text);
}

int result_parse(struct slice value, uint32_t *item_r, enum item_end *end_r, struct smtp_status *st_r)
{
    struct wire_rd r = wire_rd(value);
    *item_r = wire_u32(&r);
    *end_r = (enum item_end)wire_u8(&r);
    st_r->code = wire_u16(&r);
    st_r->class = wire_u8(&r);
    st_r->subject = wire_u16(&r);
    st_r->detail = wire_u16(&r);
    size_t n = wire_left(&r);
    struct slice text = wire_get(&r, n < sizeof st_r->text ? n : sizeof st_r->text - 1);
    if (r.bad)
        return -SATCHEL_EINVAL;
    if (text.n)
        memcpy(st_r->text, text.p, text.n);
    st_r->text[text.n] = 0;
    return 0;
}
