/* mailbox.h - an intrusive list between threads: many senders, one reader, no lock, no allocation.
 * What is posted is bounded by whoever owns the nodes (budgets at the doors), not here.  Order is kept for each sender.
 * The reader takes everything at once.  The bell wakes it.
 *
 *   sender:  mailbox_post(&mb, &x->mail); ... bell_ring(&mb.bell);      one ring for many posts
 *   reader:  for (n = mailbox_take(&mb); n; n = next) ...
 *            bell_arm(&mb.bell); if (mailbox_empty(&mb)) sleep on mb.bell.fd; bell_disarm(&mb.bell); */
#pragma once
#include "spool/base/bell.h"

#include <stddef.h>

struct mail {
    struct mail *next;
};

struct mailbox {
    _Atomic(struct mail *) head; /* newest first */
    struct bell bell;
};

/* 0 or -errno. */
int mailbox_init(struct mailbox *mb);
void mailbox_destroy(struct mailbox *mb);
/* Any thread. The node is the reader's from now on. Does not wake it. */
void mailbox_post(struct mailbox *mb, struct mail *m);
/* The reader: all nodes, oldest first, linked by next; NULL when empty. */
struct mail *mailbox_take(struct mailbox *mb);
static inline bool mailbox_empty(struct mailbox *mb)
{
    return atomic_load_explicit(&mb->head, memory_order_acquire) == NULL;
}
