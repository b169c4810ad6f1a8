/* refuse.c - connections that are not wanted (load_refuse of load.h). */
#include "bench/lib/load.h"
#include <err.h>
#include <stdlib.h>

#define EVENTS 256

struct knock {
    struct wire_conn wc; /* first: a wire's event names it */
    uint64_t since_us;
    bool heard;
};

struct refuse {
    struct wire *wire;
    const struct refuse_spec *spec;
    struct knock *all;
    uint64_t begin_us;
    struct refuse_counts is;
};

static void knock_begin(struct refuse *r, struct knock *k, uint64_t now)
{
    double due = r->spec->rate * (double)(now - r->begin_us) / 1e6;
    if (r->is.tried == r->spec->n || (r->spec->rate > 0 && (double)r->is.tried > due))
        return;
    r->is.tried++;
    k->since_us = now;
    k->heard = false;
    if (wire_connect(r->wire, &k->wc) < 0) {
        r->is.failed++;
        k->wc.open = false;
    }
}

static void knock_end(struct refuse *r, struct knock *k)
{
    r->is.ended++;
    wire_close(r->wire, &k->wc);
}

/* A greeting means that it was let in: said goodbye to, and counted. */
static void knock_read(struct refuse *r, struct knock *k)
{
    struct slice in;
    int rc = wire_read(r->wire, &k->wc, &in);
    if (rc == 0)
        return;
    if (rc > 0 && !k->heard) {
        k->heard = true;
        r->is.turned_away += in.p[0] == '4' || in.p[0] == '5';
        r->is.greeted += in.p[0] == '2';
        if (in.p[0] == '2')
            knock_end(r, k);
        return;
    }
    if (rc < 0)
        knock_end(r, k);
}

/* Who is not answered within give_up_us goes without a word. */
static void begin_and_give_up(struct refuse *r, uint64_t now)
{
    for (unsigned i = 0; i < r->spec->at_once; i++) {
        struct knock *k = &r->all[i];
        if (k->wc.open && now - k->since_us >= r->spec->give_up_us) {
            r->is.silent++;
            wire_abort(r->wire, &k->wc);
        }
        if (!k->wc.open)
            knock_begin(r, k, now);
    }
}

static void turn(struct refuse *r, uint64_t until_us)
{
    struct wire_event ev[EVENTS];
    unsigned n = wire_wait(r->wire, ev, EVENTS, until_us);
    for (unsigned i = 0; i < n; i++)
        if (ev[i].c->open && (ev[i].what & WIRE_READ))
            knock_read(r, (struct knock *)ev[i].c);
}

struct refuse_counts load_refuse(struct wire *wire, const struct refuse_spec *spec, uint64_t deadline_us)
{
    struct refuse r = {.wire = wire, .spec = spec};
    uint64_t now = sock_now_us(), end = now + deadline_us;
    r.begin_us = now;
    r.all = calloc(spec->at_once, sizeof *r.all);
    if (!r.all)
        err(1, "refuse");
    while (r.is.ended + r.is.silent + r.is.failed < spec->n && now < end) {
        begin_and_give_up(&r, now);
        turn(&r, spec->give_up_us < 1000 ? now : now + 1000);
        now = sock_now_us();
    }
    for (unsigned i = 0; i < spec->at_once; i++)
        if (r.all[i].wc.open)
            wire_abort(wire, &r.all[i].wc);
    free(r.all);
    return r.is;
}
