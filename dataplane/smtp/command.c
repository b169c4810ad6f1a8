/* command.c - RFC 5321 section 4.1.1: command = verb [SP argument] CRLF. */
#include "dataplane/smtp/command.h"

enum arg_rule { ARG_NONE, ARG_ANY, ARG_NEEDED };

struct verb {
    struct slice name;
    enum arg_rule arg;
};

static const struct verb verbs[SMTP_VERB_COUNT] = {
#define X(verb, rule) [SMTP_##verb] = {{(const uint8_t *)#verb, sizeof #verb - 1}, ARG_##rule},
    SMTP_VERBS(X)
#undef X
};

static const struct slice absent[] = {
#define X(verb) {(const uint8_t *)#verb, sizeof #verb - 1},
    SMTP_VERBS_ABSENT(X)
#undef X
};

static bool is_blank(uint8_t b)
{
    return b == ' ' || b == '\t';
}

static struct slice trim(struct slice s)
{
    while (s.n && is_blank(s.p[0]))
        s = slice_of(s.p + 1, s.n - 1);
    while (s.n && is_blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

/* Cuts what stands before the next blank off *s. */
static struct slice word(struct slice *s)
{
    size_t n = 0;
    while (n < s->n && !is_blank(s->p[n]))
        n++;
    struct slice w = slice_of(s->p, n);
    *s = trim(slice_of(s->p + n, s->n - n));
    return w;
}

enum smtp_reply smtp_command_verb(struct slice line, struct smtp_command *c_r)
{
    *c_r = (struct smtp_command){.arg = line};
    struct slice name = word(&c_r->arg);
    for (int v = 0; v < SMTP_VERB_COUNT; v++)
        if (slice_ieq(name, verbs[v].name)) {
            c_r->verb = (enum smtp_verb)v;
            return R_NONE;
        }
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++)
        if (slice_ieq(name, absent[i]))
            return R_ABSENT;
    return R_UNKNOWN;
}

/* size-value = 1*20DIGIT; what does not fit 64 bits is as good as the most that does. */
static bool param_size(struct slice value, struct smtp_params *p)
{
    if (value.n == 0 || value.n > 20)
        return false;
    uint64_t v = 0;
    for (size_t i = 0; i < value.n; i++) {
        uint64_t digit = (uint64_t)value.p[i] - '0';
        if (digit > 9)
            return false;
        v = v > (UINT64_MAX - digit) / 10 ? UINT64_MAX : v * 10 + digit;
    }
    p->size_bytes = v;
    return true;
}

/* body-value = "7BIT" / "8BITMIME" */
static bool param_body(struct slice value, struct smtp_params *p)
{
    p->body_8bit = slice_ieq(value, SLICE_LIT("8BITMIME"));
    return p->body_8bit || slice_ieq(value, SLICE_LIT("7BIT"));
}

static const struct param {
    struct slice keyword;
    enum smtp_verb verb;
    bool (*parse)(struct slice value, struct smtp_params *p);
} params[SMTP_PARAM_COUNT] = {
#define X(keyword, verb, parse)                                                                                        \
    [SMTP_PARAM_##keyword] = {{(const uint8_t *)#keyword, sizeof #keyword - 1}, SMTP_##verb, parse},
    SMTP_PARAMS(X)
#undef X
};

/* esmtp-param = esmtp-keyword ["=" esmtp-value] */
static enum smtp_reply parse_param(struct smtp_command *c, struct slice text)
{
    const uint8_t *eq = memchr(text.p, '=', text.n);
    size_t n = eq ? (size_t)(eq - text.p) : text.n;
    struct slice value = eq ? slice_of(eq + 1, text.n - n - 1) : slice_of(text.p + n, 0);
    for (int i = 0; i < SMTP_PARAM_COUNT; i++) {
        if (params[i].verb != c->verb || !slice_ieq(slice_of(text.p, n), params[i].keyword))
            continue;
        bool again = c->params.seen & 1u << i;
        c->params.seen |= 1u << i;
        return again || !params[i].parse(value, &c->params) ? R_SYNTAX : R_NONE;
    }
    return R_PARAM;
}

/* mail = "MAIL FROM:" Reverse-path [SP Mail-parameters]       rcpt = "RCPT TO:" Forward-path [SP Rcpt-parameters]
 * Blanks after the colon are let through: too many clients send them. */
static enum smtp_reply parse_path(struct smtp_command *c, struct slice keyword, enum smtp_reply bad)
{
    struct slice in = c->arg;
    if (in.n < keyword.n || !slice_ieq(slice_of(in.p, keyword.n), keyword))
        return R_SYNTAX;
    in = trim(slice_of(in.p + keyword.n, in.n - keyword.n));
    struct slice rest;
    switch (smtp_path_parse(in, &c->path, &rest)) {
    case PATH_OK:
        break;
    case PATH_NOT_ASCII:
        return R_NOT_ASCII;
    case PATH_SYNTAX:
        return bad;
    }
    if (rest.n && !is_blank(rest.p[0]))
        return bad;
    rest = trim(rest);
    enum smtp_reply r = R_NONE;
    while (rest.n && r == R_NONE)
        r = parse_param(c, word(&rest));
    return r;
}

static enum smtp_reply parse_mail(struct smtp_command *c)
{
    enum smtp_reply r = parse_path(c, SLICE_LIT("FROM:"), R_SENDER_SYNTAX);
    bool local = !c->path.null && c->path.domain.n == 0; /* <postmaster> is no sender */
    return r == R_NONE && local ? R_SENDER_SYNTAX : r;
}

static enum smtp_reply parse_rcpt(struct smtp_command *c)
{
    enum smtp_reply r = parse_path(c, SLICE_LIT("TO:"), R_RCPT_SYNTAX);
    return r == R_NONE && c->path.null ? R_RCPT_SYNTAX : r;
}

/* ehlo = "EHLO" SP ( Domain / address-literal ).  Any printable word passes: a wrong name is no reason to refuse mail
 * (section 4.1.4), and it is only ever shown in the trace field, where it is made harmless. */
static enum smtp_reply parse_helo(struct smtp_command *c)
{
    if (c->arg.n > SMTP_DOMAIN_MAX + 2)
        return R_HELO_SYNTAX;
    for (size_t i = 0; i < c->arg.n; i++)
        if (c->arg.p[i] < 33 || c->arg.p[i] > 126)
            return R_HELO_SYNTAX;
    return R_NONE;
}

enum smtp_reply smtp_command_args(struct smtp_command *c)
{
    if (verbs[c->verb].arg == ARG_NONE && c->arg.n)
        return R_SYNTAX;
    bool helo = c->verb == SMTP_EHLO || c->verb == SMTP_HELO;
    if (verbs[c->verb].arg == ARG_NEEDED && !c->arg.n)
        return helo ? R_HELO_SYNTAX : R_SYNTAX;
    if (helo)
        return parse_helo(c);
    if (c->verb == SMTP_MAIL)
        return parse_mail(c);
    if (c->verb == SMTP_RCPT)
        return parse_rcpt(c);
    return R_NONE;
}
