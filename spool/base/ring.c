#include "spool/base/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

int ring_init(struct ring *r, size_t cap)
{
    size_t n = 2;
    while (n < cap)
        n *= 2;
    r->cells = calloc(n, sizeof *r->cells);
    if (!r->cells)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        atomic_init(&r->cells[i].seq, i);
    r->mask = n - 1;
    atomic_init(&r->tail, 0);
    atomic_init(&r->head, 0);
    return 0;
}

void ring_destroy(struct ring *r)
{
    free(r->cells);
    r->cells = NULL;
}

bool ring_push(struct ring *r, void *item)
{
    size_t at = atomic_load_explicit(&r->tail, memory_order_relaxed);
    for (;;) {
        struct ring_cell *c = &r->cells[at & r->mask];
        size_t seq = atomic_load_explicit(&c->seq, memory_order_acquire);
        if (seq == at) {
            if (atomic_compare_exchange_weak_explicit(&r->tail, &at, at + 1, memory_order_relaxed,
                                                      memory_order_relaxed)) {
                c->item = item;
                atomic_store_explicit(&c->seq, at + 1, memory_order_release);
                return true;
            }
        } else if ((ptrdiff_t)(seq - at) < 0) {
            return false;
        } else {
            at = atomic_load_explicit(&r->tail, memory_order_relaxed);
        }
    }
}

void *ring_pop(struct ring *r)
{
    size_t at = atomic_load_explicit(&r->head, memory_order_relaxed);
    struct ring_cell *c = &r->cells[at & r->mask];
    if (atomic_load_explicit(&c->seq, memory_order_acquire) != at + 1)
        return NULL;
    void *item = c->item;
    atomic_store_explicit(&c->seq, at + r->mask + 1, memory_order_release);
    atomic_store_explicit(&r->head, at + 1, memory_order_relaxed);
    return item;
}

bool ring_empty(struct ring *r)
{
    size_t at = atomic_load_explicit(&r->head, memory_order_relaxed);
    return atomic_load_explicit(&r->cells[at & r->mask].seq, memory_order_acquire) != at + 1;
}

int bell_init(struct bell *b)
{
    atomic_init(&b->armed, false);
    b->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return b->fd < 0 ? -errno : 0;
}

void bell_destroy(struct bell *b)
{
    if (b->fd >= 0)
        close(b->fd);
    b->fd = -1;
}

void bell_ring(struct bell *b)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&b->armed, memory_order_relaxed) && atomic_exchange(&b->armed, false))
        eventfd_write(b->fd, 1);
}

void bell_arm(struct bell *b)
{
    atomic_store(&b->armed, true);
    atomic_thread_fence(memory_order_seq_cst);
}

void bell_disarm(struct bell *b)
{
    eventfd_t v;
    if (!atomic_exchange(&b->armed, false))
        eventfd_read(b->fd, &v); /* somebody rang; where nobody did, there is nothing to read */
}
