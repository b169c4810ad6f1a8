#include "spool/base/mailbox.h"

int mailbox_init(struct mailbox *mb)
{
    atomic_init(&mb->head, NULL);
    return bell_init(&mb->bell);
}

void mailbox_destroy(struct mailbox *mb)
{
    bell_destroy(&mb->bell);
}

void mailbox_post(struct mailbox *mb, struct mail *m)
{
    m->next = atomic_load_explicit(&mb->head, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&mb->head, &m->next, m, memory_order_release, memory_order_relaxed))
        ;
}

struct mail *mailbox_take(struct mailbox *mb)
{
    struct mail *m = atomic_exchange_explicit(&mb->head, NULL, memory_order_acquire), *out = NULL;
    while (m) {
        struct mail *next = m->next;
        m->next = out;
        out = m;
        m = next;
    }
    return out;
}
