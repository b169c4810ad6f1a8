/* client_reply.c - gathers the lines of one SMTP reply. */
#include "dataplane/smtp/client_reply.h"

void reply_start(struct client_reply *r)
{
    r->code = r->lines = r->subject = r->detail = r->text_n = 0;
    r->enhanced = false;
    r->text[0] = 0;
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* Up to three digits; returns how many there were. */
static size_t take_number(struct slice s, size_t at, uint16_t *v_r)
{
    size_t n = 0;
    *v_r = 0;
    while (n < 3 && at + n < s.n && is_digit(s.p[at + n]))
        *v_r = (uint16_t)(*v_r * 10 + (s.p[at + n++] - '0'));
    return n;
}

/* Length of "X.Y.Z" at the head of the text, with the blank behind it; 0 where there is none, or of another class than
 * the code says (RFC 2034 section 4). */
static size_t take_enhanced(struct slice t, int class, uint16_t *subject_r, uint16_t *detail_r)
{
    if (t.n < 5 || t.p[0] != '0' + class || t.p[1] != '.')
        return 0;
    size_t n = take_number(t, 2, subject_r), at = 2 + n;
    if (n == 0 || at >= t.n || t.p[at] != '.')
        return 0;
    size_t m = take_number(t, at + 1, detail_r);
    at += 1 + m;
    if (m == 0 || (at < t.n && t.p[at] != ' '))
        return 0;
    return at < t.n ? at + 1 : at;
}

static void add_text(struct client_reply *r, struct slice t)
{
    if (r->text_n && r->text_n + 1u < sizeof r->text)
        r->text[r->text_n++] = ' ';
    for (size_t i = 0; i < t.n && r->text_n + 1u < sizeof r->text; i++)
        r->text[r->text_n++] = (char)(t.p[i] < 0x20 || t.p[i] > 0x7e ? '?' : t.p[i]);
    r->text[r->text_n] = 0;
}

struct slice reply_line_text(struct slice line)
{
    return line.n > 4 ? slice_of(line.p + 4, line.n - 4) : slice_of(line.p, 0);
}

static bool line_code(struct slice line, uint16_t *code_r)
{
    if (take_number(line, 0, code_r) != 3 || *code_r < 200 || *code_r > 599)
        return false;
    return line.n == 3 || line.p[3] == ' ' || line.p[3] == '-';
}

enum reply_more reply_line(struct client_reply *r, struct slice line)
{
    uint16_t code, subject, detail;
    if (!line_code(line, &code) || (r->lines > 0 && code != r->code) || r->lines >= REPLY_LINES_MAX)
        return REPLY_BAD;
    r->code = code;
    r->lines++;
    struct slice t = reply_line_text(line);
    size_t n = take_enhanced(t, code / 100, &subject, &detail);
    if (n && !r->enhanced) {
        r->enhanced = true;
        r->subject = subject;
        r->detail = detail;
    }
    add_text(r, slice_of(t.p + n, t.n - n));
    return line.n > 3 && line.p[3] == '-' ? REPLY_MORE : REPLY_DONE;
}

void reply_status(const struct client_reply *r, struct smtp_status *st_r)
{
    st_r->code = r->code;
    st_r->class = (uint8_t)(r->code / 100);
    st_r->subject = r->subject;
    st_r->detail = r->detail;
    memcpy(st_r->text, r->text, r->text_n + 1u);
}
