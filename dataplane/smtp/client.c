/* client.c - the client's side of an SMTP conversation.
 *
 *   CONNECTED -greeting-> HELLO -EHLO 2xx-> READY <-> messages -> QUIT -> OVER
 *
 * Replies come in the order of commands, so a short queue of what is expected (`asked`) is the whole memory of the
 * dialogue.  Two slots hold the messages under way: the front one may be anywhere, the one behind it only in its
 * envelope, since its DATA is answered after the front's dot. */
#include "dataplane/smtp/client.h"

#include "dataplane/smtp/client_reply.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum ask { ASK_GREETING, ASK_EHLO, ASK_HELO, ASK_RSET, ASK_MAIL, ASK_RCPT, ASK_DATA, ASK_DOT, ASK_QUIT };

static const enum client_stage ask_stages[] = {
    [ASK_GREETING] = CLIENT_AT_GREETING, [ASK_EHLO] = CLIENT_AT_HELLO, [ASK_HELO] = CLIENT_AT_HELLO,
    [ASK_RSET] = CLIENT_AT_IDLE,         [ASK_MAIL] = CLIENT_AT_MAIL,  [ASK_RCPT] = CLIENT_AT_RCPT,
    [ASK_DATA] = CLIENT_AT_DATA,         [ASK_DOT] = CLIENT_AT_DOT,    [ASK_QUIT] = CLIENT_AT_QUIT,
};

/* RFC 5321 4.5.3.2; QUIT is ours: nothing depends on its answer. */
static const uint32_t ask_timeout_s[] = {
    [ASK_GREETING] = 300, [ASK_EHLO] = 300, [ASK_HELO] = 300, [ASK_RSET] = 300, [ASK_MAIL] = 300,
    [ASK_RCPT] = 300,     [ASK_DATA] = 120, [ASK_DOT] = 600,  [ASK_QUIT] = 10,
};
#define BODY_TIMEOUT_S 180 /* 4.5.3.2.5, data block */

#define ASKED_MAX 16 /* greeting..QUIT and two messages, RCPTs of one message counted as one */
struct asked {
    enum ask ask;
    uint32_t n; /* replies still due */
    uint8_t slot;
};

enum slot_state {
    SLOT_FREE,
    SLOT_ENVELOPE, /* commands or their replies are outstanding */
    SLOT_BODY,     /* 354 came */
    SLOT_HELD,     /* the body is out, its dot is withheld */
    SLOT_DOT,      /* the dot is out */
    SLOT_OVER,     /* the verdict is there, not yet taken */
};

struct slot {
    enum slot_state state;
    struct client_message m;
    size_t rcpts_sent, rcpts_answered, accepted;
    bool mail_ok, abandoned; /* abandoned: a lone dot ends a DATA that nobody wants */
    enum client_stage stage;
    struct smtp_status verdict;
    struct smtp_status *rcpts; /* rcpts_n; code 0: taken at RCPT, shares the verdict */
    size_t rcpts_cap;
};

struct buf {
    uint8_t *p;
    size_t head, tail, cap;
};

struct smtp_client {
    const char *hostname;
    bool ready, ready_told, quitting, over, over_told, rset_due;
    bool pipelining, size_offered, body_8bit, utf8, loop;
    uint64_t size_limit; /* 0: none stated */
    const char *lost;
    struct asked asked[ASKED_MAX];
    uint32_t asked_head, asked_n;
    struct slot slots[2];
    uint8_t front; /* the older slot */
    uint8_t last;  /* the byte of the body before the next: where a line starts, dots are doubled */
    struct client_reply reply;
    uint64_t replies;
    struct client_result result;
    struct client_end end;
    struct buf out;
    size_t in_head, in_tail;
    uint8_t in[CLIENT_INPUT_MAX + REPLY_LINE_MAX];
};

const char *client_stage_name(enum client_stage s)
{
    static const char *const names[] = {"connect", "greeting", "hello", "idle", "mail", "rcpt", "data", "dot", "quit"};
    return names[s];
}

/* ---- output */

static uint8_t *buf_room(struct buf *b, size_t n)
{
    if (b->head == b->tail)
        b->head = b->tail = 0;
    if (b->cap - b->tail < n && b->head > 0) {
        memmove(b->p, b->p + b->head, b->tail - b->head);
        b->tail -= b->head;
        b->head = 0;
    }
    if (b->cap - b->tail < n) {
        size_t cap = b->cap ? b->cap : 8192;
        while (cap - b->tail < n)
            cap *= 2;
        uint8_t *p = realloc(b->p, cap);
        if (!p)
            abort(); /* a few hundred KiB a connection: without them nothing goes on */
        b->p = p;
        b->cap = cap;
    }
    return b->p + b->tail;
}

static void out_bytes(struct smtp_client *c, const void *p, size_t n)
{
    uint8_t *to = buf_room(&c->out, n);
    if (n)
        memcpy(to, p, n);
    c->out.tail += n;
}

static void out_slice(struct smtp_client *c, struct slice s)
{
    out_bytes(c, s.p, s.n);
}

#define out_lit(c, s) out_bytes((c), ("" s), sizeof(s) - 1)

struct slice client_output(const struct smtp_client *c)
{
    return slice_of(c->out.p + c->out.head, c->out.tail - c->out.head);
}

void client_sent(struct smtp_client *c, size_t n)
{
    assert(n <= c->out.tail - c->out.head);
    c->out.head += n;
}

/* ---- what is expected */

static void ask_for(struct smtp_client *c, enum ask a, uint8_t slot, uint32_t n)
{
    assert(c->asked_n < ASKED_MAX);
    c->asked[(c->asked_head + c->asked_n++) % ASKED_MAX] = (struct asked){a, n, slot};
}

static const struct asked *asked_front(const struct smtp_client *c)
{
    return c->asked_n ? &c->asked[c->asked_head] : NULL;
}

static void asked_pop(struct smtp_client *c)
{
    if (--c->asked[c->asked_head].n > 0)
        return;
    c->asked_head = (c->asked_head + 1) % ASKED_MAX;
    c->asked_n--;
}

struct smtp_client *client_new(const char *hostname)
{
    struct smtp_client *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->hostname = hostname;
    reply_start(&c->reply);
    ask_for(c, ASK_GREETING, 0, 1);
    return c;
}

void client_free(struct smtp_client **c)
{
    if (!*c)
        return;
    free((*c)->slots[0].rcpts);
    free((*c)->slots[1].rcpts);
    free((*c)->out.p);
    free(*c);
    *c = NULL;
}

/* ---- the end */

static void set_end(struct smtp_client *c, enum client_stage stage, const struct smtp_status *st)
{
    c->over = true;
    c->ready = false;
    c->end.stage = stage;
    c->end.status = *st;
    c->end.loop = c->loop;
}

/* The front's dot is out, and what ended the conversation was not its answer. */
static void mark_doubt(struct smtp_client *c)
{
    const struct slot *s = &c->slots[c->front];
    if (s->state == SLOT_DOT && !s->abandoned) {
        c->end.in_doubt = true;
        c->end.in_doubt_arg = s->m.arg;
    }
}

__attribute__((format(printf, 2, 3))) static void end_lost(struct smtp_client *c, const char *fmt, ...)
{
    char text[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    struct smtp_status st;
    const struct asked *a = asked_front(c);
    status_set(&st, 0, 4, 4, 2, "%s", text);
    mark_doubt(c);
    set_end(c, a ? ask_stages[a->ask] : CLIENT_AT_IDLE, &st);
}

void client_lost(struct smtp_client *c, const char *why)
{
    c->lost = why;
}

/* ---- envelope */

static struct slot *slot_at(struct smtp_client *c, uint8_t i)
{
    return &c->slots[i & 1];
}

static void send_mail(struct smtp_client *c, uint8_t i)
{
    const struct client_message *m = &c->slots[i].m;
    char size[40];
    out_lit(c, "MAIL FROM:<");
    out_slice(c, m->sender);
    out_lit(c, ">");
    if (c->size_offered)
        out_bytes(c, size, (size_t)snprintf(size, sizeof size, " SIZE=%llu", (unsigned long long)m->bytes));
    if (m->body_8bit && c->body_8bit)
        out_lit(c, " BODY=8BITMIME");
    if (m->utf8)
        out_lit(c, " SMTPUTF8");
    out_lit(c, "\r\n");
    ask_for(c, ASK_MAIL, i, 1);
}

static void send_rcpts(struct smtp_client *c, uint8_t i, size_t n)
{
    struct slot *s = &c->slots[i];
    for (size_t k = 0; k < n; k++) {
        out_lit(c, "RCPT TO:<");
        out_slice(c, s->m.rcpts[s->rcpts_sent++]);
        out_lit(c, ">\r\n");
    }
    ask_for(c, ASK_RCPT, i, (uint32_t)n);
}

static void send_data(struct smtp_client *c, uint8_t i)
{
    out_lit(c, "DATA\r\n");
    ask_for(c, ASK_DATA, i, 1);
}

static void send_dot(struct smtp_client *c)
{
    out_lit(c, ".\r\n");
    c->slots[c->front].state = SLOT_DOT;
    ask_for(c, ASK_DOT, c->front, 1);
}

static bool has_control(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < 0x20 || s.p[i] == 0x7f)
            return true;
    return false;
}

/* Verdicts that need no talk. */
static bool refuse_unsent(const struct smtp_client *c, struct slot *s)
{
    bool control = has_control(s->m.sender);
    for (size_t i = 0; i < s->m.rcpts_n; i++)
        control |= has_control(s->m.rcpts[i]);
    if (control)
        status_set(&s->verdict, 553, 5, 1, 3, "address with a control character");
    else if (c->size_limit && s->m.bytes > c->size_limit)
        status_set(&s->verdict, 552, 5, 3, 4, "message of %llu bytes is over the server's limit of %llu",
                   (unsigned long long)s->m.bytes, (unsigned long long)c->size_limit);
    else if (s->m.utf8 && !c->utf8)
        status_set(&s->verdict, 553, 5, 6, 7, "server does not offer SMTPUTF8");
    else
        return false;
    return true;
}

static void slot_init(struct slot *s, const struct client_message *m)
{
    if (s->rcpts_cap < m->rcpts_n) {
        struct smtp_status *p = realloc(s->rcpts, m->rcpts_n * sizeof *p);
        if (!p)
            abort();
        s->rcpts = p;
        s->rcpts_cap = m->rcpts_n;
    }
    s->m = *m;
    s->state = SLOT_ENVELOPE;
    s->rcpts_sent = s->rcpts_answered = s->accepted = 0;
    s->mail_ok = s->abandoned = false;
    s->stage = CLIENT_AT_MAIL;
}

bool client_can_begin(const struct smtp_client *c)
{
    const struct slot *front = &c->slots[c->front], *back = &c->slots[c->front ^ 1];
    if (!c->ready || c->quitting || c->over || back->state != SLOT_FREE)
        return false;
    return front->state == SLOT_FREE || (c->pipelining && front->state == SLOT_DOT);
}

void client_begin(struct smtp_client *c, const struct client_message *m)
{
    assert(client_can_begin(c) && m->rcpts_n > 0 && m->rcpts_n <= CLIENT_RCPTS_MAX);
    uint8_t i = c->slots[c->front].state == SLOT_FREE ? c->front : c->front ^ 1;
    struct slot *s = slot_at(c, i);
    slot_init(s, m);
    if (refuse_unsent(c, s)) {
        s->state = SLOT_OVER;
        return;
    }
    if (c->rset_due) {
        out_lit(c, "RSET\r\n");
        ask_for(c, ASK_RSET, i, 1);
        c->rset_due = false;
        if (!c->pipelining)
            return; /* MAIL follows its answer */
    }
    send_mail(c, i);
    if (!c->pipelining)
        return;
    send_rcpts(c, i, m->rcpts_n);
    send_data(c, i);
}

/* ---- body */

void client_body(struct smtp_client *c, struct slice d)
{
    assert(c->slots[c->front].state == SLOT_BODY);
    const uint8_t *from = d.p, *end = d.p + d.n, *at = d.p;
    if (d.n == 0)
        return;
    buf_room(&c->out, d.n + 64); /* once, for the usual body */
    while ((at = memchr(at, '.', (size_t)(end - at)))) {
        uint8_t before = at > d.p ? at[-1] : c->last;
        at++;
        if (before != '\n')
            continue;
        out_bytes(c, from, (size_t)(at - from)); /* up to and with the dot */
        from = at - 1;                           /* and the dot again */
    }
    out_bytes(c, from, (size_t)(end - from));
    c->last = end[-1];
}

void client_body_end(struct smtp_client *c, bool dot_now)
{
    struct slot *s = &c->slots[c->front];
    assert(s->state == SLOT_BODY);
    if (c->last != '\n')
        out_lit(c, "\r\n");
    s->state = SLOT_HELD;
    if (dot_now)
        send_dot(c);
}

void client_release_dot(struct smtp_client *c)
{
    assert(client_dot_held(c));
    send_dot(c);
}

bool client_dot_held(const struct smtp_client *c)
{
    return c->slots[c->front].state == SLOT_HELD && !c->over;
}

void client_quit(struct smtp_client *c)
{
    if (c->quitting || c->over)
        return;
    c->quitting = true;
    out_lit(c, "QUIT\r\n");
    ask_for(c, ASK_QUIT, 0, 1);
}

/* ---- replies */

static void say_hello(struct smtp_client *c, bool extended)
{
    if (extended)
        out_lit(c, "EHLO ");
    else
        out_lit(c, "HELO ");
    out_slice(c, slice_str(c->hostname));
    out_lit(c, "\r\n");
    ask_for(c, extended ? ASK_EHLO : ASK_HELO, 0, 1);
}

static bool first_word_is(struct slice text, struct slice word)
{
    return text.n >= word.n && slice_ieq(slice_of(text.p, word.n), word) &&
           (text.n == word.n || text.p[word.n] == ' ' || text.p[word.n] == '=');
}

static uint64_t parse_size(struct slice text)
{
    uint64_t v = 0;
    for (size_t i = 5; i < text.n && text.p[i] >= '0' && text.p[i] <= '9' && v < UINT64_MAX / 16; i++)
        v = v * 10 + (uint64_t)(text.p[i] - '0');
    return v;
}

/* The first line names the server, the others its extensions (RFC 5321 4.1.1.1). */
static void learn_hello(struct smtp_client *c, struct slice line)
{
    struct slice text = reply_line_text(line);
    if (line.p[0] != '2')
        return;
    if (c->reply.lines == 1)
        c->loop = first_word_is(text, slice_str(c->hostname));
    else if (first_word_is(text, SLICE_LIT("PIPELINING")))
        c->pipelining = true;
    else if (first_word_is(text, SLICE_LIT("8BITMIME")))
        c->body_8bit = true;
    else if (first_word_is(text, SLICE_LIT("SMTPUTF8")))
        c->utf8 = true;
    else if (first_word_is(text, SLICE_LIT("SIZE"))) {
        c->size_offered = true;
        c->size_limit = parse_size(text);
    }
}

static void end_refused(struct smtp_client *c, enum ask a, const struct smtp_status *st)
{
    set_end(c, ask_stages[a], st);
}

static void on_hello(struct smtp_client *c, enum ask a, const struct smtp_status *st)
{
    if (st->class == 2 && !c->loop)
        c->ready = true;
    else if (a == ASK_EHLO && st->class == 5)
        say_hello(c, false); /* RFC 5321 3.2: an old server */
    else
        end_refused(c, a, st);
}

/* Without PIPELINING, each reply brings the next command. */
static void step_alone(struct smtp_client *c, uint8_t i)
{
    struct slot *s = &c->slots[i];
    if (c->pipelining)
        return;
    if (!s->mail_ok || (s->rcpts_answered == s->m.rcpts_n && s->accepted == 0)) {
        s->state = SLOT_OVER;
        c->rset_due = true;
    } else if (s->rcpts_sent < s->m.rcpts_n) {
        send_rcpts(c, i, 1);
    } else {
        send_data(c, i);
    }
}

static void on_mail(struct smtp_client *c, uint8_t i, const struct smtp_status *st)
{
    struct slot *s = &c->slots[i];
    s->mail_ok = st->class == 2;
    if (!s->mail_ok)
        s->verdict = *st;
    step_alone(c, i);
}

static void on_rcpt(struct smtp_client *c, uint8_t i, const struct smtp_status *st)
{
    struct slot *s = &c->slots[i];
    struct smtp_status *r = &s->rcpts[s->rcpts_answered++];
    r->code = 0;
    if (st->class == 2)
        s->accepted++;
    else
        *r = *st;
    if (s->mail_ok)
        s->stage = CLIENT_AT_RCPT;
    step_alone(c, i);
}

static void on_data(struct smtp_client *c, uint8_t i, const struct smtp_status *st)
{
    struct slot *s = &c->slots[i];
    bool wanted = s->mail_ok && s->accepted > 0;
    if (wanted)
        s->stage = CLIENT_AT_DATA;
    if (st->code == 354) {
        s->state = SLOT_BODY;
        c->last = '\n';
        s->abandoned = !wanted;
        if (!wanted)
            send_dot(c); /* RFC 2920 3.1: the server waits for a message that has no recipients */
        return;
    }
    if (wanted)
        s->verdict = *st;
    s->state = SLOT_OVER;
    c->rset_due = true;
}

static void on_dot(struct smtp_client *c, const struct smtp_status *st)
{
    struct slot *s = &c->slots[c->front];
    s->state = SLOT_OVER;
    if (s->abandoned)
        return;
    s->stage = CLIENT_AT_DOT;
    s->verdict = *st;
}

static bool reply_fits(enum ask a, const struct smtp_status *st)
{
    if (st->class == 3)
        return a == ASK_DATA && st->code == 354;
    return !(a == ASK_DATA && st->class == 2);
}

static void on_expected(struct smtp_client *c, const struct asked *a, const struct smtp_status *st)
{
    switch (a->ask) {
    case ASK_GREETING:
        if (st->class == 2)
            say_hello(c, true);
        else
            end_refused(c, a->ask, st);
        break;
    case ASK_EHLO:
    case ASK_HELO:
        on_hello(c, a->ask, st);
        break;
    case ASK_RSET:
        if (st->class != 2)
            end_refused(c, a->ask, st);
        else if (!c->pipelining)
            send_mail(c, a->slot);
        break;
    case ASK_MAIL:
        on_mail(c, a->slot, st);
        break;
    case ASK_RCPT:
        on_rcpt(c, a->slot, st);
        break;
    case ASK_DATA:
        on_data(c, a->slot, st);
        break;
    case ASK_DOT:
        on_dot(c, st);
        break;
    case ASK_QUIT:
        end_refused(c, a->ask, st);
        break;
    }
}

static void on_reply(struct smtp_client *c)
{
    struct smtp_status st;
    reply_status(&c->reply, &st);
    c->replies++;
    const struct asked *front = asked_front(c);
    if (!front) {
        if (st.code == 421)
            set_end(c, CLIENT_AT_IDLE, &st);
        else
            end_lost(c, "reply %u that nothing asked for", st.code);
        return;
    }
    struct asked a = *front;
    if (!reply_fits(a.ask, &st)) {
        end_lost(c, "unexpected reply %u", st.code);
        return;
    }
    asked_pop(c);
    if (st.code == 421) {
        if (a.ask != ASK_DOT)
            mark_doubt(c);
        set_end(c, ask_stages[a.ask], &st);
        return;
    }
    on_expected(c, &a, &st);
}

/* Takes one line of the input; false: there is no whole one. */
static bool take_line(struct smtp_client *c)
{
    uint8_t *p = c->in + c->in_head, *nl = memchr(p, '\n', c->in_tail - c->in_head);
    if (!nl) {
        if (c->in_tail - c->in_head > REPLY_LINE_MAX)
            end_lost(c, "reply line of more than %d bytes", REPLY_LINE_MAX);
        return false;
    }
    struct slice line = slice_of(p, (size_t)(nl - p));
    c->in_head += line.n + 1;
    if (line.n && line.p[line.n - 1] == '\r')
        line.n--;
    enum reply_more more = line.n > REPLY_LINE_MAX ? REPLY_BAD : reply_line(&c->reply, line);
    if (more == REPLY_BAD) {
        end_lost(c, "malformed reply");
        return false;
    }
    const struct asked *a = asked_front(c);
    if (a && a->ask == ASK_EHLO)
        learn_hello(c, line);
    if (more == REPLY_DONE) {
        on_reply(c);
        reply_start(&c->reply);
    }
    return true;
}

void client_input(struct smtp_client *c, struct slice in)
{
    assert(in.n <= CLIENT_INPUT_MAX);
    size_t left = c->in_tail - c->in_head;
    assert(left <= REPLY_LINE_MAX || c->over);
    if (c->over)
        return;
    memmove(c->in, c->in + c->in_head, left);
    memcpy(c->in + left, in.p, in.n);
    c->in_head = 0;
    c->in_tail = left + in.n;
}

/* ---- events */

static void take_result(struct smtp_client *c, struct slot *s)
{
    for (size_t i = 0; i < s->m.rcpts_n; i++)
        if (i >= s->rcpts_answered || !s->mail_ok || s->rcpts[i].code == 0)
            s->rcpts[i] = s->verdict;
    c->result = (struct client_result){s->m.arg, s->stage, s->rcpts, s->m.rcpts_n, s->accepted};
    s->state = SLOT_FREE;
    if (s == &c->slots[c->front] && c->slots[c->front ^ 1].state != SLOT_FREE)
        c->front ^= 1;
}

static enum client_event due_event(struct smtp_client *c, enum slot_state before)
{
    for (int k = 0; k < 2; k++) {
        struct slot *s = slot_at(c, (uint8_t)(c->front + k));
        if (s->state == SLOT_OVER) {
            take_result(c, s);
            return CLIENT_MESSAGE;
        }
    }
    if (c->over && !c->over_told) {
        c->over_told = true;
        return CLIENT_END;
    }
    if (c->ready && !c->ready_told) {
        c->ready_told = true;
        return CLIENT_READY;
    }
    return before != SLOT_BODY && c->slots[c->front].state == SLOT_BODY ? CLIENT_GO : CLIENT_NONE;
}

enum client_event client_next(struct smtp_client *c)
{
    enum slot_state before = c->slots[c->front].state;
    enum client_event e;
    while ((e = due_event(c, before)) == CLIENT_NONE && !c->over) {
        before = c->slots[c->front].state;
        if (take_line(c))
            continue;
        if (!c->over && c->lost)
            end_lost(c, "%s", c->lost);
        if (!c->over)
            return CLIENT_NONE;
    }
    return e;
}

const struct client_result *client_result(const struct smtp_client *c)
{
    return &c->result;
}

const struct client_end *client_end(const struct smtp_client *c)
{
    return &c->end;
}

uint64_t client_timeout_us(const struct smtp_client *c)
{
    const struct asked *a = asked_front(c);
    if (a)
        return ask_timeout_s[a->ask] * 1000000ull;
    return c->slots[c->front].state == SLOT_BODY ? BODY_TIMEOUT_S * 1000000ull : 0;
}

uint64_t client_replies(const struct smtp_client *c)
{
    return c->replies;
}
