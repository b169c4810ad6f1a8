/* node.h - one node of a cluster: member, mapper, leader, copies and owner joined; no threads, no sockets.
 *
 *                    coord                      peers                 storage
 *        +-------------+--------------+           |                      |
 *     member        mapper         leader         |                      |
 *   lease, deadline   | map --> all    | CAS      |                      |
 *        |            v                ^ reports  v                      v
 *        +------>  owner  -------------+------- copies ------------------+
 *                    |  grants                    ^ copy_request
 *                    v                            |
 *                   gate  <-- relay            intake doors
 *
 * cluster.c gives it real tables and a thread; the simulator gives it simulated ones.  The caller polls coord, peers
 * and storage, then calls node_tick, and sleeps until node_next_us at most.  Thread: one. */
#pragma once
#include "cluster/copies/copies.h"
#include "cluster/map/leader.h"
#include "cluster/map/mapper.h"
#include "cluster/own/gate.h"
#include "cluster/own/member.h"
#include "cluster/own/owner.h"
#include "cluster/shared/adopt.h"

struct node;

struct node_config {
    struct member_config member;
    struct mapper_config mapper;
    struct leader_config leader;
    struct copies_config copies;
    struct owner_config owner;
    struct adopt_config adopt; /* dir NULL: the log lies on a disk of its own */
    const struct cmap *cached; /* from the file, or NULL; borrowed during the call */
};
/* Presets of all parts; the caller fills in the identity (member.self and cluster). */
void node_config_init(struct node_config *cfg);

struct node_env {
    const struct clock *clock;
    struct rng *rng;
    struct coord *coord;
    struct storage *storage;
    struct gate *gate;
    /* The pool of a domain; empty: shared. */
    struct slice (*pool_of)(void *arg, struct slice domain);
    void (*mapped)(void *arg, const struct cmap *map); /* a new map */
    void (*refused)(void *arg, const char *why);
    /* Frames that are not the cores': NOTICE, BLOB_*, ASK, ANSWER. */
    void (*frame)(void *arg, const struct storage_id *from, uint16_t type, struct slice payload);
    void *arg;
};

/* What peers should be given as app; between node_open and node_attach. */
struct peers_app node_peers_app(struct node *n);
int node_open(struct node **n_r, const struct node_config *cfg, const struct node_env *env);
/* After node_open and before the first tick.  0 or an error: then close. */
int node_attach(struct node *n, struct peers *peers);
void node_close(struct node **n);
void node_request(struct node *n, struct copy_request *r);
void node_tick(struct node *n);
/* Readable when the mail of dead nodes has news, after node_sleep said true; -1: there is no shared file system. */
int node_fd(const struct node *n);
bool node_sleep(struct node *n);
uint64_t node_next_us(const struct node *n);
/* Orderly stop: hand over, give the lease back; done once.  Where the lease is over, wait_us is two seconds at most. */
void node_leave(struct node *n, uint64_t wait_us, void (*done)(void *arg), void *arg);
/* NULL: none yet.  Borrowed until the next poll of coord. */
const struct cmap *node_map(const struct node *n);
/* Coordination was changed: read it again. */
void node_refresh(struct node *n);

/* ---- one shard, for the operator */
enum owner_state node_shard(const struct node *n, uint32_t shard);
uint32_t node_synced(struct node *n, uint32_t shard); /* as copies_synced */
void node_holds(struct node *n, uint32_t shard, uint64_t *messages_r, uint64_t *bytes_r);

struct node_info {
    struct member_info member;
    struct leader_info leader;
    struct owner_info owner;
    struct copies_info copies;
    struct adopt_info adopt;
    struct coord_info coord;
    struct storage_stat storage;
    int64_t map_rev;
    char map_refused[MAPPER_WHY_MAX]; /* see mapper_refused */
};
void node_info(struct node *n, struct node_info *info_r);
