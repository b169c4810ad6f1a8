/* session.h - one SMTP server session: bytes in, replies out, mail into the intake door.  No sockets, no clock, no log.
 *
 *   NEW --connect verdict--> FRESH --EHLO/HELO--> READY --MAIL--> MAIL --RCPT--> RCPT --DATA--> DATA --answer--> READY
 *   any --QUIT, 421--> CLOSED
 *
 * Beside its state a session may wait: for a verdict of the policy, for room in the intake door, or for a commit. While
 * it waits it takes no input (smtp_session_feed returns less than it was given, the transport stops reading), so
 * pipelined commands stay in order whatever answers late.  out->resume says that it waits no more.
 *
 * A 250 to the final dot is sent from the door's done(0) and from nowhere else.
 *
 * Thread: all sessions of a site belong to one worker.  Memory: struct smtp_session and the client's name; a line is
 * buffered only while it is incomplete, a transaction's arena lives from MAIL to its end. */
#pragma once
#include "dataplane/smtp/command.h"
#include "dataplane/smtp/txn.h"
#include "spool/base/clock.h"
#include "spool/base/status.h"
#include "spool/intake.h"

struct smtp_session;

/* ---- limits: each has a default in smtp_limits_default */
struct smtp_limits {
    uint64_t message_bytes;     /* 50 MiB; announced as SIZE */
    uint32_t rcpts;             /* of one transaction; 1000; at most STATE_ITEMS_MAX */
    uint32_t messages;          /* of one session; 1000; 0: no limit */
    uint32_t errors;            /* bad commands before 421; 20 */
    uint32_t refusals;          /* refused recipients before 421; 100 */
    uint32_t hops, own_hops;    /* Received fields of anyone, of ourselves; 50, 3 */
    uint32_t command_s, data_s; /* how long we wait for a command, for a block of data; 300, 180 (RFC 5321 4.5.3.2) */
    uint32_t txn_bytes;         /* memory of one transaction's envelope; 512 KiB */
};
/* Also as an initialiser, for tables that hold limits. */
#define SMTP_LIMITS_DEFAULT                                                                                            \
    {                                                                                                                  \
        .message_bytes = 50u << 20, .rcpts = 1000, .messages = 1000, .errors = 20, .refusals = 100, .hops = 50,        \
        .own_hops = 3, .command_s = 300, .data_s = 180, .txn_bytes = 512u << 10                                        \
    }
extern const struct smtp_limits smtp_limits_default;

/* ---- policy: what may come in.  Answers at once, or PENDING and later through smtp_session_verdict. */
enum smtp_question {
    ASK_CONNECT, /* path is NULL; a refusal closes the session, its code should be 4xx or 554 */
    ASK_MAIL,    /* path: the sender, path->null for <> */
    ASK_RCPT     /* path: the recipient, its domain in lower case, never a literal */
};

enum smtp_verdict_kind { VERDICT_OK, VERDICT_REFUSED, VERDICT_PENDING };

struct smtp_verdict {
    enum smtp_verdict_kind kind;
    uint64_t max_message_bytes; /* OK to RCPT: the domain's limit; 0: none of its own */
    struct smtp_status status;  /* REFUSED: what the client hears; code 421 ends the session */
};

struct smtp_policy {
    /* Fills v_r->kind and what goes with it.  path is valid until the verdict is given. */
    void (*ask)(void *ctx, struct smtp_session *s, enum smtp_question q, const struct smtp_path *path,
                struct smtp_verdict *v_r);
    /* The session ends while a verdict is pending: do not give it. */
    void (*forget)(void *ctx, struct smtp_session *s);
    /* A message was accepted: one call an envelope, before its 250 is sent.  For the log. */
    void (*accepted)(void *ctx, const struct smtp_session *s, const struct envelope *env, const struct msgid *id,
                     uint64_t bytes);
    /* A reply of class 4 or 5, with its CRLF.  For the log. */
    void (*refused)(void *ctx, const struct smtp_session *s, struct slice reply);
    void *ctx;
};

/* ---- what all sessions of a worker share */
struct smtp_site {
    char hostname[SMTP_DOMAIN_MAX + 1];
    struct smtp_limits limits; /* may change between calls */
    struct intake *intake;
    struct smtp_policy policy;
    uint64_t boot_us;             /* now: smtp_site_now before each round of calls */
    char date[CLOCK_RFC5322_MAX]; /* the same moment for trace fields */
    uint64_t date_s;
};
void smtp_site_now(struct smtp_site *site, uint64_t boot_us, uint64_t wall_us);

/* ---- where a session's output goes */
struct smtp_out {
    void (*send)(void *arg, struct slice bytes); /* copied */
    void (*resume)(void *arg);                   /* input is taken again */
    void (*close)(void *arg);                    /* after what was sent */
};

enum smtp_state { STATE_NEW, STATE_FRESH, STATE_READY, STATE_MAIL, STATE_RCPT, STATE_DATA, STATE_CLOSED, STATE_COUNT };
enum smtp_wait { WAIT_NOTHING, WAIT_VERDICT, WAIT_ROOM, WAIT_COMMIT };

#define SMTP_LINE_MAX 2048 /* octets with CRLF; 512 in RFC 5321, extensions add to it */

struct smtp_line { /* an incomplete command line */
    uint8_t *p;    /* malloc; NULL: nothing is kept */
    uint16_t n, cap;
    bool cr;   /* the last byte was CR */
    bool bare; /* a LF came without CR */
    bool over; /* longer than SMTP_LINE_MAX: dropped up to its CRLF */
};

/* Embedded in what its owner keeps of a client; its fields are the session's own.  First, in few cache lines, what each
 * command looks at. */
struct smtp_session {
    struct smtp_site *site;
    const struct smtp_out *out;
    void *out_arg;
    enum smtp_state state;
    enum smtp_wait wait;
    enum smtp_question question; /* WAIT_VERDICT */
    bool esmtp;                  /* EHLO, not HELO */
    bool shutting;               /* 421 as soon as the transaction is over */
    struct smtp_line line;
    uint64_t active_us; /* when the client last got something done */
    struct arena arena; /* of the transaction */
    struct smtp_txn *txn;
    uint32_t errors, refusals, messages;
    char *helo;              /* malloc; NUL-terminated */
    char client[48];         /* address text */
    struct smtp_rcpt *asked; /* the recipient that ASK_RCPT is about */
    struct arena_mark asked_mark;
};

/* client: its address as text.  site, out and arg outlive the session. */
void smtp_session_open(struct smtp_session *s, struct smtp_site *site, const struct smtp_out *out, void *arg,
                       struct slice client);
/* Asks for the connection's verdict and sends the banner. */
void smtp_session_greet(struct smtp_session *s);
/* Instead of a greeting: says r, a 421, and closes. */
void smtp_session_turn_away(struct smtp_session *s, enum smtp_reply r);
/* Takes bytes from the client; returns how many.  Fewer than given: it waits, offer the rest after out->resume. */
size_t smtp_session_feed(struct smtp_session *s, struct slice in);
/* The answer to a PENDING question. Not from within ask. */
void smtp_session_verdict(struct smtp_session *s, const struct smtp_verdict *v);
/* The session's timer ran out: ends it with 421 if the client was idle for too long.  Returns in how many microseconds
 * to call again, 0: never.  Call it once after open to learn the first. */
uint64_t smtp_session_tick(struct smtp_session *s);
/* 421 now, or after the message that is under way (from 354 to its answer).  Called again: 421 now also within a
 * message; only a commit that is outstanding still gets its answer. */
void smtp_session_shutdown(struct smtp_session *s);
/* The connection is gone: frees everything.  A message whose commit is outstanding stays accepted. */
void smtp_session_close(struct smtp_session *s);

/* Between 354 and the answer to the final dot? */
static inline bool smtp_session_in_data(const struct smtp_session *s)
{
    return s->state == STATE_DATA;
}
