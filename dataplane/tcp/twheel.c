/* twheel.c - a hierarchical timer wheel.
 *
 * A node stands on the lowest level whose 256 slots reach its tick.  When the tick of a higher level's slot comes, its
 * nodes are set anew and so fall to the levels below: each moves at most three times.  Ticks at which nothing happens
 * are jumped over by the bits of `used`, so that a long idle time costs as little as a short one. */
#include "dataplane/tcp/twheel.h"

#include "dataplane/tcp/seq.h"

#include <assert.h>
#include <string.h>

enum { LEVELS = 4, SLOTS = 256, SLOT_BITS = 8, WORD_BITS = 64 };

void twheel_init(struct twheel *w, uint32_t now, struct twheel_node *(*node)(void *ctx, uint32_t index), void *ctx)
{
    *w = (struct twheel){.now = now, .node = node, .ctx = ctx};
    memset(w->slots, 0xff, sizeof w->slots);
    static_assert(TWHEEL_NONE == UINT32_MAX, "all ones");
}

/* ---- lists */

static void push(struct twheel *w, uint32_t index, unsigned level, unsigned slot)
{
    struct twheel_node *n = w->node(w->ctx, index);
    uint32_t *first = &w->slots[level][slot];
    n->prev = TWHEEL_NONE;
    n->next = *first;
    if (*first != TWHEEL_NONE)
        w->node(w->ctx, *first)->prev = index;
    *first = index;
    n->slot = 1 + level * SLOTS + slot;
    w->used[level][slot / WORD_BITS] |= UINT64_C(1) << slot % WORD_BITS;
}

static void unlink_node(struct twheel *w, struct twheel_node *n)
{
    unsigned level = (n->slot - 1) / SLOTS, slot = (n->slot - 1) % SLOTS;
    if (n->next != TWHEEL_NONE)
        w->node(w->ctx, n->next)->prev = n->prev;
    if (n->prev != TWHEEL_NONE)
        w->node(w->ctx, n->prev)->next = n->next;
    else
        w->slots[level][slot] = n->next;
    if (w->slots[level][slot] == TWHEEL_NONE)
        w->used[level][slot / WORD_BITS] &= ~(UINT64_C(1) << slot % WORD_BITS);
    n->slot = 0;
}

/* At is w->now at the earliest: what falls from a level above on its very tick belongs to this one. */
static void place(struct twheel *w, uint32_t index, uint32_t at)
{
    uint32_t ahead = at - w->now;
    unsigned level = ahead < 1u << SLOT_BITS       ? 0
                     : ahead < 1u << 2 * SLOT_BITS ? 1
                     : ahead < 1u << 3 * SLOT_BITS ? 2
                                                   : 3;
    w->node(w->ctx, index)->at = at;
    push(w, index, level, at >> level * SLOT_BITS & (SLOTS - 1));
}

void twheel_set(struct twheel *w, uint32_t index, uint32_t at)
{
    struct twheel_node *n = w->node(w->ctx, index);
    if (seq_leq(at, w->now))
        at = w->now + 1;
    if (n->slot && seq_leq(n->at, at))
        return;
    if (n->slot)
        unlink_node(w, n);
    place(w, index, at);
}

void twheel_stop(struct twheel *w, uint32_t index)
{
    struct twheel_node *n = w->node(w->ctx, index);
    if (n->slot)
        unlink_node(w, n);
}

/* ---- time */

/* How far behind `from` the next used slot of a level stands, around the circle: 1..256; 0: none. */
static unsigned next_used(const uint64_t used[SLOTS / WORD_BITS], unsigned from)
{
    for (unsigned step = 1; step <= SLOTS;) {
        unsigned slot = (from + step) % SLOTS;
        uint64_t word = used[slot / WORD_BITS] >> slot % WORD_BITS;
        if (word) {
            step += (unsigned)__builtin_ctzll(word);
            return step <= SLOTS ? step : 0;
        }
        step += WORD_BITS - slot % WORD_BITS;
    }
    return 0;
}

bool twheel_next(const struct twheel *w, uint32_t *at_r)
{
    uint32_t soonest = UINT32_MAX;
    bool any = false;
    for (unsigned level = 0; level < LEVELS; level++) {
        uint32_t here = w->now >> level * SLOT_BITS;
        unsigned step = next_used(w->used[level], here & (SLOTS - 1));
        if (step == 0)
            continue;
        uint32_t ahead = ((here + step) << level * SLOT_BITS) - w->now;
        if (!any || ahead < soonest)
            soonest = ahead;
        any = true;
    }
    *at_r = w->now + soonest;
    return any;
}

/* The slot of this level that begins now: its nodes come one level down at least. */
static void cascade(struct twheel *w, unsigned level)
{
    unsigned slot = w->now >> level * SLOT_BITS & (SLOTS - 1);
    uint32_t index;
    while ((index = w->slots[level][slot]) != TWHEEL_NONE) {
        struct twheel_node *n = w->node(w->ctx, index);
        unlink_node(w, n);
        place(w, index, n->at);
    }
}

static void arrive(struct twheel *w, uint32_t at)
{
    w->now = at;
    for (unsigned level = LEVELS - 1; level > 0; level--)
        if ((at & ((1u << level * SLOT_BITS) - 1)) == 0)
            cascade(w, level);
}

uint32_t twheel_expired(struct twheel *w, uint32_t now)
{
    for (;;) {
        uint32_t index = w->slots[0][w->now & (SLOTS - 1)], next;
        if (index != TWHEEL_NONE) {
            unlink_node(w, w->node(w->ctx, index));
            return index;
        }
        if (seq_geq(w->now, now))
            return TWHEEL_NONE;
        if (!twheel_next(w, &next) || next - w->now > now - w->now)
            next = now;
        arrive(w, next);
    }
}
