/* change.c - what operators change in coordination: nodes, shards, pools, and the domains.
 *
 * A change looks at the newest map, says what to compare and what to put, and is tried again with a newer map when
 * somebody else was faster.  It is over when our own map shows it, so that who asked next sees what was done. */
#include "cluster/cluster_impl.h"

enum { OPS_MAX = 4, CHANGE_US = 8 * 1000000, RETRY_US = 300000, ACKS_MAX = POOL_COPIES_MAX };

struct change {
    struct call call;
    struct change *next;
    struct cluster *c;
    /* Fills cmps and ops of w from the map. 0; an error with why: refused. */
    int (*build)(struct change *ch, const struct cmap *map);
    bool under_way;
    int64_t done_rev; /* it is done since this revision, which our map does not show yet; 0: not done */
    uint64_t retry_us, until_us;

    char key[OPS_MAX][CMAP_KEY_MAX];
    char *value[OPS_MAX];
    struct coord_cmp cmps[OPS_MAX];
    struct coord_op ops[OPS_MAX];
    size_t cmps_n, ops_n;
    char why[256];

    /* arguments */
    char node[NODE_NAME_MAX], pool[POOL_NAME_MAX], fallback[POOL_NAME_MAX];
    enum node_state state;
    bool lost, has_fallback;
    uint32_t shard, copies, acks, shards, seconds;
};

/* ---- one change */

static void change_clear(struct change *ch)
{
    for (size_t i = 0; i < ch->ops_n; i++) {
        free(ch->value[i]);
        ch->value[i] = NULL;
    }
    ch->cmps_n = ch->ops_n = 0;
}

static void change_end(struct change *ch, int res)
{
    struct change **p = &ch->c->changes;
    while (*p != ch)
        p = &(*p)->next;
    *p = ch->next;
    change_clear(ch);
    call_end(&ch->call, res, ch->why);
}

static __attribute__((format(printf, 3, 4))) int refuse(struct change *ch, int res, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(ch->why, sizeof ch->why, fmt, ap);
    va_end(ap);
    return res;
}

static void change_put(struct change *ch, const char *key, int64_t mod_rev, char *value)
{
    size_t i = ch->ops_n++, k = ch->cmps_n++;
    snprintf(ch->key[i], sizeof ch->key[i], "%s", key);
    ch->value[i] = value;
    ch->cmps[k] = (struct coord_cmp){slice_str(ch->key[i]), mod_rev};
    ch->ops[i] = (struct coord_op){.kind = value ? COORD_PUT : COORD_DELETE,
                                   .key = slice_str(ch->key[i]),
                                   .value = value ? slice_str(value) : slice_of(NULL, 0)};
}

static void on_txn(void *arg, int res, bool succeeded, int64_t rev)
{
    struct change *ch = arg;
    struct cluster *c = ch->c;
    ch->under_way = false;
    if (res == 0 && succeeded) {
        ch->done_rev = rev;
        node_refresh(c->node);
        return;
    }
    if (res < 0) {
        refuse(ch, res, "coordination did not answer; look at `satchelctl cluster status`, then try again");
        change_end(ch, res);
        return;
    }
    ch->retry_us = clock_boot_us(c->clock) + RETRY_US;
    node_refresh(c->node);
}

static void change_try(struct change *ch)
{
    struct cluster *c = ch->c;
    const struct cmap *map = node_map(c->node);
    change_clear(ch);
    int res = map ? ch->build(ch, map) : refuse(ch, -SATCHEL_EAGAIN, "this node has no map of the cluster yet");
    if (res == 0 && ch->ops_n == 0) {
        change_end(ch, 0); /* it is so already */
        return;
    }
    if (res == 0)
        res = c->coord->ops->txn(c->coord, ch->cmps, ch->cmps_n, ch->ops, ch->ops_n, on_txn, ch);
    if (res < 0) {
        if (!ch->why[0])
            refuse(ch, res, "%s", satchel_strerror(res));
        change_end(ch, res);
        return;
    }
    ch->under_way = true;
}

void changes_tick(struct cluster *c, bool new_map)
{
    uint64_t now = clock_boot_us(c->clock);
    for (struct change *ch = c->changes, *next; ch; ch = next) {
        const struct cmap *map = node_map(c->node);
        next = ch->next;
        if (ch->done_rev) {
            if ((map && map->rev >= ch->done_rev) || now >= ch->until_us)
                change_end(ch, 0);
            continue;
        }
        if (ch->under_way || (!new_map && now < ch->retry_us))
            continue;
        if (now < ch->until_us) {
            change_try(ch);
        } else {
            refuse(ch, -SATCHEL_EAGAIN, "others were faster again and again: try again");
            change_end(ch, -SATCHEL_EAGAIN);
        }
    }
}

void changes_close(struct cluster *c)
{
    for (struct change *ch = c->changes, *next; ch; ch = next) {
        next = ch->next;
        if (!ch->under_way) /* what is under way ends when coordination is closed */
            change_end(ch, ch->done_rev ? 0 : -SATCHEL_ESHUT);
    }
}

static void change_run(struct cluster *c, struct call *call)
{
    struct change *ch = (struct change *)call;
    ch->c = c;
    ch->until_us = clock_boot_us(c->clock) + CHANGE_US;
    ch->next = c->changes;
    c->changes = ch;
    change_try(ch);
}

static struct change *change_new(int (*build)(struct change *ch, const struct cmap *map))
{
    struct change *ch = call_new(sizeof *ch, change_run);
    if (ch)
        ch->build = build;
    return ch;
}

static int change_wait(struct cluster *c, struct change *ch, char *why_r)
{
    int res = call_wait(c, &ch->call, CHANGE_US + 2000000);
    if (res < 0)
        snprintf(why_r, CLUSTER_WHY_MAX, "%s", ch->call.why);
    call_unref(&ch->call);
    return res;
}

/* ---- nodes */

/* Nodes that could take over what `without` holds. */
static uint32_t nodes_left(const struct cmap *map, const struct map_node *without)
{
    uint32_t n = 0;
    const struct map_pool *pool = cmap_pool(map, slice_str(without->pool));
    for (uint32_t i = 0; i < map->nodes_n; i++) {
        const struct map_node *m = &map->nodes[i];
        bool same = strcmp(m->pool, without->pool) == 0 || (pool && strcmp(m->pool, pool->fallback) == 0);
        n += m != without && m->live && same && (m->state == NODE_ACTIVE || m->state == NODE_CORDONED);
    }
    return n;
}

/* Written as it was: who counted the nodes of this pool in an older map is told so by the comparison. */
static void pool_touch(struct change *ch, const struct map_pool *p)
{
    char key[CMAP_KEY_MAX];
    snprintf(key, sizeof key, "pools/%s", p->name);
    change_put(ch, key, p->mod_rev, cmap_pool_encode(p));
}

/* Two drains that were asked for at once, of different nodes, must not both count the other's node. */
static int drain_allowed(struct change *ch, const struct cmap *map, const struct map_node *m)
{
    const struct map_pool *pool = cmap_pool(map, slice_str(m->pool));
    const struct map_pool *fallback = pool ? cmap_pool(map, slice_str(pool->fallback)) : NULL;
    uint32_t left = nodes_left(map, m), acks = pool ? pool->acks : 1;
    if (left >= acks) {
        if (pool)
            pool_touch(ch, pool);
        if (fallback)
            pool_touch(ch, fallback);
        return 0;
    }
    return refuse(ch, -SATCHEL_EBUSY,
                  "draining %.63s would leave %u node%s to pool %.31s, which answers 250 after %u copies: add a node "
                  "first, or lower acks with `satchelctl cluster settings --acks`",
                  m->name, left, left == 1 ? "" : "s", m->pool, acks);
}

static int node_missing(struct change *ch)
{
    return refuse(ch, -SATCHEL_ENOENT, "there is no node %.63s: see `satchelctl node list`", ch->node);
}

static int build_node_set(struct change *ch, const struct cmap *map)
{
    const struct map_node *m = cmap_node(map, ch->node);
    if (!m)
        return node_missing(ch);
    if (m->state == ch->state || (m->state == NODE_DRAINED && ch->state == NODE_DRAINING))
        return 0;
    int res = ch->state == NODE_DRAINING ? drain_allowed(ch, map, m) : 0;
    if (res < 0)
        return res;
    struct map_node to = *m;
    char key[CMAP_KEY_MAX];
    to.state = ch->state;
    snprintf(key, sizeof key, "nodes/%s", m->name);
    change_put(ch, key, m->mod_rev, cmap_node_encode(&to));
    return 0;
}

int cluster_node_set(struct cluster *c, const char *node, enum node_state state, char *why_r)
{
    struct change *ch = change_new(build_node_set);
    if (!ch)
        return -SATCHEL_ENOMEM;
    snprintf(ch->node, sizeof ch->node, "%s", node);
    ch->state = state;
    return change_wait(c, ch, why_r);
}

static bool node_in_use(const struct cmap *map, const struct map_node *m)
{
    for (uint32_t i = 0; i < map->shards_n; i++)
        if (cmap_is_member(&map->shards[i], &m->storage) || cmap_is_former(&map->shards[i], &m->storage))
            return true;
    return false;
}

static int build_node_remove(struct change *ch, const struct cmap *map)
{
    const struct map_node *m = cmap_node(map, ch->node);
    if (!m)
        return node_missing(ch);
    if (m->live && ch->lost)
        return refuse(
            ch, -SATCHEL_EBUSY,
            "%.63s is alive, or its lease has not ended yet: make sure that it is stopped, and try again in a "
            "few seconds",
            m->name);
    if (m->live && m->state != NODE_DRAINED)
        return refuse(ch, -SATCHEL_EBUSY, "%.63s is alive: drain it first with `satchelctl node drain %.63s`", m->name,
                      m->name);
    if (!ch->lost && (m->state != NODE_DRAINED || node_in_use(map, m)))
        return refuse(ch, -SATCHEL_EBUSY,
                      "%.63s may hold mail: drain it first; if its disk is gone for good: `satchelctl node replace "
                      "%.63s`",
                      m->name, m->name);
    char key[CMAP_KEY_MAX];
    snprintf(key, sizeof key, "nodes/%s", m->name);
    change_put(ch, key, m->mod_rev, NULL);
    return 0;
}

int cluster_node_remove(struct cluster *c, const char *node, bool lost, char *why_r)
{
    struct change *ch = change_new(build_node_remove);
    if (!ch)
        return -SATCHEL_ENOMEM;
    snprintf(ch->node, sizeof ch->node, "%s", node);
    ch->lost = lost;
    return change_wait(c, ch, why_r);
}

/* ---- shards */

static int build_shard_move(struct change *ch, const struct cmap *map)
{
    const struct map_node *m = cmap_node(map, ch->node);
    if (!m)
        return node_missing(ch);
    if (ch->shard >= map->shards_n)
        return refuse(ch, -SATCHEL_ENOENT, "there is no such shard: see `satchelctl shard list`");
    const struct map_shard *s = &map->shards[ch->shard];
    if (storage_id_eq(&s->owner, &m->storage) || storage_id_eq(&s->next, &m->storage))
        return 0;
    if (!m->live || m->state != NODE_ACTIVE)
        return refuse(ch, -SATCHEL_EBUSY, "%.63s is %s: choose a node that is alive and active", m->name,
                      m->live ? node_state_name(m->state) : "not alive");
    if (!cmap_is_member(s, &m->storage))
        return refuse(ch, -SATCHEL_EBUSY, "%.63s has no copy of this shard: `satchelctl shard show` lists who has",
                      m->name);
    struct map_shard to = *s;
    char key[CMAP_KEY_MAX];
    to.next = m->storage;
    cmap_shard_key(map, s, key);
    change_put(ch, key, s->mod_rev, cmap_shard_encode(&to));
    return 0;
}

int cluster_shard_move(struct cluster *c, uint32_t shard, const char *to, char *why_r)
{
    struct change *ch = change_new(build_shard_move);
    if (!ch)
        return -SATCHEL_ENOMEM;
    ch->shard = shard;
    snprintf(ch->node, sizeof ch->node, "%s", to);
    return change_wait(c, ch, why_r);
}

/* ---- pools and settings */

static int pool_check(struct change *ch, const struct cmap *map, const struct map_pool *p, bool is_new)
{
    if (p->copies < 1 || p->copies > ACKS_MAX || p->acks < 1 || p->acks > p->copies)
        return refuse(ch, -SATCHEL_EINVAL, "copies must be 1 to %d, acks 1 to copies", ACKS_MAX);
    if (p->shards < 1 || p->shards > SHARDS_MAX)
        return refuse(ch, -SATCHEL_EINVAL, "shards must be 1 to %d", SHARDS_MAX);
    if (!is_new && ch->shards)
        return refuse(ch, -SATCHEL_EINVAL, "the number of shards of a pool is fixed when it is made");
    if (p->fallback[0] && (strcmp(p->fallback, p->name) == 0 || !cmap_pool(map, slice_str(p->fallback))))
        return refuse(ch, -SATCHEL_EINVAL, "there is no pool %.31s to fall back to", p->fallback);
    return 0;
}

static int build_pool_set(struct change *ch, const struct cmap *map)
{
    const struct map_pool *p = cmap_pool(map, slice_str(ch->pool)), *shared = cmap_pool(map, slice_str(POOL_SHARED));
    struct map_pool to = p        ? *p
                         : shared ? (struct map_pool){.copies = shared->copies, .acks = shared->acks, .shards = 16}
                                  : (struct map_pool){.copies = 3, .acks = 2, .shards = 16};
    if (!p && shared)
        memcpy(to.fallback, POOL_SHARED, sizeof POOL_SHARED);
    memcpy(to.name, ch->pool, sizeof to.name);
    to.copies = ch->copies ? ch->copies : to.copies;
    to.acks = ch->acks ? ch->acks : to.acks;
    to.shards = ch->shards && !p ? ch->shards : to.shards;
    if (ch->has_fallback)
        memcpy(to.fallback, ch->fallback, sizeof to.fallback);
    int res = pool_check(ch, map, &to, !p);
    if (res < 0)
        return res;
    char key[CMAP_KEY_MAX];
    snprintf(key, sizeof key, "pools/%s", to.name);
    change_put(ch, key, p ? p->mod_rev : 0, cmap_pool_encode(&to));
    return 0;
}

int cluster_pool_set(struct cluster *c, const char *pool, uint32_t copies, uint32_t acks, uint32_t shards,
                     const char *fallback, char *why_r)
{
    struct change *ch = change_new(build_pool_set);
    if (!ch)
        return -SATCHEL_ENOMEM;
    snprintf(ch->pool, sizeof ch->pool, "%s", pool ? pool : POOL_SHARED);
    ch->copies = copies;
    ch->acks = acks;
    ch->shards = shards;
    ch->has_fallback = fallback != NULL;
    snprintf(ch->fallback, sizeof ch->fallback, "%s", fallback ? fallback : "");
    return change_wait(c, ch, why_r);
}

static int build_repair_delay(struct change *ch, const struct cmap *map)
{
    struct cmap to = *map;
    to.repair_delay_s = ch->seconds;
    change_put(ch, "meta", map->meta_mod_rev, cmap_meta_encode(&to));
    return 0;
}

int cluster_repair_delay(struct cluster *c, uint32_t seconds, char *why_r)
{
    struct change *ch = change_new(build_repair_delay);
    if (!ch)
        return -SATCHEL_ENOMEM;
    ch->seconds = seconds;
    return change_wait(c, ch, why_r);
}

/* ---- domains */

struct domain_change {
    struct call call;
    enum directory_how how;
    struct domain dom;
};

static void domain_done(void *arg, int res, const char *why)
{
    call_end(arg, res, why);
}

static void domain_run(struct cluster *c, struct call *call)
{
    struct domain_change *d = (struct domain_change *)call;
    int res = directory_change(c->directory, d->how, &d->dom, domain_done, call);
    if (res < 0)
        call_end(call, res, satchel_strerror(res));
}

static int domain_change(struct cluster *c, enum directory_how how, const struct domain *dom, char *why_r)
{
    struct domain_change *d = call_new(sizeof *d, domain_run);
    if (!d)
        return -SATCHEL_ENOMEM;
    d->how = how;
    d->dom = *dom;
    int res = call_wait(c, &d->call, CHANGE_US);
    if (res < 0)
        snprintf(why_r, CLUSTER_WHY_MAX, "%s", d->call.why);
    call_unref(&d->call);
    return res;
}

int cluster_domain_set(struct cluster *c, const struct domain *dom, bool replace, char *why_r)
{
    int res = domain_check(dom, why_r);
    return res < 0 ? res : domain_change(c, replace ? DIRECTORY_REPLACE : DIRECTORY_ADD, dom, why_r);
}

int cluster_domain_remove(struct cluster *c, struct slice name, char *why_r)
{
    struct domain dom;
    int res = domain_init(&dom, name, why_r);
    return res < 0 ? res : domain_change(c, DIRECTORY_REMOVE, &dom, why_r);
}
