/* segroom.c - which slot comes next: spares, the reserve, new files, and the limit on all of them.
 *
 * Ordinary mail leaves cfg.reserve_segments spare slots on the disk untouched.  They are files with their blocks
 * reserved, not a number: what the records that drain a full disk need cannot be taken by another file meanwhile. */
#include "spool/segment/seglog_int.h"

#include "spool/base/err.h"
#include "spool/base/log.h"

#include <assert.h>
#include <stdlib.h>

enum { CREATE_AGAIN_US = 1000000, REFILL_PIECE = 1 << 20 };

void room_publish_bytes(struct seglog *l)
{
    const struct slots *s = &l->slots;
    uint64_t room = 0, slots = s->spare + l->creatable, payload = s->segment_bytes - SEG_DATA_FROM;
    if (slots > l->cfg.reserve_segments)
        room = (slots - l->cfg.reserve_segments) * payload;
    if (l->active && slots >= l->cfg.reserve_segments)
        room += l->active->bytes - l->at;
    atomic_store_explicit(&l->info_room, l->fenced ? 0 : room, memory_order_relaxed);
}

void room_publish(struct seglog *l)
{
    const struct slots *s = &l->slots;
    uint64_t oldest = 0;
    for (size_t i = 0; i < s->n; i++)
        if (s->v[i]->label.seg && (!oldest || s->v[i]->label.seg < oldest))
            oldest = s->v[i]->label.seg;
    room_publish_bytes(l);
    atomic_store_explicit(&l->info_oldest, oldest, memory_order_relaxed);
    atomic_store_explicit(&l->info_active, l->active ? l->active->label.seg : 0, memory_order_relaxed);
    atomic_store_explicit(&l->info_used, s->used, memory_order_relaxed);
    atomic_store_explicit(&l->info_spare, s->spare, memory_order_relaxed);
    atomic_store_explicit(&l->info_fenced, l->fenced, memory_order_relaxed);
}

void room_ask(struct seglog *l)
{
    l->creatable = slots_creatable(&l->slots);
    l->groups_since_ask = 0;
    room_publish(l);
}

/* Reserved, not pre-written: the caller waits for it. */
static int create(struct seglog *l, struct slot **t_r)
{
    uint64_t now = clock_boot_us(l->clock);
    if (now < l->create_again_us || slots_creatable(&l->slots) == 0)
        return -SATCHEL_EFULL;
    int rc = slots_create(&l->slots, t_r);
    if (rc) {
        l->create_again_us = now + CREATE_AGAIN_US;
        log_warning("segment.create", "error=\"%s\"", satchel_strerror(rc));
        return -SATCHEL_EFULL;
    }
    return 0;
}

bool room_ordinary(struct seglog *l)
{
    struct slot *t;
    while (l->slots.spare < l->cfg.reserve_segments) {
        if (create(l, &t) != 0) {
            room_ask(l);
            return false;
        }
        slot_close(&l->slots, t);
        l->slots.spare++;
    }
    return true;
}

int room_next_slot(struct seglog *l, bool reserve, struct slot **t_r)
{
    struct slots *s = &l->slots;
    uint32_t keep = reserve ? 0 : l->cfg.reserve_segments;
    if (s->spare > keep) {
        struct slot *t = slots_pick(s);
        assert(t);
        int rc = slot_open(s, t);
        if (rc < 0)
            return rc;
        s->spare--;
        *t_r = t;
        return 0;
    }
    return create(l, t_r);
}

/* ---- pre-writing, when there is nothing else to do */

static void refill_drop(struct seglog *l, int res)
{
    log_warning("segment.prewrite", "error=\"%s\"", satchel_strerror(res));
    slots_remove(&l->slots, l->refill.slot);
    l->refill.slot = NULL;
    l->create_again_us = clock_boot_us(l->clock) + CREATE_AGAIN_US;
}

static void on_refill(struct disk_io *io, int res)
{
    struct seglog *l = io->arg;
    struct refill *f = &l->refill;
    f->busy = false;
    if (res) {
        refill_drop(l, res);
    } else if (f->at < f->slot->bytes) {
        f->at += io->n;
    } else {
        slot_close(&l->slots, f->slot);
        f->slot->filling = false;
        f->slot = NULL;
        l->slots.spare++;
    }
    room_ask(l);
}

static void refill_submit(struct seglog *l, uint64_t off, size_t n, bool sync)
{
    struct refill *f = &l->refill;
    f->io = (struct disk_io){
        .file = f->slot->file, .off = off, .buf = f->buf, .n = n, .sync = sync, .done = on_refill, .arg = l};
    f->busy = true;
    l->disk->ops->submit(l->disk, &f->io);
}

static void refill_label(struct seglog *l)
{
    struct refill *f = &l->refill;
    struct seg_label *label = &f->slot->label;
    *label = (struct seg_label){.next_seg = l->slots.next_seg, .bytes = f->slot->bytes, .prewritten = true};
    memcpy(label->storage, l->slots.storage, sizeof label->storage);
    for (int i = 0; i < SEG_LABELS; i++)
        seg_label_encode(label, i, f->buf + (size_t)i * DISK_ALIGN);
    refill_submit(l, 0, SEG_DATA_FROM, true);
}

static void refill_zeros(struct seglog *l)
{
    struct refill *f = &l->refill;
    uint64_t left = f->slot->bytes - f->at;
    if (f->at == 0)
        memset(f->buf, 0, REFILL_PIECE);
    refill_submit(l, f->at, left < REFILL_PIECE ? (size_t)left : REFILL_PIECE, false);
}

static bool refill_begin(struct seglog *l)
{
    struct refill *f = &l->refill;
    if (l->slots.spare >= l->cfg.spare_segments + l->cfg.reserve_segments)
        return false;
    if (!f->buf)
        f->buf = aligned_alloc(DISK_ALIGN, REFILL_PIECE);
    if (!f->buf || create(l, &f->slot) != 0)
        return false;
    f->slot->filling = true;
    f->at = 0;
    return true;
}

bool seglog_refill(struct seglog *l)
{
    struct refill *f = &l->refill;
    if (l->fenced || f->busy || !seglog_idle(l))
        return false;
    if (!f->slot)
        return refill_begin(l);
    if (f->at < f->slot->bytes)
        refill_zeros(l);
    else
        refill_label(l);
    return true;
}

/* ---- giving back */

/* A label elsewhere carries the segment numbers on, so that none is ever given out again: the file may go. */
static bool removable(const struct seglog *l, const struct slot *t)
{
    if (l->slots.spare < 2 * (l->cfg.spare_segments + l->cfg.reserve_segments) && t->bytes == l->slots.segment_bytes)
        return false;
    for (size_t i = 0; i < l->slots.n; i++)
        if (l->slots.v[i]->label.seg > t->label.seg && l->slots.v[i]->label.sealed)
            return true;
    return false;
}

int seglog_free_segment(struct seglog *l, uint64_t seg)
{
    struct slot *t = slots_find(&l->slots, seg);
    if (l->fenced)
        return -SATCHEL_EFENCED;
    if (!t)
        return -SATCHEL_ENOENT;
    if (t == l->active || !t->label.sealed)
        return -SATCHEL_EBUSY;
    if (removable(l, t)) {
        int rc = slots_remove(&l->slots, t);
        l->slots.used -= rc == 0;
        room_ask(l);
        return rc;
    }
    struct seg_label was = t->label;
    t->label = (struct seg_label){.prewritten = true};
    int rc = slot_write_label(&l->slots, t, LABEL_BOTH);
    slot_close(&l->slots, t);
    if (rc) {
        t->label = was;
        step_fence(l, rc);
        return rc;
    }
    l->slots.used--;
    t->foreign = t->bytes != l->slots.segment_bytes;
    l->slots.spare += !t->foreign;
    room_ask(l);
    return 0;
}
