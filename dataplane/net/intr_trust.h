/* intr_trust.h - does a device's receive interrupt tell of frames?
 *
 * A driver may offer interrupts, enable them without an error, and none ever comes: DPDK 22.11 with an 82574L or an
 * 82540EM on vfio.  A worker that sleeps until one comes would leave frames until something else wakes it.  So a device
 * is trusted from the first interrupt on that came with frames, and no longer once who woke otherwise found frames that
 * no interrupt had told of INTR_UNTOLD_MAX times in a row: one alone may have been on its way.
 *
 * Thread: any; what two of them say at once may be counted once. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>

#define INTR_UNTOLD_MAX 3u

struct intr_trust {
    atomic_uint untold; /* in a row; INTR_UNTOLD_MAX: not trusted */
};

static inline void intr_trust_init(struct intr_trust *t)
{
    atomic_store(&t->untold, INTR_UNTOLD_MAX);
}

static inline bool intr_trusted(const struct intr_trust *t)
{
    return atomic_load_explicit(&t->untold, memory_order_relaxed) < INTR_UNTOLD_MAX;
}

/* A sleeper woke.  told: by the interrupt; frames: the device has some that nobody took yet.  True: the trust has
 * changed. */
static inline bool intr_trust_woke(struct intr_trust *t, bool told, bool frames)
{
    unsigned was = atomic_load_explicit(&t->untold, memory_order_relaxed);
    unsigned now = told ? 0 : was + (was < INTR_UNTOLD_MAX);
    if (!frames || now == was)
        return false;
    atomic_store_explicit(&t->untold, now, memory_order_relaxed);
    return (now == INTR_UNTOLD_MAX) != (was == INTR_UNTOLD_MAX);
}
