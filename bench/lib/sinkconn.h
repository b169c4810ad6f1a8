/* sinkconn.h - one SMTP session of the sink: bytes in, replies out, nothing stored.  No sockets in here: the caller
 * reads into sinkconn_room() and sends what sinkconn_out() holds.
 * Thread: one owner for the policy and all its sessions. */
#pragma once
#include "bench/lib/lines.h"
#include "bench/lib/seen.h"
#include "bench/lib/tally.h"
#include <stdbool.h>
#include <stddef.h>

#define SINK_PATTERNS_MAX 16

/* What the sink answers, and what it has counted; shared by all sessions. */
struct sink_policy {
    struct {
        const char *part; /* a recipient that contains this ... */
        int code;         /* ... gets this code */
    } fail[SINK_PATTERNS_MAX];
    unsigned fails;
    int code_at_dot;    /* 0: 250 */
    uint64_t dot_every; /* code_at_dot at each Kth message; 1: at all */
    uint64_t max;       /* after so many messages MAIL gets 452; 0: never */
    uint64_t delay_us;  /* before the answer to the final dot */
    bool pipelining;    /* offer it */
    struct seen *seen;
    struct lines *ledger; /* may be NULL */

    uint64_t sessions, dots, accepted, refused, recipients, bytes;
    uint64_t first_us, last_us; /* answers to the first and to the last final dot; CLOCK_MONOTONIC */
    struct tally replies;
};

struct sinkconn;

struct sinkconn *sinkconn_open(struct sink_policy *p); /* the greeting waits in its output */
void sinkconn_close(struct sinkconn **c);
/* Where to read to, and how much; 0 while an answer is delayed. */
char *sinkconn_room(struct sinkconn *c, size_t *n_r);
/* n bytes have been read; now_us: CLOCK_MONOTONIC. */
void sinkconn_input(struct sinkconn *c, size_t n, uint64_t now_us);
/* What is to be sent; sinkconn_sent takes it off. */
const char *sinkconn_out(const struct sinkconn *c, size_t *n_r);
void sinkconn_sent(struct sinkconn *c, size_t n);
/* The session has said QUIT, or something that ends it: close when all is sent. */
bool sinkconn_ended(const struct sinkconn *c);
/* An answer to a final dot is due at this time; 0: none.  sinkconn_wake answers and goes on. */
uint64_t sinkconn_due_us(const struct sinkconn *c);
void sinkconn_wake(struct sinkconn *c, uint64_t now_us);
