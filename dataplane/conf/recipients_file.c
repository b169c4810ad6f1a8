/* recipients_file.c - DIR/lists/HASH. */
#include "dataplane/conf/recipients_file.h"
#include "spool/base/err.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>

enum { LEVEL = 3, HASH_DIGITS = RECIPIENTS_HASH_MAX - 1 };

static int io_fail(char *why_r, const char *path, const char *verb, int err)
{
    snprintf(why_r, RECIPIENTS_WHY_MAX, "%.180s: cannot %s: %s", path, verb, satchel_strerror(err));
    return -err;
}

static void path_of(const char *dir, const char *hash, const char *behind, char path_r[PATH_MAX])
{
    snprintf(path_r, PATH_MAX, "%s/lists/%s%s", dir, hash, behind);
}

/* ---- names */

void recipients_hash(struct slice text, char hash_r[RECIPIENTS_HASH_MAX])
{
    XXH128_hash_t h = XXH3_128bits(text.p, text.n);
    snprintf(hash_r, RECIPIENTS_HASH_MAX, "%016llx%016llx", (unsigned long long)h.high64, (unsigned long long)h.low64);
}

bool recipients_hash_ok(const char *hash)
{
    return strlen(hash) == HASH_DIGITS && strspn(hash, "0123456789abcdef") == HASH_DIGITS;
}

/* ---- packing */

int recipients_pack(struct slice text, uint8_t **packed_r, size_t *n_r)
{
    size_t cap = ZSTD_compressBound(text.n);
    *packed_r = malloc(cap);
    if (!*packed_r)
        return -SATCHEL_ENOMEM;
    *n_r = ZSTD_compress(*packed_r, cap, text.p, text.n, LEVEL);
    if (!ZSTD_isError(*n_r) && *n_r <= RECIPIENTS_PACKED_MAX)
        return 0;
    free(*packed_r);
    *packed_r = NULL;
    return -SATCHEL_ETOOBIG;
}

static size_t count_lines(struct slice text)
{
    struct slice line;
    size_t n = 0;
    while (recipients_line(&text, &line))
        n++;
    return n;
}

int recipients_unpack(struct slice packed, const char *hash, struct recipients_text *t_r, char *why_r)
{
    char is[RECIPIENTS_HASH_MAX];
    unsigned long long n = ZSTD_getFrameContentSize(packed.p, packed.n);
    *t_r = (struct recipients_text){0};
    bool bounded = n != ZSTD_CONTENTSIZE_ERROR && n != ZSTD_CONTENTSIZE_UNKNOWN && n > 0 && n <= RECIPIENTS_TEXT_MAX;
    t_r->p = bounded ? malloc(n) : NULL;
    if (bounded && !t_r->p)
        return -SATCHEL_ENOMEM;
    t_r->n = bounded ? ZSTD_decompress(t_r->p, n, packed.p, packed.n) : 0;
    if (bounded && !ZSTD_isError(t_r->n) && t_r->n == n && t_r->p[n - 1] == '\n') {
        recipients_hash(slice_of(t_r->p, n), is);
        t_r->count = count_lines(slice_of(t_r->p, n));
        if (strcmp(is, hash) == 0)
            return 0;
    }
    recipients_text_free(t_r);
    snprintf(why_r, RECIPIENTS_WHY_MAX, "the list of recipients %.32s is damaged", hash);
    return -SATCHEL_EDAMAGED;
}

/* ---- files */

static int sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int res = fd < 0 || fsync(fd) < 0 ? -errno : 0;
    if (fd >= 0)
        close(fd);
    return res;
}

static int lists_dir_make(const char *dir, char path_r[PATH_MAX])
{
    snprintf(path_r, PATH_MAX, "%s/lists", dir);
    if (mkdir(path_r, 0700) == 0)
        return sync_dir(dir);
    return errno == EEXIST ? 0 : -errno;
}

static int write_all(int fd, struct slice s)
{
    while (s.n) {
        ssize_t n = write(fd, s.p, s.n);
        if (n < 0 && errno != EINTR)
            return -errno;
        n = n < 0 ? 0 : n;
        s = slice_of(s.p + n, s.n - (size_t)n);
    }
    return fsync(fd) < 0 ? -errno : 0;
}

static int write_aside(const char *aside, struct slice packed)
{
    int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int res = write_all(fd, packed);
    if (close(fd) < 0 && res == 0)
        res = -errno;
    return res;
}

int recipients_file_write(const char *dir, const char *hash, struct slice packed, char *why_r)
{
    char lists[PATH_MAX], path[PATH_MAX], aside[PATH_MAX];
    int res = lists_dir_make(dir, lists);
    if (res < 0)
        return io_fail(why_r, lists, "make the directory", -res);
    path_of(dir, hash, "", path);
    path_of(dir, hash, ".new", aside);
    res = write_aside(aside, packed);
    if (res == 0 && rename(aside, path) < 0)
        res = -errno;
    if (res < 0) {
        unlink(aside);
        return io_fail(why_r, aside, "write", -res);
    }
    res = sync_dir(lists);
    return res < 0 ? io_fail(why_r, lists, "sync", -res) : 0;
}

static int read_all(int fd, uint8_t *p, size_t n)
{
    while (n) {
        ssize_t got = read(fd, p, n);
        if (got < 0 && errno != EINTR)
            return -errno;
        if (got == 0)
            return -SATCHEL_EIO;
        got = got < 0 ? 0 : got;
        p += got;
        n -= (size_t)got;
    }
    return 0;
}

int recipients_file_read(const char *dir, const char *hash, uint8_t **packed_r, size_t *n_r, char *why_r)
{
    char path[PATH_MAX];
    struct stat sb;
    *packed_r = NULL;
    path_of(dir, hash, "", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return io_fail(why_r, path, "read", errno);
    int res = fstat(fd, &sb) < 0 ? -errno : sb.st_size > RECIPIENTS_PACKED_MAX ? -SATCHEL_ETOOBIG : 0;
    *n_r = res == 0 ? (size_t)sb.st_size : 0;
    *packed_r = res == 0 ? malloc(*n_r + 1) : NULL;
    if (res == 0)
        res = *packed_r ? read_all(fd, *packed_r, *n_r) : -SATCHEL_ENOMEM;
    close(fd);
    if (res == 0)
        return 0;
    free(*packed_r);
    *packed_r = NULL;
    return io_fail(why_r, path, "read", -res);
}

void recipients_file_remove(const char *dir, const char *hash)
{
    char path[PATH_MAX];
    path_of(dir, hash, "", path);
    unlink(path);
}

void recipients_file_touch(const char *dir, const char *hash)
{
    char path[PATH_MAX];
    path_of(dir, hash, "", path);
    utimensat(AT_FDCWD, path, NULL, 0);
}

uint64_t recipients_file_touched_s(const char *dir, const char *hash)
{
    char path[PATH_MAX];
    struct stat sb;
    path_of(dir, hash, "", path);
    return stat(path, &sb) == 0 ? (uint64_t)sb.st_mtime : 0;
}

int recipients_files(const char *dir, void (*each)(void *arg, const char *hash), void *arg)
{
    char path[PATH_MAX];
    path_of(dir, "", "", path);
    DIR *d = opendir(path);
    if (!d)
        return errno == ENOENT ? 0 : -errno;
    for (struct dirent *e; (e = readdir(d));)
        if (recipients_hash_ok(e->d_name))
            each(arg, e->d_name);
    closedir(d);
    return 0;
}
