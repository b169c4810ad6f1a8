/* wake.h - who is to be woken when: a binary heap of timers, each embedded in what it belongs to. No clock inside.
 * Thread: its owner's. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wake {
    uint64_t at_us;
    size_t place; /* index in the heap + 1; 0: not set */
    void *owner;
};

struct wakes {
    struct wake **heap;
    size_t n, cap;
};

/* Sets or moves. false: out of memory. */
bool wake_set(struct wakes *ws, struct wake *w, uint64_t at_us);
void wake_cancel(struct wakes *ws, struct wake *w);
/* Takes out the earliest that is due; NULL: none. */
struct wake *wake_due(struct wakes *ws, uint64_t now_us);
/* UINT64_MAX: none is set. */
uint64_t wake_next_us(const struct wakes *ws);
void wakes_free(struct wakes *ws);
