/* kvbag.c - keys and values kept beyond the callback that listed them. */
#include "cluster/own/kvbag.h"

#include "spool/base/err.h"

#include <stdlib.h>

/* Key and value in one allocation; the key is its start. */
static bool copy(struct coord_kv *to, const struct coord_kv *from)
{
    uint8_t *p = malloc(from->key.n + from->value.n + 1);
    if (!p)
        return false;
    memcpy(p, from->key.p, from->key.n);
    if (from->value.n)
        memcpy(p + from->key.n, from->value.p, from->value.n);
    *to = *from;
    to->key.p = p;
    to->value.p = p + from->key.n;
    return true;
}

int kvbag_add(struct kvbag *b, const struct coord_kv *kvs, size_t n)
{
    if (b->n + n > b->cap) {
        size_t cap = (b->n + n) * 2;
        struct coord_kv *p = realloc(b->kvs, cap * sizeof *p);
        if (!p)
            return -SATCHEL_ENOMEM;
        b->kvs = p;
        b->cap = cap;
    }
    for (size_t i = 0; i < n; i++, b->n++)
        if (!copy(&b->kvs[b->n], &kvs[i]))
            return -SATCHEL_ENOMEM;
    return 0;
}

const struct coord_kv *kvbag_find(const struct kvbag *b, struct slice key)
{
    for (size_t i = 0; i < b->n; i++)
        if (slice_eq(b->kvs[i].key, key))
            return &b->kvs[i];
    return NULL;
}

void kvbag_clear(struct kvbag *b)
{
    for (size_t i = 0; i < b->n; i++)
        free((void *)b->kvs[i].key.p);
    free(b->kvs);
    *b = (struct kvbag){0};
}
