/* hops.c - the Received counter.  Byte by byte in the fields that count, line by line in the others, and only as far as
 * the header goes. */
#include "dataplane/smtp/hops.h"

void smtp_hops_init(struct smtp_hops *h, struct slice hostname)
{
    *h = (struct smtp_hops){.hostname = hostname};
}

static uint8_t lower(uint8_t b)
{
    return b >= 'A' && b <= 'Z' ? (uint8_t)(b | 0x20) : b;
}

static bool is_start_of(struct slice want, uint32_t at, uint8_t b)
{
    return at < want.n && lower(want.p[at]) == lower(b);
}

static void hops_word_end(struct smtp_hops *h)
{
    if (h->word) {
        h->own += h->after_by && h->is_host && h->word == h->hostname.n;
        h->after_by = h->is_by && h->word == 2;
    }
    h->word = 0;
    h->is_by = h->is_host = true;
}

static void hops_value(struct smtp_hops *h, uint8_t b)
{
    if (b == ' ' || b == '\t' || b == '\r' || b == '\n' || b == ';' || b == '(' || b == ')') {
        hops_word_end(h);
        return;
    }
    h->is_by = h->is_by && is_start_of(SLICE_LIT("by"), h->word, b);
    h->is_host = h->is_host && is_start_of(h->hostname, h->word, b);
    h->word++;
}

/* A line's first byte decides: a blank folds the field above, CR ends the header, all else names a new field. */
static void hops_line(struct smtp_hops *h, uint8_t b)
{
    if (b == ' ' || b == '\t')
        return;
    h->state = b == '\r' ? HOPS_BODY : HOPS_NAME;
}

static void hops_name(struct smtp_hops *h, uint8_t b)
{
    static const struct slice name = {(const uint8_t *)"received:", 9};
    if (!is_start_of(name, h->column, b)) {
        h->state = HOPS_OTHER;
    } else if (h->column + 1 == name.n) {
        h->state = HOPS_RECEIVED;
        h->received++;
        h->word = 0;
        h->is_by = h->is_host = true;
        h->after_by = false;
    }
}

/* The LF of the line at `i`, or the last byte there is: what is before it says nothing. */
static size_t hops_skip(struct slice in, size_t i)
{
    const uint8_t *lf = memchr(in.p + i, '\n', in.n - i);
    return lf ? (size_t)(lf - in.p) : in.n - 1;
}

void smtp_hops_feed(struct smtp_hops *h, struct slice in)
{
    for (size_t i = 0; i < in.n && h->state != HOPS_BODY; i++) {
        if (h->state == HOPS_OTHER && h->column > 0)
            i = hops_skip(in, i);
        uint8_t b = in.p[i];
        if (h->column == 0)
            hops_line(h, b);
        if (h->state == HOPS_NAME)
            hops_name(h, b);
        else if (h->state == HOPS_RECEIVED)
            hops_value(h, b);
        if (b == '\n')
            h->column = 0;
        else
            h->column++;
    }
}
