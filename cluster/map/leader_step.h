/* leader_step.h - the next change of one shard: a pure function, without clock and coordination.  leader.h has the
 * table of steps in prose. */
#pragma once
#include "cluster/map/assign.h"

/* name, starts: it begins a planned move (bounded by leader_config.changes), what a person reads */
#define LEADER_STEPS(X)                                                                                                \
    X(NONE, false, "nothing to do")                                                                                    \
    X(CREATE, false, "a new shard got its owner and members")                                                          \
    X(TAKE_OVER, false, "its owner died, a live member took over")                                                     \
    X(ADOPT, false, "its members died, a node that can read their logs took over")                                     \
    X(FALL_BACK, false, "no node of its pool lives, the fallback pool took over")                                      \
    X(START_ANEW, false, "all its members were removed from the cluster, it starts empty")                             \
    X(CLEAR_NEXT, false, "the node it was to be handed to cannot take it")                                             \
    X(JOIN, true, "a wanted node became a member")                                                                     \
    X(MAKE_ROOM, false, "a member that is neither wanted nor in sync left, so that a wanted one can join")             \
    X(HAND, true, "its owner was asked to hand it over")                                                               \
    X(LEAVE, false, "a member that is not wanted any more left")                                                       \
    X(FORGET, false, "a former member that is not registered any more was struck")

enum leader_step {
#define X(name, starts, text) STEP_##name,
    LEADER_STEPS(X)
#undef X
        STEPS_N
};

struct step_input {
    const struct cmap *map;
    const struct map_shard *shard;
    const struct assign_want *want;
    uint32_t synced; /* by a report that fits this epoch and these members; 0: none */
};

/* after_r: the shard as it should be (mod_rev is the one to compare with). */
enum leader_step leader_step(const struct step_input *in, struct map_shard *after_r);
bool leader_step_starts(enum leader_step s);
const char *leader_step_text(enum leader_step s);
/* Owner and members are as wanted. */
bool leader_step_settled(const struct step_input *in);
/* A planned move has begun: a hand-over is asked for, or all wanted are members and so are others. */
bool leader_step_under_way(const struct step_input *in);
/* All wanted members are in sync. */
bool leader_step_synced(const struct step_input *in);
/* The shard has a live owner. */
bool leader_step_owned(const struct step_input *in);
