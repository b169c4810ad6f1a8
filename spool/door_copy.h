/* door_copy.h - what the files of the storage door share: the door, and how answers reach its thread.
 *   door_copy.c  everything but
 *   door_put.c   put */
#pragma once
#include "spool/queue/fresh.h"
#include "spool/spool_impl.h"
#include "spool/storage.h"

enum mail_kind { MAIL_PUT, MAIL_MERGE, MAIL_TAP };

struct mail_list {
    struct mail *first, **tail;
};

struct copy_door {
    struct storage st;
    struct spool *s;
    struct mailbox box; /* of struct storage_mail */
    struct door_bell bell;
    struct mail_list answers; /* given at once, told in poll */
    struct mail_list staged;  /* under q_lock: to be told when the index has committed */
    struct segread *reader;
    struct fresh *fresh;
    size_t under_way; /* requests whose done has not run */
    uint64_t posted_bytes;
    bool posted, armed;
    void (*tap_each)(void *arg, const struct storage_state *st);
    void *tap_arg;
    atomic_uint taps; /* in the box */
    atomic_bool taps_lost;
    uint8_t tomb[QUEUE_TOMB_BYTES];
};

static inline struct copy_door *door_of(struct storage *st)
{
    return (struct copy_door *)st;
}

/* Told in the next poll. */
void door_answer(struct copy_door *d, struct storage_mail *m, enum mail_kind kind, int res);
/* On the indexer: told once the index has committed what it is about. */
void door_stage(struct copy_door *d, struct storage_mail *m, enum mail_kind kind, int res);
/* storage_ops.put */
void door_put(struct storage *st, struct storage_put *p);
