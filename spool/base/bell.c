#include "spool/base/bell.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

int bell_init(struct bell *b)
{
    atomic_init(&b->armed, false);
    b->owed = 0;
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
        b->owed++;
    /* Where nobody rang there is nothing to read, and no system call.  A ring's write can lag behind the ring; left
     * unread it would end every later sleep at once. */
    if (b->owed && eventfd_read(b->fd, &v) == 0)
        b->owed -= v;
}
