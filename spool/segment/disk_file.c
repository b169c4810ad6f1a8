/* disk_file.c - a directory of the real file system as a disk.
 *
 * Files are opened twice: buffered for reading (any thread) and, at the first write, with O_DIRECT for writing, so that
 * a group goes to the device without a copy in the page cache.  What O_DIRECT cannot do falls back to the buffered
 * descriptor.  A failed sync is reported once and never retried.
 *
 * O_DIRECT is used only on file systems known to throw stale pages away when an asynchronous direct write ends.  FUSE
 * does not: what was read ahead beside a write in flight stayed in the page cache, and a record that was whole on
 * GlusterFS's bricks failed its checksum here.  There everything goes through the page cache.
 *
 * Diagnostics: -errno of the system call. */
#include "spool/segment/disk_file.h"

#include "spool/base/err.h"
#include "spool/base/log.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

static struct disk_file *of(struct disk *d)
{
    return (struct disk_file *)d;
}

/* ---- handles */

struct disk_fd *disk_file_fd(struct disk_file *d, int file)
{
    assert(file >= 0 && file < FD_BLOCK * FD_BLOCKS && d->fds[file / FD_BLOCK]);
    return &d->fds[file / FD_BLOCK][file % FD_BLOCK];
}

static bool block_make(struct disk_file *d, int b)
{
    if (d->fds[b])
        return true;
    struct disk_fd *block = calloc(FD_BLOCK, sizeof *block);
    for (int i = 0; block && i < FD_BLOCK; i++)
        block[i].fd = block[i].direct = -1;
    d->fds[b] = block;
    return block != NULL;
}

/* Takes the descriptor over, also on failure. */
static int handle_new(struct disk_file *d, int fd, bool dirty)
{
    int file = -EMFILE;
    pthread_mutex_lock(&d->lock);
    for (int i = 0; i < FD_BLOCK * FD_BLOCKS && file < 0; i++) {
        if (!block_make(d, i / FD_BLOCK))
            break;
        if (disk_file_fd(d, i)->fd >= 0)
            continue;
        file = i;
        *disk_file_fd(d, i) = (struct disk_fd){.fd = fd, .direct = -1, .dirty = dirty};
    }
    pthread_mutex_unlock(&d->lock);
    if (file < 0)
        close(fd);
    return file;
}

static void fd_close(struct disk_fd *f)
{
    if (f->direct >= 0)
        close(f->direct);
    if (f->fd >= 0)
        close(f->fd);
    f->fd = f->direct = -1;
}

static void file_close(struct disk *disk, int file)
{
    struct disk_file *d = of(disk);
    pthread_mutex_lock(&d->lock);
    fd_close(disk_file_fd(d, file));
    pthread_mutex_unlock(&d->lock);
}

static int file_open(struct disk *disk, const char *name, uint64_t *size_r)
{
    struct disk_file *d = of(disk);
    int fd = openat(d->dirfd, name, (d->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    struct stat st;
    if (fstat(fd, &st) < 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    *size_r = (uint64_t)st.st_size;
    return handle_new(d, fd, true);
}

/* ---- whole files and the directory */

static int sync_dir(struct disk_file *d)
{
    return fsync(d->dirfd) < 0 ? -errno : 0;
}

static int write_all(int fd, const void *buf, size_t n, uint64_t off)
{
    for (size_t at = 0; at < n;) {
        ssize_t put = pwrite(fd, (const char *)buf + at, n - at, (off_t)(off + at));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return put < 0 ? -errno : -EIO;
        at += (size_t)put;
    }
    return 0;
}

static int write_zeros(int fd, uint64_t size)
{
    enum { PIECE = 1 << 20 };
    void *zeros = calloc(1, PIECE);
    int rc = zeros ? 0 : -ENOMEM;
    for (uint64_t at = 0; rc == 0 && at < size; at += PIECE)
        rc = write_all(fd, zeros, size - at < PIECE ? (size_t)(size - at) : PIECE, at);
    free(zeros);
    return rc;
}

static int fill(int fd, uint64_t size, bool prewrite)
{
    int rc = fallocate(fd, 0, 0, (off_t)size) < 0 ? -errno : 0;
    if (rc == -EOPNOTSUPP || (rc == 0 && prewrite))
        rc = write_zeros(fd, size);
    if (rc == 0 && fsync(fd) < 0)
        rc = -errno;
    return rc;
}

static uint64_t file_room(struct disk *disk)
{
    struct statvfs st;
    if (fstatvfs(of(disk)->dirfd, &st) < 0)
        return 0;
    return (uint64_t)st.f_bavail * st.f_frsize;
}

static int file_create(struct disk *disk, const char *name, uint64_t size, bool prewrite)
{
    struct disk_file *d = of(disk);
    if (d->readonly)
        return -EROFS;
    if (size > file_room(disk))
        return -SATCHEL_EFULL;
    int fd = openat(d->dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    int rc = fill(fd, size, prewrite);
    if (rc == 0)
        rc = sync_dir(d);
    if (rc == 0)
        return handle_new(d, fd, false);
    close(fd);
    unlinkat(d->dirfd, name, 0);
    return rc;
}

static int file_list(struct disk *disk, void (*each)(void *arg, const char *name, uint64_t size), void *arg)
{
    /* a description of its own: the place in the directory is not shared with another thread's listing */
    int fd = openat(of(disk)->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        int err = -errno;
        if (fd >= 0)
            close(fd);
        return err;
    }
    for (struct dirent *e; (e = readdir(dir));) {
        struct stat st;
        if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
            each(arg, e->d_name, (uint64_t)st.st_size);
    }
    closedir(dir);
    return 0;
}

static int file_remove(struct disk *disk, const char *name)
{
    if (of(disk)->readonly)
        return -EROFS;
    if (unlinkat(of(disk)->dirfd, name, 0) < 0)
        return -errno;
    return sync_dir(of(disk));
}

static int write_aside(struct disk_file *d, const char *name, struct slice content)
{
    int fd = openat(d->dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    int rc = write_all(fd, content.p, content.n, 0);
    if (rc == 0 && fsync(fd) < 0)
        rc = -errno;
    close(fd);
    if (rc)
        unlinkat(d->dirfd, name, 0);
    return rc;
}

static int file_put(struct disk *disk, const char *name, struct slice content)
{
    struct disk_file *d = of(disk);
    char aside[300];
    snprintf(aside, sizeof aside, "%s.new", name);
    if (d->readonly)
        return -EROFS;
    int rc = write_aside(d, aside, content);
    if (rc)
        return rc;
    if (renameat(d->dirfd, aside, d->dirfd, name) < 0)
        return -errno;
    return sync_dir(d);
}

static int64_t read_all(int fd, uint64_t off, void *buf, size_t n)
{
    size_t at = 0;
    while (at < n) {
        ssize_t got = pread(fd, (char *)buf + at, n - at, (off_t)(off + at));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        at += (size_t)got;
    }
    return (int64_t)at;
}

static int64_t file_get(struct disk *disk, const char *name, void *buf, size_t cap)
{
    int fd = openat(of(disk)->dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    int64_t n = read_all(fd, 0, buf, cap);
    close(fd);
    return n;
}

static int64_t file_read(struct disk *disk, int file, uint64_t off, void *buf, size_t n)
{
    return read_all(disk_file_fd(of(disk), file)->fd, off, buf, n);
}

/* ---- writes */

/* The magic numbers are those of statfs(2). */
bool disk_file_direct_is_safe(int64_t fs_type)
{
    static const uint32_t local[] = {
        0xEF53 /* ext4 */,    0x58465342 /* XFS */,      0x9123683E /* Btrfs */, 0xF2F52010 /* F2FS */,
        0x2FC12FC1 /* ZFS */, 0xCA451A4E /* bcachefs */, 0x01021994 /* tmpfs */, 0x794C7630 /* overlayfs */};
    for (size_t i = 0; i < sizeof local / sizeof *local; i++)
        if ((uint32_t)fs_type == local[i])
            return true;
    return false;
}

/* O_DIRECT by way of /proc, so that a file that was removed meanwhile or opened by another thread needs no name. */
static void open_direct(struct disk_fd *f, bool buffered)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", f->fd);
    f->direct_tried = true;
    if (buffered)
        return;
    f->direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
}

static bool aligned(const struct disk_io *io)
{
    uintptr_t all = io->off + io->at;
    for (uint32_t i = 0; i < io->pieces_n; i++)
        all |= (uintptr_t)io->pieces[i].iov_base | io->pieces[i].iov_len;
    return all % DISK_ALIGN == 0;
}

struct disk_piece disk_file_piece(struct disk_file *d, const struct disk_io *io)
{
    struct disk_fd *f = disk_file_fd(d, io->file);
    if (!f->direct_tried)
        open_direct(f, d->buffered);
    struct disk_piece p = {.direct = f->direct >= 0 && aligned(io)};
    p.fd = p.direct ? f->direct : f->fd;
    p.barrier = io->sync && (f->dirty || f->dsync_bad);
    p.dsync = io->sync && !p.barrier;
    if (p.barrier)
        f->barrier = f->plain;
    return p;
}

bool disk_file_humbler(struct disk_file *d, const struct disk_io *io, int err)
{
    struct disk_fd *f = disk_file_fd(d, io->file);
    if (err != -EINVAL && err != -EOPNOTSUPP)
        return false;
    if (f->direct >= 0) {
        close(f->direct);
        f->direct = -1;
        return true;
    }
    bool first = io->sync && !f->dsync_bad;
    f->dsync_bad = true;
    return first;
}

void disk_file_wrote(struct disk_io *io, size_t n)
{
    io->at += n;
    while (io->pieces_n && n >= io->pieces->iov_len) {
        n -= io->pieces->iov_len;
        io->pieces++;
        io->pieces_n--;
    }
    if (n)
        *io->pieces = (struct iovec){(char *)io->pieces->iov_base + n, io->pieces->iov_len - n};
}

void disk_file_finish(struct disk_file *d, struct disk_io *io, int res)
{
    struct disk_fd *f = disk_file_fd(d, io->file);
    if (io->sync && res == 0 && f->barrier == f->plain)
        f->dirty = false;
    io->done(io, res);
}

static void file_submit(struct disk *disk, struct disk_io *io)
{
    struct disk_file *d = of(disk);
    struct disk_fd *f = disk_file_fd(d, io->file);
    assert(!d->readonly);
    assert(io->buf || io->pieces_n <= DISK_PIECES);
    if (io->buf) {
        io->whole = (struct iovec){(void *)io->buf, io->n};
        io->pieces = &io->whole;
        io->pieces_n = 1;
    }
    io->at = 0;
    io->state = 0;
    io->next = NULL;
    if (!io->sync) {
        f->dirty = true;
        f->plain++;
    }
    if (d->uring) {
        uring_disk_submit(d->uring, io);
        return;
    }
    if (d->last)
        d->last->next = io;
    else
        d->first = io;
    d->last = io;
}

static void file_poll(struct disk *disk, uint64_t wait_us)
{
    struct disk_file *d = of(disk);
    if (d->uring)
        uring_disk_poll(d->uring, wait_us);
    else
        sync_disk_poll(d, wait_us);
}

static int file_register_memory(struct disk *disk, void *memory, size_t n)
{
    struct disk_file *d = of(disk);
    return d->uring ? uring_disk_register(d->uring, memory, n) : -EOPNOTSUPP;
}

/* ---- life */

static void file_destroy(struct disk *disk)
{
    struct disk_file *d = of(disk);
    uring_disk_close(&d->uring);
    for (int b = 0; b < FD_BLOCKS; b++) {
        for (int i = 0; d->fds[b] && i < FD_BLOCK; i++)
            fd_close(&d->fds[b][i]);
        free(d->fds[b]);
    }
    close(d->dirfd);
    pthread_mutex_destroy(&d->lock);
    free(d->dir);
    free(d);
}

static const struct disk_ops file_ops = {
    .list = file_list,
    .create = file_create,
    .open = file_open,
    .close = file_close,
    .read = file_read,
    .register_memory = file_register_memory,
    .submit = file_submit,
    .poll = file_poll,
    .remove = file_remove,
    .put = file_put,
    .get = file_get,
    .room = file_room,
    .destroy = file_destroy,
};

static void choose(struct disk_file *d)
{
    struct statfs st = {0};
    d->buffered = fstatfs(d->dirfd, &st) != 0 || !disk_file_direct_is_safe(st.f_type);
    if (d->buffered)
        log_info("disk.buffered",
                 "dir=\"%s\" fs=0x%lx why=\"not a local file system: its page cache may go stale beside O_DIRECT\"",
                 d->dir, (unsigned long)st.f_type);
}

static int start(struct disk_file *d, enum disk_engine engine)
{
    if (!d->readonly && mkdir(d->dir, 0700) < 0 && errno != EEXIST)
        return -errno;
    d->dirfd = open(d->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->dirfd < 0)
        return -errno;
    if (d->readonly)
        return 0;
    choose(d);
    if (engine == DISK_SYNC)
        return 0;
    int rc = uring_disk_open(&d->uring, d);
    if (rc && engine == DISK_AUTO) {
        log_warning("disk.fallback", "engine=sync why=\"io_uring: %s\"", satchel_strerror(rc));
        return 0;
    }
    if (rc)
        close(d->dirfd);
    return rc;
}

static int disk_open(struct disk **d_r, const char *dir, enum disk_engine engine, bool readonly)
{
    struct disk_file *d = calloc(1, sizeof *d);
    if (!d)
        return -ENOMEM;
    d->disk = (struct disk){&file_ops, -1};
    d->readonly = readonly;
    d->dir = strdup(dir);
    int rc = d->dir ? start(d, engine) : -ENOMEM;
    if (rc) {
        free(d->dir);
        free(d);
        return rc;
    }
    pthread_mutex_init(&d->lock, NULL);
    rc = readonly
             ? 0
             : sync_dir(d); /* what a process that was killed did to the directory is durable before it is relied on */
    if (rc)
        file_destroy(&d->disk);
    else
        *d_r = &d->disk;
    return rc;
}

int disk_file_open(struct disk **d_r, const char *dir, enum disk_engine engine)
{
    return disk_open(d_r, dir, engine, false);
}

int disk_file_open_readonly(struct disk **d_r, const char *dir)
{
    return disk_open(d_r, dir, DISK_SYNC, true);
}
