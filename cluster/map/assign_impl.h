/* assign_impl.h - one pool's assignment while it is worked out. */
#pragma once
#include "cluster/map/assign.h"

#define CAND_NONE UINT16_MAX

/* A node that may store shards of the pool. */
struct cand {
    const struct map_node *node;
    uint64_t seed;        /* of its name: a replaced disk takes the places of the one before */
    uint16_t zone;        /* number of its zone */
    bool gets;            /* may take what it has not (active and live); others only keep */
    uint32_t load, owned; /* copies, ownerships that it has in this plan */
    double share, owns;   /* of them it should have, by weight */
};

struct place {
    uint16_t members[MEMBERS_MAX], owner; /* candidates; CAND_NONE */
    uint8_t members_n;
};

struct plan {
    const struct cmap *map;
    const struct map_pool *pool;
    uint64_t seed; /* of its name */
    struct cand *cands;
    uint16_t *cand_of; /* of each node of the map; CAND_NONE */
    struct place *places;
    double *scores;        /* scratch, one a candidate */
    struct ranked *ranked; /* scratch, one a shard */
    uint32_t *via;         /* scratch, one a candidate */
    uint32_t cands_n, getters_n, zones_n;
    uint16_t *zone_getters; /* of each zone */
    uint32_t copies;
};

struct ranked {
    double score;
    uint32_t shard;
};

static inline const struct map_shard *plan_shard(const struct plan *p, uint32_t s)
{
    return &p->map->shards[p->pool->first + s];
}

/* Candidate of a storage, or CAND_NONE. */
uint16_t plan_cand(const struct plan *p, const struct storage_id *id);
bool place_has(const struct place *at, uint16_t cand);
/* Rendezvous: the higher, the better the node suits the shard. */
double plan_score(const struct plan *p, uint32_t shard, uint16_t cand);
/* share_r[i] = x * weight[i], not below lo and not above hi[i], with the one x at which they sum up to total, as far as
 * lo and hi let.
 */
void fair_shares(const double *weight, const double *hi, double lo, size_t n, double total, double *share_r);
/* More than a tenth, and a whole one, below or above what it should have: worth moving something. */
bool fair_short(uint32_t has, double should);
bool fair_over(uint32_t has, double should);
uint32_t fair_ceil(double should);

/* assign_copies.c: members of all places.  assign_owners.c: their owners, after that. */
int plan_copies(struct plan *p);
int plan_owners(struct plan *p);
