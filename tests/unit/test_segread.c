/* test_segread.c - reading records by position, beside a running log: runs, heads, recycled segments, damage. */
#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/wire.h"
#include "spool/segment/segfile.h"
#include "spool/segment/seglog.h"
#include "spool/segment/segread.h"
#include "tests/unit/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { SEGMENT = 256 << 10, N = 200 };

struct fixture {
    char dir[SCRATCH_MAX];
    struct disk *disk, counted; /* counted: the same disk, with reads counted */
    struct disk_ops ops;
    struct seglog *log;
    struct segread *reader;
    struct seglog_entry entries[N];
    uint8_t *body, meta[64];
    size_t meta_n;
    int done;
};

static struct fixture *counting;
static int reads;

static int64_t counted_read(struct disk *d, int file, uint64_t off, void *buf, size_t n)
{
    reads++;
    (void)d;
    return counting->disk->ops->read(counting->disk, file, off, buf, n);
}

static int counted_open(struct disk *d, const char *name, uint64_t *size_r)
{
    (void)d;
    return counting->disk->ops->open(counting->disk, name, size_r);
}

static void counted_close(struct disk *d, int file)
{
    (void)d;
    counting->disk->ops->close(counting->disk, file);
}

static int counted_list(struct disk *d, void (*each)(void *arg, const char *name, uint64_t size), void *arg)
{
    (void)d;
    return counting->disk->ops->list(counting->disk, each, arg);
}

static void on_done(struct seglog_entry *e, int res)
{
    assert_int_equal(res, 0);
    ((struct fixture *)e->arg)->done++;
}

static void settle(struct fixture *f)
{
    for (int i = 0; i < 2000 && !seglog_idle(f->log); i++) {
        seglog_turn(f->log);
        f->disk->ops->poll(f->disk, 1000);
    }
    assert_true(seglog_idle(f->log));
}

static void append(struct fixture *f, int i, size_t body)
{
    struct seglog_entry *e = &f->entries[i];
    *e = (struct seglog_entry){.done = on_done, .arg = f};
    e->rec = (struct record){
        .type = REC_MSG, .id = {{2}, (uint64_t)i + 1}, .meta = {f->meta, f->meta_n}, .body = {f->body + i, body}};
    e->rec.body_sum = record_body_sum(e->rec.body);
    int rc = seglog_append(f->log, e);
    if (rc == -SATCHEL_EAGAIN) {
        settle(f);
        rc = seglog_append(f->log, e);
    }
    assert_int_equal(rc, 0);
}

static void write_all(struct fixture *f, int from, int n, size_t body)
{
    for (int i = from; i < from + n; i++)
        append(f, i, body);
    settle(f);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    scratch_make_on_disk(f->dir, "segread");
    f->body = malloc(REC_BODY_MAX);
    for (size_t i = 0; i < REC_BODY_MAX; i++)
        f->body[i] = (uint8_t)(i * 131 >> 3);
    struct wire_wr w = wire_wr(f->meta, sizeof f->meta);
    meta_put(&w, RT_DOMAIN, SLICE_LIT("example.com"));
    f->meta_n = wire_len(&w);
    struct seglog_config cfg = seglog_config_default;
    cfg.segment_bytes = SEGMENT;
    cfg.spare_segments = 0;
    cfg.max_bytes = 32 * SEGMENT;
    assert_int_equal(disk_file_open(&f->disk, f->dir, DISK_AUTO), 0);
    assert_int_equal(seglog_open(&f->log, &cfg, f->disk, clock_system(), NULL, 0, NULL), 0);
    f->ops = *f->disk->ops;
    f->ops.read = counted_read;
    f->ops.open = counted_open;
    f->ops.close = counted_close;
    f->ops.list = counted_list;
    f->counted = (struct disk){&f->ops, -1};
    counting = f;
    assert_int_equal(segread_open(&f->reader, &f->counted), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    segread_close(&f->reader);
    seglog_close(&f->log);
    f->disk->ops->destroy(f->disk);
    scratch_remove(f->dir);
    free(f->body);
    free(f);
    return 0;
}

static void check(struct fixture *f, int i)
{
    struct record rec;
    const struct seglog_entry *e = &f->entries[i];
    assert_int_equal(segread_record(f->reader, e->pos, e->size, &rec), 0);
    assert_int_equal(rec.id.counter, i + 1);
    assert_true(slice_eq(rec.body, e->rec.body));
}

static void test_a_run_costs_few_reads(void **state)
{
    struct fixture *f = *state;
    write_all(f, 0, N, 4096); /* several segments */
    check(f, 0);
    reads = 0;
    for (int i = 1; i < N; i++)
        check(f, i);
    assert_in_range(reads, 1, N / 5);
    for (int i = N; i-- > 0;) /* and backwards */
        check(f, i);
}

static void test_a_window_read_too_early_is_read_again(void **state)
{
    struct fixture *f = *state;
    write_all(f, 0, 3, 3000);
    for (int i = 0; i < 3; i++)
        check(f, i); /* the run reads ahead, into what is not written yet */
    write_all(f, 3, 20, 3000);
    for (int i = 3; i < 23; i++)
        check(f, i);
}

static void test_heads_need_no_body(void **state)
{
    struct fixture *f = *state;
    write_all(f, 0, 3, 60000);
    struct record rec;
    assert_int_equal(segread_head(f->reader, f->entries[1].pos, f->entries[1].size, &rec), 0);
    assert_null(rec.body.p);
    assert_int_equal(rec.body.n, 60000);
    assert_true(slice_eq(meta_find(rec.meta, RT_DOMAIN), SLICE_LIT("example.com")));
    assert_int_equal(segread_head(f->reader, f->entries[1].pos, f->entries[1].size + 8, &rec), -SATCHEL_EDAMAGED);
}

static void test_recycled_segment_is_not_there(void **state)
{
    struct fixture *f = *state;
    struct record rec;
    write_all(f, 0, 5, 5000);
    const struct seglog_entry old = f->entries[4];
    check(f, 0);
    seglog_roll(f->log);
    settle(f);
    assert_int_equal(seglog_free_segment(f->log, logpos_seg(old.pos)), 0);
    write_all(f, 5, 100, 5000); /* over the slots, the freed one among them */
    assert_int_equal(segread_record(f->reader, old.pos, old.size, &rec), -SATCHEL_ENOENT);
    assert_int_equal(segread_head(f->reader, old.pos, old.size, &rec), -SATCHEL_ENOENT);
    assert_int_equal(segread_record(f->reader, logpos(999, 8256), 200, &rec), -SATCHEL_ENOENT);
    for (int i = 5; i < 105; i++)
        check(f, i);
}

static void overwrite(struct fixture *f, uint64_t pos, uint8_t with)
{
    char name[SLOT_NAME_MAX], path[128];
    for (uint32_t slot = 0; slot < 64; slot++) {
        uint64_t size;
        struct seg_label_read label;
        slot_name(slot, name);
        int file = f->disk->ops->open(f->disk, name, &size);
        if (file < 0)
            continue;
        bool here = segfile_read_label(f->disk, file, &label) == 0 && label.label.seg == logpos_seg(pos);
        f->disk->ops->close(f->disk, file);
        if (!here)
            continue;
        snprintf(path, sizeof path, "%s/%s", f->dir, name);
        FILE *s = fopen(path, "r+");
        fseek(s, (long)logpos_off(pos), SEEK_SET);
        fputc(with, s);
        fclose(s);
    }
}

static void test_damage_is_told_from_absence(void **state)
{
    struct fixture *f = *state;
    struct record rec;
    write_all(f, 0, 5, 5000);
    const struct seglog_entry *e = &f->entries[2];
    overwrite(f, e->pos + e->size - 200, (uint8_t)~e->rec.body.p[e->rec.body.n - 200]);
    overwrite(f, f->entries[4].pos + 20, 0xee);
    assert_int_equal(segread_record(f->reader, e->pos, e->size, &rec), -SATCHEL_EDAMAGED);
    assert_int_equal(segread_record(f->reader, f->entries[4].pos, f->entries[4].size, &rec), -SATCHEL_EDAMAGED);
    check(f, 1);
    check(f, 3);
}

static int collect(void *arg, const struct record *rec, uint64_t pos, uint32_t size)
{
    uint64_t **at = arg;
    assert_true(size > 0 && pos > 0);
    *(*at)++ = rec->id.counter;
    return rec->id.counter == 150 ? 77 : 0;
}

static void test_whole_segment_in_order(void **state)
{
    struct fixture *f = *state;
    write_all(f, 0, N, 4096);
    uint64_t segs[32], seen[N + 1], *at = seen;
    size_t n = seglog_segments(f->log, segs, 32);
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = segread_segment(f->reader, segs[i], collect, &at);
    assert_int_equal(rc, 77); /* the callback's own */
    assert_int_equal(at - seen, 150);
    for (uint64_t i = 0; i < 150; i++)
        assert_int_equal(seen[i], i + 1);
    assert_int_equal(segread_segment(f->reader, 999, collect, &at), -SATCHEL_ENOENT);
}

int main(void)
{
    log_level_now = LOG_LEVEL_ERROR;
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_a_run_costs_few_reads),       T(test_a_window_read_too_early_is_read_again),
        T(test_heads_need_no_body),          T(test_recycled_segment_is_not_there),
        T(test_damage_is_told_from_absence), T(test_whole_segment_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
