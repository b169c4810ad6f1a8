/* recipients_text.c - lists of recipients: from what people write to sorted local parts, and sets of these. */
#include "dataplane/conf/recipients_text.h"
#include "spool/base/err.h"
#include "spool/base/log.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- one recipient */

static bool is_atext(uint8_t b)
{
    return (b >= '0' && b <= '9') || (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') ||
           (b > 0 && strchr("!#$%&'*+-/=?^_`{|}~", b));
}

/* Dot-string = Atom *("." Atom) */
static bool is_dot_string(struct slice s)
{
    bool atom = false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '.' ? !atom : !is_atext(s.p[i]))
            return false;
        atom = s.p[i] != '.';
    }
    return atom;
}

static char lower(uint8_t b)
{
    return (char)(b >= 'A' && b <= 'Z' ? b | 0x20 : b);
}

/* What the quotes hold; false: no quoted string. */
static bool unquote(struct slice q, char out_r[RECIPIENT_MAX], size_t *n_r)
{
    *n_r = 0;
    if (q.n < 2 || q.p[0] != '"' || q.p[q.n - 1] != '"')
        return false;
    for (size_t i = 1; i < q.n - 1; i++) {
        if (q.p[i] == '"' || (q.p[i] == '\\' && ++i == q.n - 1) || q.p[i] < 32 || q.p[i] > 126)
            return false;
        out_r[(*n_r)++] = lower(q.p[i]);
    }
    return true;
}

/* 0: longer than a local part may be. */
static size_t quote(struct slice s, char out_r[RECIPIENT_MAX])
{
    size_t n = 0;
    out_r[n++] = '"';
    for (size_t i = 0; i < s.n; i++) {
        bool escaped = s.p[i] == '"' || s.p[i] == '\\';
        if (n + 2 + escaped > RECIPIENT_MAX)
            return 0;
        if (escaped)
            out_r[n++] = '\\';
        out_r[n++] = (char)s.p[i];
    }
    out_r[n++] = '"';
    return n;
}

size_t recipient_canonical(struct slice local, char out_r[RECIPIENT_MAX])
{
    char plain[RECIPIENT_MAX];
    size_t n = local.n;
    if (local.n == 0 || local.n > RECIPIENT_MAX)
        return 0;
    if (is_dot_string(local)) {
        for (size_t i = 0; i < n; i++)
            out_r[i] = lower(local.p[i]);
        return n;
    }
    if (!unquote(local, plain, &n))
        return 0;
    if (!is_dot_string(slice_of(plain, n)))
        return quote(slice_of(plain, n), out_r);
    memcpy(out_r, plain, n);
    return n;
}

/* ---- lines */

bool recipients_line(struct slice *rest, struct slice *line_r)
{
    if (rest->n == 0)
        return false;
    const uint8_t *end = memchr(rest->p, '\n', rest->n);
    size_t n = end ? (size_t)(end - rest->p) : rest->n;
    *line_r = slice_of(rest->p, n);
    n += end != NULL;
    *rest = slice_of(rest->p + n, rest->n - n);
    return true;
}

int recipients_order(struct slice a, struct slice b)
{
    int order = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    return order ? order : a.n < b.n ? -1 : a.n > b.n;
}

static struct slice trimmed(struct slice s)
{
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t' || s.p[s.n - 1] == '\r'))
        s.n--;
    while (s.n && (s.p[0] == ' ' || s.p[0] == '\t')) {
        s.p++;
        s.n--;
    }
    return s;
}

/* The local part of "local" or "local@domain"; the domain is behind the last @ that no quotes hold. */
static struct slice local_of(struct slice line, const char *domain)
{
    size_t dn = strlen(domain);
    bool whole = line.n > dn + 1 && line.p[line.n - dn - 1] == '@' &&
                 slice_ieq(slice_of(line.p + line.n - dn, dn), slice_of(domain, dn));
    return whole ? slice_of(line.p, line.n - dn - 1) : line;
}

/* ---- parsing */

struct lines {
    struct slice *v;
    size_t n, cap;
};

static void lines_add(struct lines *l, struct slice line)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 64;
        l->v = realloc(l->v, l->cap * sizeof *l->v);
        if (!l->v)
            abort();
    }
    l->v[l->n++] = line;
}

static int by_order(const void *a, const void *b)
{
    return recipients_order(*(const struct slice *)a, *(const struct slice *)b);
}

static int line_refused(size_t number, struct slice line, const char *domain, char *why_r)
{
    char quoted[100];
    snprintf(why_r, RECIPIENTS_WHY_MAX, "line %zu: %s is no recipient of %.80s", number,
             log_quote(line, quoted, sizeof quoted), domain);
    return -SATCHEL_EINVAL;
}

/* Canonical local parts, one behind the other in `store`, which has room for all of the input. */
static int lines_read(struct slice in, const char *domain, char *store, struct lines *l, char *why_r)
{
    struct slice line;
    size_t used = 0;
    char one[RECIPIENT_MAX];
    for (size_t number = 1; recipients_line(&in, &line); number++) {
        line = trimmed(line);
        if (line.n == 0 || line.p[0] == '#')
            continue;
        size_t n = recipient_canonical(local_of(line, domain), one);
        if (n == 0)
            return line_refused(number, line, domain, why_r);
        memcpy(store + used, one, n);
        lines_add(l, slice_of(store + used, n));
        used += n;
    }
    return 0;
}

static void text_put(struct recipients_text *t, struct slice line)
{
    memcpy(t->p + t->n, line.p, line.n);
    t->p[t->n + line.n] = '\n';
    t->n += line.n + 1;
    t->count++;
}

static void lines_join(struct lines *l, struct recipients_text *t)
{
    if (l->n)
        qsort(l->v, l->n, sizeof *l->v, by_order);
    for (size_t i = 0; i < l->n; i++)
        if (i == 0 || by_order(&l->v[i - 1], &l->v[i]) != 0)
            text_put(t, l->v[i]);
}

static int text_new(struct recipients_text *t_r, size_t cap)
{
    *t_r = (struct recipients_text){.p = malloc(cap + 1)};
    return t_r->p ? 0 : -SATCHEL_ENOMEM;
}

int recipients_text_parse(struct slice in, const char *domain, struct recipients_text *t_r, char *why_r)
{
    struct lines l = {0};
    *t_r = (struct recipients_text){0};
    *why_r = 0;
    if (in.n > RECIPIENTS_TEXT_MAX)
        return -SATCHEL_ETOOBIG;
    char *store = malloc(in.n + 1);
    int res = store ? text_new(t_r, in.n + 1) : -SATCHEL_ENOMEM;
    if (res == 0)
        res = lines_read(in, domain, store, &l, why_r);
    if (res == 0)
        lines_join(&l, t_r);
    else
        recipients_text_free(t_r);
    free(l.v);
    free(store);
    return res;
}

/* ---- sets */

struct side {
    struct slice rest, line;
    bool any;
};

static struct side side_of(struct slice text)
{
    struct side s = {.rest = text};
    s.any = recipients_line(&s.rest, &s.line);
    return s;
}

static void side_next(struct side *s)
{
    s->any = recipients_line(&s->rest, &s->line);
}

/* Which lines go to the result: of a alone, of both, of b alone. */
static int merge(struct slice a_text, struct slice b_text, bool both, bool b_alone, struct recipients_text *t_r)
{
    struct side a = side_of(a_text), b = side_of(b_text);
    int res = text_new(t_r, a_text.n + (b_alone ? b_text.n : 0));
    while (res == 0 && (a.any || b.any)) {
        int order = !a.any ? 1 : !b.any ? -1 : recipients_order(a.line, b.line);
        if (order < 0 || (order == 0 && both))
            text_put(t_r, a.line);
        else if (order > 0 && b_alone)
            text_put(t_r, b.line);
        if (order <= 0)
            side_next(&a);
        if (order >= 0)
            side_next(&b);
    }
    if (res == 0 && t_r->n > RECIPIENTS_TEXT_MAX) {
        recipients_text_free(t_r);
        res = -SATCHEL_ETOOBIG;
    }
    return res;
}

int recipients_text_add(struct slice a, struct slice b, struct recipients_text *t_r)
{
    return merge(a, b, true, true, t_r);
}

int recipients_text_remove(struct slice a, struct slice b, struct recipients_text *t_r)
{
    return merge(a, b, false, false, t_r);
}

void recipients_text_free(struct recipients_text *t)
{
    free(t->p);
    *t = (struct recipients_text){0};
}
