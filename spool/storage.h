/* storage.h - the third door: one node's records as copies see them, by message ID.
 *
 *   put     a record that came from elsewhere (or from this node's front-end) becomes durable here
 *   merge   what became of a message elsewhere becomes true here: final items stay final (set union)
 *   forget  this copy is not needed here: an ABORT, or it was handed over to those who should have it
 *   look    bags with digests, messages of a bag in order, records to be sent, tombstones
 *   tap     what became of messages *here* (relay, operator): to be pushed to the other holders
 *
 * Everything is idempotent by ID: the same put, merge or forget twice changes nothing the second time, and order does
 * not matter.  A message that ended is remembered by a *tombstone* until every storage that may hold a copy has said
 * that it knows ("owed" is empty), and for a grace time after that: a late put of it is answered -SATCHEL_EEXIST and
 * does not bring it back.
 *
 * A door belongs to one thread (the cluster's).  It is a table, so that the simulator can fill it with its own spool.
 * done callbacks run inside poll, exactly once for each request that was taken.  Errors: negative SATCHEL_E*. */
#pragma once
#include "spool/base/mailbox.h"
#include "spool/format/storageid.h"
#include "spool/queue/queue.h"

struct storage;

/* How an answer travels to the door's thread; the storage's. */
struct storage_mail {
    struct mail mail;
    int kind, res;
};

enum put_flags {
    PUT_REPAIR = 1 << 0, /* our own record of it is damaged: this one takes its place; -SATCHEL_EBUSY: held now */
    PUT_LAZY = 1 << 1,   /* nobody waits for a 250: may share a later group */
};

/* One record (MSG, CHUNK, or ABORT: then all that is here of the message, also chunks without it, is forgotten).
 * Embedded by the caller; borrowed with all it points to until done.  rec.arrival_us is set for a MSG. */
struct storage_put {
    struct record rec;
    const struct slice *body_parts; /* as struct seglog_entry's; NULL: rec.body is the body */
    uint32_t body_parts_n;
    uint32_t flags;
    /* 0: durable here (or it was here, live).  -SATCHEL_EEXIST: the message is final here, see tomb().  EFULL, EFENCED,
     * EIO, ETOOBIG: not stored. */
    void (*done)(struct storage_put *p, int res);
    void *arg;
    void *impl; /* the storage's, and what follows */
    struct storage_mail post;
};

struct storage_merge {
    struct storage_state st; /* see queue.h; slices borrowed until done */
    /* 0: durable here (a tombstone where the message is not known).  -SATCHEL_ENOENT: not known here and not final:
     * nothing to do.  -SATCHEL_EBUSY: somebody here holds it; try again. */
    void (*done)(struct storage_merge *m, int res);
    void *arg;
    void *impl;
    struct storage_mail post;
};

struct storage_stat {
    struct storage_id self;
    uint64_t messages, bytes;   /* live */
    uint64_t tombs, tombs_owed; /* tombstones; those that somebody does not know of yet */
    uint64_t room_bytes;        /* for new mail */
    bool fenced;
};

struct storage_ops {
    void (*put)(struct storage *s, struct storage_put *p);
    /* true: no outlet door hands the message out as it was, from now on; nor later where done says 0. */
    bool (*merge)(struct storage *s, struct storage_merge *m);
    /* Takes n messages out of the bags here, without a tombstone; lazy, no answer.  Those that are claimed or unknown
     * stay as they are: returns how many were taken. */
    size_t (*forget)(struct storage *s, const struct msgid *ids, size_t n);

    /* Live here?  0, -SATCHEL_ENOENT. domain_r: 256 bytes, NUL-terminated. */
    int (*find)(struct storage *s, const struct msgid *id, struct queue_entry *e_r, char domain_r[256]);
    /* Final here?  Slices borrow until the next call.  0, -SATCHEL_ENOENT. */
    int (*tomb)(struct storage *s, const struct msgid *id, struct storage_state *st_r);
    /* Every bag with live mail; bag_stat.digest is over its live messages (see queue.h). */
    void (*bags)(struct storage *s, void (*each)(void *arg, struct slice domain, const struct bag_stat *st), void *arg);
    void (*bag)(struct storage *s, struct slice domain, struct bag_stat *st_r);
    /* As queue_list. */
    int (*list)(struct storage *s, struct slice domain, struct slice after,
                bool (*each)(void *arg, const struct queue_entry *e), void *arg, uint8_t *cursor_r, size_t *cursor_n_r);
    /* Record `part` of a live message: 0 is its MSG, 1 .. chunks its CHUNKs.  Verified; borrows until the next read.
     * -SATCHEL_ENOENT, -SATCHEL_EDAMAGED, -SATCHEL_EIO. */
    int (*read)(struct storage *s, const struct msgid *id, uint32_t part, struct record *rec_r);

    /* Tombstones that this storage (NULL: any storage) does not know of yet, from `after` on (an ID; NULL: from the
     * first); each returns false to stop. */
    void (*owed)(struct storage *s, const struct storage_id *to, const struct msgid *after,
                 bool (*each)(void *arg, const struct storage_state *st), void *arg);
    /* `to` knows of these ends. */
    void (*confirm)(struct storage *s, const struct storage_id *to, const struct msgid *ids, size_t n);
    /* Every holder knows of these ends (the owner said so): nothing is owed any more. */
    void (*settled)(struct storage *s, const struct msgid *ids, size_t n);
    /* That storage is gone for good: nothing is owed to it.  An index that was rebuilt from the log has forgotten it:
     * say it again when `owed` or stat.tombs_owed shows that it is. */
    void (*retire)(struct storage *s, const struct storage_id *gone);

    /* What became of messages here by other doors, and by merges that are to tell (st.tell), once it is durable and can
     * be seen by the functions above; runs inside poll.  One listener.  Only while a copier is set: without one nobody
     * is to hear of it.  Of a listener that does not poll, at most 65,536 are kept: of what is left out, `owed` knows
     * all that is final, and digests tell the rest. */
    void (*tap)(struct storage *s, void (*each)(void *arg, const struct storage_state *st), void *arg);
    /* The clock of arrivals: no message accepted here from now on gets an arrival at or below this. */
    void (*observe)(struct storage *s, uint64_t arrival_us);
    /* Bags of these domains may be delivered now: tells the outlet doors.  */
    void (*ready)(struct storage *s, struct slice domain);
    void (*stat)(struct storage *s, struct storage_stat *st_r);

    void (*poll)(struct storage *s);
    bool (*sleep)(struct storage *s); /* as intake's */
    void (*close)(struct storage **s);
};

struct storage {
    const struct storage_ops *ops;
    int fd; /* readable when poll has something to do and sleep() said true */
};
