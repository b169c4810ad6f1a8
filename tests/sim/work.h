/* work.h - what the house is put through: mail comes in, is claimed, delivered, put off, deleted, while segments are
 * rolled, reclaimed and the disk fills up.  One call of work_step does one thing, drawn from the seed. */
#pragma once
#include "tests/sim/house.h"

#define WORK_ACCEPTS 6
#define WORK_CLAIMS  12

/* A message on its way in. */
struct work_accept {
    struct sim_msg *msg; /* NULL: free */
    uint32_t chunks, sent, stored;
    bool failed, committed;
};

/* A message on its way out: claimed, handed to the primary, then ended. */
struct work_claim {
    struct sim_msg *msg; /* NULL: free */
    struct claim claim;
    bool handed, unreadable;
};

struct work {
    struct house h;
    struct ledger *ledger;
    struct simdisk *sd;
    struct rng *rng;
    uint64_t capacity;
    uint32_t flushed[SIM_DOMAINS]; /* messages below this number were there at the last flush */
    struct work_accept accepts[WORK_ACCEPTS];
    struct work_claim claims[WORK_CLAIMS];
};

/* After each boot: nothing is open, nothing claimed. */
void work_begin(struct work *w);
void work_step(struct work *w);
/* Everything that is stored is delivered, held and deferred mail too; then the log must shrink. */
void work_drain(struct work *w);
/* Ends what is open, without a crash. */
void work_finish(struct work *w);

/* accept.c, deliver.c */
void work_accept_begin(struct work *w);
void work_accept_go_on(struct work *w);
void work_claim_due(struct work *w);
void work_claim_old(struct work *w);
void work_claim_delete(struct work *w);
void work_claim_release(struct work *w);
void work_deliver(struct work *w);
void work_claims_drop(struct work *w);
/* Claims by ID and delivers at once; false: it could not be claimed now. */
bool work_deliver_id(struct work *w, struct sim_msg *m);
