/* client_reply.h - one SMTP reply, gathered line by line (RFC 5321 4.2.1):
 *
 *   reply-line = *( code "-" [ text ] CRLF ) code [ SP text ] CRLF
 *
 * Servers are not to be trusted: lines, lengths and codes are bounded, and the text kept is printable.
 * Thread: pure.  Nothing is allocated. */
#pragma once
#include "spool/base/status.h"

#define REPLY_LINE_MAX  2048 /* RFC 5321 4.5.3.1.5 says 512; longer ones are seen */
#define REPLY_LINES_MAX 128

enum reply_more {
    REPLY_DONE, /* the reply is whole */
    REPLY_MORE, /* a continuation line: more follow */
    REPLY_BAD,  /* no reply line, another code than the line before, or too many lines */
};

struct client_reply {
    uint16_t code; /* 200..599 */
    uint16_t lines;
    bool enhanced;                   /* the server gave an enhanced code of the right class (RFC 2034) */
    uint16_t subject, detail;        /* 0.0 where it gave none */
    char text[SMTP_STATUS_TEXT_MAX]; /* lines joined with a space, enhanced codes taken out, cut */
    uint16_t text_n;
};

/* Before the first line of each reply. */
void reply_start(struct client_reply *r);
/* One line without its CRLF. */
enum reply_more reply_line(struct client_reply *r, struct slice line);
/* What the line says behind its code: "250-PIPELINING" -> "PIPELINING". */
struct slice reply_line_text(struct slice line);
/* The reply as a status: the enhanced code given, else class.0.0 of the code. */
void reply_status(const struct client_reply *r, struct smtp_status *st_r);
