/* resolver.h - lookups for route.h through c-ares, on the relay's epoll set.  The only file that knows c-ares.
 *
 * Thread: the relay's.  An answer may come before resolver_lookup returns (address in /etc/hosts, no name server). */
#pragma once
#include "dataplane/relay/route.h"

struct resolver;
struct resolver_query;

/* found == ROUTE_FOUND: addrs (no port) or mx, borrowed until return; the other is NULL.  Runs exactly once, unless the
 * query was cancelled. */
typedef void resolver_done(void *arg, enum route_found found, const struct route_addr *addrs, struct route_mx *mx,
                           size_t n);

/* nameservers: "127.0.0.1:5353", NULL-terminated; NULL or empty: the system's. Search domains are never used: a
 * primary's name is whole.  0 or -SATCHEL_E*. */
int resolver_open(struct resolver **r_r, int epfd, const char *const *nameservers);
void resolver_close(struct resolver **r);
/* NULL: it was answered already. */
struct resolver_query *resolver_lookup(struct resolver *r, enum route_lookup what, const char *name,
                                       resolver_done *done, void *arg);
void resolver_cancel(struct resolver_query *q);
/* Call once a turn: timeouts of queries. */
void resolver_tick(struct resolver *r);
/* Milliseconds until resolver_tick has something to do; -1: nothing is under way. */
int resolver_wait_ms(struct resolver *r);
