/* fake.h - the world around one session under test: an intake door and a policy that fail and delay on demand, and the
 * client at the other end of a wire (wire.h).  The door asserts its contract. */
#pragma once
#include "dataplane/smtp/session.h"
#include "tests/smtp/wire.h"

struct text {
    char *p; /* NUL-terminated */
    size_t n;
};
void text_add(struct text *t, const void *p, size_t n);

enum fail_at { FAIL_ADMIT, FAIL_BEGIN, FAIL_APPEND, FAIL_COMMIT, FAIL_DONE, FAIL_COUNT };

struct fake_env {
    struct text domain, sender, trace, helo;
    struct text rcpts; /* "<a> <b>" */
    uint16_t flags;
};

struct fake_msg { /* a transaction; stored when it was committed and done said 0 */
    struct fake_msg *next;
    struct fake_env *envs;
    size_t envs_n;
    struct text body;
};

struct intake_txn {
    struct intake_txn *next; /* among the committed */
    struct fake_msg *msg;
    intake_done *done;
    void *arg;
    bool committed, dead;
};

struct fake_domain {
    char name[64];
    uint64_t max_bytes;
    bool pending;
    char list[256]; /* of its recipients, a line each; empty: all are taken */
};

struct fake {
    struct smtp_site site;
    struct smtp_session s;
    bool open;

    /* the door */
    struct intake door;
    int fail[FAIL_COUNT];
    bool hold_commits, hold_room, polling;
    struct intake_txn *committed;
    intake_room *room;
    void *room_arg;
    unsigned txns_open, aborted, stored, accepted;
    uint64_t counter;
    struct fake_msg *last; /* stored, newest first */

    /* the policy */
    struct fake_domain domains[8];
    size_t domains_n;
    bool later[3]; /* by enum smtp_question */
    bool asked;    /* a verdict is owed */
    struct smtp_verdict refuse;
    bool refusing[3];

    /* the wire */
    const struct wire *wire;
    void *at;          /* the wire's */
    size_t sent;       /* bytes of the client that went into the wire */
    size_t taken;      /* of them, taken by the session */
    size_t said;       /* bytes of the session that went into the wire */
    struct text out;   /* of them, what the client read */
    bool paused;       /* the session left bytes and has not resumed */
    bool closed;       /* it closed the connection */
    bool heard_end;    /* and the client knows */
    bool gone;         /* the client left */
    const char *stuck; /* what the wire still owed when patience was over; NULL: nothing */
};

void fake_init(struct fake *f, const struct wire *wire);
void fake_free(struct fake *f);
/* Opens the session, if it is not. */
void fake_connect(struct fake *f);
void fake_send(struct fake *f, const uint8_t *p, size_t n);
/* Runs turns until nothing is under way: what the client sent was taken or left, what the session said was read. */
void fake_settle(struct fake *f);
void fake_answer(struct fake *f, const struct smtp_verdict *v);
void fake_disconnect(struct fake *f);
/* All that is stored, newest first, as text: two runs that stored the same say the same. */
struct text fake_spool(const struct fake *f);
/* listed.c */
bool fake_listed(const char *domain, const char *entries, struct slice local);
/* Lets time pass and the session's timer with it. */
void fake_wait(struct fake *f, uint64_t us);
