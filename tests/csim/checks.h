/* checks.h - the promises, judged from outside at the moment each could be broken, and at the end.  Numbers are those
 * of DESIGN.md's invariants. */
#pragma once
#include "tests/csim/simnode.h"

/* A 250 is about to be sent for the letter (2). */
void check_ack(struct world *w, struct simnode *n, struct letter *l);
/* A final dot is about to be sent: by the owner, within its lease, by nobody else (8), in order, not twice without a
 * reason.  taken[i]: the sink takes item i. */
void check_dot(struct world *w, struct simnode *n, struct letter *l, const bool *taken);
/* Something changed in coordination: "drained" is proven (7). */
void check_store_change(struct world *w, struct slice key);
/* Storages were lost, or forgot something: every acknowledged item is somewhere (1). */
void check_held(struct world *w);

/* Everything is delivered, nothing is left, all is as it should be; otherwise why. */
bool check_converged(struct world *w, char *why_r, size_t cap);
