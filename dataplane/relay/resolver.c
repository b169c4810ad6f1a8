/* resolver.c - c-ares on the relay's epoll set. */
#include "dataplane/relay/resolver.h"

#include "dataplane/relay/watch.h"
#include "spool/base/err.h"

#include <ares.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>

struct dns_socket {
    struct watch w;
    struct resolver *r;
};

struct resolver {
    ares_channel channel;
    int epfd;
    uint32_t pending;
    struct dns_socket sockets[ARES_GETSOCK_MAXNUM];
};

struct resolver_query {
    struct resolver *r;
    resolver_done *done; /* NULL: cancelled */
    void *arg;
    bool *answered; /* set while resolver_lookup is on the stack */
};

/* ---- sockets */

static void socket_event(void *arg, uint32_t events)
{
    struct dns_socket *s = arg;
    int fd = s->w.fd;
    ares_process_fd(s->r->channel, events & (EPOLLIN | EPOLLERR | EPOLLHUP) ? fd : ARES_SOCKET_BAD,
                    events & EPOLLOUT ? fd : ARES_SOCKET_BAD);
}

static struct watch *watch_of(struct resolver *r, int fd)
{
    for (size_t i = 0; i < ARES_GETSOCK_MAXNUM; i++)
        if (r->sockets[i].w.fd == fd)
            return &r->sockets[i].w;
    return NULL;
}

static void socket_state(void *arg, ares_socket_t fd, int readable, int writable)
{
    struct resolver *r = arg;
    uint32_t events = (readable ? (uint32_t)EPOLLIN : 0) | (writable ? (uint32_t)EPOLLOUT : 0);
    struct watch *w = watch_of(r, fd);
    if (w && !events) {
        watch_remove(r->epfd, w);
    } else if (w) {
        watch_change(r->epfd, w, events);
    } else if (events && (w = watch_of(r, -1))) {
        w->fd = fd;
        watch_add(r->epfd, w, events);
    }
}

/* ---- opening */

static int set_servers(struct resolver *r, const char *const *servers)
{
    char csv[512] = "";
    size_t n = 0;
    for (; servers && *servers && n < sizeof csv; servers++)
        n += (size_t)snprintf(csv + n, sizeof csv - n, "%s%s", n ? "," : "", *servers);
    if (n == 0)
        return 0;
    return n < sizeof csv && ares_set_servers_ports_csv(r->channel, csv) == ARES_SUCCESS ? 0 : -SATCHEL_EINVAL;
}

int resolver_open(struct resolver **r_r, int epfd, const char *const *nameservers)
{
    struct resolver *r = calloc(1, sizeof *r);
    if (!r)
        return -SATCHEL_ENOMEM;
    r->epfd = epfd;
    for (size_t i = 0; i < ARES_GETSOCK_MAXNUM; i++)
        r->sockets[i] = (struct dns_socket){{-1, socket_event, &r->sockets[i]}, r};
    struct ares_options o = {
        .timeout = 2000, .tries = 2, .ndomains = 0, .sock_state_cb = socket_state, .sock_state_cb_data = r};
    int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_DOMAINS | ARES_OPT_SOCK_STATE_CB;
    ares_library_init(ARES_LIB_INIT_ALL);
    if (ares_init_options(&r->channel, &o, mask) != ARES_SUCCESS) {
        free(r);
        return -SATCHEL_EINVAL;
    }
    *r_r = r;
    int rc = set_servers(r, nameservers);
    if (rc < 0)
        resolver_close(r_r);
    return rc;
}

void resolver_close(struct resolver **r)
{
    if (!*r)
        return;
    ares_destroy((*r)->channel); /* ends what is under way with ARES_EDESTRUCTION */
    ares_library_cleanup();
    free(*r);
    *r = NULL;
}

/* ---- lookups */

static enum route_found found_of(int status)
{
    switch (status) {
    case ARES_SUCCESS:
        return ROUTE_FOUND;
    case ARES_ENOTFOUND:
    case ARES_EBADNAME:
        return ROUTE_NO_NAME;
    case ARES_ENODATA:
        return ROUTE_NO_DATA;
    default:
        return ROUTE_FAILED;
    }
}

static void finish(struct resolver_query *q, int status, const struct route_addr *addrs, struct route_mx *mx, size_t n)
{
    q->r->pending--;
    if (q->answered)
        *q->answered = true;
    if (q->done && status != ARES_EDESTRUCTION && status != ARES_ECANCELLED)
        q->done(q->arg, found_of(status), addrs, mx, n);
    free(q);
}

static void on_addrs(void *arg, int status, int timeouts, struct ares_addrinfo *ai)
{
    struct route_addr addrs[ROUTE_ADDRS_MAX] = {0};
    size_t n = 0;
    (void)timeouts;
    for (struct ares_addrinfo_node *x = ai ? ai->nodes : NULL; x && n < ROUTE_ADDRS_MAX; x = x->ai_next) {
        if (x->ai_addrlen > sizeof addrs[n])
            continue;
        memcpy(&addrs[n++], x->ai_addr, x->ai_addrlen);
    }
    finish(arg, status == ARES_SUCCESS && n == 0 ? ARES_ENODATA : status, addrs, NULL, n);
    if (ai)
        ares_freeaddrinfo(ai);
}

static void on_mx(void *arg, int status, int timeouts, unsigned char *answer, int len)
{
    struct route_mx mx[ROUTE_HOSTS_MAX];
    struct ares_mx_reply *list = NULL;
    size_t n = 0;
    (void)timeouts;
    if (status == ARES_SUCCESS)
        status = ares_parse_mx_reply(answer, len, &list);
    for (struct ares_mx_reply *x = list; x && n < ROUTE_HOSTS_MAX; x = x->next, n++) {
        snprintf(mx[n].host, sizeof mx[n].host, "%s", x->host);
        mx[n].preference = x->priority;
    }
    finish(arg, status, NULL, mx, n);
    if (list)
        ares_free_data(list);
}

struct resolver_query *resolver_lookup(struct resolver *r, enum route_lookup what, const char *name,
                                       resolver_done *done, void *arg)
{
    struct resolver_query *q = calloc(1, sizeof *q);
    if (!q) {
        done(arg, ROUTE_FAILED, NULL, NULL, 0);
        return NULL;
    }
    bool answered = false;
    *q = (struct resolver_query){r, done, arg, &answered};
    r->pending++;
    if (what == ROUTE_LOOKUP_MX) {
        ares_query(r->channel, name, ns_c_in, ns_t_mx, on_mx, q);
    } else {
        struct ares_addrinfo_hints h = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
        ares_getaddrinfo(r->channel, name, NULL, &h, on_addrs, q);
    }
    if (answered)
        return NULL;
    q->answered = NULL;
    return q;
}

void resolver_cancel(struct resolver_query *q)
{
    q->done = NULL;
}

void resolver_tick(struct resolver *r)
{
    if (r->pending)
        ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}

int resolver_wait_ms(struct resolver *r)
{
    struct timeval tv, *t = r->pending ? ares_timeout(r->channel, NULL, &tv) : NULL;
    return t ? (int)(t->tv_sec * 1000 + t->tv_usec / 1000 + 1) : -1;
}
