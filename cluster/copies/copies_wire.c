/* copies_wire.c - payloads of copies' frames: bounded writers and readers. */
#include "cluster/copies/copies_wire.h"

#include "spool/base/err.h"

#include <stdlib.h>

void wire_put_id(struct wire_wr *w, const struct msgid *id)
{
    wire_put(w, id->incarnation, sizeof id->incarnation);
    wire_put_u64(w, id->counter);
}

struct msgid wire_id(struct wire_rd *r)
{
    struct msgid id = {.counter = 0};
    struct slice s = wire_get(r, sizeof id.incarnation);
    if (s.n)
        memcpy(id.incarnation, s.p, sizeof id.incarnation);
    id.counter = wire_u64(r);
    return id;
}

void wire_put_name(struct wire_wr *w, struct slice name)
{
    if (name.n > WIRE_NAME_MAX) {
        w->bad = true;
        return;
    }
    wire_put_u8(w, (uint8_t)name.n);
    wire_put(w, name.p, name.n);
}

struct slice wire_name(struct wire_rd *r)
{
    return wire_get(r, wire_u8(r));
}

void wire_put_cursor(struct wire_wr *w, struct slice cursor)
{
    wire_put_u16(w, (uint16_t)cursor.n);
    wire_put(w, cursor.p, cursor.n);
}

struct slice wire_cursor(struct wire_rd *r)
{
    uint16_t n = wire_u16(r);
    if (n > QUEUE_CURSOR_MAX)
        r->bad = true;
    return wire_get(r, n);
}

uint32_t wire_count(struct wire_rd *r, uint32_t max, size_t least)
{
    uint32_t n = wire_u32(r);
    if (!r->bad && (n > max || n > wire_left(r) / least))
        r->bad = true;
    return r->bad ? 0 : n;
}

static void put_msg_state(struct wire_wr *w, const struct msg_state *s)
{
    uint8_t text[WIRE_STATE_MAX];
    size_t n = state_encode(s, text, sizeof text);
    wire_put_u16(w, (uint16_t)n);
    wire_put(w, text, n);
    w->bad |= n == 0;
}

void wire_put_state(struct wire_wr *w, const struct storage_state *st)
{
    size_t owed = st->owed.n / 16;
    wire_put_id(w, &st->id);
    wire_put_u64(w, st->arrival_us);
    wire_put_name(w, st->domain);
    w->bad |= owed > 255;
    wire_put_u8(w, (uint8_t)owed);
    wire_put(w, st->owed.p, owed * 16);
    put_msg_state(w, &st->state);
}

void wire_state(struct wire_rd *r, struct storage_state *st_r)
{
    *st_r = (struct storage_state){.id = wire_id(r)};
    st_r->arrival_us = wire_u64(r);
    st_r->domain = wire_name(r);
    st_r->owed = wire_get(r, (size_t)wire_u8(r) * 16);
    struct slice s = wire_get(r, wire_u16(r));
    if (r->bad || st_r->domain.n == 0 || st_r->id.counter == 0 || state_decode(s, &st_r->state) < 0)
        r->bad = true;
}

void wire_put_entry(struct wire_wr *w, const struct msgid *id, uint64_t arrival_us, const struct msg_state *s)
{
    wire_put_id(w, id);
    wire_put_u64(w, arrival_us);
    put_msg_state(w, s);
}

void wire_entry(struct wire_rd *r, struct wire_entry *e_r)
{
    e_r->id = wire_id(r);
    e_r->arrival_us = wire_u64(r);
    e_r->state = wire_get(r, wire_u16(r));
}

struct fbuf *wire_ids_frame(uint16_t type, uint16_t version, const uint64_t *token, const struct msgid *ids, size_t n)
{
    struct fbuf *f = fbuf_new(type, version, (token ? 8 : 0) + 4 + n * WIRE_ID_BYTES);
    if (!f)
        return NULL;
    struct wire_wr w = fbuf_writer(f);
    if (token)
        wire_put_u64(&w, *token);
    wire_put_u32(&w, (uint32_t)n);
    for (size_t i = 0; i < n; i++)
        wire_put_id(&w, &ids[i]);
    if (fbuf_end(f, &w) == 0)
        return f;
    fbuf_unref(f);
    return NULL;
}

/* ---- PUT */

static void put_body(struct wire_wr *w, const struct record *rec, const struct slice *parts, uint32_t parts_n)
{
    if (!parts)
        wire_put(w, rec->body.p, rec->body.n);
    for (uint32_t i = 0; parts && i < parts_n; i++)
        wire_put(w, parts[i].p, parts[i].n);
}

static struct record record_in(const struct record *rec, const uint8_t *at)
{
    struct record r = *rec;
    r.copyset.p = at + REC_HEADER_BYTES;
    r.meta.p = r.copyset.p + r.copyset.n;
    r.body.p = r.meta.p + r.meta.n;
    return r;
}

struct fbuf *wire_put_frame(const struct wire_put *p, const struct slice *parts, uint32_t parts_n, struct record *rec_r)
{
    const struct record *rec = &p->rec;
    size_t head = record_head_size(rec), need = WIRE_PUT_HEAD + head + rec->body.n;
    struct fbuf *f = need > FRAME_PAYLOAD_MAX ? NULL : fbuf_new(FRAME_PUT, FRAME_PUT_VERSION, need);
    if (!f)
        return NULL;
    struct wire_wr w = fbuf_writer(f);
    wire_put_u64(&w, p->request);
    wire_put_u64(&w, p->token);
    wire_put_u32(&w, p->flags);
    wire_put_u16(&w, p->copies);
    wire_put_u16(&w, 0);
    uint8_t *at = w.p;
    record_encode_head(rec, 0, at);
    w.p += head;
    put_body(&w, rec, parts, parts_n);
    if (wire_len(&w) != need || fbuf_end(f, &w) < 0) {
        fbuf_unref(f);
        return NULL;
    }
    if (rec_r)
        *rec_r = record_in(rec, at);
    return f;
}

int wire_put_parse(struct slice payload, struct wire_put *p_r)
{
    size_t size;
    struct wire_rd r = wire_rd(payload);
    *p_r = (struct wire_put){.request = wire_u64(&r)};
    p_r->token = wire_u64(&r);
    p_r->flags = wire_u32(&r);
    p_r->copies = wire_u16(&r);
    wire_u16(&r);
    if (r.bad)
        return -SATCHEL_EINVAL;
    if (record_decode(slice_of(r.p, wire_left(&r)), 0, &p_r->rec, &size) < 0 || !record_body_ok(&p_r->rec))
        return -SATCHEL_EDAMAGED;
    bool stored = p_r->rec.type == REC_MSG || p_r->rec.type == REC_CHUNK;
    return stored && p_r->rec.id.counter ? 0 : -SATCHEL_EINVAL;
}
