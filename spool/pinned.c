/* pinned.c - memory that writes to the log go out from. */
#include "spool/pinned.h"

#include "spool/base/err.h"

#include <assert.h>
#include <sys/mman.h>

static size_t in_slabs(size_t n)
{
    return (n + SLAB_BYTES - 1) / SLAB_BYTES * SLAB_BYTES;
}

uint8_t *map_large(size_t n)
{
    n = in_slabs(n);
    uint8_t *all = mmap(NULL, n + SLAB_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED)
        return NULL;
    size_t before = -(uintptr_t)all % SLAB_BYTES;
    if (before)
        munmap(all, before);
    munmap(all + before + n, SLAB_BYTES - before);
    madvise(all + before, n, MADV_HUGEPAGE); /* a wish */
    return all + before;
}

int pinned_map(struct pinned *m, uint32_t slabs, size_t groups_bytes)
{
    assert(slabs > 0 && slabs <= PINNED_SLABS_MAX);
    m->bytes = (size_t)slabs * SLAB_BYTES + in_slabs(groups_bytes);
    m->base = map_large(m->bytes);
    if (!m->base)
        return -SATCHEL_ENOMEM;
    m->groups = m->base + (size_t)slabs * SLAB_BYTES;
    atomic_init(&m->at_rest, UINT64_MAX >> (64 - slabs));
    return 0;
}

void pinned_unmap(struct pinned *m)
{
    if (m->base)
        munmap(m->base, m->bytes);
    *m = (struct pinned){0};
}

uint8_t *pinned_slab_get(struct pinned *m)
{
    uint_fast64_t was = atomic_load_explicit(&m->at_rest, memory_order_relaxed);
    do {
        if (!was)
            return NULL;
    } while (!atomic_compare_exchange_weak_explicit(&m->at_rest, &was, was & (was - 1), memory_order_acquire,
                                                    memory_order_relaxed));
    return m->base + (size_t)__builtin_ctzll(was) * SLAB_BYTES;
}

void pinned_slab_put(struct pinned *m, uint8_t *slab)
{
    uint_fast64_t bit = UINT64_C(1) << ((size_t)(slab - m->base) / SLAB_BYTES);
    uint_fast64_t was = atomic_fetch_or_explicit(&m->at_rest, bit, memory_order_release);
    assert(!(was & bit));
    (void)was;
}
