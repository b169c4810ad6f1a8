/* cluster_impl.h - what the files of the cluster's thread share.
 *
 *   cluster.c   open, the thread, close          copier.c   requests of the doors
 *   call.c      work handed to the thread        change.c   what operators change
 *   look.c      what other threads ask
 *   ask.c       the admin API of other nodes
 *   recipients.c  lists of recipients */
#pragma once
#include "cluster/cluster.h"
#include "cluster/domains/directory.h"
#include "spool/base/err.h"
#include "spool/base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

struct ask;
struct blobs;

struct cluster {
    struct cluster_config cfg;
    struct spool *spool;
    struct domains *domains;
    const struct clock *clock;
    /* The cores' clock: it stands still while one of them acts, so that no time is before one that was noted earlier in
     * the same step. */
    struct clock turn;
    atomic_uint_fast64_t turn_us;
    struct rng rng;
    struct storage_id self;
    char *cache_path;

    /* the thread's */
    struct coord *coord;
    struct peers *peers;
    struct storage *storage;
    struct gate *gate;
    struct node *node;
    struct directory *directory;
    struct change *changes;
    bool settled; /* a request was settled in this turn: the doors are to be rung */
    bool left;
    struct storage_id known; /* the cluster whose domains are read; zero: the first that is seen decides */
    bool import;             /* first start in a cluster: the domains of this node are brought along */
    pthread_t thread;
    bool running;
    atomic_bool stopping;
    int epoll;

    struct copier copier;
    struct mailbox requests; /* struct copy_request, from the doors */
    struct mailbox calls;    /* struct call */

    pthread_mutex_t map_lock; /* guards the pointer for as long as it takes to count a reference */
    const struct cmap *map;

    struct asks *asks;
    struct blobs *blobs;
};

/* ---- copier.c */
void copier_init(struct cluster *c);
void copier_take(struct cluster *c);

/* ---- call.c: a function that the cluster's thread runs while the caller waits.
 * A call that is not over when the caller's patience ends goes on alone; so its arguments and results live in it. */
struct call {
    struct mail mail;
    atomic_uint refs;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool over;
    int res;
    char why[256];
    void (*run)(struct cluster *c, struct call *call);
    void (*destroy)(struct call *call); /* NULL: nothing of its own */
};

/* size: of the struct that begins with the call; zeroed.  NULL: no memory. */
void *call_new(size_t size, void (*run)(struct cluster *c, struct call *call));
/* Waits; gives the result.  -SATCHEL_EAGAIN: not over in time.  The reference stays the caller's. */
int call_wait(struct cluster *c, struct call *call, uint64_t wait_us);
void call_unref(struct call *call);
/* The thread: the call is over. why may be NULL. */
void call_end(struct call *call, int res, const char *why);
void calls_take(struct cluster *c);

/* ---- change.c */
/* A map that is new to them: changes that lost a race try again.  Also called each turn for their deadlines. */
void changes_tick(struct cluster *c, bool new_map);
void changes_close(struct cluster *c);

/* ---- ask.c */
int asks_open(struct cluster *c);
void asks_close(struct cluster *c);
void asks_frame(struct cluster *c, const struct storage_id *from, uint16_t type, struct slice payload);
/* Answers that are ready go out; questions whose node went away end. */
void asks_tick(struct cluster *c);

/* ---- recipients.c */
int blobs_open(struct cluster *c);
void blobs_close(struct cluster *c);
void blobs_frame(struct cluster *c, const struct storage_id *from, uint16_t type, struct slice payload);
void blobs_tick(struct cluster *c);
uint64_t blobs_next_us(const struct cluster *c);
