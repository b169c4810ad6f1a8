/* letters.c - the messages of a history. */
#include "tests/csim/letters.h"

#include <assert.h>
#include <stdio.h>

#include "spool/base/wire.h"

uint32_t letters_life(struct letters *l)
{
    assert(l->lives_n < LETTER_LIVES_MAX);
    return l->lives_n++;
}

/* Incarnations look random to the cores. */
static void life_incarnation(uint32_t life, uint8_t out_r[16])
{
    uint64_t mix = (uint64_t)(life + 1) * 0x9e3779b97f4a7c15u;
    memcpy(out_r, &mix, 8);
    memcpy(out_r + 8, "csimlife", 8);
}

static int id_order(const struct msgid *a, const struct msgid *b)
{
    int c = memcmp(a->incarnation, b->incarnation, sizeof a->incarnation);
    return c ? c : (a->counter > b->counter) - (a->counter < b->counter);
}

/* First place in by_key whose ID is not before this one. */
static uint32_t id_place(const struct letters *l, const struct msgid *id)
{
    uint32_t lo = 0, hi = l->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (id_order(&l->all[l->by_key[mid]].id, id) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Counters are dense in a life; the letters of several lives mix. */
struct letter *letters_new(struct letters *l, uint32_t life)
{
    if (l->n == LETTERS_MAX)
        return NULL;
    struct letter *x = &l->all[l->n];
    *x = (struct letter){.number = l->n};
    life_incarnation(life, x->id.incarnation);
    x->id.counter = ++l->counter[life];
    uint32_t at = id_place(l, &x->id);
    memmove(&l->by_key[at + 1], &l->by_key[at], (l->n - at) * sizeof l->by_key[0]);
    l->by_key[at] = l->n++;
    return x;
}

struct letter *letters_find(struct letters *l, const struct msgid *id)
{
    uint32_t at = id_place(l, id);
    if (at == l->n || !msgid_eq(&l->all[l->by_key[at]].id, id))
        return NULL;
    return &l->all[l->by_key[at]];
}

bool letter_final(const struct letter *l)
{
    for (uint32_t i = 0; i < l->items_n; i++)
        if (l->items[i].sunk == 0 && !l->items[i].refused)
            return false;
    return true;
}

void letter_body(const struct letter *l, uint64_t off, uint8_t *out_r, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out_r[i] = (uint8_t)(((off + i) ^ ((off + i) >> 7)) * 31 + l->number * 101);
}

uint64_t letter_chunk_bytes(const struct letter *l, uint32_t chunk)
{
    uint64_t left = l->body_bytes - (uint64_t)chunk * LETTER_CHUNK_BYTES;
    return left < LETTER_CHUNK_BYTES ? left : LETTER_CHUNK_BYTES;
}

size_t letter_meta(const struct letter *l, struct slice domain, uint8_t *out_r, size_t cap)
{
    struct wire_wr w = wire_wr(out_r, cap);
    meta_put(&w, RT_DOMAIN, domain);
    meta_put(&w, RT_SENDER, SLICE_LIT("sender@example.org"));
    for (uint32_t i = 0; i < l->items_n; i++) {
        char rcpt[32];
        snprintf(rcpt, sizeof rcpt, "r%u", i);
        meta_put(&w, RT_RCPT, slice_str(rcpt));
    }
    meta_put(&w, RT_HELO, SLICE_LIT("client.example.org"));
    meta_put(&w, RT_TRACE, SLICE_LIT("Received: from client.example.org\r\n"));
    if (l->chunks > 0) {
        uint8_t value[12];
        struct wire_wr v = wire_wr(value, sizeof value);
        wire_put_u32(&v, l->chunks);
        wire_put_u64(&v, l->body_bytes);
        meta_put(&w, RT_CHUNKS, slice_of(value, sizeof value));
    }
    assert(!w.bad);
    return wire_len(&w);
}
