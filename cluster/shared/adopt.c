/* adopt.c - whose logs are looked at, and which shards wait for them.
 *
 * Log lines: shared.known (a log was scanned), shared.taken (all that was live in it is here), shared.unreadable. */
#include "cluster/shared/adopt_impl.h"

#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/metrics.h"

#include <limits.h>
#include <stdlib.h>

#include "cluster/shared/mount.h"

enum { ANEW_MIN_US = 5000000, ANEW_MAX_US = 60000000 };

void adopt_config_init(struct adopt_config *cfg)
{
    *cfg = (struct adopt_config){
        .look_us = 2000000, .other_us = 10000000, .hold_us = 5000000, .give_up_us = 30000000, .batch_bytes = 2u << 20};
}

uint64_t adopt_now(const struct adopt *a)
{
    return clock_boot_us(a->env.clock);
}

void adopt_wake(struct adopt *a, uint64_t at_us)
{
    if (at_us < a->next_us)
        a->next_us = at_us;
}

/* ---- logs */

static struct alog *alog_find(const struct adopt *a, const struct storage_id *id)
{
    struct alog *l = a->logs;
    while (l && !(storage_id_eq(&l->id, id) && l->wanted))
        l = l->next;
    return l;
}

static void alog_free(struct alog *l)
{
    foreign_close(&l->f);
    free(l->shard_of);
    free(l);
}

static void alogs_free_unwanted(struct adopt *a)
{
    for (struct alog **at = &a->logs; *at;) {
        struct alog *l = *at;
        if (l->wanted || l->scanning || l->busy) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        alog_free(l);
        a->dirty = true;
    }
}

static struct alog *alog_need(struct adopt *a, const struct map_node *n)
{
    char dir[PATH_MAX];
    struct alog *l = alog_find(a, &n->storage);
    if (l)
        return l;
    l = calloc(1, sizeof *l);
    mount_log_dir(a->cfg.dir, n->name, dir);
    if (!l || foreign_open(&l->f, dir, &n->storage) < 0) {
        free(l);
        return NULL;
    }
    l->a = a;
    l->id = n->storage;
    memcpy(l->name, n->name, sizeof l->name);
    l->wanted = true;
    l->since_us = adopt_now(a);
    l->look_us = l->since_us + a->cfg.other_us;
    l->anew_us = ANEW_MIN_US;
    l->next = a->logs;
    a->logs = l;
    return l;
}

void alog_finish(struct alog *l, struct census_entry *e, enum census_flags how)
{
    uint32_t s = alog_shard(l, e);
    struct adopt *a = l->a;
    if (e->flags & (CENSUS_TAKEN | CENSUS_BAD))
        return;
    e->flags |= (uint8_t)how;
    if (s == UINT32_MAX || !a->left[s])
        return;
    a->info.left -= a->info.left > 0;
    if (--a->left[s] == 0 && a->env.ready)
        a->env.ready(a->env.arg);
    if (a->info.left == 0)
        log_info("shared.taken", "messages=%llu unreadable=%llu", (unsigned long long)a->info.taken,
                 (unsigned long long)a->info.unreadable);
}

void alog_again(struct alog *l)
{
    if (l->anew)
        return;
    l->anew = true;
    l->look_us = adopt_now(l->a) + l->anew_us;
    l->anew_us = l->anew_us * 2 < ANEW_MAX_US ? l->anew_us * 2 : ANEW_MAX_US;
    adopt_wake(l->a, l->look_us);
}

/* ---- scans */

static void scan_failed(struct alog *l, int res, uint64_t now)
{
    char dir[PATH_MAX];
    mount_log_dir(l->a->cfg.dir, l->name, dir);
    if (!l->said)
        log_error("shared.unreadable", "node=%s log=%s err=\"%s\" remedy=\"%s\"", l->name, dir, satchel_strerror(res),
                  res == -SATCHEL_EBUSY ? "another storage's log lies there: has the node's disk been replaced?"
                                        : "is the shared file system mounted here, and may the daemon's user read it?");
    l->said = true;
    if (!l->given_up && now - l->since_us >= l->a->cfg.give_up_us) {
        l->given_up = true;
        log_error("shared.given_up", "node=%s action=\"its shards are delivered without what lies there\"", l->name);
    }
}

static void scan_done(struct reader_job *j)
{
    struct alog *l = j->arg;
    struct adopt *a = l->a;
    uint64_t now = adopt_now(a);
    struct foreign_stat st;
    l->scanning = false;
    a->scans--;
    l->look_us = now + a->cfg.look_us;
    adopt_wake(a, 0);
    if (j->res < 0) {
        scan_failed(l, j->res, now);
        return;
    }
    l->said = l->anew = false;
    if (j->res == 0 && l->known)
        return;
    foreign_stat(l->f, &st);
    if (!l->known || j->anew)
        log_info("shared.known", "node=%s records=%llu read_bytes=%llu messages=%u live=%u damaged=%llu us=%llu",
                 l->name, (unsigned long long)st.records, (unsigned long long)st.read_bytes,
                 census_n(foreign_census(l->f)), census_live_n(foreign_census(l->f)),
                 (unsigned long long)st.damaged_ranges, (unsigned long long)st.took_us);
    /* A log that is written all the time is not read all the time. */
    if (l->look_us < now + 10 * st.took_us)
        l->look_us = now + 10 * st.took_us;
    l->ends_at = j->anew ? 0 : l->ends_at;
    l->known = a->dirty = true;
    l->known_us = l->known_us ? l->known_us : now;
    a->info.scan_us_last = st.took_us;
}

static void scan_start(struct alog *l)
{
    l->scanning = true;
    l->a->scans++;
    l->job = (struct reader_job){.log = l->f, .scan = true, .anew = l->anew, .done = scan_done, .arg = l};
    reader_ask(l->a->reader, &l->job);
}

static void scans_start(struct adopt *a, uint64_t now)
{
    for (struct alog *l = a->logs; l; l = l->next) {
        if (!l->wanted || l->scanning)
            continue;
        if (l->look_us > now)
            adopt_wake(a, l->look_us);
        else if (l->busy == 0)
            scan_start(l);
    }
}

/* ---- counts: what is left to do, by the map that we have */

static bool shard_names(struct alog *l)
{
    struct census *c = foreign_census(l->f);
    uint32_t n = census_names_n(c);
    free(l->shard_of);
    l->shard_of = malloc((n + 1) * sizeof *l->shard_of);
    if (!l->shard_of)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        l->shard_of[i] = l->a->env.shard_of(l->a->env.arg, l->a->map, census_name(c, i));
        if (l->shard_of[i] >= l->a->shards_n)
            l->shard_of[i] = UINT32_MAX;
    }
    return true;
}

static void count_log(struct adopt *a, struct alog *l)
{
    struct census *c = foreign_census(l->f);
    l->live_at = 0;
    for (uint32_t i = 0; i < census_live_n(c); i++) {
        const struct census_entry *e = census_live(c, i);
        if (e->flags & (CENSUS_TAKEN | CENSUS_BAD) || !(e->flags & CENSUS_MSG) || !alog_ours(l, e))
            continue;
        a->left[alog_shard(l, e)]++;
        a->info.left++;
    }
}

static void count(struct adopt *a)
{
    a->dirty = false;
    a->info.left = 0;
    memset(a->left, 0, (a->shards_n + 1) * sizeof *a->left);
    for (struct alog *l = a->logs; l; l = l->next)
        if (alog_open(l) && shard_names(l))
            count_log(a, l);
    if (a->env.ready)
        a->env.ready(a->env.arg);
}

/* ---- shards */

static bool dead_sharer(const struct adopt *a, const struct map_node *n)
{
    return n && !n->live && storage_id_eq(&n->shared, &a->cfg.mount) && !storage_id_eq(&n->storage, &a->cfg.self);
}

/* Is the log of this member known, as far as it has to be?  until_r: later in any case. */
static bool log_answers(const struct adopt *a, const struct storage_id *id, uint64_t *until_r)
{
    if (!dead_sharer(a, cmap_storage(a->map, id)))
        return true;
    const struct alog *l = alog_find(a, id);
    if (!l || l->given_up)
        return l != NULL;
    if (!l->known || (!l->scanning && l->ends_at < census_ends_n(foreign_census(l->f))) || learn_pending(a, l))
        return false;
    if (l->known_us + a->cfg.hold_us > *until_r)
        *until_r = l->known_us + a->cfg.hold_us;
    return true;
}

bool adopt_may(struct adopt *a, uint32_t shard)
{
    uint64_t until = 0, now = adopt_now(a);
    if (!a->map || shard >= a->shards_n || !a->ours[shard])
        return true;
    const struct map_shard *s = &a->map->shards[shard];
    for (uint8_t i = 0; i < s->members_n; i++)
        if (!log_answers(a, &s->members[i], &until))
            return false;
    for (uint8_t i = 0; i < s->former_n; i++)
        if (!log_answers(a, &s->former[i], &until))
            return false;
    if (until == 0 || now >= until)
        return true;
    adopt_wake(a, until);
    return a->left[shard] == 0 && !a->dirty;
}

/* ---- the map */

static bool names(const struct map_shard *s, const struct storage_id *id)
{
    return cmap_is_member(s, id) || cmap_is_former(s, id);
}

static bool shards_size(struct adopt *a, uint32_t n)
{
    if (a->shards_n == n && a->left)
        return true;
    free(a->left);
    free(a->ours);
    a->left = calloc(n + 1, sizeof *a->left);
    a->ours = calloc(n + 1, sizeof *a->ours);
    a->shards_n = a->left && a->ours ? n : 0;
    return a->left && a->ours;
}

/* true: some are ours that were not. */
static bool map_ours(struct adopt *a)
{
    bool more = false;
    a->ours_n = 0;
    for (uint32_t i = 0; i < a->shards_n; i++) {
        bool ours = storage_id_eq(&a->map->shards[i].owner, &a->cfg.self);
        more |= ours && !a->ours[i];
        a->ours[i] = ours;
        a->ours_n += ours;
    }
    return more;
}

static void map_log(struct adopt *a, const struct map_node *n)
{
    struct alog *l = alog_need(a, n);
    bool named = false;
    for (uint32_t i = 0; l && i < a->shards_n && !named; i++)
        named = a->ours[i] && names(&a->map->shards[i], &n->storage);
    if (!l)
        return;
    if (named && !l->named) {
        l->since_us = adopt_now(a);
        l->look_us = l->known ? l->look_us : 0;
    }
    l->named = named;
    l->wanted = true;
}

void adopt_map(struct adopt *a, const struct cmap *map)
{
    const struct cmap *before = a->map;
    a->map = cmap_ref(map);
    cmap_unref(before);
    if (!shards_size(a, map->shards_n))
        abort(); /* a few bytes a shard */
    bool more = map_ours(a);
    struct alog *had = a->logs;
    for (uint32_t i = 0; i < map->nodes_n; i++)
        if (a->ours_n && dead_sharer(a, &map->nodes[i]))
            map_log(a, &map->nodes[i]);
    for (struct alog *l = had; l; l = l->next) {
        l->wanted = l->wanted && a->ours_n && dead_sharer(a, cmap_storage(map, &l->id));
        l->ends_at = more ? 0 : l->ends_at;
    }
    a->dirty = true;
    adopt_wake(a, 0);
}

/* ---- time */

void adopt_tick(struct adopt *a)
{
    uint64_t now = adopt_now(a);
    reader_poll(a->reader);
    if (!a->map || (now < a->next_us && !a->dirty))
        return;
    a->next_us = UINT64_MAX;
    alogs_free_unwanted(a);
    learn_tick(a, now);
    bool more = false;
    if (a->scans == 0) {
        if (a->dirty)
            count(a);
        more = learn_step(a) || (now >= a->pause_us && take_step(a));
        if (now < a->pause_us)
            adopt_wake(a, a->pause_us);
    }
    if (more)
        adopt_wake(a, 0);
    else
        scans_start(a, now);
    metric_set(M_SHARED_LEFT, a->info.left);
}

uint64_t adopt_next_us(const struct adopt *a)
{
    return a->next_us;
}

int adopt_fd(const struct adopt *a)
{
    return reader_fd(a->reader);
}

bool adopt_sleep(struct adopt *a)
{
    return reader_sleep(a->reader);
}

void adopt_info(const struct adopt *a, struct adopt_info *info_r)
{
    *info_r = a->info;
    info_r->logs = info_r->known = 0;
    for (const struct alog *l = a->logs; l; l = l->next) {
        info_r->logs += l->wanted;
        info_r->known += l->wanted && l->known;
    }
}

/* ---- life */

int adopt_open(struct adopt **a_r, const struct adopt_config *cfg, const struct adopt_env *env)
{
    struct adopt *a = calloc(1, sizeof *a);
    if (!a)
        return -SATCHEL_ENOMEM;
    a->cfg = *cfg;
    a->env = *env;
    a->next_us = UINT64_MAX;
    int rc = reader_open(&a->reader);
    if (rc < 0)
        free(a);
    else
        *a_r = a;
    return rc;
}

void adopt_close(struct adopt **ap)
{
    struct adopt *a = *ap;
    if (!a)
        return;
    a->env.ready = NULL;
    a->closing = true;
    reader_close(&a->reader);
    while (a->batches || a->learning)
        a->env.storage->ops->poll(a->env.storage);
    learn_close(a);
    while (a->logs) {
        struct alog *l = a->logs;
        a->logs = l->next;
        alog_free(l);
    }
    cmap_unref(a->map);
    free(a->left);
    free(a->ours);
    free(a);
    *ap = NULL;
}
