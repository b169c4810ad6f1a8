/* disk_file.h - inside of the real disk: files by handle, and the two engines that write to them.
 * For disk_file.c, disk_sync.c and disk_uring.c only; everyone else uses disk.h.
 *
 * A write with `sync` goes out as one write with RWF_DSYNC when nothing else of the file can be unsynced, and else as
 * write -> IOSQE_IO_LINK -> fdatasync.  Measured on the build machine (ext4, virtio, pre-written file, O_DIRECT, other
 * load beside it), p50/p95 in us: 4 KiB: DSYNC 232/678, linked 487/961; 16 KiB: 235/623, 507/1071; 64 KiB: 258/782,
 * 523/1075. */
#pragma once
#include "spool/segment/disk.h"

#include <pthread.h>

struct disk_fd {
    int fd;            /* buffered, for reads and for what is not aligned; -1: free */
    int direct;        /* O_DIRECT; -1: not opened, or refused */
    bool direct_tried; /* whether `direct` was asked for */
    bool dsync_bad;    /* RWF_DSYNC was refused */
    bool dirty;        /* there may be unsynced bytes, an earlier process's included: the next sync is an fdatasync */
    uint32_t plain;    /* writes without sync so far ... */
    uint32_t barrier;  /* ... and as they stood when the last fdatasync was issued */
};

enum { FD_BLOCK = 256, FD_BLOCKS = 256 };

struct uring_disk;
struct disk_file {
    struct disk disk;
    char *dir;
    int dirfd;
    bool readonly;
    bool buffered;        /* no O_DIRECT on this file system */
    pthread_mutex_t lock; /* the table below, not what it points to */
    struct disk_fd *fds[FD_BLOCKS];
    struct uring_disk *uring;     /* NULL: the synchronous engine */
    struct disk_io *first, *last; /* synchronous engine: submitted */
};

struct disk_fd *disk_file_fd(struct disk_file *d, int file);
/* The next piece of a write: how it goes out. */
struct disk_piece {
    int fd;
    bool direct, dsync, barrier; /* barrier: fdatasync after it */
};
struct disk_piece disk_file_piece(struct disk_file *d, const struct disk_io *io);
/* fs_type: statfs(2)'s f_type. */
bool disk_file_direct_is_safe(int64_t fs_type);
/* The piece failed with `err`: true if a humbler way is left (buffered, no RWF_DSYNC), to be tried at once. */
bool disk_file_humbler(struct disk_file *d, const struct disk_io *io, int err);
/* n bytes of the write are out: pieces then begins with what is left. */
void disk_file_wrote(struct disk_io *io, size_t n);
/* The write is complete: bookkeeping, then io->done. */
void disk_file_finish(struct disk_file *d, struct disk_io *io, int res);

void sync_disk_poll(struct disk_file *d, uint64_t wait_us);

/* -errno where io_uring is not to be had. */
int uring_disk_open(struct uring_disk **u_r, struct disk_file *d);
int uring_disk_register(struct uring_disk *u, void *memory, size_t n);
struct uring_disk_stat {
    uint64_t from_registered; /* writes so far that went out from registered memory */
    bool vectored;            /* the kernel writes several pieces from there at once */
};
void uring_disk_stat(const struct uring_disk *u, struct uring_disk_stat *st_r);
void uring_disk_submit(struct uring_disk *u, struct disk_io *io);
void uring_disk_poll(struct uring_disk *u, uint64_t wait_us);
/* Waits for what is in flight; its done is not run. */
void uring_disk_close(struct uring_disk **u);
