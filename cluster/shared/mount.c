/* mount.c - which mount is this, and is it the one that this node knows? */
#include "cluster/shared/mount.h"

#include "spool/base/err.h"
#include "spool/base/rng.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD "satchel-mount 1 "

enum { TEXT_MAX = 64 };

__attribute__((format(printf, 3, 4))) static int refuse(char *why_r, int res, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why_r, MOUNT_WHY_MAX, fmt, ap);
    va_end(ap);
    return res;
}

/* ---- a small file with a UUID */

static int id_read(const char *path, struct storage_id *id_r)
{
    char text[TEXT_MAX];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, text, sizeof text);
    int err = errno;
    close(fd);
    if (n < 0)
        return -err;
    size_t head = sizeof HEAD - 1, id = STORAGE_ID_TEXT_MAX - 1;
    if ((size_t)n < head + id || memcmp(text, HEAD, head) != 0)
        return -SATCHEL_EDAMAGED;
    return storage_id_parse(slice_of(text + head, id), id_r) < 0 ? -SATCHEL_EDAMAGED : 0;
}

static int dir_sync(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return rc;
}

static int id_write(const char *path, const struct storage_id *id)
{
    char text[TEXT_MAX], hex[STORAGE_ID_TEXT_MAX];
    storage_id_format(id, hex);
    int n = snprintf(text, sizeof text, HEAD "%s\n", hex);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    int rc = write(fd, text, (size_t)n) == n ? 0 : -SATCHEL_EIO;
    if (rc == 0 && fsync(fd) < 0)
        rc = -errno;
    close(fd);
    return rc;
}

/* Whole or not at all, and never over what another wrote first: a link fails where the name is taken. */
static int id_make(const char *dir, const char *name, const struct storage_id *id)
{
    char path[PATH_MAX], aside[PATH_MAX];
    uint64_t tag;
    rng_bytes(&tag, sizeof tag);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    snprintf(aside, sizeof aside, "%s/%s.%016llx", dir, name, (unsigned long long)tag);
    int rc = id_write(aside, id);
    if (rc == 0 && link(aside, path) < 0)
        rc = -errno;
    unlink(aside);
    return rc == 0 ? dir_sync(dir) : rc;
}

/* ---- */

void mount_log_dir(const char *dir, const char *node, char *log_dir_r)
{
    snprintf(log_dir_r, PATH_MAX, "%s/%s/log", dir, node);
}

static int mount_id(const char *dir, struct storage_id *id_r, char *why_r)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/CLUSTER", dir);
    int rc = id_read(path, id_r);
    if (rc == -SATCHEL_ENOENT) {
        struct storage_id fresh;
        rng_bytes(fresh.b, sizeof fresh.b);
        rc = id_make(dir, "CLUSTER", &fresh);
        if (rc == 0 || rc == -SATCHEL_EEXIST)
            rc = id_read(path, id_r);
    }
    if (rc == -SATCHEL_EDAMAGED)
        return refuse(why_r, rc, "%s names no mount: restore it from another node's %s", path, "data_dir/shared.id");
    if (rc < 0)
        return refuse(why_r, rc, "%s: %s: mount the shared file system, and let the daemon's user write there", path,
                      satchel_strerror(rc));
    return 0;
}

static int mount_known(const char *data_dir, const char *dir, const struct storage_id *id, char *why_r)
{
    char path[PATH_MAX];
    struct storage_id known;
    snprintf(path, sizeof path, "%s/shared.id", data_dir);
    int rc = id_read(path, &known);
    if (rc == -SATCHEL_ENOENT)
        rc = id_make(data_dir, "shared.id", id) ?: id_read(path, &known);
    if (rc < 0)
        return refuse(why_r, rc, "%s: %s", path, satchel_strerror(rc));
    if (!storage_id_eq(&known, id))
        return refuse(why_r, -SATCHEL_EINVAL,
                      "%s is another mount than the one that this node's mail lies on: mount the right one there (or, "
                      "to begin anew on this one, remove %s and the index beside it)",
                      dir, path);
    return 0;
}

static int make_dir(const char *path, char *why_r)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return 0;
    int rc = -errno;
    return refuse(why_r, rc, "%s: %s: the daemon's user must own it", path, satchel_strerror(rc));
}

int mount_open(const char *dir, const char *node, const char *data_dir, struct storage_id *id_r, char *log_dir_r,
               char *why_r)
{
    char path[PATH_MAX];
    if (strcmp(node, "CLUSTER") == 0)
        return refuse(why_r, -SATCHEL_EINVAL, "a node on a shared directory cannot be called CLUSTER: rename it");
    int rc = mount_id(dir, id_r, why_r);
    rc = rc ? rc : make_dir(data_dir, why_r);
    rc = rc ? rc : mount_known(data_dir, dir, id_r, why_r);
    snprintf(path, sizeof path, "%s/%s", dir, node);
    rc = rc ? rc : make_dir(path, why_r);
    mount_log_dir(dir, node, log_dir_r);
    if (rc == 0 && (rc = dir_sync(dir)) < 0)
        refuse(why_r, rc, "%s: %s", dir, satchel_strerror(rc));
    return rc;
}
