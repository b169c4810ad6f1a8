/* assign_owners.c - which of its members owns each shard of a pool.
 *
 * Only live nodes own.  An owner that is still a live member stays; a shard without one goes to the member that has the
 * least of its share, and to one that stores it already before one that must be filled first.  Then those more than a
 * tenth off their share pull and push, which costs hand-overs but no copying. */
#include <stdlib.h>

#include "cluster/map/assign_impl.h"
#include "spool/base/err.h"

#define ROUNDS_MAX 4

static void keep(struct plan *p, uint32_t shard)
{
    struct place *at = &p->places[shard];
    uint16_t owner = plan_cand(p, &plan_shard(p, shard)->owner);
    at->owner = CAND_NONE;
    if (owner == CAND_NONE || !p->cands[owner].node->live || !place_has(at, owner))
        return;
    at->owner = owner;
    p->cands[owner].owned++;
}

static int share(struct plan *p)
{
    size_t n = (size_t)p->cands_n + 1;
    double *scratch = calloc(3 * n, sizeof *scratch), bound = 0;
    if (!scratch)
        return -SATCHEL_ENOMEM;
    double *weight = scratch, *most = scratch + n, *owns = scratch + 2 * n;
    for (uint32_t i = 0; i < p->cands_n; i++) {
        const struct cand *c = &p->cands[i];
        weight[i] = c->gets ? c->node->weight : 0;
        most[i] = c->gets ? c->load : 0;
        bound += c->gets ? 0 : c->owned;
    }
    fair_shares(weight, most, 0, p->cands_n, p->pool->shards - bound, owns);
    for (uint32_t i = 0; i < p->cands_n; i++)
        p->cands[i].owns = owns[i];
    free(scratch);
    return 0;
}

/* How full it would be with one more, for comparing. */
static double fullness(const struct cand *c)
{
    return (c->owned + 1) / (c->owns + 1e-9);
}

static bool better(const struct plan *p, uint32_t shard, uint16_t a, uint16_t b)
{
    if (b == CAND_NONE)
        return true;
    const struct cand *x = &p->cands[a], *y = &p->cands[b];
    const struct map_shard *s = plan_shard(p, shard);
    bool has_x = cmap_is_member(s, &x->node->storage), has_y = cmap_is_member(s, &y->node->storage);
    if (has_x != has_y)
        return has_x;
    if (x->gets != y->gets)
        return x->gets;
    double full_x = fullness(x), full_y = fullness(y);
    return full_x != full_y ? full_x < full_y : plan_score(p, shard, a) > plan_score(p, shard, b);
}

static void fill(struct plan *p, uint32_t shard)
{
    struct place *at = &p->places[shard];
    if (at->owner != CAND_NONE)
        return;
    for (uint8_t i = 0; i < at->members_n; i++)
        if (p->cands[at->members[i]].node->live && better(p, shard, at->members[i], at->owner))
            at->owner = at->members[i];
    if (at->owner != CAND_NONE)
        p->cands[at->owner].owned++;
}

static void hand(struct plan *p, struct place *at, uint16_t to)
{
    p->cands[at->owner].owned--;
    p->cands[to].owned++;
    at->owner = to;
}

static bool pull(struct plan *p, uint16_t to)
{
    struct cand *c = &p->cands[to];
    bool moved = false;
    if (!c->gets || !fair_short(c->owned, c->owns))
        return false;
    for (uint32_t s = 0; s < p->pool->shards && c->owned + 1 <= c->owns; s++) {
        struct place *at = &p->places[s];
        const struct cand *from = at->owner == CAND_NONE ? NULL : &p->cands[at->owner];
        if (!from || !from->gets || at->owner == to || from->owned <= from->owns || !place_has(at, to))
            continue;
        hand(p, at, to);
        moved = true;
    }
    return moved;
}

/* For each candidate a shard that it stores and whose owner has more than its share; UINT32_MAX: none. */
static void via_find(struct plan *p)
{
    for (uint32_t i = 0; i < p->cands_n; i++)
        p->via[i] = UINT32_MAX;
    for (uint32_t s = 0; s < p->pool->shards; s++) {
        const struct place *at = &p->places[s];
        if (at->owner == CAND_NONE || !p->cands[at->owner].gets ||
            p->cands[at->owner].owned <= p->cands[at->owner].owns)
            continue;
        for (uint8_t i = 0; i < at->members_n; i++)
            if (at->members[i] != at->owner && p->cands[at->members[i]].gets)
                p->via[at->members[i]] = s;
    }
}

/* Through one between: nodes of one zone share no shard, so what one has too much can reach the other only so. */
static bool pull_through(struct plan *p, uint16_t to)
{
    struct cand *c = &p->cands[to];
    bool moved = false;
    if (!c->gets || !fair_short(c->owned, c->owns))
        return false;
    via_find(p);
    for (uint32_t s = 0; s < p->pool->shards && c->owned + 1 <= c->owns; s++) {
        struct place *at = &p->places[s];
        uint16_t between = at->owner;
        if (between == CAND_NONE || between == to || p->via[between] == UINT32_MAX || !place_has(at, to))
            continue;
        struct place *from = &p->places[p->via[between]];
        p->via[between] = UINT32_MAX;
        if (from->owner == between || p->cands[from->owner].owned <= p->cands[from->owner].owns)
            continue;
        hand(p, from, between);
        hand(p, at, to);
        moved = true;
    }
    return moved;
}

static uint16_t taker(const struct plan *p, const struct place *at)
{
    uint16_t best = CAND_NONE;
    for (uint8_t i = 0; i < at->members_n; i++) {
        const struct cand *c = &p->cands[at->members[i]];
        if (at->members[i] != at->owner && c->gets && c->owned + 1 <= fair_ceil(c->owns) &&
            (best == CAND_NONE || fullness(c) < fullness(&p->cands[best])))
            best = at->members[i];
    }
    return best;
}

static bool push(struct plan *p, uint16_t from)
{
    struct cand *c = &p->cands[from];
    bool moved = false;
    if (!c->gets || !fair_over(c->owned, c->owns))
        return false;
    for (uint32_t s = 0; s < p->pool->shards && c->owned > fair_ceil(c->owns); s++) {
        struct place *at = &p->places[s];
        uint16_t to = at->owner == from ? taker(p, at) : CAND_NONE;
        if (to == CAND_NONE)
            continue;
        hand(p, at, to);
        moved = true;
    }
    return moved;
}

static void balance(struct plan *p)
{
    bool moved = true;
    for (int round = 0; moved && round < ROUNDS_MAX; round++) {
        moved = false;
        for (uint32_t i = 0; i < p->cands_n; i++)
            moved |= pull(p, (uint16_t)i);
        for (uint32_t i = 0; i < p->cands_n; i++)
            while (pull_through(p, (uint16_t)i))
                moved = true;
        for (uint32_t i = 0; i < p->cands_n; i++)
            moved |= push(p, (uint16_t)i);
    }
}

int plan_owners(struct plan *p)
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
