/* path.c - paths that carry less than the link. */
#include "dataplane/tcp/path.h"

#include <sodium.h>

#define WAYS 4u

struct path {
    struct ip_addr dst;
    uint64_t until_us; /* 0: no entry */
    uint16_t mtu;
};

static uint32_t buckets_for(uint32_t max)
{
    uint32_t n = 1;
    while (n * WAYS < max)
        n *= 2;
    return n;
}

size_t path_table_bytes(uint32_t max)
{
    return buckets_for(max) * WAYS * sizeof(struct path);
}

void path_table_init(struct path_table *t, void *mem, uint32_t max, const uint8_t key[16])
{
    *t = (struct path_table){.v = mem, .buckets = buckets_for(max)};
    memcpy(t->key, key, sizeof t->key);
}

static struct path *bucket_of(const struct path_table *t, const struct ip_addr *dst)
{
    uint8_t hash[crypto_shorthash_BYTES];
    uint32_t h;
    crypto_shorthash(hash, dst->b, sizeof dst->b, t->key);
    memcpy(&h, hash, sizeof h);
    return &t->v[(h & (t->buckets - 1)) * WAYS];
}

uint16_t path_mtu(const struct path_table *t, const struct ip_addr *dst, uint64_t now_us)
{
    if (now_us >= t->until_us) /* none at all, as on most days */
        return 0;
    const struct path *bucket = bucket_of(t, dst);
    for (const struct path *p = bucket; p < bucket + WAYS; p++)
        if (p->until_us > now_us && ip_addr_eq(&p->dst, dst))
            return p->mtu;
    return 0;
}

void path_learn(struct path_table *t, const struct ip_addr *dst, uint16_t mtu, uint64_t now_us)
{
    struct path *bucket = bucket_of(t, dst), *oldest = bucket, *same = NULL;
    for (struct path *p = bucket; p < bucket + WAYS; p++) {
        if (p->until_us && ip_addr_eq(&p->dst, dst))
            same = p;
        if (p->until_us < oldest->until_us)
            oldest = p;
    }
    t->until_us = now_us + PATH_LIFE_US;
    *(same ? same : oldest) =
        (struct path){.dst = *dst, .until_us = t->until_us, .mtu = mtu < path_floor(dst) ? path_floor(dst) : mtu};
}
