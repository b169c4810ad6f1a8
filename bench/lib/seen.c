/* seen.c - what has arrived (seen.h): one bag a (run, domain), found by hash. */
#include "bench/lib/seen.h"
#include <err.h>
#include <stdlib.h>
#include <string.h>

#define BAG_SLOTS  32768
#define NAME_BYTES 320
#define SEQ_MAX    (1u << 28)

struct bag {
    char name[NAME_BYTES];   /* "RUN DOMAIN" */
    uint8_t *here;           /* by sequence number */
    uint32_t cap, last, low; /* low: 1..low have all arrived */
};

struct seen {
    struct seen_counts c;
    struct bag *slot[BAG_SLOTS];
    unsigned bags;
};

struct seen *seen_open(void)
{
    struct seen *s = calloc(1, sizeof *s);
    if (!s)
        err(1, "seen");
    return s;
}

void seen_close(struct seen **s)
{
    for (unsigned i = 0; i < BAG_SLOTS; i++) {
        if ((*s)->slot[i])
            free((*s)->slot[i]->here);
        free((*s)->slot[i]);
    }
    free(*s);
    *s = NULL;
}

static const char *field(const char *h, size_t n, const char *name, size_t name_n, size_t *len_r)
{
    const char *end = h + n;
    for (const char *line = h; line < end;) {
        const char *nl = memchr(line, '\n', (size_t)(end - line));
        if (!nl)
            return NULL;
        if ((size_t)(nl - line) > name_n && memcmp(line, name, name_n) == 0) {
            *len_r = (size_t)(nl - line) - name_n - (nl[-1] == '\r');
            return line + name_n;
        }
        line = nl + 1;
    }
    return NULL;
}

static struct bag *bag_of(struct seen *s, const char *name, size_t n)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (uint8_t)name[i]) * 16777619u;
    unsigned i = hash % BAG_SLOTS;
    for (; s->slot[i]; i = (i + 1) % BAG_SLOTS) {
        if (strncmp(s->slot[i]->name, name, n) == 0 && s->slot[i]->name[n] == 0)
            return s->slot[i];
    }
    if (++s->bags > BAG_SLOTS / 2)
        errx(1, "more than %d runs and domains", BAG_SLOTS / 2);
    struct bag *b = s->slot[i] = calloc(1, sizeof *b);
    if (!b)
        err(1, "seen");
    memcpy(b->name, name, n);
    return b;
}

static void bag_grow(struct bag *b, uint32_t seq)
{
    uint32_t cap = b->cap ? b->cap : 1024;
    while (cap <= seq + 1)
        cap *= 2;
    if (cap == b->cap)
        return;
    b->here = realloc(b->here, cap);
    if (!b->here)
        err(1, "seen");
    memset(b->here + b->cap, 0, cap - b->cap);
    b->cap = cap;
}

static void bag_add(struct seen *s, struct bag *b, uint32_t seq, uint32_t floor)
{
    bag_grow(b, seq);
    if (b->here[seq]) {
        s->c.duplicates++;
        return;
    }
    s->c.distinct++;
    if (seq < b->last)
        s->c.inversions++;
    if (floor > b->low)
        s->c.fifo_violations++;
    b->last = seq;
    b->here[seq] = 1;
    while (b->low + 1 < b->cap && b->here[b->low + 1])
        b->low++;
}

/* "RUN DOMAIN SEQ FLOOR" */
static void sequence_read(struct seen *s, const char *v, size_t n, struct seen_mark *m)
{
    char text[NAME_BYTES + 32];
    if (n >= sizeof text)
        return;
    memcpy(text, v, n);
    text[n] = 0;
    char *floor = strrchr(text, ' ');
    if (!floor)
        return;
    *floor++ = 0;
    char *seq = strrchr(text, ' ');
    if (!seq || (size_t)(seq - text) >= NAME_BYTES)
        return;
    *seq++ = 0;
    unsigned long k = strtoul(seq, NULL, 10);
    if (k == 0 || k > SEQ_MAX)
        return;
    m->bag = bag_of(s, text, strlen(text));
    m->seq = (uint32_t)k;
    m->floor = (uint32_t)strtoul(floor, NULL, 10);
}

struct seen_mark seen_read(struct seen *s, const char *header, size_t n)
{
    struct seen_mark m = {.token = "", .bag = NULL};
    size_t len = 0;
    const char *v = field(header, n, "X-Ledger: ", 10, &len);
    if (v && len < sizeof m.token)
        memcpy(m.token, v, len);
    v = field(header, n, "X-Sequence: ", 12, &len);
    if (v)
        sequence_read(s, v, len, &m);
    return m;
}

void seen_add(struct seen *s, const struct seen_mark *m)
{
    if (!m->bag) {
        s->c.unnumbered++;
        return;
    }
    s->c.messages++;
    bag_add(s, m->bag, m->seq, m->floor);
}

struct seen_counts seen_counts(const struct seen *s)
{
    return s->c;
}
