/* segstep.c - what is on its way to the disk: groups, labels and seals, durable in the order of the list.
 *
 * Writes overlap; completions are honoured from the head of the list only. */
#include "spool/segment/seglog_int.h"

#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/metrics.h"

#include <assert.h>
#include <stdlib.h>

enum { GROUPS_PER_ASK = 64 };

static void step_push(struct seglog *l, struct step *s)
{
    s->log = l;
    s->next = NULL;
    if (l->last)
        l->last->next = s;
    else
        l->first = s;
    l->last = s;
}

static struct step *step_pop(struct seglog *l)
{
    struct step *s = l->first;
    l->first = s->next;
    if (!l->first)
        l->last = NULL;
    return s;
}

/* ---- making steps */

void step_close_group(struct seglog *l)
{
    struct step *g = l->open;
    assert(g->slot == l->active);
    group_seal(g, atomic_load_explicit(&l->info_durable, memory_order_relaxed));
    l->open = NULL;
    l->at += (uint32_t)g->io.n;
    g->durable_pos = logpos(g->slot->label.seg, l->at);
    step_push(l, g);
    l->closed++;
    room_publish_bytes(l);
    step_pump(l);
}

static struct step *label_step(struct slot *t, enum step_kind kind)
{
    struct step *s = calloc(1, sizeof *s);
    uint8_t *buf = s ? aligned_alloc(DISK_ALIGN, SEG_DATA_FROM) : NULL;
    if (!buf) {
        free(s);
        return NULL;
    }
    for (int i = 0; i < SEG_LABELS; i++)
        seg_label_encode(&t->label, i, buf + (size_t)i * DISK_ALIGN);
    size_t off = kind == STEP_SEAL ? DISK_ALIGN : 0;
    *s = (struct step){.kind = kind, .slot = t, .buf = buf};
    s->io = (struct disk_io){.file = t->file, .off = off, .buf = buf + off, .n = SEG_DATA_FROM - off, .sync = true};
    return s;
}

int step_end_segment(struct seglog *l)
{
    struct slot *t = l->active;
    struct seg_label open = t->label;
    t->label.sealed = true;
    t->label.end = l->at;
    struct step *s = label_step(t, STEP_SEAL);
    t->label = open; /* sealed for the others when it is on disk */
    if (!s)
        return -SATCHEL_ENOMEM;
    s->durable_pos = logpos(t->label.seg, l->at);
    s->from = l->at;
    l->active = NULL;
    step_push(l, s);
    step_pump(l);
    return 0;
}

int step_begin_segment(struct seglog *l, struct slot *t)
{
    t->label = (struct seg_label){.seg = l->slots.next_seg,
                                  .next_seg = l->slots.next_seg + 1,
                                  .durable_pos = atomic_load_explicit(&l->info_durable, memory_order_relaxed),
                                  .bytes = t->bytes,
                                  .prewritten = t->label.prewritten};
    memcpy(t->label.storage, l->slots.storage, sizeof t->label.storage);
    struct step *s = label_step(t, STEP_LABEL);
    if (!s) {
        t->label.seg = 0;
        l->slots.spare++;
        return -SATCHEL_ENOMEM;
    }
    l->slots.next_seg++;
    l->slots.used++;
    l->active = t;
    l->at = SEG_DATA_FROM;
    s->durable_pos = logpos(t->label.seg, SEG_DATA_FROM);
    step_push(l, s);
    step_pump(l);
    room_ask(l);
    return 0;
}

/* ---- completing */

static void entries_done(struct seglog_entry *e, int res)
{
    while (e) {
        struct seglog_entry *next = e->next; /* done may free it */
        e->done(e, res);
        e = next;
    }
}

/* Its entries are the caller's now: their done may append, and so fill this group again. */
static struct seglog_entry *group_rest(struct seglog *l, struct step *g)
{
    struct seglog_entry *first = g->first;
    g->first = g->last = NULL;
    g->submitted = g->complete = false;
    g->next = l->free;
    l->free = g;
    return first;
}

static void count_group(struct seglog *l, const struct step *g)
{
    metric_add(M_SPOOL_GROUPS, 1);
    metric_add(M_SPOOL_RECORDS, g->records);
    metric_add(M_SPOOL_WRITTEN_BYTES, g->io.n);
    atomic_fetch_add_explicit(&l->info_groups, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&l->info_records, g->records, memory_order_relaxed);
    atomic_fetch_add_explicit(&l->info_written, g->io.n, memory_order_relaxed);
    if (++l->groups_since_ask >= GROUPS_PER_ASK)
        room_ask(l);
}

static void label_free(struct step *s)
{
    free(s->buf);
    free(s);
}

static void settle(struct seglog *l, struct step *s)
{
    atomic_store_explicit(&l->info_durable, s->durable_pos, memory_order_release);
    if (s->kind == STEP_GROUP) {
        l->closed--;
        count_group(l, s);
        entries_done(group_rest(l, s), 0);
        return;
    }
    if (s->kind == STEP_SEAL) {
        s->slot->label.sealed = true;
        s->slot->label.end = s->from;
        slot_close(&l->slots, s->slot);
    }
    label_free(s);
}

/* In a fenced log steps are refused in their order, each when the disk has let go of what it was given: until then an
 * entry's bytes are borrowed. */
static void refuse(struct seglog *l)
{
    while (l->first && (!l->first->submitted || l->first->complete)) {
        struct step *s = step_pop(l);
        if (s->kind != STEP_GROUP) {
            label_free(s);
            continue;
        }
        int res = l->fence_res;
        l->fence_res = -SATCHEL_EFENCED;
        entries_done(group_rest(l, s), res);
    }
}

/* A group that is still open joins the others: done must find a log that is consistent. */
void step_fence(struct seglog *l, int res)
{
    if (l->fenced)
        return;
    l->fenced = true;
    l->fence_res = res;
    metric_add(M_SPOOL_SYNC_FAILURES, 1);
    log_error("segment.fenced", "error=\"%s\" what=\"nothing is accepted until a restart\"", satchel_strerror(res));
    room_publish(l);
    if (l->open)
        step_push(l, l->open);
    l->open = NULL;
    l->closed = 0;
    refuse(l);
}

static void on_step(struct disk_io *io, int res)
{
    struct step *s = io->arg;
    struct seglog *l = s->log;
    s->complete = true;
    s->res = res;
    l->writing -= s->kind == STEP_GROUP;
    if (l->fenced) {
        refuse(l);
        return;
    }
    while (!l->fenced && l->first && l->first->complete) {
        if (l->first->res)
            step_fence(l, l->first->res);
        else
            settle(l, step_pop(l));
    }
    step_pump(l);
}

/* ---- submitting */

static bool may_submit(const struct seglog *l, const struct step *s)
{
    switch (s->kind) {
    case STEP_LABEL:
        return true;
    case STEP_SEAL:
        return s == l->first;
    case STEP_GROUP:
        return l->writing < l->cfg.inflight_groups;
    }
    return false;
}

/* A group waits until its segment's label is durable.  Otherwise a crash could keep the group and lose the label: the
 * number would be given out again, and groups of its first life pass for those of the second. */
void step_pump(struct seglog *l)
{
    const struct slot *nameless = NULL;
    for (struct step *s = l->first; s && !l->fenced; s = s->next) {
        if (s->kind == STEP_LABEL)
            nameless = s->slot;
        if (s->submitted || !may_submit(l, s) || (s->kind == STEP_GROUP && s->slot == nameless))
            continue;
        s->submitted = true;
        s->io.done = on_step;
        s->io.arg = s;
        l->writing += s->kind == STEP_GROUP;
        l->disk->ops->submit(l->disk, &s->io);
    }
}

void step_free_all(struct seglog *l)
{
    while (l->first) {
        struct step *s = step_pop(l);
        if (s->kind != STEP_GROUP)
            label_free(s);
    }
}
