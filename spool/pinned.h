/* pinned.h - memory that writes to the log go out from: one mapping that is registered with the disk when the spool is
 * opened (register_memory, disk.h), so that the kernel does not look its pages up and pin them for each write.
 *
 *   base   slab | slab | ... | where the log builds its groups
 *
 * A group and the bodies that it borrows are one write, and a write from registered memory names one registration: so
 * they have to lie in one mapping.  Doors cut slabs into the long blocks of bodies (blocks.h). */
#pragma once
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { SLAB_BYTES = 2 << 20, PINNED_SLABS_MAX = 64 };

struct pinned {
    uint8_t *base; /* NULL: there is none */
    size_t bytes;
    uint8_t *groups;
    atomic_uint_fast64_t at_rest; /* a bit for each slab */
};

/* n bytes on a boundary of SLAB_BYTES, in large pages where there are some; NULL: no memory. */
uint8_t *map_large(size_t n);

/* slabs <= PINNED_SLABS_MAX.  -SATCHEL_ENOMEM. */
int pinned_map(struct pinned *m, uint32_t slabs, size_t groups_bytes);
/* The disk is closed.  Also of one that is all zero. */
void pinned_unmap(struct pinned *m);

/* Any thread.  NULL: all are in use.  The lowest at rest, which was used last if few are in use. */
uint8_t *pinned_slab_get(struct pinned *m);
void pinned_slab_put(struct pinned *m, uint8_t *slab);
