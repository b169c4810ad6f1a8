/* idle.h - many sessions that say EHLO and then nothing, or NOOP in turn.  Thread: the wire's. */
#pragma once
#include "bench/lib/wire.h"

struct idle;

struct idle_counts {
    unsigned standing; /* greeted and answered so far, also those lost since */
    unsigned failed;   /* never came so far */
    unsigned lost;     /* ended after that */
    unsigned asked;    /* NOOPs without an answer now */
    uint64_t answered; /* NOOPs */
};

struct idle *idle_open(struct wire *wire, unsigned n);
/* One turn until until_us (sock_now_us): opens some, hears what comes.  False: all stand or have failed. */
bool idle_turn(struct idle *d, uint64_t until_us);
/* All say NOOP in turn, some at a time, for that long, and up to a second more for the answers.  No connection's memory
 * is warm when its packet comes. */
void idle_noops(struct idle *d, uint64_t for_us);
struct idle_counts idle_counts(const struct idle *d);
/* Closes what is open, some at a time. */
void idle_close(struct idle **d);
