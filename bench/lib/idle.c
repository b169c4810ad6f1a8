/* idle.c - many sessions that say EHLO and then nothing, or NOOP in turn (load_idle of load.h). */
#include "bench/lib/load.h"
#include <err.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define EVENTS    256
#define AT_ONCE   64  /* connections under way at a time: a listener's backlog is finite */
#define NOOPS     128 /* and NOOPs */
#define GLANCE_US 100000

enum idler_state { IDLER_NEW, IDLER_GREETED, IDLER_STANDS, IDLER_ASKED, IDLER_GONE };

struct idler {
    struct wire_conn wc; /* first: a wire's event names it */
    enum idler_state state;
};

struct idle {
    struct wire *wire;
    struct idler *all;
    unsigned n, begun, standing, failed, lost;
    unsigned asked, next; /* NOOPs under way; whose turn it is */
    uint64_t answered;
    int signals;
    bool hears; /* stdin is somebody */
    bool stop;
    double noop_s; /* asked for on stdin */
};

static void idler_connect(struct idle *d)
{
    struct idler *i = &d->all[d->begun++];
    if (wire_connect(d->wire, &i->wc) == 0)
        return;
    i->state = IDLER_GONE;
    d->failed++;
}

static void idler_gone(struct idle *d, struct idler *i)
{
    wire_close(d->wire, &i->wc);
    d->lost += i->state >= IDLER_STANDS;
    d->failed += i->state < IDLER_STANDS;
    d->asked -= i->state == IDLER_ASKED;
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
        d->standing++;
        break;
    case IDLER_ASKED:
        i->state = IDLER_STANDS;
        d->asked--;
        d->answered++;
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

/* ---- who may end it, or ask for NOOPs */

static void idle_listen(struct idle *d)
{
    sigset_t set;
    struct stat st;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    d->signals = signalfd(-1, &set, SFD_CLOEXEC);
    d->hears = isatty(0) || (fstat(0, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)));
}

static void idle_told(struct idle *d)
{
    char buf[256];
    ssize_t n = read(0, buf, sizeof buf - 1);
    if (n <= 0) {
        d->stop = true;
        return;
    }
    buf[n] = 0;
    if (sscanf(buf, "noop %lf", &d->noop_s) != 1)
        d->noop_s = 0;
}

static void idle_glance(struct idle *d)
{
    struct pollfd p[2] = {{.fd = d->signals, .events = POLLIN}, {.fd = d->hears ? 0 : -1, .events = POLLIN}};
    if (poll(p, 2, 0) <= 0)
        return;
    d->stop |= p[0].revents != 0;
    if (p[1].revents)
        idle_told(d);
}

/* ---- turns */

static void turn(struct idle *d, uint64_t until_us)
{
    struct wire_event ev[EVENTS];
    unsigned n = wire_wait(d->wire, ev, EVENTS, until_us);
    for (unsigned i = 0; i < n; i++)
        if (ev[i].c->open && (ev[i].what & WIRE_READ))
            idler_read(d, (struct idler *)ev[i].c);
}

static void open_all(struct idle *d, uint64_t end_us)
{
    uint64_t now, glance = 0;
    while (!d->stop && d->standing + d->failed < d->n && (now = sock_now_us()) < end_us) {
        while (d->begun < d->n && d->begun - d->standing - d->failed < AT_ONCE)
            idler_connect(d);
        turn(d, now + GLANCE_US);
        if (now < glance)
            continue;
        idle_glance(d);
        glance = now + GLANCE_US;
    }
}

static void ask_some(struct idle *d)
{
    for (unsigned tried = 0; d->asked < NOOPS && tried < d->n; tried++) {
        struct idler *i = &d->all[d->next];
        d->next = d->next + 1 < d->n ? d->next + 1 : 0;
        if (i->state != IDLER_STANDS)
            continue;
        i->state = IDLER_ASKED;
        d->asked++;
        wire_say(d->wire, &i->wc, SLICE_LIT("NOOP\r\n"));
    }
}

/* All in turn, some at a time: no connection's memory is warm when its packet comes. */
static void noops(struct idle *d)
{
    uint64_t begin = sock_now_us(), end = begin + (uint64_t)(d->noop_s * 1e6), now = begin;
    uint64_t grace = end + 1000000;
    d->answered = 0;
    d->noop_s = 0;
    while (now < end || (d->asked && now < grace)) {
        if (now < end)
            ask_some(d);
        turn(d, now + 1000);
        now = sock_now_us();
    }
    printf("{\"noops\": %lu, \"unanswered\": %u, \"lost\": %u, \"seconds\": %.3f}\n", d->answered, d->asked, d->lost,
           (double)(now - begin) / 1e6);
    fflush(stdout);
}

static void hold(struct idle *d, uint64_t end_us)
{
    for (uint64_t now; !d->stop && (now = sock_now_us()) < end_us;) {
        turn(d, now + GLANCE_US);
        idle_glance(d);
        if (d->noop_s > 0)
            noops(d);
    }
}

int load_idle(struct wire *wire, unsigned n, uint64_t deadline_us)
{
    struct idle d = {.wire = wire, .n = n};
    uint64_t begin = sock_now_us();
    d.all = calloc(n, sizeof *d.all);
    if (!d.all)
        err(1, "idle");
    idle_listen(&d);
    open_all(&d, begin + deadline_us);
    printf("{\"idle\": %u, \"failed\": %u, \"seconds\": %.3f}\n", d.standing, d.failed,
           (double)(sock_now_us() - begin) / 1e6);
    fflush(stdout);
    hold(&d, begin + deadline_us);
    printf("{\"open\": %u, \"lost\": %u}\n", d.standing - d.lost, d.lost);
    close(d.signals);
    free(d.all);
    return d.standing == n ? 0 : 1;
}
