/* bucket.c - many domains in one value: JSON under zstd. */
#include "cluster/domains/bucket.h"

#include "dataplane/conf/domains_json.h"
#include "spool/base/err.h"

#include <stdio.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>

enum { WHY_MAX = 256, LEVEL = 3 };

uint32_t bucket_of(struct slice name)
{
    char lower[DOMAIN_NAME_MAX];
    size_t n = name.n < sizeof lower ? name.n : sizeof lower;
    for (size_t i = 0; i < n; i++)
        lower[i] = (char)(name.p[i] >= 'A' && name.p[i] <= 'Z' ? name.p[i] | 0x20 : name.p[i]);
    return (uint32_t)(XXH3_64bits(lower, n) % BUCKETS);
}

size_t bucket_key(uint32_t bucket, char key_r[BUCKET_KEY_MAX])
{
    return (size_t)snprintf(key_r, BUCKET_KEY_MAX, BUCKET_KEY_PREFIX "%04u", bucket);
}

bool bucket_key_parse(struct slice key, uint32_t *bucket_r)
{
    size_t prefix = sizeof BUCKET_KEY_PREFIX - 1;
    if (key.n != prefix + 4 || memcmp(key.p, BUCKET_KEY_PREFIX, prefix) != 0)
        return false;
    *bucket_r = 0;
    for (size_t i = prefix; i < key.n; i++) {
        if (key.p[i] < '0' || key.p[i] > '9')
            return false;
        *bucket_r = *bucket_r * 10 + key.p[i] - '0';
    }
    return *bucket_r < BUCKETS;
}

static char *plain_of(const struct domain *doms, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < n; i++)
        json_array_append_new(list, domain_json(&doms[i]));
    char *text = list ? json_dumps(list, JSON_COMPACT) : NULL;
    json_decref(list);
    return text;
}

int bucket_encode(const struct domain *doms, size_t n, uint8_t **value_r, size_t *value_n_r)
{
    char *text = plain_of(doms, n);
    if (!text)
        return -SATCHEL_ENOMEM;
    size_t cap = ZSTD_compressBound(strlen(text));
    uint8_t *value = malloc(cap);
    size_t got = value ? ZSTD_compress(value, cap, text, strlen(text), LEVEL) : 0;
    free(text);
    int res = !value ? -SATCHEL_ENOMEM : ZSTD_isError(got) || got > BUCKET_VALUE_MAX ? -SATCHEL_ETOOBIG : 0;
    if (res < 0) {
        free(value);
        return res;
    }
    *value_r = value;
    *value_n_r = got;
    return 0;
}

static json_t *list_load(struct slice value, char *why_r)
{
    json_error_t err;
    unsigned long long plain_n = ZSTD_getFrameContentSize(value.p, value.n);
    if (plain_n == ZSTD_CONTENTSIZE_ERROR || plain_n == ZSTD_CONTENTSIZE_UNKNOWN || plain_n > BUCKET_PLAIN_MAX) {
        snprintf(why_r, WHY_MAX, "not a packed list of domains");
        return NULL;
    }
    char *text = malloc(plain_n + 1);
    size_t got = text ? ZSTD_decompress(text, plain_n, value.p, value.n) : 0;
    json_t *list = NULL;
    if (!text || ZSTD_isError(got))
        snprintf(why_r, WHY_MAX, "the packed list of domains is damaged");
    else if (!(list = json_loadb(text, got, 0, &err)) || !json_is_array(list))
        snprintf(why_r, WHY_MAX, "the list of domains is not JSON: %.100s", list ? "no list" : err.text);
    free(text);
    if (json_is_array(list))
        return list;
    json_decref(list);
    return NULL;
}

int bucket_decode(struct slice value, uint64_t keep_s, struct domain **doms_r, size_t *n_r, char *why_r)
{
    json_t *list = list_load(value, why_r);
    if (!list)
        return -SATCHEL_EINVAL;
    size_t n = json_array_size(list);
    struct domain *doms = calloc(n + 1, sizeof *doms);
    int res = doms ? 0 : -SATCHEL_ENOMEM;
    for (size_t i = 0; res == 0 && i < n; i++)
        res = domain_from_json(json_array_get(list, i), keep_s, &doms[i], why_r);
    json_decref(list);
    if (res < 0) {
        free(doms);
        return res;
    }
    *doms_r = doms;
    *n_r = n;
    return 0;
}
