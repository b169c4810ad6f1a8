/* command.h - command lines: verb, argument, path and parameters.  Parsing only; whether a command is in order now is
 * the session's question.  Thread: pure functions. */
#pragma once
#include "dataplane/smtp/address.h"
#include "dataplane/smtp/reply.h"

/* verb, whether it takes an argument (NONE: 501 if there is one; ANY: ignored; NEEDED: 501 if there is none) */
#define SMTP_VERBS(X)                                                                                                  \
    X(EHLO, NEEDED)                                                                                                    \
    X(HELO, NEEDED)                                                                                                    \
    X(MAIL, NEEDED)                                                                                                    \
    X(RCPT, NEEDED)                                                                                                    \
    X(DATA, NONE)                                                                                                      \
    X(RSET, NONE)                                                                                                      \
    X(NOOP, ANY)                                                                                                       \
    X(QUIT, NONE)                                                                                                      \
    X(VRFY, NEEDED)                                                                                                    \
    X(HELP, ANY)

/* Known, and refused with 502 until they are served. */
#define SMTP_VERBS_ABSENT(X)                                                                                           \
    X(STARTTLS)                                                                                                        \
    X(AUTH)                                                                                                            \
    X(BDAT)                                                                                                            \
    X(ETRN)                                                                                                            \
    X(EXPN)

enum smtp_verb {
#define X(verb, arg) SMTP_##verb,
    SMTP_VERBS(X)
#undef X
        SMTP_VERB_COUNT
};

/* keyword, the verb that takes it, parser */
#define SMTP_PARAMS(X)                                                                                                 \
    X(SIZE, MAIL, param_size) /* RFC 1870 */                                                                           \
    X(BODY, MAIL, param_body) /* RFC 6152 */

enum smtp_param {
#define X(keyword, verb, parse) SMTP_PARAM_##keyword,
    SMTP_PARAMS(X)
#undef X
        SMTP_PARAM_COUNT
};

struct smtp_params {
    uint32_t seen;       /* 1 << enum smtp_param */
    uint64_t size_bytes; /* 0: not declared */
    bool body_8bit;
};

/* Borrows from the line. */
struct smtp_command {
    enum smtp_verb verb;
    struct slice arg;
    struct smtp_path path; /* MAIL, RCPT */
    struct smtp_params params;
};

/* line: without CRLF.  Finds the verb: R_NONE, R_UNKNOWN or R_ABSENT. */
enum smtp_reply smtp_command_verb(struct slice line, struct smtp_command *c_r);
/* Then the argument: R_NONE or the 5xx. */
enum smtp_reply smtp_command_args(struct smtp_command *c);
