/* storageid.h - the name of a storage: the UUID in its log/FORMAT file.  A wiped disk is a new storage, so whatever
 * counts copies counts these and never node names.  Text: 32 lower-case hex digits. */
#pragma once
#include "spool/base/slice.h"

struct storage_id {
    uint8_t b[16];
};

#define STORAGE_ID_TEXT_MAX 33 /* with the NUL */

void storage_id_format(const struct storage_id *id, char out_r[STORAGE_ID_TEXT_MAX]);
/* 0 or -SATCHEL_EINVAL. */
int storage_id_parse(struct slice text, struct storage_id *id_r);

static inline bool storage_id_eq(const struct storage_id *a, const struct storage_id *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

static inline bool storage_id_zero(const struct storage_id *a)
{
    static const struct storage_id zero;
    return storage_id_eq(a, &zero);
}
