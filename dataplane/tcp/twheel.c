/* twheel.c - a hierarchical timer wheel.
 *
 * A node stands on the lowest level whose 256 slots reach its tick.  When the tick of a higher level's slot comes, its
 * nodes are set anew and so fall to the levels below: each moves at most three times.  The clock stands until all have,
 * which may take more than one call: new nodes cannot come into a slot that falls, since its level begins anew with
 * this tick, and what is less than a slot ahead goes to a level below.  Ticks at which nothing happens are jumped over
 * by the bits of `used`, so that a long idle time costs as little as a short one.
 *
 *   slot -> bin <-> bin <-> bin    the first one takes new nodes; one that is empty is given back, so that there are
 *                                  never more bins than nodes set
 */
#include "dataplane/tcp/twheel.h"

#include "dataplane/tcp/seq.h"
#include "spool/base/fetch.h"

#include <assert.h>
#include <string.h>

enum { LEVELS = 4, SLOTS = 256, SLOT_BITS = 8, WORD_BITS = 64, BIN_NODES = 13, BIN_BITS = 4 };

struct twheel_bin {
    uint32_t node[BIN_NODES]; /* indices; TWHEEL_NONE: was taken out */
    uint32_t next, prev;      /* of its slot; prev of the first: TWHEEL_NONE; next of a free one: the next free one */
    uint16_t slot;            /* level * 256 + slot */
    uint8_t fill, live;       /* places given out; of them, taken */
};
static_assert(sizeof(struct twheel_bin) == 64, "a bin is a cache line");

size_t twheel_bytes(uint32_t nodes_max)
{
    return (size_t)nodes_max * sizeof(struct twheel_bin);
}

void twheel_init(struct twheel *w, void *mem, uint32_t now, const struct twheel_owner *owner)
{
    *w = (struct twheel){.now = now, .owner = *owner, .bins = mem, .free = TWHEEL_NONE, .fetched = TWHEEL_NONE};
    memset(w->slots, 0xff, sizeof w->slots);
    static_assert(TWHEEL_NONE == UINT32_MAX, "all ones");
}

static struct twheel_node *node_at(const struct twheel *w, uint32_t index)
{
    return w->owner.node(w->owner.ctx, index);
}

/* ---- bins */

static uint32_t *first_of(struct twheel *w, unsigned slot)
{
    return &w->slots[slot / SLOTS][slot % SLOTS];
}

static uint64_t *used_of(struct twheel *w, unsigned slot)
{
    return &w->used[slot / SLOTS][slot % SLOTS / WORD_BITS];
}

/* A bin of its own, before the others of the slot. */
static uint32_t bin_open(struct twheel *w, unsigned slot)
{
    uint32_t *first = first_of(w, slot), bin = w->free;
    if (bin != TWHEEL_NONE)
        w->free = w->bins[bin].next;
    else
        bin = w->touched++;
    w->bins[bin] = (struct twheel_bin){.next = *first, .prev = TWHEEL_NONE, .slot = (uint16_t)slot};
    if (*first != TWHEEL_NONE)
        w->bins[*first].prev = bin;
    *first = bin;
    w->bins_n++;
    *used_of(w, slot) |= UINT64_C(1) << slot % WORD_BITS;
    return bin;
}

static void bin_close(struct twheel *w, uint32_t bin)
{
    const struct twheel_bin *b = &w->bins[bin];
    uint32_t *first = first_of(w, b->slot);
    if (b->next != TWHEEL_NONE)
        w->bins[b->next].prev = b->prev;
    if (b->prev != TWHEEL_NONE)
        w->bins[b->prev].next = b->next;
    else
        *first = b->next;
    if (*first == TWHEEL_NONE)
        *used_of(w, b->slot) &= ~(UINT64_C(1) << b->slot % WORD_BITS);
    w->bins[bin].next = w->free;
    w->free = bin;
    w->bins_n--;
    if (w->fetched == bin)
        w->fetched = TWHEEL_NONE;
}

/* ---- nodes in them */

/* The last place given out is always taken. */
static void node_out(struct twheel *w, struct twheel_node *n)
{
    uint32_t bin = n->place >> BIN_BITS;
    struct twheel_bin *b = &w->bins[bin];
    b->node[(n->place & ((1u << BIN_BITS) - 1)) - 1] = TWHEEL_NONE;
    n->place = 0;
    if (--b->live == 0)
        return bin_close(w, bin);
    while (b->node[b->fill - 1] == TWHEEL_NONE)
        b->fill--;
}

static void node_in(struct twheel *w, uint32_t index, struct twheel_node *n, unsigned slot)
{
    uint32_t bin = *first_of(w, slot);
    if (bin == TWHEEL_NONE || w->bins[bin].fill == BIN_NODES)
        bin = bin_open(w, slot);
    struct twheel_bin *b = &w->bins[bin];
    b->node[b->fill++] = index;
    b->live++;
    n->place = bin << BIN_BITS | b->fill;
}

/* At is w->now at the earliest: what falls from a level above on its very tick belongs to this one. */
static void place(struct twheel *w, uint32_t index, struct twheel_node *n, uint32_t at)
{
    uint32_t ahead = at - w->now;
    unsigned level = ahead < 1u << SLOT_BITS       ? 0
                     : ahead < 1u << 2 * SLOT_BITS ? 1
                     : ahead < 1u << 3 * SLOT_BITS ? 2
                                                   : 3;
    n->at = at;
    node_in(w, index, n, level * SLOTS + (at >> level * SLOT_BITS & (SLOTS - 1)));
}

void twheel_set(struct twheel *w, uint32_t index, uint32_t at)
{
    struct twheel_node *n = node_at(w, index);
    if (seq_leq(at, w->now))
        at = w->now + 1;
    if (n->place && seq_leq(n->at, at))
        return;
    if (n->place)
        node_out(w, n);
    place(w, index, n, at);
}

void twheel_stop(struct twheel *w, uint32_t index)
{
    struct twheel_node *n = node_at(w, index);
    if (n->place)
        node_out(w, n);
}

/* Takes out the last of a bin; with the first look at it all of it is asked for, and the bin behind it. */
static uint32_t bin_take(struct twheel *w, uint32_t bin, struct twheel_node **n_r)
{
    const struct twheel_bin *b = &w->bins[bin];
    if (w->fetched != bin) {
        for (unsigned i = b->fill; i > 0; i--)
            if (b->node[i - 1] != TWHEEL_NONE)
                w->owner.fetch(w->owner.ctx, b->node[i - 1]);
        if (b->next != TWHEEL_NONE)
            cache_fetch(&w->bins[b->next]);
        w->fetched = bin;
    }
    uint32_t index = b->node[b->fill - 1];
    *n_r = node_at(w, index);
    node_out(w, *n_r);
    return index;
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

/* The first bin of this level's slot that begins now. */
static uint32_t bin_now(const struct twheel *w, unsigned level)
{
    return w->slots[level][w->now >> level * SLOT_BITS & (SLOTS - 1)];
}

bool twheel_next(const struct twheel *w, uint32_t *at_r)
{
    uint32_t soonest = UINT32_MAX;
    bool any = false;
    if (w->falling || bin_now(w, 0) != TWHEEL_NONE) { /* a budget was used up */
        *at_r = w->now;
        return true;
    }
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

/* Of the level's slot that begins now; its nodes come one level down at least.  False: the budget is used up. */
static bool cascade(struct twheel *w, unsigned level, uint32_t *budget)
{
    uint32_t bin;
    while ((bin = bin_now(w, level)) != TWHEEL_NONE) {
        struct twheel_node *n;
        if (*budget == 0)
            return false;
        --*budget;
        uint32_t index = bin_take(w, bin, &n);
        place(w, index, n, n->at);
    }
    w->falling &= (uint8_t) ~(1u << level);
    return true;
}

static bool cascade_all(struct twheel *w, uint32_t *budget)
{
    for (unsigned level = LEVELS - 1; w->falling && level > 0; level--)
        if (w->falling & 1u << level && !cascade(w, level, budget))
            return false;
    return true;
}

static void arrive(struct twheel *w, uint32_t at)
{
    w->now = at;
    for (unsigned level = LEVELS - 1; level > 0; level--)
        if ((at & ((1u << level * SLOT_BITS) - 1)) == 0 && bin_now(w, level) != TWHEEL_NONE)
            w->falling |= (uint8_t)(1u << level);
}

uint32_t twheel_expired(struct twheel *w, uint32_t now, uint32_t *budget)
{
    while (cascade_all(w, budget)) {
        uint32_t bin = bin_now(w, 0), next;
        struct twheel_node *n;
        if (bin != TWHEEL_NONE && *budget == 0)
            break;
        if (bin != TWHEEL_NONE) {
            --*budget;
            return bin_take(w, bin, &n);
        }
        if (seq_geq(w->now, now))
            return TWHEEL_NONE;
        if (!twheel_next(w, &next) || next - w->now > now - w->now)
            next = now;
        arrive(w, next);
    }
    return TWHEEL_NONE;
}
