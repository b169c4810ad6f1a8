/* loadconn.h - the client side of one session of the load generator: replies in, commands and messages out.  No sockets
 * in here: the caller reads and hands over the bytes, and sends what loadconn_out() shows.
 *
 *   GREETING -> EHLO -> READY -> MAIL -> RCPT x n -> DATA -> DOT -> READY ... -> QUIT -> ENDED
 *                         |        (refused: RSET -> READY)    ^
 *                         '------- deep: MAIL RCPT DATA of the next message ride behind the dot
 *
 * A session that is READY waits for loadconn_begin(): the caller decides when the next message starts (rate, end).
 * Thread: one owner for the book and all its sessions. */
#pragma once
#include "bench/lib/hist.h"
#include "bench/lib/lines.h"
#include "bench/lib/mint.h"
#include "bench/lib/tally.h"
#include <stdbool.h>
#include <sys/uio.h>

enum load_state {
    LOAD_GREETING,
    LOAD_EHLO,
    LOAD_READY,
    LOAD_MAIL,
    LOAD_RCPT,
    LOAD_DATA,
    LOAD_DOT,
    LOAD_RSET,
    LOAD_QUIT,
    LOAD_ENDED
};

/* What all sessions of a thread share: how to talk, and what came of it. */
struct load_book {
    bool pipelining, deep;
    unsigned per_session; /* messages before QUIT */
    unsigned recipients;
    uint64_t budget; /* messages that may still be begun */
    bool closing;    /* begin no more */
    struct mint *mint;
    struct lines *ledger; /* may be NULL */

    uint64_t acked, refused, unanswered, sessions, lost_sessions;
    uint64_t first_us, last_us;
    struct hist dot; /* final dot sent -> 250, us */
    struct tally replies;
};

#define LOAD_IOV_MAX 3

struct loadconn {
    struct load_book *b;
    enum load_state state;
    unsigned rcpt_left, rcpt_ok, done; /* done: messages of this session that have an answer */
    bool refused;                      /* a command of this transaction got no 2xx: pause before the next */
    bool next_open;                    /* deep: an envelope rides behind the dot */
    bool dot_on_way;                   /* a dot waits for its answer: lost connection means in doubt */
    struct mint_envelope env;          /* of the transaction that is not at its dot yet */
    size_t env_at;                     /* without pipelining: what of it has been sent */
    struct mint_message msg;           /* at its dot */
    uint64_t dot_us;                   /* 0: not wholly sent yet */
    struct iovec out[LOAD_IOV_MAX];
    unsigned out_n;
    size_t in_n;
    char in[2048];
};

/* A new connection is under way. */
void loadconn_open(struct loadconn *c, struct load_book *b);
/* Bytes have come; false: the server does not talk SMTP, or said 421: close. */
bool loadconn_input(struct loadconn *c, const char *p, size_t n, uint64_t now_us);
/* READY, and a message may begin: sends its envelope.  READY, and none is left: says QUIT. */
void loadconn_begin(struct loadconn *c, uint64_t now_us);
/* n bytes of out[] have been sent. */
void loadconn_sent(struct loadconn *c, size_t n, uint64_t now_us);
/* The connection has gone: counts what that means. */
void loadconn_lost(struct loadconn *c);
