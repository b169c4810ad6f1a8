/* segfile.c - labels of slot files, and the table of slots. */
#include "spool/segment/segfile.h"

#include "spool/base/err.h"
#include "spool/base/log.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

/* On disk, at the beginning of a 4 KiB block; it fits a 512-byte sector, which no disk tears. */
struct disk_label {
    uint64_t sum; /* XXH3-64 of the rest, seeded with which of the two labels this is */
    uint8_t magic[8];
    uint32_t version, flags;
    uint8_t storage[16];
    uint64_t seg, next_seg, bytes, durable_pos;
    uint32_t end, salvage_end;
    uint8_t zero[48]; /* written as zero, read past */
};
_Static_assert(sizeof(struct disk_label) == 128, "on-disk size");
enum { LABEL_PREWRITTEN = 1 << 0, LABEL_SEALED = 1 << 1 };

static const uint8_t label_magic[8] = {'S', 'A', 'T', 'C', 'H', 'S', 'E', 'G'};

uint64_t group_head_sum(const struct group_head *h)
{
    return XXH3_64bits_withSeed((const uint8_t *)h + sizeof h->sum, sizeof *h - sizeof h->sum, h->pos);
}

static uint64_t label_sum(const struct disk_label *d, int which)
{
    return XXH3_64bits_withSeed((const uint8_t *)d + sizeof d->sum, sizeof *d - sizeof d->sum, (uint64_t)which);
}

void seg_label_encode(const struct seg_label *l, int which, uint8_t *out_r)
{
    struct disk_label d = {.version = SEG_VERSION,
                           .flags = (l->prewritten ? LABEL_PREWRITTEN : 0) | (l->sealed ? LABEL_SEALED : 0),
                           .seg = l->seg,
                           .next_seg = l->next_seg,
                           .bytes = l->bytes,
                           .durable_pos = l->durable_pos,
                           .end = l->end,
                           .salvage_end = l->salvage_end};
    memcpy(d.magic, label_magic, sizeof d.magic);
    memcpy(d.storage, l->storage, sizeof d.storage);
    d.sum = label_sum(&d, which);
    memset(out_r, 0, DISK_ALIGN);
    memcpy(out_r, &d, sizeof d);
}

enum label_state { LABEL_GOOD, LABEL_BLANK, LABEL_BAD, LABEL_OTHER_VERSION };

static bool all_zero(const uint8_t *p, size_t n)
{
    return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

static enum label_state decode(const uint8_t *p, int which, struct seg_label *l_r)
{
    struct disk_label d;
    memcpy(&d, p, sizeof d);
    if (all_zero(p, DISK_ALIGN))
        return LABEL_BLANK;
    if (d.sum != label_sum(&d, which) || memcmp(d.magic, label_magic, sizeof d.magic) != 0)
        return LABEL_BAD;
    if (d.version != SEG_VERSION)
        return LABEL_OTHER_VERSION;
    *l_r = (struct seg_label){.seg = d.seg,
                              .next_seg = d.next_seg,
                              .durable_pos = d.durable_pos,
                              .bytes = d.bytes,
                              .prewritten = d.flags & LABEL_PREWRITTEN,
                              .sealed = d.flags & LABEL_SEALED,
                              .end = d.end,
                              .salvage_end = d.salvage_end};
    memcpy(l_r->storage, d.storage, sizeof l_r->storage);
    return LABEL_GOOD;
}

/* The second says that the slot was freed after the segment that the first names: numbers only grow, and a spare that
 * is being taken carries none above the one it gets. */
static bool was_freed(const struct seg_label in[SEG_LABELS])
{
    return in[1].seg == 0 && in[1].next_seg > in[0].seg;
}

/* The two labels are written together, and the second once more to seal.  Where they differ, a write was cut: the
 * larger number wins, since treating a segment as used that was about to be a spare, or one that was about to be used,
 * loses nothing.  Not so where only the second was freed: the first never says where the segment ends. */
static void merge(const enum label_state st[SEG_LABELS], const struct seg_label in[SEG_LABELS],
                  struct seg_label_read *r_r)
{
    *r_r = (struct seg_label_read){.bad = {st[0] == LABEL_BAD, st[1] == LABEL_BAD}};
    bool good0 = st[0] == LABEL_GOOD, good1 = st[1] == LABEL_GOOD;
    r_r->blank = st[0] == LABEL_BLANK && st[1] == LABEL_BLANK;
    r_r->lost = !good0 && !good1 && !r_r->blank;
    if (good1 && (!good0 || in[1].seg >= in[0].seg || was_freed(in)))
        r_r->label = in[1];
    else if (good0)
        r_r->label = in[0];
    for (int i = 0; i < SEG_LABELS; i++)
        if (st[i] == LABEL_GOOD && in[i].next_seg > r_r->label.next_seg)
            r_r->label.next_seg = in[i].next_seg;
}

int segfile_read_label(struct disk *disk, int file, struct seg_label_read *r_r)
{
    uint8_t buf[SEG_DATA_FROM] = {0};
    int64_t n = disk->ops->read(disk, file, 0, buf, sizeof buf);
    if (n < 0)
        for (int i = 0; i < SEG_LABELS; i++) /* a bad sector under one label leaves the other */
            if (disk->ops->read(disk, file, (uint64_t)i * DISK_ALIGN, buf + (size_t)i * DISK_ALIGN, DISK_ALIGN) < 0)
                memset(buf + (size_t)i * DISK_ALIGN, 0xff, DISK_ALIGN);
    enum label_state st[SEG_LABELS];
    struct seg_label in[SEG_LABELS] = {{0}};
    for (int i = 0; i < SEG_LABELS; i++) {
        st[i] = decode(buf + (size_t)i * DISK_ALIGN, i, &in[i]);
        if (st[i] == LABEL_OTHER_VERSION)
            return -SATCHEL_EVERSION;
    }
    merge(st, in, r_r);
    return 0;
}

void slot_name(uint32_t index, char out_r[SLOT_NAME_MAX])
{
    snprintf(out_r, SLOT_NAME_MAX, "slot-%06u.seg", index);
}

int64_t slot_index(const char *name)
{
    unsigned index;
    char again[SLOT_NAME_MAX];
    if (sscanf(name, "slot-%u.seg", &index) != 1)
        return -1;
    slot_name(index, again);
    return strcmp(again, name) == 0 ? (int64_t)index : -1;
}

/* ---- the table */

static struct slot *slot_add(struct slots *s, uint32_t index, uint64_t bytes)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 16;
        struct slot **v = realloc(s->v, cap * sizeof *v);
        if (!v)
            return NULL;
        s->v = v;
        s->cap = cap;
    }
    struct slot *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    *t = (struct slot){.index = index, .file = -1, .bytes = bytes};
    s->v[s->n++] = t;
    return t;
}

struct load {
    struct slots *slots;
    int err;
};

static void on_file(void *arg, const char *name, uint64_t size)
{
    struct load *ld = arg;
    int64_t index = slot_index(name);
    if (index >= 0 && !slot_add(ld->slots, (uint32_t)index, size))
        ld->err = -SATCHEL_ENOMEM;
}

static int load_label(struct slots *s, struct slot *t)
{
    int rc = slot_open(s, t);
    if (rc < 0)
        return rc;
    rc = segfile_read_label(s->disk, t->file, &t->found);
    slot_close(s, t);
    if (rc)
        return rc;
    t->label = t->found.label;
    if (t->label.seg && memcmp(t->label.storage, s->storage, sizeof s->storage) != 0) {
        log_error("segment.foreign", "slot=%u what=\"segment of another storage\"", t->index);
        return -SATCHEL_EINVAL;
    }
    if (t->label.next_seg > s->next_seg)
        s->next_seg = t->label.next_seg;
    return 0;
}

static void classify(struct slots *s, struct slot *t)
{
    if (t->label.seg) {
        s->used++;
        if (t->label.seg >= s->next_seg)
            s->next_seg = t->label.seg + 1;
    } else if (t->bytes != s->segment_bytes || t->found.lost) {
        t->foreign = true;
    } else {
        s->spare++;
    }
}

int slots_load(struct slots *s)
{
    struct load ld = {s, 0};
    int rc = s->disk->ops->list(s->disk, on_file, &ld);
    if (rc == 0)
        rc = ld.err;
    if (s->next_seg == 0)
        s->next_seg = 1;
    for (size_t i = 0; rc == 0 && i < s->n; i++) {
        rc = load_label(s, s->v[i]);
        if (rc == 0)
            classify(s, s->v[i]);
    }
    slots_sort(s);
    return rc;
}

void slots_free(struct slots *s)
{
    for (size_t i = 0; i < s->n; i++) {
        slot_close(s, s->v[i]);
        free(s->v[i]);
    }
    free(s->v);
    s->v = NULL;
    s->n = s->cap = 0;
    if (!s->io_busy)
        free(s->io_buf);
    s->io_buf = NULL;
}

static int by_seg(const void *a, const void *b)
{
    const struct slot *x = *(struct slot *const *)a, *y = *(struct slot *const *)b;
    if (!x->label.seg != !y->label.seg)
        return !x->label.seg - !y->label.seg;
    if (x->label.seg != y->label.seg)
        return x->label.seg < y->label.seg ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

void slots_sort(struct slots *s)
{
    if (s->n)
        qsort(s->v, s->n, sizeof *s->v, by_seg);
}

struct slot *slots_find(struct slots *s, uint64_t seg)
{
    for (size_t i = 0; i < s->n; i++)
        if (seg && s->v[i]->label.seg == seg)
            return s->v[i];
    return NULL;
}

int slot_open(struct slots *s, struct slot *t)
{
    char name[SLOT_NAME_MAX];
    uint64_t size;
    if (t->file >= 0)
        return t->file;
    slot_name(t->index, name);
    t->file = s->disk->ops->open(s->disk, name, &size);
    return t->file;
}

void slot_close(struct slots *s, struct slot *t)
{
    if (t->file >= 0)
        s->disk->ops->close(s->disk, t->file);
    t->file = -1;
}

uint64_t slots_creatable(const struct slots *s)
{
    uint64_t bytes = 0, room = s->disk->ops->room(s->disk);
    for (size_t i = 0; i < s->n; i++)
        bytes += s->v[i]->bytes;
    /* one segment's worth stays free for the index beside us */
    uint64_t by_disk = room / s->segment_bytes > 0 ? room / s->segment_bytes - 1 : 0;
    if (!s->max_bytes)
        return by_disk;
    uint64_t by_limit = s->max_bytes > bytes ? (s->max_bytes - bytes) / s->segment_bytes : 0;
    return by_limit < by_disk ? by_limit : by_disk;
}

static uint32_t free_index(const struct slots *s)
{
    uint32_t index = 0;
    for (size_t i = 0; i < s->n; i++)
        if (s->v[i]->index >= index)
            index = s->v[i]->index + 1;
    return index;
}

int slots_create(struct slots *s, struct slot **t_r)
{
    char name[SLOT_NAME_MAX];
    struct slot *t = slot_add(s, free_index(s), s->segment_bytes);
    if (!t)
        return -SATCHEL_ENOMEM;
    slot_name(t->index, name);
    t->file = s->disk->ops->create(s->disk, name, s->segment_bytes, false);
    if (t->file < 0) {
        int rc = t->file;
        s->n--;
        free(t);
        return rc;
    }
    *t_r = t;
    return 0;
}

int slots_remove(struct slots *s, struct slot *t)
{
    char name[SLOT_NAME_MAX];
    slot_close(s, t);
    slot_name(t->index, name);
    int rc = s->disk->ops->remove(s->disk, name);
    if (rc)
        return rc;
    size_t i = 0;
    while (s->v[i] != t)
        i++;
    memmove(&s->v[i], &s->v[i + 1], (s->n - i - 1) * sizeof *s->v);
    s->n--;
    free(t);
    return 0;
}

/* ---- synchronous writes of labels */

static void on_written(struct disk_io *io, int res)
{
    struct slots *s = io->arg;
    s->io_busy = false;
    s->io_res = res;
}

/* Completions of other writes run meanwhile.  The wake descriptor is set aside: it would make the wait a spin.  A disk
 * that does not answer within a minute has failed; the buffer then stays with it. */
static int write_waiting(struct slots *s, struct slot *t, uint64_t off, size_t n)
{
    enum { WAIT_US = 10000, WAITS_MAX = 6000 };
    int wake_fd = s->disk->wake_fd;
    s->disk->wake_fd = -1;
    s->io = (struct disk_io){
        .file = t->file, .off = off, .buf = s->io_buf + off, .n = n, .sync = true, .done = on_written, .arg = s};
    s->io_busy = true;
    s->disk->ops->submit(s->disk, &s->io);
    for (int i = 0; s->io_busy && i < WAITS_MAX; i++)
        s->disk->ops->poll(s->disk, WAIT_US);
    s->disk->wake_fd = wake_fd;
    return s->io_busy ? -SATCHEL_EIO : s->io_res;
}

int slot_write_label(struct slots *s, struct slot *t, enum label_part part)
{
    if (s->io_busy)
        return -SATCHEL_EIO;
    if (!s->io_buf && !(s->io_buf = aligned_alloc(DISK_ALIGN, SEG_DATA_FROM)))
        return -SATCHEL_ENOMEM;
    int file = slot_open(s, t);
    if (file < 0)
        return file;
    t->label.bytes = t->bytes;
    t->label.next_seg = s->next_seg;
    memcpy(t->label.storage, s->storage, sizeof s->storage);
    for (int i = 0; i < SEG_LABELS; i++)
        seg_label_encode(&t->label, i, s->io_buf + (size_t)i * DISK_ALIGN);
    uint64_t off = part == LABEL_SEAL ? DISK_ALIGN : 0;
    return write_waiting(s, t, off, SEG_DATA_FROM - off);
}

struct slot *slots_pick(struct slots *s)
{
    struct slot *best = NULL;
    for (size_t i = 0; i < s->n; i++) {
        struct slot *t = s->v[i];
        if (t->label.seg || t->foreign || t->filling)
            continue;
        if (!best || (t->label.prewritten && !best->label.prewritten))
            best = t;
    }
    return best;
}
