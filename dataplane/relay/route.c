/* route.c - where a domain's mail goes; see the header. */
#include "dataplane/relay/route.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void start(struct route *r)
{
    r->hosts_n = r->asked = r->addrs_n = r->tried = 0;
    r->mx_due = r->failed = false;
    r->reason[0] = r->domain[0] = 0;
}

void route_begin(struct route *r, const struct primary *primaries, size_t n)
{
    start(r);
    for (size_t i = 0; i < n && i < ROUTE_HOSTS_MAX; i++)
        r->hosts[r->hosts_n++] = primaries[i];
    if (n == 0)
        snprintf(r->reason, sizeof r->reason, "the domain has no primary");
}

void route_begin_mx(struct route *r, struct slice domain)
{
    start(r);
    snprintf(r->domain, sizeof r->domain, "%.*s", SLICE_FMT(domain));
    r->mx_due = true;
}

/* ---- addresses */

bool route_addr_parse(const char *text, uint16_t port, struct route_addr *a_r)
{
    memset(a_r, 0, sizeof *a_r);
    if (inet_pton(AF_INET, text, &a_r->in4.sin_addr) == 1) {
        a_r->in4.sin_family = AF_INET;
        a_r->in4.sin_port = htons(port);
        return true;
    }
    if (inet_pton(AF_INET6, text, &a_r->in6.sin6_addr) == 1) {
        a_r->in6.sin6_family = AF_INET6;
        a_r->in6.sin6_port = htons(port);
        return true;
    }
    return false;
}

uint16_t route_addr_port(const struct route_addr *a)
{
    return ntohs(a->sa.sa_family == AF_INET6 ? a->in6.sin6_port : a->in4.sin_port);
}

socklen_t route_addr_len(const struct route_addr *a)
{
    return a->sa.sa_family == AF_INET6 ? sizeof a->in6 : sizeof a->in4;
}

static void set_port(struct route_addr *a, uint16_t port)
{
    if (a->sa.sa_family == AF_INET6)
        a->in6.sin6_port = htons(port);
    else
        a->in4.sin_port = htons(port);
}

void route_addr_text(const struct route_addr *a, char out_r[ROUTE_TEXT_MAX])
{
    char ip[INET6_ADDRSTRLEN] = "?";
    bool six = a->sa.sa_family == AF_INET6;
    inet_ntop(a->sa.sa_family, six ? (const void *)&a->in6.sin6_addr : &a->in4.sin_addr, ip, sizeof ip);
    snprintf(out_r, ROUTE_TEXT_MAX, six ? "[%s]:%u" : "%s:%u", ip, route_addr_port(a));
}

static void add_addr(struct route *r, struct route_addr a, uint16_t port)
{
    if (r->addrs_n == ROUTE_ADDRS_MAX)
        return;
    set_port(&a, port);
    r->addrs[r->addrs_n++] = a;
}

/* ---- lookups */

bool route_ask(struct route *r, enum route_lookup *what_r, const char **name_r)
{
    struct route_addr a;
    if (r->mx_due) {
        *what_r = ROUTE_LOOKUP_MX;
        *name_r = r->domain;
        return true;
    }
    for (; r->asked < r->hosts_n; r->asked++) {
        const struct primary *h = &r->hosts[r->asked];
        if (!route_addr_parse(h->host, h->port, &a)) {
            *what_r = ROUTE_LOOKUP_ADDRS;
            *name_r = h->host;
            return true;
        }
        add_addr(r, a, h->port);
    }
    return false;
}

static const char *found_text(enum route_found f)
{
    static const char *const texts[] = {
        [ROUTE_FOUND] = "found",
        [ROUTE_NO_NAME] = "does not exist (NXDOMAIN)",
        [ROUTE_NO_DATA] = "has no address",
        [ROUTE_FAILED] = "could not be looked up",
    };
    return texts[f];
}

void route_answer_addrs(struct route *r, enum route_found found, const struct route_addr *addrs, size_t n)
{
    const struct primary *h = &r->hosts[r->asked++];
    for (size_t i = 0; found == ROUTE_FOUND && i < n; i++)
        add_addr(r, addrs[i], h->port);
    if (found == ROUTE_FOUND && n > 0)
        return;
    r->failed |= found == ROUTE_FAILED;
    snprintf(r->reason, sizeof r->reason, "%.100s %s", h->host,
             found_text(found == ROUTE_FOUND ? ROUTE_NO_DATA : found));
}

static void swap_mx(struct route_mx *a, struct route_mx *b)
{
    struct route_mx t = *a;
    *a = *b;
    *b = t;
}

/* By preference; ties in random order.  Stable insertion after a shuffle: n is small. */
static void order_mx(struct route_mx *mx, size_t n, struct rng *rng)
{
    for (size_t i = n; i > 1; i--)
        swap_mx(&mx[i - 1], &mx[rng_below(rng, i)]);
    for (size_t i = 1; i < n; i++)
        for (size_t k = i; k > 0 && mx[k - 1].preference > mx[k].preference; k--)
            swap_mx(&mx[k - 1], &mx[k]);
}

static void add_host(struct route *r, const char *name)
{
    if (r->hosts_n == ROUTE_HOSTS_MAX)
        return;
    struct primary *h = &r->hosts[r->hosts_n++];
    snprintf(h->host, sizeof h->host, "%s", name);
    h->port = ROUTE_SMTP_PORT;
}

static bool is_null_mx(const struct route_mx *mx)
{
    return mx->host[0] == 0 || strcmp(mx->host, ".") == 0;
}

void route_answer_mx(struct route *r, enum route_found found, struct route_mx *mx, size_t n, struct rng *rng)
{
    r->mx_due = false;
    if (found == ROUTE_NO_DATA || (found == ROUTE_FOUND && n == 0)) {
        add_host(r, r->domain); /* the implicit MX */
        return;
    }
    if (found != ROUTE_FOUND) {
        r->failed = found == ROUTE_FAILED;
        snprintf(r->reason, sizeof r->reason, "%.100s %s", r->domain, found_text(found));
        return;
    }
    if (n == 1 && is_null_mx(&mx[0])) {
        snprintf(r->reason, sizeof r->reason, "%.100s takes no mail (null MX)", r->domain);
        return;
    }
    order_mx(mx, n, rng);
    for (size_t i = 0; i < n; i++)
        if (!is_null_mx(&mx[i]))
            add_host(r, mx[i].host);
}

void route_end(struct route *r, struct route_last *last)
{
    if (r->addrs_n == 0 && r->failed) {
        memcpy(r->addrs, last->addrs, last->n * sizeof *last->addrs);
        r->addrs_n = last->n;
        return;
    }
    if (r->addrs_n == 0)
        return;
    last->n = r->addrs_n < ROUTE_LAST_MAX ? r->addrs_n : ROUTE_LAST_MAX;
    memcpy(last->addrs, r->addrs, last->n * sizeof *last->addrs);
}

bool route_next(struct route *r, struct route_addr *a_r)
{
    if (r->tried >= r->addrs_n)
        return false;
    *a_r = r->addrs[r->tried++];
    return true;
}

/* ---- ourselves */

bool route_addr_local(const struct route_addr *a)
{
    struct route_addr any_port = *a;
    set_port(&any_port, 0);
    int fd = socket(a->sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    bool local = bind(fd, &any_port.sa, route_addr_len(a)) == 0; /* only an own address can be bound */
    close(fd);
    return local;
}

static bool same_ip(const struct route_addr *a, const struct route_addr *b)
{
    if (a->sa.sa_family != b->sa.sa_family)
        return false;
    if (a->sa.sa_family == AF_INET6)
        return memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, sizeof a->in6.sin6_addr) == 0;
    return a->in4.sin_addr.s_addr == b->in4.sin_addr.s_addr;
}

static bool is_wildcard(const char *host)
{
    return strcmp(host, "*") == 0 || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0 || host[0] == 0;
}

/* "host:port" with optional brackets -> host (unbracketed) and port. */
static bool split_listener(const char *text, char *host_r, size_t cap, uint16_t *port_r)
{
    const char *colon = strrchr(text, ':');
    if (!colon)
        return false;
    bool brackets = text[0] == '[' && colon > text + 1 && colon[-1] == ']';
    const char *from = text + brackets, *to = colon - brackets;
    snprintf(host_r, cap, "%.*s", (int)(to - from), from);
    *port_r = (uint16_t)strtoul(colon + 1, NULL, 10);
    return true;
}

bool route_is_self(const struct route_addr *a, const char *const *listeners, bool (*local)(const struct route_addr *a))
{
    for (; listeners && *listeners; listeners++) {
        char host[PRIMARY_HOST_MAX];
        uint16_t port;
        struct route_addr own;
        if (!split_listener(*listeners, host, sizeof host, &port) || port != route_addr_port(a))
            continue;
        if (is_wildcard(host) ? local(a) : route_addr_parse(host, port, &own) && same_ip(a, &own))
            return true;
    }
    return false;
}
