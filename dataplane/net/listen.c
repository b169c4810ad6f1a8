/* listen.c - listening sockets, from an address as people write it.
 *
 * Diagnostics, each after the address as given: "not an address: ..." (what was expected), "permission denied: ports
 * below 1024 need CAP_NET_BIND_SERVICE; choose another or start as root", "address already in use: another program
 * listens there", "this machine has no such address". */
#include "dataplane/net/transport.h"

#include "spool/base/err.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BACKLOG = 4096, HOST_MAX = 64 };

struct net_address {
    struct sockaddr_storage ss[2];
    size_t n;
    bool any; /* "*": the second family may be missing on this machine */
};

__attribute__((format(printf, 4, 5))) static int net_refuse(char *why_r, const char *address, int err, const char *fmt,
                                                            ...)
{
    va_list ap;
    int n = snprintf(why_r, NET_WHY_MAX, "%.100s: ", address);
    va_start(ap, fmt);
    vsnprintf(why_r + n, NET_WHY_MAX - (size_t)n, fmt, ap);
    va_end(ap);
    return err;
}

static void net_address_add(struct net_address *a, const struct in_addr *v4, const struct in6_addr *v6, uint16_t port)
{
    struct sockaddr_storage *ss = &a->ss[a->n++];
    memset(ss, 0, sizeof *ss);
    if (v4) {
        struct sockaddr_in *in = (struct sockaddr_in *)ss;
        in->sin_family = AF_INET;
        in->sin_addr = *v4;
        in->sin_port = htons(port);
    } else {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;
        in6->sin6_family = AF_INET6;
        in6->sin6_addr = *v6;
        in6->sin6_port = htons(port);
    }
}

/* Decimal, 0..65535, nothing else; -1 otherwise. */
static int net_port_parse(const char *s)
{
    size_t n = strlen(s);
    if (n < 1 || n > 5 || strspn(s, "0123456789") != n)
        return -1;
    int port = atoi(s);
    return port <= 65535 ? port : -1;
}

/* "host:port" -> host without brackets; the port, or -1. */
static int net_address_split(const char *address, char host_r[HOST_MAX], bool *bracket_r)
{
    const char *colon = strrchr(address, ':');
    size_t n = colon ? (size_t)(colon - address) : 0;
    *bracket_r = n >= 2 && address[0] == '[' && address[n - 1] == ']';
    const char *host = address + *bracket_r;
    n -= 2u * *bracket_r;
    if (!colon || n == 0 || n >= HOST_MAX)
        return -1;
    memcpy(host_r, host, n);
    host_r[n] = 0;
    return net_port_parse(colon + 1);
}

static int net_address_parse(const char *address, struct net_address *a, char *why_r)
{
    char host[HOST_MAX];
    struct in_addr v4;
    struct in6_addr v6;
    bool bracket;
    *a = (struct net_address){0};
    int port = net_address_split(address, host, &bracket);
    if (port >= 0 && !bracket && strcmp(host, "*") == 0) {
        v4.s_addr = INADDR_ANY;
        a->any = true;
        net_address_add(a, &v4, NULL, (uint16_t)port);
        net_address_add(a, NULL, &in6addr_any, (uint16_t)port);
    } else if (port >= 0 && !bracket && inet_pton(AF_INET, host, &v4) == 1) {
        net_address_add(a, &v4, NULL, (uint16_t)port);
    } else if (port >= 0 && bracket && inet_pton(AF_INET6, host, &v6) == 1) {
        net_address_add(a, NULL, &v6, (uint16_t)port);
    } else {
        return net_refuse(why_r, address, -EINVAL,
                          "not an address: expected 127.0.0.1:2525, [::1]:2525 or *:25 (port 0 to 65535)");
    }
    return 0;
}

static int net_socket_open(const struct sockaddr_storage *ss, int *fd_r)
{
    int one = 1, fd = socket(ss->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    socklen_t len = ss->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0 ||
        (ss->ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) != 0) ||
        bind(fd, (const struct sockaddr *)ss, len) != 0 || listen(fd, BACKLOG) != 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    *fd_r = fd;
    return 0;
}

static int net_listen_refuse(const char *address, int err, char *why_r)
{
    switch (-err) {
    case EACCES:
        return net_refuse(
            why_r, address, err,
            "permission denied: ports below 1024 need CAP_NET_BIND_SERVICE; choose another or start as root");
    case EADDRINUSE:
        return net_refuse(why_r, address, err, "address already in use: another program listens there");
    case EADDRNOTAVAIL:
        return net_refuse(why_r, address, err, "this machine has no such address");
    default:
        return net_refuse(why_r, address, err, "%s", satchel_strerror(err));
    }
}

int net_listen(const char *address, int *fds_r, size_t cap, char *why_r)
{
    struct net_address a;
    int n = 0, err = net_address_parse(address, &a, why_r);
    if (err)
        return err;
    if (a.n > cap)
        return net_refuse(why_r, address, -EINVAL, "room for %zu sockets, %zu needed", cap, a.n);
    for (size_t i = 0; i < a.n; i++) {
        err = net_socket_open(&a.ss[i], &fds_r[n]);
        if (err == 0) {
            n++;
        } else if (!(a.any && i == 1 && (err == -EAFNOSUPPORT || err == -EADDRNOTAVAIL))) {
            while (n > 0)
                close(fds_r[--n]);
            return net_listen_refuse(address, err, why_r);
        }
    }
    return n;
}

int net_listen_check(const char *address, char *why_r)
{
    struct net_address a;
    return net_address_parse(address, &a, why_r);
}

int net_listen_port(int fd)
{
    struct sockaddr_in6 a = {0}; /* has the port where sockaddr_in has it */
    socklen_t len = sizeof a;
    return getsockname(fd, (struct sockaddr *)&a, &len) == 0 ? ntohs(a.sin6_port) : -errno;
}
