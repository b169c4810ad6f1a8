/* resolve.h - the addresses of a node, without waiting for them: a thread asks the system's resolver, the owner looks
 * now and then whether it has answered.  Numeric addresses are there at once. */
#pragma once
#include "cluster/link/sock.h"

struct resolve;

struct resolved {
    struct sock_addr addrs[SOCK_ADDRS_MAX];
    size_t n;
    char why[WHY_MAX]; /* n == 0 */
};

/* "host:port".  NULL: no memory. */
struct resolve *resolve_start(const char *address);
/* False: not yet. */
bool resolve_done(struct resolve *r, struct resolved *out_r);
/* Also while the answer is outstanding; NULL is fine. */
void resolve_drop(struct resolve **r);
