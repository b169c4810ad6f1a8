/* address.c - paths, by recursive descent over a cursor with a sticky error. */
#include "dataplane/smtp/address.h"

struct cursor {
    const uint8_t *p, *end;
    bool bad;
};

/* The byte at the cursor; -1 at the end or after an error. */
static int peek(const struct cursor *c)
{
    return c->bad || c->p == c->end ? -1 : *c->p;
}

static bool skip(struct cursor *c, int byte)
{
    if (peek(c) != byte)
        return false;
    c->p++;
    return true;
}

static void expect(struct cursor *c, int byte)
{
    if (!skip(c, byte))
        c->bad = true;
}

static bool is_alnum(int b)
{
    return (b >= '0' && b <= '9') || (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z');
}

static bool is_atext(int b)
{
    return is_alnum(b) || (b > 0 && strchr("!#$%&'*+-/=?^_`{|}~", b));
}

/* Dot-string = Atom *("." Atom)         Atom = 1*atext */
static void dot_string(struct cursor *c)
{
    do {
        if (!is_atext(peek(c)))
            c->bad = true;
        while (is_atext(peek(c)))
            c->p++;
    } while (skip(c, '.'));
}

/* Quoted-string = DQUOTE *QcontentSMTP DQUOTE
 * QcontentSMTP  = qtextSMTP / quoted-pairSMTP     quoted-pairSMTP = "\" %d32-126
 * qtextSMTP     = %d32-33 / %d35-91 / %d93-126 */
static void quoted_string(struct cursor *c)
{
    expect(c, '"');
    while (!skip(c, '"')) {
        skip(c, '\\');
        int b = peek(c);
        if (b < 32 || b > 126) {
            c->bad = true;
            return;
        }
        c->p++;
    }
}

/* Local-part = Dot-string / Quoted-string */
static struct slice local_part(struct cursor *c)
{
    const uint8_t *from = c->p;
    if (peek(c) == '"')
        quoted_string(c);
    else
        dot_string(c);
    return slice_of(from, (size_t)(c->p - from));
}

/* sub-domain = Let-dig [Ldh-str] */
static void sub_domain(struct cursor *c)
{
    const uint8_t *from = c->p;
    while (is_alnum(peek(c)) || peek(c) == '-' || peek(c) == '_')
        c->p++;
    size_t n = (size_t)(c->p - from);
    if (n == 0 || n > SMTP_LABEL_MAX || *from == '-' || c->p[-1] == '-')
        c->bad = true;
}

/* address-literal = "[" 1*dcontent "]"     dcontent = %d33-90 / %d94-126 */
static void address_literal(struct cursor *c)
{
    const uint8_t *from = c->p + 1;
    expect(c, '[');
    for (int b = peek(c); b >= 33 && b <= 126 && b != '[' && b != '\\' && b != ']'; b = peek(c))
        c->p++;
    if (c->p == from)
        c->bad = true;
    expect(c, ']');
}

/* Domain = sub-domain *("." sub-domain)       Mailbox = Local-part "@" ( Domain / address-literal ) */
static struct slice domain(struct cursor *c, bool *literal_r)
{
    const uint8_t *from = c->p;
    *literal_r = peek(c) == '[';
    if (*literal_r) {
        address_literal(c);
    } else {
        do
            sub_domain(c);
        while (skip(c, '.'));
    }
    size_t n = (size_t)(c->p - from);
    if (n > SMTP_DOMAIN_MAX)
        c->bad = true;
    return slice_of(from, n);
}

/* A-d-l = At-domain *("," At-domain)      At-domain = "@" Domain */
static void source_route(struct cursor *c)
{
    bool literal;
    do {
        expect(c, '@');
        domain(c, &literal);
    } while (skip(c, ','));
    expect(c, ':');
}

static void mailbox(struct cursor *c, struct smtp_path *p)
{
    const uint8_t *from = c->p;
    p->local = local_part(c);
    bool postmaster = slice_ieq(p->local, SLICE_LIT("postmaster"));
    if (peek(c) == '>' && postmaster) { /* RFC 5321 section 4.5.1 */
        p->address = p->local;
        return;
    }
    expect(c, '@');
    p->domain = domain(c, &p->literal);
    p->address = slice_of(from, (size_t)(c->p - from));
    if (p->address.n > SMTP_ADDRESS_MAX)
        c->bad = true;
}

static bool has_high_byte(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] >= 0x80)
            return true;
    return false;
}

/* Path = "<" [ A-d-l ":" ] Mailbox ">"       Reverse-path = Path / "<>" */
enum smtp_path_error smtp_path_parse(struct slice in, struct smtp_path *path_r, struct slice *rest_r)
{
    struct cursor c = {in.p, in.p + in.n, false};
    *path_r = (struct smtp_path){0};
    expect(&c, '<');
    if (skip(&c, '>')) {
        path_r->null = true;
    } else {
        if (peek(&c) == '@')
            source_route(&c);
        mailbox(&c, path_r);
        expect(&c, '>');
    }
    if (c.bad)
        return has_high_byte(in) ? PATH_NOT_ASCII : PATH_SYNTAX;
    *rest_r = slice_of(c.p, (size_t)(c.end - c.p));
    return PATH_OK;
}
