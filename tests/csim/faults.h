/* faults.h - what happens to the world, drawn from the seed: see faults.def. */
#pragma once
#include "tests/csim/simnode.h"

enum fault {
#define X(name, planned, text) FAULT_##name,
#include "tests/csim/faults.def"
#undef X
    FAULT_COUNT
};

struct faults;

void faults_open(struct faults **f_r, struct world *w);
void faults_close(struct faults **f);
/* Begins to let things happen. */
void faults_start(struct faults *f);
/* Ends everything that is under way, and lets nothing new happen. */
void faults_heal(struct faults *f);
