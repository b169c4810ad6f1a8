/* msgid.h - the name of a message: incarnation (128 random bits drawn at each start of a process) + dense counter.
 * Text: incarnation in Crockford base32, lower case (26 characters), '-', counter in decimal without leading zeros. */
#pragma once
#include "spool/base/slice.h"

struct msgid {
    uint8_t incarnation[16];
    uint64_t counter; /* 1, 2, 3, ... in an incarnation; 0 names no message */
};

#define MSGID_TEXT_MAX 48 /* with the NUL */

/* Returns the length. */
int msgid_format(const struct msgid *id, char out_r[MSGID_TEXT_MAX]);
/* 0 or -SATCHEL_EINVAL; accepts upper case. */
int msgid_parse(struct slice text, struct msgid *id_r);
/* Sort key: incarnation bytes, counter big-endian. */
#define MSGID_KEY_BYTES 24
void msgid_key(const struct msgid *id, uint8_t key_r[MSGID_KEY_BYTES]);

static inline bool msgid_eq(const struct msgid *a, const struct msgid *b)
{
    return a->counter == b->counter && memcmp(a->incarnation, b->incarnation, 16) == 0;
}
