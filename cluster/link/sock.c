/* sock.c - see sock.h. */
#include "cluster/link/sock.h"

#include "spool/base/err.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BACKLOG = 256 };

int sock_split(const char *address, char host_r[SOCK_HOST_MAX], char port_r[SOCK_PORT_MAX])
{
    const char *colon = strrchr(address, ':');
    size_t n = colon ? (size_t)(colon - address) : 0, port = colon ? strlen(colon + 1) : 0;
    if (n >= 2 && address[0] == '[' && address[n - 1] == ']') {
        address++;
        n -= 2;
    }
    if (n == 0 || n >= SOCK_HOST_MAX || port == 0 || port >= SOCK_PORT_MAX)
        return -SATCHEL_EINVAL;
    memcpy(host_r, address, n);
    host_r[n] = 0;
    memcpy(port_r, colon + 1, port + 1);
    return 0;
}

static int sock_listen_at(const struct addrinfo *ai)
{
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1, zero = 0;
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (ai->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int err = errno;
    close(fd);
    return -err;
}

static const char *sock_listen_remedy(int rc)
{
    switch (-rc) {
    case EADDRINUSE:
        return "another program listens there: choose another port";
    case EADDRNOTAVAIL:
        return "this machine has no such address";
    case EACCES:
        return "ports below 1024 need CAP_NET_BIND_SERVICE: choose another";
    default:
        return satchel_strerror(rc);
    }
}

int link_sock_listen(const char *address, char *why_r)
{
    char host[SOCK_HOST_MAX], port[SOCK_PORT_MAX];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV}, *ai;
    int rc = sock_split(address, host, port);
    const char *at = strcmp(host, "*") == 0 ? "::" : host;
    if (rc < 0 || getaddrinfo(at, port, &hints, &ai) != 0) {
        why_say(why_r, "%.100s: not an address to listen on: expected *:PORT, IPV4:PORT or [IPV6]:PORT", address);
        return -SATCHEL_EINVAL;
    }
    int fd = sock_listen_at(ai);
    freeaddrinfo(ai);
    /* A machine without IPv6 has the one family. */
    if (fd == -EAFNOSUPPORT && strcmp(host, "*") == 0 && getaddrinfo("0.0.0.0", port, &hints, &ai) == 0) {
        fd = sock_listen_at(ai);
        freeaddrinfo(ai);
    }
    if (fd < 0)
        why_say(why_r, "%.100s: %s", address, sock_listen_remedy(fd));
    return fd;
}

void link_sock_tune(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* links gather what they send themselves */
}

int link_sock_connect(const struct sock_addr *a)
{
    int fd = socket(a->ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    link_sock_tune(fd);
    if (connect(fd, (const struct sockaddr *)&a->ss, a->n) == 0 || errno == EINPROGRESS || errno == EINTR)
        return fd;
    int err = errno;
    close(fd);
    return -err;
}

int sock_connected(int fd)
{
    int err = 0;
    socklen_t n = sizeof err;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &n) < 0 ? -errno : -err;
}

uint16_t link_sock_port(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } at = {0};
    socklen_t n = sizeof at;
    if (getsockname(fd, &at.any, &n) < 0)
        return 0;
    return ntohs(at.any.sa_family == AF_INET6 ? at.in6.sin6_port : at.in.sin_port);
}

void sock_format(const struct sock_addr *a, char text_r[SOCK_TEXT_MAX])
{
    char host[SOCK_TEXT_MAX - 10], port[8];
    bool v6 = a->ss.ss_family == AF_INET6;
    if (getnameinfo((const struct sockaddr *)&a->ss, a->n, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        snprintf(text_r, SOCK_TEXT_MAX, "%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "", port);
    else
        snprintf(text_r, SOCK_TEXT_MAX, "an unknown address");
}
