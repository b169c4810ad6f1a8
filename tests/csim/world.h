/* world.h - the simulated world: several nodes, their disks, the network between them, coordination, clients and sinks,
 * in one thread under virtual time.
 *
 *   client --SMTP--> simnode (front-end, cluster/node.h, gate, relay) --final dot--> sink
 *                      |            |                |
 *                    depot       simnet           simcoord
 *
 * Everything that may do something is an actor with the time of its next turn; the world runs the earliest, over and
 * over.  Whatever is drawn comes from the seed: same seed, same history.  Nothing here knows how the cluster works
 * inside: it sees records, frames, keys and final dots, and judges by those (letters.h, checks.h). */
#pragma once
#include "cluster/map/map.h"
#include "spool/base/clock.h"
#include "spool/base/rng.h"
#include "tests/csim/letters.h"
#include "tests/sim/trace.h"

#define WORLD_NODES_MAX   5
#define WORLD_DOMAINS     8
#define WORLD_CLIENTS_MAX 10
#define WORLD_ACTORS_MAX  64
#define WORLD_START_US    1000000u /* boot clock at the beginning */
#define SECOND_US         1000000u

struct simcoord;
struct simnet;
struct simnode;
struct depot;

struct actor {
    uint64_t at_us; /* UINT64_MAX: sleeps */
    void (*run)(void *arg);
    void *arg;
};

/* A storage: a disk with a UUID, in the one machine that it was built into. */
struct world_store {
    struct storage_id id;
    struct depot *depot;
    uint64_t disk_us; /* each write takes so much longer */
    uint32_t node;
    bool gone; /* wiped, or its machine never comes back */
};

/* What the seed drew for this history; see plan.c. */
struct plan {
    const char *name;
    uint32_t nodes, clients, letters; /* letters: of each client */
    uint32_t shards, copies, acks;
    uint32_t dedicated;       /* the last so many nodes make a pool of their own; 0: one pool */
    uint32_t ttl_s, repair_s; /* leases; repair delay */
    uint64_t busy_us;         /* how long mail and faults go on */
    bool prepared;            /* the operator made meta and pools before the first node */
    bool quirks;              /* sinks refuse and put off some items */
    bool chunked;             /* some letters are large */
    bool skewed;              /* wall clocks differ */
    bool newer;               /* a node speaks a newer protocol and sends frames that nobody knows */
    bool house;               /* real spools on simulated disks */
    uint32_t sinks_down_pct;
    uint64_t disk_us;       /* writes take up to so much longer, always: no fault, and no excuse */
    uint32_t crawl_pct;     /* of messages: the primary takes seconds, perhaps longer than a lease */
    uint32_t fault_gap_ms;  /* mean time between faults; 0: none */
    const uint8_t *weights; /* of each kind of fault: see faults.def */
    bool faults, planned;   /* which classes the weights draw from */
};

struct world {
    uint64_t now_us;
    struct rng rng;
    struct plan plan;
    struct actor actors[WORLD_ACTORS_MAX];
    uint32_t actors_n;
    struct letters letters;
    struct simcoord *coord;
    struct simnet *net;
    struct simnode *nodes[WORLD_NODES_MAX];
    struct world_store stores[LETTER_STORES_MAX];
    uint32_t stores_n;
    struct storage_id cluster;
    char domain_names[WORLD_DOMAINS][32];
    bool sink_down[WORLD_DOMAINS];
    uint32_t faults_on;       /* under way now */
    uint64_t faults_until_us; /* when the last one ended */
    bool healing;             /* the quiet end: no new faults, no new mail */
    uint64_t turns;
    struct actor *judge;
    uint64_t look_us;
    char changed_key[CMAP_KEY_MAX]; /* in the store, not judged yet */
};

bool chance(struct rng *r, uint32_t percent);
/* Uniform in [lo, hi]. */
uint64_t between(struct rng *r, uint64_t lo, uint64_t hi);

/* The actor sleeps until it is woken. */
struct actor *world_actor(struct world *w, void (*run)(void *arg), void *arg);
void actor_wake(struct actor *a, uint64_t at_us);

struct world_tally {
    uint64_t letters, acked, duplicates, lost, turns; /* lost: excused, since enough disks were wiped */
};

/* One whole history; history.failed says how it went. */
void world_history(uint64_t seed, bool house, struct world_tally *tally);

/* ---- for those who judge */
struct slice world_domain(const struct world *w, uint32_t domain);
struct slice world_pool_of(const struct world *w, struct slice domain);
/* UINT32_MAX: no such storage. */
uint32_t world_store(const struct world *w, const struct storage_id *id);
void world_fault_begins(struct world *w);
void world_fault_ends(struct world *w);
/* A fault was under way at some time since then. */
bool world_faulty_since(const struct world *w, uint64_t us);
