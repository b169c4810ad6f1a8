/* wheel.h - a hashed timer wheel: many coarse timers, each set again and again, few that ever run out.
 * Thread: its owner's.  Time is a count of ticks that never goes back.  Nodes are embedded in what they time.
 *
 * Setting a timer later than where it is linked only stores the new time: the node moves when its slot comes by.
 * Timers further off than one turn of the wheel wait in its last slot and are looked at once a turn. */
#pragma once
#include <stdint.h>

#define WHEEL_SLOTS 512u

struct wheel_node {
    struct wheel_node *next, **link; /* link: what points here; NULL: not set */
    uint64_t due, at;                /* tick it is due; tick of the slot that it is linked in */
};

struct wheel {
    uint64_t tick;    /* first tick not looked at yet */
    uint64_t soonest; /* no node is linked before this tick */
    struct wheel_node *slots[WHEEL_SLOTS];
};

void wheel_init(struct wheel *w, uint64_t now);
/* Sets or moves. n must be zeroed before its first use. */
void wheel_set(struct wheel *w, struct wheel_node *n, uint64_t due);
void wheel_stop(struct wheel_node *n);
/* Takes out one node that is due at `now`, or NULL when there is none left; call until NULL. */
struct wheel_node *wheel_expired(struct wheel *w, uint64_t now);
/* The next tick at which wheel_expired has something to look at; UINT64_MAX: no timers. */
uint64_t wheel_next(struct wheel *w);
