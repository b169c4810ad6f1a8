/* blocklist.c - a block list as people keep it in a file. */
#include "dataplane/tcp/blocklist.h"
#include "dataplane/tcp/addr_text.h"
#include "spool/base/err.h"
#include "spool/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_MAX (64u << 20)

/* ---- lines */

static bool is_blank(uint8_t b)
{
    return b == ' ' || b == '\t' || b == '\r';
}

/* The next line without comment and blanks around it; false: no more. */
static bool line_next(struct slice *rest, struct slice *line_r)
{
    if (rest->n == 0)
        return false;
    const uint8_t *lf = memchr(rest->p, '\n', rest->n);
    size_t whole = lf ? (size_t)(lf - rest->p) : rest->n, n = 0;
    while (n < whole && rest->p[n] != '#' && rest->p[n] != ';')
        n++;
    struct slice line = slice_of(rest->p, n);
    while (line.n && is_blank(line.p[line.n - 1]))
        line.n--;
    while (line.n && is_blank(line.p[0]))
        line = slice_of(line.p + 1, line.n - 1);
    whole += lf != NULL;
    *rest = slice_of(rest->p + whole, rest->n - whole);
    *line_r = line;
    return true;
}

/* A network that was not meant is worse than none: 10.1.2.3/8 is asked about, 0.0.0.0/0 too. */
static int entry_parse(struct slice line, struct ip_prefix *p_r, char expected_r[128])
{
    char text[ADDR_TEXT_MAX];
    if (!addr_parse_prefix(line, p_r)) {
        snprintf(expected_r, 128, "a network like 192.0.2.0/24 or 2001:db8::/32, or an address");
        return -SATCHEL_EINVAL;
    }
    if (p_r->bits == (ip_addr_is4(&p_r->addr) ? 96 : 0)) {
        snprintf(expected_r, 128, "a network that is not all of them");
        return -SATCHEL_EINVAL;
    }
    if (ip_prefix_holds4(p_r)) {
        snprintf(expected_r, 128, "an IPv6 network that leaves out ::ffff:0:0/96, where IPv4 stands");
        return -SATCHEL_EINVAL;
    }
    struct ip_prefix network = {ip_addr_masked(&p_r->addr, p_r->bits), p_r->bits};
    if (ip_addr_eq(&network.addr, &p_r->addr))
        return 0;
    snprintf(expected_r, 128, "no bits behind the prefix, as in %s", addr_format_prefix(&network, text));
    return -SATCHEL_EINVAL;
}

static int refuse(const char *name, size_t number, struct slice line, const char *expected, char *why_r)
{
    char quoted[100];
    snprintf(why_r, BLOCKLIST_WHY_MAX, "%.200s:%zu: %s: expected %s", name, number,
             log_quote(line, quoted, sizeof quoted), expected);
    return -SATCHEL_EINVAL;
}

static int add(struct blocklist *b, size_t *cap, const struct ip_prefix *p)
{
    if (b->n == *cap) {
        size_t more = *cap ? *cap * 2 : 256;
        struct ip_prefix *v = realloc(b->v, more * sizeof *v);
        if (!v)
            return -SATCHEL_ENOMEM;
        b->v = v;
        *cap = more;
    }
    b->v[b->n++] = *p;
    return 0;
}

static int lines_read(struct slice text, const char *name, struct blocklist *b, char *why_r)
{
    struct slice line;
    struct ip_prefix p;
    char expected[128];
    size_t cap = 0;
    int res = 0;
    for (size_t number = 1; res == 0 && line_next(&text, &line); number++) {
        if (line.n == 0)
            continue;
        res = entry_parse(line, &p, expected);
        if (res < 0)
            return refuse(name, number, line, expected, why_r);
        res = add(b, &cap, &p);
    }
    return res;
}

/* ---- sorted, merged */

/* By where they begin, wider ones first. */
static int by_begin(const void *a, const void *b)
{
    const struct ip_prefix *p = a, *q = b;
    int order = memcmp(p->addr.b, q->addr.b, sizeof p->addr.b);
    return order ? order : (int)p->bits - (int)q->bits;
}

/* Two halves of one network, of one family. */
static bool joined(const struct ip_prefix *a, const struct ip_prefix *b, struct ip_prefix *both_r)
{
    uint8_t least = ip_addr_is4(&a->addr) ? 97 : 1; /* never all addresses */
    if (a->bits != b->bits || a->bits <= least)
        return false;
    *both_r = (struct ip_prefix){ip_addr_masked(&a->addr, a->bits - 1), a->bits - 1};
    return ip_addr_eq(&both_r->addr, &a->addr) && ip_prefix_has(both_r, &b->addr);
}

/* The list so far is in order; each new one may complete a network, and that another, and so on. */
static void merge(struct blocklist *b)
{
    uint32_t n = 0;
    if (b->n)
        qsort(b->v, b->n, sizeof *b->v, by_begin);
    for (uint32_t i = 0; i < b->n; i++) {
        if (n && ip_prefix_has(&b->v[n - 1], &b->v[i].addr))
            continue;
        b->v[n++] = b->v[i];
        for (struct ip_prefix both; n > 1 && joined(&b->v[n - 2], &b->v[n - 1], &both); n--)
            b->v[n - 2] = both;
    }
    b->n = n;
}

int blocklist_parse(struct slice text, const char *name, uint32_t max, struct blocklist *b_r, char *why_r)
{
    struct blocklist b = {0};
    *b_r = b;
    *why_r = 0;
    int res = lines_read(text, name, &b, why_r);
    if (res == 0)
        merge(&b);
    if (res == 0 && b.n > max) {
        snprintf(why_r, BLOCKLIST_WHY_MAX, "%.200s: %u networks: expected at most %u", name, b.n, max);
        res = -SATCHEL_EFULL;
    }
    if (res < 0)
        blocklist_free(&b);
    *b_r = b;
    return res;
}

/* ---- files */

/* All of a file, malloc'ed. */
static int file_slurp(FILE *f, struct slice *text_r)
{
    size_t n = 0, cap = 1u << 16, got;
    uint8_t *p = malloc(cap);
    while (p && (got = fread(p + n, 1, cap - n, f)) > 0) {
        n += got;
        if (n < cap)
            continue;
        uint8_t *more = cap < FILE_MAX ? realloc(p, cap *= 2) : NULL;
        if (!more) {
            free(p);
            return cap < FILE_MAX ? -SATCHEL_ENOMEM : -SATCHEL_ETOOBIG;
        }
        p = more;
    }
    int res = !p ? -SATCHEL_ENOMEM : ferror(f) ? -errno : 0;
    if (res < 0)
        free(p);
    else
        *text_r = slice_of(p, n);
    return res;
}

int blocklist_read(const char *path, uint32_t max, struct blocklist *b_r, char *why_r)
{
    struct slice text = {0};
    *b_r = (struct blocklist){0};
    FILE *f = fopen(path, "re");
    int res = f ? file_slurp(f, &text) : -errno;
    if (f)
        (void)fclose(f);
    if (res < 0) {
        snprintf(why_r, BLOCKLIST_WHY_MAX, "%.200s: %s", path, satchel_strerror(res));
        return res;
    }
    res = blocklist_parse(text, path, max, b_r, why_r);
    free((void *)text.p);
    return res;
}

void blocklist_free(struct blocklist *b)
{
    free(b->v);
    *b = (struct blocklist){0};
}
