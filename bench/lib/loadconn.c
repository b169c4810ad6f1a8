/* loadconn.c - the client side of one session of the load generator (loadconn.h). */
#include "bench/lib/loadconn.h"
#include <stddef.h>
#include <string.h>

static void put(struct loadconn *c, const char *p, size_t n)
{
    c->out[c->out_n++] = (struct iovec){(void *)(uintptr_t)p, n};
}

static void put_text(struct loadconn *c, const char *text)
{
    put(c, text, strlen(text));
}

void loadconn_open(struct loadconn *c, struct load_book *b)
{
    memset(c, 0, offsetof(struct loadconn, in));
    c->b = b;
    c->state = LOAD_GREETING;
    b->sessions++;
}

static bool may_begin(const struct loadconn *c)
{
    return c->b->budget > 0 && !c->b->closing;
}

/* Without pipelining: the next line of the envelope. */
static void put_line(struct loadconn *c)
{
    const char *at = c->env.text + c->env_at;
    const char *nl = memchr(at, '\n', c->env.n - c->env_at);
    put(c, at, (size_t)(nl - at) + 1);
    c->env_at += (size_t)(nl - at) + 1;
}

static void put_envelope(struct loadconn *c)
{
    c->b->budget--;
    c->env = mint_envelope(c->b->mint);
    c->env_at = 0;
    c->rcpt_left = c->b->recipients;
    c->rcpt_ok = 0;
    c->refused = false;
    if (c->b->pipelining)
        put(c, c->env.text, c->env.n);
    else
        put_line(c);
}

static void say_quit(struct loadconn *c)
{
    put_text(c, "QUIT\r\n");
    c->state = LOAD_QUIT;
}

void loadconn_begin(struct loadconn *c, uint64_t now_us)
{
    if (!may_begin(c) || c->done >= c->b->per_session) {
        say_quit(c);
        return;
    }
    if (!c->b->first_us)
        c->b->first_us = now_us;
    put_envelope(c);
    c->state = LOAD_MAIL;
}

static void put_message(struct loadconn *c)
{
    size_t n = 0;
    const char *filler = mint_filler(c->b->mint, &n);
    mint_stamp(c->b->mint, c->env.domain, &c->msg);
    lines_add(c->b->ledger, 'S', c->msg.token);
    put(c, c->msg.header, c->msg.header_n);
    put(c, filler, n);
    c->dot_us = 0;
    c->dot_on_way = true;
    c->state = LOAD_DOT;
    c->next_open = c->b->deep && may_begin(c) && c->done + 1 < c->b->per_session;
    if (c->next_open)
        put_envelope(c);
}

static void end_refused(struct loadconn *c)
{
    c->b->refused++;
    c->done++;
    c->refused = true;
    put_text(c, "RSET\r\n");
    c->state = LOAD_RSET;
}

static void on_dot(struct loadconn *c, int code, uint64_t now_us)
{
    struct load_book *b = c->b;
    c->dot_on_way = false;
    c->done++;
    if (code == 250) {
        b->acked++;
        hist_add(&b->dot, c->dot_us && now_us > c->dot_us ? now_us - c->dot_us : 0);
        b->last_us = now_us;
        mint_acked(b->mint, &c->msg);
    } else {
        b->refused++;
        c->refused = true;
    }
    lines_add(b->ledger, code == 250 ? 'A' : 'F', c->msg.token);
    c->state = c->next_open ? LOAD_MAIL : LOAD_READY;
    c->next_open = false;
}

static void on_envelope(struct loadconn *c, int code)
{
    bool ok = code == 250;
    if (c->state == LOAD_MAIL) {
        c->state = LOAD_RCPT;
    } else {
        c->rcpt_ok += ok;
        if (--c->rcpt_left == 0)
            c->state = LOAD_DATA;
    }
    if (c->b->pipelining)
        return;
    if ((c->state == LOAD_RCPT && c->rcpt_left == c->b->recipients && !ok) || (c->state == LOAD_DATA && !c->rcpt_ok))
        end_refused(c);
    else
        put_line(c);
}

static void on_reply(struct loadconn *c, int code, uint64_t now_us)
{
    switch (c->state) {
    case LOAD_GREETING:
        put_text(c, "EHLO gen.test\r\n");
        c->state = LOAD_EHLO;
        break;
    case LOAD_EHLO:
    case LOAD_RSET:
        c->state = LOAD_READY;
        break;
    case LOAD_MAIL:
    case LOAD_RCPT:
        on_envelope(c, code);
        break;
    case LOAD_DATA:
        if (code == 354)
            put_message(c);
        else
            end_refused(c);
        break;
    case LOAD_DOT:
        on_dot(c, code, now_us);
        break;
    case LOAD_QUIT:
        c->state = LOAD_ENDED;
        break;
    case LOAD_READY:
    case LOAD_ENDED:
        break;
    }
}

/* One line of a reply; the last of them ("250 ", not "250-") is the reply. */
static bool on_line(struct loadconn *c, const char *line, size_t n, uint64_t now_us)
{
    if (n < 3 || line[0] < '2' || line[0] > '5')
        return false;
    if (n > 3 && line[3] == '-')
        return true;
    int code = (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
    tally_add(&c->b->replies, code);
    if (code == 421 || (c->state == LOAD_GREETING && code != 220)) {
        if (c->dot_on_way && c->state == LOAD_DOT) { /* 421 to the dot is an answer: not taken */
            on_dot(c, code, now_us);
        }
        return false;
    }
    on_reply(c, code, now_us);
    return true;
}

bool loadconn_input(struct loadconn *c, const char *p, size_t n, uint64_t now_us)
{
    while (n) {
        size_t room = sizeof c->in - c->in_n, take = n < room ? n : room;
        memcpy(c->in + c->in_n, p, take);
        c->in_n += take;
        p += take;
        n -= take;
        size_t used = 0;
        const char *nl;
        while ((nl = memchr(c->in + used, '\n', c->in_n - used))) {
            if (!on_line(c, c->in + used, (size_t)(nl - c->in) - used, now_us))
                return false;
            used = (size_t)(nl - c->in) + 1;
        }
        if (used == 0 && c->in_n == sizeof c->in)
            return false;
        memmove(c->in, c->in + used, c->in_n - used);
        c->in_n -= used;
    }
    return true;
}

void loadconn_sent(struct loadconn *c, size_t n, uint64_t now_us)
{
    unsigned gone = 0;
    while (gone < c->out_n && n >= c->out[gone].iov_len)
        n -= c->out[gone++].iov_len;
    memmove(c->out, c->out + gone, (c->out_n - gone) * sizeof *c->out);
    c->out_n -= gone;
    if (n) {
        c->out[0].iov_base = (char *)c->out[0].iov_base + n;
        c->out[0].iov_len -= n;
    }
    if (c->state == LOAD_DOT && c->out_n == 0)
        c->dot_us = now_us;
}

void loadconn_lost(struct loadconn *c)
{
    if (c->state == LOAD_ENDED || c->state == LOAD_QUIT)
        return;
    c->b->lost_sessions++;
    c->b->unanswered += c->dot_on_way;
}
