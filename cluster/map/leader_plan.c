/* leader_plan.c - what should be: who is dead for how long, and the assignment that follows.
 *
 * The assignment is computed when something changed that it depends on: nodes, their states and lives, pools.  It stays
 * as it is while shards change step by step towards it, so a move that has begun is not thought over half-way.  A new
 * owner that others made (an orderly stop, an operator's move) becomes the wanted one if it is a wanted member. */
#include <stdlib.h>

#include "cluster/map/leader_impl.h"
#include "cluster/map/map_impl.h"
#include "spool/base/err.h"
#include "spool/base/log.h"

/* ---- the dead */

static uint64_t dead_since(const struct leader *l, const struct storage_id *id, uint64_t now)
{
    for (size_t i = 0; i < l->dead_n; i++)
        if (storage_id_eq(&l->dead[i].storage, id))
            return l->dead[i].since_us;
    return now;
}

static int dead_note(struct leader *l, const struct cmap *map)
{
    uint64_t now = clock_boot_us(l->clock);
    struct dead *dead = calloc((size_t)map->nodes_n + 1, sizeof *dead);
    bool *lost = calloc((size_t)map->nodes_n + 1, sizeof *lost);
    size_t n = 0;
    if (!dead || !lost) {
        free(dead);
        free(lost);
        return -SATCHEL_ENOMEM;
    }
    for (uint32_t i = 0; i < map->nodes_n; i++) {
        const struct storage_id *id = &map->nodes[i].storage;
        if (!map->nodes[i].live)
            dead[n++] = (struct dead){*id, dead_since(l, id, now)};
    }
    free(l->dead);
    free(l->lost);
    l->dead = dead;
    l->dead_n = n;
    l->lost = lost;
    return 0;
}

/* The dead come in the order of nodes. */
static void lost_mark(struct leader *l, uint64_t now)
{
    uint64_t delay_us = l->map->repair_delay_s * 1000000ull;
    for (uint32_t i = 0, at = 0; i < l->map->nodes_n; i++)
        l->lost[i] = !l->map->nodes[i].live && now - l->dead[at++].since_us >= delay_us;
}

/* ---- layout */

static bool layout_same(const struct cmap *a, const struct cmap *b)
{
    if (!a || a->pools_n != b->pools_n || a->shards_n != b->shards_n)
        return false;
    for (uint32_t i = 0; i < a->pools_n; i++)
        if (strcmp(a->pools[i].name, b->pools[i].name) != 0 || a->pools[i].shards != b->pools[i].shards)
            return false;
    return true;
}

static int layout_new(struct leader *l, const struct cmap *map)
{
    struct shard_note *notes = calloc((size_t)map->shards_n + 1, sizeof *notes);
    struct assign_want *want = calloc((size_t)map->shards_n + 1, sizeof *want);
    if (!notes || !want) {
        free(notes);
        free(want);
        return -SATCHEL_ENOMEM;
    }
    free(l->notes);
    free(l->want);
    l->notes = notes;
    l->want = want;
    l->layout++;
    l->plan_of = 0;
    return 0;
}

/* ---- the map */

static bool want_has(const struct assign_want *w, const struct storage_id *id)
{
    for (uint8_t i = 0; i < w->members_n; i++)
        if (storage_id_eq(&w->members[i], id))
            return true;
    return false;
}

static void owners_accept(struct leader *l, const struct cmap *map)
{
    for (uint32_t i = 0; i < map->shards_n; i++) {
        const struct map_shard *was = &l->map->shards[i], *is = &map->shards[i];
        if (!storage_id_eq(&was->owner, &is->owner) && l->notes[i].our_epoch != is->epoch &&
            want_has(&l->want[i], &is->owner))
            l->want[i].owner = is->owner;
    }
}

int leader_plan_map(struct leader *l, const struct cmap *map)
{
    int res = dead_note(l, map);
    if (res == 0 && !layout_same(l->map, map))
        res = layout_new(l, map);
    else if (res == 0)
        owners_accept(l, map);
    if (res < 0)
        return res;
    const struct cmap *before = l->map;
    l->map = cmap_ref(map);
    cmap_unref(before);
    return 0;
}

/* ---- the plan */

static uint64_t text_sum(const char *text, uint64_t sum)
{
    return cmap_hash(slice_of(text, strlen(text) + 1), sum);
}

/* Of everything that wants depend on. */
static uint64_t plan_sum(const struct leader *l)
{
    uint64_t sum = 1;
    for (uint32_t i = 0; i < l->map->nodes_n; i++) {
        const struct map_node *n = &l->map->nodes[i];
        const uint32_t rest[] = {n->weight, n->state, n->live, l->lost[i]};
        sum = text_sum(n->name, text_sum(n->zone, text_sum(n->pool, sum)));
        sum = cmap_hash(slice_of(&n->storage, sizeof n->storage), cmap_hash(slice_of(rest, sizeof rest), sum));
    }
    for (uint32_t i = 0; i < l->map->pools_n; i++) {
        const struct map_pool *p = &l->map->pools[i];
        const uint32_t rest[] = {p->copies, p->shards};
        sum = text_sum(p->name, text_sum(p->fallback, cmap_hash(slice_of(rest, sizeof rest), sum)));
    }
    return sum ? sum : 1;
}

int leader_plan_now(struct leader *l, uint64_t now_us)
{
    lost_mark(l, now_us);
    uint64_t sum = plan_sum(l);
    if (sum == l->plan_of)
        return 0;
    struct assign_input in = {l->map, l->lost};
    int res = assign_compute(&in, l->want, &l->stat);
    if (res < 0)
        return res;
    l->plan_of = sum;
    log_info("leader.planned", "nodes=%u shards=%u owners_moved=%llu copies_moved=%llu copies_short=%llu",
             l->map->nodes_n, l->map->shards_n, (unsigned long long)l->stat.owners_moved,
             (unsigned long long)l->stat.copies_moved, (unsigned long long)l->stat.copies_short);
    if (l->stat.copies_short)
        log_warning("leader.copies_short",
                    "copies=%llu remedy=\"add nodes to the pool, or uncordon some: there are fewer than its copies\"",
                    (unsigned long long)l->stat.copies_short);
    return 0;
}
