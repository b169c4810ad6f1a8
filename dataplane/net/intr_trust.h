/* intr_trust.h - does a device's receive interrupt tell of frames?
 *
 * A driver may offer interrupts, enable them without an error, and none ever comes: DPDK 22.11 with an 82574L or an
 * 82540EM on vfio.  A worker that sleeps until one comes would leave frames until something else wakes it.  So a device
 * is trusted from the first interrupt on that came with frames, and no longer once who woke otherwise found frames that
 * no interrupt had told of INTR_UNTOLD_MAX times in a row: one alone may have been on its way.
 *
 * One interrupt is for all who sleep, and one of them takes it: the others, which find its frames a moment later, were
 * told as well.  So each remembers how many had come when it armed.
 *
 * Thread: any; what two of them say at once may be counted once. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>

#define INTR_UNTOLD_MAX 3u

struct intr_trust {
    atomic_uint came;   /* interrupts taken, by anybody */
    atomic_uint untold; /* in a row; INTR_UNTOLD_MAX: not trusted */
};

static inline void intr_trust_init(struct intr_trust *t)
{
    atomic_store(&t->came, 0);
    atomic_store(&t->untold, INTR_UNTOLD_MAX);
}

static inline bool intr_trusted(const struct intr_trust *t)
{
    return atomic_load_explicit(&t->untold, memory_order_relaxed) < INTR_UNTOLD_MAX;
}

/* Before interrupts are asked for: what intr_trust_woke wants to know. */
static inline unsigned intr_trust_arm(const struct intr_trust *t)
{
    return atomic_load(&t->came);
}

/* An interrupt is there: before it is taken, so that who finds it gone knows of it. */
static inline void intr_trust_came(struct intr_trust *t)
{
    atomic_fetch_add(&t->came, 1);
}

/* Who armed so woke.  frames: the device had some that nobody had taken.  True: the trust has changed. */
static inline bool intr_trust_woke(struct intr_trust *t, unsigned armed, bool frames)
{
    unsigned was = atomic_load_explicit(&t->untold, memory_order_relaxed);
    unsigned now = atomic_load(&t->came) != armed ? 0 : was + (was < INTR_UNTOLD_MAX);
    if (!frames || now == was)
        return false;
    atomic_store_explicit(&t->untold, now, memory_order_relaxed);
    return (now == INTR_UNTOLD_MAX) != (was == INTR_UNTOLD_MAX);
}
