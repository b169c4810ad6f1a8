/* trace.c - Received: from HELO (peer-name-unknown [ADDRESS])
 *                  by HOST (Satchel) with ESMTP id ID
 *                  for <rcpt>; DATE */
#include "dataplane/smtp/trace.h"

#include <stdio.h>

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

static size_t trace_write(const struct smtp_trace *t, const struct envelope *env, const char *id, bool with_rcpt,
                          char *out_r, size_t cap)
{
    char helo[HELO_MAX];
    bool v6 = env->client.n && memchr(env->client.p, ':', env->client.n);
    int n = snprintf(out_r, cap,
                     "Received: from %s (peer-name-unknown [%s%.*s])\r\n\tby %.*s (Satchel) with %s id %s%s%.*s%s;\r\n"
                     "\t%s\r\n",
                     helo_safe(env->helo, helo), v6 ? "IPv6:" : "", SLICE_FMT(env->client), SLICE_FMT(t->hostname),
                     t->protocol, id, with_rcpt ? "\r\n\tfor <" : "", with_rcpt ? (int)env->rcpts[0].n : 0,
                     (const char *)env->rcpts[0].p, with_rcpt ? ">" : "", t->date);
    return n > 0 && (size_t)n < cap ? (size_t)n : 0;
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
