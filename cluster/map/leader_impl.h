/* leader_impl.h - what the files of the leader share. */
#pragma once
#include "cluster/map/leader.h"
#include "cluster/map/leader_step.h"

#define DEAD_MAX 8 /* dead owners in one txn */
/* Compares are for the key "leader" and for dead owners, too. */
#define BATCH_MAX (COORD_TXN_OPS_MAX - 1 - DEAD_MAX)

/* What the leader knows of one shard beside the map. */
struct shard_note {
    uint64_t report_epoch, our_epoch; /* our_epoch: of the owner that we set last */
    uint32_t report_hash, report_synced;
    int64_t hold_rev;       /* no change before the map is as new as this ... */
    uint64_t hold_until_us; /* ... or until then */
    bool busy;              /* a change of ours is on its way */
    bool joining;           /* we let a member join, not all wanted are in sync yet */
};

/* When a node was first seen dead. */
struct dead {
    struct storage_id storage;
    uint64_t since_us;
};

/* Changes in one txn. */
struct batch {
    struct leader *l;
    struct batch *next;
    uint64_t layout; /* leader's when it was sent: indexes mean nothing in another */
    uint32_t n, shards[BATCH_MAX];
    enum leader_step steps[BATCH_MAX];
    uint64_t epochs[BATCH_MAX];
};

struct leader {
    struct leader_config cfg;
    struct coord *coord;
    const struct clock *clock;
    void (*changed)(void *arg);
    void *changed_arg;
    const struct cmap *map;

    /* the office */
    int64_t lease;
    int64_t office_lease, office_rev; /* under which we won the key "leader", and its mod_rev then */
    bool campaigning, leading;
    uint64_t campaign_us; /* not before; UINT64_MAX: the office is taken */
    uint64_t since_us;

    /* the plan */
    struct dead *dead;
    size_t dead_n;
    bool *lost;               /* of each node of the map */
    uint64_t plan_of;         /* sum of what assign_want was computed from; 0: none */
    struct assign_want *want; /* of each shard */
    struct assign_stat stat;
    struct shard_note *notes; /* of each shard */
    uint64_t layout;          /* grows when indexes of shards change their meaning */

    /* the work */
    struct batch *batches; /* on their way */
    uint32_t batches_n, batch_max;
    uint64_t look_us; /* next look at everything */
    uint32_t moves_planned, moves_under_way, shards_ownerless;
};

/* leader_plan.c: takes the map in; computes wants anew where what they depend on changed. */
int leader_plan_map(struct leader *l, const struct cmap *map);
int leader_plan_now(struct leader *l, uint64_t now_us);
/* leader_work.c: looks at every shard and sends changes. */
void leader_work(struct leader *l, uint64_t now_us);
/* The input of a step of shard i, the report if it fits. */
struct step_input leader_input(const struct leader *l, uint32_t i);
