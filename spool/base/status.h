/* status.h - the outcome of a mail: one value carried intact from its cause to the log, the queue and the DSN.
 * Reply code: RFC 5321 section 4.2.  Enhanced code class.subject.detail: RFC 3463. */
#pragma once
#include "spool/base/slice.h"

#define SMTP_STATUS_TEXT_MAX 256

struct smtp_status {
    uint16_t code;                   /* 250, 451, 550; 0 where there was no reply (connection lost) */
    uint8_t class;                   /* 2, 4, 5 */
    uint16_t subject, detail;        /* 0..999 */
    char text[SMTP_STATUS_TEXT_MAX]; /* one line, printable, NUL-terminated */
};

/* status_set(&st, 452, 4, 3, 1, "disk full: %s", path): text is cut and control bytes become '?'. */
__attribute__((format(printf, 6, 7))) void status_set(struct smtp_status *st, int code, int class, int subject,
                                                      int detail, const char *fmt, ...);

/* "452 4.3.1 disk full"; returns the length without the NUL, cut at cap. */
int status_format(const struct smtp_status *st, char *out_r, size_t cap);
