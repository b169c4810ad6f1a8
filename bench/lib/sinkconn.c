/* sinkconn.c - one SMTP session of the sink (sinkconn.h). */
#include "bench/lib/sinkconn.h"
#include <err.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define IN_BYTES  65536
#define OUT_BYTES 16384
#define HEAD_MAX  16384 /* of a message's head, where our headers are looked for */

enum sink_state { SINK_COMMAND, SINK_HEAD, SINK_BODY, SINK_DELAYED, SINK_ENDED };

struct sinkconn {
    struct sink_policy *p;
    enum sink_state state;
    uint64_t due_us;
    unsigned rcpts; /* accepted in this transaction */
    bool mail;
    struct seen_mark mark; /* of the message that is coming in */
    size_t in_n, out_n;
    char in[IN_BYTES];
    char out[OUT_BYTES];
};

static void say(struct sinkconn *c, int code, const char *text)
{
    size_t n = strlen(text);
    tally_add(&c->p->replies, code);
    if (c->out_n + n + 6 > OUT_BYTES) { /* a client that never reads its answers */
        c->state = SINK_ENDED;
        return;
    }
    char *at = c->out + c->out_n;
    at[0] = (char)('0' + code / 100);
    at[1] = (char)('0' + code / 10 % 10);
    at[2] = (char)('0' + code % 10);
    at[3] = ' ';
    memcpy(at + 4, text, n);
    memcpy(at + 4 + n, "\r\n", 2);
    c->out_n += n + 6;
}

static void say_code(struct sinkconn *c, int code)
{
    say(c, code, code < 400 ? "2.0.0 ok" : code < 500 ? "4.2.0 not now" : "5.1.1 no");
}

struct sinkconn *sinkconn_open(struct sink_policy *p)
{
    struct sinkconn *c = malloc(sizeof *c);
    if (!c)
        err(1, "session");
    memset(c, 0, offsetof(struct sinkconn, in));
    c->p = p;
    p->sessions++;
    say(c, 220, "sink.test ESMTP");
    return c;
}

void sinkconn_close(struct sinkconn **c)
{
    free(*c);
    *c = NULL;
}

static void do_ehlo(struct sinkconn *c)
{
    static const char with[] = "250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n";
    static const char without[] = "250-sink.test\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n";
    size_t n = c->p->pipelining ? sizeof with - 1 : sizeof without - 1;
    if (c->out_n + n < OUT_BYTES) {
        memcpy(c->out + c->out_n, c->p->pipelining ? with : without, n);
        c->out_n += n;
    }
    say(c, 250, "SIZE 0");
}

static void do_mail(struct sinkconn *c)
{
    if (c->p->max && c->p->accepted >= c->p->max) {
        say(c, 452, "4.3.1 the sink has had enough");
        return;
    }
    c->mail = true;
    c->rcpts = 0;
    say_code(c, 250);
}

static void do_rcpt(struct sinkconn *c, const char *line, size_t n)
{
    if (!c->mail) {
        say(c, 503, "5.5.1 MAIL first");
        return;
    }
    for (unsigned i = 0; i < c->p->fails; i++) {
        if (memmem(line, n, c->p->fail[i].part, strlen(c->p->fail[i].part))) {
            say_code(c, c->p->fail[i].code);
            return;
        }
    }
    c->rcpts++;
    say_code(c, 250);
}

static void do_data(struct sinkconn *c)
{
    if (!c->rcpts) {
        say(c, 503, "5.5.1 no valid recipients");
        return;
    }
    say(c, 354, "go on");
    c->state = SINK_HEAD;
}

static void do_quit(struct sinkconn *c)
{
    say(c, 221, "2.0.0 bye");
    c->state = SINK_ENDED;
}

static bool is(const char *line, size_t n, const char *verb)
{
    return n >= 4 && strncasecmp(line, verb, 4) == 0;
}

static void do_command(struct sinkconn *c, const char *line, size_t n)
{
    if (is(line, n, "MAIL"))
        do_mail(c);
    else if (is(line, n, "RCPT"))
        do_rcpt(c, line, n);
    else if (is(line, n, "DATA"))
        do_data(c);
    else if (is(line, n, "EHLO"))
        do_ehlo(c);
    else if (is(line, n, "QUIT"))
        do_quit(c);
    else if (is(line, n, "RSET") || is(line, n, "HELO") || is(line, n, "NOOP")) {
        c->mail = c->mail && !is(line, n, "RSET");
        say_code(c, 250);
    } else
        say(c, 500, "5.5.2 what?");
}

/* One command of the input; how many bytes were used, 0: the line is not complete. */
static size_t take_command(struct sinkconn *c, const char *at, size_t n)
{
    const char *nl = memchr(at, '\n', n);
    if (!nl) {
        if (n >= 4096) {
            say(c, 500, "5.5.2 line too long");
            c->state = SINK_ENDED;
        }
        return 0;
    }
    do_command(c, at, (size_t)(nl - at));
    return (size_t)(nl - at) + 1;
}

/* It has arrived: with its dot, not with its head, since a sender may hold the dot back to keep the order. */
static void take_message(struct sinkconn *c)
{
    struct sink_policy *p = c->p;
    p->accepted++;
    p->recipients += c->rcpts;
    seen_add(p->seen, &c->mark);
    if (c->mark.token[0])
        lines_add(p->ledger, 'R', c->mark.token);
}

/* The answer to the final dot, at once or when its delay is over. */
static void answer_dot(struct sinkconn *c, uint64_t now_us)
{
    struct sink_policy *p = c->p;
    bool refuse = p->code_at_dot && ++p->dots % p->dot_every == 0;
    c->state = SINK_COMMAND;
    c->mail = false;
    if (!p->first_us)
        p->first_us = now_us;
    p->last_us = now_us;
    if (refuse)
        p->refused++;
    else
        take_message(c);
    say_code(c, refuse ? p->code_at_dot : 250);
}

static void end_message(struct sinkconn *c, uint64_t now_us)
{
    if (!c->p->delay_us) {
        answer_dot(c, now_us);
        return;
    }
    c->state = SINK_DELAYED;
    c->due_us = now_us + c->p->delay_us;
}

/* CR LF . CR LF.  Dots are rare, so memchr skips most of a message; memmem is several times slower here. */
static const char *find_dot(const char *at, size_t n)
{
    for (const char *p = at + 2, *end = at + n; p + 2 < end; p++) {
        p = memchr(p, '.', (size_t)(end - p) - 2);
        if (!p)
            return NULL;
        if (p[-1] == '\n' && p[-2] == '\r' && p[1] == '\r' && p[2] == '\n')
            return p - 2;
    }
    return NULL;
}

/* The head is looked at as one piece; nothing is used before it is whole. */
static size_t take_head(struct sinkconn *c, const char *at, size_t n, uint64_t now_us)
{
    if (n >= 3 && memcmp(at, ".\r\n", 3) == 0) { /* an empty message: no line end before the dot */
        c->mark = seen_read(c->p->seen, at, 0);
        end_message(c, now_us);
        return 3;
    }
    const char *end = memmem(at, n, "\r\n\r\n", 4);
    size_t head = end ? (size_t)(end - at) + 2 : n;
    const char *dot = find_dot(at, end ? head + 2 : n); /* a message without a body */
    if (!end && !dot && n < HEAD_MAX)
        return 0;
    if (dot)
        head = (size_t)(dot - at);
    c->mark = seen_read(c->p->seen, at, head);
    c->state = SINK_BODY;
    c->p->bytes += head;
    return dot || end ? head : n - 4;
}

static size_t take_body(struct sinkconn *c, const char *at, size_t n, uint64_t now_us)
{
    const char *dot = find_dot(at, n);
    if (!dot) {
        size_t used = n > 4 ? n - 4 : 0;
        c->p->bytes += used;
        return used;
    }
    c->p->bytes += (uint64_t)(dot - at) + 2;
    end_message(c, now_us);
    return (size_t)(dot - at) + 5;
}

static size_t take(struct sinkconn *c, const char *at, size_t n, uint64_t now_us)
{
    switch (c->state) {
    case SINK_COMMAND:
        return take_command(c, at, n);
    case SINK_HEAD:
        return take_head(c, at, n, now_us);
    case SINK_BODY:
        return take_body(c, at, n, now_us);
    case SINK_DELAYED:
    case SINK_ENDED:
        break;
    }
    return 0;
}

static void work(struct sinkconn *c, uint64_t now_us)
{
    size_t used = 0;
    for (;;) {
        enum sink_state before = c->state;
        size_t n = take(c, c->in + used, c->in_n - used, now_us);
        used += n;
        if (n == 0 && c->state == before)
            break;
    }
    memmove(c->in, c->in + used, c->in_n - used);
    c->in_n -= used;
}

char *sinkconn_room(struct sinkconn *c, size_t *n_r)
{
    *n_r = c->state == SINK_DELAYED || c->state == SINK_ENDED ? 0 : IN_BYTES - c->in_n;
    return c->in + c->in_n;
}

void sinkconn_input(struct sinkconn *c, size_t n, uint64_t now_us)
{
    c->in_n += n;
    work(c, now_us);
}

const char *sinkconn_out(const struct sinkconn *c, size_t *n_r)
{
    *n_r = c->out_n;
    return c->out;
}

void sinkconn_sent(struct sinkconn *c, size_t n)
{
    memmove(c->out, c->out + n, c->out_n - n);
    c->out_n -= n;
}

bool sinkconn_ended(const struct sinkconn *c)
{
    return c->state == SINK_ENDED;
}

uint64_t sinkconn_due_us(const struct sinkconn *c)
{
    return c->state == SINK_DELAYED ? c->due_us : 0;
}

void sinkconn_wake(struct sinkconn *c, uint64_t now_us)
{
    answer_dot(c, now_us);
    work(c, now_us);
}
