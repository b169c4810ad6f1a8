/* disk_uring.c - the io_uring engine: writes of the log's owner, several at once.
 *
 * A write is one SQE (with RWF_DSYNC where it has to be durable), or two: the write linked to an fdatasync.  LINK and
 * not HARDLINK: a short write then cancels the sync instead of passing for durable.  The rest of a short write is
 * submitted again, with its sync.
 *
 * A write from registered memory names the registration instead of having its pages looked up and pinned.  In several
 * pieces that needs Linux 6.15; before, such a write goes out like any other. */
#include "spool/segment/disk_file.h"

#include "spool/base/err.h"

#include <assert.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>

/* linux/io_uring.h from 6.15 on; Debian 12's liburing and headers are older.  addr and len as for WRITEV, buf_index as
 * for WRITE_FIXED; all pieces lie in that one buffer. */
enum { OP_WRITEV_FIXED = 61 };

enum { DEPTH = 64 };

struct uring_disk {
    struct io_uring ring;
    struct disk_file *disk;
    unsigned inflight;       /* SQEs without their CQE, the wake poll apart */
    bool armed;              /* a poll on the wake descriptor is out */
    struct iovec registered; /* the ring's only buffer; iov_len == 0: there is none */
    struct uring_disk_stat stat;
};

/* io->state: how the write went out, or how its first half ended. */
enum { IO_SINGLE, IO_LINKED, IO_LINKED_SHORT };

/* user_data: the disk_io, with bit 0 set on the fdatasync; or &wake_tag. */
static _Alignas(struct disk_io) char wake_tag;

int uring_disk_open(struct uring_disk **u_r, struct disk_file *d)
{
    struct uring_disk *u = calloc(1, sizeof *u);
    if (!u)
        return -ENOMEM;
    int rc = io_uring_queue_init(DEPTH, &u->ring, IORING_SETUP_COOP_TASKRUN);
    if (rc == -EINVAL) /* before Linux 5.19 */
        rc = io_uring_queue_init(DEPTH, &u->ring, 0);
    if (rc < 0) {
        free(u);
        return rc;
    }
    u->disk = d;
    *u_r = u;
    return 0;
}

static bool kernel_knows(struct uring_disk *u, int op)
{
    struct io_uring_probe *p = io_uring_get_probe_ring(&u->ring);
    bool knows = p && io_uring_opcode_supported(p, op);
    io_uring_free_probe(p);
    return knows;
}

int uring_disk_register(struct uring_disk *u, void *memory, size_t n)
{
    struct iovec v = {memory, n};
    assert(!u->registered.iov_len);
    int rc = io_uring_register_buffers(&u->ring, &v, 1);
    if (rc < 0)
        return rc;
    u->registered = v;
    u->stat.vectored = kernel_knows(u, OP_WRITEV_FIXED);
    return 0;
}

void uring_disk_stat(const struct uring_disk *u, struct uring_disk_stat *st_r)
{
    *st_r = u->stat;
}

/* Room for n SQEs that are submitted together. */
static void make_room(struct uring_disk *u, unsigned n)
{
    if (io_uring_sq_space_left(&u->ring) < n)
        io_uring_submit(&u->ring);
    assert(io_uring_sq_space_left(&u->ring) >= n);
}

static bool all_registered(const struct uring_disk *u, const struct disk_io *io)
{
    uintptr_t from = (uintptr_t)u->registered.iov_base;
    for (uint32_t i = 0; i < io->pieces_n; i++) {
        uintptr_t at = (uintptr_t)io->pieces[i].iov_base - from; /* what lies before `from` wraps around */
        if (at >= u->registered.iov_len || io->pieces[i].iov_len > u->registered.iov_len - at)
            return false;
    }
    return io->pieces_n == 1 || u->stat.vectored;
}

static void prep_write(struct uring_disk *u, struct io_uring_sqe *s, int fd, const struct disk_io *io)
{
    uint64_t off = io->off + io->at;
    if (!all_registered(u, io)) {
        io_uring_prep_writev(s, fd, io->pieces, io->pieces_n, off);
        return;
    }
    u->stat.from_registered++;
    if (io->pieces_n == 1) {
        io_uring_prep_write_fixed(s, fd, io->pieces->iov_base, (unsigned)io->pieces->iov_len, off, 0);
    } else {
        io_uring_prep_rw(OP_WRITEV_FIXED, s, fd, io->pieces, io->pieces_n, off);
        s->buf_index = 0;
    }
}

static void prepare(struct uring_disk *u, struct disk_io *io)
{
    struct disk_piece p = disk_file_piece(u->disk, io);
    make_room(u, 2);
    struct io_uring_sqe *s = io_uring_get_sqe(&u->ring);
    prep_write(u, s, p.fd, io);
    io_uring_sqe_set_data(s, io);
    if (p.dsync)
        s->rw_flags = RWF_DSYNC;
    io->state = p.barrier ? IO_LINKED : IO_SINGLE;
    u->inflight++;
    if (!p.barrier)
        return;
    s->flags |= IOSQE_IO_LINK;
    s = io_uring_get_sqe(&u->ring);
    io_uring_prep_fsync(s, p.fd, IORING_FSYNC_DATASYNC);
    io_uring_sqe_set_data(s, (char *)io + 1);
    u->inflight++;
}

void uring_disk_submit(struct uring_disk *u, struct disk_io *io)
{
    prepare(u, io);
    io_uring_submit(&u->ring);
}

static bool again(int res)
{
    return res == -EINTR || res == -EAGAIN;
}

/* All parts of the io have their CQE: err, or go on where a short write stopped. */
static void settle(struct uring_disk *u, struct disk_io *io, int err)
{
    if (err && !again(err) && !disk_file_humbler(u->disk, io, err))
        disk_file_finish(u->disk, io, err);
    else if (io->at < io->n || err)
        prepare(u, io);
    else
        disk_file_finish(u->disk, io, 0);
}

static void on_write(struct uring_disk *u, struct disk_io *io, int res)
{
    int err = res < 0 ? res : res == 0 ? -EIO : 0;
    if (!err)
        disk_file_wrote(io, (size_t)res);
    if (io->state == IO_SINGLE)
        settle(u, io, err);
    else if (err)
        io->state = err; /* its sync comes back cancelled, then it is settled */
    else if (io->at < io->n)
        io->state = IO_LINKED_SHORT;
}

static void on_sync(struct uring_disk *u, struct disk_io *io, int res)
{
    if (io->state < 0)
        settle(u, io, io->state);
    else if (io->state == IO_LINKED && res < 0)
        disk_file_finish(u->disk, io, res); /* never again on this file */
    else
        settle(u, io, 0); /* done; or short, and its sync cancelled: goes on */
}

static void on_cqe(struct uring_disk *u, void *data, int res)
{
    if (data == &wake_tag) {
        u->armed = false;
        return;
    }
    u->inflight--;
    uintptr_t sync = (uintptr_t)data & 1;
    struct disk_io *io = (struct disk_io *)((char *)data - sync);
    if (sync)
        on_sync(u, io, res);
    else
        on_write(u, io, res);
}

static bool reap(struct uring_disk *u)
{
    struct io_uring_cqe *c;
    bool any = false;
    while (io_uring_peek_cqe(&u->ring, &c) == 0) {
        void *data = io_uring_cqe_get_data(c);
        int res = c->res;
        io_uring_cqe_seen(&u->ring, c); /* first: a completion may submit */
        on_cqe(u, data, res);
        any = true;
    }
    if (io_uring_sq_ready(&u->ring))
        io_uring_submit(&u->ring);
    return any;
}

static void arm(struct uring_disk *u, int fd)
{
    if (u->armed || fd < 0)
        return;
    make_room(u, 1);
    struct io_uring_sqe *s = io_uring_get_sqe(&u->ring);
    io_uring_prep_poll_add(s, fd, POLLIN);
    io_uring_sqe_set_data(s, &wake_tag);
    u->armed = true;
}

void uring_disk_poll(struct uring_disk *u, uint64_t wait_us)
{
    if (reap(u) || wait_us == 0)
        return;
    arm(u, u->disk->disk.wake_fd);
    struct io_uring_cqe *c;
    struct __kernel_timespec ts = {(long long)(wait_us / 1000000), (long long)(wait_us % 1000000 * 1000)};
    io_uring_submit_and_wait_timeout(&u->ring, &c, 1, &ts, NULL);
    reap(u);
}

void uring_disk_close(struct uring_disk **up)
{
    struct uring_disk *u = *up;
    if (!u)
        return;
    while (u->inflight > 0) {
        struct io_uring_cqe *c;
        if (io_uring_wait_cqe(&u->ring, &c) < 0)
            continue;
        u->inflight -= io_uring_cqe_get_data(c) != &wake_tag;
        io_uring_cqe_seen(&u->ring, c);
    }
    io_uring_queue_exit(&u->ring);
    free(u);
    *up = NULL;
}
