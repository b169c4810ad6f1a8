/* lists.h - lists of recipients between nodes: who has one gives it to who asks, in pieces.
 *
 * Coordination holds the names of lists only (dataplane/conf/recipients.h).  Who sets a list pushes it to some nodes
 * before a domain names it; a node that hears of a domain whose list it has not asks the others, one after the other,
 * a few lists at a time.  A link is given little at once, so that the records of mail do not wait behind a list.
 * Sans-I/O: reading and keeping are asked for and end later.  Thread: one. */
#pragma once
#include "cluster/link/peers.h"
#include "dataplane/conf/domains.h"
#include "spool/base/clock.h"

struct lists;

struct lists_env {
    const struct clock *clock;
    struct peers *peers;
    bool (*has)(void *arg, const char *hash);
    /* Ends with lists_read. */
    void (*read)(void *arg, const char *hash);
    /* packed is taken over.  Ends with lists_kept. */
    void (*keep)(void *arg, const char *hash, uint8_t *packed, size_t n);
    void *arg;
};

int lists_open(struct lists **l_r, const struct lists_env *env);
/* Pushes under way end with -SATCHEL_ESHUT. */
void lists_close(struct lists **l);

/* packed is taken over; NULL: there is none, res says why. */
void lists_read(struct lists *l, const char *hash, int res, uint8_t *packed, size_t n);
/* 0: on disk. */
void lists_kept(struct lists *l, const char *hash, int res);

/* BLOB_*; others are ignored. */
void lists_frame(struct lists *l, const struct storage_id *from, uint16_t type, struct slice payload);
/* nodes: who may be asked, without this one. */
void lists_tick(struct lists *l, const struct storage_id *nodes, size_t n);
/* Boot clock; UINT64_MAX: nothing is under way. */
uint64_t lists_next_us(const struct lists *l);

/* The lists that this node should have and has not, instead of those it said before.  hashes is taken over (malloc). */
void lists_want(struct lists *l, char (*hashes)[RECIPIENTS_HASH_MAX], size_t n);

/* res 0: `least` of the nodes, or all n where these are fewer, have it on disk; -SATCHEL_EAGAIN: they could not be
 * reached in time. */
typedef void lists_done(void *arg, int res, const char *why);
/* A list that this node has.  done comes from lists_tick, lists_frame or lists_read, never from within. */
int lists_push(struct lists *l, const char *hash, const struct storage_id *nodes, size_t n, size_t least,
               lists_done *done, void *arg);
