/* wire.h - what lies between a scenario's client and its session: nothing (wire_direct.c), or a transport with its real
 * bytes in one thread: kernel sockets over loopback, by io_uring or epoll (wire_kernel.c), or our own TCP over ports in
 * memory (wire_user.c).  The suite says and stores the same over each.
 *
 * One client at a time.  turn moves what can be moved and never waits; fake_settle calls it until nothing is under way.
 */
#pragma once
#include "spool/base/slice.h"

struct fake;

struct wire {
    const char *name;
    /* Once, before the first client. 0, or -errno with why_r (WIRE_WHY_MAX): this machine cannot. */
    int (*open)(char *why_r);
    void (*close)(void);

    /* ---- the client's side */
    void (*connect)(struct fake *f);
    void (*send)(struct fake *f, const uint8_t *p, size_t n);
    /* It leaves without a word: a reset. */
    void (*cut)(struct fake *f);

    /* ---- the session's side */
    void (*say)(struct fake *f, struct slice bytes);
    void (*resume)(struct fake *f);
    void (*hang_up)(struct fake *f);

    void (*turn)(struct fake *f);
    /* The scenario is over: ends the session, if it is open, and forgets the client. */
    void (*end)(struct fake *f);
};

#define WIRE_WHY_MAX 512

extern const struct wire wire_direct, wire_uring, wire_epoll, wire_user;

/* ---- fake.c, for wires */

/* The connection is there: opens the session, which greets. */
void fake_accepted_conn(struct fake *f);
/* Bytes for the session: how many it took. */
size_t fake_receive(struct fake *f, struct slice in);
/* An answer is outstanding: the end of what the client says is no reason to close. */
bool fake_waits(const struct fake *f);
/* The connection is gone. */
void fake_closed_conn(struct fake *f);
/* The client reads. */
void fake_heard(struct fake *f, struct slice bytes);
