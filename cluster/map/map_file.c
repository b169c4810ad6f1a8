/* map_file.c - the map's file, DATA/cluster.map: what the accept path works from while coordination cannot be reached.
 *
 *   satchel-map 1 <revision> <XXH3-64 of everything behind this line, 16 hex digits>
 *   <mod_rev> <key> <value>
 *   ...
 *
 * The lines are the keys and values that coordination holds, so that there is one decoder.  A file that fails its
 * checksum is refused by name and can be deleted: the next list brings a new one. */
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/map/map_impl.h"
#include "spool/base/err.h"

#define FILE_SEED      0x6d61702d66696c65ULL
#define FILE_MAX_BYTES (1u << 30)
#define HEAD_MAX       80

/* ---- writing */

static void line(FILE *f, int64_t mod_rev, const char *dir, const char *name, char *value)
{
    if (value)
        fprintf(f, "%" PRId64 " %s%s %s\n", mod_rev, dir, name, value);
    else
        errno = ENOMEM;
    free(value);
}

/* In the order of their shards: their lines' order stands for create_rev. */
static void pools_print(const struct cmap *m, FILE *f)
{
    for (uint32_t at = 0, n = 0; n < m->pools_n; n++)
        for (uint32_t i = 0; i < m->pools_n; i++) {
            const struct map_pool *p = &m->pools[i];
            if (p->first != at || p->shards == 0)
                continue;
            line(f, p->mod_rev, "pools/", p->name, cmap_pool_encode(p));
            at += p->shards;
            break;
        }
}

static int body_print(const struct cmap *m, FILE *f)
{
    char key[CMAP_KEY_MAX];
    errno = 0;
    line(f, m->meta_mod_rev, "meta", "", cmap_meta_encode(m));
    for (uint32_t i = 0; i < m->nodes_n; i++) {
        line(f, m->nodes[i].mod_rev, "nodes/", m->nodes[i].name, cmap_node_encode(&m->nodes[i]));
        if (m->nodes[i].live)
            line(f, 1, "live/", m->nodes[i].name, cmap_live_encode(&m->nodes[i], 0));
    }
    pools_print(m, f);
    for (uint32_t i = 0; i < m->shards_n; i++) {
        if (m->shards[i].mod_rev == 0)
            continue;
        cmap_shard_key(m, &m->shards[i], key);
        line(f, m->shards[i].mod_rev, key, "", cmap_shard_encode(&m->shards[i]));
    }
    return errno == ENOMEM || ferror(f) ? -SATCHEL_ENOMEM : 0;
}

static int write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t k = write(fd, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return -errno;
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

static int file_write(const char *path, const char *head, const char *body, size_t body_n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int res = write_all(fd, head, strlen(head));
    if (res == 0)
        res = write_all(fd, body, body_n);
    if (res == 0 && fsync(fd) < 0)
        res = -errno;
    close(fd);
    return res;
}

static int dir_sync(const char *path)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (slash)
        snprintf(dir, sizeof dir, "%.*s", (int)(slash - path) + 1, path);
    int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int res = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return res;
}

int cmap_save(const struct cmap *m, const char *path)
{
    char *body = NULL, head[HEAD_MAX], aside[PATH_MAX];
    size_t n = 0;
    FILE *f = open_memstream(&body, &n);
    if (!f)
        return -SATCHEL_ENOMEM;
    int res = body_print(m, f);
    if (fclose(f) != 0 && res == 0)
        res = -SATCHEL_ENOMEM;
    if (res == 0 && snprintf(aside, sizeof aside, "%s.new", path) >= (int)sizeof aside)
        res = -ENAMETOOLONG;
    if (res == 0) {
        snprintf(head, sizeof head, "satchel-map 1 %" PRId64 " %016" PRIx64 "\n", m->rev,
                 cmap_hash(slice_of(body, n), FILE_SEED));
        res = file_write(aside, head, body, n);
    }
    free(body);
    if (res == 0 && rename(aside, path) < 0)
        res = -errno;
    return res == 0 ? dir_sync(path) : res;
}

/* ---- reading */

static int refuse(char *why_r, int res, const char *path, const char *what)
{
    snprintf(why_r, 256, "%.160s: %s", path, what);
    return res;
}

static int read_all(int fd, char *p, size_t n)
{
    while (n) {
        ssize_t k = read(fd, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return k < 0 ? -errno : -SATCHEL_EIO;
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

static int file_read(const char *path, char **text_r, size_t *n_r)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int res = fstat(fd, &st) < 0 ? -errno : 0;
    if (res == 0 && st.st_size > FILE_MAX_BYTES)
        res = -SATCHEL_ETOOBIG;
    size_t n = res == 0 ? (size_t)st.st_size : 0;
    char *text = res == 0 ? malloc(n + 1) : NULL;
    if (res == 0)
        res = text ? read_all(fd, text, n) : -SATCHEL_ENOMEM;
    close(fd);
    if (res < 0 || !text) {
        free(text);
        return res;
    }
    text[n] = 0;
    *text_r = text;
    *n_r = n;
    return 0;
}

/* One line; false: it is none. */
static bool line_parse(const char *p, const char *end, struct coord_kv *kv_r)
{
    char *after;
    *kv_r = (struct coord_kv){.mod_rev = strtoll(p, &after, 10)};
    if (after == p || after >= end || *after != ' ')
        return false;
    const char *key = after + 1;
    const char *space = memchr(key, ' ', (size_t)(end - key));
    if (!space)
        return false;
    kv_r->key = slice_of(key, (size_t)(space - key));
    kv_r->value = slice_of(space + 1, (size_t)(end - space) - 1);
    return true;
}

static size_t lines_count(const char *p, size_t n)
{
    size_t lines = 0;
    for (size_t i = 0; i < n; i++)
        lines += p[i] == '\n';
    return lines;
}

static int lines_decode(const char *body, size_t n, int64_t rev, const struct cmap **map_r, char *why_r)
{
    size_t lines = lines_count(body, n), at = 0;
    struct coord_kv *kvs = calloc(lines + 1, sizeof *kvs);
    if (!kvs) {
        snprintf(why_r, 256, "no memory");
        return -SATCHEL_ENOMEM;
    }
    int res = 0;
    for (const char *p = body; res == 0 && at < lines; at++) {
        const char *end = strchr(p, '\n');
        if (!end || !line_parse(p, end, &kvs[at])) {
            snprintf(why_r, 256, "line %zu is none of a map", at + 2);
            res = -SATCHEL_EINVAL;
        }
        kvs[at].create_rev = (int64_t)at + 1;
        p = end ? end + 1 : p;
    }
    if (res == 0)
        res = cmap_decode(kvs, lines, rev, map_r, why_r);
    free(kvs);
    return res;
}

static int text_decode(const char *path, const char *text, size_t n, const struct cmap **map_r, char *why_r)
{
    int64_t rev;
    uint64_t sum;
    unsigned version;
    int head = 0;
    if (sscanf(text, "satchel-map %u", &version) == 1 && version != 1)
        return refuse(why_r, -SATCHEL_EVERSION, path,
                      "written by another version of Satchel; delete it, a new one is made from coordination");
    if (sscanf(text, "satchel-map %u %" SCNd64 " %16" SCNx64 "%n", &version, &rev, &sum, &head) != 3 ||
        text[head] != '\n' || cmap_hash(slice_of(text + head + 1, n - (size_t)head - 1), FILE_SEED) != sum)
        return refuse(why_r, -SATCHEL_EDAMAGED, path,
                      "damaged (its checksum does not match); delete it, a new one is made from coordination");
    char why[256];
    int res = lines_decode(text + head + 1, n - (size_t)head - 1, rev, map_r, why);
    if (res < 0)
        snprintf(why_r, 256, "%.100s: %.140s", path, why);
    return res;
}

int cmap_load(const char *path, const struct cmap **map_r, char *why_r)
{
    char *text = NULL;
    size_t n = 0;
    int res = file_read(path, &text, &n);
    if (res < 0 || !text)
        return refuse(why_r, res, path, satchel_strerror(res));
    res = text_decode(path, text, n, map_r, why_r);
    free(text);
    return res;
}
