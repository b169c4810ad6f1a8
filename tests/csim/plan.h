/* plan.h - what kind of history a seed stands for. */
#pragma once
#include "tests/csim/world.h"

void plan_draw(struct plan *p, struct rng *rng, bool house);
