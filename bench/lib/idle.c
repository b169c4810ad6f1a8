/* idle.c - many sessions that say EHLO and then nothing (load_idle of load.h). */
#include "bench/lib/load.h"
#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define EVENTS  256
#define AT_ONCE 64 /* connections under way at a time: a listener's backlog is finite */

struct idler {
    int fd;
    bool greeted, stands;
};

struct idle {
    const struct sock_addr *target;
    struct idler *all;
    unsigned n, begun, standing, failed, lost;
    int ep, signals;
    bool stop;
};

static void idler_connect(struct idle *d)
{
    struct idler *i = &d->all[d->begun++];
    i->fd = sock_connect(d->target);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = i};
    if (i->fd < 0 || epoll_ctl(d->ep, EPOLL_CTL_ADD, i->fd, &ev))
        d->failed++;
}

static void idler_gone(struct idle *d, struct idler *i)
{
    close(i->fd);
    i->fd = -1;
    if (i->stands)
        d->lost++;
    else
        d->failed++;
}

static void idler_read(struct idle *d, struct idler *i)
{
    char buf[2048];
    ssize_t n = recv(i->fd, buf, sizeof buf, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0 || buf[0] != '2') {
        idler_gone(d, i);
        return;
    }
    if (!i->greeted) {
        i->greeted = send(i->fd, "EHLO idle.test\r\n", 16, MSG_NOSIGNAL) == 16;
    } else if (!i->stands) {
        i->stands = true;
        d->standing++;
    }
}

static void watch(struct idle *d, int fd, void *tag)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = tag};
    epoll_ctl(d->ep, EPOLL_CTL_ADD, fd, &ev); /* a stdin that cannot be waited for is left alone */
}

static void idle_open(struct idle *d)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    if (sock_raise_files() < d->n + 64)
        warnx("the limit of open files is below %u", d->n + 64);
    d->ep = epoll_create1(EPOLL_CLOEXEC);
    d->signals = signalfd(-1, &set, SFD_CLOEXEC);
    d->all = calloc(d->n, sizeof *d->all);
    if (!d->all || d->ep < 0)
        err(1, "idle");
    watch(d, d->signals, &d->signals);
    watch(d, 0, d);
}

static void on_event(struct idle *d, void *tag)
{
    char buf[256];
    if (tag == &d->signals)
        d->stop = true;
    else if (tag == d)
        d->stop = d->stop || read(0, buf, sizeof buf) <= 0;
    else if (((struct idler *)tag)->fd >= 0)
        idler_read(d, tag);
}

static void turn(struct idle *d, int timeout_ms)
{
    struct epoll_event ev[EVENTS];
    while (d->begun < d->n && d->begun - d->standing - d->failed < AT_ONCE)
        idler_connect(d);
    int n = epoll_wait(d->ep, ev, EVENTS, timeout_ms);
    for (int i = 0; i < n; i++)
        on_event(d, ev[i].data.ptr);
}

int load_idle(const struct sock_addr *target, unsigned n, uint64_t deadline_us)
{
    struct idle d = {.target = target, .n = n};
    uint64_t begin = sock_now_us(), end = begin + deadline_us;
    idle_open(&d);
    while (!d.stop && d.standing + d.failed < n && sock_now_us() < end)
        turn(&d, 100);
    printf("{\"idle\": %u, \"failed\": %u, \"seconds\": %.3f}\n", d.standing, d.failed,
           (double)(sock_now_us() - begin) / 1e6);
    fflush(stdout);
    while (!d.stop && sock_now_us() < end)
        turn(&d, 100);
    printf("{\"open\": %u, \"lost\": %u}\n", d.standing - d.lost, d.lost);
    free(d.all);
    return d.standing == n ? 0 : 1;
}
