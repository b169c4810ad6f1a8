/* test_disk.c - the real disk, with each engine: writes, order of what is reported, files, waking. */
#include "spool/base/err.h"
#include "spool/segment/disk_file.h"
#include "tests/unit/scratch.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { FILE_BYTES = 1 << 20 };

struct fixture {
    char dir[SCRATCH_MAX];
    struct disk *disk;
    enum disk_engine engine;
    uint8_t *buf; /* FILE_BYTES, and as many that are never registered */
    int done, res;
};

static int setup(void **state, enum disk_engine engine)
{
    struct fixture *f = calloc(1, sizeof *f);
    scratch_make_on_disk(f->dir, "disk");
    f->engine = engine;
    f->buf = aligned_alloc(DISK_ALIGN, 2 * FILE_BYTES);
    for (size_t i = 0; i < 2 * FILE_BYTES; i++)
        f->buf[i] = (uint8_t)(i * 7 >> 2);
    *state = f;
    int rc = disk_file_open(&f->disk, f->dir, engine);
    if (rc && engine == DISK_URING) {
        f->disk = NULL; /* the machine has no io_uring: the tests skip */
        return 0;
    }
    return rc;
}

static int setup_uring(void **state)
{
    return setup(state, DISK_URING);
}

static int setup_registered(void **state)
{
    int rc = setup(state, DISK_URING);
    struct fixture *f = *state;
    if (rc == 0 && f->disk)
        assert_int_equal(f->disk->ops->register_memory(f->disk, f->buf, FILE_BYTES), 0);
    return rc;
}

static int setup_sync(void **state)
{
    return setup(state, DISK_SYNC);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->disk)
        f->disk->ops->destroy(f->disk);
    scratch_remove(f->dir);
    free(f->buf);
    free(f);
    return 0;
}

static struct fixture *begin(void **state)
{
    struct fixture *f = *state;
    if (!f->disk)
        skip();
    return f;
}

static void on_done(struct disk_io *io, int res)
{
    struct fixture *f = io->arg;
    f->done++;
    f->res = res;
}

static void submit(struct fixture *f, struct disk_io *io, int file, uint64_t off, const void *buf, size_t n, bool sync)
{
    *io = (struct disk_io){.file = file, .off = off, .buf = buf, .n = n, .sync = sync, .done = on_done, .arg = f};
    f->disk->ops->submit(f->disk, io);
}

static void wait_done(struct fixture *f, int n)
{
    for (int i = 0; i < 1000 && f->done < n; i++)
        f->disk->ops->poll(f->disk, 10000);
    assert_int_equal(f->done, n);
}

static void test_write_and_read_back(void **state)
{
    struct fixture *f = begin(state);
    uint8_t back[8192];
    int file = f->disk->ops->create(f->disk, "a", FILE_BYTES, true);
    assert_true(file >= 0);
    struct disk_io io[4];
    for (int i = 0; i < 4; i++) /* with and without sync, several at once */
        submit(f, &io[i], file, (uint64_t)i * 65536, f->buf + (size_t)i * 8192, 8192, i != 1);
    assert_int_equal(f->done, 0); /* never before poll */
    wait_done(f, 4);
    assert_int_equal(f->res, 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(f->disk->ops->read(f->disk, file, (uint64_t)i * 65536, back, 8192), 8192);
        assert_memory_equal(back, f->buf + (size_t)i * 8192, 8192);
    }
    assert_int_equal(f->disk->ops->read(f->disk, file, FILE_BYTES - 100, back, 8192), 100);
    f->disk->ops->close(f->disk, file);
    uint64_t size;
    file = f->disk->ops->open(f->disk, "a", &size);
    assert_int_equal(size, FILE_BYTES);
    submit(f, &io[0], file, 4096, f->buf, 4096, true); /* the first sync after an open is an fdatasync */
    wait_done(f, 5);
    submit(f, &io[0], file, 8192, f->buf, 4096, true);
    wait_done(f, 6);
    assert_int_equal(f->res, 0);
}

static void test_pieces_are_one_write(void **state)
{
    struct fixture *f = begin(state);
    uint8_t back[5 * 4096];
    int file = f->disk->ops->create(f->disk, "a", FILE_BYTES, true);
    for (int sync = 0; sync < 2; sync++) {
        struct iovec pieces[] = {{f->buf + 16384, 4096}, {f->buf, 8192}, {f->buf + 32768, 8192}};
        struct disk_io io = {.file = file, .off = 8192, .n = sizeof back, .pieces = pieces, .pieces_n = 3};
        io.sync = sync;
        io.done = on_done;
        io.arg = f;
        f->disk->ops->submit(f->disk, &io);
        wait_done(f, sync + 1);
        assert_int_equal(f->res, 0);
        assert_int_equal(f->disk->ops->read(f->disk, file, 8192, back, sizeof back), sizeof back);
        assert_memory_equal(back, f->buf + 16384, 4096);
        assert_memory_equal(back + 4096, f->buf, 8192);
        assert_memory_equal(back + 12288, f->buf + 32768, 8192);
    }
}

/* What is left of pieces when a write stops: at their border, within one, at the end. */
static void test_a_short_write_goes_on_in_its_pieces(void **state)
{
    (void)state;
    uint8_t bytes[12288];
    struct iovec pieces[] = {{bytes, 4096}, {bytes + 4096, 4096}, {bytes + 8192, 4096}}, *v = pieces;
    struct disk_io io = {.n = sizeof bytes, .pieces = pieces, .pieces_n = 3};
    disk_file_wrote(&io, 4096);
    assert_true(io.at == 4096 && io.pieces == v + 1 && io.pieces_n == 2 && v[1].iov_len == 4096);
    disk_file_wrote(&io, 512);
    assert_true(io.pieces == v + 1 && v[1].iov_base == bytes + 4608 && v[1].iov_len == 3584);
    disk_file_wrote(&io, 3584 + 1024);
    assert_true(io.pieces == v + 2 && io.pieces_n == 1 && v[2].iov_base == bytes + 9216 && v[2].iov_len == 3072);
    disk_file_wrote(&io, 3072);
    assert_true(io.at == sizeof bytes && io.pieces_n == 0);
}

/* RLIMIT_FSIZE makes the kernel write short at the limit, and fail behind it. */
static void test_short_write_is_no_success(void **state)
{
    struct fixture *f = begin(state);
    int file = f->disk->ops->create(f->disk, "a", FILE_BYTES, true);
    struct rlimit was, low = {0};
    getrlimit(RLIMIT_FSIZE, &was);
    low.rlim_cur = FILE_BYTES / 2 + 512; /* also not aligned for O_DIRECT */
    low.rlim_max = was.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &low);
    for (int i = 0; i < 2; i++) { /* linked to its sync, and with RWF_DSYNC */
        struct disk_io io;
        submit(f, &io, file, FILE_BYTES / 2 - 4096, f->buf, 16384, true);
        wait_done(f, 2 * i + 1);
        assert_true(f->res < 0);
        struct iovec pieces[] = {{f->buf, 4096}, {f->buf + 8192, 8192}}; /* short in the second */
        io = (struct disk_io){.file = file, .off = FILE_BYTES / 2 - 4096, .n = 12288, .pieces = pieces, .pieces_n = 2};
        io.sync = true;
        io.done = on_done;
        io.arg = f;
        f->disk->ops->submit(f->disk, &io);
        wait_done(f, 2 * i + 2);
        assert_true(f->res < 0);
        uint8_t back[512];
        assert_int_equal(f->disk->ops->read(f->disk, file, FILE_BYTES / 2, back, 512), 512);
        assert_memory_equal(back, f->buf + 8192, 512);
    }
    setrlimit(RLIMIT_FSIZE, &was);
}

static struct uring_disk_stat uring_stat(struct fixture *f)
{
    struct uring_disk_stat st;
    uring_disk_stat(((struct disk_file *)f->disk)->uring, &st);
    return st;
}

/* With a piece elsewhere, even of one byte more, the kernel would refuse the registration's number. */
static void only_what_lies_in_registered_memory_goes_out_from_there(void **state)
{
    struct fixture *f = begin(state);
    uint8_t *end = f->buf + FILE_BYTES, back[3 * 4096];
    const struct {
        struct iovec v[3];
        uint32_t n;
        bool registered;
    } writes[] = {
        {{{f->buf, 4096}}, 1, true},
        {{{end - 8192, 8192}}, 1, true},
        {{{end - 4096, 8192}}, 1, false},
        {{{end, 4096}}, 1, false},
        {{{end + 65536, 4096}}, 1, false},
        {{{f->buf + 8192, 4096}, {f->buf, 4096}, {end - 4096, 4096}}, 3, true},
        {{{f->buf + 8192, 4096}, {end, 4096}, {f->buf, 4096}}, 3, false},
        {{{f->buf + 8192, 4096}, {f->buf, 4096}, {end - 2048, 4096}}, 3, false},
    };
    int file = f->disk->ops->create(f->disk, "a", FILE_BYTES, true);
    uint64_t want = 0;
    for (size_t i = 0; i < sizeof writes / sizeof *writes; i++) {
        struct iovec v[3];
        memcpy(v, writes[i].v, sizeof v);
        struct disk_io io = {.file = file, .off = 4096, .pieces = v, .pieces_n = writes[i].n, .sync = true};
        for (uint32_t k = 0; k < io.pieces_n; k++)
            io.n += v[k].iov_len;
        io.done = on_done;
        io.arg = f;
        want += writes[i].registered && (io.pieces_n == 1 || uring_stat(f).vectored);
        f->disk->ops->submit(f->disk, &io);
        wait_done(f, (int)i + 1);
        assert_int_equal(f->res, 0);
        assert_int_equal(uring_stat(f).from_registered, want);
        assert_int_equal(f->disk->ops->read(f->disk, file, 4096, back, io.n), io.n);
        for (uint32_t k = 0, at = 0; k < io.pieces_n; at += (uint32_t)writes[i].v[k++].iov_len)
            assert_memory_equal(back + at, writes[i].v[k].iov_base, writes[i].v[k].iov_len);
    }
}

static void test_files(void **state)
{
    struct fixture *f = begin(state);
    const struct disk_ops *ops = f->disk->ops;
    char back[32];
    uint64_t size;
    assert_int_equal(ops->open(f->disk, "none", &size), -SATCHEL_ENOENT);
    assert_int_equal(ops->get(f->disk, "none", back, sizeof back), -SATCHEL_ENOENT);
    assert_int_equal(ops->put(f->disk, "small", SLICE_LIT("first content")), 0);
    assert_int_equal(ops->put(f->disk, "small", SLICE_LIT("second")), 0);
    assert_int_equal(ops->get(f->disk, "small", back, sizeof back), 6);
    assert_memory_equal(back, "second", 6);
    int file = ops->create(f->disk, "a", 65536, false);
    assert_true(file >= 0);
    assert_int_equal(ops->create(f->disk, "a", 65536, false), -SATCHEL_EEXIST);
    assert_int_equal(ops->remove(f->disk, "a"), 0);
    assert_int_equal(ops->read(f->disk, file, 0, back, sizeof back), sizeof back); /* the handle stays good */
    ops->close(f->disk, file);
    assert_int_equal(ops->remove(f->disk, "a"), -SATCHEL_ENOENT);
}

/* It would take what is left of the disk from everybody, for as long as it takes to fail. */
static void test_what_has_no_room_is_not_begun(void **state)
{
    struct fixture *f = begin(state);
    const struct disk_ops *ops = f->disk->ops;
    const struct timespec long_ago[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    struct stat st;
    uint64_t size;
    assert_int_equal(utimensat(AT_FDCWD, f->dir, long_ago, 0), 0);
    for (int prewrite = 0; prewrite < 2; prewrite++)
        assert_int_equal(ops->create(f->disk, "huge", ops->room(f->disk) + (1ull << 30), prewrite), -SATCHEL_EFULL);
    assert_int_equal(ops->open(f->disk, "huge", &size), -SATCHEL_ENOENT);
    assert_int_equal(stat(f->dir, &st), 0);
    assert_int_equal(st.st_mtim.tv_sec, 1); /* no name came and went */
}

static void count(void *arg, const char *name, uint64_t size)
{
    (void)name;
    *(uint64_t *)arg += size;
}

static void test_list(void **state)
{
    struct fixture *f = begin(state);
    f->disk->ops->put(f->disk, "a", SLICE_LIT("1234"));
    f->disk->ops->put(f->disk, "b", SLICE_LIT("12345"));
    for (int i = 0; i < 2; i++) {
        uint64_t sum = 0;
        assert_int_equal(f->disk->ops->list(f->disk, count, &sum), 0);
        assert_int_equal(sum, 9);
    }
}

static uint64_t now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

static void test_poll_wakes_and_times_out(void **state)
{
    struct fixture *f = begin(state);
    uint64_t t = now_us();
    f->disk->ops->poll(f->disk, 20000);
    assert_true(now_us() - t >= 15000);
    f->disk->wake_fd = eventfd(0, EFD_NONBLOCK);
    for (int i = 0; i < 3; i++) {
        eventfd_t v;
        eventfd_write(f->disk->wake_fd, 1);
        t = now_us();
        f->disk->ops->poll(f->disk, 10000000);
        assert_true(now_us() - t < 5000000);
        eventfd_read(f->disk->wake_fd, &v);
    }
    close(f->disk->wake_fd);
}

/* Destroying waits for the kernel to let go of the buffers, and closes nothing that is not its own. */
static void test_destroy_with_writes_under_way(void **state)
{
    struct fixture *f = begin(state);
    int file = f->disk->ops->create(f->disk, "a", FILE_BYTES, false), before = fcntl(0, F_GETFD);
    struct disk_io io;
    submit(f, &io, file, 0, f->buf, FILE_BYTES, true);
    f->disk->ops->destroy(f->disk);
    f->disk = NULL;
    assert_int_equal(f->done, 0);
    assert_int_equal(fcntl(0, F_GETFD), before);
}

/* A FUSE file system's page cache goes stale beside O_DIRECT: GlusterFS, found by tests/cluster/shared.py. */
static void only_known_file_systems_are_written_around_the_page_cache(void **state)
{
    (void)state;
    assert_true(disk_file_direct_is_safe(0xEF53));
    assert_true(disk_file_direct_is_safe(0x58465342));
    assert_true(disk_file_direct_is_safe((int32_t)0x9123683E)); /* f_type is signed on some machines */
    assert_false(disk_file_direct_is_safe(0x65735546));         /* FUSE */
    assert_false(disk_file_direct_is_safe(0x6969));             /* NFS */
    assert_false(disk_file_direct_is_safe(0));
}

int main(void)
{
#define T(name)                                                                                                        \
    cmocka_unit_test_setup_teardown(name, setup_uring, teardown),                                                      \
        cmocka_unit_test_setup_teardown(name, setup_registered, teardown),                                             \
        cmocka_unit_test_setup_teardown(name, setup_sync, teardown)
    const struct CMUnitTest tests[] = {
        T(test_write_and_read_back),
        T(test_pieces_are_one_write),
        cmocka_unit_test(test_a_short_write_goes_on_in_its_pieces),
        T(test_short_write_is_no_success),
        cmocka_unit_test_setup_teardown(only_what_lies_in_registered_memory_goes_out_from_there, setup_registered,
                                        teardown),
        T(test_files),
        T(test_what_has_no_room_is_not_begun),
        T(test_list),
        T(test_poll_wakes_and_times_out),
        T(test_destroy_with_writes_under_way),
        cmocka_unit_test(only_known_file_systems_are_written_around_the_page_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
