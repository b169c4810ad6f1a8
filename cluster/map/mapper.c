/* mapper.c - keeps the newest map.
 *
 * A round: list shards/, and when that is here all other parts at once.  What came is kept as it came (its bytes and
 * revisions), so that a round that brought nothing new costs a comparison of revisions and no decoding.
 *
 *   IDLE -> (start, hint, refresh, due) SHARDS -> REST -> IDLE
 *
 * A list that fails ends the round after all its answers are in; the map stays, and the next round begins after
 * RETRY_US.  Errors are logged when they begin and when they end. */
#include "cluster/map/mapper.h"

#include <stdio.h>
#include <stdlib.h>

#include "cluster/map/map_impl.h"
#include "spool/base/err.h"
#include "spool/base/log.h"

#define RETRY_US 1000000
/* What all nodes together may read from coordination in idle times: their interval grows with nodes x bytes. */
#define READ_BYTES_US 32 /* 32 MB/s */
#define RELIST_MAX_US (300 * 1000000ull)
#define SAVE_GAP_US   1000000

/* The parts of the map, sorted: joined they are a sorted list.  watched: a change matters within less than relist_us.
 */
#define PARTS(X)                                                                                                       \
    X(LEADER, "leader")                                                                                                \
    X(LIVE, "live/")                                                                                                   \
    X(META, "meta")                                                                                                    \
    X(NODES, "nodes/")                                                                                                 \
    X(POOLS, "pools/")                                                                                                 \
    X(SHARDS, "shards/")

enum part_name {
#define X(name, prefix) PART_##name,
    PARTS(X)
#undef X
        PARTS_N
};

static const char *const prefixes[PARTS_N] = {
#define X(name, prefix) prefix,
    PARTS(X)
#undef X
};

struct part {
    struct mapper *m;
    struct coord_kv *kvs; /* one piece of memory with the bytes behind */
    size_t n, bytes;
    int64_t rev;
};

enum round { ROUND_IDLE, ROUND_SHARDS, ROUND_REST };

struct mapper {
    struct mapper_config cfg;
    struct coord *coord;
    const struct clock *clock;
    void (*changed)(void *arg, const struct cmap *now, const struct cmap *before);
    void *arg;
    struct part parts[PARTS_N];
    enum round round;
    uint32_t pending;           /* answers awaited */
    bool failed, differs;       /* in this round */
    bool hinted;                /* another round is wanted */
    bool unread;                /* the last round failed: said once */
    uint64_t due_us, save_us;   /* boot clock: next round; no save before */
    const struct cmap *map;     /* newest */
    const struct cmap *retired; /* the one before, until the next tick */
    bool unsaved;
    char refused[MAPPER_WHY_MAX];
};

static void list_part(struct mapper *m, enum part_name p);

/* ---- what came */

static bool part_same(const struct part *p, const struct coord_kv *kvs, size_t n)
{
    if (p->n != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (p->kvs[i].mod_rev != kvs[i].mod_rev || !slice_eq(p->kvs[i].key, kvs[i].key))
            return false;
    return true;
}

static struct slice bytes_copy(uint8_t **at, struct slice s)
{
    struct slice copy = {*at, s.n};
    if (s.n)
        memcpy(*at, s.p, s.n);
    *at += s.n;
    return copy;
}

static int part_keep(struct part *p, const struct coord_kv *kvs, size_t n)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        bytes += kvs[i].key.n + kvs[i].value.n;
    struct coord_kv *copy = malloc(n * sizeof *copy + bytes + 1);
    if (!copy)
        return -SATCHEL_ENOMEM;
    uint8_t *at = (uint8_t *)(copy + n);
    for (size_t i = 0; i < n; i++) {
        copy[i] = kvs[i];
        copy[i].key = bytes_copy(&at, kvs[i].key);
        copy[i].value = bytes_copy(&at, kvs[i].value);
    }
    free(p->kvs);
    p->kvs = copy;
    p->n = n;
    p->bytes = bytes;
    return 0;
}

static struct coord_kv *parts_join(const struct mapper *m, size_t *n_r, int64_t *rev_r)
{
    size_t n = 0;
    *rev_r = INT64_MAX;
    for (int i = 0; i < PARTS_N; i++)
        n += m->parts[i].n;
    struct coord_kv *all = calloc(n + 1, sizeof *all);
    size_t at = 0;
    for (int i = 0; all && i < PARTS_N; i++) {
        if (m->parts[i].n)
            memcpy(all + at, m->parts[i].kvs, m->parts[i].n * sizeof *all);
        at += m->parts[i].n;
        *rev_r = m->parts[i].rev < *rev_r ? m->parts[i].rev : *rev_r;
    }
    *n_r = n;
    return all;
}

static void publish(struct mapper *m, const struct cmap *now)
{
    cmap_unref(m->retired);
    m->retired = m->map;
    m->map = now;
    m->unsaved = true;
    m->changed(m->arg, now, m->retired);
}

/* Coordination that was lost or mixed up is no reason to refuse mail: what the map before says is still so. */
static int check_cluster(struct mapper *m, const struct cmap *now, char why_r[MAPPER_WHY_MAX])
{
    if (storage_id_zero(&m->cfg.cluster))
        m->cfg.cluster = now->cluster;
    if (storage_id_eq(&m->cfg.cluster, &now->cluster))
        return 0;
    snprintf(why_r, MAPPER_WHY_MAX, "%s",
             storage_id_zero(&now->cluster) ? "it is empty" : "it is that of another cluster");
    return -SATCHEL_EINVAL;
}

static void decode(struct mapper *m)
{
    size_t n;
    int64_t rev;
    char why[MAPPER_WHY_MAX] = "no memory", quoted[MAPPER_WHY_MAX + 44];
    const struct cmap *now = NULL;
    struct coord_kv *all = parts_join(m, &n, &rev);
    int res = all ? cmap_decode_after(all, n, rev, m->map, &now, why) : -SATCHEL_ENOMEM;
    free(all);
    if (res == 0 && (res = check_cluster(m, now, why)) < 0)
        cmap_unref(now);
    snprintf(m->refused, sizeof m->refused, "%s", res == 0 ? "" : why);
    if (res == 0)
        publish(m, now);
    else
        log_error("map.refused",
                  "rev=%lld why=%s remedy=\"correct that in coordination; until then the map before it is used\"",
                  (long long)rev, log_quote(slice_str(why), quoted, sizeof quoted));
}

/* ---- rounds */

static uint64_t interval_us(const struct mapper *m)
{
    uint64_t bytes = 0, us;
    for (int i = 0; i < PARTS_N; i++)
        bytes += m->parts[i].bytes;
    us = bytes * (m->parts[PART_LIVE].n + 1) / READ_BYTES_US;
    if (us > RELIST_MAX_US)
        us = RELIST_MAX_US;
    return us > m->cfg.relist_us ? us : m->cfg.relist_us;
}

static void round_said(struct mapper *m)
{
    if (m->failed && !m->unread)
        log_warning("map.unread",
                    "why=\"coordination did not answer\" remedy=\"none needed: the last map stays in use\"");
    if (!m->failed && m->unread)
        log_info("map.read_again", "rev=%lld", (long long)m->parts[PART_SHARDS].rev);
    m->unread = m->failed;
}

static void round_end(struct mapper *m)
{
    uint64_t now = clock_boot_us(m->clock);
    m->round = ROUND_IDLE;
    m->due_us = now + (m->failed ? RETRY_US : interval_us(m));
    round_said(m);
    if (!m->failed && m->differs) {
        m->differs = false;
        decode(m);
    }
}

static void round_rest(struct mapper *m)
{
    m->round = ROUND_REST;
    m->pending = 1; /* ours: no answer ends the round before all were asked */
    for (int i = 0; i < PARTS_N; i++)
        if (i != PART_SHARDS)
            list_part(m, (enum part_name)i);
    if (--m->pending == 0)
        round_end(m);
}

static void round_step(struct mapper *m)
{
    if (m->pending)
        return;
    if (m->round == ROUND_SHARDS && !m->failed)
        round_rest(m);
    else
        round_end(m);
}

static void on_list(void *arg, int res, int64_t rev, const struct coord_kv *kvs, size_t n)
{
    struct part *p = arg;
    struct mapper *m = p->m;
    m->pending--;
    if (res == 0 && !(p->rev && part_same(p, kvs, n))) {
        res = part_keep(p, kvs, n);
        m->differs |= res == 0;
    }
    if (res == 0)
        p->rev = rev;
    m->failed |= res < 0;
    round_step(m);
}

static void list_part(struct mapper *m, enum part_name p)
{
    m->pending++;
    if (m->coord->ops->list(m->coord, slice_str(prefixes[p]), on_list, &m->parts[p]) < 0) {
        m->pending--;
        m->failed = true;
    }
}

static void round_begin(struct mapper *m)
{
    m->round = ROUND_SHARDS;
    m->failed = m->hinted = false;
    list_part(m, PART_SHARDS);
    round_step(m);
}

/* ---- for others */

static void on_hint(void *arg)
{
    ((struct mapper *)arg)->hinted = true;
}

static int watch_all(struct mapper *m)
{
    int res = 0;
    for (int i = 0; i < PARTS_N && res == 0; i++)
        res = m->coord->ops->watch(m->coord, slice_str(prefixes[i]), on_hint, m);
    return res;
}

int mapper_open(struct mapper **m_r, const struct mapper_config *cfg, struct coord *coord, const struct clock *clock,
                void (*changed)(void *arg, const struct cmap *now, const struct cmap *before), void *arg)
{
    struct mapper *m = calloc(1, sizeof *m);
    if (!m)
        return -SATCHEL_ENOMEM;
    m->cfg = *cfg;
    m->coord = coord;
    m->clock = clock;
    m->changed = changed;
    m->arg = arg;
    m->hinted = true;
    for (int i = 0; i < PARTS_N; i++)
        m->parts[i].m = m;
    int res = watch_all(m);
    if (res < 0) {
        free(m);
        return res;
    }
    *m_r = m;
    return 0;
}

static void save(struct mapper *m, uint64_t now)
{
    if (!m->unsaved || !m->cfg.cache_path || now < m->save_us)
        return;
    int res = cmap_save(m->map, m->cfg.cache_path);
    if (res < 0)
        log_warning("map.unsaved",
                    "path=%s why=\"%s\" remedy=\"make room or correct its rights; without it a restart needs "
                    "coordination\"",
                    m->cfg.cache_path, satchel_strerror(res));
    m->save_us = now + SAVE_GAP_US;
    m->unsaved = res < 0;
}

void mapper_close(struct mapper **mp)
{
    struct mapper *m = *mp;
    *mp = NULL;
    if (!m)
        return;
    save(m, UINT64_MAX - SAVE_GAP_US);
    for (int i = 0; i < PARTS_N; i++)
        free(m->parts[i].kvs);
    cmap_unref(m->retired);
    cmap_unref(m->map);
    free(m);
}

const struct cmap *mapper_map(const struct mapper *m)
{
    return m->map;
}

const char *mapper_refused(const struct mapper *m)
{
    return m->refused;
}

void mapper_refresh(struct mapper *m)
{
    m->hinted = true;
}

/* A hint does not shorten the wait after a failure: coordination is not asked in a loop. */
static bool round_due(const struct mapper *m, uint64_t now)
{
    return m->round == ROUND_IDLE && ((m->hinted && !m->unread) || now >= m->due_us);
}

void mapper_tick(struct mapper *m)
{
    uint64_t now = clock_boot_us(m->clock);
    cmap_unref(m->retired);
    m->retired = NULL;
    if (round_due(m, now))
        round_begin(m);
    save(m, now);
}

uint64_t mapper_next_us(const struct mapper *m)
{
    uint64_t next = m->round == ROUND_IDLE ? m->due_us : UINT64_MAX;
    if (m->round == ROUND_IDLE && m->hinted && !m->unread)
        next = 0;
    if (m->unsaved && m->cfg.cache_path && m->save_us < next)
        next = m->save_us;
    return next;
}
