/* segs.c - counters of the segments in use, in memory and in the index. */
#include "spool/queue/segs.h"
#include "spool/base/err.h"
#include "spool/base/wire.h"
#include <assert.h>
#include <stdlib.h>

enum { SEG_VALUE_FIXED = 128, DEFER_GUESS_BYTES = 300 };

static size_t segs_place(const struct segs *t, uint64_t seg)
{
    size_t lo = 0, hi = t->n;
    if (t->n && t->items[t->n - 1]->seg < seg)
        return t->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (t->items[mid]->seg < seg)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct seg *segs_find(const struct segs *t, uint64_t seg)
{
    size_t i = segs_place(t, seg);
    return i < t->n && t->items[i]->seg == seg ? t->items[i] : NULL;
}

struct seg *segs_need(struct segs *t, uint64_t seg)
{
    size_t i = segs_place(t, seg);
    if (i < t->n && t->items[i]->seg == seg)
        return t->items[i];
    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 64;
        t->items = realloc(t->items, t->cap * sizeof *t->items);
    }
    struct seg *s = calloc(1, sizeof *s);
    if (!t->items || !s)
        abort();
    *s = (struct seg){.seg = seg, .dirty = true};
    memmove(t->items + i + 1, t->items + i, (t->n - i) * sizeof *t->items);
    t->items[i] = s;
    t->n++;
    return s;
}

static void seg_free(struct seg *s)
{
    free(s->kills);
    free(s);
}

void segs_drop(struct segs *t, uint64_t seg)
{
    size_t i = segs_place(t, seg);
    if (i == t->n || t->items[i]->seg != seg)
        return;
    t->messages -= t->items[i]->msgs;
    t->tombs -= t->items[i]->tombs;
    t->owed -= t->items[i]->owed;
    seg_free(t->items[i]);
    memmove(t->items + i, t->items + i + 1, (t->n - i - 1) * sizeof *t->items);
    t->n--;
}

void segs_free(struct segs *t)
{
    for (size_t i = 0; i < t->n; i++)
        seg_free(t->items[i]);
    free(t->items);
    *t = (struct segs){0};
}

void seg_kill(struct seg *s, uint64_t killed)
{
    size_t lo = 0, hi = s->kills_n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (s->kills[mid] < killed)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < s->kills_n && s->kills[lo] == killed)
        return;
    s->dirty = true;
    if (s->kills_n == SEG_KILLS_MAX) {
        s->kills_many = true;
        return;
    }
    if (s->kills_n == s->kills_cap) {
        s->kills_cap = s->kills_cap ? s->kills_cap * 2 : 8;
        s->kills = realloc(s->kills, s->kills_cap * sizeof *s->kills);
        if (!s->kills)
            abort();
    }
    memmove(s->kills + lo + 1, s->kills + lo, (s->kills_n - lo) * sizeof *s->kills);
    s->kills[lo] = killed;
    s->kills_n++;
}

uint32_t seg_kills_live(const struct segs *t, const struct seg *s)
{
    uint32_t live = s->kills_many ? 1 : 0;
    for (uint32_t i = 0; i < s->kills_n; i++)
        live += s->kills[i] != s->seg && segs_find(t, s->kills[i]) != NULL;
    return live;
}

bool seg_is_dead(const struct segs *t, const struct seg *s)
{
    if (s->emptied)
        return true;
    return s->msgs == 0 && s->chunks == 0 && s->defers == 0 && s->tombs == 0 && s->retained == 0 &&
           seg_kills_live(t, s) == 0;
}

/* Of the DONEs, as large a part as of the segments that they kill, or those that are tombstones. */
uint64_t seg_keep_bytes(const struct segs *t, const struct seg *s)
{
    uint64_t dones = 0;
    if (s->kills_many)
        dones = s->done_bytes;
    else if (s->kills_n)
        dones = s->done_bytes * seg_kills_live(t, s) / s->kills_n;
    if ((uint64_t)s->tombs * DEFER_GUESS_BYTES > dones)
        dones = (uint64_t)s->tombs * DEFER_GUESS_BYTES;
    return s->live_bytes + s->retained_bytes + (uint64_t)s->defers * DEFER_GUESS_BYTES + dones;
}

/* ---- in the index */

static size_t seg_encode(const struct seg *s, uint8_t *out_r, size_t cap)
{
    struct wire_wr w = wire_wr(out_r, cap);
    wire_put_u32(&w, s->end);
    wire_put_u32(&w, s->msgs);
    wire_put_u32(&w, s->chunks);
    wire_put_u64(&w, s->live_bytes);
    wire_put_u32(&w, s->defers);
    wire_put_u32(&w, s->retained);
    wire_put_u64(&w, s->retained_bytes);
    wire_put_u64(&w, s->done_bytes);
    wire_put_u64(&w, s->moved_bytes);
    wire_put_u32(&w, s->tombs);
    wire_put_u32(&w, s->owed);
    wire_put_u8(&w, s->kills_many);
    wire_put_u32(&w, s->kills_n);
    for (uint32_t i = 0; i < s->kills_n; i++)
        wire_put_u64(&w, s->kills[i]);
    assert(!w.bad);
    return wire_len(&w);
}

static int seg_decode(struct slice in, struct seg *s)
{
    struct wire_rd r = wire_rd(in);
    s->end = wire_u32(&r);
    s->msgs = wire_u32(&r);
    s->chunks = wire_u32(&r);
    s->live_bytes = wire_u64(&r);
    s->defers = wire_u32(&r);
    s->retained = wire_u32(&r);
    s->retained_bytes = wire_u64(&r);
    s->done_bytes = wire_u64(&r);
    s->moved_bytes = wire_u64(&r);
    s->tombs = wire_u32(&r);
    s->owed = wire_u32(&r);
    bool many = wire_u8(&r);
    uint32_t n = wire_u32(&r);
    if (r.bad || n > SEG_KILLS_MAX || wire_left(&r) != n * 8)
        return -SATCHEL_EDAMAGED;
    for (uint32_t i = 0; i < n; i++)
        seg_kill(s, wire_u64(&r));
    s->kills_many = many;
    s->dirty = false;
    return 0;
}

int segs_load(struct segs *t, struct store *st)
{
    struct key from = key_kind(KEY_SEG), to = key_kind(KEY_SEG + 1);
    struct index_iter *it = store_iter(st, &from, &to);
    if (!it)
        return -SATCHEL_EIO;
    struct slice key, value;
    uint64_t number;
    int res = 0;
    while (res == 0 && st->ix->ops->next(it, &key, &value)) {
        if (!key_seg_parse(key, &number)) {
            res = -SATCHEL_EDAMAGED;
            break;
        }
        struct seg *s = segs_need(t, number);
        res = seg_decode(value, s);
        t->messages += s->msgs;
        t->tombs += s->tombs;
        t->owed += s->owed;
    }
    st->ix->ops->iter_free(&it);
    return res;
}

void segs_save(struct segs *t, struct store *st)
{
    static _Thread_local uint8_t value[SEG_VALUE_FIXED + SEG_KILLS_MAX * 8];
    for (size_t i = 0; i < t->n; i++) {
        struct seg *s = t->items[i];
        if (!s->dirty)
            continue;
        s->dirty = false;
        struct key k = key_seg(s->seg);
        store_put(st, &k, slice_of(value, seg_encode(s, value, sizeof value)));
    }
}
