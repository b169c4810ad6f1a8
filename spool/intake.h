/* intake.h - the door in: how a message becomes durable.
 *
 *   begin -> append* -> commit -> (done: 250 or the error)      or  begin -> append* -> abort
 *
 * A door belongs to one thread (an SMTP worker has one); a transaction to its door.  The door is a table, so that
 * copies can wrap it and sessions can be tested without a spool.
 *
 * One transaction carries one body for one or more envelopes, one envelope a domain: a message with recipients in two
 * domains becomes two messages with IDs of their own, durable together before done says 0.
 * Errors: negative SATCHEL_E*; a session answers 452 4.3.1 for EFULL and ENOMEM, 451 4.3.0 for EIO and EFENCED,
 * (and for EAGAIN from admit and begin: no map of the cluster yet), 451 4.4.0 for ECOPIES (not enough storages answered
 * in time), 552 5.3.4 for ETOOBIG, 421 4.3.2 for ESHUT. */
#pragma once
#include "spool/base/slice.h"
#include "spool/format/msgid.h"

struct intake;
struct intake_txn;

struct envelope {
    struct slice domain;       /* lower case; the served domain of all these recipients */
    struct slice sender;       /* without <>; empty: null reverse-path */
    const struct slice *rcpts; /* addresses without <>, 1..STATE_ITEMS_MAX */
    size_t rcpts_n;
    struct slice helo, client; /* as said; address text */
    uint16_t flags;            /* REC_F_8BIT, REC_F_UTF8 */
};

/* The trace field of one message, made when its ID is known: returns the length written ("Received: ...\r\n"), at most
 * cap. */
typedef size_t intake_trace(void *arg, const struct envelope *env, const struct msgid *id, char *out_r, size_t cap);

/* res: 0: durable on `acks` storages; ids (one an envelope, in order) are valid until return.  Runs inside poll,
 * exactly once for a commit that returned 0; the transaction is gone afterwards. */
typedef void intake_done(void *arg, int res, const struct msgid *ids, size_t n);
/* append said EAGAIN: now there is room again. Runs inside poll. */
typedef void intake_room(void *arg);

struct intake_ops {
    /* May a message of this size (0: unknown) be started now?  0, EFULL, ENOMEM, EFENCED, ESHUT. Cheap: for MAIL FROM.
     */
    int (*admit)(struct intake *in, uint64_t size_hint);
    /* Envelopes are copied.  0 or as admit. */
    int (*begin)(struct intake *in, const struct envelope *envs, size_t n, intake_trace *trace, void *trace_arg,
                 struct intake_txn **txn_r);
    /* Body bytes as they are to be relayed (no dot-stuffing).  Copied.  0, or -SATCHEL_EAGAIN: nothing was taken, stop
     * reading until room() runs; or the error that ends the transaction (abort it). */
    int (*append)(struct intake_txn *txn, struct slice data, intake_room *room, void *arg);
    /* 0: done will run. Otherwise the transaction is still yours to abort. */
    int (*commit)(struct intake_txn *txn, intake_done *done, void *arg);
    /* Before commit: forgets it.  After commit (the session died): done is not run any more; the message stays
     * accepted. */
    void (*abort)(struct intake_txn *txn);
    /* Hands what was committed since the last call to the log in one go; call at the end of each loop turn, then runs
     * done/room that are due. */
    void (*poll)(struct intake *in);
    /* About to sleep: true if poll has nothing due and `fd` will become readable when it has; false: poll again first.
     */
    bool (*sleep)(struct intake *in);
    void (*close)(struct intake **in); /* all transactions are ended */
};

struct intake {
    const struct intake_ops *ops;
    int fd; /* readable when poll has something to do and sleep() said true */
};
