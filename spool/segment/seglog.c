/* seglog.c - the segment log: opening, taking records into groups, closing groups in time.
 *
 * A record goes into the open group when it is appended: its place is known then, so its header is final, and the group
 * goes to the disk in one write.  What is short is copied there, long bodies may be borrowed (seggroup.c); nothing is
 * allocated.
 *
 * Diagnostics: seglog.h. */
#include "spool/segment/seglog.h"

#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/segment/recover.h"
#include "spool/segment/seglog_int.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

const struct seglog_config seglog_config_default = {
    .segment_bytes = 64u << 20,
    .spare_segments = 2,
    .max_bytes = 0,
    .reserve_segments = 1,
    .group_bytes = 1u << 20,
    .lazy_us = 10000,
    .inflight_groups = 2,
};

enum {
    SEGMENT_MIN = 256 << 10,
    GROUP_WAIT_US = 1000, /* most an ordinary record waits for the group before it to be written */
    RECORD_MAX = REC_HEADER_BYTES + REC_COPYSET_MAX * 16 + REC_META_MAX + REC_BODY_MAX + REC_ALIGN,
    DRAIN_WAIT_US = 10000,
    DRAIN_WAITS_MAX = 500,
};

/* ---- life */

static bool config_ok(const struct seglog_config *c)
{
    return c->segment_bytes >= SEGMENT_MIN && c->segment_bytes % DISK_ALIGN == 0 && c->reserve_segments >= 1 &&
           c->inflight_groups >= 1 && c->inflight_groups <= 4 && c->group_bytes >= DISK_ALIGN &&
           (!c->max_bytes || c->max_bytes / c->segment_bytes > c->reserve_segments);
}

static size_t group_cap(const struct seglog_config *c)
{
    size_t most = c->segment_bytes - SEG_DATA_FROM, one = sizeof(struct group_head) + RECORD_MAX;
    size_t cap = seg_align(c->group_bytes > one ? c->group_bytes : one);
    return cap < most ? cap : most;
}

size_t seglog_group_bytes(const struct seglog_config *cfg)
{
    return (cfg->inflight_groups + 2) * group_cap(cfg);
}

static void groups_free(struct seglog *l)
{
    if (l->own_groups)
        munmap(l->own_groups, seglog_group_bytes(&l->cfg));
}

/* Pages that are never reached cost nothing, unless the memory is registered with the disk.  Large pages where there
 * are some: a group is then a piece or two for the disk instead of one every 4 KiB, and there are only so many pieces
 * in a request. */
static int groups_make(struct seglog *l)
{
    uint8_t *buf = l->cfg.group_memory;
    if (!buf) {
        size_t n = seglog_group_bytes(&l->cfg);
        void *own = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (own == MAP_FAILED)
            return -SATCHEL_ENOMEM;
        madvise(own, n, MADV_HUGEPAGE); /* a wish */
        buf = l->own_groups = own;
    }
    for (uint32_t i = 0; i < l->cfg.inflight_groups + 2; i++, buf += group_cap(&l->cfg)) {
        struct step *g = &l->groups[i];
        *g = (struct step){.kind = STEP_GROUP, .buf = buf, .cap = group_cap(&l->cfg), .log = l, .next = l->free};
        l->free = g;
    }
    return 0;
}

static void log_free(struct seglog *l)
{
    step_free_all(l);
    groups_free(l);
    free(l->refill.buf);
    slots_free(&l->slots);
    free(l);
}

static int make_reserve(struct seglog *l)
{
    uint32_t want = l->cfg.reserve_segments + 1;
    room_ordinary(l);
    for (struct slot *t; l->slots.spare < want && slots_creatable(&l->slots) > 0; l->slots.spare++) {
        if (slots_create(&l->slots, &t) != 0)
            break;
        slot_close(&l->slots, t);
    }
    if (l->slots.spare < l->cfg.reserve_segments)
        log_warning("segment.reserve", "spare=%u wanted=%u what=\"disk full: new mail is refused\"", l->slots.spare,
                    l->cfg.reserve_segments);
    room_ask(l);
    return 0;
}

static int recover(struct seglog *l, const struct seglog_replay *replay, uint64_t from, struct seglog_open_stats *stats)
{
    int rc = recover_format(l->disk, l->slots.storage, true);
    if (rc == 0)
        rc = slots_load(&l->slots);
    if (rc == 0)
        rc = recover_run(&l->slots, replay, from, stats, RECOVER_OPEN);
    if (rc)
        return rc;
    stats->next_pos = logpos(l->slots.next_seg, SEG_DATA_FROM);
    atomic_store(&l->info_durable, stats->next_pos);
    return make_reserve(l);
}

int seglog_open(struct seglog **l_r, const struct seglog_config *cfg, struct disk *disk, const struct clock *clock,
                const struct seglog_replay *replay, uint64_t from, struct seglog_open_stats *stats_r)
{
    struct seglog_open_stats unused;
    struct seglog_open_stats *stats = stats_r ? stats_r : &unused;
    *stats = (struct seglog_open_stats){0};
    if (!config_ok(cfg))
        return -SATCHEL_EINVAL;
    struct seglog *l = calloc(1, sizeof *l);
    if (!l)
        return -SATCHEL_ENOMEM;
    l->cfg = *cfg;
    l->disk = disk;
    l->clock = clock;
    l->slots = (struct slots){.disk = disk, .segment_bytes = cfg->segment_bytes, .max_bytes = cfg->max_bytes};
    int rc = groups_make(l);
    if (rc == 0)
        rc = recover(l, replay, from, stats);
    if (rc) {
        log_free(l);
        return rc;
    }
    *l_r = l;
    return 0;
}

static int scan(struct disk *disk, const struct seglog_replay *replay, uint64_t from, struct seglog_open_stats *stats_r,
                enum recover_how how)
{
    struct seglog_open_stats unused;
    struct seglog_open_stats *stats = stats_r ? stats_r : &unused;
    *stats = (struct seglog_open_stats){0};
    struct slots s = {.disk = disk, .segment_bytes = seglog_config_default.segment_bytes};
    int rc = recover_format(disk, s.storage, false);
    if (rc == 0)
        rc = slots_load(&s);
    if (rc == 0)
        rc = recover_run(&s, replay, from, stats, how);
    stats->next_pos = logpos(s.next_seg, SEG_DATA_FROM);
    slots_free(&s);
    return rc;
}

int seglog_scan(struct disk *disk, const struct seglog_replay *replay, uint64_t from, struct seglog_open_stats *stats_r)
{
    return scan(disk, replay, from, stats_r, RECOVER_SCAN);
}

int seglog_scan_heads(struct disk *disk, const struct seglog_replay *replay, uint64_t from,
                      struct seglog_open_stats *stats_r)
{
    return scan(disk, replay, from, stats_r, RECOVER_HEADS);
}

int seglog_identify(struct disk *disk, uint8_t storage_r[16])
{
    return recover_format(disk, storage_r, false);
}

/* A disk that lost its power never answers: the wait is bounded. */
static void drain(struct seglog *l)
{
    int wake_fd = l->disk->wake_fd;
    l->disk->wake_fd = -1;
    for (int i = 0; (l->first || l->refill.busy) && i < DRAIN_WAITS_MAX; i++) {
        step_pump(l);
        l->disk->ops->poll(l->disk, DRAIN_WAIT_US);
    }
    l->disk->wake_fd = wake_fd;
}

void seglog_close(struct seglog **lp)
{
    struct seglog *l = *lp;
    if (!l)
        return;
    *lp = NULL;
    if (!l->fenced)
        seglog_roll(l);
    drain(l);
    log_free(l);
}

void seglog_drop(struct seglog **lp)
{
    struct seglog *l = *lp;
    if (!l)
        return;
    *lp = NULL;
    for (struct step *s = l->first; s; s = s->next)
        s->first = s->last = NULL;
    l->fenced = true; /* nothing more is submitted; what is under way is waited for, since the disk has its buffers */
    drain(l);
    log_free(l);
}

/* ---- appending */

static bool fits(const struct seglog *l, const struct step *g, uint32_t size)
{
    return g->used + size <= g->limit && g->used < l->cfg.group_bytes;
}

static int next_segment(struct seglog *l, bool reserve)
{
    struct slot *t;
    int rc = room_next_slot(l, reserve, &t);
    if (rc)
        return rc;
    rc = l->active ? step_end_segment(l) : 0;
    if (rc == 0)
        return step_begin_segment(l, t);
    slot_close(&l->slots, t);
    l->slots.spare++;
    return rc;
}

static int group_open(struct seglog *l, uint32_t size, bool reserve)
{
    uint32_t need = seg_align(sizeof(struct group_head) + (uint64_t)size);
    if (!l->active || l->active->bytes - l->at < need) {
        int rc = next_segment(l, reserve);
        if (rc)
            return rc;
    }
    struct step *g = l->free;
    size_t left = (size_t)(l->active->bytes - l->at);
    l->free = g->next;
    *g = (struct step){.kind = STEP_GROUP, .slot = l->active, .log = l, .buf = g->buf, .cap = g->cap};
    g->limit = left < g->cap ? left : g->cap;
    g->from = l->at;
    g->used = sizeof(struct group_head);
    g->begun = clock_boot_us(l->clock);
    l->open = g;
    return 0;
}

static bool sane(const struct record *r)
{
    return r->meta.n <= REC_META_MAX && r->body.n <= REC_BODY_MAX && r->copyset.n % 16 == 0 &&
           r->copyset.n / 16 <= REC_COPYSET_MAX;
}

int seglog_append(struct seglog *l, struct seglog_entry *e)
{
    bool reserve = e->flags & ENTRY_RESERVE;
    size_t size = sane(&e->rec) ? record_size(&e->rec) : SIZE_MAX;
    if (l->fenced)
        return -SATCHEL_EFENCED;
    if (size > group_cap(&l->cfg) - sizeof(struct group_head))
        return -SATCHEL_ETOOBIG;
    if (!reserve && !room_ordinary(l))
        return -SATCHEL_EFULL;
    if (l->open && !fits(l, l->open, (uint32_t)size)) {
        if (!l->free)
            return -SATCHEL_EAGAIN;
        step_close_group(l);
    }
    if (!l->open) {
        if (!l->free)
            return -SATCHEL_EAGAIN;
        int rc = group_open(l, (uint32_t)size, reserve);
        if (rc)
            return rc;
    }
    group_put(l->open, e, (uint32_t)size);
    return 0;
}

/* ---- closing groups in time */

/* Boot clock from which the open group may be closed, the disk allowing. */
static uint64_t due_us(const struct seglog *l)
{
    const struct step *g = l->open;
    if (g->used >= l->cfg.group_bytes)
        return 0;
    if (!g->ordinary)
        return g->begun + l->cfg.lazy_us;
    return l->closed == 0 ? 0 : g->begun + GROUP_WAIT_US;
}

uint64_t seglog_next_us(const struct seglog *l)
{
    return l->open && l->closed < l->cfg.inflight_groups ? due_us(l) : UINT64_MAX;
}

void seglog_turn(struct seglog *l)
{
    uint64_t due = seglog_next_us(l);
    if (due == 0 || (due != UINT64_MAX && clock_boot_us(l->clock) >= due))
        step_close_group(l);
}

bool seglog_writing(const struct seglog *l)
{
    return l->writing > 0;
}

bool seglog_idle(const struct seglog *l)
{
    return !l->open && !l->first;
}

void seglog_roll(struct seglog *l)
{
    if (l->fenced)
        return;
    if (l->open)
        step_close_group(l);
    if (l->active)
        step_end_segment(l); /* out of memory: it stays the active one, a later roll ends it */
    room_publish(l);
}

/* ---- looking */

void seglog_info(const struct seglog *l, struct seglog_info *info_r)
{
    *info_r = (struct seglog_info){
        .durable_pos = atomic_load_explicit(&l->info_durable, memory_order_acquire),
        .active_seg = atomic_load_explicit(&l->info_active, memory_order_relaxed),
        .oldest_seg = atomic_load_explicit(&l->info_oldest, memory_order_relaxed),
        .used_segments = atomic_load_explicit(&l->info_used, memory_order_relaxed),
        .spare_segments = atomic_load_explicit(&l->info_spare, memory_order_relaxed),
        .room_bytes = atomic_load_explicit(&l->info_room, memory_order_relaxed),
        .fenced = atomic_load_explicit(&l->info_fenced, memory_order_relaxed),
        .groups = atomic_load_explicit(&l->info_groups, memory_order_relaxed),
        .records = atomic_load_explicit(&l->info_records, memory_order_relaxed),
        .written_bytes = atomic_load_explicit(&l->info_written, memory_order_relaxed),
    };
    memcpy(info_r->storage_uuid, l->slots.storage, sizeof info_r->storage_uuid);
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

size_t seglog_segments(const struct seglog *l, uint64_t *segs_r, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < l->slots.n; i++) {
        const struct slot *t = l->slots.v[i];
        if (!t->label.seg || t == l->active)
            continue;
        if (n < cap)
            segs_r[n] = t->label.seg;
        n++;
    }
    if (n > 1 && cap > 1)
        qsort(segs_r, n < cap ? n : cap, sizeof *segs_r, ascending);
    return n;
}
