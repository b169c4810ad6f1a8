/* verbs.c - what each command does.  A table says which command is in order in which state; parsing is command.c's. */
#include "dataplane/smtp/inner.h"
#include "spool/base/err.h"
#include "spool/base/metrics.h"
#include "spool/format/record.h"

#include <stdio.h>
#include <stdlib.h>

/* What a command out of order hears; R_NONE: it is in order. */
static const enum smtp_reply out_of_order[SMTP_VERB_COUNT][STATE_COUNT] = {
    [SMTP_MAIL] = {[STATE_FRESH] = R_NO_HELO, [STATE_MAIL] = R_NESTED, [STATE_RCPT] = R_NESTED},
    [SMTP_RCPT] = {[STATE_FRESH] = R_NO_HELO, [STATE_READY] = R_NO_MAIL},
    [SMTP_DATA] = {[STATE_FRESH] = R_NO_HELO, [STATE_READY] = R_NO_MAIL, [STATE_MAIL] = R_NO_RCPT},
};

/* ---- questions and verdicts */

static void refuse_rcpt(struct smtp_session *s, const struct smtp_status *st)
{
    if (st->class == 5) {
        metric_add(M_SMTP_RCPT_REFUSED, 1);
        s->refusals++;
    }
    if (s->refusals > s->site->limits.refusals)
        smtp_say(s, R_REFUSALS);
    else
        smtp_say_status(s, st);
}

static void refused(struct smtp_session *s, const struct smtp_verdict *v)
{
    switch (s->question) {
    case ASK_CONNECT:
        smtp_say_status(s, &v->status);
        smtp_end(s);
        break;
    case ASK_MAIL:
        smtp_txn_drop(s);
        smtp_say_status(s, &v->status);
        break;
    case ASK_RCPT:
        arena_reset(&s->arena, s->asked_mark);
        s->asked = NULL;
        refuse_rcpt(s, &v->status);
        break;
    }
}

static void add_rcpt(struct smtp_session *s, uint64_t domain_max_bytes)
{
    struct smtp_txn *t = s->txn;
    struct smtp_rcpt *r = s->asked;
    s->asked = NULL;
    if (domain_max_bytes && t->size_bytes > domain_max_bytes) {
        smtp_say(s, R_TOO_BIG);
        return;
    }
    if (!smtp_txn_add(t, &s->arena, r)) {
        smtp_say(s, R_FULL);
        return;
    }
    if (domain_max_bytes && domain_max_bytes < t->max_bytes)
        t->max_bytes = domain_max_bytes;
    smtp_enter(s, STATE_RCPT);
    smtp_say(s, R_RCPT_OK);
}

static void granted(struct smtp_session *s, const struct smtp_verdict *v)
{
    switch (s->question) {
    case ASK_CONNECT:
        smtp_enter(s, STATE_FRESH);
        smtp_banner(s);
        break;
    case ASK_MAIL:
        smtp_enter(s, STATE_MAIL);
        smtp_say(s, R_SENDER_OK);
        break;
    case ASK_RCPT:
        add_rcpt(s, v->max_message_bytes);
        break;
    }
}

static void judged(struct smtp_session *s, const struct smtp_verdict *v)
{
    s->wait = WAIT_NOTHING;
    if (v->kind == VERDICT_OK)
        granted(s, v);
    else
        refused(s, v);
}

void smtp_ask(struct smtp_session *s, enum smtp_question q, const struct smtp_path *path)
{
    struct smtp_verdict v;
    v.kind = VERDICT_OK;
    v.max_message_bytes = 0;
    s->question = q;
    s->site->policy.ask(s->site->policy.ctx, s, q, path, &v);
    if (v.kind == VERDICT_PENDING)
        s->wait = WAIT_VERDICT;
    else
        judged(s, &v);
}

void smtp_session_verdict(struct smtp_session *s, const struct smtp_verdict *v)
{
    s->active_us = s->site->boot_us;
    judged(s, v);
    if (s->state != STATE_CLOSED)
        s->out->resume(s->out_arg);
}

/* ---- greetings */

void smtp_banner(struct smtp_session *s)
{
    char line[SMTP_DOMAIN_MAX + 32];
    int n = snprintf(line, sizeof line, "220 %s ESMTP Satchel\r\n", s->site->hostname);
    smtp_say_line(s, slice_of(line, (size_t)n));
}

/* A new EHLO also ends a transaction, RFC 5321 section 4.1.4. */
static bool greet(struct smtp_session *s, struct slice name, bool esmtp)
{
    char *helo = strndup((const char *)name.p, name.n);
    if (!helo) {
        smtp_say(s, R_MEMORY);
        return false;
    }
    free(s->helo);
    s->helo = helo;
    s->esmtp = esmtp;
    smtp_txn_drop(s);
    smtp_enter(s, STATE_READY);
    return true;
}

static void do_helo(struct smtp_session *s, const struct smtp_command *c)
{
    char line[SMTP_DOMAIN_MAX + 16];
    if (!greet(s, c->arg, false))
        return;
    int n = snprintf(line, sizeof line, "250 %s\r\n", s->site->hostname);
    smtp_say_line(s, slice_of(line, (size_t)n));
}

/* The extensions we announce, in order; the last one has its parameter filled in. */
static const char *const keywords[] = {"PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"};

static void do_ehlo(struct smtp_session *s, const struct smtp_command *c)
{
    char text[SMTP_DOMAIN_MAX + 256];
    if (!greet(s, c->arg, true))
        return;
    int n = snprintf(text, sizeof text, "250-%s\r\n", s->site->hostname);
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "250-%s\r\n", keywords[i]);
    n += snprintf(text + n, sizeof text - (size_t)n, "250 SIZE %llu\r\n",
                  (unsigned long long)s->site->limits.message_bytes);
    smtp_say_line(s, slice_of(text, (size_t)n));
}

/* ---- the transaction */

/* What forbids a message now, whoever sends it. */
static enum smtp_reply mail_hurdle(struct smtp_session *s, const struct smtp_params *p)
{
    const struct smtp_limits *l = &s->site->limits;
    if (l->messages && s->messages >= l->messages)
        return R_MESSAGES;
    if (p->size_bytes > l->message_bytes)
        return R_TOO_BIG;
    return smtp_reply_of(s->site->intake->ops->admit(s->site->intake, p->size_bytes));
}

static void do_mail(struct smtp_session *s, const struct smtp_command *c)
{
    enum smtp_reply r = mail_hurdle(s, &c->params);
    if (r == R_NONE) {
        s->arena.limit = s->site->limits.txn_bytes;
        s->txn = smtp_txn_new(&s->arena, &c->path);
        r = s->txn ? R_NONE : R_FULL;
    }
    if (r != R_NONE) {
        smtp_txn_drop(s);
        smtp_say(s, r);
        return;
    }
    s->txn->size_bytes = c->params.size_bytes;
    s->txn->max_bytes = s->site->limits.message_bytes;
    s->txn->flags = c->params.body_8bit ? REC_F_8BIT : 0;
    smtp_ask(s, ASK_MAIL, &s->txn->sender);
}

static void refuse_literal(struct smtp_session *s)
{
    struct smtp_status st;
    status_set(&st, 550, 5, 7, 1, "Relaying denied: no mail for address literals here");
    refuse_rcpt(s, &st);
}

/* <postmaster> alone is postmaster@HOSTNAME: taken if that is a domain we serve. */
static void do_rcpt(struct smtp_session *s, const struct smtp_command *c)
{
    if (c->path.literal) {
        refuse_literal(s);
        return;
    }
    s->asked_mark = arena_mark(&s->arena);
    struct smtp_rcpt *r = smtp_rcpt_new(&s->arena, &c->path, slice_str(s->site->hostname));
    bool again = r && smtp_txn_has(s->txn, r);
    bool many = s->txn->rcpts_n >= s->site->limits.rcpts || s->txn->rcpts_n >= STATE_ITEMS_MAX;
    if (!r || again || many) {
        arena_reset(&s->arena, s->asked_mark);
        smtp_say(s, !r ? R_FULL : again ? R_RCPT_OK : R_RCPTS);
        return;
    }
    s->asked = r;
    smtp_ask(s, ASK_RCPT, &r->path);
}

static void do_data(struct smtp_session *s, const struct smtp_command *c)
{
    (void)c;
    smtp_body_begin(s);
}

static void do_rset(struct smtp_session *s, const struct smtp_command *c)
{
    (void)c;
    smtp_txn_drop(s);
    if (s->state != STATE_FRESH)
        smtp_enter(s, STATE_READY);
    smtp_say(s, R_OK);
}

/* ---- the rest */

static void do_noop(struct smtp_session *s, const struct smtp_command *c)
{
    (void)c;
    smtp_say(s, R_OK);
}

static void do_quit(struct smtp_session *s, const struct smtp_command *c)
{
    (void)c;
    smtp_say(s, R_BYE);
}

static void do_vrfy(struct smtp_session *s, const struct smtp_command *c)
{
    (void)c;
    smtp_say(s, R_VRFY);
}

static void do_help(struct smtp_session *s, const struct smtp_command *c)
{
#define X(verb, arg) " " #verb
    static const char text[] = "214 2.0.0 Commands:" SMTP_VERBS(X) "\r\n";
#undef X
    (void)c;
    smtp_say_line(s, slice_of(text, sizeof text - 1));
}

static void (*const run[SMTP_VERB_COUNT])(struct smtp_session *s, const struct smtp_command *c) = {
    [SMTP_EHLO] = do_ehlo, [SMTP_HELO] = do_helo, [SMTP_MAIL] = do_mail, [SMTP_RCPT] = do_rcpt, [SMTP_DATA] = do_data,
    [SMTP_RSET] = do_rset, [SMTP_NOOP] = do_noop, [SMTP_QUIT] = do_quit, [SMTP_VRFY] = do_vrfy, [SMTP_HELP] = do_help,
};

void smtp_line_run(struct smtp_session *s, struct slice line)
{
    struct smtp_command c;
    enum smtp_reply r = smtp_command_verb(line, &c);
    if (r == R_NONE)
        r = out_of_order[c.verb][s->state];
    if (r == R_NONE)
        r = smtp_command_args(&c);
    if (r == R_NONE)
        run[c.verb](s, &c);
    else
        smtp_say(s, r);
}
