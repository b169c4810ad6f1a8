/* route.h - where a domain's mail goes: which names to look up, which addresses to try, in which order.  Sans-I/O: the
 * owner makes the lookups that route_ask() wants and hands their answers back.
 *
 *   route_begin | route_begin_mx,  while (route_ask()) route_answer_*(),  route_end(), then route_next() until one
 * works
 *
 * Names are looked up afresh at every attempt.  Where no name can be looked up for now (server failure, timeout), the
 * addresses that worked last are used again; a name that does not exist, or has no address, is no route, and never a
 * bounce: an operator's slip in the zone must not cost a customer's mail.
 *
 * Thread: its owner's.  No malloc: everything is bounded. */
#pragma once
#include "dataplane/conf/domains.h"
#include "spool/base/rng.h"

#include <netinet/in.h>
#include <sys/socket.h>

#define ROUTE_HOSTS_MAX 16 /* MX hosts considered */
#define ROUTE_ADDRS_MAX 32
#define ROUTE_LAST_MAX  8
#define ROUTE_TEXT_MAX  64 /* "[2001:db8::1]:25" */
#define ROUTE_SMTP_PORT 25

struct route_addr {
    union {
        struct sockaddr sa;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
    };
};

enum route_lookup {
    ROUTE_LOOKUP_ADDRS, /* A and AAAA */
    ROUTE_LOOKUP_MX,
};

enum route_found {
    ROUTE_FOUND,
    ROUTE_NO_NAME, /* NXDOMAIN */
    ROUTE_NO_DATA, /* the name exists and has nothing of this kind */
    ROUTE_FAILED,  /* no answer, or the server failed: for now */
};

struct route_mx {
    char host[PRIMARY_HOST_MAX]; /* "" or ".": null MX (RFC 7505) */
    uint16_t preference;
};

/* Addresses that the last good lookup gave; zero-initialised, kept by the owner between attempts. */
struct route_last {
    struct route_addr addrs[ROUTE_LAST_MAX];
    uint32_t n;
};

struct route {
    struct primary hosts[ROUTE_HOSTS_MAX];
    uint32_t hosts_n, asked; /* hosts[asked] is looked up next */
    bool mx_due, failed;
    char domain[DOMAIN_NAME_MAX]; /* for MX */
    struct route_addr addrs[ROUTE_ADDRS_MAX];
    uint32_t addrs_n, tried;
    char reason[160]; /* the last thing that went wrong on the way to an address */
};

void route_begin(struct route *r, const struct primary *primaries, size_t n);
/* RFC 5321 5.1: by the domain's MX, or its own address where it has none. */
void route_begin_mx(struct route *r, struct slice domain);

/* The next lookup to make; false: all are made.  name_r borrows from r. */
bool route_ask(struct route *r, enum route_lookup *what_r, const char **name_r);
/* Answers what route_ask asked.  addrs carry no port yet. */
void route_answer_addrs(struct route *r, enum route_found found, const struct route_addr *addrs, size_t n);
/* rng: servers of equal preference are tried in random order (RFC 5321 5.1). */
void route_answer_mx(struct route *r, enum route_found found, struct route_mx *mx, size_t n, struct rng *rng);
/* After the last answer: falls back to `last` where lookups failed, or renews it. */
void route_end(struct route *r, struct route_last *last);

/* The next address to try; false: none is left. */
bool route_next(struct route *r, struct route_addr *a_r);

/* "192.0.2.1:25", "[::1]:25" */
void route_addr_text(const struct route_addr *a, char out_r[ROUTE_TEXT_MAX]);
/* An address literal without brackets; false: not one. */
bool route_addr_parse(const char *text, uint16_t port, struct route_addr *a_r);
uint16_t route_addr_port(const struct route_addr *a);
socklen_t route_addr_len(const struct route_addr *a);

/* Is this address one of the listeners ("192.0.2.1:25", "[::]:25", "*:25"; NULL-terminated)?  A wildcard stands for
 * every address of this machine, which `local` tells. */
bool route_is_self(const struct route_addr *a, const char *const *listeners, bool (*local)(const struct route_addr *a));
/* Is the address configured on this machine?  Asks the kernel. */
bool route_addr_local(const struct route_addr *a);
