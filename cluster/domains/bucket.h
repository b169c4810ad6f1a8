/* bucket.h - many domains in one value of coordination: a JSON list, compressed with zstd.
 *
 * Keys are domains/0000 .. domains/4095; a domain's bucket is XXH3 of its lower-case name modulo 4096, a constant of
 * the format.  About 25 bytes a domain where domains look alike, so that ten million of them stay within etcd's bounds.
 */
#pragma once
#include "dataplane/conf/domains.h"

#define BUCKETS           4096
#define BUCKET_KEY_MAX    32
#define BUCKET_VALUE_MAX  (1400u * 1024) /* etcd refuses requests above 1.5 MiB */
#define BUCKET_PLAIN_MAX  (64u << 20)    /* unpacked */
#define BUCKET_KEY_PREFIX "domains/"

uint32_t bucket_of(struct slice name);
size_t bucket_key(uint32_t bucket, char key_r[BUCKET_KEY_MAX]);
/* false: not such a key. */
bool bucket_key_parse(struct slice key, uint32_t *bucket_r);
/* malloc'ed; -SATCHEL_ETOOBIG: over BUCKET_VALUE_MAX. */
int bucket_encode(const struct domain *doms, size_t n, uint8_t **value_r, size_t *value_n_r);
/* malloc'ed list.  keep_s: of domains that do not say.  -SATCHEL_EINVAL: why_r (256 bytes) says what is wrong. */
int bucket_decode(struct slice value, uint64_t keep_s, struct domain **doms_r, size_t *n_r, char *why_r);
