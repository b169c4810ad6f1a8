/* twheel.h - a hierarchical timer wheel: 4 levels of 256 slots, ticks of 1 ms, 49 days in all; a million timers cost
 * what the due ones cost. Thread: its owner's.
 *
 * Nodes are embedded, 8 bytes each, and stand in bins of their slot by index: no node says where another is, so that
 * setting one and taking it out touches no neighbour (with a million of them each would be a miss of every cache), and
 * what a tick brings up is known, and fetched, before its turn.  The owner maps index -> node.
 *
 * Lazy re-arming: setting a node later than where it stands only means that the owner sets it again when it comes up
 * early; the wheel moves a node only to make it sooner. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TWHEEL_NONE UINT32_MAX

struct twheel_node {
    uint32_t at;    /* tick of the slot it stands in; meaningful while set */
    uint32_t place; /* 0: not set; else where in which bin */
};

/* What the wheel asks of its owner. */
struct twheel_owner {
    struct twheel_node *(*node)(void *ctx, uint32_t index);
    void (*fetch)(void *ctx, uint32_t index); /* it comes up soon: its cache lines, please */
    void *ctx;
};

struct twheel_bin;

struct twheel {
    uint32_t now;           /* tick looked at last */
    uint32_t slots[4][256]; /* first bin; TWHEEL_NONE: empty */
    uint64_t used[4][4];    /* bit a slot: not empty */
    uint8_t falling;        /* bit a level: its slot that begins now is not empty yet */
    struct twheel_owner owner;
    struct twheel_bin *bins;
    uint32_t free, touched, bins_n; /* bins given back; those never used follow `touched`; in use */
    uint32_t fetched;               /* the bin whose nodes were fetched last */
};

/* Memory for the bins of nodes_max nodes (at most 2^28), zeroed or not; touched as far as it is needed: 5 bytes a node
 * set, 64 at the very worst. */
size_t twheel_bytes(uint32_t nodes_max);
/* mem: twheel_bytes, on a cache line. */
void twheel_init(struct twheel *w, void *mem, uint32_t now, const struct twheel_owner *owner);
/* Sets, or moves when `at` is sooner than where it stands. At or before now: comes up at the next tick. */
void twheel_set(struct twheel *w, uint32_t index, uint32_t at);
void twheel_stop(struct twheel *w, uint32_t index);
/* Takes out one node that is due at `now`; TWHEEL_NONE: none left, or the budget, of nodes that are moved or taken out,
 * is used up: then it goes on where it stopped with the next call, and twheel_next says that there is more. */
uint32_t twheel_expired(struct twheel *w, uint32_t now, uint32_t *budget);
/* No node comes up before this tick; false: no nodes at all. May be early (a cascade), never late. */
bool twheel_next(const struct twheel *w, uint32_t *at_r);
