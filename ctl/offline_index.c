/* offline_index.c - does the index say what the log says?
 *
 * Two queues are built.  One over an index in memory from every record of the log: the truth.  The other over a copy of
 * the node's index, brought up to date with the records behind its applied position, as a start would do.  Their
 * digests must be the same, line by line (invariant 4 of the design). RocksDB writes to what it opens; so the copy: its
 * data files never change and are linked, the rest is copied. */
#include "ctl/offline.h"
#include "spool/base/err.h"
#include "spool/queue/queue.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COMMIT_EACH = 1024 };

#define INDEX_CACHE_BYTES (64u << 20)

/* ---- a queue over an index and the log, that changes neither */

struct twin {
    struct index *ix;
    struct segread *reader;
    struct queue *queue;
    uint64_t last_pos, *segs;
    size_t segs_n, segs_cap, batch;
};

static int port_append(void *ctx, struct seglog_entry *e)
{
    (void)ctx, (void)e;
    return -SATCHEL_ESHUT;
}

static void port_free_segment(void *ctx, uint64_t seg)
{
    (void)ctx, (void)seg;
}

static void port_ready(void *ctx, struct slice domain)
{
    (void)ctx, (void)domain;
}

static void twin_segment(struct twin *t, uint64_t seg)
{
    if (t->segs_n > 0 && t->segs[t->segs_n - 1] == seg)
        return;
    if (t->segs_n == t->segs_cap) {
        t->segs_cap = t->segs_cap ? t->segs_cap * 2 : 64;
        t->segs = realloc(t->segs, t->segs_cap * sizeof *t->segs);
        if (!t->segs)
            abort();
    }
    t->segs[t->segs_n++] = seg;
}

/* Every record names its segment; only those behind the applied position are applied. */
static int twin_record(void *arg, const struct record *rec, uint64_t pos, uint32_t size)
{
    struct twin *t = arg;
    twin_segment(t, logpos_seg(pos));
    if (pos < queue_applied(t->queue) && t->last_pos == 0)
        return 0;
    int res = queue_apply(t->queue, rec, pos, size);
    t->last_pos = pos + size;
    if (res == 0 && ++t->batch >= COMMIT_EACH) {
        t->batch = 0;
        res = queue_commit(t->queue, t->last_pos);
    }
    return res;
}

static void twin_damaged(void *arg, uint64_t pos, uint64_t bytes)
{
    (void)arg, (void)pos, (void)bytes; /* the first scan has told of it */
}

/* Takes t->ix as it is. */
static int twin_build(struct twin *t, struct disk *disk)
{
    const struct queue_port port = {port_append, port_free_segment, port_ready, NULL, NULL};
    const struct seglog_replay replay = {twin_record, twin_damaged, t};
    struct seglog_open_stats st;
    int res = segread_open(&t->reader, disk);
    if (res == 0)
        res = queue_open(&t->queue, &queue_config_default, t->ix, clock_system(), t->reader, &port);
    if (res == 0)
        res = seglog_scan(disk, &replay, 0, &st);
    if (res == 0 && t->last_pos)
        res = queue_commit(t->queue, t->last_pos);
    return res == 0 ? queue_recovered(t->queue, t->segs, t->segs_n) : res;
}

static void twin_close(struct twin *t)
{
    queue_close(&t->queue);
    segread_close(&t->reader);
    if (t->ix)
        t->ix->ops->close(&t->ix);
    free(t->segs);
}

/* ---- the copy of the index */

static int bytes_copy(int from, int to)
{
    char buf[65536];
    ssize_t n;
    while ((n = read(from, buf, sizeof buf)) > 0) {
        if (write(to, buf, (size_t)n) != n)
            return -SATCHEL_EIO;
    }
    return n < 0 ? -errno : 0;
}

static int file_copy(int from_dir, int to_dir, const char *name)
{
    size_t n = strlen(name);
    if (n > 4 && strcmp(name + n - 4, ".sst") == 0 && linkat(from_dir, name, to_dir, name, 0) == 0)
        return 0;
    int from = openat(from_dir, name, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        return -errno;
    int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int res = to < 0 ? -errno : bytes_copy(from, to);
    close(from);
    if (to >= 0)
        close(to);
    return res;
}

static int files_copy(DIR *from, int to_dir)
{
    struct dirent *e;
    struct stat sb;
    int res = 0;
    while (res == 0 && (e = readdir(from))) {
        if (fstatat(dirfd(from), e->d_name, &sb, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(sb.st_mode) &&
            strcmp(e->d_name, "LOCK") != 0)
            res = file_copy(dirfd(from), to_dir, e->d_name);
    }
    return res;
}

static int index_copy(const char *from, const char *to)
{
    DIR *d = opendir(from);
    int fd = d ? open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    int res = fd < 0 ? -errno : files_copy(d, fd);
    if (fd >= 0)
        close(fd);
    if (d)
        closedir(d);
    return res;
}

static void dir_remove(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    while (d && (e = readdir(d))) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            unlinkat(dirfd(d), e->d_name, 0);
    }
    if (d)
        closedir(d);
    rmdir(dir);
}

/* ---- comparing */

struct lines {
    char *text; /* each with its NUL */
    size_t n, cap, count;
};

static void line_keep(void *arg, const char *text)
{
    struct lines *l = arg;
    size_t n = strlen(text) + 1;
    if (l->n + n > l->cap) {
        l->cap = (l->cap + n) * 2;
        l->text = realloc(l->text, l->cap);
        if (!l->text)
            abort();
    }
    memcpy(l->text + l->n, text, n);
    l->n += n;
    l->count++;
}

struct comparing {
    const struct lines *truth;
    size_t at, count;
    FILE *out;
    bool differs;
};

/* Only the first difference is shown: lines behind a missing one would all differ. */
static void line_compare(void *arg, const char *text)
{
    struct comparing *c = arg;
    const char *truth = c->at < c->truth->n ? c->truth->text + c->at : NULL;
    c->count++;
    if (truth)
        c->at += strlen(truth) + 1;
    if (c->differs || (truth && strcmp(truth, text) == 0))
        return;
    c->differs = true;
    fprintf(c->out, "differs from the log at message %zu\n             log: %s\n           index: %s\n", c->count,
            truth ? truth : "(nothing)", text);
}

static int digests_compare(const struct lines *truth, struct queue *q, FILE *out)
{
    struct comparing c = {.truth = truth, .out = out};
    int res = queue_digest(q, line_compare, &c);
    if (res < 0)
        return res;
    if (!c.differs && c.count < truth->count)
        fprintf(out, "lacks %zu messages that the log has, first: %s\n", truth->count - c.count, truth->text + c.at);
    return c.differs || c.count != truth->count;
}

static int copy_compare(struct offline *o, const char *copy, const struct lines *truth, FILE *out)
{
    char index[PATH_MAX];
    struct twin t = {0};
    snprintf(index, sizeof index, "%s/index", o->dir);
    int res = index_copy(index, copy);
    if (res == 0)
        res = index_rocks_open(&t.ix, copy, INDEX_CACHE_BYTES, INDEX_CACHE_BYTES);
    if (res < 0) {
        fprintf(out, "cannot be opened: %s; satcheld rebuilds it from the log at its next start\n",
                satchel_strerror(res));
        return 1;
    }
    res = twin_build(&t, o->disk);
    if (res == 0)
        res = digests_compare(truth, t.queue, out);
    twin_close(&t);
    return res;
}

static int truth_build(struct offline *o, struct lines *truth)
{
    struct twin t = {0};
    int res = index_ram_open(&t.ix);
    if (res == 0)
        res = twin_build(&t, o->disk);
    if (res == 0)
        res = queue_digest(t.queue, line_keep, truth);
    twin_close(&t);
    return res;
}

int offline_index_check(struct offline *o, FILE *out, uint64_t *live_r)
{
    struct lines truth = {0};
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s/index-check-XXXXXX", o->dir);
    int res = truth_build(o, &truth);
    *live_r = truth.count;
    if (res == 0 && !mkdtemp(copy))
        res = -errno;
    if (res == 0) {
        res = copy_compare(o, copy, &truth, out);
        dir_remove(copy);
    }
    free(truth.text);
    return res;
}
