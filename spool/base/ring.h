/* ring.h - a bounded ring of pointers between threads, and the bell that wakes its reader.
 *
 * Many producers, one consumer (Vyukov's bounded queue with a sequence number a cell).  Never blocks: a full ring says
 * so and the caller decides.  Order is kept for each producer.
 *
 * bell: an eventfd that is written only when the consumer announced that it is about to sleep, so that a busy consumer
 * costs its producers no system call.  Consumer: bell_arm(); look at its rings once more; sleep on bell.fd only if they
 * are empty; then bell_disarm(). */
#pragma once
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring_cell {
    atomic_size_t seq;
    void *item;
};

struct ring {
    struct ring_cell *cells;
    size_t mask;
    alignas(64) atomic_size_t tail; /* producers */
    alignas(64) atomic_size_t head; /* consumer; others may read it for ring_count */
};

/* cap is rounded up to a power of two. 0 or -SATCHEL_ENOMEM. */
int ring_init(struct ring *r, size_t cap);
void ring_destroy(struct ring *r);
/* Any thread. false: full. */
bool ring_push(struct ring *r, void *item);
/* The consumer. NULL: empty. */
void *ring_pop(struct ring *r);
/* The consumer, exact; other threads, a hint. */
bool ring_empty(struct ring *r);

struct bell {
    int fd; /* eventfd, non-blocking */
    atomic_bool armed;
};

/* 0 or -errno. */
int bell_init(struct bell *b);
void bell_destroy(struct bell *b);
/* Producer, after its push: wakes the consumer if it sleeps or is about to. */
void bell_ring(struct bell *b);
/* Consumer. */
void bell_arm(struct bell *b);
void bell_disarm(struct bell *b);
