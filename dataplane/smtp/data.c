/* data.c - the DATA scanner. */
#include "dataplane/smtp/data.h"

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

static size_t data_run(struct smtp_data *d, struct slice in, size_t at)
{
    while (at < in.n) {
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
