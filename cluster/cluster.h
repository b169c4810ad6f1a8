/* cluster.h - a node of a cluster as the daemon sees it: a thread around the cores of node.h, with etcd, TLS links and
 * the spool's storage door below them.
 *
 *   cluster_open     before any door of the spool is opened: it puts its copier into the spool
 *   cluster_outlet   wraps the relay's door: only shards that this node owns under its lease come through
 *   cluster_start    the thread runs; mail can be accepted as soon as there is a map (the cached one will do)
 *   cluster_leave    orderly stop: shards are handed over, the lease is given back
 *   cluster_close    after the doors are closed
 *
 * Thread: these from the composition root; the rest from any thread. Errors: negative SATCHEL_E*, with words for the
 * operator in why_r (CLUSTER_WHY_MAX) that name the remedy. */
#pragma once
#include "cluster/node.h"
#include "dataplane/conf/domains.h"
#include "spool/spool.h"

#define CLUSTER_WHY_MAX 512

struct cluster;

struct cluster_config {
    const char *node, *name; /* this node; the cluster (part of the prefix in etcd) */
    const char *data_dir;    /* cluster.map is kept there */
    const char *const *etcd; /* endpoints; empty: this node alone, coordination in memory */
    const char *etcd_ca, *etcd_cert, *etcd_key, *etcd_user, *etcd_password_file; /* "" or NULL: none */
    const char *listen, *address; /* of the peer port: where to bind; what others dial */
    const char *ca, *cert, *key;  /* PEM files of the links between nodes */
    const char *shared_dir;  /* the log lies below it, on a file system that other nodes mount, too; "": it does not */
    struct storage_id mount; /* its UUID (cluster/shared/mount.h) */
    const char *zone, *pool;
    uint32_t weight, lease_s;
    uint32_t copies, acks, shards; /* of a pool that this node is the first of */
};

/* What is given is borrowed while the cluster lives, except the strings. */
int cluster_open(struct cluster **c_r, const struct cluster_config *cfg, struct spool *spool, struct domains *domains,
                 const struct clock *clock, char *why_r);
int cluster_outlet(struct cluster *c, struct outlet *inner, struct outlet **o_r);
int cluster_start(struct cluster *c, char *why_r);
/* Waits at most wait_us. */
void cluster_leave(struct cluster *c, uint64_t wait_us);
void cluster_close(struct cluster **c);

/* ---- looking */

/* A reference; NULL: no map yet. */
const struct cmap *cluster_map(struct cluster *c);
const char *cluster_node_name(const struct cluster *c);
/* UINT32_MAX: none (no map). */
uint32_t cluster_shard_of(struct cluster *c, const struct cmap *map, struct slice domain);
/* This node owns the domain's shard and delivers now. */
bool cluster_owns(struct cluster *c, struct slice domain);

struct cluster_status {
    struct node_info node;
    uint64_t now_us; /* boot clock of the times in it */
};
int cluster_status(struct cluster *c, struct cluster_status *st_r);

struct cluster_shard_status {
    enum owner_state state;
    uint32_t synced;          /* bits, as copies_synced; only the owner knows */
    uint64_t messages, bytes; /* here */
};
/* Of n shards from `first`. */
int cluster_shards(struct cluster *c, uint32_t first, uint32_t n, struct cluster_shard_status *st_r);

struct cluster_peer_status {
    char name[NODE_NAME_MAX];
    struct peer_info info;
};
/* Every other node of the map that we would be linked with; returns how many, fills at most cap. */
size_t cluster_peers(struct cluster *c, struct cluster_peer_status *st_r, size_t cap);

/* ---- changing; each waits until coordination has it, some seconds at most.  -SATCHEL_EAGAIN: coordination cannot be
 * reached, the outcome may be unknown. */

/* drain: refused with -SATCHEL_EBUSY where the others could not hold `acks` copies. */
int cluster_node_set(struct cluster *c, const char *node, enum node_state state, char *why_r);
/* Forgets a node that holds nothing (drained), or with `lost` one that will never come back: what only it had is lost,
 * and its name may be taken by a new storage. */
int cluster_node_remove(struct cluster *c, const char *node, bool lost, char *why_r);
/* A planned move of a shard's ownership to one of its members. */
int cluster_shard_move(struct cluster *c, uint32_t shard, const char *to, char *why_r);
/* pool NULL: the shared one; fields of 0 (fallback NULL) stay as they are; a pool that is not there is made. */
int cluster_pool_set(struct cluster *c, const char *pool, uint32_t copies, uint32_t acks, uint32_t shards,
                     const char *fallback, char *why_r);
int cluster_repair_delay(struct cluster *c, uint32_t seconds, char *why_r);

/* Domains live in coordination; the registry follows.  As domains_set and domains_remove. */
int cluster_domain_set(struct cluster *c, const struct domain *dom, bool replace, char *why_r);
int cluster_domain_remove(struct cluster *c, struct slice name, char *why_r);
/* Which list of recipients a domain has, hash "": none.  This node has the list (domains_recipients); before the domain
 * names it, it lies on as many storages as the domain's mail has acks, on two at least where another node lives.  was:
 * the list that it replaces, NULL: whichever; -SATCHEL_EBUSY: the domain has another one meanwhile. */
int cluster_recipients_set(struct cluster *c, struct slice domain, const char *was, const char *hash, uint64_t n,
                           char *why_r);

/* ---- the admin API of other nodes */

struct cluster_answer {
    uint32_t status; /* of HTTP */
    char *type;      /* content type */
    char *body;      /* malloc'ed, NUL-terminated */
    size_t n;
};
/* Asks a node; waits at most 30 s. body NULL: none.  -SATCHEL_ENOENT: no such node, or no link to it. */
int cluster_ask(struct cluster *c, const char *node, const char *method, const char *path, const char *body,
                struct cluster_answer *answer_r, char *why_r);
/* How questions from other nodes are answered: on a thread of the cluster's own, one at a time. */
void cluster_serve(struct cluster *c,
                   int (*serve)(void *arg, const char *method, const char *path, const char *body,
                                struct cluster_answer *answer_r),
                   void *arg);
