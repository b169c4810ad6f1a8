/* watch.h - a file descriptor in the relay's epoll set: who is called when something happens on it.
 * Thread: the relay's.  A watch must stay where it is while it is in the set, and until the loop's turn has ended. */
#pragma once
#include <stdint.h>
#include <sys/epoll.h>

struct watch {
    int fd; /* -1: not in the set; events that are still queued for it are dropped */
    void (*fn)(void *arg, uint32_t events);
    void *arg;
};

/* events: EPOLLIN, EPOLLOUT; level-triggered. 0 or -errno. */
static inline int watch_add(int epfd, struct watch *w, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = w};
    return epoll_ctl(epfd, EPOLL_CTL_ADD, w->fd, &e);
}

static inline int watch_change(int epfd, struct watch *w, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = w};
    return epoll_ctl(epfd, EPOLL_CTL_MOD, w->fd, &e);
}

static inline void watch_remove(int epfd, struct watch *w)
{
    if (w->fd >= 0)
        epoll_ctl(epfd, EPOLL_CTL_DEL, w->fd, NULL);
    w->fd = -1;
}
