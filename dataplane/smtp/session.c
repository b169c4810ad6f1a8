/* session.c - the frame of a session: lines out of bytes, replies, states, time, the end. */
#include "dataplane/smtp/session.h"
#include "dataplane/smtp/inner.h"
#include "spool/base/metrics.h"

#include <assert.h>
#include <stdlib.h>

const struct smtp_limits smtp_limits_default = SMTP_LIMITS_DEFAULT;

_Static_assert(sizeof(struct smtp_session) <= 512, "an idle session is small");

void smtp_site_now(struct smtp_site *site, uint64_t boot_us, uint64_t wall_us)
{
    site->boot_us = boot_us;
    if (site->date_s == wall_us / 1000000)
        return;
    site->date_s = wall_us / 1000000;
    clock_rfc5322(wall_us, site->date);
}

/* ---- states and replies */

/* Which states may follow which.  DATA -> CLOSED is a timeout or a 421 in place of the answer. */
static const uint8_t may_follow[STATE_COUNT] = {
    [STATE_NEW] = 1 << STATE_FRESH | 1 << STATE_CLOSED,
    [STATE_FRESH] = 1 << STATE_READY | 1 << STATE_CLOSED,
    [STATE_READY] = 1 << STATE_READY | 1 << STATE_MAIL | 1 << STATE_CLOSED,
    [STATE_MAIL] = 1 << STATE_READY | 1 << STATE_RCPT | 1 << STATE_CLOSED,
    [STATE_RCPT] = 1 << STATE_READY | 1 << STATE_RCPT | 1 << STATE_DATA | 1 << STATE_CLOSED,
    [STATE_DATA] = 1 << STATE_READY | 1 << STATE_CLOSED,
    [STATE_CLOSED] = 0,
};

void smtp_enter(struct smtp_session *s, enum smtp_state next)
{
    assert(may_follow[s->state] & 1 << next);
    s->state = next;
}

void smtp_txn_drop(struct smtp_session *s)
{
    if (s->txn && s->txn->door)
        s->site->intake->ops->abort(s->txn->door);
    s->txn = NULL;
    s->asked = NULL;
    arena_free(&s->arena);
}

/* Stops whatever the session waits for. */
static void session_unwait(struct smtp_session *s)
{
    if (s->wait == WAIT_VERDICT && s->site->policy.forget)
        s->site->policy.forget(s->site->policy.ctx, s);
    s->wait = WAIT_NOTHING;
}

void smtp_end(struct smtp_session *s)
{
    if (s->state == STATE_CLOSED)
        return;
    session_unwait(s);
    smtp_txn_drop(s);
    smtp_enter(s, STATE_CLOSED);
    s->out->close(s->out_arg);
}

void smtp_say_line(struct smtp_session *s, struct slice line)
{
    if (s->state == STATE_CLOSED)
        return;
    s->out->send(s->out_arg, line);
    if (line.p[0] == '4' || line.p[0] == '5') {
        metric_add(line.p[0] == '4' ? M_SMTP_REPLIES_4XX : M_SMTP_REPLIES_5XX, 1);
        if (s->site->policy.refused)
            s->site->policy.refused(s->site->policy.ctx, s, line);
    }
    if (memcmp(line.p, "421", 3) == 0 || memcmp(line.p, "221", 3) == 0)
        smtp_end(s);
}

/* 500-504 and 555: the client does not speak SMTP well, or tries things. */
static bool is_offence(struct slice line)
{
    return memcmp(line.p, "50", 2) == 0 || memcmp(line.p, "555", 3) == 0;
}

void smtp_say(struct smtp_session *s, enum smtp_reply r)
{
    struct slice line = smtp_reply_line(r);
    if (is_offence(line) && ++s->errors > s->site->limits.errors)
        line = smtp_reply_line(R_ERRORS);
    smtp_say_line(s, line);
}

void smtp_say_status(struct smtp_session *s, const struct smtp_status *st)
{
    char line[SMTP_STATUS_TEXT_MAX + 32];
    int n = status_format(st, line, sizeof line - 2);
    line[n++] = '\r';
    line[n++] = '\n';
    smtp_say_line(s, slice_of(line, (size_t)n));
}

/* ---- lines out of bytes: a line ends in CRLF and in nothing else */

static void line_forget(struct smtp_line *l)
{
    free(l->p);
    *l = (struct smtp_line){0};
}

/* Keeps bytes of an unfinished line. false: out of memory. */
static bool line_keep(struct smtp_line *l, struct slice part)
{
    if (part.n)
        l->cr = part.p[part.n - 1] == '\r';
    if (l->over || l->n + part.n > SMTP_LINE_MAX) {
        l->over = true;
        return true;
    }
    if (l->n + part.n > l->cap) {
        uint16_t cap = l->n + part.n <= 256 ? 256 : SMTP_LINE_MAX;
        uint8_t *p = realloc(l->p, cap);
        if (!p)
            return false;
        l->p = p;
        l->cap = cap;
    }
    if (part.n)
        memcpy(l->p + l->n, part.p, part.n);
    l->n = (uint16_t)(l->n + part.n);
    return true;
}

/* Length up to and with the CRLF that ends the line, 0 if it is not there; notes each LF alone. */
static size_t line_find_end(struct smtp_line *l, struct slice in)
{
    const uint8_t *end = in.p + in.n, *at = in.p;
    for (const uint8_t *lf; (lf = memchr(at, '\n', (size_t)(end - at))); at = lf + 1) {
        if (lf > in.p ? lf[-1] == '\r' : l->cr)
            return (size_t)(lf - in.p) + 1;
        l->bare = true;
    }
    return 0;
}

/* line: with its CRLF. */
static void line_judge(struct smtp_session *s, struct slice line, bool bare)
{
    line.n -= 2;
    if (line.n + 2 > SMTP_LINE_MAX)
        smtp_say(s, R_LONG);
    else if (bare || memchr(line.p, '\r', line.n))
        smtp_say(s, R_BARE);
    else
        smtp_line_run(s, line);
}

static void line_finish(struct smtp_session *s, struct slice part)
{
    struct smtp_line l = s->line;
    s->line = (struct smtp_line){0};
    if (!l.p && !l.over)
        line_judge(s, part, l.bare);
    else if (!line_keep(&l, part))
        smtp_say(s, R_MEMORY);
    else if (l.over)
        smtp_say(s, R_LONG);
    else
        line_judge(s, slice_of(l.p, l.n), l.bare);
    line_forget(&l);
    s->active_us = s->site->boot_us;
}

static size_t line_feed(struct smtp_session *s, struct slice in)
{
    size_t n = line_find_end(&s->line, in);
    if (n)
        line_finish(s, slice_of(in.p, n));
    else if (!line_keep(&s->line, in))
        smtp_say(s, R_MEMORY);
    return n ? n : in.n;
}

/* ---- the session */

void smtp_session_open(struct smtp_session *s, struct smtp_site *site, const struct smtp_out *out, void *arg,
                       struct slice client)
{
    *s = (struct smtp_session){.site = site, .out = out, .out_arg = arg, .active_us = site->boot_us};
    size_t n = client.n < sizeof s->client ? client.n : sizeof s->client - 1;
    if (n)
        memcpy(s->client, client.p, n);
    arena_init(&s->arena, site->limits.txn_bytes);
}

void smtp_session_greet(struct smtp_session *s)
{
    smtp_ask(s, ASK_CONNECT, NULL);
}

void smtp_session_turn_away(struct smtp_session *s, enum smtp_reply r)
{
    smtp_say(s, r);
}

size_t smtp_session_feed(struct smtp_session *s, struct slice in)
{
    size_t at = 0;
    while (at < in.n && s->wait == WAIT_NOTHING) {
        struct slice rest = slice_of(in.p + at, in.n - at);
        if (s->state == STATE_CLOSED)
            return in.n;
        at += s->state == STATE_DATA ? smtp_body_feed(s, rest) : line_feed(s, rest);
    }
    return at;
}

/* The timer never runs longer than the shortest limit, so a change of state needs no new one. */
uint64_t smtp_session_tick(struct smtp_session *s)
{
    if (s->state == STATE_CLOSED)
        return 0;
    const struct smtp_limits *l = &s->site->limits;
    uint64_t shortest_s = l->command_s < l->data_s ? l->command_s : l->data_s;
    uint64_t limit_us = 1000000ull * (s->state == STATE_DATA ? l->data_s : l->command_s);
    uint64_t idle_us = s->site->boot_us - s->active_us;
    if (s->wait != WAIT_NOTHING)
        return shortest_s * 1000000;
    if (idle_us >= limit_us) {
        metric_add(M_SMTP_TIMEOUTS, 1);
        smtp_say(s, R_TIMEOUT);
        return 0;
    }
    uint64_t left_us = limit_us - idle_us;
    return left_us < shortest_s * 1000000 ? left_us : shortest_s * 1000000;
}

void smtp_session_shutdown(struct smtp_session *s)
{
    bool patient = !s->shutting || s->wait == WAIT_COMMIT;
    s->shutting = true;
    if (s->state != STATE_CLOSED && !(s->state == STATE_DATA && patient))
        smtp_say(s, R_SHUT);
}

void smtp_session_close(struct smtp_session *s)
{
    session_unwait(s);
    smtp_txn_drop(s);
    line_forget(&s->line);
    free(s->helo);
    s->helo = NULL;
    s->state = STATE_CLOSED;
}
