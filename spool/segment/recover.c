/* recover.c - opening a log after whatever happened to it.
 *
 * Bad data below the durable mark is damage: it was durable once.  It is copied to a quarantine file, reported, and the
 * walk goes on behind it.  Bad data above the mark is a torn tail: the machine stopped while it was written, and nobody
 * was told that it is safe.  Good records in a torn tail are kept (salvaged): a duplicate at worst.
 *
 * The mark of a sealed segment is its end.  For those that are not sealed (the last one, rarely two or three) it is the
 * highest mark in any group or label.  Each of them is sealed at once, at the point where its tail is torn, so that the
 * next opening judges the same bytes the same way whatever marks are written later. */
#include "spool/segment/recover.h"

#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/metrics.h"
#include "spool/base/rng.h"
#include "spool/segment/segwalk.h"

#include <stdio.h>
#include <stdlib.h>

struct recovery {
    struct slots *slots;
    const struct seglog_replay *replay;
    uint64_t from;
    struct seglog_open_stats *stats;
    bool dry, heads;
    uint64_t mark; /* highest of all labels and of the groups in segments that are not sealed */
    /* the segment under way */
    struct slot *slot;
    struct segwalk walk;
    uint64_t threshold;        /* bad below: damage */
    bool torn;                 /* a torn range was met: records from here on are salvaged */
    uint32_t end, salvage_end; /* where it will be sealed */
    uint64_t good, damaged;    /* records, ranges */
};

/* ---- FORMAT */

static int format_make(struct disk *disk, uint8_t storage_r[16])
{
    char text[96];
    rng_bytes(storage_r, 16);
    int n = snprintf(text, sizeof text, "satchel-log %d\nstorage ", SEG_VERSION);
    for (int i = 0; i < 16; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%02x", storage_r[i]);
    n += snprintf(text + n, sizeof text - (size_t)n, "\n");
    return disk->ops->put(disk, "FORMAT", slice_of(text, (size_t)n));
}

static int format_parse(const char *text, uint8_t storage_r[16])
{
    int version, at = 0;
    if (sscanf(text, "satchel-log %d", &version) != 1)
        return -SATCHEL_EDAMAGED;
    if (version != SEG_VERSION)
        return -SATCHEL_EVERSION;
    sscanf(text, "satchel-log %*d storage %n", &at);
    for (int i = 0; i < 16; i++)
        if (at == 0 || sscanf(text + at + 2 * (size_t)i, "%2hhx", &storage_r[i]) != 1)
            return -SATCHEL_EDAMAGED;
    return 0;
}

static void any_slot(void *arg, const char *name, uint64_t size)
{
    (void)size;
    *(bool *)arg |= slot_index(name) >= 0;
}

int recover_format(struct disk *disk, uint8_t storage_r[16], bool make)
{
    char text[128];
    int64_t n = disk->ops->get(disk, "FORMAT", text, sizeof text - 1);
    if (n >= 0) {
        text[n] = 0;
        return format_parse(text, storage_r);
    }
    if (n != -SATCHEL_ENOENT || !make)
        return (int)n;
    bool slots = false;
    int rc = disk->ops->list(disk, any_slot, &slots);
    if (rc)
        return rc;
    if (slots) {
        log_error("segment.format", "what=\"segments without their FORMAT file; restore it from a backup\"");
        return -SATCHEL_EDAMAGED;
    }
    return format_make(disk, storage_r);
}

/* ---- damage */

static void quarantine(struct recovery *r, uint32_t from, uint32_t to)
{
    enum { PIECE = 1 << 20 };
    struct disk *d = r->slots->disk;
    uint8_t *buf = malloc(PIECE), probe;
    for (uint32_t at = from; buf && at < to; at += PIECE) {
        char name[64];
        size_t n = to - at < PIECE ? to - at : PIECE;
        snprintf(name, sizeof name, "quarantine-%llu-%u", (unsigned long long)r->slot->label.seg, at);
        if (d->ops->get(d, name, &probe, 1) >= 0)
            continue; /* an earlier opening found it */
        memset(buf, 0, n);
        d->ops->read(d, r->slot->file, at, buf, n);
        int rc = d->ops->put(d, name, slice_of(buf, n));
        if (rc)
            log_error("segment.quarantine", "file=%s error=\"%s\"", name, satchel_strerror(rc));
    }
    free(buf);
}

static void damage(struct recovery *r, uint32_t from, uint32_t to)
{
    r->damaged++;
    r->stats->damaged_ranges++;
    r->stats->damaged_bytes += to - from;
    log_error("segment.damaged", "segment=%llu from=%u to=%u", (unsigned long long)r->slot->label.seg, from, to);
    if (!r->dry) {
        metric_add(M_SPOOL_DAMAGED, 1);
        quarantine(r, from, to);
    }
    if (r->replay && r->replay->damaged)
        r->replay->damaged(r->replay->arg, logpos(r->slot->label.seg, from), to - from);
}

static void tear(struct recovery *r, uint32_t from, uint32_t to)
{
    if (!r->torn)
        r->end = from;
    r->torn = true;
    if (r->slot->label.sealed)
        return; /* counted when it was found */
    uint32_t claim = segwalk_claim(&r->walk, from), bytes = to - from;
    if (to == r->slot->bytes && bytes > claim)
        bytes = claim; /* the rest was never written in this life of the slot */
    r->stats->torn_bytes += bytes;
}

static int on_bad(void *arg, uint32_t from, uint32_t to)
{
    struct recovery *r = arg;
    uint64_t seg = r->slot->label.seg;
    uint32_t border = to;
    if (logpos(seg, to) > r->threshold)
        border = logpos(seg, from) >= r->threshold ? from : logpos_off(r->threshold);
    if (from < border)
        damage(r, from, border);
    if (border < to)
        tear(r, border, to);
    return 0;
}

static int on_record(void *arg, const struct record *rec, uint64_t pos, uint32_t size)
{
    struct recovery *r = arg;
    r->good++;
    if (r->torn) {
        r->salvage_end = logpos_off(pos) + size;
        r->stats->salvaged_records += !r->slot->label.sealed;
    }
    if (pos < r->from)
        return 0;
    r->stats->records++;
    return r->replay && r->replay->record ? r->replay->record(r->replay->arg, rec, pos, size) : 0;
}

/* ---- one segment */

static int walk(struct recovery *r)
{
    const struct seg_label *l = &r->slot->label;
    const struct segwalk_sink sink = {on_record, on_bad, r};
    uint32_t limit = (uint32_t)r->slot->bytes;
    r->threshold = l->sealed ? logpos(l->seg, l->end) : r->mark;
    if (l->sealed)
        limit = l->salvage_end > l->end ? l->salvage_end : l->end;
    if (limit > r->slot->bytes)
        limit = (uint32_t)r->slot->bytes;
    r->torn = false;
    r->good = 0;
    r->end = limit;
    r->salvage_end = 0;
    segwalk_begin(&r->walk, r->slots->disk, r->slot->file, l->seg, (uint32_t)r->slot->bytes);
    r->walk.heads = r->heads;
    int rc = segwalk_run(&r->walk, limit, &sink);
    r->stats->bytes_read += r->walk.read_bytes;
    segwalk_end(&r->walk);
    return rc;
}

/* Nothing in it that anybody needs: it becomes a spare, with a label that keeps its number from being used again. */
static int give_back(struct recovery *r)
{
    struct slots *s = r->slots;
    r->slot->label = (struct seg_label){.prewritten = r->slot->label.prewritten};
    r->slot->foreign = r->slot->bytes != s->segment_bytes;
    s->used--;
    s->spare += !r->slot->foreign;
    return slot_write_label(s, r->slot, LABEL_BOTH);
}

static int settle(struct recovery *r)
{
    struct seg_label *l = &r->slot->label;
    bool bad = r->slot->found.bad[0] || r->slot->found.bad[1];
    if (r->dry || (l->sealed && !bad))
        return 0;
    if (!l->sealed && r->good == 0 && r->damaged == 0)
        return give_back(r);
    if (!l->sealed) {
        l->sealed = true;
        l->end = r->end;
        l->salvage_end = r->salvage_end;
    }
    return slot_write_label(r->slots, r->slot, bad ? LABEL_BOTH : LABEL_SEAL);
}

/* What a process wrote and did not live to sync can be read, and may still be lost with the next power cut.  Nothing is
 * believed before it is durable: neither reported, nor counted in a seal, nor used as a spare.  The label written here
 * says nothing new; its sync does.  A seal is known to be durable where a later segment was marked durable after it. */
static int secure(struct recovery *r)
{
    const struct seg_label *l = &r->slot->label;
    if (r->dry || (l->sealed && r->mark >= logpos(l->seg + 1, 0)))
        return 0;
    return slot_write_label(r->slots, r->slot, LABEL_BOTH);
}

static int secure_spares(struct recovery *r)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && !r->dry && i < r->slots->n; i++) {
        struct slot *t = r->slots->v[i];
        if (t->label.seg || t->foreign || t->found.blank)
            continue;
        rc = slot_write_label(r->slots, t, LABEL_BOTH);
        slot_close(r->slots, t);
    }
    return rc;
}

static int recover_segment(struct recovery *r)
{
    const struct seg_label *l = &r->slot->label;
    int rc = slot_open(r->slots, r->slot);
    if (rc < 0)
        return rc;
    r->damaged = 0;
    for (int i = 0; i < SEG_LABELS; i++)
        if (r->slot->found.bad[i])
            damage(r, (uint32_t)i * DISK_ALIGN, (uint32_t)(i + 1) * DISK_ALIGN);
    r->stats->segments++;
    bool skip = l->sealed && l->seg < logpos_seg(r->from);
    rc = secure(r);
    if (rc == 0 && !skip)
        rc = walk(r);
    if (rc == 0)
        rc = settle(r);
    slot_close(r->slots, r->slot);
    return rc;
}

/* ---- all of them */

static int with_walk(struct slots *s, struct slot *t, uint64_t (*ask)(struct segwalk *w), uint64_t *answer_r)
{
    int file = slot_open(s, t);
    if (file < 0)
        return file;
    struct segwalk w;
    segwalk_begin(&w, s->disk, file, t->label.seg, (uint32_t)t->bytes);
    *answer_r = ask(&w);
    int rc = w.no_memory ? -SATCHEL_ENOMEM : 0;
    segwalk_end(&w);
    slot_close(s, t);
    return rc;
}

/* A slot without a readable label still has groups that say which segment it is. */
static int name_lost(struct slots *s)
{
    for (size_t i = 0; i < s->n; i++) {
        struct slot *t = s->v[i];
        uint64_t seg = 0;
        int rc = t->found.lost ? with_walk(s, t, segwalk_guess, &seg) : 0;
        if (rc)
            return rc;
        if (!t->found.lost || !seg || slots_find(s, seg))
            continue;
        t->label = (struct seg_label){.seg = seg};
        t->foreign = false;
        s->used++;
        if (seg >= s->next_seg)
            s->next_seg = seg + 1;
    }
    slots_sort(s);
    return 0;
}

static int find_mark(struct recovery *r)
{
    for (uint32_t i = 0; i < r->slots->used; i++) {
        struct slot *t = r->slots->v[i];
        uint64_t mark = t->label.durable_pos, groups = 0;
        if (t->label.sealed)
            mark = logpos(t->label.seg, t->label.end);
        int rc = t->label.sealed ? 0 : with_walk(r->slots, t, segwalk_mark, &groups);
        if (rc)
            return rc;
        if (groups > mark)
            mark = groups;
        if (mark > r->mark)
            r->mark = mark;
    }
    return 0;
}

/* Spares of another size, and files that a crash left half made: removed once another label carries the numbers on. */
static int remove_foreign(struct slots *s)
{
    uint64_t carried = 0;
    for (size_t i = 0; i < s->n; i++)
        if (!s->v[i]->foreign && s->v[i]->label.next_seg > carried)
            carried = s->v[i]->label.next_seg;
    for (size_t i = s->n; i-- > 0;) {
        struct slot *t = s->v[i];
        if (!t->foreign || t->found.lost || t->label.next_seg > carried)
            continue;
        int rc = slots_remove(s, t);
        if (rc)
            return rc;
    }
    return 0;
}

int recover_run(struct slots *s, const struct seglog_replay *replay, uint64_t from, struct seglog_open_stats *stats,
                enum recover_how how)
{
    bool dry = how != RECOVER_OPEN;
    struct recovery r = {.slots = s, .replay = replay, .from = from, .stats = stats, .dry = dry};
    r.heads = how == RECOVER_HEADS;
    int rc = name_lost(s);
    if (rc == 0)
        rc = find_mark(&r);
    if (rc == 0)
        rc = secure_spares(&r);
    /* recovering may turn a segment into a spare, but moves none in the table */
    uint32_t n = s->used;
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        r.slot = s->v[i];
        rc = recover_segment(&r);
    }
    if (logpos_seg(from) >= s->next_seg)
        s->next_seg = logpos_seg(from) + 1;
    if (rc == 0 && !dry)
        rc = remove_foreign(s);
    return rc;
}
