/* tomb.h - what stays of a message that ended while other storages may hold copies of it.
 *
 * A final DONE with REC_F_TOMB makes one; the record is its place in the log and stays there as long as it lives, so
 * that a rebuilt index has it too.  In the index ('t' key):
 *
 *   u64 final (wall clock) | u64 pos of the DONE | u64 arrival | u64 dead from | u64 dead to | u8 n, domain
 *   | u8 n, n bytes of storage UUIDs that are owed the end | the state as state_encode makes it
 *
 * Dead copies: records of the message that the DONE does not name in its RT_KILLS, since they came when it was written
 * or later.  The numbers of their segments lie in [dead_from, dead_to]; the tombstone outlives every segment in that
 * range, or a scan of the log would bring the message back.  A range is more than is needed and always enough.
 *
 * Who is owed is kept in the index alone: lost with it, it is what the record says, and is asked again.
 *
 * Thread: under the queue's lock. */
#pragma once
#include "spool/queue/keys.h"

struct queue;

struct tomb {
    uint64_t final_us, pos;
    struct place at;
    uint64_t dead_from, dead_to; /* 0: none */
    struct msg_state state;
    uint16_t domain_n, owed_n; /* bytes */
    uint8_t domain[KEY_DOMAIN_MAX];
    uint8_t owed[REC_COPYSET_MAX * 16];
};

static inline struct slice tomb_domain(const struct tomb *t)
{
    return slice_of(t->domain, t->domain_n);
}

/* 0, -SATCHEL_ENOENT, or the failure of the index.  Cheap where there is none at all. */
int tomb_load(struct queue *q, const struct msgid *id, struct tomb *t_r);
/* A copy lies, dead, in this segment. */
void tomb_dead_add(struct tomb *t, uint64_t seg);
/* Takes it into index and counters; it must not be there. */
void tomb_new(struct queue *q, const struct tomb *t);
/* Its value changed, but for pos and owed. */
void tomb_put(struct queue *q, const struct tomb *t);
/* The DONE lies at pos now. */
void tomb_moved(struct queue *q, struct tomb *t, uint64_t pos);
/* Forgets those whose record lay in a segment that is gone: they had expired, and the index lost that in a crash. */
int tombs_drop_seg(struct queue *q, uint64_t seg);
/* One step; true: there is more to do at once. */
bool tombs_expire(struct queue *q);
