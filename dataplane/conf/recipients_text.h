/* recipients_text.h - a list of recipients as text, and its canonical form.
 *
 * What people write: one recipient a line, a full address of the domain or its local part alone; blank lines and lines
 * that begin with # are skipped.  Canonical: local parts in lower case, without quotes where they can be done without
 * (RFC 5321 section 4.1.2), sorted as bytes, each once, each with its LF.  So the text says nothing of the domain, and
 * equal lists are equal bytes.  No I/O. */
#pragma once
#include "spool/base/slice.h"

#define RECIPIENT_MAX       250         /* bytes of a local part */
#define RECIPIENTS_TEXT_MAX (64u << 20) /* bytes of a whole list */
#define RECIPIENTS_WHY_MAX  256

struct recipients_text {
    char *p; /* malloc'ed; not NUL-terminated */
    size_t n, count;
};

/* One local part as it is compared; returns its length, 0: it is none. */
size_t recipient_canonical(struct slice local, char out_r[RECIPIENT_MAX]);

/* -SATCHEL_EINVAL: why_r (RECIPIENTS_WHY_MAX) names the line and what is wrong with it; -SATCHEL_ETOOBIG. */
int recipients_text_parse(struct slice in, const char *domain, struct recipients_text *t_r, char *why_r);
/* What is in either; what is in a and not in b. Both canonical. -SATCHEL_ETOOBIG. */
int recipients_text_add(struct slice a, struct slice b, struct recipients_text *t_r);
int recipients_text_remove(struct slice a, struct slice b, struct recipients_text *t_r);
void recipients_text_free(struct recipients_text *t);

/* The next line of a text, without its LF; false: there is none. */
bool recipients_line(struct slice *rest, struct slice *line_r);
/* The order of canonical lines. */
int recipients_order(struct slice a, struct slice b);
