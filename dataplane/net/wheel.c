/* wheel.c - the hashed timer wheel of wheel.h. */
#include "dataplane/net/wheel.h"

#include <stddef.h>

void wheel_init(struct wheel *w, uint64_t now)
{
    *w = (struct wheel){.tick = now};
}

void wheel_stop(struct wheel_node *n)
{
    if (!n->link)
        return;
    *n->link = n->next;
    if (n->next)
        n->next->link = n->link;
    n->link = NULL;
}

static void wheel_link(struct wheel *w, struct wheel_node *n)
{
    n->at = n->due < w->tick ? w->tick : n->due;
    if (n->at - w->tick >= WHEEL_SLOTS)
        n->at = w->tick + WHEEL_SLOTS - 1;
    if (n->at < w->soonest)
        w->soonest = n->at;
    struct wheel_node **slot = &w->slots[n->at % WHEEL_SLOTS];
    n->next = *slot;
    n->link = slot;
    if (n->next)
        n->next->link = &n->next;
    *slot = n;
}

void wheel_set(struct wheel *w, struct wheel_node *n, uint64_t due)
{
    n->due = due;
    if (n->link && due >= n->at)
        return;
    wheel_stop(n);
    wheel_link(w, n);
}

/* One of the current slot that is due. The others move on, except those of the same slot a turn later: none, since
 * wheel_link puts nothing further off than the slot before this one. */
static struct wheel_node *wheel_slot_expired(struct wheel *w, uint64_t now)
{
    struct wheel_node *n, **slot = &w->slots[w->tick % WHEEL_SLOTS];
    while ((n = *slot) != NULL) {
        wheel_stop(n);
        if (n->due <= now)
            return n;
        wheel_link(w, n);
    }
    return NULL;
}

struct wheel_node *wheel_expired(struct wheel *w, uint64_t now)
{
    if (now >= WHEEL_SLOTS && w->tick < now - WHEEL_SLOTS + 1)
        w->tick = now - WHEEL_SLOTS + 1; /* one look at each slot is enough, however long we slept */
    for (; w->tick <= now; w->tick++) {
        struct wheel_node *n = wheel_slot_expired(w, now);
        if (n)
            return n;
    }
    return NULL;
}

/* Asked before each sleep: where the search ended last time it goes on. */
uint64_t wheel_next(struct wheel *w)
{
    if (w->soonest < w->tick)
        w->soonest = w->tick;
    for (; w->soonest < w->tick + WHEEL_SLOTS; w->soonest++)
        if (w->slots[w->soonest % WHEEL_SLOTS])
            return w->soonest;
    return UINT64_MAX;
}
