/* sock.c - the few socket calls that the bench programs share. */
#include "bench/lib/sock.h"
#include <err.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static void split(const char *text, char host[256], char port[16])
{
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text || strlen(colon + 1) > 15 || colon - text > 255)
        errx(2, "%s is not HOST:PORT", text);
    size_t n = (size_t)(colon - text);
    if (text[0] == '[' && colon[-1] == ']') {
        text++;
        n -= 2;
    }
    memcpy(host, text, n);
    host[n] = 0;
    memcpy(port, colon + 1, strlen(colon + 1) + 1);
}

struct sock_addr sock_parse(const char *host_port)
{
    char host[256], port[16];
    split(host_port, host, port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    int rc = getaddrinfo(host, port, &hints, &list);
    if (rc)
        errx(2, "%s: %s", host_port, gai_strerror(rc));
    struct sock_addr a = {.n = list->ai_addrlen};
    memcpy(&a.sa, list->ai_addr, list->ai_addrlen);
    freeaddrinfo(list);
    return a;
}

int sock_listen(const struct sock_addr *a, int backlog)
{
    int fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0)
        err(1, "socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (const struct sockaddr *)&a->sa, a->n) || listen(fd, backlog))
        err(1, "cannot listen");
    return fd;
}

int sock_connect(const struct sock_addr *a)
{
    int fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0)
        return -errno;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (const struct sockaddr *)&a->sa, a->n) == 0 || errno == EINPROGRESS)
        return fd;
    int rc = -errno;
    close(fd);
    return rc;
}

uint64_t sock_now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

uint64_t sock_cpu_us(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 +
           (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

uint64_t sock_raise_files(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r))
        return 0;
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
    return r.rlim_cur;
}
