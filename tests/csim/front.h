/* front.h - a model of a node's front-end: letters become copy_requests, as the intake door makes them.
 *
 *   submit -> CHUNK requests -> all settled -> MSG request -> settled -> said       any failure: ABORT, and said
 *
 * Requests are handed to the cores in a turn of their own, never from within a callback, as between two threads. */
#pragma once
#include "spool/copier.h"
#include "tests/csim/simnode.h"

struct front_job;

struct front {
    struct world *w;
    uint32_t node;
    struct front_job *jobs; /* those in work */
    bool over;              /* the process is dead: nothing is said any more */
};

void front_open(struct front *f, struct world *w, uint32_t node);
void front_submit(struct front *f, struct letter *l, simnode_said *said, void *arg);
/* Hands what is ready to the node's cores. */
void front_turn(struct front *f, struct node *n);
bool front_busy(const struct front *f);
/* After the cores are closed. */
void front_drop(struct front *f);
