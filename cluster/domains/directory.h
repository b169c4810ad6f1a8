/* directory.h - the domains of the cluster, kept in coordination; the registry of this node follows.
 *
 * Reading: a watch as a hint, a list of what changed every relist_us as the truth; each bucket that changed replaces
 * its part of the registry, which is on this node's disk too: coordination may be away for as long as it likes.
 * A bucket that coordination does not have changes nothing here.  Coordination whose meta is not ours is not read, nor
 * changed.  One that was restored from a snapshot is older than what we have seen: its domains are read anew, and those
 * that are here and not there are added again first, since a 550 would bounce mail for good.  Changing: read the
 * bucket, change one domain, compare-and-swap; again on a conflict.  Sans-I/O.  Thread: the cluster's. */
#pragma once
#include "cluster/coord/coord.h"
#include "dataplane/conf/domains.h"

struct directory;

struct directory_config {
    uint64_t relist_us; /* 10 s */
    uint64_t keep_s;    /* of domains that do not say */
    /* Is the coordination with this meta (kvs: its keys that begin so) the one of our cluster?  NULL: always. */
    bool (*ours)(void *arg, int64_t rev, const struct coord_kv *kvs, size_t n);
    void *ours_arg;
};

/* changed: this node changed a domain in coordination (others should look soon). */
int directory_open(struct directory **d_r, const struct directory_config *cfg, struct coord *coord,
                   struct domains *registry, const struct clock *clock, void (*changed)(void *arg), void *arg);
/* Changes under way end with -SATCHEL_ESHUT. */
void directory_close(struct directory **d);

/* res: 0, -SATCHEL_EEXIST, -SATCHEL_ENOENT, -SATCHEL_EAGAIN (unreachable; the outcome may be unknown). */
typedef void directory_done(void *arg, int res, const char *why);
enum directory_how { DIRECTORY_ADD, DIRECTORY_REPLACE, DIRECTORY_REMOVE };
/* dom is copied; for REMOVE only its name counts. */
int directory_change(struct directory *d, enum directory_how how, const struct domain *dom, directory_done *done,
                     void *arg);
/* Which list of recipients the domain has, hash "": none.  was: the list that this one replaces, -SATCHEL_EBUSY where
 * the domain has another one meanwhile; NULL: whichever it has.  DIRECTORY_REPLACE leaves the list as it is. */
int directory_recipients(struct directory *d, struct slice domain, const char *was, const char *hash, uint64_t n,
                         directory_done *done, void *arg);
/* Adds all domains of the registry that coordination does not have, a bucket at a time. */
void directory_import(struct directory *d);
/* Look now. */
void directory_refresh(struct directory *d);
void directory_tick(struct directory *d);
uint64_t directory_next_us(const struct directory *d);
