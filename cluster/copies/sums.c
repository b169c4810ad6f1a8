/* sums.c - a picture of the bags on this storage: what each shard and each bag holds, and its digest.
 *
 * A bag's digest is the storage's (a sum over its messages); a shard's is a sum over its bags, so that order does not
 * matter.  The picture is made anew when something changed and it is older than a moment; the moment grows with the
 * number of bags, so that a million bags are not walked for each question.  An old picture is harmless: what came since
 * is part of the next comparison. */
#include "cluster/copies/copies_impl.h"

enum { SUMS_FRESH_US = 10000, SUMS_KEEP_US = 200000 };

static uint64_t bag_mix(struct slice domain, uint64_t digest)
{
    uint64_t x = record_body_sum(domain) + digest * 0x9e3779b97f4a7c15ull;
    x ^= x >> 31;
    x *= 0x94d049bb133111ebull;
    return x ^ x >> 29;
}

static bool sums_room(struct sums *s, size_t name_n)
{
    if (s->n == s->cap) {
        uint32_t cap = s->cap ? s->cap * 2 : 256;
        struct sum_bag *bags = realloc(s->bags, cap * sizeof *bags);
        if (!bags)
            return false;
        s->bags = bags;
        s->cap = cap;
    }
    if (s->names_n + name_n > s->names_cap) {
        size_t cap = s->names_cap ? s->names_cap * 2 : 8192;
        uint8_t *names = realloc(s->names, cap);
        if (!names)
            return false;
        s->names = names;
        s->names_cap = cap;
    }
    return true;
}

static void sums_each(void *arg, struct slice domain, const struct bag_stat *st)
{
    struct copies *c = arg;
    struct sums *s = &c->sums;
    uint32_t shard = shard_of(c, domain);
    if (shard == UINT32_MAX || st->messages == 0 || domain.n > WIRE_NAME_MAX || !sums_room(s, domain.n))
        return;
    s->bags[s->n++] = (struct sum_bag){.domain = {NULL, domain.n}, /* names may move until the end */
                                       .shard = shard,
                                       .count = st->messages,
                                       .bytes = st->bytes,
                                       .digest = st->digest,
                                       .oldest_us = st->oldest_us};
    memcpy(s->names + s->names_n, domain.p, domain.n);
    s->names_n += domain.n;
    s->count[shard] += st->messages;
    s->bytes[shard] += st->bytes;
    s->digest[shard] += bag_mix(domain, st->digest);
}

static bool sums_size(struct sums *s, uint32_t shards_n)
{
    if (s->shards_n == shards_n && s->first)
        return true;
    sums_drop(dlist_of(s, struct copies, sums));
    s->first = malloc((shards_n + 2) * sizeof *s->first);
    s->sorted = malloc(shards_n + 1);
    s->count = malloc((shards_n + 1) * sizeof *s->count);
    s->bytes = malloc((shards_n + 1) * sizeof *s->bytes);
    s->digest = malloc((shards_n + 1) * sizeof *s->digest);
    s->shards_n = shards_n;
    return s->first && s->sorted && s->count && s->bytes && s->digest;
}

/* By shard, keeping nothing of the order within. */
static bool sums_order(struct sums *s)
{
    struct sum_bag *out = malloc((s->n ? s->n : 1) * sizeof *out);
    if (!out)
        return false;
    memset(s->first, 0, (s->shards_n + 2) * sizeof *s->first);
    for (uint32_t i = 0; i < s->n; i++)
        s->first[s->bags[i].shard + 2]++;
    for (uint32_t i = 2; i < s->shards_n + 2; i++)
        s->first[i] += s->first[i - 1];
    const uint8_t *name = s->names;
    for (uint32_t i = 0; i < s->n; i++) {
        struct sum_bag *b = &s->bags[i];
        b->domain.p = name; /* they stand in the bags' order */
        name += b->domain.n;
        out[s->first[b->shard + 1]++] = *b;
    }
    free(s->bags);
    s->bags = out;
    s->cap = s->n ? s->n : 1;
    return true;
}

const struct sums *sums_now(struct copies *c)
{
    struct sums *s = &c->sums;
    uint64_t now = copies_now(c), keep = (s->dirty ? SUMS_FRESH_US : SUMS_KEEP_US) + (uint64_t)s->n;
    if (s->valid && s->shards_n == c->shards_n && now - s->at_us < keep)
        return s;
    if (!sums_size(s, c->shards_n))
        abort(); /* a few bytes a shard */
    memset(s->sorted, 0, s->shards_n + 1);
    memset(s->count, 0, (s->shards_n + 1) * sizeof *s->count);
    memset(s->bytes, 0, (s->shards_n + 1) * sizeof *s->bytes);
    memset(s->digest, 0, (s->shards_n + 1) * sizeof *s->digest);
    s->n = 0;
    s->names_n = 0;
    c->env.storage->ops->bags(c->env.storage, sums_each, c);
    if (!sums_order(s))
        abort();
    s->at_us = now;
    s->valid = true;
    s->dirty = false;
    return s;
}

static int by_domain(const void *a, const void *b)
{
    const struct sum_bag *x = a, *y = b;
    size_t n = x->domain.n < y->domain.n ? x->domain.n : y->domain.n;
    int d = memcmp(x->domain.p, y->domain.p, n);
    return d ? d : (x->domain.n > y->domain.n) - (x->domain.n < y->domain.n);
}

const struct sum_bag *sums_bags(struct copies *c, uint32_t shard, uint32_t *n_r)
{
    struct sums *s = &c->sums;
    struct sum_bag *first = s->bags + s->first[shard];
    *n_r = s->first[shard + 1] - s->first[shard];
    if (!s->sorted[shard])
        qsort(first, *n_r, sizeof *first, by_domain);
    s->sorted[shard] = true;
    return first;
}

void sums_dirty(struct copies *c)
{
    c->sums.dirty = true;
}

void sums_drop(struct copies *c)
{
    struct sums *s = &c->sums;
    free(s->bags);
    free(s->first);
    free(s->sorted);
    free(s->count);
    free(s->bytes);
    free(s->digest);
    free(s->names);
    *s = (struct sums){.valid = false};
}
