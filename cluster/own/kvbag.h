/* kvbag.h - keys and values kept beyond the callback that listed them, in the order they came. */
#pragma once
#include "cluster/coord/coord.h"

struct kvbag {
    struct coord_kv *kvs;
    size_t n, cap;
};

/* Copies.  0 or -SATCHEL_ENOMEM. */
int kvbag_add(struct kvbag *b, const struct coord_kv *kvs, size_t n);
/* NULL: not there. */
const struct coord_kv *kvbag_find(const struct kvbag *b, struct slice key);
void kvbag_clear(struct kvbag *b);
