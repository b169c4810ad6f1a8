/* lives.h - one history: a spool lives, dies and lives again, and at the end everything is accounted for. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* cut 0: everything follows from the seed.  Otherwise a fixed workload dies at that effect, and the seed decides only
 * what a crash keeps.  Failures go to `history`.  Returns whether the first life ran to its end (the cut was beyond
 * it).
 */
bool lives_run(uint64_t cut, uint64_t seed);
