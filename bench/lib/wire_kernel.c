/* wire_kernel.c - kernel sockets on epoll (wire.h). */
#include "bench/lib/wire.h"
#include <err.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define EVENTS     256
#define READ_BYTES 4096

struct wire_kernel {
    struct wire w; /* first */
    struct sock_addr target;
    int ep;
    uint8_t in[READ_BYTES];
};

static struct wire_kernel *kernel_of(struct wire *w)
{
    return (struct wire_kernel *)w;
}

static int kernel_connect(struct wire *w, struct wire_conn *c)
{
    struct wire_kernel *k = kernel_of(w);
    int fd = sock_connect(&k->target);
    if (fd < 0)
        return fd;
    *c = (struct wire_conn){.open = true, .fd = fd};
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(k->ep, EPOLL_CTL_ADD, fd, &ev))
        err(1, "epoll_ctl");
    return 0;
}

static int kernel_read(struct wire *w, struct wire_conn *c, struct slice *in_r)
{
    struct wire_kernel *k = kernel_of(w);
    ssize_t n = recv(c->fd, k->in, sizeof k->in, 0);
    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n <= 0)
        return -1;
    *in_r = slice_of(k->in, (size_t)n);
    return 1;
}

static void kernel_watch(struct wire *w, struct wire_conn *c, bool blocked)
{
    if (blocked == c->blocked)
        return;
    struct epoll_event ev = {.events = EPOLLIN | (blocked ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(kernel_of(w)->ep, EPOLL_CTL_MOD, c->fd, &ev);
    c->blocked = blocked;
}

static size_t kernel_write(struct wire *w, struct wire_conn *c, const struct iovec *v, unsigned n)
{
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)v, .msg_iovlen = n};
    ssize_t sent = sendmsg(c->fd, &m, MSG_NOSIGNAL);
    kernel_watch(w, c, sent < 0 && errno == EAGAIN);
    return sent < 0 ? 0 : (size_t)sent;
}

static void kernel_close(struct wire *w, struct wire_conn *c)
{
    (void)w;
    close(c->fd);
    c->open = false;
}

static void kernel_abort(struct wire *w, struct wire_conn *c)
{
    struct linger now = {.l_onoff = 1};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    kernel_close(w, c);
}

static unsigned kernel_wait(struct wire *w, struct wire_event *ev_r, unsigned cap, uint64_t until_us)
{
    struct epoll_event ev[EVENTS];
    uint64_t now = sock_now_us(), us = until_us > now ? until_us - now : 0;
    struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    int max = cap < EVENTS ? (int)cap : EVENTS, n = epoll_pwait2(kernel_of(w)->ep, ev, max, &t, NULL);
    if (n < 0 && errno == ENOSYS) /* before Linux 5.11: whole milliseconds */
        n = epoll_wait(kernel_of(w)->ep, ev, max, us < INT_MAX - 999 ? (int)(us + 999) / 1000 : INT_MAX / 1000);
    for (int i = 0; i < n; i++) {
        unsigned e = ev[i].events;
        ev_r[i] = (struct wire_event){ev[i].data.ptr,
                                      (e & EPOLLOUT ? WIRE_WRITE : 0u) | (e & ~(unsigned)EPOLLOUT ? WIRE_READ : 0u)};
    }
    return n < 0 ? 0 : (unsigned)n;
}

/* The kernel's. */
static unsigned kernel_ending(const struct wire *w)
{
    (void)w;
    return 0;
}

static void kernel_destroy(struct wire **w)
{
    struct wire_kernel *k = kernel_of(*w);
    close(k->ep);
    free(k);
    *w = NULL;
}

static const struct wire_ops kernel_ops = {
    .connect = kernel_connect,
    .read = kernel_read,
    .write = kernel_write,
    .close = kernel_close,
    .abort = kernel_abort,
    .wait = kernel_wait,
    .ending = kernel_ending,
    .destroy = kernel_destroy,
};

struct wire *wire_kernel_open(const struct sock_addr *target)
{
    struct wire_kernel *k = calloc(1, sizeof *k);
    if (!k)
        err(1, "wire");
    k->w.ops = &kernel_ops;
    k->target = *target;
    k->ep = epoll_create1(EPOLL_CLOEXEC);
    if (k->ep < 0)
        err(1, "epoll");
    return &k->w;
}
