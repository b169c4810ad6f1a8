/* trace.c - Received: from HELO (peer-name-unknown [ADDRESS])
 *                  by HOST (Satchel) with ESMTP id ID
 *                  for <rcpt>; DATE */
#include "dataplane/smtp/trace.h"

#include "spool/base/wire.h"

enum { HELO_MAX = 256 };

/* What the client called itself, with all that could end the field or look like a comment made '?'. */
static const char *helo_safe(struct slice helo, char out_r[HELO_MAX])
{
    size_t n = helo.n < HELO_MAX - 1 ? helo.n : HELO_MAX - 1;
    for (size_t i = 0; i < n; i++) {
        uint8_t b = helo.p[i];
        out_r[i] = b > 32 && b < 127 && !strchr("()<>@,;\\\"", b) ? (char)b : '?';
    }
    out_r[n] = 0;
    return n ? out_r : "unknown";
}

static void put(struct wire_wr *w, struct slice s)
{
    wire_put(w, s.p, s.n);
}

/* Once a message: piece by piece is several times as fast as one printf. */
static size_t trace_write(const struct smtp_trace *t, const struct envelope *env, const char *id, bool with_rcpt,
                          char *out_r, size_t cap)
{
    char helo[HELO_MAX];
    struct wire_wr w = wire_wr(out_r, cap);
    put(&w, SLICE_LIT("Received: from "));
    put(&w, slice_str(helo_safe(env->helo, helo)));
    put(&w, SLICE_LIT(" (peer-name-unknown ["));
    if (env->client.n && memchr(env->client.p, ':', env->client.n))
        put(&w, SLICE_LIT("IPv6:"));
    put(&w, env->client);
    put(&w, SLICE_LIT("])\r\n\tby "));
    put(&w, t->hostname);
    put(&w, SLICE_LIT(" (Satchel) with "));
    put(&w, slice_str(t->protocol));
    put(&w, SLICE_LIT(" id "));
    put(&w, slice_str(id));
    if (with_rcpt) {
        put(&w, SLICE_LIT("\r\n\tfor <"));
        put(&w, env->rcpts[0]);
        put(&w, SLICE_LIT(">"));
    }
    put(&w, SLICE_LIT(";\r\n\t"));
    put(&w, slice_str(t->date));
    put(&w, SLICE_LIT("\r\n"));
    return w.bad ? 0 : wire_len(&w);
}

size_t smtp_trace_format(const struct smtp_trace *t, const struct envelope *env, const struct msgid *id, char *out_r,
                         size_t cap)
{
    char text[MSGID_TEXT_MAX];
    msgid_format(id, text);
    size_t n = 0;
    if (env->rcpts_n == 1)
        n = trace_write(t, env, text, true, out_r, cap);
    return n ? n : trace_write(t, env, text, false, out_r, cap);
}
