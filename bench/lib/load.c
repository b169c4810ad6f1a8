/* load.c - one thread of load (load.h): joins the sessions of loadconn.h with a wire, pace and an end. */
#include "bench/lib/load.h"
#include <err.h>
#include <stdlib.h>

#define EVENTS           256
#define PAUSE_REFUSED_US 10000
#define PAUSE_CONNECT_US 20000
#define LATE_US          10000
#define FAILURES_MAX     20 /* one after another, without retry */

/* A place for one connection at a time. */
struct slot {
    struct wire_conn wc; /* first: a wire's event names it */
    struct loadconn conn;
    bool queued;
    uint64_t wake_us; /* 0: not asleep; connects (not open) or goes on then */
    unsigned failures;
    bool over;
};

struct load {
    const struct load_spec *spec;
    struct load_result *r;
    struct load_book *book;
    struct wire *wire;
    struct slot *slot;
    unsigned live;       /* slots not over */
    unsigned asleep;     /* slots with wake_us */
    struct slot **ready; /* paced: sessions that wait for their turn, a ring */
    unsigned ready_at, ready_n;
    double next_us; /* paced: when the next message is due */
    uint64_t end_us, deadline_us;
};

static void slot_over(struct load *l, struct slot *s)
{
    if (!s->over)
        l->live--;
    s->over = true;
}

static void slot_sleep(struct load *l, struct slot *s, uint64_t until_us)
{
    l->asleep += s->wake_us == 0;
    s->wake_us = until_us;
}

static bool wanted(const struct load *l)
{
    return l->book->budget > 0 && !l->book->closing;
}

static void slot_connect(struct load *l, struct slot *s, uint64_t now)
{
    if (!wanted(l)) {
        slot_over(l, s);
        return;
    }
    if (wire_connect(l->wire, &s->wc) < 0) {
        l->r->connect_failures++;
        slot_sleep(l, s, now + PAUSE_CONNECT_US);
        return;
    }
    loadconn_open(&s->conn, l->book);
}

/* The connection is gone; says whether the next one may come at once. */
static void slot_closed(struct load *l, struct slot *s, uint64_t now)
{
    bool orderly = s->conn.state == LOAD_QUIT || s->conn.state == LOAD_ENDED;
    bool refused = s->conn.state == LOAD_GREETING && s->conn.in_n == 0;
    loadconn_lost(&s->conn);
    wire_close(l->wire, &s->wc);
    l->r->connect_failures += refused;
    s->failures = orderly ? 0 : s->failures + 1;
    if (!wanted(l) || (!l->spec->retry && s->failures > FAILURES_MAX))
        slot_over(l, s);
    else if (orderly)
        slot_connect(l, s, now);
    else
        slot_sleep(l, s, now + PAUSE_CONNECT_US);
}

static void slot_send(struct load *l, struct slot *s)
{
    struct loadconn *c = &s->conn;
    if (c->dot_on_way && c->out_n)
        lines_flush(l->spec->ledger); /* "sent" is in the ledger before it is true */
    while (c->out_n) {
        size_t n = wire_write(l->wire, &s->wc, c->out, c->out_n);
        if (n == 0) /* a connection that broke shows when it is read from */
            return;
        loadconn_sent(c, n, sock_now_us());
    }
}

static void slot_wait_turn(struct load *l, struct slot *s)
{
    if (s->queued)
        return;
    s->queued = true;
    l->ready[(l->ready_at + l->ready_n++) % l->spec->connections] = s;
}

/* A session has nothing under way: on with it, now or in its turn. */
static void slot_ready(struct load *l, struct slot *s, uint64_t now)
{
    if (s->conn.refused) {
        s->conn.refused = false;
        slot_sleep(l, s, now + PAUSE_REFUSED_US);
    } else if (l->spec->rate > 0 && wanted(l) && s->conn.done < l->book->per_session) {
        slot_wait_turn(l, s);
    } else {
        loadconn_begin(&s->conn, now);
    }
}

static void slot_read(struct load *l, struct slot *s)
{
    struct slice in;
    int rc = wire_read(l->wire, &s->wc, &in);
    if (rc == 0)
        return;
    uint64_t now = sock_now_us();
    if (rc < 0 || !loadconn_input(&s->conn, (const char *)in.p, in.n, now)) {
        slot_closed(l, s, now);
        return;
    }
    if (s->conn.state != LOAD_GREETING && s->conn.state != LOAD_EHLO)
        s->failures = 0;
    if (s->conn.state == LOAD_READY)
        slot_ready(l, s, now);
    slot_send(l, s);
}

static void slot_wake(struct load *l, struct slot *s, uint64_t now)
{
    s->wake_us = 0;
    l->asleep--;
    if (!s->wc.open) {
        slot_connect(l, s, now);
    } else if (s->conn.state == LOAD_READY) {
        slot_ready(l, s, now);
        slot_send(l, s);
    }
}

static void wake_asleep(struct load *l, uint64_t now)
{
    for (unsigned i = 0; l->asleep && i < l->spec->connections; i++) {
        if (l->slot[i].wake_us && l->slot[i].wake_us <= now)
            slot_wake(l, &l->slot[i], now);
    }
}

/* Paced: starts what is due. */
static void start_due(struct load *l, uint64_t now)
{
    while (l->ready_n && (l->next_us <= (double)now || !wanted(l))) {
        struct slot *s = l->ready[l->ready_at];
        l->ready_at = (l->ready_at + 1) % l->spec->connections;
        l->ready_n--;
        s->queued = false;
        if (!s->wc.open || s->conn.state != LOAD_READY)
            continue;
        l->r->late += wanted(l) && l->next_us + LATE_US < (double)now;
        if (l->next_us + 1e6 < (double)now)
            l->next_us = (double)now; /* a second behind: give up the arrears */
        l->next_us += 1e6 / l->spec->rate;
        loadconn_begin(&s->conn, now);
        slot_send(l, s);
    }
}

/* When the loop must wake whatever comes: for the next paced message, a sleeper, or the end. */
static uint64_t next_us(const struct load *l, uint64_t now)
{
    uint64_t at = l->deadline_us;
    if (l->end_us && !l->book->closing && l->end_us < at)
        at = l->end_us;
    if (l->asleep && now + 2000 < at)
        at = now + 2000;
    if (l->ready_n && l->next_us < (double)at)
        at = (uint64_t)l->next_us;
    return at > now ? at : now + 1;
}

static void on_event(struct load *l, const struct wire_event *ev)
{
    struct slot *s = (struct slot *)ev->c;
    if (s->wc.open && (ev->what & WIRE_WRITE))
        slot_send(l, s);
    if (s->wc.open && (ev->what & WIRE_READ))
        slot_read(l, s);
}

static void loop(struct load *l)
{
    struct wire_event ev[EVENTS];
    while (l->live) {
        uint64_t now = sock_now_us();
        if (now >= l->deadline_us) {
            l->r->timed_out = true;
            break;
        }
        if (l->end_us && now >= l->end_us)
            l->book->closing = true;
        wake_asleep(l, now);
        start_due(l, now);
        unsigned n = wire_wait(l->wire, ev, EVENTS, next_us(l, now));
        for (unsigned i = 0; i < n; i++)
            on_event(l, &ev[i]);
        lines_flush(l->spec->ledger);
    }
}

static void open_book(struct load_book *b, const struct load_spec *spec)
{
    b->pipelining = spec->pipelining;
    b->deep = spec->deep && spec->pipelining && spec->rate <= 0;
    b->per_session = spec->per_session;
    b->recipients = spec->mint.recipients;
    b->budget = spec->messages;
    b->mint = mint_open(&spec->mint);
    b->ledger = spec->ledger;
}

static void start(struct load *l)
{
    uint64_t now = sock_now_us();
    l->live = l->spec->connections;
    l->deadline_us = now + l->spec->deadline_us;
    l->end_us = l->spec->duration_us ? now + l->spec->duration_us : 0;
    l->next_us = (double)now;
    for (unsigned i = 0; i < l->spec->connections; i++)
        slot_connect(l, &l->slot[i], now);
}

void load_run(const struct load_spec *spec, struct wire *wire, struct load_result *r)
{
    struct load l = {.spec = spec, .r = r, .book = &r->book, .wire = wire};
    l.slot = calloc(spec->connections, sizeof *l.slot);
    l.ready = calloc(spec->connections, sizeof(struct slot *));
    if (!l.slot || !l.ready)
        err(1, "load");
    open_book(&r->book, spec);
    start(&l);
    loop(&l);
    for (unsigned i = 0; i < spec->connections; i++) {
        if (l.slot[i].wc.open) {
            loadconn_lost(&l.slot[i].conn);
            wire_close(wire, &l.slot[i].wc);
        }
    }
    mint_close(&r->book.mint);
    free(l.slot);
    free(l.ready);
}
