/* segread.c - records by position, beside a running log.
 *
 * Which slot holds a segment is read from the labels and remembered.  A wrong memory is harmless: the checksum of a
 * record is seeded with its segment's number and offset.  So a record that verifies is the right one, and only one
 * that does not needs a second look at the labels. */
#include "spool/segment/segread.h"

#include "spool/base/err.h"
#include "spool/segment/segwalk.h"

#include <stdlib.h>

enum { OPEN_MAX = 8, AHEAD_MIN = 64 << 10, AHEAD_MAX = 1 << 20, NEAR = 64 << 10, HEAD_FIRST = 4096 };

struct open_slot {
    uint64_t seg;
    int file;
    uint32_t bytes;
    uint64_t used; /* for the least recently used */
};

struct place {
    uint64_t seg;
    uint32_t index;
};

struct segread {
    struct disk *disk;
    struct open_slot open[OPEN_MAX]; /* seg 0: free */
    uint64_t uses;
    struct place *map; /* by segment number */
    size_t map_n, map_cap;
    int map_err;
    /* read-ahead */
    uint8_t *buf;
    size_t cap, n;
    uint64_t seg;
    uint32_t at;
    size_t ahead; /* what the next sequential read fetches */
};

int segread_open(struct segread **r_r, struct disk *disk)
{
    struct segread *r = calloc(1, sizeof *r);
    if (!r)
        return -SATCHEL_ENOMEM;
    r->disk = disk;
    r->ahead = AHEAD_MIN;
    *r_r = r;
    return 0;
}

static void close_slot(struct segread *r, struct open_slot *o)
{
    if (o->seg)
        r->disk->ops->close(r->disk, o->file);
    *o = (struct open_slot){0};
}

void segread_close(struct segread **rp)
{
    struct segread *r = *rp;
    if (!r)
        return;
    for (int i = 0; i < OPEN_MAX; i++)
        close_slot(r, &r->open[i]);
    free(r->map);
    free(r->buf);
    free(r);
    *rp = NULL;
}

/* ---- where a segment is */

/* The segment in the slot now (0: none), or an error. */
static int slot_segment(struct segread *r, const char *name, uint64_t *seg_r)
{
    uint64_t size;
    struct seg_label_read label;
    int file = r->disk->ops->open(r->disk, name, &size);
    if (file < 0)
        return file;
    int rc = segfile_read_label(r->disk, file, &label);
    r->disk->ops->close(r->disk, file);
    *seg_r = rc ? 0 : label.label.seg;
    return rc;
}

static void map_slot(void *arg, const char *name, uint64_t size)
{
    struct segread *r = arg;
    int64_t index = slot_index(name);
    if (index < 0 || size < SEG_DATA_FROM)
        return;
    if (r->map_n == r->map_cap) {
        size_t cap = r->map_cap ? r->map_cap * 2 : 64;
        struct place *map = realloc(r->map, cap * sizeof *map);
        if (!map) {
            r->map_err = -SATCHEL_ENOMEM;
            return;
        }
        r->map = map;
        r->map_cap = cap;
    }
    r->map[r->map_n++] = (struct place){0, (uint32_t)index};
}

static int by_seg(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return x->seg < y->seg ? -1 : x->seg > y->seg;
}

/* Labels are read after the listing, not inside it: it may hold the directory. */
static int map_load(struct segread *r)
{
    r->map_n = 0;
    r->map_err = 0;
    int rc = r->disk->ops->list(r->disk, map_slot, r);
    if (rc == 0)
        rc = r->map_err;
    for (size_t i = 0; rc == 0 && i < r->map_n; i++) {
        char name[SLOT_NAME_MAX];
        slot_name(r->map[i].index, name);
        slot_segment(r, name, &r->map[i].seg); /* one that is just being removed holds no segment */
    }
    if (r->map_n)
        qsort(r->map, r->map_n, sizeof *r->map, by_seg);
    return rc;
}

static const struct place *map_find(const struct segread *r, uint64_t seg)
{
    const struct place key = {seg, 0};
    return r->map_n ? bsearch(&key, r->map, r->map_n, sizeof *r->map, by_seg) : NULL;
}

static struct open_slot *find_open(struct segread *r, uint64_t seg)
{
    for (int i = 0; i < OPEN_MAX; i++)
        if (seg && r->open[i].seg == seg)
            return &r->open[i];
    return NULL;
}

static struct open_slot *least_used(struct segread *r)
{
    struct open_slot *o = &r->open[0];
    for (int i = 1; i < OPEN_MAX; i++)
        if (!r->open[i].seg || (o->seg && r->open[i].used < o->used))
            o = &r->open[i];
    return o;
}

static int open_segment(struct segread *r, uint64_t seg, struct open_slot **o_r)
{
    struct open_slot *o = find_open(r, seg);
    const struct place *p;
    if (!o) {
        char name[SLOT_NAME_MAX];
        uint64_t size;
        int rc = map_find(r, seg) ? 0 : map_load(r);
        if (rc)
            return rc;
        if (!(p = map_find(r, seg)))
            return -SATCHEL_ENOENT;
        slot_name(p->index, name);
        int file = r->disk->ops->open(r->disk, name, &size);
        if (file < 0)
            return file;
        o = least_used(r);
        close_slot(r, o);
        *o = (struct open_slot){.seg = seg, .file = file, .bytes = (uint32_t)size};
    }
    o->used = ++r->uses;
    *o_r = o;
    return 0;
}

/* After a record that did not verify: is the segment still where we read, or where is it? */
static int look_again(struct segread *r, uint64_t seg)
{
    struct seg_label_read label;
    struct open_slot *o = find_open(r, seg);
    if (o && segfile_read_label(r->disk, o->file, &label) == 0 && label.label.seg == seg)
        return 0;
    if (o)
        close_slot(r, o);
    int rc = map_load(r);
    return rc ? rc : map_find(r, seg) ? -SATCHEL_EAGAIN : -SATCHEL_ENOENT;
}

/* ---- the window */

static int window_load(struct segread *r, const struct open_slot *o, uint32_t off, size_t n)
{
    if (n > o->bytes - off)
        n = o->bytes - off;
    if (n > r->cap) {
        uint8_t *buf = realloc(r->buf, n);
        if (!buf)
            return -SATCHEL_ENOMEM;
        r->buf = buf;
        r->cap = n;
    }
    int64_t got = r->disk->ops->read(r->disk, o->file, off, r->buf, n);
    r->n = got < 0 ? 0 : (size_t)got;
    r->seg = o->seg;
    r->at = off;
    return got < 0 ? (int)got : 0;
}

static bool window_has(const struct segread *r, uint64_t seg, uint32_t off, uint32_t size)
{
    return r->n && r->seg == seg && off >= r->at && (uint64_t)off + size <= (uint64_t)r->at + r->n;
}

/* A read that goes on where the window ends is part of a run: each one fetches twice as much, up to AHEAD_MAX. */
static size_t read_bytes(struct segread *r, uint64_t seg, uint32_t off, uint32_t size)
{
    uint64_t end = (uint64_t)r->at + r->n;
    bool run = r->n && r->seg == seg && off >= r->at && off <= end + NEAR;
    size_t n = run ? r->ahead : size;
    r->ahead = run && r->ahead * 2 <= AHEAD_MAX ? r->ahead * 2 : run ? r->ahead : AHEAD_MIN;
    return n > size ? n : size;
}

/* ---- records */

static int decode_whole(const struct segread *r, uint64_t pos, uint32_t size, struct record *rec_r)
{
    uint32_t off = logpos_off(pos);
    size_t found;
    if (!window_has(r, logpos_seg(pos), off, size))
        return -SATCHEL_EDAMAGED;
    if (record_decode(slice_of(r->buf + (off - r->at), size), pos, rec_r, &found) != 0)
        return -SATCHEL_EDAMAGED;
    return found == size && record_body_ok(rec_r) ? 0 : -SATCHEL_EDAMAGED;
}

static bool in_segment(const struct open_slot *o, uint32_t off, uint32_t size)
{
    return off >= SEG_DATA_FROM && (uint64_t)off + size <= o->bytes;
}

static int try_record(struct segread *r, uint64_t pos, uint32_t size, struct record *rec_r)
{
    struct open_slot *o;
    uint64_t seg = logpos_seg(pos);
    uint32_t off = logpos_off(pos);
    int rc = open_segment(r, seg, &o);
    if (rc)
        return rc;
    if (!in_segment(o, off, size))
        return -SATCHEL_EDAMAGED;
    if (window_has(r, seg, off, size) && decode_whole(r, pos, size, rec_r) == 0)
        return 0;
    /* not read yet, or read before it was written */
    rc = window_load(r, o, off, read_bytes(r, seg, off, size));
    return rc ? rc : decode_whole(r, pos, size, rec_r);
}

static int try_head(struct segread *r, uint64_t pos, uint32_t size, struct record *rec_r)
{
    struct open_slot *o;
    uint32_t off = logpos_off(pos);
    size_t found;
    int rc = open_segment(r, logpos_seg(pos), &o);
    if (rc)
        return rc;
    if (!in_segment(o, off, size))
        return -SATCHEL_EDAMAGED;
    for (uint32_t n = size < HEAD_FIRST ? size : HEAD_FIRST;; n = size) {
        rc = window_has(r, o->seg, off, n) ? 0 : window_load(r, o, off, n);
        if (rc)
            return rc;
        rc = r->n < off - r->at + n ? -SATCHEL_EDAMAGED
                                    : record_decode_head(slice_of(r->buf + (off - r->at), n), pos, rec_r, &found);
        if (rc == -SATCHEL_ETORN && n < size)
            continue;
        return rc == 0 && found == size ? 0 : -SATCHEL_EDAMAGED;
    }
}

typedef int try_read(struct segread *r, uint64_t pos, uint32_t size, struct record *rec_r);

static int read_at(struct segread *r, uint64_t pos, uint32_t size, struct record *rec_r, try_read *try)
{
    for (int i = 0;; i++) {
        int rc = try(r, pos, size, rec_r);
        if (rc == 0 || rc == -SATCHEL_ENOMEM)
            return rc;
        r->n = 0; /* a window that was read too early must not be asked again */
        int where = rc == -SATCHEL_ENOENT && !map_find(r, logpos_seg(pos)) ? rc : look_again(r, logpos_seg(pos));
        if (where == -SATCHEL_ENOENT)
            return where;
        if (i > 0)
            return rc == -SATCHEL_EDAMAGED ? rc : -SATCHEL_EIO;
    }
}

int segread_record(struct segread *r, uint64_t pos, uint32_t size, struct record *rec_r)
{
    return read_at(r, pos, size, rec_r, try_record);
}

int segread_head(struct segread *r, uint64_t pos, uint32_t size, struct record *rec_r)
{
    return read_at(r, pos, size, rec_r, try_head);
}

void segread_prefetch(struct segread *r, uint64_t pos, uint32_t bytes)
{
    struct open_slot *o;
    uint32_t off = logpos_off(pos), n = bytes < AHEAD_MAX ? bytes : AHEAD_MAX;
    if (open_segment(r, logpos_seg(pos), &o) == 0 && off < o->bytes && !window_has(r, o->seg, off, n))
        window_load(r, o, off, n);
}

int segread_segment(struct segread *r, uint64_t seg,
                    int (*each)(void *arg, const struct record *rec, uint64_t pos, uint32_t size), void *arg)
{
    struct open_slot *o;
    struct seg_label_read label;
    int rc = open_segment(r, seg, &o);
    if (rc == 0)
        rc = segfile_read_label(r->disk, o->file, &label);
    if (rc)
        return rc;
    if (label.label.seg != seg) {
        rc = look_again(r, seg);
        if (rc == -SATCHEL_EAGAIN)
            rc = open_segment(r, seg, &o);
        if (rc == 0)
            rc = segfile_read_label(r->disk, o->file, &label);
        if (rc || label.label.seg != seg)
            return rc ? rc : -SATCHEL_ENOENT;
    }
    const struct segwalk_sink sink = {each, NULL, arg};
    const struct seg_label *l = &label.label;
    uint32_t limit = !l->sealed ? o->bytes : l->salvage_end > l->end ? l->salvage_end : l->end;
    struct segwalk w;
    segwalk_begin(&w, r->disk, o->file, seg, o->bytes);
    rc = segwalk_run(&w, limit < o->bytes ? limit : o->bytes, &sink);
    segwalk_end(&w);
    return rc;
}
