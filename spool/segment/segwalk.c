/* segwalk.c - going through a segment from group to group. */
#include "spool/segment/segwalk.h"

#include "spool/base/err.h"

#include <stdlib.h>

enum {
    WINDOW = 256 << 10,
    WINDOW_FAR = 8 << 10,
    BODY_FAR = 64 << 10,
    MAGIC_AT = 8,
    HEAD_MAX = REC_HEADER_BYTES + REC_COPYSET_MAX * 16 + REC_META_MAX
};

void segwalk_begin(struct segwalk *w, struct disk *disk, int file, uint64_t seg, uint32_t bytes)
{
    *w = (struct segwalk){.disk = disk, .file = file, .seg = seg, .bytes = bytes};
}

void segwalk_end(struct segwalk *w)
{
    free(w->buf);
    w->buf = NULL;
}

/* ---- the window */

static size_t read_around_bad_sectors(struct segwalk *w, uint64_t off, size_t n)
{
    for (size_t at = 0; at < n; at += DISK_ALIGN) {
        size_t piece = n - at < DISK_ALIGN ? n - at : DISK_ALIGN;
        if (w->disk->ops->read(w->disk, w->file, off + at, w->buf + at, piece) < 0)
            memset(w->buf + at, 0, piece);
    }
    return n;
}

static bool window_load(struct segwalk *w, uint64_t off, size_t need)
{
    size_t usual = w->far ? WINDOW_FAR : WINDOW, want = need > usual ? need : usual;
    if (want > w->bytes - off)
        want = (size_t)(w->bytes - off);
    if (want > w->cap) {
        uint8_t *buf = realloc(w->buf, want);
        if (!buf) {
            w->no_memory = true;
            return false;
        }
        w->buf = buf;
        w->cap = want;
    }
    int64_t n = w->disk->ops->read(w->disk, w->file, off, w->buf, want);
    w->n = n < 0 ? read_around_bad_sectors(w, off, want) : (size_t)n;
    w->at = off;
    w->read_bytes += w->n;
    return true;
}

/* Bytes from off: all that the window has up to `to`, and at least `need` of them unless `to` or the file's end comes
 * before. */
static struct slice view(struct segwalk *w, uint32_t off, uint32_t to, size_t need)
{
    if (to > w->bytes)
        to = w->bytes;
    if (off >= to)
        return (struct slice){w->buf, 0};
    if (need > to - off)
        need = to - off;
    bool inside = w->n && off >= w->at && off + need <= w->at + w->n;
    if (!inside && !window_load(w, off, need))
        return (struct slice){w->buf, 0};
    size_t have = (size_t)(w->at + w->n - off);
    return slice_of(w->buf + (off - w->at), have < to - off ? have : to - off);
}

/* ---- groups */

static bool group_any(struct segwalk *w, uint32_t off, struct group_head *h_r)
{
    struct slice s = view(w, off, w->bytes, sizeof *h_r);
    if (s.n < sizeof *h_r)
        return false;
    memcpy(h_r, s.p, sizeof *h_r);
    return h_r->magic == GROUP_MAGIC && h_r->version == REC_VERSION && h_r->type == REC_GROUP &&
           logpos_off(h_r->pos) == off && h_r->bytes >= sizeof *h_r && h_r->bytes <= w->bytes - off;
}

static bool group_at(struct segwalk *w, uint32_t off, struct group_head *h_r)
{
    return group_any(w, off, h_r) && logpos_seg(h_r->pos) == w->seg && group_head_sum(h_r) == h_r->sum;
}

static uint32_t next_group(struct segwalk *w, uint32_t off, uint32_t limit)
{
    struct group_head h;
    while (off < limit && !group_at(w, off, &h))
        off += DISK_ALIGN;
    return off < limit ? off : limit;
}

uint32_t segwalk_claim(struct segwalk *w, uint32_t off)
{
    struct group_head h;
    off -= off % DISK_ALIGN;
    return group_any(w, off, &h) && logpos_seg(h.pos) == w->seg ? seg_align(h.bytes) : 0;
}

uint64_t segwalk_mark(struct segwalk *w)
{
    struct group_head h;
    uint64_t mark = 0;
    uint32_t off = next_group(w, SEG_DATA_FROM, w->bytes);
    while (off < w->bytes && group_at(w, off, &h)) {
        mark = h.durable_pos > mark ? h.durable_pos : mark;
        off = next_group(w, off + seg_align(h.bytes), w->bytes);
    }
    return mark;
}

uint64_t segwalk_guess(struct segwalk *w)
{
    struct group_head h;
    uint64_t seg = 0;
    for (uint32_t off = SEG_DATA_FROM; off < w->bytes; off += DISK_ALIGN)
        if (group_any(w, off, &h) && group_head_sum(&h) == h.sum && logpos_seg(h.pos) > seg)
            seg = logpos_seg(h.pos);
    return seg;
}

/* ---- records */

/* 0: a record, header and body verified.  size_r is set (not 0) where at least the header is good. */
static int record_at(struct segwalk *w, uint32_t off, uint32_t to, struct record *rec_r, size_t *size_r)
{
    size_t need = REC_HEADER_BYTES;
    for (;;) {
        struct slice s = view(w, off, to, need);
        int rc = w->heads ? record_decode_head(s, logpos(w->seg, off), rec_r, size_r)
                          : record_decode(s, logpos(w->seg, off), rec_r, size_r);
        if (rc == 0)
            return *size_r <= to - off && (w->heads || record_body_ok(rec_r)) ? 0 : -SATCHEL_EDAMAGED;
        size_t more = *size_r && !w->heads ? *size_r : HEAD_MAX;
        if (rc != -SATCHEL_ETORN || need >= more || s.n >= to - off)
            return rc;
        need = more;
    }
}

/* First place at or after off where a record header may begin. */
static uint32_t next_magic(struct segwalk *w, uint32_t off, uint32_t to)
{
    const uint32_t magic = REC_MAGIC;
    while (off + REC_HEADER_BYTES <= to) {
        struct slice s = view(w, off, to, REC_HEADER_BYTES);
        if (s.n < REC_HEADER_BYTES)
            return to;
        size_t at = 0;
        for (; at + REC_HEADER_BYTES <= s.n; at += REC_ALIGN)
            if (memcmp(s.p + at + MAGIC_AT, &magic, sizeof magic) == 0)
                return off + (uint32_t)at;
        off += (uint32_t)at;
    }
    return to;
}

static int report_bad(const struct segwalk_sink *sink, uint32_t from, uint32_t to)
{
    return from < to && sink->bad ? sink->bad(sink->arg, from, to) : 0;
}

/* The zeros that fill a group up to 4 KiB, where the head that tells its size is gone. */
static bool padding(struct segwalk *w, uint32_t from, uint32_t to)
{
    struct slice s = view(w, from, to, to - from);
    return s.n > 0 && s.n < DISK_ALIGN && s.n == to - from && s.p[0] == 0 && memcmp(s.p, s.p + 1, s.n - 1) == 0;
}

/* Every good record in [from, to), and the gaps between them.  In an undamaged group there are no gaps. */
static int walk_range(struct segwalk *w, uint32_t from, uint32_t to, const struct segwalk_sink *sink)
{
    uint32_t gap = from, at = from;
    while ((at = next_magic(w, at, to)) < to) {
        struct record rec;
        size_t size;
        if (record_at(w, at, to, &rec, &size) != 0) {
            /* never look for records in a body whose header is good: it is a customer's bytes */
            at += size && size <= to - at ? (uint32_t)size : REC_ALIGN;
            continue;
        }
        /* the gap before it comes first; its callback may move the window, so the record is then read again */
        bool behind_gap = gap < at;
        w->far = w->heads && size >= BODY_FAR;
        int rc = behind_gap             ? report_bad(sink, gap, at)
                 : rec.type == REC_FILL ? 0
                                        : sink->record(sink->arg, &rec, logpos(w->seg, at), (uint32_t)size);
        if (rc)
            return rc;
        at += behind_gap ? 0 : (uint32_t)size;
        gap = at;
    }
    return gap > from && padding(w, gap, to) ? 0 : report_bad(sink, gap, to);
}

int segwalk_run(struct segwalk *w, uint32_t limit, const struct segwalk_sink *sink)
{
    uint32_t off = SEG_DATA_FROM, next;
    for (int rc; off < limit; off = next) {
        struct group_head h;
        if (group_at(w, off, &h)) {
            uint32_t end = off + h.bytes;
            next = off + seg_align(h.bytes);
            rc = walk_range(w, off + (uint32_t)sizeof h, end < limit ? end : limit, sink);
        } else {
            next = next_group(w, off + DISK_ALIGN, limit);
            rc = walk_range(w, off, next, sink);
        }
        if (rc || w->no_memory)
            return rc ? rc : -SATCHEL_ENOMEM;
    }
    return 0;
}
