/* client.h - the client's side of an SMTP conversation as data in, data out: no sockets, no clock.
 *
 *   client_input(bytes)  ->  client_next() ... events  ->  client_begin / client_body / ...  ->  client_output()
 *
 * The owner feeds what the server said, takes events until CLIENT_NONE, acts on each, then sends what client_output()
 * shows and says how much went out.  A message:
 *
 *   client_begin        MAIL, RCPT..., DATA: in one go where the server offers PIPELINING (RFC 2920), else one by one
 *   CLIENT_GO           the server said 354: give the body with client_body (any pieces), then client_body_end
 *   client_body_end     the final dot, or not yet: with dot_now == false it is withheld until client_release_dot, so
 *                       that the order of messages can be kept across several connections
 *   CLIENT_MESSAGE      a verdict for each recipient
 *
 * Once the final dot is on its way, the next message may begin right behind it (client_can_begin says so): its MAIL,
 * RCPT and DATA ride with the dot, so that a drain costs one round trip a message.  At most two messages are under way.
 *
 * Whatever the server says that makes no sense (a reply nobody asked for, 250 to DATA, an endless reply), 421, a
 * connection that closed: CLIENT_END, with the reason; messages without a verdict are then the owner's to try again.
 *
 * Thread: its owner's.  Memory: replies and lines are bounded; the output grows by what is put in and is given back. */
#pragma once
#include "spool/base/status.h"

struct smtp_client;

#define CLIENT_RCPTS_MAX 1024

/* Where in the conversation something was decided. */
enum client_stage {
    CLIENT_AT_CONNECT, /* used by owners: before there was a conversation */
    CLIENT_AT_GREETING,
    CLIENT_AT_HELLO,
    CLIENT_AT_IDLE, /* no reply was due */
    CLIENT_AT_MAIL,
    CLIENT_AT_RCPT,
    CLIENT_AT_DATA,
    CLIENT_AT_DOT,
    CLIENT_AT_QUIT,
};
const char *client_stage_name(enum client_stage s);

/* Borrowed until its CLIENT_MESSAGE or CLIENT_END. */
struct client_message {
    struct slice sender;       /* without <> */
    const struct slice *rcpts; /* 1..CLIENT_RCPTS_MAX, without <> */
    size_t rcpts_n;
    uint64_t bytes; /* for SIZE (RFC 1870) */
    bool body_8bit; /* BODY=8BITMIME (RFC 6152); sent as it is where the server does not offer it */
    bool utf8;      /* needs SMTPUTF8 (RFC 6531): refused with 5.6.7 where the server does not offer it */
    void *arg;
};

enum client_event {
    CLIENT_NONE,    /* feed more */
    CLIENT_READY,   /* greeting and EHLO passed */
    CLIENT_GO,      /* the body of the oldest message may be sent */
    CLIENT_MESSAGE, /* see client_result */
    CLIENT_END,     /* see client_end; nothing more comes */
};

/* Valid until the next call on this client. */
struct client_result {
    void *arg;
    enum client_stage stage;         /* where the message as a whole was decided */
    const struct smtp_status *rcpts; /* one a recipient, in order: 2xx delivered, 4xx, 5xx */
    size_t rcpts_n;
    size_t accepted; /* recipients that the server took at RCPT */
};

struct client_end {
    enum client_stage stage;
    struct smtp_status status; /* code 0: no reply (connection lost, nonsense) */
    bool loop;                 /* the server has our own name (stage CLIENT_AT_HELLO) */
    bool in_doubt;             /* a final dot was sent and not answered: its message may have been taken */
    void *in_doubt_arg;
};

/* hostname: for EHLO; borrowed. NULL: out of memory. */
struct smtp_client *client_new(const char *hostname);
void client_free(struct smtp_client **c);

/* Bytes from the server, at most CLIENT_INPUT_MAX a call; take all events before the next call. */
#define CLIENT_INPUT_MAX 16384
void client_input(struct smtp_client *c, struct slice in);
/* The connection closed or failed, or a timeout ran out; why is borrowed.  What was fed before still makes its events.
 */
void client_lost(struct smtp_client *c, const char *why);
enum client_event client_next(struct smtp_client *c);
const struct client_result *client_result(const struct smtp_client *c);
const struct client_end *client_end(const struct smtp_client *c);

bool client_can_begin(const struct smtp_client *c);
/* client_can_begin() is true. A message that the server cannot take by what it said in EHLO (SIZE, SMTPUTF8) gets its
 * verdict from the next client_next without being sent. */
void client_begin(struct smtp_client *c, const struct client_message *m);
/* After CLIENT_GO, until client_body_end. Dot-stuffed on the way (RFC 5321 4.5.2). Copied. */
void client_body(struct smtp_client *c, struct slice data);
void client_body_end(struct smtp_client *c, bool dot_now);
void client_release_dot(struct smtp_client *c);
/* A whole body lies with the server and its dot is withheld. */
bool client_dot_held(const struct smtp_client *c);
/* When no message is under way. */
void client_quit(struct smtp_client *c);

/* What to send; valid until the next call. */
struct slice client_output(const struct smtp_client *c);
void client_sent(struct smtp_client *c, size_t n);

/* How long the reply that is due, or the next progress of the body, may take: RFC 5321 4.5.3.2.  0: nothing is due.
 * client_replies grows with each whole reply: the time starts anew when it has grown (a server that drips bytes does
 * not gain any). */
uint64_t client_timeout_us(const struct smtp_client *c);
uint64_t client_replies(const struct smtp_client *c);
