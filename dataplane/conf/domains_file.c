/* domains_file.c - domains.json: {"version": 1, "domains": [{...}, ...]}, one line a domain.
 *
 * It is written aside, synced, renamed over the old one, and the directory is synced: after a crash at any moment the
 * name leads to a whole file. A file written aside and left there is overwritten by the next change. */
#include "dataplane/conf/domains_file.h"
#include "dataplane/conf/domains_json.h"
#include "spool/base/err.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WHY_MAX      256
#define FILE_VERSION 1

static int io_fail(char *why_r, const char *path, const char *verb, int err)
{
    snprintf(why_r, WHY_MAX, "%.180s: cannot %s: %s", path, verb, satchel_strerror(err));
    return -err;
}

static int damaged(char *why_r, const char *path, const char *what)
{
    snprintf(why_r, WHY_MAX, "%.100s: %.140s", path, what);
    return -SATCHEL_EDAMAGED;
}

/* ---- reading */

static int members_read(const char *path, const json_t *list, int (*each)(void *, const struct domain *), void *arg,
                        char *why_r)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct domain dom;
        char what[WHY_MAX], text[WHY_MAX + 32];
        int res = domain_from_json(json_array_get(list, i), KEEP_PRESET_S, &dom, what);
        if (res < 0) {
            snprintf(text, sizeof text, "domain %zu: %s", i + 1, what);
            return damaged(why_r, path, text);
        }
        res = each(arg, &dom);
        if (res < 0)
            return damaged(why_r, path, "a domain is there twice");
    }
    return 0;
}

static int root_read(const char *path, const json_t *root, int (*each)(void *, const struct domain *), void *arg,
                     char *why_r)
{
    const json_t *version = json_object_get(root, "version"), *list = json_object_get(root, "domains");
    if (!json_is_integer(version) || !json_is_array(list))
        return damaged(why_r, path, "1:1: expected {\"version\": 1, \"domains\": [...]}");
    if (json_integer_value(version) != FILE_VERSION) {
        snprintf(why_r, WHY_MAX, "%.150s: version %lld; this Satchel reads version %d", path,
                 (long long)json_integer_value(version), FILE_VERSION);
        return -SATCHEL_EVERSION;
    }
    return members_read(path, list, each, arg, why_r);
}

int domains_file_read(const char *dir, int (*each)(void *arg, const struct domain *dom), void *arg, char *why_r)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/domains.json", dir);
    FILE *f = fopen(path, "re");
    if (!f)
        return errno == ENOENT ? 0 : io_fail(why_r, path, "read", errno);
    json_error_t err;
    json_t *root = json_loadf(f, JSON_REJECT_DUPLICATES, &err);
    fclose(f);
    if (!root) {
        snprintf(why_r, WHY_MAX, "%.100s:%d:%d: %.120s", path, err.line, err.column, err.text);
        return -SATCHEL_EDAMAGED;
    }
    int res = root_read(path, root, each, arg, why_r);
    json_decref(root);
    return res;
}

/* ---- writing */

static bool domains_print(FILE *f, const struct domain *const *doms, size_t n)
{
    fprintf(f, "{\"version\": %d, \"domains\": [", FILE_VERSION);
    for (size_t i = 0; i < n; i++) {
        json_t *j = domain_json(doms[i]);
        fputs(i ? ",\n  " : "\n  ", f);
        if (json_dumpf(j, f, 0) < 0)
            errno = ENOMEM;
        json_decref(j);
    }
    fputs("\n]}\n", f);
    return fflush(f) == 0 && !ferror(f) && fsync(fileno(f)) == 0;
}

static int dir_sync(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int res = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return res;
}

static int file_print(const char *path, const struct domain *const *doms, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    if (!f)
        return -errno;
    int res = domains_print(f, doms, n) ? 0 : -(errno ? errno : EIO);
    if (fclose(f) != 0 && res == 0)
        res = -errno;
    return res;
}

int domains_file_write(const char *dir, const struct domain *const *doms, size_t n, char *why_r)
{
    char path[PATH_MAX], aside[PATH_MAX];
    snprintf(path, sizeof path, "%s/domains.json", dir);
    snprintf(aside, sizeof aside, "%s/domains.json.new", dir);
    int res = file_print(aside, doms, n);
    if (res < 0) {
        unlink(aside);
        return io_fail(why_r, aside, "write", -res);
    }
    if (rename(aside, path) < 0)
        return io_fail(why_r, path, "replace", errno);
    res = dir_sync(dir);
    return res < 0 ? io_fail(why_r, dir, "sync", -res) : 0;
}
