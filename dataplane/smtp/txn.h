/* txn.h - one mail transaction: sender, recipients grouped by domain, and what is known of the body so far.
 *
 * Lives in an arena that is reset when the transaction ends; nothing is freed one by one.
 * Thread: the session's.  Errors: NULL means the arena's limit is reached (452 4.3.1). */
#pragma once
#include "dataplane/smtp/address.h"
#include "dataplane/smtp/data.h"
#include "dataplane/smtp/hops.h"
#include "dataplane/smtp/reply.h"
#include "spool/base/arena.h"
#include "spool/intake.h"

struct smtp_rcpt {
    struct smtp_rcpt *next;
    struct smtp_path path; /* address: local@domain with the domain in lower case */
};

struct smtp_group { /* the recipients of one domain: one envelope */
    struct smtp_group *next;
    struct slice domain;
    struct smtp_rcpt *first, **last;
    uint32_t rcpts_n;
};

struct smtp_txn {
    struct smtp_path sender; /* copies; address empty: null reverse-path */
    uint16_t flags;          /* REC_F_8BIT */
    uint64_t size_bytes;     /* as declared; 0: not */
    uint64_t max_bytes;      /* the least of what the server and the domains take */
    struct smtp_group *first, **last;
    uint32_t groups_n, rcpts_n;

    const struct envelope *envs; /* groups_n, from DATA on */
    struct intake_txn *door;     /* NULL: not begun, or given up */
    enum smtp_reply failed;      /* the door's error, as the client will hear it */
    uint64_t bytes;              /* of the body so far */
    struct smtp_data data;
    struct smtp_hops hops;
};

struct smtp_txn *smtp_txn_new(struct arena *a, const struct smtp_path *sender);
/* A recipient with copies of the path's parts, not yet of the transaction.  `domain` stands in where the path has none
 * (<postmaster>). */
struct smtp_rcpt *smtp_rcpt_new(struct arena *a, const struct smtp_path *path, struct slice domain);
/* Is this address among the recipients? */
bool smtp_txn_has(const struct smtp_txn *t, const struct smtp_rcpt *r);
/* Adds it to its domain's group. false: no memory. */
bool smtp_txn_add(struct smtp_txn *t, struct arena *a, struct smtp_rcpt *r);
/* Fills t->envs, one envelope a domain. false: no memory. */
bool smtp_txn_seal(struct smtp_txn *t, struct arena *a, struct slice helo, struct slice client);
