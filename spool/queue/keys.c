/* keys.c - keys and values of the queue in the index; the layout is in keys.h. */
#include "spool/queue/keys.h"
#include "spool/base/err.h"
#include "spool/base/wire.h"
#include "spool/base/xxh.h"
#include "spool/queue/queue.h"
#include <assert.h>
#include <endian.h>

static void key_bytes(struct key *k, const void *p, size_t n)
{
    assert(k->n + n <= KEY_MAX);
    if (n)
        memcpy(k->b + k->n, p, n);
    k->n += n;
}

static void key_be64(struct key *k, uint64_t v)
{
    uint64_t be = htobe64(v);
    key_bytes(k, &be, sizeof be);
}

static void key_msgid(struct key *k, const struct msgid *id)
{
    uint8_t raw[MSGID_KEY_BYTES];
    msgid_key(id, raw);
    key_bytes(k, raw, sizeof raw);
}

static void key_start(struct key *k, uint8_t kind)
{
    k->n = 1;
    k->b[0] = kind;
}

static uint64_t be64_at(const uint8_t *p)
{
    uint64_t be;
    memcpy(&be, p, sizeof be);
    return be64toh(be);
}

static void msgid_at(const uint8_t *p, struct msgid *id_r)
{
    memcpy(id_r->incarnation, p, 16);
    id_r->counter = be64_at(p + 16);
}

int place_cmp(const struct place *a, const struct place *b)
{
    if (a->arrival_us != b->arrival_us)
        return a->arrival_us < b->arrival_us ? -1 : 1;
    int c = memcmp(a->id.incarnation, b->id.incarnation, 16);
    if (c)
        return c;
    return (a->id.counter > b->id.counter) - (a->id.counter < b->id.counter);
}

struct key key_bag_from(uint8_t kind, struct slice domain)
{
    struct key k;
    assert(domain.n <= KEY_DOMAIN_MAX);
    key_start(&k, kind);
    key_bytes(&k, domain.p, domain.n);
    key_bytes(&k, "\0", 1);
    return k;
}

struct key key_bag_to(uint8_t kind, struct slice domain)
{
    struct key k = key_bag_from(kind, domain);
    k.b[k.n - 1] = 1;
    return k;
}

struct key key_queue(struct slice domain, const struct place *at)
{
    struct key k = key_bag_from(KEY_QUEUE, domain);
    key_be64(&k, at->arrival_us);
    key_msgid(&k, &at->id);
    return k;
}

struct key key_wait(struct slice domain, uint64_t due_us, const struct place *at)
{
    struct key k = key_bag_from(KEY_WAIT, domain);
    key_be64(&k, due_us);
    key_be64(&k, at->arrival_us);
    key_msgid(&k, &at->id);
    return k;
}

static struct key key_of_id(uint8_t kind, const struct msgid *id)
{
    struct key k;
    key_start(&k, kind);
    key_msgid(&k, id);
    return k;
}

struct key key_id(const struct msgid *id)
{
    return key_of_id(KEY_ID, id);
}

struct key key_open(const struct msgid *id)
{
    return key_of_id(KEY_OPEN, id);
}

struct key key_tomb(const struct msgid *id)
{
    return key_of_id(KEY_TOMB, id);
}

struct key key_owed(const struct msgid *id)
{
    return key_of_id(KEY_OWED, id);
}

struct key key_tomb_old(uint64_t final_us, const struct msgid *id)
{
    struct key k;
    key_start(&k, KEY_TOMB_OLD);
    key_be64(&k, final_us);
    key_msgid(&k, id);
    return k;
}

struct key key_chunk(const struct msgid *id, uint32_t chunk)
{
    struct key k;
    uint32_t be = htobe32(chunk);
    key_start(&k, KEY_CHUNK);
    key_msgid(&k, id);
    key_bytes(&k, &be, sizeof be);
    return k;
}

struct key key_seg(uint64_t seg)
{
    struct key k;
    key_start(&k, KEY_SEG);
    key_be64(&k, seg);
    return k;
}

struct key key_domain(struct slice domain)
{
    struct key k;
    assert(domain.n <= KEY_DOMAIN_MAX);
    key_start(&k, KEY_DOMAIN);
    key_bytes(&k, domain.p, domain.n);
    return k;
}

struct key key_after(struct key k)
{
    key_bytes(&k, "\0", 1);
    return k;
}

struct key key_kind(uint8_t kind)
{
    struct key k;
    key_start(&k, kind);
    return k;
}

bool key_queue_parse(struct slice key, struct slice *domain_r, struct place *at_r)
{
    enum { TAIL = 1 + 8 + MSGID_KEY_BYTES };
    if (key.n < 1 + TAIL || key.p[0] != KEY_QUEUE || key.p[key.n - TAIL] != 0)
        return false;
    *domain_r = slice_of(key.p + 1, key.n - 1 - TAIL);
    const uint8_t *tail = key.p + key.n - TAIL + 1;
    at_r->arrival_us = be64_at(tail);
    msgid_at(tail + 8, &at_r->id);
    return true;
}

bool key_wait_parse(struct slice key, uint64_t *due_us_r, struct place *at_r)
{
    enum { TAIL = 1 + 8 + 8 + MSGID_KEY_BYTES };
    if (key.n < 1 + TAIL || key.p[0] != KEY_WAIT || key.p[key.n - TAIL] != 0)
        return false;
    const uint8_t *tail = key.p + key.n - TAIL + 1;
    *due_us_r = be64_at(tail);
    at_r->arrival_us = be64_at(tail + 8);
    msgid_at(tail + 16, &at_r->id);
    return true;
}

bool key_seg_parse(struct slice key, uint64_t *seg_r)
{
    if (key.n != 9 || key.p[0] != KEY_SEG)
        return false;
    *seg_r = be64_at(key.p + 1);
    return true;
}

bool key_id_parse(struct slice key, struct msgid *id_r)
{
    if (key.n < 1 + MSGID_KEY_BYTES)
        return false;
    msgid_at(key.p + 1, id_r);
    return true;
}

bool key_tomb_old_parse(struct slice key, uint64_t *final_us_r, struct msgid *id_r)
{
    if (key.n != 1 + 8 + MSGID_KEY_BYTES || key.p[0] != KEY_TOMB_OLD)
        return false;
    *final_us_r = be64_at(key.p + 1);
    msgid_at(key.p + 9, id_r);
    return true;
}

/* ---- entries */

uint64_t queue_entry_digest(const struct msgid *id, const struct msg_state *s)
{
    uint8_t in[MSGID_KEY_BYTES + 4 + sizeof s->ends];
    struct wire_wr w = wire_wr(in, sizeof in);
    msgid_key(id, in);
    w.p += MSGID_KEY_BYTES;
    wire_put_u32(&w, s->items);
    wire_put(&w, s->ends, (s->items + 1) / 2);
    return XXH3_64bits(in, wire_len(&w));
}

void state_fresh(struct msg_state *s_r, uint32_t items)
{
    memset(s_r, 0, sizeof *s_r);
    s_r->items = s_r->live = items;
}

bool state_is_fresh(const struct msg_state *s)
{
    return s->seq == 0 && s->attempts == 0 && s->due_us == 0 && !s->held && s->live == s->items;
}

bool entry_old_add(struct entry *e, uint64_t seg)
{
    for (uint32_t i = 0; i < e->olds_n; i++)
        if (e->olds[i] == seg)
            return true;
    if (e->olds_n == ENTRY_OLDS_MAX)
        return false;
    e->olds[e->olds_n++] = seg;
    return true;
}

size_t entry_encode(const struct entry *e, uint8_t *out_r)
{
    bool plain = state_is_fresh(&e->state);
    struct wire_wr w = wire_wr(out_r, ENTRY_VALUE_MAX);
    wire_put_u8(&w, (uint8_t)((e->chunks ? ENTRY_CHUNKS : 0) | (e->defer_pos ? ENTRY_DEFERRED : 0) |
                              (e->olds_n ? ENTRY_OLDS : 0) | (plain ? ENTRY_PLAIN : 0)));
    wire_put_u64(&w, e->pos);
    wire_put_u32(&w, e->size);
    if (e->chunks) {
        wire_put_u64(&w, e->body_bytes);
        wire_put_u32(&w, e->chunks);
    } else {
        wire_put_u32(&w, (uint32_t)e->body_bytes);
    }
    if (e->defer_pos)
        wire_put_u64(&w, e->defer_pos);
    if (e->olds_n)
        wire_put_u8(&w, (uint8_t)e->olds_n);
    for (uint32_t i = 0; i < e->olds_n; i++)
        wire_put_u64(&w, e->olds[i]);
    if (plain)
        wire_put_u32(&w, e->state.items);
    else
        w.p += state_encode(&e->state, w.p, (size_t)(w.end - w.p));
    assert(!w.bad);
    return wire_len(&w);
}

int entry_decode(struct slice in, struct entry *e_r)
{
    struct wire_rd r = wire_rd(in);
    uint8_t flags = wire_u8(&r);
    e_r->pos = wire_u64(&r);
    e_r->size = wire_u32(&r);
    e_r->body_bytes = flags & ENTRY_CHUNKS ? wire_u64(&r) : wire_u32(&r);
    e_r->chunks = flags & ENTRY_CHUNKS ? wire_u32(&r) : 0;
    e_r->defer_pos = flags & ENTRY_DEFERRED ? wire_u64(&r) : 0;
    e_r->olds_n = flags & ENTRY_OLDS ? wire_u8(&r) : 0;
    if (e_r->olds_n > ENTRY_OLDS_MAX)
        return -SATCHEL_EDAMAGED;
    for (uint32_t i = 0; i < e_r->olds_n; i++)
        e_r->olds[i] = wire_u64(&r);
    if (flags & ENTRY_PLAIN)
        state_fresh(&e_r->state, wire_u32(&r));
    else if (state_decode(slice_of(r.p, wire_left(&r)), &e_r->state))
        return -SATCHEL_EDAMAGED;
    return r.bad ? -SATCHEL_EDAMAGED : 0;
}
