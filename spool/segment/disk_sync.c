/* disk_sync.c - the engine without io_uring: a submitted write is carried out by the next poll. */
#include "spool/segment/disk_file.h"

#include "spool/base/err.h"

#include <poll.h>
#include <time.h>
#include <unistd.h>

static int write_piece(struct disk_io *io, const struct disk_piece *p)
{
    ssize_t n = pwritev2(p->fd, io->pieces, (int)io->pieces_n, (off_t)(io->off + io->at), p->dsync ? RWF_DSYNC : 0);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    if (n == 0)
        return -EIO;
    disk_file_wrote(io, (size_t)n);
    return 0;
}

/* A short write goes on with the rest; the fdatasync comes after the last piece. */
static int carry_out(struct disk_file *d, struct disk_io *io)
{
    struct disk_piece p;
    do {
        p = disk_file_piece(d, io);
        int rc = write_piece(io, &p);
        if (rc && !disk_file_humbler(d, io, rc))
            return rc;
    } while (io->at < io->n);
    return p.barrier && fdatasync(p.fd) < 0 ? -errno : 0;
}

static void wait_wake(int fd, uint64_t wait_us)
{
    struct pollfd p = {fd, POLLIN, 0};
    struct timespec ts = {(time_t)(wait_us / 1000000), (long)(wait_us % 1000000 * 1000)};
    ppoll(&p, fd >= 0, &ts, NULL);
}

void sync_disk_poll(struct disk_file *d, uint64_t wait_us)
{
    if (!d->first && wait_us > 0)
        wait_wake(d->disk.wake_fd, wait_us);
    struct disk_io *io = d->first; /* what completions submit waits for the next poll */
    d->first = d->last = NULL;
    while (io) {
        struct disk_io *next = io->next;
        disk_file_finish(d, io, carry_out(d, io));
        io = next;
    }
}
