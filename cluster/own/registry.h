/* registry.h - may this node take part, and what has to be written first?  A pure judgement of what coordination holds,
 * made anew at each attempt to join. */
#pragma once
#include "cluster/own/kvbag.h"
#include "cluster/own/member.h"

#define REGISTRY_WHY_MAX  256
#define REGISTRY_OPS_MAX  4
#define REGISTRY_PREFIXES 4
/* What has to be listed, in this order (the keys of a map come sorted). */
extern const char *const registry_prefixes[REGISTRY_PREFIXES];

/* What is to be written by one txn, and compared. */
struct registry_plan {
    struct coord_cmp cmps[REGISTRY_OPS_MAX];
    struct coord_op ops[REGISTRY_OPS_MAX];
    size_t cmps_n, ops_n;
    int64_t live_rev;          /* of live/NAME; 0: not there */
    struct storage_id cluster; /* the cluster that is joined or founded */
    char keys[REGISTRY_OPS_MAX][CMAP_KEY_MAX];
    char *values[REGISTRY_OPS_MAX]; /* malloc'ed */
};

/* 0: joined once plan was written (registry_plan_clear is the caller's).  -SATCHEL_EINVAL: refused, why_r says so.
 * -SATCHEL_ENOMEM.  was_there: nodes/NAME was seen by this process before.  fresh: a UUID for a new cluster. */
int registry_judge(const struct member_config *cfg, const struct kvbag *found, int64_t rev, bool was_there,
                   const struct storage_id *fresh, struct registry_plan *plan_r, char why_r[REGISTRY_WHY_MAX]);
void registry_plan_clear(struct registry_plan *plan);
/* Of a newer map, while this node takes part. 0; -SATCHEL_EINVAL: refused. */
int registry_still(const struct member_config *cfg, const struct cmap *map, char why_r[REGISTRY_WHY_MAX]);
