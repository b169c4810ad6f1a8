/* assign.c - who should store and own each shard: candidates of each pool, and the plan turned into storages.
 *
 * The plan of a pool is made in two steps: copies (assign_copies.c), then owners among the members (assign_owners.c).
 * Both keep what is there, fill what is missing in the order of rendezvous without going over a node's share, and only
 * then move what lies more than a tenth off its share.  Pools are independent of each other.
 *
 * Arithmetic is + - * / of doubles alone (no libm), so that every leader computes the same. */
#include "cluster/map/assign.h"

#include <stdlib.h>

#include "cluster/map/assign_impl.h"
#include "cluster/map/map_impl.h"
#include "spool/base/err.h"

#define FALLBACKS_MAX 4
#define SLACK         0.1
#define SEED          0x61737369676eULL

/* ---- scores */

static uint64_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdULL;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ULL;
    return x ^ x >> 33;
}

/* -ln(h / 2^64), by the series of the area tangent: ln m = 2 (s + s^3/3 + ...), s = (m - 1) / (m + 1). */
static double neg_log(uint64_t h)
{
    const double ln2 = 0.69314718055994530942;
    int top = 63 - __builtin_clzll(h | 1);
    double m = (double)(h | 1) / (double)(1ULL << top);
    double s = (m - 1) / (m + 1), q = s * s;
    double ln = 2 * s * (1 + q * (1 / 3.0 + q * (1 / 5.0 + q * (1 / 7.0 + q * (1 / 9.0 + q * (1 / 11.0 + q / 13.0))))));
    double r = (64 - top) * ln2 - ln;
    return r > 1e-9 ? r : 1e-9;
}

double plan_score(const struct plan *p, uint32_t shard, uint16_t cand)
{
    const struct cand *c = &p->cands[cand];
    return c->node->weight / neg_log(mix(mix(p->seed + shard) ^ c->seed));
}

/* ---- shares */

static double clamp(double x, double lo, double hi)
{
    double least = lo < hi ? lo : hi;
    return x < least ? least : x > hi ? hi : x;
}

static double clamped_sum(const double *weight, const double *hi, double lo, size_t n, double x)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += clamp(x * weight[i], lo, hi[i]);
    return sum;
}

void fair_shares(const double *weight, const double *hi, double lo, size_t n, double total, double *share_r)
{
    double least = 0, most = 1e-6;
    while (most < 1e12 && clamped_sum(weight, hi, lo, n, most) < total)
        most *= 2;
    for (int i = 0; i < 60; i++) {
        double x = least + (most - least) / 2;
        if (clamped_sum(weight, hi, lo, n, x) < total)
            least = x;
        else
            most = x;
    }
    for (size_t i = 0; i < n; i++)
        share_r[i] = clamp(most * weight[i], lo, hi[i]);
}

bool fair_short(uint32_t has, double should)
{
    return has < should * (1 - SLACK) && has + 1 <= should;
}

bool fair_over(uint32_t has, double should)
{
    return has > should * (1 + SLACK) && has >= should + 1;
}

uint32_t fair_ceil(double should)
{
    return (uint32_t)(should + 0.999999);
}

/* ---- candidates */

static bool usable(const struct assign_input *in, uint32_t node)
{
    const struct map_node *n = &in->map->nodes[node];
    return (n->state == NODE_ACTIVE || n->state == NODE_CORDONED) && !in->lost[node] &&
           cmap_storage(in->map, &n->storage) == n;
}

static bool lives(const struct assign_input *in, const char *pool)
{
    for (uint32_t i = 0; i < in->map->nodes_n; i++)
        if (strcmp(in->map->nodes[i].pool, pool) == 0 && in->map->nodes[i].live && usable(in, i))
            return true;
    return false;
}

/* The pool whose nodes serve this one now: itself, or the first of its fallbacks that lives. */
static const char *serving(const struct assign_input *in, const struct map_pool *pool)
{
    const struct map_pool *p = pool;
    for (int i = 0; p && i <= FALLBACKS_MAX; i++) {
        if (lives(in, p->name))
            return p->name;
        p = p->fallback[0] ? cmap_pool(in->map, slice_str(p->fallback)) : NULL;
    }
    return pool->name;
}

static uint16_t zone_of(struct plan *p, uint32_t upto)
{
    const char *zone = p->cands[upto].node->zone;
    for (uint32_t i = 0; zone[0] && i < upto; i++)
        if (strcmp(p->cands[i].node->zone, zone) == 0)
            return p->cands[i].zone;
    return (uint16_t)p->zones_n++;
}

static void cands_fill(struct plan *p, const struct assign_input *in)
{
    const char *pool = serving(in, p->pool);
    for (uint32_t i = 0; i < in->map->nodes_n; i++) {
        const struct map_node *n = &in->map->nodes[i];
        p->cand_of[i] = CAND_NONE;
        if (strcmp(n->pool, pool) != 0 || !usable(in, i))
            continue;
        uint32_t at = p->cands_n++;
        p->cand_of[i] = (uint16_t)at;
        p->cands[at] = (struct cand){.node = n, .gets = n->state == NODE_ACTIVE && n->live};
        p->cands[at].seed = mix(cmap_hash(slice_str(n->name), SEED));
        p->cands[at].zone = zone_of(p, at);
        p->zone_getters[p->cands[at].zone] += p->cands[at].gets;
        p->getters_n += p->cands[at].gets;
    }
}

uint16_t plan_cand(const struct plan *p, const struct storage_id *id)
{
    const struct map_node *n = cmap_storage(p->map, id);
    return n ? p->cand_of[n - p->map->nodes] : CAND_NONE;
}

bool place_has(const struct place *at, uint16_t cand)
{
    for (uint8_t i = 0; i < at->members_n; i++)
        if (at->members[i] == cand)
            return true;
    return false;
}

/* ---- the plan as storages */

static void want_from(const struct plan *p, uint32_t shard, struct assign_want *w_r)
{
    const struct place *at = &p->places[shard];
    *w_r = (struct assign_want){0};
    if (at->owner != CAND_NONE) {
        w_r->owner = p->cands[at->owner].node->storage;
        w_r->members[w_r->members_n++] = w_r->owner;
    }
    for (uint8_t i = 0; i < at->members_n; i++)
        if (at->members[i] != at->owner)
            w_r->members[w_r->members_n++] = p->cands[at->members[i]].node->storage;
}

static void want_count(const struct plan *p, const struct map_shard *s, const struct assign_want *w,
                       struct assign_stat *stat)
{
    stat->copies_short += p->pool->copies - w->members_n;
    if (!storage_id_zero(&s->owner) && !storage_id_eq(&s->owner, &w->owner))
        stat->owners_moved++;
    for (uint8_t i = 0; s->members_n && i < w->members_n; i++)
        stat->copies_moved += !cmap_is_member(s, &w->members[i]);
}

static int pool_assign(const struct assign_input *in, struct plan *p, struct assign_want *want_r,
                       struct assign_stat *stat)
{
    cands_fill(p, in);
    p->copies = p->pool->copies < p->cands_n ? p->pool->copies : p->cands_n;
    int res = plan_copies(p);
    if (res == 0)
        res = plan_owners(p);
    for (uint32_t s = 0; res == 0 && s < p->pool->shards; s++) {
        want_from(p, s, &want_r[p->pool->first + s]);
        want_count(p, plan_shard(p, s), &want_r[p->pool->first + s], stat);
    }
    return res;
}

static int pool_plan(const struct assign_input *in, const struct map_pool *pool, struct assign_want *want_r,
                     struct assign_stat *stat)
{
    size_t nodes = in->map->nodes_n + 1;
    struct plan p = {.map = in->map, .pool = pool};
    p.seed = cmap_hash(slice_str(pool->name), SEED);
    p.cands = calloc(nodes, sizeof *p.cands);
    p.cand_of = calloc(nodes, sizeof *p.cand_of);
    p.zone_getters = calloc(nodes, sizeof *p.zone_getters);
    p.scores = calloc(nodes, sizeof *p.scores);
    p.via = calloc(nodes, sizeof *p.via);
    p.places = calloc(pool->shards, sizeof *p.places);
    p.ranked = calloc(pool->shards, sizeof *p.ranked);
    bool memory = p.cands && p.cand_of && p.zone_getters && p.scores && p.via && p.places && p.ranked;
    int res = memory ? pool_assign(in, &p, want_r, stat) : -SATCHEL_ENOMEM;
    free(p.cands);
    free(p.cand_of);
    free(p.zone_getters);
    free(p.scores);
    free(p.via);
    free(p.places);
    free(p.ranked);
    return res;
}

int assign_compute(const struct assign_input *in, struct assign_want *want_r, struct assign_stat *stat_r)
{
    int res = 0;
    *stat_r = (struct assign_stat){0};
    for (uint32_t i = 0; res == 0 && i < in->map->pools_n; i++)
        res = pool_plan(in, &in->map->pools[i], want_r, stat_r);
    return res;
}
