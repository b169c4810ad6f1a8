/* data.h - the body between 354 and the final dot: finds its end and takes the stuffed dots out, RFC 5321
 * section 4.5.2.
 *
 * Strict CRLF: only CR LF "." CR LF ends a message.  A CR or LF alone sets `bare`; the message is then read to its real
 * end and refused, so that no two servers can disagree about where it ended (SMTP smuggling).  Bytes otherwise pass as
 * they are, 8-bit and NUL included, whatever the length of a line.
 *
 * Hot path: runs of body are found 64 bytes at a time and handed out as long as they are, not line by line.
 * The scanner is a value: copy it, scan, and keep the copy only if what was found could be stored.  Thread: pure. */
#pragma once
#include "spool/base/slice.h"

enum smtp_data_state {
    DATA_LINE,   /* at the start of a line */
    DATA_TEXT,   /* within a line */
    DATA_CR,     /* after CR, which was handed out */
    DATA_DOT,    /* after a dot at the start of a line, not handed out */
    DATA_DOT_CR, /* after that dot and CR, not handed out */
    DATA_END     /* the final dot and its CRLF were read */
};

struct smtp_data {
    enum smtp_data_state state;
    bool bare; /* a CR or LF stood alone: what was handed out is of no use */
};

/* Scans `in` and returns how many bytes were read (all, unless run_r ends before a dot, or the message ended).
 * run_r: the next bytes of the body, within `in`, maybe none.  Call again with the rest until DATA_END. */
size_t smtp_data_next(struct smtp_data *d, struct slice in, struct slice *run_r);
