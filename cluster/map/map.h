/* map.h - the cluster map: which nodes there are, which pools, and who stores and owns each shard.
 *
 * An immutable, reference-counted picture of what coordination holds, made anew on each change, cached in
 * DATA/cluster.map so that a node accepts mail without coordination.  Thread: any may hold a reference and read.
 *
 *   domain --(its pool; hash of its name)--> shard --> owner (relays), members (store, owner first), former
 *
 * Keys in coordination (values are JSON, see map_json.c):
 *
 *   meta                 {"id": cluster UUID, "version": least protocol version, "repair_delay_s": 60, ...}
 *   pools/NAME           {"copies": 3, "acks": 2, "shards": 64, "fallback": "shared"}
 *   nodes/NAME           {"storage": UUID, "address": "10.0.0.1:7400", "admin": "...", "zone": "", "pool": "shared",
 *                         "weight": 100, "state": "active", "shared": UUID of its mount, where it has one}
 *   live/NAME            {"storage": UUID, "boot": hex, "proto": 1, "wall_us": n}   under the node's lease
 *   leader               {"node": NAME, "storage": UUID}                            under the leader's lease
 *   shards/POOL/00042    {"owner": UUID, "members": [UUID...], "former": [UUID...], "next": UUID, "epoch": n} */
#pragma once
#include "cluster/coord/coord.h"
#include "spool/format/storageid.h"

#define NODE_NAME_MAX    64
#define POOL_NAME_MAX    32
#define NODE_ADDRESS_MAX 272
#define MEMBERS_MAX      8
#define FORMER_MAX       16
#define SHARDS_MAX       65536 /* of one pool */
#define POOL_COPIES_MAX  4     /* the old members and the new ones of a move fit in MEMBERS_MAX */
#define POOLS_MAX        1024
#define NODES_MAX        4096
#define POOL_SHARED      "shared"

/* active: takes part.  cordoned: keeps what it has, gets nothing new.  draining: everything leaves it.  drained:
 * nothing is left on it (proven). */
enum node_state { NODE_ACTIVE, NODE_CORDONED, NODE_DRAINING, NODE_DRAINED };
const char *node_state_name(enum node_state s);
bool node_state_parse(struct slice name, enum node_state *s_r);
/* Names of nodes and pools: 1 to max - 1 of A-Z a-z 0-9 . _ - and no dot in front. */
bool cmap_name_valid(struct slice name, size_t max);

struct map_node {
    char name[NODE_NAME_MAX];
    struct storage_id storage;
    char address[NODE_ADDRESS_MAX]; /* of its peer port, host:port */
    char admin[NODE_ADDRESS_MAX];   /* of its admin port for peers; empty: none */
    char zone[NODE_NAME_MAX];       /* failure domain; empty: one of its own */
    char pool[POOL_NAME_MAX];
    uint32_t weight; /* 1 .. 10000; 100 */
    enum node_state state;
    struct storage_id shared; /* of the file system that its log lies on (cluster/shared); zero: a disk of its own */
    int64_t mod_rev;
    bool live; /* its lease stands (as of rev) */
    uint64_t boot;
    uint32_t proto;
};

struct map_pool { /* NOLINT(clang-analyzer-optin.performance.Padding): in the order of its words */
    char name[POOL_NAME_MAX];
    uint32_t copies, acks, shards;
    char fallback[POOL_NAME_MAX]; /* its shards go there while none of its own nodes lives; empty: nowhere */
    int64_t mod_rev;
    int64_t create_rev; /* pools made later lie behind in map.shards: a new pool moves no shard's index */
    uint32_t first;     /* index of its shard 0 in map.shards */
};

struct map_shard {
    uint32_t pool, number;                  /* pool: index in map.pools */
    struct storage_id owner;                /* zero: nobody yet */
    struct storage_id next;                 /* zero, or to whom a planned hand-over is under way */
    struct storage_id members[MEMBERS_MAX]; /* who stores it, the owner among them */
    struct storage_id former[FORMER_MAX];   /* were members and have not shown yet that they hold nothing */
    uint8_t members_n, former_n;
    uint64_t epoch;  /* grows with each change of the owner */
    int64_t mod_rev; /* 0: not in coordination yet */
};

/* Made by cmap_decode, cmap_load or cmap_copy only: the lookups need what those put behind it. */
struct cmap {
    int64_t rev;               /* every key is as of this revision or a later one */
    struct storage_id cluster; /* the cluster's UUID; zero: none yet */
    uint32_t version;          /* least protocol version that all members speak */
    uint32_t repair_delay_s;   /* a dead node's copies are made again after so long; 60 */
    struct map_node *nodes;    /* sorted by name */
    struct map_pool *pools;    /* sorted by name */
    struct map_shard *shards;  /* of the pool that was made first, then of the next, ... */
    uint32_t nodes_n, pools_n, shards_n;
    char leader[NODE_NAME_MAX]; /* empty: none */
    int64_t leader_mod_rev, meta_mod_rev;
};

/* A whole map from a list of all keys (no prefix); kvs sorted by key.  Keys that are not known are left alone (mixed
 * versions), and so are shards of pools that are not there; unknown fields are dropped.  A malformed value is
 * -SATCHEL_EINVAL with the key named in why_r (256 bytes), and no map.  A shard without a key has mod_rev 0. */
int cmap_decode(const struct coord_kv *kvs, size_t n, int64_t rev, const struct cmap **map_r, char *why_r);
/* A map with the same content, of its own (a draft on the stack is fine: nodes and pools may come unsorted, `first` and
 * the order of shards must be right); NULL: no memory. */
const struct cmap *cmap_copy(const struct cmap *draft);
/* Values for coordination; malloc'ed text, NULL: no memory. */
char *cmap_node_encode(const struct map_node *n);
char *cmap_live_encode(const struct map_node *n, uint64_t wall_us);
char *cmap_pool_encode(const struct map_pool *p);
char *cmap_shard_encode(const struct map_shard *s);
char *cmap_meta_encode(const struct cmap *m);
char *cmap_leader_encode(const char *node, const struct storage_id *storage);
/* Keys; returns the length. */
#define CMAP_KEY_MAX 128
size_t cmap_shard_key(const struct cmap *m, const struct map_shard *s, char key_r[CMAP_KEY_MAX]);

/* The file that the map is cached in; whole and synced, or as it was.  load: -SATCHEL_ENOENT, -SATCHEL_EDAMAGED (its
 * checksum), -SATCHEL_EVERSION; why_r: 256 bytes, names the file and the remedy. */
int cmap_save(const struct cmap *m, const char *path);
int cmap_load(const char *path, const struct cmap **map_r, char *why_r);

const struct cmap *cmap_ref(const struct cmap *m);
void cmap_unref(const struct cmap *m); /* NULL is fine */

/* NULL: not there. */
const struct map_pool *cmap_pool(const struct cmap *m, struct slice name);
const struct map_node *cmap_node(const struct cmap *m, const char *name);
const struct map_node *cmap_storage(const struct cmap *m, const struct storage_id *id); /* O(log n) */
/* The shard of a domain in a pool (unknown or empty pool: shared); UINT32_MAX: the map has no such pool.  Part of the
 * format: XXH3-64 of the name in lower case, seeded with CMAP_DOMAIN_SEED, modulo the pool's shards. */
#define CMAP_DOMAIN_SEED 0x5a7c4e1d0ba6f00dULL
uint32_t cmap_shard_of(const struct cmap *m, struct slice pool, struct slice domain);
bool cmap_is_member(const struct map_shard *s, const struct storage_id *id);
bool cmap_is_former(const struct map_shard *s, const struct storage_id *id);
static inline const struct map_pool *cmap_shard_pool(const struct cmap *m, const struct map_shard *s)
{
    return &m->pools[s->pool];
}
