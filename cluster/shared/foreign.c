/* foreign.c - another node's log: scanned by heads, read by position.
 *
 * Whether anything was written is told from names, sizes and times of the files.  On file systems that cache those for
 * some seconds it is told so much later. */
#include "cluster/shared/foreign.h"

#include "spool/base/clock.h"
#include "spool/base/err.h"
#include "spool/base/xxh.h"
#include "spool/segment/seglog.h"
#include "spool/segment/segread.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct foreign {
    char *dir;
    struct storage_id storage;
    struct census *census;
    struct disk *disk; /* opened for each scan anew, so that nothing old is read from a cache */
    struct segread *reader;
    uint64_t from; /* positions below were seen */
    uint64_t print;
    struct foreign_stat stat;
};

int foreign_open(struct foreign **f_r, const char *log_dir, const struct storage_id *storage)
{
    struct foreign *f = calloc(1, sizeof *f);
    if (!f)
        return -SATCHEL_ENOMEM;
    f->storage = *storage;
    f->dir = strdup(log_dir);
    if (!f->dir || census_open(&f->census) < 0) {
        foreign_close(&f);
        return -SATCHEL_ENOMEM;
    }
    *f_r = f;
    return 0;
}

static void disk_close(struct foreign *f)
{
    segread_close(&f->reader);
    if (f->disk)
        f->disk->ops->destroy(f->disk);
    f->disk = NULL;
}

void foreign_close(struct foreign **fp)
{
    struct foreign *f = *fp;
    if (!f)
        return;
    disk_close(f);
    census_close(&f->census);
    free(f->dir);
    free(f);
    *fp = NULL;
}

/* ---- is there anything new? */

/* A sum, since the order of a listing means nothing. */
static int print_now(const struct foreign *f, uint64_t *print_r)
{
    int fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        int err = -errno;
        if (fd >= 0)
            close(fd);
        return err;
    }
    *print_r = 1;
    for (struct dirent *e; (e = readdir(dir));) {
        struct stat st;
        if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
            continue;
        const uint64_t what[] = {XXH3_64bits(e->d_name, strlen(e->d_name)), (uint64_t)st.st_size,
                                 (uint64_t)st.st_mtim.tv_sec, (uint64_t)st.st_mtim.tv_nsec};
        *print_r += XXH3_64bits(what, sizeof what);
    }
    closedir(dir);
    return 0;
}

static int disk_open(struct foreign *f)
{
    struct storage_id there;
    disk_close(f);
    int rc = disk_file_open_readonly(&f->disk, f->dir);
    rc = rc ? rc : segread_open(&f->reader, f->disk);
    rc = rc ? rc : seglog_identify(f->disk, there.b);
    return rc == 0 && !storage_id_eq(&there, &f->storage) ? -SATCHEL_EBUSY : rc;
}

/* ---- the scan */

static int on_record(void *arg, const struct record *rec, uint64_t pos, uint32_t size)
{
    struct foreign *f = arg;
    if (pos + size > f->from)
        f->from = pos + size;
    return census_record(f->census, rec, pos, size);
}

static int scan_anew(struct foreign *f)
{
    f->from = f->print = 0;
    census_close(&f->census);
    return census_open(&f->census);
}

int foreign_scan(struct foreign *f, bool anew)
{
    uint64_t print = 0, t0 = clock_boot_us(clock_system());
    struct seglog_open_stats st;
    const struct seglog_replay replay = {.record = on_record, .arg = f};
    int rc = anew ? scan_anew(f) : 0;
    rc = rc ? rc : print_now(f, &print);
    if (rc < 0 || print == f->print)
        return rc;
    rc = disk_open(f);
    rc = rc ? rc : seglog_scan_heads(f->disk, &replay, f->from, &st);
    rc = rc ? rc : census_sort(f->census);
    if (rc < 0)
        return rc;
    f->print = print;
    f->stat = (struct foreign_stat){.records = st.records,
                                    .read_bytes = st.bytes_read,
                                    .damaged_ranges = st.damaged_ranges,
                                    .took_us = clock_boot_us(clock_system()) - t0,
                                    .scans = f->stat.scans + 1};
    return 1;
}

/* ---- */

struct census *foreign_census(struct foreign *f)
{
    return f->census;
}

int foreign_read(struct foreign *f, uint64_t pos, uint32_t size, struct record *rec_r)
{
    return f->reader ? segread_record(f->reader, pos, size, rec_r) : -SATCHEL_ENOENT;
}

int foreign_head(struct foreign *f, uint64_t pos, uint32_t size, struct record *rec_r)
{
    return f->reader ? segread_head(f->reader, pos, size, rec_r) : -SATCHEL_ENOENT;
}

void foreign_stat(const struct foreign *f, struct foreign_stat *st_r)
{
    *st_r = f->stat;
}
