/* data.c - the DATA scanner. */
#include "dataplane/smtp/data.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* Reads what is not body: the dot at the start of a line, and what follows it.  Returns where body may go on. */
static size_t data_dot(struct smtp_data *d, struct slice in)
{
    size_t at = 0;
    if (d->state == DATA_LINE && at < in.n && in.p[at] == '.') {
        d->state = DATA_DOT;
        at++;
    }
    if (d->state == DATA_DOT && at < in.n) {
        bool cr = in.p[at] == '\r';
        d->state = cr ? DATA_DOT_CR : DATA_TEXT;
        at += cr;
    }
    if (d->state == DATA_DOT_CR && at < in.n) {
        bool lf = in.p[at] == '\n';
        d->state = lf ? DATA_END : DATA_TEXT;
        d->bare |= !lf;
        at += lf;
    }
    return at;
}

/* Text up to and with the next CR.  Looks for CR first, then for LF only before it, so that each byte is seen at most
 * twice whatever the input. */
static size_t data_text(struct smtp_data *d, struct slice in, size_t at)
{
    const uint8_t *from = in.p + at;
    const uint8_t *cr = memchr(from, '\r', in.n - at);
    size_t n = cr ? (size_t)(cr - from) : in.n - at;
    if (memchr(from, '\n', n))
        d->bare = true;
    if (!cr)
        return in.n;
    d->state = DATA_CR;
    return at + n + 1;
}

#ifdef __SSE2__
enum { BLOCK = 64 };

/* Where `b` stands in 64 bytes, one bit each. */
static uint64_t block_find(const uint8_t *p, char b)
{
    const __m128i want = _mm_set1_epi8(b);
    uint64_t m = 0;
#pragma GCC unroll 4
    for (unsigned i = 0; i < BLOCK; i += 16) {
        __m128i got = _mm_loadu_si128((const __m128i *)(const void *)(p + i));
        m |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(got, want)) << i;
    }
    return m;
}

/* Whole blocks in which each LF follows a CR, each CR is followed by LF, and no line begins with a dot: nothing to do
 * but to hand them out.  A body of short lines is read at memory speed this way, 64 bytes a step whatever lines are in
 * them. Stops before the first block that is not so. */
static size_t data_blocks(struct smtp_data *d, struct slice in, size_t at)
{
    uint64_t after_cr = d->state == DATA_CR, at_line = d->state == DATA_LINE;
    for (; in.n - at >= BLOCK; at += BLOCK) {
        uint64_t cr = block_find(in.p + at, '\r'), lf = block_find(in.p + at, '\n');
        uint64_t line = lf << 1 | at_line;
        if (lf != (cr << 1 | after_cr) || (line && (line & block_find(in.p + at, '.'))))
            break;
        after_cr = cr >> (BLOCK - 1);
        at_line = lf >> (BLOCK - 1);
    }
    d->state = after_cr ? DATA_CR : at_line ? DATA_LINE : DATA_TEXT;
    return at;
}
#else
static size_t data_blocks(struct smtp_data *d, struct slice in, size_t at)
{
    (void)d, (void)in;
    return at;
}
#endif

static size_t data_run(struct smtp_data *d, struct slice in, size_t at)
{
    while (at < in.n) {
        if (d->state <= DATA_CR)
            at = data_blocks(d, in, at);
        if (at == in.n)
            break;
        switch (d->state) {
        case DATA_LINE:
            if (in.p[at] == '.')
                return at;
            d->state = DATA_TEXT;
            break;
        case DATA_CR:
            if (in.p[at] == '\n') {
                d->state = DATA_LINE;
                at++;
            } else {
                d->state = DATA_TEXT;
                d->bare = true;
            }
            break;
        case DATA_TEXT:
            at = data_text(d, in, at);
            break;
        default: /* a dot is pending or the message is over: nothing of it is body */
            return at;
        }
    }
    return at;
}

size_t smtp_data_next(struct smtp_data *d, struct slice in, struct slice *run_r)
{
    size_t from = data_dot(d, in);
    size_t to = data_run(d, in, from);
    *run_r = slice_of(in.p + from, to - from);
    return to;
}
