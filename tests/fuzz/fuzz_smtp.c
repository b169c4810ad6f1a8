/* fuzz_smtp.c - libFuzzer's entry for one SMTP session: its bytes become what a client sends, in which pieces, and what
 * the spool and the policy make of it.
 *
 * Input: one byte of limits, then steps until the bytes run out: enum op, with what it takes.
 * Every input is run twice, as it is and byte by byte: the server must say and store the same, unless a body had to
 * wait for room.  Checked of what it says: whole lines, one code a reply, a "queued as" for each message that was
 * stored and for no other; after QUIT it ends.  Of what it stored: no CR or LF alone, no NUL in a trace field, and no
 * field but ours in it. The world asserts its contract (tests/smtp/fake.c). */
#include "spool/base/err.h"
#include "tests/fuzz/bytes.h"
#include "tests/smtp/fake.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    STEPS_MAX = 200,
    LINE_MAX_SENT = 512, /* RFC 5321 section 4.5.3.1.5 */
    OP_WORD_LAST = 7
};

enum op { OP_RAW = OP_WORD_LAST + 1, OP_LONG, OP_PIECE, OP_FAIL, OP_HOLD, OP_LATER, OP_ANSWER, OP_WORLD, OP_COUNT };

static const char *const words[] = {
    "EHLO client.example\r\n",
    "HELO c\r\n",
    "MAIL FROM:<a@sender.example>\r\n",
    "MAIL FROM:<> SIZE=100 BODY=8BITMIME\r\n",
    "MAIL FROM:<\"q \\\" s\"@[192.0.2.9]> SIZE=99999999999999999999\r\n",
    "RCPT TO:<b@example.com>\r\n",
    "RCPT TO:<@r.example,@s.example:b@EXAMPLE.com>\r\n",
    "RCPT TO:<listed@listed.example>\r\n",
    "RCPT TO:<other@listed.example>\r\n",
    "RCPT TO:<b@pending.example>\r\n",
    "RCPT TO:<postmaster>\r\n",
    "RCPT TO:<b@small.example>\r\n",
    "DATA\r\n",
    "Received: from x by mx.satchel.example\r\n",
    "Subject: s\r\n\r\nbody\r\n",
    ".\r\n",
    "..\r\n",
    "\n.\n",
    "\r\n.\r\n",
    "\r",
    "\n",
    ".",
    "\r.\r",
    "RSET\r\n",
    "NOOP x\r\n",
    "VRFY b\r\n",
    "HELP\r\n",
    "QUIT\r\n",
    "STARTTLS\r\n",
    "BDAT 10 LAST\r\n",
    "XYZZY\r\n",
    "MAIL FROM:<a@b> NOSUCH=1\r\n",
};
enum { WORDS_N = sizeof words / sizeof *words };

static struct fake f;
static struct text piece; /* sent, and not yet given to the wire */
static bool bytewise;
static bool roomless; /* a body had to wait for room; whether it does depends on its pieces */

__attribute__((noreturn)) static void broken(const char *what)
{
    fprintf(stderr, "%s\nthe server said:\n%s\n", what, f.out.p);
    abort();
}

/* ---- the client */

static void give(void)
{
    if (f.open && !f.gone && bytewise)
        for (size_t i = 0; i < piece.n; i++)
            fake_send(&f, (const uint8_t *)piece.p + i, 1);
    else if (f.open && !f.gone && piece.n > 0)
        fake_send(&f, (const uint8_t *)piece.p, piece.n);
    piece.n = 0;
    if (f.stuck)
        broken(f.stuck);
}

static void send_raw(struct bytes *b)
{
    size_t n = take8(b) % 32 + 1u;
    n = n < b->n ? n : b->n;
    text_add(&piece, b->p, n);
    b->p += n;
    b->n -= n;
}

/* Text of up to 4 KiB, in one line or in many. */
static void send_long(struct bytes *b)
{
    char text[4096];
    unsigned n = take16(b) % sizeof text, line = take8(b);
    memset(text, 'x', n);
    for (unsigned i = line; line && i + 1 < n; i += line + 2)
        memcpy(text + i, "\r\n", 2);
    text_add(&piece, text, n);
}

/* ---- the world */

static void set_fail(struct bytes *b)
{
    static const int errors[] = {
        0, -SATCHEL_EFULL, -SATCHEL_ENOMEM, -SATCHEL_EIO, -SATCHEL_ETOOBIG, -SATCHEL_ESHUT, -SATCHEL_ECOPIES};
    enum fail_at at = take8(b) % FAIL_COUNT;
    f.fail[at] = errors[take8(b) % (sizeof errors / sizeof *errors)];
}

static void set_hold(struct bytes *b)
{
    uint8_t how = take8(b);
    f.hold_commits = how & 1;
    f.hold_room = how % 8 == 7;
    roomless |= f.hold_room;
    fake_settle(&f);
}

static void set_later(struct bytes *b)
{
    uint8_t how = take8(b);
    for (int q = 0; q < 3; q++)
        f.later[q] = how >> q & 1;
}

static void answer(struct bytes *b)
{
    static const uint16_t codes[] = {450, 550, 421};
    struct smtp_verdict v = {0};
    uint8_t how = take8(b);
    if (!f.asked)
        return;
    if (how % 4) {
        v.kind = VERDICT_REFUSED;
        status_set(&v.status, codes[how % 4 - 1], codes[how % 4 - 1] / 100, 7, 1, "so it is");
    }
    fake_answer(&f, &v);
}

static void world(struct bytes *b)
{
    uint8_t how = take8(b);
    if (!f.open || f.gone || f.closed)
        return;
    if (how % 8 == 0)
        fake_disconnect(&f);
    else if (how % 8 == 1)
        smtp_session_shutdown(&f.s);
    else
        fake_wait(&f, (uint64_t)(how / 8) * 10000000);
}

static void step(struct bytes *b)
{
    uint8_t op = take8(b) % OP_COUNT;
    if (op > OP_LONG)
        give();
    switch (op) {
    case OP_RAW:
        send_raw(b);
        break;
    case OP_LONG:
        send_long(b);
        break;
    case OP_PIECE:
        break;
    case OP_FAIL:
        set_fail(b);
        break;
    case OP_HOLD:
        set_hold(b);
        break;
    case OP_LATER:
        set_later(b);
        break;
    case OP_ANSWER:
        answer(b);
        break;
    case OP_WORLD:
        world(b);
        break;
    default: {
        const char *w = words[take8(b) % WORDS_N];
        text_add(&piece, w, strlen(w));
    }
    }
}

/* ---- what must hold */

/* Counts the replies that promise. */
static unsigned check_said(void)
{
    unsigned promises = 0;
    const char *code = NULL; /* of a reply that goes on */
    for (const char *p = f.out.p, *to = p + f.out.n; p < to;) {
        const char *end = memmem(p, (size_t)(to - p), "\r\n", 2);
        if (!end || end - p < 4 || end + 2 - p > LINE_MAX_SENT || memchr(p, '\n', (size_t)(end - p)))
            broken("a reply is no line of up to 512 bytes");
        if (*p < '2' || *p > '5' || p[1] < '0' || p[1] > '9' || p[2] < '0' || p[2] > '9' ||
            (p[3] != ' ' && p[3] != '-'))
            broken("a reply has no code");
        if (code && memcmp(code, p, 3) != 0)
            broken("a reply has two codes");
        code = p[3] == '-' ? p : NULL;
        promises += memmem(p, (size_t)(end - p), "queued as", 9) != NULL;
        p = end + 2;
    }
    if (code)
        broken("a reply does not end");
    return promises;
}

/* CRLF or nothing: what was stored can be sent on without a second meaning. */
static void check_lines(const struct text *t, const char *what)
{
    for (size_t i = 0; i < t->n; i++)
        if ((t->p[i] == '\n' && (i == 0 || t->p[i - 1] != '\r')) ||
            (t->p[i] == '\r' && (i + 1 == t->n || t->p[i + 1] != '\n')))
            broken(what);
}

static void check_trace(const struct text *t)
{
    check_lines(t, "a trace field has a CR or LF alone");
    if (t->n < 10 || memcmp(t->p, "Received: ", 10) != 0 || t->p[t->n - 1] != '\n' || memchr(t->p, 0, t->n))
        broken("a trace field is none");
    for (size_t i = 0; i + 1 < t->n; i++)
        if (t->p[i] == '\n' && t->p[i + 1] != ' ' && t->p[i + 1] != '\t')
            broken("a trace field became two");
}

static void check_stored(void)
{
    for (const struct fake_msg *m = f.last; m; m = m->next) {
        check_lines(&m->body, "a body has a CR or LF alone");
        for (size_t i = 0; i < m->envs_n; i++)
            check_trace(&m->envs[i].trace);
    }
}

/* ---- a life */

static void domain(const char *name, uint64_t max_bytes, bool pending, const char *list)
{
    struct fake_domain *d = &f.domains[f.domains_n++];
    *d = (struct fake_domain){.max_bytes = max_bytes, .pending = pending};
    snprintf(d->name, sizeof d->name, "%s", name);
    snprintf(d->list, sizeof d->list, "%s", list);
}

static void begin(uint8_t options)
{
    struct smtp_limits *l = &f.site.limits;
    fake_init(&f, &wire_direct);
    domain("example.com", 0, false, "");
    domain("small.example", 50, false, "");
    domain("pending.example", 0, true, "");
    domain("listed.example", 0, false, "listed\n");
    l->hops = 3;
    l->own_hops = 1;
    if (options & 1)
        l->message_bytes = 1000;
    if (options & 2)
        l->rcpts = l->messages = 2;
    if (options & 4)
        l->errors = l->refusals = 3;
    if (options & 8)
        l->txn_bytes = 1024;
    f.later[ASK_CONNECT] = options & 16;
}

/* All that was held goes on, and a client that says QUIT is let go. */
static void leave(void)
{
    const struct smtp_verdict ok = {.kind = VERDICT_OK};
    f.hold_commits = f.hold_room = false;
    memset(f.later, 0, sizeof f.later);
    fake_settle(&f);
    if (f.asked)
        fake_answer(&f, &ok);
    text_add(&piece, "\r\n.\r\nQUIT\r\n", 11);
    give();
    if (!f.gone && !f.closed)
        broken("the session goes on after QUIT");
}

/* What was said and stored, as one text. */
static struct text life(struct bytes b, bool cut)
{
    struct text all = {0};
    bytewise = cut;
    roomless = false;
    begin(take8(&b));
    fake_connect(&f);
    for (int steps = 0; b.n > 0 && steps < STEPS_MAX; steps++)
        step(&b);
    give();
    leave();
    unsigned promises = check_said();
    check_stored();
    if (f.gone ? promises > f.stored : promises != f.stored)
        broken("promised is not what was stored");
    text_add(&all, f.out.p, f.out.n);
    struct text spool = fake_spool(&f);
    text_add(&all, spool.p, spool.n);
    free(spool.p);
    fake_free(&f);
    return all;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes b = {data, size};
    struct text whole = life(b, false);
    struct text cut = life(b, true);
    if (!roomless && (whole.n != cut.n || memcmp(whole.p, cut.p, cut.n) != 0)) {
        fprintf(stderr, "whole:\n%s\nbyte by byte:\n%s\n", whole.p, cut.p);
        abort();
    }
    free(whole.p);
    free(cut.p);
    return 0;
}
