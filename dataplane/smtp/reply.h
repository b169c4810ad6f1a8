/* reply.h - everything the SMTP server can say, once.  Each reply but the greetings and 354 carries an enhanced code
 * (RFC 2034, RFC 3463).  A reply that starts with 421 ends the session.
 * What depends on the moment (banner, EHLO, a verdict's own text, "queued as") is made where it is known. */
#pragma once
#include "spool/base/slice.h"

/* enumerator, the line without CRLF */
#define SMTP_REPLIES(X)                                                                                                \
    X(R_BYE, "221 2.0.0 Bye")                                                                                          \
    X(R_OK, "250 2.0.0 Ok")                                                                                            \
    X(R_SENDER_OK, "250 2.1.0 Ok")                                                                                     \
    X(R_RCPT_OK, "250 2.1.5 Ok")                                                                                       \
    X(R_VRFY, "252 2.5.0 Cannot verify a recipient; send the mail and see")                                            \
    X(R_GO, "354 End data with <CR><LF>.<CR><LF>")                                                                     \
    X(R_SHUT, "421 4.3.2 Shutting down, try again")                                                                    \
    X(R_BUSY, "421 4.3.2 Too many connections, try again later")                                                       \
    X(R_MEMORY, "421 4.3.1 Out of memory, try again later")                                                            \
    X(R_TIMEOUT, "421 4.4.2 Timeout, closing")                                                                         \
    X(R_MESSAGES, "421 4.5.3 Too many messages in one session, connect again")                                         \
    X(R_ERRORS, "421 4.7.0 Too many errors, closing")                                                                  \
    X(R_REFUSALS, "421 4.7.0 Too many refused recipients, closing")                                                    \
    X(R_LOCAL, "451 4.3.0 Local error, try again later")                                                               \
    X(R_COPIES, "451 4.4.0 Not enough copies could be made in time, try again later")                                  \
    X(R_FULL, "452 4.3.1 No room for mail now, try again later")                                                       \
    X(R_RCPTS, "452 4.5.3 Too many recipients")                                                                        \
    X(R_UNKNOWN, "500 5.5.2 Command not recognized")                                                                   \
    X(R_BARE, "500 5.5.2 Bare CR or LF: a command ends in CRLF")                                                       \
    X(R_LONG, "500 5.5.6 Line too long")                                                                               \
    X(R_SENDER_SYNTAX, "501 5.1.7 Bad sender address syntax")                                                          \
    X(R_RCPT_SYNTAX, "501 5.1.3 Bad recipient address syntax")                                                         \
    X(R_HELO_SYNTAX, "501 5.5.4 A host name is needed")                                                                \
    X(R_SYNTAX, "501 5.5.4 Syntax error in parameters")                                                                \
    X(R_ABSENT, "502 5.5.1 Command not implemented")                                                                   \
    X(R_NO_HELO, "503 5.5.1 Send EHLO or HELO first")                                                                  \
    X(R_NESTED, "503 5.5.1 Sender already given")                                                                      \
    X(R_NO_MAIL, "503 5.5.1 Send MAIL first")                                                                          \
    X(R_NOT_SERVED, "550 5.7.1 Relaying denied")                                                                       \
    X(R_BARE_BODY, "550 5.6.0 Message has a bare CR or LF: lines end in CRLF")                                         \
    X(R_TOO_BIG, "552 5.3.4 Message too big")                                                                          \
    X(R_NOT_ASCII, "553 5.6.7 Address is not ASCII")                                                                   \
    X(R_NO_RCPT, "554 5.5.1 No valid recipients")                                                                      \
    X(R_LOOP, "554 5.4.6 Too many hops: mail loop")                                                                    \
    X(R_PARAM, "555 5.5.4 Parameter not supported")

enum smtp_reply {
    R_NONE, /* nothing is wrong, nothing to say */
#define X(id, line) id,
    SMTP_REPLIES(X)
#undef X
};

/* The whole line with CRLF; static storage. */
struct slice smtp_reply_line(enum smtp_reply r);
/* What a door's error (negative SATCHEL_E*) is to the client: see spool/intake.h. */
enum smtp_reply smtp_reply_of(int err);
