/* assign_copies.c - which nodes store each shard of a pool.
 *
 *   keep     members that may stay; of more than are wanted, the best by zone, then the owner, then by rendezvous
 *   share    what each node should have, by weight, as far as zones and the number of nodes let
 *   fill     missing copies: a zone that the shard has not yet comes first, then rendezvous among nodes below their
 * share balance  who lies more than a tenth off its share pulls from, or pushes to, those on the other side of theirs
 */
#include <stdlib.h>

#include "cluster/map/assign_impl.h"
#include "spool/base/err.h"

#define ROUNDS_MAX 4

static bool zone_in(const struct plan *p, const struct place *at, uint16_t zone, uint16_t except)
{
    for (uint8_t i = 0; i < at->members_n; i++)
        if (at->members[i] != except && p->cands[at->members[i]].zone == zone)
            return true;
    return false;
}

static void place_add(struct plan *p, struct place *at, uint16_t cand)
{
    at->members[at->members_n++] = cand;
    p->cands[cand].load++;
}

static void place_swap(struct plan *p, struct place *at, uint16_t from, uint16_t to)
{
    for (uint8_t i = 0; i < at->members_n; i++)
        if (at->members[i] == from)
            at->members[i] = to;
    p->cands[from].load--;
    p->cands[to].load++;
}

/* ---- keep */

static uint8_t stayers(const struct plan *p, uint32_t shard, uint16_t *stay_r)
{
    const struct map_shard *s = plan_shard(p, shard);
    uint16_t owner = plan_cand(p, &s->owner);
    double score[MEMBERS_MAX];
    uint8_t n = 0;
    for (uint8_t i = 0; i < s->members_n; i++) {
        uint16_t c = plan_cand(p, &s->members[i]);
        if (c == CAND_NONE)
            continue;
        double sc = c == owner ? 1e300 : plan_score(p, shard, c);
        uint8_t at = n++;
        for (; at > 0 && score[at - 1] < sc; at--) {
            score[at] = score[at - 1];
            stay_r[at] = stay_r[at - 1];
        }
        score[at] = sc;
        stay_r[at] = c;
    }
    return n;
}

/* How many copies may share a zone with another: those for which no zone is left. */
static uint32_t doubles_allowed(const struct plan *p, const uint16_t *stay, uint8_t n)
{
    uint32_t zones = 0;
    for (uint32_t z = 0; z < p->zones_n && zones < p->copies; z++)
        zones += p->zone_getters[z] > 0;
    for (uint8_t i = 0; i < n; i++) {
        bool seen = p->zone_getters[p->cands[stay[i]].zone] > 0;
        for (uint8_t j = 0; j < i; j++)
            seen |= p->cands[stay[j]].zone == p->cands[stay[i]].zone;
        zones += !seen;
    }
    return zones < p->copies ? p->copies - zones : 0;
}

static void keep(struct plan *p, uint32_t shard)
{
    struct place *at = &p->places[shard];
    uint16_t stay[MEMBERS_MAX];
    uint8_t n = stayers(p, shard, stay);
    at->owner = plan_cand(p, &plan_shard(p, shard)->owner);
    uint32_t doubles = doubles_allowed(p, stay, n);
    for (uint8_t i = 0; i < n && at->members_n < p->copies; i++)
        if (!zone_in(p, at, p->cands[stay[i]].zone, CAND_NONE))
            place_add(p, at, stay[i]);
    for (uint8_t i = 0; i < n && at->members_n < p->copies && doubles; i++) {
        if (place_has(at, stay[i]))
            continue;
        place_add(p, at, stay[i]);
        doubles--;
    }
}

/* ---- share */

struct zone_sums {
    double *weight, *most, *share; /* of each zone */
};

static void zones_share(const struct plan *p, double copies, struct zone_sums *z)
{
    uint32_t zones = 0;
    for (uint32_t i = 0; i < p->cands_n; i++)
        if (p->cands[i].gets)
            z->weight[p->cands[i].zone] += p->cands[i].node->weight;
    for (uint32_t i = 0; i < p->zones_n; i++)
        zones += p->zone_getters[i] > 0;
    bool apart = zones >= p->copies; /* one copy a zone at most; otherwise one at least */
    for (uint32_t i = 0; i < p->zones_n; i++)
        z->most[i] = apart && p->zone_getters[i] ? 1 : p->zone_getters[i];
    fair_shares(z->weight, z->most, !apart && zones <= copies ? 1 : 0, p->zones_n, copies, z->share);
}

static void nodes_share(struct plan *p, uint16_t zone, double copies, double *scratch)
{
    double *weight = scratch, *most = scratch + p->cands_n, *share = scratch + 2 * (size_t)p->cands_n;
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->cands_n; i++) {
        if (!p->cands[i].gets || p->cands[i].zone != zone)
            continue;
        weight[n] = p->cands[i].node->weight;
        most[n++] = 1;
    }
    fair_shares(weight, most, 0, n, copies, share);
    n = 0;
    for (uint32_t i = 0; i < p->cands_n; i++)
        if (p->cands[i].gets && p->cands[i].zone == zone)
            p->cands[i].share = share[n++] * p->pool->shards;
}

/* Copies a shard that nodes may take that are not bound to what they have. */
static double copies_free(const struct plan *p)
{
    double bound = 0;
    for (uint32_t i = 0; i < p->cands_n; i++)
        bound += p->cands[i].gets ? 0 : p->cands[i].load;
    return p->copies - bound / p->pool->shards;
}

static int share(struct plan *p)
{
    size_t n = (size_t)p->cands_n + 1;
    double *scratch = calloc(6 * n, sizeof *scratch);
    if (!scratch)
        return -SATCHEL_ENOMEM;
    struct zone_sums z = {scratch, scratch + n, scratch + 2 * n};
    zones_share(p, copies_free(p), &z);
    for (uint32_t i = 0; i < p->zones_n; i++)
        if (p->zone_getters[i])
            nodes_share(p, (uint16_t)i, z.share[i], scratch + 3 * n);
    free(scratch);
    return 0;
}

/* ---- fill */

/* Better: below its share rather than not; then the higher score, or the emptier one. */
static bool better(const struct plan *p, uint16_t a, uint16_t b)
{
    if (b == CAND_NONE)
        return true;
    const struct cand *x = &p->cands[a], *y = &p->cands[b];
    bool room_x = x->load < fair_ceil(x->share), room_y = y->load < fair_ceil(y->share);
    if (room_x != room_y)
        return room_x;
    if (room_x)
        return p->scores[a] > p->scores[b];
    return (x->load + 1) * (y->share + 1e-9) < (y->load + 1) * (x->share + 1e-9);
}

/* In a zone that the shard has not yet, if any is left. */
static uint16_t choose(const struct plan *p, const struct place *at)
{
    uint16_t apart = CAND_NONE, any = CAND_NONE;
    for (uint32_t i = 0; i < p->cands_n; i++) {
        uint16_t c = (uint16_t)i;
        if (!p->cands[i].gets || place_has(at, c))
            continue;
        uint16_t *best = zone_in(p, at, p->cands[i].zone, CAND_NONE) ? &any : &apart;
        if (better(p, c, *best))
            *best = c;
    }
    return apart == CAND_NONE ? any : apart;
}

static void fill(struct plan *p, uint32_t shard)
{
    struct place *at = &p->places[shard];
    if (at->members_n >= p->copies || p->getters_n == 0)
        return;
    for (uint32_t i = 0; i < p->cands_n; i++)
        p->scores[i] = p->cands[i].gets ? plan_score(p, shard, (uint16_t)i) : 0;
    while (at->members_n < p->copies) {
        uint16_t c = choose(p, at);
        if (c == CAND_NONE)
            return;
        place_add(p, at, c);
    }
}

/* ---- balance */

static int by_score(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    return (x->shard > y->shard) - (x->shard < y->shard);
}

/* Shards that a candidate stores, or those it does not, best first. */
static uint32_t rank(struct plan *p, uint16_t cand, bool stored)
{
    uint32_t n = 0;
    for (uint32_t s = 0; s < p->pool->shards; s++)
        if (place_has(&p->places[s], cand) == stored && p->places[s].members_n)
            p->ranked[n++] = (struct ranked){plan_score(p, s, cand), s};
    qsort(p->ranked, n, sizeof *p->ranked, by_score);
    return n;
}

/* No zone is lost. */
static bool swap_fits(const struct plan *p, const struct place *at, uint16_t from, uint16_t to)
{
    return p->cands[from].zone == p->cands[to].zone || !zone_in(p, at, p->cands[to].zone, from) ||
           zone_in(p, at, p->cands[from].zone, from);
}

/* The member that lies highest above its share, the owner only where no other does: its going costs a hand-over, too.
 */
static uint16_t donor(const struct plan *p, const struct place *at, uint16_t to)
{
    uint16_t best = CAND_NONE;
    double most = 1;
    for (uint8_t i = 0; i < at->members_n; i++) {
        const struct cand *c = &p->cands[at->members[i]];
        double over = c->load / (c->share + 1e-9);
        if (!c->gets || over <= 1 || !swap_fits(p, at, at->members[i], to))
            continue;
        if (best != CAND_NONE && best != at->owner && (over <= most || at->members[i] == at->owner))
            continue;
        best = at->members[i];
        most = over;
    }
    return best;
}

static bool pull(struct plan *p, uint16_t to)
{
    struct cand *c = &p->cands[to];
    bool moved = false;
    if (!c->gets || !fair_short(c->load, c->share))
        return false;
    uint32_t n = rank(p, to, false);
    for (uint32_t i = 0; i < n && c->load + 1 <= c->share; i++) {
        struct place *at = &p->places[p->ranked[i].shard];
        uint16_t from = donor(p, at, to);
        if (from == CAND_NONE)
            continue;
        place_swap(p, at, from, to);
        moved = true;
    }
    return moved;
}

static uint16_t taker(const struct plan *p, uint32_t shard, uint16_t from)
{
    const struct place *at = &p->places[shard];
    uint16_t best = CAND_NONE;
    double score, most = 0;
    for (uint32_t i = 0; i < p->cands_n; i++) {
        const struct cand *c = &p->cands[i];
        if (!c->gets || c->load + 1 > fair_ceil(c->share) || place_has(at, (uint16_t)i) ||
            !swap_fits(p, at, from, (uint16_t)i))
            continue;
        score = plan_score(p, shard, (uint16_t)i);
        if (score <= most)
            continue;
        best = (uint16_t)i;
        most = score;
    }
    return best;
}

static bool push_some(struct plan *p, uint16_t from, uint32_t n, bool owned)
{
    struct cand *c = &p->cands[from];
    bool moved = false;
    while (n-- > 0 && c->load > fair_ceil(c->share)) {
        uint32_t shard = p->ranked[n].shard;
        struct place *at = &p->places[shard];
        uint16_t to = place_has(at, from) && (at->owner == from) == owned ? taker(p, shard, from) : CAND_NONE;
        if (to == CAND_NONE)
            continue;
        place_swap(p, at, from, to);
        moved = true;
    }
    return moved;
}

/* First of shards that others own. */
static bool push(struct plan *p, uint16_t from)
{
    const struct cand *c = &p->cands[from];
    if (!c->gets || !fair_over(c->load, c->share))
        return false;
    uint32_t n = rank(p, from, true);
    bool moved = push_some(p, from, n, false);
    return push_some(p, from, n, true) || moved;
}

static void balance(struct plan *p)
{
    bool moved = true;
    for (int round = 0; moved && round < ROUNDS_MAX; round++) {
        moved = false;
        for (uint32_t i = 0; i < p->cands_n; i++)
            moved |= pull(p, (uint16_t)i);
        for (uint32_t i = 0; i < p->cands_n; i++)
            moved |= push(p, (uint16_t)i);
    }
}

int plan_copies(struct plan *p)
{
    for (uint32_t s = 0; s < p->pool->shards; s++)
        keep(p, s);
    int res = share(p);
    if (res < 0)
        return res;
    for (uint32_t s = 0; s < p->pool->shards; s++)
        fill(p, s);
    balance(p);
    return 0;
}
