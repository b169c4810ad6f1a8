/* scenario.h - SMTP scenarios as text, for people: docs of the format in tests/smtp/README.md. */
#pragma once
#include "spool/base/slice.h"

enum step_kind { STEP_SEND, STEP_EXPECT, STEP_DO };

struct step {
    enum step_kind kind;
    unsigned line;  /* in its file */
    char *text;     /* EXPECT: the pattern; DO: the directive; NUL-terminated */
    uint8_t *bytes; /* SEND */
    size_t n;
};

struct scenario {
    const char *file;
    char *title;
    struct step *steps;
    size_t n;
};

/* All scenarios of a file; exits with a message that names file and line if one cannot be read. */
struct scenario *scenarios_load(const char *file, size_t *n_r);
void scenarios_free(struct scenario *s, size_t n);
/* \r \n \t \\ \" \xNN -> bytes, in place; returns the length. */
size_t unescape(char *text);
