/* relay.h - a model of the relay: one lane a domain, strictly one message after the other.
 *
 *   IDLE -> CONNECT -> DATA -> DOT -> IDLE      may() is asked on entering DATA and before the final dot
 *
 * What it checks: the body that comes out is the one that went in, the final dot is sent by the one node that may. */
#pragma once
#include "spool/outlet.h"
#include "tests/csim/world.h"

enum relay_state { RELAY_IDLE, RELAY_CONNECT, RELAY_DATA, RELAY_DOT };

struct relay_lane {
    enum relay_state state;
    bool hot; /* there may be mail */
    struct outlet_msg *msg;
    struct letter *letter;
    uint64_t at_us; /* of the next step */
    bool taken[LETTER_ITEMS_MAX], put_off;
};

struct relay {
    struct world *w;
    uint32_t node;
    struct outlet *outlet;
    const struct clock *clock;
    struct rng rng;
    struct relay_lane lanes[WORLD_DOMAINS];
};

void relay_open(struct relay *r, struct world *w, uint32_t node, struct outlet *outlet, const struct clock *clock);
/* The process is over: claims are dropped without a word. */
void relay_drop(struct relay *r);
void relay_turn(struct relay *r);
uint64_t relay_next_us(const struct relay *r);
