/* depot.h - a storage of the simulated world: a disk that survives, and the process side that does not.
 *
 *   boot -> storage door, outlet door -> crash | close -> boot ...
 *
 * Two kinds fill the table: the model (a table in memory that knows what is durable and what is not yet: fast), and the
 * house (the product's log, index and queue on a simulated disk).  Whatever becomes durable is noted in the letters.
 * Thread: one; time is the world's. */
#pragma once
#include "spool/outlet.h"
#include "spool/storage.h"
#include "tests/csim/world.h"

enum depot_has { DEPOT_NONE, DEPOT_LIVE, DEPOT_FINAL };

/* What the process side asks of its node. */
struct depot_env {
    const struct clock *clock;
    /* As copier_ops.holders. */
    size_t (*holders)(void *arg, struct slice domain, uint8_t *uuids_r, size_t cap);
    void *arg;
};

struct depot_ops {
    /* A new process; 0, or an error (only the house: an operator must make room). */
    int (*boot)(struct depot *d, const struct depot_env *env);
    /* The process is dead: done callbacks of what was under way run with -SATCHEL_ESHUT, and nothing of it counts. */
    void (*crash)(struct depot *d, bool power);
    /* What a process that started now would find.  True also while none runs. */
    enum depot_has (*has)(struct depot *d, const struct letter *l);
    /* The process that runs was told that the message, or some of it, ended elsewhere, and its relay holds it. */
    bool (*over)(struct depot *d, const struct letter *l);
    /* Flips bits in the message's records; false: it is not live here. */
    bool (*damage)(struct depot *d, const struct letter *l);
    bool (*damaged)(struct depot *d, const struct letter *l);
    /* Each write and sync takes so much longer. */
    void (*slow)(struct depot *d, uint64_t us);
    void (*full)(struct depot *d, bool full);
    uint64_t (*next_us)(struct depot *d);
    void (*destroy)(struct depot **d);
};

struct depot {
    const struct depot_ops *ops;
    struct world *w;
    uint32_t number;         /* of the storage in the world */
    uint64_t arrival_us;     /* of the newest message that this process has seen */
    struct storage *storage; /* NULL: no process */
    struct outlet *outlet;   /* the node's, which closes it; made anew by each boot */
    bool tombs_go;           /* tombstones end early, so that ending them is tried at all */
};

struct depot *depot_model_open(struct world *w, uint32_t number, const struct storage_id *id);
struct depot *depot_house_open(struct world *w, uint32_t number, const struct storage_id *id);
