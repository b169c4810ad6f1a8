/* hold.c - sessions held until somebody says stop, on stdin or by a signal (load_idle of load.h). */
#include "bench/lib/idle.h"
#include "bench/lib/load.h"
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define GLANCE_US 100000

struct hold {
    struct idle *idle;
    int signals;
    bool hears; /* stdin is somebody */
    bool stop;
    double noop_s; /* asked for */
    uint64_t end_us, glance_us;
};

static void listen_to(struct hold *h)
{
    sigset_t set;
    struct stat st;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    h->signals = signalfd(-1, &set, SFD_CLOEXEC);
    h->hears = isatty(0) || (fstat(0, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)));
}

static void told(struct hold *h)
{
    char buf[256];
    ssize_t n = read(0, buf, sizeof buf - 1);
    buf[n > 0 ? n : 0] = 0;
    h->stop |= n <= 0 || strncmp(buf, "end", 3) == 0;
    if (sscanf(buf, "noop %lf", &h->noop_s) != 1)
        h->noop_s = 0;
}

static void glance(struct hold *h, uint64_t now)
{
    struct pollfd p[2] = {{.fd = h->signals, .events = POLLIN}, {.fd = h->hears ? 0 : -1, .events = POLLIN}};
    if (now < h->glance_us)
        return;
    h->glance_us = now + GLANCE_US;
    h->stop |= now >= h->end_us;
    if (poll(p, 2, 0) <= 0)
        return;
    h->stop |= p[0].revents != 0;
    if (p[1].revents)
        told(h);
}

static void noops(struct hold *h)
{
    struct idle_counts was = idle_counts(h->idle);
    uint64_t begin = sock_now_us();
    idle_noops(h->idle, (uint64_t)(h->noop_s * 1e6));
    struct idle_counts is = idle_counts(h->idle);
    printf("{\"noops\": %lu, \"unanswered\": %u, \"lost\": %u, \"seconds\": %.3f}\n", is.answered - was.answered,
           is.asked, is.lost, (double)(sock_now_us() - begin) / 1e6);
    fflush(stdout);
    h->noop_s = 0;
}

static void run(struct hold *h, bool opening)
{
    while (!h->stop) {
        uint64_t now = sock_now_us();
        bool more = idle_turn(h->idle, now + GLANCE_US);
        if (opening && !more)
            return;
        glance(h, now);
        if (h->noop_s > 0)
            noops(h);
    }
}

int load_idle(struct wire *wire, unsigned n, uint64_t deadline_us)
{
    uint64_t begin = sock_now_us();
    struct hold h = {.idle = idle_open(wire, n), .end_us = begin + deadline_us};
    listen_to(&h);
    run(&h, true);
    struct idle_counts is = idle_counts(h.idle);
    printf("{\"idle\": %u, \"failed\": %u, \"seconds\": %.3f}\n", is.standing, is.failed,
           (double)(sock_now_us() - begin) / 1e6);
    fflush(stdout);
    run(&h, false);
    is = idle_counts(h.idle);
    idle_close(&h.idle);
    printf("{\"open\": %u, \"lost\": %u}\n", is.standing - is.lost, is.lost);
    fflush(stdout);
    close(h.signals);
    return is.standing == n ? 0 : 1;
}
