/* outlet.h - the door out: claiming messages in order, reading them, saying how each item ended.
 *
 *   claim -> read* -> finish (delivered, bounced, put off)      or  claim -> release
 *
 * A door belongs to one thread (a relay worker).  The door is a table, so that leases can wrap it and the relay can be
 * tested without a spool.  Errors: negative SATCHEL_E*.
 *
 * A claim may be withdrawn: may() says false from some moment on, for good.  Its holder then sends nothing more of the
 * message, and releases it; what the primary has taken already is said by finish() all the same, since it is true. */
#pragma once
#include "spool/intake.h"
#include "spool/queue/queue.h"

struct outlet;

/* A claimed message; lives until finish or release.  Slices borrow from it. */
struct outlet_msg {
    struct msgid id;
    uint64_t arrival_us; /* wall clock */
    struct slice domain, sender, helo, client;
    const struct slice *rcpts; /* all recipients; those whose state_end() is not ITEM_LIVE are final already */
    size_t rcpts_n;
    uint16_t flags; /* REC_F_8BIT, REC_F_UTF8 */
    uint64_t bytes; /* what read() yields in all: trace field and body */
    struct msg_state state;
    void *impl;
    bool unreadable; /* from claim_id only: its record is damaged; nothing above but id, arrival, domain and state, and
                      * rcpts without text.  It can be ended, not read */
};

/* A message the relay makes itself (DSN): durable in one group with the end of the message it is about. */
struct outlet_dsn {
    struct envelope env;
    struct slice content; /* whole message, CRLF, not dot-stuffed; borrowed until return */
};

struct outlet_ops {
    /* As queue_claim; messages whose record cannot be read (damaged) are left out, logged and held.  Returns how many.
     */
    size_t (*claim)(struct outlet *o, struct slice domain, enum claim_mode mode, uint64_t before_us,
                    struct outlet_msg **msgs_r, size_t cap);
    /* One that cannot be read, too: see outlet_msg.unreadable.  Not for a thread that serves others: where the ID is
     * not known it waits, 100 ms at most, for what was acknowledged before and is on its way to the index. */
    int (*claim_id)(struct outlet *o, const struct msgid *id, struct outlet_msg **msg_r);
    /* Bytes [off, off+n) of trace field + body: bytes read, 0 at the end, or error. data_r borrows until the next read
     * on this door: no copy is made for small messages. */
    int (*read)(struct outlet *o, struct outlet_msg *m, uint64_t off, size_t n, struct slice *data_r);
    /* Ends the claim: see queue_finish. dsn may be NULL.  m is gone afterwards. Durable soon (lazy): a crash before
     * that delivers again.  -SATCHEL_EAGAIN: the claim was withdrawn and nothing was delivered: released as it was. */
    int (*finish)(struct outlet *o, struct outlet_msg *m, const struct item_result *results, size_t n, uint64_t due_us,
                  bool held, const struct outlet_dsn *dsn);
    void (*release)(struct outlet *o, struct outlet_msg *m);
    /* May this claimed message be delivered, bounced or put off now?  Cheap: asked before MAIL, before DATA, and for
     * the last time right before the final dot is handed to the kernel. */
    bool (*may)(struct outlet *o, const struct outlet_msg *m);
    /* Domains whose bag got mail to deliver since the last call, or whose claims were withdrawn. name borrows until the
     * next call; false: no more. */
    bool (*ready)(struct outlet *o, struct slice *domain_r);
    uint64_t (*next_due)(struct outlet *o, struct slice domain);
    void (*stat)(struct outlet *o, struct slice domain, struct bag_stat *st_r);
    /* About to sleep: true if ready() has nothing and `fd` will become readable when it has. */
    bool (*sleep)(struct outlet *o);
    void (*close)(struct outlet **o);
};

struct outlet {
    const struct outlet_ops *ops;
    int fd;
};
