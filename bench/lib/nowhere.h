/* nowhere.h - an intake door that keeps nothing: what a front-end costs without a spool behind it.
 *
 * It copies the bytes once, as the spool's door does, into memory that it uses over and over, makes the trace field,
 * and runs done at the next poll.  Thread: one owner; the counters may be read from any. */
#pragma once
#include "spool/intake.h"
#include <stdatomic.h>

struct nowhere_counts {
    atomic_ullong messages, bytes;
};

struct intake *nowhere_open(struct nowhere_counts *counts);
