/* peer.h - one storage that we should be linked with: whether we dial it, how it is going, what to tell the operator.
 *
 * The storage with the smaller UUID dials.  After a failure it waits 50 ms, then twice as long each time, up to 2 s,
 * each time less a random part; a link that stood for a second starts that anew. */
#pragma once
#include "cluster/link/link.h"
#include "cluster/link/resolve.h"
#include "spool/base/rng.h"

struct peer {
    struct peer_addr addr;
    struct peer *next; /* of those that are not wanted any more */
    bool dials;        /* we dial it */
    bool told;         /* the app thinks it is up */
    struct link *link; /* UP, or dead and not buried yet */
    struct link *dial; /* on its way to UP */
    struct resolve *resolve;
    struct resolved found;
    size_t tried; /* of found */
    uint64_t due_us, backoff_us;
    uint64_t since_us, complained_us;
    uint64_t up_us;          /* the last link is up since; 0: was never, or its end is known */
    uint64_t sent, received; /* on links before this one */
    struct peer_hello hello;
    char why[WHY_MAX];
};

struct peer *peer_new(const struct storage_id *self, const struct peer_addr *addr, uint64_t now_us);
void peer_free(struct peer *p);
/* A new address, of the same storage and name. */
void peer_move(struct peer *p, const struct peer_addr *addr, uint64_t now_us);
/* Dials when that is due; returns when to look again. */
uint64_t peer_tick(struct peer *p, struct links *ls, struct rng *rng, uint64_t now_us);
void peer_linked(struct peer *p, struct link *l, uint64_t now_us);
/* The link, or the attempt, has ended. */
void peer_lost(struct peer *p, struct rng *rng, uint64_t now_us, const char *why);
/* A warning in the log, at most once a minute. */
void peer_complain(struct peer *p, const char *event, uint64_t now_us);
void peer_info(const struct peer *p, struct peer_info *info_r);
