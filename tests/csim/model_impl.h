/* model_impl.h - what the files of the model of a storage share; see depot_model.c. */
#pragma once
#include "spool/base/err.h"
#include "spool/base/wire.h"
#include "tests/csim/depot.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

#define CHUNKS_MAX 8
#define OWED_MAX   LETTER_STORES_MAX
#define LAZY_US    10000u

/* A record with all that it borrows. */
struct blob {
    struct record rec;
    uint8_t data[];
};

enum copy_what { COPY_NONE, COPY_LIVE, COPY_TOMB };

struct copy {
    enum copy_what what;
    bool claimed, damaged;
    struct blob *msg, *chunks[CHUNKS_MAX];
    uint32_t chunks_n; /* that the MSG speaks of */
    struct msg_state state;
    struct storage_id owed[OWED_MAX];
    uint32_t owed_n;
    uint64_t clear_us; /* a tombstone: owed is empty since */
    bool over;         /* claimed, and its end came from elsewhere: */
    bool late_tell;
    struct msg_state late;
    uint8_t late_owed[OWED_MAX * 16];
    size_t late_owed_n;
};

enum op_kind { OP_PUT, OP_MERGE, OP_FORGET, OP_FINISH, OP_CONFIRM, OP_SETTLED, OP_RETIRE };

struct op {
    struct op *next;
    enum op_kind kind;
    uint64_t due_us;
    int res; /* known when it was handed in: refused */
    struct storage_put *put;
    struct storage_merge *merge;
    bool holds; /* a MERGE that keeps the message from being claimed */
    struct storage_id who;
    struct msg_state state; /* FINISH */
    struct msgid *ids;
    size_t ids_n;
};

struct model {
    struct depot depot;
    struct storage storage;
    struct storage_id id;
    struct rng rng;
    struct depot_env env;
    struct copy *copies[LETTERS_MAX];     /* by letter */
    uint32_t order[LETTERS_MAX], order_n; /* live ones: by domain, arrival, ID */
    struct op *ops, **ops_tail;
    uint64_t last_due_us, slow_us, tomb_us;
    bool full, running, dying;
    uint32_t hot; /* bit d: domain d has mail that its outlet has not heard of */
    void (*tap)(void *arg, const struct storage_state *st);
    void *tap_arg;
    uint8_t owed_bytes[OWED_MAX * 16];
};

static inline struct model *of(struct depot *d)
{
    return (struct model *)d;
}

static inline struct model *of_storage(struct storage *s)
{
    return (struct model *)((char *)s - offsetof(struct model, storage));
}

static inline struct world *model_world(const struct model *m)
{
    return m->depot.w;
}

static inline struct letter *model_letter_at(const struct model *m, uint32_t number)
{
    return &model_world(m)->letters.all[number];
}

static inline uint32_t model_u32(struct slice v)
{
    struct wire_rd r = wire_rd(v);
    return wire_u32(&r);
}

/* ---- model_copies.c: the table */
struct letter *model_letter(struct model *m, const struct msgid *id);
struct copy *model_copy(struct model *m, const struct msgid *id);
struct copy *model_copy_need(struct model *m, const struct letter *l);
uint32_t model_place(const struct model *m, const struct letter *l);
void model_order_add(struct model *m, const struct letter *l);
void model_order_remove(struct model *m, const struct letter *l);
struct blob *model_blob(const struct storage_put *p);
void model_copy_empty(struct copy *c);
void model_owed_add(struct model *m, struct copy *c, struct slice uuids);
void model_owed_remove(struct model *m, struct copy *c, const struct storage_id *who);
struct storage_state model_state(struct model *m, const struct letter *l, const struct copy *c);
void model_bury(struct model *m, const struct letter *l, struct copy *c);
bool model_copy_whole(const struct copy *c);
void model_copy_abort(struct model *m, const struct letter *l, struct copy *c);
uint32_t model_domain(const struct model *m, struct slice name);
void model_bag_stat(struct model *m, uint32_t domain, struct bag_stat *st_r);

/* ---- model_changes.c: what is on its way into the table */
void model_push(struct model *m, struct op *o, bool lazy);
struct op *model_op(enum op_kind kind);
void model_op_ids(struct op *o, const struct msgid *ids, size_t n);
int model_do(struct model *m, struct op *o);
/* Claimed, and this came: one union of all of it. */
void model_late_keep(struct copy *c, const struct storage_state *st);
/* Given back: the end that came meanwhile is taken in (at once, not lazily as in a log). */
void model_late_end(struct model *m, const struct letter *l);
void model_op_end(struct op *o, int res);
struct op *model_op_pop(struct model *m);

/* ---- model_storage.c, model_outlet.c: the two doors */
extern const struct storage_ops model_storage_ops;
struct outlet *model_outlet_open(struct model *m);
