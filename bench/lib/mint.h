/* mint.h - makes the messages of a run: envelope, headers with the token and the sequence, filler up to the size.
 *
 *   X-Ledger:   RUN-0000000042              the token: unique in the run
 *   X-Sequence: RUN d0003.test 0000000007 0000000005
 *
 * The second line says: message 7 of its domain in order of the final dot, sent when messages 1..5 of that domain had
 * all been acknowledged (0: none).  A receiver that gets it before one of 1..5 has proof that the order was broken,
 * whatever happened between messages that were on their way at the same time.  A message that is refused keeps the
 * second number where it is, so the proof grows weaker, never wrong.
 * Thread: one owner. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define MINT_TOKEN_MAX  64
#define MINT_HEADER_MAX 768

struct mint_spec {
    const char *run;    /* letters and digits, up to 32 */
    const char *domain; /* NULL: rotate over d0000.test, d0001.test, ... */
    unsigned domains;   /* how many to rotate over, 1..10000 */
    unsigned recipients;
    size_t size_bytes; /* headers and body, without the final dot; at least the headers are sent */
    const char *sender;
};

struct mint;

struct mint *mint_open(const struct mint_spec *spec);
void mint_close(struct mint **m);

/* MAIL, RCPT.. and DATA for the next domain in turn, as one text with CRLF; lives as long as the mint. */
struct mint_envelope {
    unsigned domain;
    const char *text;
    size_t n;
};
struct mint_envelope mint_envelope(struct mint *m);

/* A message that is about to be sent, dot and all, to that domain. */
struct mint_message {
    unsigned domain;
    uint32_t seq;
    char token[MINT_TOKEN_MAX];
    char header[MINT_HEADER_MAX]; /* up to and with the empty line */
    size_t header_n;
};
void mint_stamp(struct mint *m, unsigned domain, struct mint_message *msg_r);
/* Filler and final dot, the same for all messages; lives as long as the mint. */
const char *mint_filler(const struct mint *m, size_t *n_r);
/* Its 250 has arrived. */
void mint_acked(struct mint *m, const struct mint_message *msg);
