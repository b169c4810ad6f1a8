/* copier.h - how the intake door's records become durable on several storages instead of one.
 *
 * Without a copier a door hands its records to this node's log.  With one, each record goes to the copier, which
 * chooses the storages (this one may or may not be among them), and says when enough of them have synced it.  The
 * spool knows nothing of nodes; the cluster fills this table.
 *
 *   door (worker thread)                     copier (cluster thread)
 *   copy_request ---- post, ring ---->       frames to peers, storage.put here
 *   250                <---- settled ------  `acks` storages have it (or an error)
 *                            spool_doors_ring, once after a batch of settled */
#pragma once
#include "spool/base/mailbox.h"
#include "spool/format/record.h"

struct copier;

/* One record on its way.  Made by the door, which frees it in settled.  All of it may be read by the copier until
 * then. */
struct copy_request {
    struct mail mail; /* the copier's while it has the request */
    struct slice domain;
    struct record
        rec; /* MSG, CHUNK or ABORT; arrival_us is set (0 for ABORT); meta names the domain; copyset is empty */
    const struct slice *body_parts;
    uint32_t body_parts_n;
    /* On the copier's thread, exactly once; not within post.  0: durable on enough storages.  -SATCHEL_EAGAIN: not
     * enough of them answered in time (451 4.4.0); or the error of the disk where it says more. */
    void (*settled)(struct copy_request *r, int res);
};

struct copier_ops {
    /* A door's thread. May mail be taken now?  0, or the error for MAIL FROM: -SATCHEL_EAGAIN (no map yet), EFULL... */
    int (*admit)(struct copier *c, uint64_t size_hint);
    /* A door's thread: the request is the copier's until settled. */
    void (*post)(struct copier *c, struct copy_request *r);
    /* A door's thread, after a batch of posts. */
    void (*ring)(struct copier *c);
    /* Any thread: other storages that may hold copies of the domain's mail, n * 16 bytes; returns the bytes (at most
     * cap).  They are owed the end of each message, beside those in its own copyset. */
    size_t (*holders)(struct copier *c, struct slice domain, uint8_t *uuids_r, size_t cap);
};

struct copier {
    const struct copier_ops *ops;
};
