/* disk.h - what the segment log needs from a disk: one directory of flat files.
 * Implementations: disk_file.c (io_uring, or pwritev2 where that is disabled), tests/sim/simdisk.c (simulated).
 *
 * Thread: one owner thread for submit/poll and everything that changes a file; `read` and `open_read` may be called
 * from any thread.  Errors: negative SATCHEL_E*. Alignment: offset, address and length of a submitted write, and of
 * each of its pieces, are multiples of DISK_ALIGN. */
#pragma once
#include "spool/base/slice.h"

#include <sys/uio.h>

#define DISK_ALIGN  4096u
#define DISK_PIECES 64u

struct disk;
struct disk_io;

/* res: 0 once the bytes (and with sync, all earlier completed writes to this file) are durable, or the error.  Runs
 * inside disk_poll, exactly once.  A short write is continued inside the implementation; it is never reported as
 * success. */
typedef void disk_io_done(struct disk_io *io, int res);

struct disk_io {
    int file; /* handle from open/create */
    uint64_t off;
    const void *buf; /* borrowed until done; NULL: the bytes lie in pieces */
    size_t n;
    struct iovec *pieces; /* buf is NULL: n bytes in all; the list is borrowed too, and eaten up */
    uint32_t pieces_n;    /* at most DISK_PIECES */
    bool sync;            /* durable when done (write, then fdatasync linked; or RWF_DSYNC) */
    disk_io_done *done;
    void *arg;
    /* implementation's */
    struct disk_io *next;
    struct iovec whole; /* of buf */
    size_t at;
    int state;
};

struct disk_ops {
    /* Calls each(arg, name, size) for every regular file. */
    int (*list)(struct disk *d, void (*each)(void *arg, const char *name, uint64_t size), void *arg);
    /* Makes a file of `size` bytes that is durable with its directory entry.  prewrite: zeros are written and synced,
     * so that later writes change no metadata; else blocks are reserved (fallocate) only.  Returns a handle or an
     * error; -SATCHEL_EFULL leaves no file behind.  What the disk has no room for is not begun: until it failed, nobody
     * else, the index first, could write a byte.  Synchronous. */
    int (*create)(struct disk *d, const char *name, uint64_t size, bool prewrite);
    int (*open)(struct disk *d, const char *name, uint64_t *size_r); /* handle or error */
    void (*close)(struct disk *d, int file);
    /* Bytes read; short only at the end of the file. Any thread. */
    int64_t (*read)(struct disk *d, int file, uint64_t off, void *buf, size_t n);
    /* Writes whose pieces all lie in these n bytes go out from pages that stay pinned, where the kernel offers that.
     * Once, before the first submit; mapped until destroy.  Whatever it returns, writes from there work: 0, or why
     * they go out as any others (-SATCHEL_ENOMEM: over RLIMIT_MEMLOCK). */
    int (*register_memory)(struct disk *d, void *memory, size_t n);
    void (*submit)(struct disk *d, struct disk_io *io);
    /* Runs completions; waits up to wait_us for one if nothing is complete and `wait_us` > 0. */
    void (*poll)(struct disk *d, uint64_t wait_us);
    int (*remove)(struct disk *d, const char *name); /* durable */
    /* Replaces a small file as a whole, durably (write aside, sync, rename, sync directory). */
    int (*put)(struct disk *d, const char *name, struct slice content);
    /* Reads a small file: bytes, or error. */
    int64_t (*get)(struct disk *d, const char *name, void *buf, size_t cap);
    /* Bytes that could still be reserved here (file system free space). */
    uint64_t (*room)(struct disk *d);
    void (*destroy)(struct disk *d);
};

struct disk {
    const struct disk_ops *ops;
    int wake_fd; /* poll() also returns when this eventfd is readable (it does not read it); -1: none. Set by the owner
                  */
};

enum disk_engine { DISK_AUTO, DISK_URING, DISK_SYNC };

/* A directory of the real file system, made if missing (mode 0700).  O_DIRECT where the file system offers it. */
int disk_file_open(struct disk **d_r, const char *dir, enum disk_engine engine);
/* A directory that somebody else writes: only list, open, close, read, get and room; the rest is -EROFS.  Nothing is
 * made; -SATCHEL_ENOENT where it is missing. */
int disk_file_open_readonly(struct disk **d_r, const char *dir);
