/* bell.h - wakes a thread that sleeps on a file descriptor.
 * An eventfd that is written only when the sleeper announced that it is about to sleep, so that a busy one costs the
 * others no system call.  Sleeper: bell_arm(); look at its work once more; sleep on bell.fd only if there is none;
 * bell_disarm(). */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct bell {
    int fd; /* eventfd, non-blocking */
    atomic_bool armed;
    uint64_t owed; /* the sleeper's: rings whose write was not read yet; it may come after the wake-up */
};

/* 0 or -errno. */
int bell_init(struct bell *b);
void bell_destroy(struct bell *b);
/* Any thread, after what it has to say is visible: wakes the sleeper if it sleeps or is about to. */
void bell_ring(struct bell *b);
/* The sleeper. */
void bell_arm(struct bell *b);
void bell_disarm(struct bell *b);
