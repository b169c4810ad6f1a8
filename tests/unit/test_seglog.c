/* test_seglog.c - the segment log on a real directory: groups, order, recovery, damage, recycling, a full disk. */
#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/segment/segfile.h"
#include "spool/segment/seglog.h"
#include "spool/segment/segread.h"
#include "tests/unit/scratch.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { SEGMENT = 256 << 10, ENTRIES_MAX = 4096, GROUP_HEAD = sizeof(struct group_head) };

static uint64_t fake_now = 1000;
static uint64_t fake_us(void *ctx)
{
    (void)ctx;
    return fake_now;
}
static const struct clock fake_clock = {fake_us, fake_us, NULL};

/* ---- a log in a directory of its own, and what its opening reported */

struct seen {
    uint64_t counter, pos;
    uint32_t size;
};

struct fixture {
    char dir[SCRATCH_MAX];
    struct disk *disk;
    struct seglog *log;
    struct seglog_config cfg;
    struct seglog_open_stats stats;
    struct seen seen[ENTRIES_MAX];
    size_t seen_n;
    uint64_t damaged_pos[16], damaged_bytes[16];
    size_t damaged_n;
    struct seglog_entry entries[ENTRIES_MAX];
    size_t entries_n;
    uint64_t done[ENTRIES_MAX]; /* counters, in the order of done */
    int done_res[ENTRIES_MAX];
    size_t done_n;
    uint8_t *body;
};

static int on_record(void *arg, const struct record *rec, uint64_t pos, uint32_t size)
{
    struct fixture *f = arg;
    assert_true(record_body_ok(rec));
    assert_true(f->seen_n < ENTRIES_MAX);
    f->seen[f->seen_n++] = (struct seen){rec->id.counter, pos, size};
    return 0;
}

static void on_damaged(void *arg, uint64_t pos, uint64_t bytes)
{
    struct fixture *f = arg;
    assert_true(f->damaged_n < 16);
    f->damaged_pos[f->damaged_n] = pos;
    f->damaged_bytes[f->damaged_n++] = bytes;
}

static int open_from(struct fixture *f, uint64_t from)
{
    f->seen_n = f->damaged_n = f->entries_n = f->done_n = 0;
    assert_int_equal(disk_file_open(&f->disk, f->dir, DISK_AUTO), 0);
    const struct seglog_replay replay = {on_record, on_damaged, f};
    int rc = seglog_open(&f->log, &f->cfg, f->disk, &fake_clock, &replay, from, &f->stats);
    if (rc)
        f->disk->ops->destroy(f->disk);
    return rc;
}

static void open_log(struct fixture *f)
{
    assert_int_equal(open_from(f, 0), 0);
}

static void close_log(struct fixture *f)
{
    seglog_close(&f->log);
    f->disk->ops->destroy(f->disk);
}

static void crash(struct fixture *f)
{
    seglog_drop(&f->log);
    f->disk->ops->destroy(f->disk);
}

static void on_done(struct seglog_entry *e, int res)
{
    struct fixture *f = e->arg;
    f->done_res[f->done_n] = res;
    f->done[f->done_n++] = e->rec.id.counter;
}

static int append(struct fixture *f, uint64_t counter, size_t body, uint32_t flags)
{
    struct seglog_entry *e = &f->entries[f->entries_n];
    *e = (struct seglog_entry){.flags = flags, .done = on_done, .arg = f};
    e->rec = (struct record){.type = REC_MSG, .id = {{1}, counter}, .body = {f->body, body}};
    e->rec.body_sum = record_body_sum(e->rec.body);
    int rc = seglog_append(f->log, e);
    f->entries_n += rc == 0;
    return rc;
}

static void settle(struct fixture *f)
{
    for (int i = 0; i < 2000 && !seglog_idle(f->log); i++) {
        fake_now += 1000;
        seglog_turn(f->log);
        f->disk->ops->poll(f->disk, 10000);
    }
    assert_true(seglog_idle(f->log));
}

/* One group of `n` records. */
static void write_group(struct fixture *f, uint64_t first, int n, size_t body)
{
    for (int i = 0; i < n; i++)
        assert_int_equal(append(f, first + (uint64_t)i, body, 0), 0);
    settle(f);
}

static bool saw(const struct fixture *f, uint64_t counter)
{
    for (size_t i = 0; i < f->seen_n; i++)
        if (f->seen[i].counter == counter)
            return true;
    return false;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->body = malloc(REC_BODY_MAX);
    for (size_t i = 0; i < REC_BODY_MAX; i++)
        f->body[i] = (uint8_t)(i * 31 >> 3);
    scratch_make_on_disk(f->dir, "seglog");
    f->cfg = seglog_config_default;
    f->cfg.segment_bytes = SEGMENT;
    f->cfg.max_bytes = 16 * SEGMENT;
    f->cfg.spare_segments = 0;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    scratch_remove(f->dir);
    free(f->body);
    free(f);
    return 0;
}

/* ---- hands on the bytes, with the log closed */

static int open_slot_of(struct fixture *f, uint64_t seg)
{
    DIR *d = opendir(f->dir);
    int found = -1;
    for (struct dirent *e; found < 0 && (e = readdir(d));) {
        if (slot_index(e->d_name) < 0)
            continue;
        struct disk *disk;
        uint64_t size;
        struct seg_label_read label;
        assert_int_equal(disk_file_open(&disk, f->dir, DISK_SYNC), 0);
        int file = disk->ops->open(disk, e->d_name, &size);
        assert_int_equal(segfile_read_label(disk, file, &label), 0);
        disk->ops->destroy(disk);
        if (label.label.seg == seg)
            found = openat(dirfd(d), e->d_name, O_RDWR);
    }
    closedir(d);
    assert_true(found >= 0);
    return found;
}

static void flip(struct fixture *f, uint64_t pos)
{
    int fd = open_slot_of(f, logpos_seg(pos));
    uint8_t b;
    assert_int_equal(pread(fd, &b, 1, logpos_off(pos)), 1);
    b ^= 4;
    assert_int_equal(pwrite(fd, &b, 1, logpos_off(pos)), 1);
    close(fd);
}

static void zero(struct fixture *f, uint64_t pos, size_t n)
{
    int fd = open_slot_of(f, logpos_seg(pos));
    uint8_t *z = calloc(1, n);
    assert_int_equal(pwrite(fd, z, n, logpos_off(pos)), n);
    free(z);
    close(fd);
}

static int count_files(struct fixture *f, const char *prefix)
{
    DIR *d = opendir(f->dir);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));)
        n += strncmp(e->d_name, prefix, strlen(prefix)) == 0;
    closedir(d);
    return n;
}

/* ---- tests */

static void test_records_come_back_in_order(void **state)
{
    struct fixture *f = *state;
    open_log(f);
    assert_int_equal(f->stats.records, 0);
    for (uint64_t i = 1; i <= 300; i++) { /* several groups, several segments */
        while (append(f, i, 100 + 37 * i % 9000, 0) == -SATCHEL_EAGAIN) {
            seglog_turn(f->log);
            f->disk->ops->poll(f->disk, 10000);
        }
    }
    settle(f);
    assert_int_equal(f->done_n, 300);
    for (size_t i = 0; i < 300; i++) {
        assert_int_equal(f->done[i], i + 1);
        assert_int_equal(f->done_res[i], 0);
    }
    uint64_t pos = f->entries[299].pos;
    close_log(f);
    open_log(f);
    assert_int_equal(f->seen_n, 300);
    for (size_t i = 0; i < 300; i++)
        assert_int_equal(f->seen[i].counter, i + 1);
    assert_int_equal(f->seen[299].pos, pos);
    assert_int_equal(f->stats.torn_bytes + f->stats.damaged_ranges + f->stats.salvaged_records, 0);
    close_log(f);
}

static void test_replay_from_a_position(void **state)
{
    struct fixture *f = *state;
    open_log(f);
    for (uint64_t i = 1; i <= 60; i++)
        write_group(f, i, 1, 9000);
    uint64_t from = f->entries[40].pos;
    close_log(f);
    assert_int_equal(open_from(f, from), 0);
    assert_int_equal(f->seen_n, 20);
    assert_int_equal(f->seen[0].counter, 41);
    close_log(f);
}

static void test_body_parts_are_joined(void **state)
{
    struct fixture *f = *state;
    open_log(f);
    const struct slice parts[] = {{f->body, 10}, {NULL, 0}, {f->body + 10, 4000}};
    struct seglog_entry e = {.done = on_done, .arg = f, .body_parts = parts, .body_parts_n = 3};
    e.rec = (struct record){.type = REC_MSG, .id = {{1}, 1}, .body.n = 4010};
    e.rec.body_sum = record_body_sum(slice_of(f->body, 4010));
    assert_int_equal(seglog_append(f->log, &e), 0);
    settle(f);
    struct segread *r;
    struct record rec;
    assert_int_equal(segread_open(&r, f->disk), 0);
    assert_int_equal(segread_record(r, e.pos, e.size, &rec), 0);
    assert_true(slice_eq(rec.body, slice_of(f->body, 4010)));
    segread_close(&r);
    close_log(f);
}

static void test_lazy_waits_for_company(void **state)
{
    struct fixture *f = *state;
    open_log(f);
    assert_int_equal(append(f, 1, 100, ENTRY_LAZY | ENTRY_RESERVE), 0);
    uint64_t now = fake_now;
    assert_int_equal(seglog_next_us(f->log), now + f->cfg.lazy_us);
    seglog_turn(f->log);
    f->disk->ops->poll(f->disk, 0);
    struct seglog_info info;
    assert_int_equal(append(f, 2, 100, 0), 0);
    assert_int_equal(seglog_next_us(f->log), 0);
    settle(f);
    seglog_info(f->log, &info);
    assert_int_equal(info.groups, 1); /* both in one */
    assert_int_equal(append(f, 3, 100, ENTRY_LAZY), 0);
    fake_now += f->cfg.lazy_us;
    seglog_turn(f->log);
    assert_int_equal(seglog_next_us(f->log), UINT64_MAX); /* closed, on its way */
    settle(f);
    assert_int_equal(f->done_n, 3);
    close_log(f);
}

static void test_groups_gather_while_one_is_written(void **state)
{
    struct fixture *f = *state;
    struct seglog_info info;
    open_log(f);
    append(f, 1, 100, 0);
    seglog_turn(f->log);
    for (uint64_t i = 2; i <= 50; i++) {
        append(f, i, 100, 0);
        seglog_turn(f->log);
    }
    settle(f);
    seglog_info(f->log, &info);
    assert_int_equal(info.groups, 2);
    assert_int_equal(info.records, 50);
    assert_true(info.durable_pos >= f->entries[49].pos + f->entries[49].size);
    close_log(f);
}

static void test_torn_tail_is_dropped_for_good(void **state)
{
    struct fixture *f = *state;
    open_log(f);
    write_group(f, 1, 3, 5000);
    write_group(f, 4, 3, 5000);
    uint64_t last = f->entries[3].pos;
    crash(f);
    zero(f, last - GROUP_HEAD, 4096); /* head of the last group and its first record */
    flip(f, f->entries[4].pos + 2000);
    open_log(f);
    /* 4 and 5 are gone, 6 verifies: it is kept */
    assert_int_equal(f->seen_n, 4);
    assert_true(saw(f, 1) && saw(f, 2) && saw(f, 3) && saw(f, 6));
    assert_int_equal(f->damaged_n, 0);
    assert_int_equal(f->stats.salvaged_records, 1);
    assert_true(f->stats.torn_bytes > 0);
    write_group(f, 7, 2, 5000); /* later marks lie above the torn range */
    write_group(f, 9, 2, 5000);
    close_log(f);
    for (int i = 0; i < 2; i++) {
        open_log(f);
        assert_int_equal(f->seen_n, 8);
        assert_true(saw(f, 6));
        assert_int_equal(f->damaged_n + f->stats.torn_bytes, 0);
        close_log(f);
    }
    assert_int_equal(count_files(f, "quarantine"), 0);
}

static void test_damage_below_the_mark_is_quarantined(void **state)
{
    struct fixture *f = *state;
    open_log(f);
    for (uint64_t i = 1; i <= 10; i += 2)
        write_group(f, i, 2, 5000);
    uint64_t body = f->entries[2].pos + 2000, head = f->entries[6].pos - GROUP_HEAD + 20;
    crash(f);
    flip(f, body); /* a body: one record is lost */
    flip(f, head); /* a group's head: its records are found without it */
    for (int i = 0; i < 2; i++) {
        open_log(f);
        assert_int_equal(f->seen_n, 9);
        assert_false(saw(f, 3));
        assert_int_equal(f->damaged_n, 2);
        assert_true(f->damaged_pos[0] <= body && body < f->damaged_pos[0] + f->damaged_bytes[0]);
        assert_int_equal(f->stats.torn_bytes, 0);
        close_log(f);
    }
    assert_true(count_files(f, "quarantine") >= 2);
}

static void test_damage_in_a_sealed_segments_last_group(void **state)
{
    struct fixture *f = *state;
    open_log(f);
    write_group(f, 1, 2, 5000);
    uint64_t last = f->entries[1].pos;
    close_log(f); /* seals: all of it was durable */
    flip(f, last + 20);
    open_log(f);
    assert_int_equal(f->seen_n, 1);
    assert_int_equal(f->damaged_n, 1);
    close_log(f);
}

static void test_scan_changes_nothing(void **state)
{
    struct fixture *f = *state;
    open_log(f);
    write_group(f, 1, 5, 5000);
    write_group(f, 6, 5, 5000);
    crash(f);
    flip(f, f->entries[1].pos + 2000);
    struct seglog_open_stats st;
    const struct seglog_replay replay = {on_record, on_damaged, f};
    assert_int_equal(disk_file_open(&f->disk, f->dir, DISK_AUTO), 0);
    f->seen_n = f->damaged_n = 0;
    assert_int_equal(seglog_scan(f->disk, &replay, 0, &st), 0);
    f->disk->ops->destroy(f->disk);
    assert_int_equal(f->seen_n, 9);
    assert_int_equal(f->damaged_n, 1);
    assert_int_equal(count_files(f, "quarantine"), 0);
    open_log(f);
    assert_int_equal(f->seen_n, 9);
    assert_int_equal(f->damaged_n, 1);
    close_log(f);
}

static void test_a_lost_label_loses_no_mail(void **state)
{
    struct fixture *f = *state;
    open_log(f);
    write_group(f, 1, 5, 5000);
    uint64_t seg = logpos_seg(f->entries[0].pos);
    close_log(f);
    flip(f, logpos(seg, 20)); /* one of the two */
    open_log(f);
    assert_int_equal(f->seen_n, 5);
    assert_int_equal(f->damaged_n, 1);
    close_log(f);
    int fd = open_slot_of(f, seg);
    uint8_t junk[SEG_DATA_FROM];
    memset(junk, 0x5a, sizeof junk);
    assert_int_equal(pwrite(fd, junk, sizeof junk, 0), sizeof junk);
    close(fd);
    open_log(f);
    assert_int_equal(f->seen_n, 5);
    close_log(f);
}

static void test_recycling_resurrects_nothing(void **state)
{
    struct fixture *f = *state;
    f->cfg.max_bytes = 3 * SEGMENT;
    open_log(f);
    uint64_t counter = 1, seg = 0;
    for (int life = 0; life < 6; life++) {
        for (int i = 0; i < 10; i++, counter++) {
            write_group(f, counter, 1, 5000);
            f->entries_n = f->done_n = 0;
        }
        uint64_t now = logpos_seg(f->entries[0].pos);
        assert_true(now > seg); /* numbers are never used twice, also over a restart */
        seg = now;
        assert_int_equal(seglog_free_segment(f->log, seg), -SATCHEL_EBUSY);
        seglog_roll(f->log);
        settle(f);
        assert_int_equal(seglog_free_segment(f->log, seg), 0);
        assert_int_equal(seglog_free_segment(f->log, seg), -SATCHEL_ENOENT);
        close_log(f);
        open_log(f);
        assert_int_equal(f->seen_n, 0);
        assert_int_equal(f->stats.torn_bytes, 0);
    }
    write_group(f, counter, 1, 5000);
    crash(f);
    open_log(f);
    assert_int_equal(f->seen_n, 1);
    assert_int_equal(f->stats.damaged_ranges + f->stats.torn_bytes, 0);
    close_log(f);
}

static void test_full_disk_keeps_the_reserve(void **state)
{
    struct fixture *f = *state;
    f->cfg.max_bytes = 4 * SEGMENT;
    open_log(f);
    uint64_t counter = 1;
    int rc;
    while ((rc = append(f, counter, 20000, 0)) == 0) {
        counter++;
        settle(f);
    }
    assert_int_equal(rc, -SATCHEL_EFULL);
    assert_in_range(counter, 30, 40); /* three segments of twelve */
    struct seglog_info info;
    seglog_info(f->log, &info);
    assert_int_equal(info.spare_segments, 1);
    assert_true(info.room_bytes < 30000);
    int extra = 0;
    for (; extra < 15 && append(f, 1000, 20000, ENTRY_RESERVE) == 0; extra++)
        settle(f);
    assert_true(extra >= 10);
    assert_int_equal(append(f, counter, 100, 0), -SATCHEL_EFULL); /* not into what the reserve opened */
    uint64_t segs[8];
    assert_int_equal(seglog_segments(f->log, NULL, 0), 3);
    assert_int_equal(seglog_segments(f->log, segs, 8), 3);
    assert_int_equal(seglog_free_segment(f->log, segs[0]), 0);
    assert_int_equal(append(f, counter, 100, 0), 0); /* drained: mail is taken again */
    settle(f);
    size_t acked = f->done_n;
    for (size_t i = 0; i < acked; i++)
        assert_int_equal(f->done_res[i], 0);
    close_log(f);
    f->cfg.max_bytes = 2 * SEGMENT; /* also a disk that is over its limit opens, so that it can drain */
    open_log(f);
    assert_int_equal(append(f, counter, 100, 0), -SATCHEL_EFULL);
    assert_int_equal(append(f, counter, 100, ENTRY_RESERVE), 0);
    settle(f);
    close_log(f);
}

static void test_refill_makes_spares(void **state)
{
    struct fixture *f = *state;
    f->cfg.spare_segments = 3;
    open_log(f);
    struct seglog_info info;
    for (int i = 0; i < 1000; i++) {
        seglog_refill(f->log);
        f->disk->ops->poll(f->disk, 1000);
        seglog_info(f->log, &info);
        if (info.spare_segments >= 4)
            break;
    }
    assert_int_equal(info.spare_segments, 4);
    assert_false(seglog_refill(f->log));
    write_group(f, 1, 3, 5000);
    crash(f);
    open_log(f);
    assert_int_equal(f->seen_n, 3);
    close_log(f);
}

static void test_too_big_and_other_versions(void **state)
{
    struct fixture *f = *state;
    open_log(f);
    assert_int_equal(append(f, 1, SEGMENT, 0), -SATCHEL_ETOOBIG);
    close_log(f);
    assert_int_equal(disk_file_open(&f->disk, f->dir, DISK_SYNC), 0);
    f->disk->ops->put(f->disk, "FORMAT", SLICE_LIT("satchel-log 2\nwhatever\n"));
    f->disk->ops->destroy(f->disk);
    assert_int_equal(open_from(f, 0), -SATCHEL_EVERSION);
}

/* ---- a disk that fails: the real one, with one operation replaced */

static const struct disk_ops *real_ops;
static struct disk_ops other_ops;

static void disk_submits_by(struct fixture *f, void (*submit)(struct disk *d, struct disk_io *io))
{
    real_ops = f->disk->ops;
    other_ops = *real_ops;
    other_ops.submit = submit;
    f->disk->ops = &other_ops;
}

static void disk_is_real(struct fixture *f)
{
    f->disk->ops = real_ops;
}

static int fail_after; /* writes that still succeed; then every one fails */
static disk_io_done *failed_done;

static void done_with_eio(struct disk_io *io, int res)
{
    (void)res;
    failed_done(io, -SATCHEL_EIO);
}

static void failing_submit(struct disk *d, struct disk_io *io)
{
    if (fail_after-- <= 0) {
        failed_done = io->done;
        io->done = done_with_eio;
    }
    real_ops->submit(d, io);
}

static void test_failed_sync_fences(void **state)
{
    struct fixture *f = *state;
    open_log(f);
    write_group(f, 1, 1, 100);
    disk_submits_by(f, failing_submit);
    fail_after = 0;
    append(f, 2, 100, 0);
    seglog_turn(f->log);
    append(f, 3, 100, 0);
    settle(f);
    assert_int_equal(f->done_n, 3);
    assert_int_equal(f->done_res[1], -SATCHEL_EIO);
    assert_int_equal(f->done_res[2], -SATCHEL_EFENCED);
    assert_int_equal(append(f, 4, 100, ENTRY_RESERVE), -SATCHEL_EFENCED);
    struct seglog_info info;
    seglog_info(f->log, &info);
    assert_true(info.fenced);
    disk_is_real(f);
    close_log(f);
    open_log(f);
    assert_true(saw(f, 1));
    close_log(f);
}

/* ---- long bodies: the disk takes them from where they are */

enum { BLOCK = 64 << 10, BEFORE = 8168, END = 5000 };
static const void *pieces_at[DISK_PIECES];
static size_t pieces_of[DISK_PIECES], pieces_seen;

static void watching_submit(struct disk *d, struct disk_io *io)
{
    for (uint32_t i = 0; !io->buf && i < io->pieces_n; i++) {
        pieces_at[pieces_seen] = io->pieces[i].iov_base;
        pieces_of[pieces_seen++] = io->pieces[i].iov_len;
    }
    real_ops->submit(d, io);
}

static size_t bytes_taken_from(const uint8_t *p, size_t n)
{
    size_t sum = 0;
    for (size_t i = 0; i < pieces_seen; i++)
        if ((const uint8_t *)pieces_at[i] >= p && (const uint8_t *)pieces_at[i] < p + n)
            sum += pieces_of[i];
    return sum;
}

/* A body as the intake has it: a short block, two long ones on DISK_ALIGN, the last of them not full. */
struct long_body {
    uint8_t *memory;
    struct slice parts[3];
    size_t n;
};

static void long_body(struct long_body *b, size_t before)
{
    b->n = before + BLOCK + BLOCK - DISK_ALIGN + END;
    b->memory = aligned_alloc(DISK_ALIGN, 4 * BLOCK);
    for (size_t i = 0; i < (size_t)4 * BLOCK; i++)
        b->memory[i] = (uint8_t)(i * 31 >> 3);
    uint8_t *aligned = b->memory + BLOCK;
    b->parts[0] = slice_of(aligned - before, before);
    b->parts[1] = slice_of(aligned, BLOCK);
    b->parts[2] = slice_of(aligned + BLOCK, b->n - before - BLOCK);
}

/* Appends it between two short records in one group, and compares what is then on the disk; returns the bytes that
 * were borrowed. */
static size_t write_long(struct fixture *f, const struct long_body *b, uint32_t flags, struct slice meta)
{
    disk_submits_by(f, watching_submit);
    pieces_seen = 0;
    struct seglog_entry e = {.flags = flags, .done = on_done, .arg = f, .body_parts = b->parts, .body_parts_n = 3};
    e.rec = (struct record){.type = REC_MSG, .id = {{1}, 2}, .meta = meta, .body.n = b->n};
    uint8_t *whole = malloc(b->n), *end = whole;
    for (int i = 0; i < 3; i++)
        end = (uint8_t *)memcpy(end, b->parts[i].p, b->parts[i].n) + b->parts[i].n;
    e.rec.body_sum = record_body_sum(slice_of(whole, b->n));
    assert_int_equal(append(f, 1, 100, 0), 0);
    assert_int_equal(seglog_append(f->log, &e), 0);
    assert_int_equal(append(f, 3, 100, 0), 0);
    settle(f);
    disk_is_real(f);
    struct segread *r;
    struct record rec;
    assert_int_equal(segread_open(&r, f->disk), 0);
    assert_int_equal(segread_record(r, e.pos, e.size, &rec), 0);
    assert_true(slice_eq(rec.body, slice_of(whole, b->n)));
    assert_true(slice_eq(rec.meta, meta));
    segread_close(&r);
    free(whole);
    return bytes_taken_from(b->memory, (size_t)4 * BLOCK);
}

static void test_a_long_body_is_borrowed(void **state)
{
    struct fixture *f = *state;
    struct long_body b;
    long_body(&b, BEFORE);
    open_log(f);
    size_t lent = write_long(f, &b, ENTRY_BORROW, SLICE_LIT("12345678"));
    assert_int_equal(lent, 2 * BLOCK - DISK_ALIGN + END / DISK_ALIGN * DISK_ALIGN);
    crash(f); /* what the scan reports: the three, and no FILL */
    open_log(f);
    assert_int_equal(f->seen_n, 3);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(f->seen[i].counter, i + 1);
    assert_int_equal(f->stats.torn_bytes + f->stats.damaged_ranges + f->stats.salvaged_records, 0);
    close_log(f);
    free(b.memory);
}

static void test_what_does_not_lie_on_sectors_is_copied(void **state)
{
    struct fixture *f = *state;
    struct long_body b, odd;
    long_body(&b, BEFORE);
    long_body(&odd, BEFORE + 1);
    open_log(f);
    assert_int_equal(write_long(f, &b, 0, SLICE_LIT("12345678")), 0);
    assert_int_equal(write_long(f, &b, ENTRY_BORROW, SLICE_LIT("1234567")), 0);
    assert_int_equal(write_long(f, &odd, ENTRY_BORROW, SLICE_LIT("12345678")), 0);
    assert_true(write_long(f, &odd, ENTRY_BORROW, SLICE_LIT("1234567")) > 0); /* 8 + 8k again */
    struct slice last = b.parts[2]; /* what comes behind a part that ends within a sector lies on none */
    b.parts[2] = b.parts[1];
    b.parts[1] = last;
    assert_int_equal(write_long(f, &b, ENTRY_BORROW, SLICE_LIT("12345678")), last.n / DISK_ALIGN * DISK_ALIGN);
    close_log(f);
    free(b.memory);
    free(odd.memory);
}

/* It comes from elsewhere than the others: one piece of it, and the write is not from registered memory. */
static void test_the_first_part_is_copied_even_from_a_sector(void **state)
{
    struct fixture *f = *state;
    struct long_body b;
    long_body(&b, DISK_ALIGN);
    assert_int_equal((uintptr_t)b.parts[0].p % DISK_ALIGN, 0);
    open_log(f);
    size_t lent = write_long(f, &b, ENTRY_BORROW, SLICE_LIT("12345678"));
    assert_int_equal(lent, 2 * BLOCK - DISK_ALIGN + END / DISK_ALIGN * DISK_ALIGN);
    close_log(f);
    free(b.memory);
}

/* Each size of what stands before it: the FILL is at least a header, and at most a sector and a header. */
static void test_a_fill_of_each_size(void **state)
{
    struct fixture *f = *state;
    open_log(f);
    for (size_t before = 8; before <= DISK_ALIGN + 8; before += 56) {
        struct long_body b;
        long_body(&b, before);
        assert_true(write_long(f, &b, ENTRY_BORROW, SLICE_LIT("")) > BLOCK);
        free(b.memory);
        struct seglog_info info;
        seglog_info(f->log, &info);
        seglog_roll(f->log);
        settle(f);
        assert_int_equal(seglog_free_segment(f->log, info.active_seg), 0);
    }
    close_log(f);
}

/* A disk that takes writes and keeps them until the test ends them. */
static struct disk_io *held[8];
static int held_n;

static void holding_submit(struct disk *d, struct disk_io *io)
{
    (void)d;
    held[held_n++] = io;
}

static void test_a_fenced_log_keeps_what_the_disk_still_writes(void **state)
{
    struct fixture *f = *state;
    open_log(f);
    write_group(f, 1, 1, 100);
    disk_submits_by(f, holding_submit);
    held_n = 0;
    for (uint64_t i = 2; i <= 3; i++) {
        append(f, i, 100, 0);
        fake_now += 2000;
        seglog_turn(f->log);
    }
    append(f, 4, 100, 0);
    assert_int_equal(held_n, 2);
    held[0]->done(held[0], -SATCHEL_EIO);
    assert_int_equal(f->done_n, 2); /* the second is being read by the disk, the third comes after it */
    assert_int_equal(f->done_res[1], -SATCHEL_EIO);
    assert_int_equal(append(f, 5, 100, 0), -SATCHEL_EFENCED);
    assert_false(seglog_idle(f->log));
    held[1]->done(held[1], 0);
    assert_int_equal(f->done_n, 4);
    for (size_t i = 2; i < 4; i++) {
        assert_int_equal(f->done[i], i + 1);
        assert_int_equal(f->done_res[i], -SATCHEL_EFENCED);
    }
    assert_true(seglog_idle(f->log));
    disk_is_real(f);
    close_log(f);
}

int main(void)
{
    log_level_now = LOG_LEVEL_ERROR;
    if (!getenv("SEGLOG_TEST_LOG") && !freopen("/dev/null", "w", stderr)) /* the log's lines; cmocka writes elsewhere */
        return 1;
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_records_come_back_in_order),
        T(test_replay_from_a_position),
        T(test_body_parts_are_joined),
        T(test_lazy_waits_for_company),
        T(test_groups_gather_while_one_is_written),
        T(test_torn_tail_is_dropped_for_good),
        T(test_damage_below_the_mark_is_quarantined),
        T(test_damage_in_a_sealed_segments_last_group),
        T(test_scan_changes_nothing),
        T(test_a_lost_label_loses_no_mail),
        T(test_recycling_resurrects_nothing),
        T(test_full_disk_keeps_the_reserve),
        T(test_refill_makes_spares),
        T(test_too_big_and_other_versions),
        T(test_a_long_body_is_borrowed),
        T(test_the_first_part_is_copied_even_from_a_sector),
        T(test_what_does_not_lie_on_sectors_is_copied),
        T(test_a_fill_of_each_size),
        T(test_failed_sync_fences),
        T(test_a_fenced_log_keeps_what_the_disk_still_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
