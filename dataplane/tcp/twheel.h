/* twheel.h - a hierarchical timer wheel: 4 levels of 256 slots, ticks of 1 ms, 49 days in all; a million timers cost
 * what the due ones cost. Thread: its owner's.  Nodes are embedded; lists are by node index so that a node is 12 bytes:
 * the owner maps index <-> node.
 *
 * Lazy re-arming: setting a node later than where it stands only means that the owner sets it again when it comes up
 * early; the wheel moves a node only to make it sooner. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define TWHEEL_NONE UINT32_MAX

struct twheel_node {
    uint32_t next, prev; /* indices; prev of the first in a slot: TWHEEL_NONE */
    uint32_t at;         /* tick of the slot it stands in; meaningful while set */
    uint32_t slot;       /* 0: not set; else 1 + level * 256 + slot */
};

struct twheel {
    uint32_t now;           /* tick looked at last */
    uint32_t slots[4][256]; /* first node; TWHEEL_NONE: empty */
    uint64_t used[4][4];    /* bit a slot: not empty */
    struct twheel_node *(*node)(void *ctx, uint32_t index);
    void *ctx;
};

void twheel_init(struct twheel *w, uint32_t now, struct twheel_node *(*node)(void *ctx, uint32_t index), void *ctx);
/* Sets, or moves when `at` is sooner than where it stands. At or before now: comes up at the next tick. */
void twheel_set(struct twheel *w, uint32_t index, uint32_t at);
void twheel_stop(struct twheel *w, uint32_t index);
/* Takes out one node that is due at `now`; TWHEEL_NONE: none left. Call until then. */
uint32_t twheel_expired(struct twheel *w, uint32_t now);
/* No node comes up before this tick; false: no nodes at all. May be early (a cascade), never late. */
bool twheel_next(const struct twheel *w, uint32_t *at_r);
