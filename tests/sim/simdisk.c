/* simdisk.c - the disk in memory: images, crashes, faults.  The contract is in simdisk.h. */
#include "tests/sim/simdisk.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "spool/base/err.h"

#define FILES_MAX  512
#define IOS_MAX    64
#define WALL_START 1700000000000000u /* virtual wall clock at boot */

struct simfile {
    char name[64];
    bool linked; /* has a name; a removed file lives on for those who hold a handle */
    uint64_t size;
    uint8_t *cache, *platter;
    uint8_t *dirty; /* one byte a sector: cache and platter may differ */
};

struct flight {
    struct disk_io *io;
    uint64_t due_us;
};

struct simdisk {
    struct disk disk, view; /* as the process sees it; the platter */
    struct clock clock;
    struct rng rng;
    uint64_t now_us, capacity, slow_us;
    struct simfile files[FILES_MAX];
    uint32_t files_n;
    struct flight ios[IOS_MAX];
    uint32_t ios_n;
    struct simdisk_plan plan;
    uint64_t effects, landings, syncs;
    bool dead;
};

static struct simdisk *of(struct disk *d)
{
    return (struct simdisk *)((char *)d - offsetof(struct simdisk, disk));
}

static struct simdisk *of_view(struct disk *d)
{
    return (struct simdisk *)((char *)d - offsetof(struct simdisk, view));
}

/* ---- images */

static uint64_t sectors(const struct simfile *f)
{
    return f->size / SIMDISK_SECTOR;
}

static void sector_sync(struct simfile *f, uint64_t i)
{
    memcpy(f->platter + i * SIMDISK_SECTOR, f->cache + i * SIMDISK_SECTOR, SIMDISK_SECTOR);
    f->dirty[i] = 0;
}

static void file_land(struct simfile *f, uint64_t off, const void *buf, size_t n)
{
    assert(off % SIMDISK_SECTOR == 0 && n % SIMDISK_SECTOR == 0 && off + n <= f->size);
    memcpy(f->cache + off, buf, n);
    memset(f->dirty + off / SIMDISK_SECTOR, 1, n / SIMDISK_SECTOR);
}

/* Where the write's byte `at` lies. */
static const uint8_t *io_sector(const struct disk_io *io, size_t at)
{
    if (io->buf)
        return (const uint8_t *)io->buf + at;
    const struct iovec *v = io->pieces;
    for (; at >= v->iov_len; v++)
        at -= v->iov_len;
    return (const uint8_t *)v->iov_base + at;
}

/* Read when it lands and not when it was submitted, as a real disk does. */
static void io_land(struct simdisk *s, const struct disk_io *io, size_t n)
{
    for (size_t at = 0; at < n; at += SIMDISK_SECTOR)
        file_land(&s->files[io->file], io->off + at, io_sector(io, at), SIMDISK_SECTOR);
}

uint64_t simdisk_pieced;

static void io_check(const struct disk_io *io)
{
    simdisk_pieced += !io->buf && io->pieces_n > 1;
    size_t n = io->buf ? io->n : 0;
    assert(io->off % DISK_ALIGN == 0 && io->n % DISK_ALIGN == 0 && io->n > 0);
    assert(io->buf || io->pieces_n <= DISK_PIECES);
    for (uint32_t i = 0; !io->buf && i < io->pieces_n; i++) {
        assert(((uintptr_t)io->pieces[i].iov_base | io->pieces[i].iov_len) % DISK_ALIGN == 0);
        n += io->pieces[i].iov_len;
    }
    assert(n == io->n);
}

static void file_sync(struct simfile *f)
{
    for (uint64_t i = 0; i < sectors(f); i++)
        if (f->dirty[i])
            sector_sync(f, i);
}

static void file_drop(struct simfile *f)
{
    free(f->cache);
    free(f->platter);
    free(f->dirty);
    *f = (struct simfile){0};
}

static struct simfile *file_find(const struct simdisk *s, const char *name)
{
    for (uint32_t i = 0; i < s->files_n; i++)
        if (s->files[i].linked && strcmp(s->files[i].name, name) == 0)
            return (struct simfile *)&s->files[i];
    return NULL;
}

/* Small files keep their exact size; the images are rounded up to whole sectors. */
static struct simfile *file_make(struct simdisk *s, const char *name, uint64_t size)
{
    uint32_t i = 0;
    while (i < s->files_n && (s->files[i].linked || s->files[i].cache))
        i++;
    assert(i < FILES_MAX);
    if (i == s->files_n)
        s->files_n++;
    struct simfile *f = &s->files[i];
    uint64_t room = (size / SIMDISK_SECTOR + 1) * SIMDISK_SECTOR;
    *f = (struct simfile){.linked = true, .size = size, .cache = calloc(1, room), .platter = calloc(1, room)};
    f->dirty = calloc(1, room / SIMDISK_SECTOR);
    assert(f->cache && f->platter && f->dirty);
    snprintf(f->name, sizeof f->name, "%s", name);
    return f;
}

/* ---- dying */

static bool kept(struct simdisk *s, uint32_t percent)
{
    return rng_below(&s->rng, 100) < percent;
}

static void file_power_cut(struct simdisk *s, struct simfile *f, uint32_t percent)
{
    for (uint64_t i = 0; i < sectors(f); i++)
        if (f->dirty[i] && kept(s, percent))
            sector_sync(f, i);
}

static void io_power_cut(struct simdisk *s, const struct disk_io *io, uint32_t percent)
{
    struct simfile *f = &s->files[io->file];
    for (size_t at = 0; at < io->n; at += SIMDISK_SECTOR)
        if (kept(s, percent))
            memcpy(f->platter + io->off + at, io_sector(io, at), SIMDISK_SECTOR);
}

static void power_cut(struct simdisk *s)
{
    static const uint8_t percents[] = {0, 15, 50, 85, 97, 100};
    uint32_t percent = percents[rng_below(&s->rng, sizeof percents)];
    for (uint32_t i = 0; i < s->files_n; i++)
        if (s->files[i].cache)
            file_power_cut(s, &s->files[i], percent);
    for (uint32_t i = 0; i < s->ios_n; i++)
        io_power_cut(s, s->ios[i].io, percent);
    for (uint32_t i = 0; i < s->files_n; i++) {
        struct simfile *f = &s->files[i];
        if (!f->cache)
            continue;
        memcpy(f->cache, f->platter, sectors(f) * SIMDISK_SECTOR);
        memset(f->dirty, 0, sectors(f));
    }
}

/* The kernel finishes what it was given; what it was not given yet never happens. */
static void kill_process(struct simdisk *s)
{
    for (uint32_t i = 0; i < s->ios_n; i++) {
        const struct disk_io *io = s->ios[i].io;
        if (kept(s, 60))
            io_land(s, io, io->n);
    }
}

void simdisk_crash(struct simdisk *s, enum simdisk_crash how)
{
    if (s->dead)
        return;
    s->dead = true;
    if (how == SIMDISK_POWER)
        power_cut(s);
    else
        kill_process(s);
}

/* One boundary; true: the machine is dead from here on. */
static bool effect(struct simdisk *s)
{
    s->effects++;
    if (!s->dead && s->plan.die_at == s->effects)
        simdisk_crash(s, s->plan.how);
    return s->dead;
}

/* ---- writes */

static void op_submit(struct disk *d, struct disk_io *io)
{
    struct simdisk *s = of(d);
    assert(s->ios_n < IOS_MAX);
    io_check(io);
    assert(s->dead || io->off + io->n <= s->files[io->file].size);
    effect(s);
    uint64_t latency = 40 + rng_below(&s->rng, rng_below(&s->rng, 8) ? 200 : 5000);
    s->ios[s->ios_n++] = (struct flight){io, s->now_us + latency + s->slow_us};
}

static struct disk_io *flight_take(struct simdisk *s, uint32_t i)
{
    struct disk_io *io = s->ios[i].io;
    memmove(&s->ios[i], &s->ios[i + 1], (--s->ios_n - i) * sizeof s->ios[0]);
    return io;
}

/* The device reports an error after some sectors: those are there, the others are not. */
static int land_fails(struct simdisk *s, const struct disk_io *io)
{
    size_t n = rng_below(&s->rng, io->n / SIMDISK_SECTOR) * SIMDISK_SECTOR;
    io_land(s, io, n);
    return -SATCHEL_EIO;
}

/* As Linux does: the pages count as clean from now on, the platter has them or not, and what it has not is gone as soon
 * as they are evicted, which is at once here. */
static int sync_fails(struct simdisk *s, struct simfile *f)
{
    for (uint64_t i = 0; i < sectors(f); i++) {
        if (f->dirty[i] && kept(s, 50))
            sector_sync(f, i);
        else if (f->dirty[i])
            memcpy(f->cache + i * SIMDISK_SECTOR, f->platter + i * SIMDISK_SECTOR, SIMDISK_SECTOR);
        f->dirty[i] = 0;
    }
    return -SATCHEL_EIO;
}

static int io_sync(struct simdisk *s, struct simfile *f)
{
    if (effect(s))
        return -SATCHEL_EIO;
    if (++s->syncs == s->plan.sync_eio_at)
        return sync_fails(s, f);
    file_sync(f);
    return 0;
}

/* A machine that dies at the landing finds the write still in flight; later, it is in the cache or on the platter. */
static void io_run(struct simdisk *s, uint32_t i)
{
    if (effect(s))
        return;
    struct disk_io *io = flight_take(s, i);
    struct simfile *f = &s->files[io->file];
    int res = 0;
    if (++s->landings == s->plan.write_eio_at)
        res = land_fails(s, io);
    else
        io_land(s, io, io->n);
    if (res == 0 && io->sync)
        res = io_sync(s, f);
    if (effect(s))
        res = -SATCHEL_EIO;
    io->done(io, res);
}

static uint32_t flight_first(const struct simdisk *s)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < s->ios_n; i++)
        if (s->ios[i].due_us < s->ios[best].due_us)
            best = i;
    return best;
}

static void fail_flights(struct simdisk *s)
{
    for (uint32_t n = s->ios_n; n > 0 && s->ios_n > 0; n--) {
        struct disk_io *io = flight_take(s, 0);
        io->done(io, -SATCHEL_EIO);
    }
}

static void op_poll(struct disk *d, uint64_t wait_us)
{
    struct simdisk *s = of(d);
    uint64_t until = wait_us > UINT64_MAX - s->now_us ? UINT64_MAX : s->now_us + wait_us;
    uint64_t next = s->ios_n > 0 ? s->ios[flight_first(s)].due_us : until;
    if (wait_us > 0 && next > s->now_us)
        s->now_us = next < until ? next : until;
    while (!s->dead && s->ios_n > 0) {
        uint32_t i = flight_first(s);
        if (s->ios[i].due_us > s->now_us)
            return;
        io_run(s, i);
    }
    if (s->dead)
        fail_flights(s);
}

/* ---- files */

static int list_files(struct simdisk *s, void (*each)(void *arg, const char *name, uint64_t size), void *arg)
{
    /* A directory has no order that anyone may rely on. */
    uint32_t start = s->files_n ? (uint32_t)rng_below(&s->rng, s->files_n) : 0;
    for (uint32_t i = 0; i < s->files_n; i++) {
        const struct simfile *f = &s->files[(start + i) % s->files_n];
        if (f->linked)
            each(arg, f->name, f->size);
    }
    return 0;
}

static int op_list(struct disk *d, void (*each)(void *arg, const char *name, uint64_t size), void *arg)
{
    return of(d)->dead ? -SATCHEL_EIO : list_files(of(d), each, arg);
}

uint64_t simdisk_used(const struct simdisk *s)
{
    uint64_t used = 0;
    for (uint32_t i = 0; i < s->files_n; i++)
        used += s->files[i].linked ? s->files[i].size : 0;
    return used;
}

static uint64_t op_room(struct disk *d)
{
    struct simdisk *s = of(d);
    uint64_t used = simdisk_used(s);
    return used < s->capacity ? s->capacity - used : 0;
}

static int op_create(struct disk *d, const char *name, uint64_t size, bool prewrite)
{
    (void)prewrite; /* a reserved block reads as zeros, too */
    struct simdisk *s = of(d);
    if (effect(s))
        return -SATCHEL_EIO;
    if (file_find(s, name))
        return -SATCHEL_EEXIST;
    if (size > op_room(d))
        return -SATCHEL_EFULL;
    uint64_t part = rng_below(&s->rng, size / DISK_ALIGN + 1) * DISK_ALIGN;
    if (effect(s)) {
        file_make(s, name, part);
        return -SATCHEL_EIO;
    }
    struct simfile *f = file_make(s, name, size);
    return effect(s) ? -SATCHEL_EIO : (int)(f - s->files);
}

static int open_file(struct simdisk *s, const char *name, uint64_t *size_r)
{
    struct simfile *f = file_find(s, name);
    if (!f)
        return -SATCHEL_ENOENT;
    if (size_r)
        *size_r = f->size;
    return (int)(f - s->files);
}

static int op_open(struct disk *d, const char *name, uint64_t *size_r)
{
    return of(d)->dead ? -SATCHEL_EIO : open_file(of(d), name, size_r);
}

static void op_close(struct disk *d, int file)
{
    (void)d; /* a handle is the file's place in the table */
    assert(file >= 0);
}

static int64_t copy_out(const struct simfile *f, const uint8_t *image, uint64_t off, void *buf, size_t n)
{
    if (off >= f->size)
        return 0;
    size_t got = n < f->size - off ? n : (size_t)(f->size - off);
    memcpy(buf, image + off, got);
    return (int64_t)got;
}

static int64_t op_read(struct disk *d, int file, uint64_t off, void *buf, size_t n)
{
    struct simdisk *s = of(d);
    const struct simfile *f = &s->files[file];
    return s->dead ? -SATCHEL_EIO : copy_out(f, f->cache, off, buf, n);
}

static int op_remove(struct disk *d, const char *name)
{
    struct simdisk *s = of(d);
    if (effect(s))
        return -SATCHEL_EIO;
    struct simfile *f = file_find(s, name);
    if (!f)
        return -SATCHEL_ENOENT;
    f->linked = false;
    return effect(s) ? -SATCHEL_EIO : 0;
}

static void put_file(struct simdisk *s, const char *name, struct slice content)
{
    struct simfile *old = file_find(s, name);
    if (old)
        old->linked = false;
    struct simfile *f = file_make(s, name, content.n);
    memcpy(f->cache, content.p, content.n);
    memcpy(f->platter, content.p, content.n);
}

static int op_put(struct disk *d, const char *name, struct slice content)
{
    struct simdisk *s = of(d);
    char aside[80];
    if (effect(s))
        return -SATCHEL_EIO;
    if (content.n > op_room(d))
        return -SATCHEL_EFULL;
    if (effect(s)) { /* inside: the file aside is there, the name still means the old one */
        snprintf(aside, sizeof aside, "%.59s.new", name);
        put_file(s, aside, slice_of(content.p, content.n / 2));
        return -SATCHEL_EIO;
    }
    put_file(s, name, content);
    return effect(s) ? -SATCHEL_EIO : 0;
}

static int64_t op_get(struct disk *d, const char *name, void *buf, size_t cap)
{
    struct simdisk *s = of(d);
    const struct simfile *f = file_find(s, name);
    if (s->dead || !f)
        return s->dead ? -SATCHEL_EIO : -SATCHEL_ENOENT;
    return copy_out(f, f->cache, 0, buf, cap);
}

static int op_register_memory(struct disk *d, void *memory, size_t n)
{
    (void)d, (void)memory, (void)n;
    return 0; /* a write copies when it takes effect, from any memory */
}

static void op_destroy(struct disk *d)
{
    (void)d; /* the simulator keeps its disk: simdisk_close */
}

static const struct disk_ops sim_ops = {
    .list = op_list,
    .create = op_create,
    .open = op_open,
    .close = op_close,
    .read = op_read,
    .register_memory = op_register_memory,
    .submit = op_submit,
    .poll = op_poll,
    .remove = op_remove,
    .put = op_put,
    .get = op_get,
    .room = op_room,
    .destroy = op_destroy,
};

/* ---- the platter as a disk: reading only */

static int view_list(struct disk *d, void (*each)(void *arg, const char *name, uint64_t size), void *arg)
{
    return list_files(of_view(d), each, arg);
}

static int view_open(struct disk *d, const char *name, uint64_t *size_r)
{
    return open_file(of_view(d), name, size_r);
}

static int64_t view_read(struct disk *d, int file, uint64_t off, void *buf, size_t n)
{
    const struct simfile *f = &of_view(d)->files[file];
    return copy_out(f, f->platter, off, buf, n);
}

static int64_t view_get(struct disk *d, const char *name, void *buf, size_t cap)
{
    const struct simfile *f = file_find(of_view(d), name);
    return f ? copy_out(f, f->platter, 0, buf, cap) : -SATCHEL_ENOENT;
}

static const struct disk_ops view_ops = {
    .list = view_list,
    .open = view_open,
    .close = op_close,
    .read = view_read,
    .get = view_get,
    .destroy = op_destroy,
};

/* ---- time */

static uint64_t clock_boot(void *ctx)
{
    return ((struct simdisk *)ctx)->now_us;
}

static uint64_t clock_wall(void *ctx)
{
    return WALL_START + ((struct simdisk *)ctx)->now_us;
}

const struct clock *simdisk_clock(struct simdisk *s)
{
    return &s->clock;
}

void simdisk_sleep(struct simdisk *s, uint64_t us)
{
    s->now_us += us;
}

/* ---- for the simulator */

void simdisk_open(struct simdisk **s_r, uint64_t keep_seed, uint64_t capacity_bytes)
{
    struct simdisk *s = calloc(1, sizeof *s);
    assert(s);
    s->disk = (struct disk){&sim_ops, -1};
    s->view = (struct disk){&view_ops, -1};
    s->clock = (struct clock){clock_boot, clock_wall, s};
    s->now_us = 1000000;
    s->capacity = capacity_bytes;
    rng_seed(&s->rng, keep_seed);
    *s_r = s;
}

void simdisk_close(struct simdisk **sp)
{
    if (!*sp)
        return;
    for (uint32_t i = 0; i < (*sp)->files_n; i++)
        file_drop(&(*sp)->files[i]);
    free(*sp);
    *sp = NULL;
}

struct disk *simdisk_disk(struct simdisk *s)
{
    return &s->disk;
}

struct disk *simdisk_platter(struct simdisk *s)
{
    return &s->view;
}

uint64_t simdisk_next_us(const struct simdisk *s)
{
    return s->ios_n > 0 ? s->ios[flight_first(s)].due_us : UINT64_MAX;
}

void simdisk_slow(struct simdisk *s, uint64_t us)
{
    s->slow_us = us;
}

void simdisk_arm(struct simdisk *s, const struct simdisk_plan *plan)
{
    s->plan = *plan;
    s->effects = s->landings = s->syncs = 0;
}

uint64_t simdisk_effects(const struct simdisk *s)
{
    return s->effects;
}

bool simdisk_dead(const struct simdisk *s)
{
    return s->dead;
}

void simdisk_power_on(struct simdisk *s)
{
    s->dead = false;
    s->ios_n = 0;
    s->plan = (struct simdisk_plan){0};
    for (uint32_t i = 0; i < s->files_n; i++)
        if (!s->files[i].linked)
            file_drop(&s->files[i]);
}

void simdisk_resize(struct simdisk *s, uint64_t capacity_bytes)
{
    s->capacity = capacity_bytes;
}

uint32_t simdisk_count(const struct simdisk *s, const char *prefix)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->files_n; i++)
        n += s->files[i].linked && strncmp(s->files[i].name, prefix, strlen(prefix)) == 0;
    return n;
}

static bool sector_is_zero(const struct simfile *f, uint64_t sector)
{
    const uint8_t *p = f->platter + sector * SIMDISK_SECTOR;
    return p[0] == 0 && memcmp(p, p + 1, SIMDISK_SECTOR - 1) == 0;
}

bool simdisk_flip(struct simdisk *s, struct rng *rng, const char *prefix, struct simdisk_spot *spot_r)
{
    for (int tries = 0; tries < 4000 && s->files_n > 0; tries++) {
        struct simfile *f = &s->files[rng_below(rng, s->files_n)];
        if (!f->linked || strncmp(f->name, prefix, strlen(prefix)) != 0 || sectors(f) == 0)
            continue;
        uint64_t sector = rng_below(rng, sectors(f));
        if (sector_is_zero(f, sector))
            continue;
        uint64_t off = sector * SIMDISK_SECTOR + rng_below(rng, SIMDISK_SECTOR);
        f->platter[off] ^= (uint8_t)(1u << rng_below(rng, 8));
        f->cache[off] = f->platter[off];
        spot_r->off = off;
        spot_r->value = f->platter[off];
        memcpy(spot_r->name, f->name, sizeof spot_r->name);
        return true;
    }
    return false;
}

bool simdisk_spot_unchanged(const struct simdisk *s, const struct simdisk_spot *spot)
{
    const struct simfile *f = file_find(s, spot->name);
    return f && spot->off < f->size && f->platter[spot->off] == spot->value;
}
