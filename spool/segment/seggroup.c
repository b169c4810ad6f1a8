/* seggroup.c - what a group consists of: records, copied one behind the other, and the long bodies it borrows.
 *
 *   on disk     head | records | FILL | record: head, first part | blocks of its body | its end | records | zeros
 *   in memory   buf .......................................... | the caller's own   | buf ........................
 *
 * What is borrowed begins and ends on a sector of the file as in memory, so that the group goes to the disk in one
 * write of several pieces, around the page cache. */
#include "spool/base/copy.h"
#include "spool/segment/seglog_int.h"

#include <assert.h>

/* ---- what can be borrowed */

/* Parts of a body from `first` on; bytes == 0: none. */
struct loan {
    uint32_t first, parts;
    size_t before; /* bytes of the record in front of them */
    size_t bytes;
};

static size_t whole_sectors(struct slice part)
{
    return (uintptr_t)part.p % DISK_ALIGN ? 0 : part.n - part.n % DISK_ALIGN;
}

static struct loan loan_of(const struct step *g, const struct seglog_entry *e)
{
    struct loan l = {.before = record_head_size(&e->rec)};
    uint32_t n = e->flags & ENTRY_BORROW ? e->body_parts_n : 0;
    if (n > 0) /* a short block of the heap's: on a sector by chance, and never registered with the disk */
        l.before += e->body_parts[l.first++].n;
    while (l.first < n && whole_sectors(e->body_parts[l.first]) == 0)
        l.before += e->body_parts[l.first++].n;
    for (uint32_t i = l.first; i < n; i++) {
        size_t whole = whole_sectors(e->body_parts[i]);
        l.parts += whole > 0;
        l.bytes += whole;
        if (whole < e->body_parts[i].n)
            break;
    }
    bool listed = g->pieces_n + 1 + l.parts + 1 <= DISK_PIECES; /* with the stretches of buf before and behind */
    if (l.bytes < SEGLOG_BORROW_MIN || l.before % REC_ALIGN || !listed)
        l.bytes = 0;
    return l;
}

/* ---- putting */

static size_t in_buf(const struct step *g)
{
    return g->used - g->lent;
}

static void piece_add(struct step *g, const void *p, size_t n)
{
    assert(g->pieces_n < DISK_PIECES && n % DISK_ALIGN == 0);
    if (n)
        g->pieces[g->pieces_n++] = (struct iovec){(void *)p, n};
}

/* buf up to `to` is a piece; what comes behind it begins another. */
static void stretch_end(struct step *g, size_t to)
{
    piece_add(g, g->buf + g->stretch, to - g->stretch);
    g->stretch = to;
}

static void put_fill(struct step *g, uint32_t size)
{
    uint8_t *p = g->buf + in_buf(g);
    struct record fill = {.type = REC_FILL, .body = {p + REC_HEADER_BYTES, size - REC_HEADER_BYTES}};
    memset(p, 0, size);
    fill.body_sum = record_body_sum(fill.body);
    record_encode_head(&fill, logpos(g->slot->label.seg, g->from + g->used), p);
    g->used += size;
    g->fills++;
}

/* Bytes of FILL that bring the loan to a sector; a loan for which there is no room is called off. */
static uint32_t fill_for(const struct step *g, struct loan *l, uint32_t size)
{
    if (l->bytes == 0)
        return 0;
    size_t over = (g->used + l->before) % DISK_ALIGN, fill = over ? DISK_ALIGN - over : 0;
    if (fill && fill < REC_HEADER_BYTES)
        fill += DISK_ALIGN;
    if (g->used + fill + size <= g->limit)
        return (uint32_t)fill;
    l->bytes = 0;
    return 0;
}

/* Copies to p, except what is lent; returns where the record goes on in buf. */
static uint8_t *put_parts(struct step *g, const struct seglog_entry *e, const struct loan *l, uint8_t *p)
{
    size_t left = e->rec.body.n;
    for (uint32_t i = 0; i < e->body_parts_n; i++) {
        struct slice s = e->body_parts[i];
        bool lent = l->bytes && i >= l->first && i < l->first + l->parts;
        size_t whole = lent ? whole_sectors(s) : 0;
        assert(s.n <= left);
        left -= s.n;
        if (lent) {
            stretch_end(g, (size_t)(p - g->buf));
            piece_add(g, s.p, whole);
            g->lent += (uint32_t)whole;
        }
        if (s.n > whole)
            copy_long(p, s.p + whole, s.n - whole);
        p += s.n - whole;
    }
    assert(left == 0);
    return p;
}

static uint8_t *put_body(struct step *g, const struct seglog_entry *e, const struct loan *l, uint8_t *p)
{
    if (e->body_parts)
        return put_parts(g, e, l, p);
    if (e->rec.body.n)
        copy_long(p, e->rec.body.p, e->rec.body.n);
    return p + e->rec.body.n;
}

void group_put(struct step *g, struct seglog_entry *e, uint32_t size)
{
    struct loan loan = loan_of(g, e);
    uint32_t fill = fill_for(g, &loan, size);
    if (fill)
        put_fill(g, fill);
    uint8_t *p = g->buf + in_buf(g);
    size_t head = record_head_size(&e->rec);
    e->pos = logpos(g->slot->label.seg, g->from + g->used);
    e->size = size;
    e->next = NULL;
    e->queued_us = g->begun;
    record_encode_head(&e->rec, e->pos, p);
    p = put_body(g, e, &loan, p + head);
    memset(p, 0, size - head - e->rec.body.n);
    g->used += size;
    g->records++;
    g->ordinary |= !(e->flags & ENTRY_LAZY);
    if (g->last)
        g->last->next = e;
    else
        g->first = e;
    g->last = e;
}

/* ---- closing */

void group_seal(struct step *g, uint64_t durable_pos)
{
    uint32_t padded = seg_align(g->used);
    assert(g->records > 0 && padded <= g->limit);
    struct group_head h = {.magic = GROUP_MAGIC,
                           .version = REC_VERSION,
                           .type = REC_GROUP,
                           .records = g->records + g->fills,
                           .bytes = g->used,
                           .pos = logpos(g->slot->label.seg, g->from),
                           .durable_pos = durable_pos};
    h.sum = group_head_sum(&h);
    memcpy(g->buf, &h, sizeof h);
    memset(g->buf + in_buf(g), 0, padded - g->used);
    stretch_end(g, padded - g->lent);
    g->io = (struct disk_io){
        .file = g->slot->file, .off = g->from, .n = padded, .pieces = g->pieces, .pieces_n = g->pieces_n, .sync = true};
}
