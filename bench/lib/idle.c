/* idle.c - many sessions at rest (idle.h). */
#include "bench/lib/idle.h"
#include <err.h>
#include <stdlib.h>

#define EVENTS      256
#define AT_ONCE     64     /* connections under way at a time: a listener's backlog is finite */
#define NOOPS       50     /* and NOOPs: with 100 connections, too, nobody has its next turn at once */
#define STRIDE      7919   /* a prime: all have their turn, but no neighbours in memory one after the other */
#define PATIENCE_US 100000 /* with one that does not end */

enum idler_state { IDLER_NEW, IDLER_GREETED, IDLER_STANDS, IDLER_ASKED, IDLER_GONE };

struct idler {
    struct wire_conn wc; /* first: a wire's event names it */
    enum idler_state state;
};

struct idle {
    struct wire *wire;
    struct idler *all;
    unsigned n, begun;
    unsigned next, stride; /* whose turn to say NOOP it is; how far from one to the next */
    struct idle_counts is;
};

static void idler_connect(struct idle *d)
{
    struct idler *i = &d->all[d->begun++];
    if (wire_connect(d->wire, &i->wc) == 0)
        return;
    i->state = IDLER_GONE;
    d->is.failed++;
}

static void idler_gone(struct idle *d, struct idler *i)
{
    wire_close(d->wire, &i->wc);
    d->is.lost += i->state >= IDLER_STANDS;
    d->is.failed += i->state < IDLER_STANDS;
    d->is.asked -= i->state == IDLER_ASKED;
    i->state = IDLER_GONE;
}

static void idler_heard(struct idle *d, struct idler *i)
{
    switch (i->state) {
    case IDLER_NEW:
        i->state = IDLER_GREETED;
        wire_say(d->wire, &i->wc, SLICE_LIT("EHLO idle.test\r\n"));
        break;
    case IDLER_GREETED:
        i->state = IDLER_STANDS;
        d->is.standing++;
        break;
    case IDLER_ASKED:
        i->state = IDLER_STANDS;
        d->is.asked--;
        d->is.answered++;
        break;
    default:
        break;
    }
}

static void idler_read(struct idle *d, struct idler *i)
{
    struct slice in;
    int rc = wire_read(d->wire, &i->wc, &in);
    if (rc == 0)
        return;
    if (rc < 0 || in.p[0] != '2')
        idler_gone(d, i);
    else
        idler_heard(d, i);
}

static void turn(struct idle *d, uint64_t until_us)
{
    struct wire_event ev[EVENTS];
    unsigned n = wire_wait(d->wire, ev, EVENTS, until_us);
    for (unsigned i = 0; i < n; i++)
        if (ev[i].c->open && (ev[i].what & WIRE_READ))
            idler_read(d, (struct idler *)ev[i].c);
}

static unsigned settled(const struct idle *d)
{
    return d->is.standing + d->is.failed;
}

struct idle *idle_open(struct wire *wire, unsigned n)
{
    struct idle *d = calloc(1, sizeof *d);
    if (!d || !(d->all = calloc(n, sizeof *d->all)))
        err(1, "idle");
    d->wire = wire;
    d->n = n;
    d->stride = n % STRIDE ? STRIDE : 1;
    return d;
}

bool idle_turn(struct idle *d, uint64_t until_us)
{
    while (d->begun < d->n && d->begun - settled(d) < AT_ONCE)
        idler_connect(d);
    turn(d, until_us);
    return settled(d) < d->n;
}

static void ask_some(struct idle *d)
{
    for (unsigned tried = 0; d->is.asked < NOOPS && tried < d->n; tried++) {
        struct idler *i = &d->all[d->next];
        d->next = (d->next + d->stride) % d->n;
        if (i->state != IDLER_STANDS)
            continue;
        i->state = IDLER_ASKED;
        d->is.asked++;
        wire_say(d->wire, &i->wc, SLICE_LIT("NOOP\r\n"));
    }
}

void idle_noops(struct idle *d, uint64_t for_us)
{
    uint64_t now = sock_now_us(), end = now + for_us, grace = end + 1000000;
    while (now < end || (d->is.asked && now < grace)) {
        if (now < end)
            ask_some(d);
        turn(d, now + 1000);
        now = sock_now_us();
    }
}

struct idle_counts idle_counts(const struct idle *d)
{
    return d->is;
}

void idle_close(struct idle **d_p)
{
    struct idle *d = *d_p;
    for (unsigned i = 0; i < d->begun; i++) {
        if (d->all[i].wc.open)
            wire_close(d->wire, &d->all[i].wc);
        uint64_t end = sock_now_us() + PATIENCE_US;
        while (wire_ending(d->wire) >= AT_ONCE && sock_now_us() < end)
            turn(d, 0);
    }
    free(d->all);
    free(d);
    *d_p = NULL;
}
