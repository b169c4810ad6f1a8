/* trace.h - the Received field that this node adds, RFC 5321 section 4.4.  Thread: pure functions. */
#pragma once
#include "spool/intake.h"

struct smtp_trace {
    struct slice hostname; /* ours */
    const char *protocol;  /* "ESMTP", "SMTP": RFC 3848 */
    const char *date;      /* RFC 5322 date-time */
};

/* Writes the whole field, CRLF-terminated; the client's name and address come from the envelope, and its recipient is
 * named when it is alone.  Returns the length; the recipient is left out where the field would not fit cap, and 0 says
 * that even so it does not fit. */
size_t smtp_trace_format(const struct smtp_trace *t, const struct envelope *env, const struct msgid *id, char *out_r,
                         size_t cap);
