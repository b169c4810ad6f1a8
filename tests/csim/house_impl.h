/* house_impl.h - what the files of a storage on a simulated disk share; see depot_house.c. */
#pragma once
#include "spool/base/err.h"
#include "spool/base/wire.h"
#include "spool/queue/fresh.h"
#include "tests/csim/depot.h"
#include "tests/sim/house.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

#define CAPACITY_BYTES (64u * 1024 * 1024)

/* What is told in the next poll. */
struct answer {
    struct answer *next;
    struct storage_put *put;
    struct storage_merge *merge;
    int res;
    struct storage_state tap; /* neither put nor merge */
    uint8_t bytes[256 + LETTER_STORES_MAX * 16];
};

struct house_depot {
    struct depot depot;
    struct storage storage;
    struct storage_id id;
    struct depot_env env;
    struct rng rng;
    struct simdisk *disk;
    struct house h;
    struct fresh *fresh;
    bool running, dying, full;
    struct answer *answers, **answers_tail;
    uint32_t hot;
    void (*tap)(void *arg, const struct storage_state *st);
    void *tap_arg;
    uint8_t has[LETTERS_MAX]; /* enum depot_has when the process ended */
    uint8_t tomb[QUEUE_TOMB_BYTES];
    uint64_t reclaim_us;
};

static inline struct house_depot *of(struct depot *d)
{
    return (struct house_depot *)d;
}

static inline struct house_depot *of_storage(struct storage *s)
{
    return (struct house_depot *)((char *)s - offsetof(struct house_depot, storage));
}

static inline struct world *house_world(const struct house_depot *d)
{
    return d->depot.w;
}

/* UINT32_MAX: none of the world's. */
uint32_t house_domain(const struct house_depot *d, struct slice name);
/* The disk's clock is brought up to the world's. */
void house_disk_follow(struct house_depot *d);
void house_wake(struct house_depot *d, uint64_t at_us);

/* ---- house_storage.c */
extern const struct storage_ops house_storage_ops;
void house_answers_tell(struct house_depot *d);
void house_ready(void *arg, struct slice domain);
void house_changed(void *arg, const struct storage_state *st);

/* ---- house_outlet.c */
struct outlet *house_outlet_open(struct house_depot *d);
