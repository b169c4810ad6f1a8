/* finish.h - how the end of a message becomes records; see finish.c.
 * Thread: under the queue's lock. */
#pragma once
#include "spool/queue/queue_impl.h"

enum { KILL_BYTES = 4 + 8 };

/* Positions, one for each segment. */
struct kills {
    uint64_t *pos;
    size_t n, cap;
};

/* What finish_new builds from. */
struct outcome {
    struct slice domain;
    struct place at;
    const struct item_result *results;
    size_t n;
    const struct msg_state *after;
    const struct kills *kills;
    const struct finish_copies *copies; /* NULL: there are none */
    struct slice owed;
    struct msgid dsn;
    bool unheld; /* the message is not known, so nobody holds it now: a hold that begins meanwhile is somebody else's */
    queue_merged *merged;
    bool tell; /* although it was merged */
    void *merged_arg;
};

/* Every segment in which a record of the message lies or may lie; the caller frees k->pos. */
int kills_gather(struct queue *q, const struct msgid *id, const struct entry *e, struct kills *k);
/* As RT_KILLS, KILL_BYTES each. */
void kills_put(struct wire_wr *w, const struct kills *k);
/* The records are on their way, and the message's hold ends with them, but for o->unheld; or nothing happened. */
int finish_start(struct queue *q, const struct outcome *o);
