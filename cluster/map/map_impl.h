/* map_impl.h - what the files of the map share. */
#pragma once
#include "cluster/map/map.h"

struct map_meta {
    struct storage_id cluster;
    uint32_t version, repair_delay_s;
};

struct map_live {
    struct storage_id storage;
    uint64_t boot;
    uint32_t proto;
};

/* map_json.c: one value each; everything that the value does not say has its default.  0, or -SATCHEL_EINVAL with the
 * field and what is wrong with it in why_r (128 bytes).  Names, numbers and revisions come from the key: not touched.
 */
int map_json_node(struct slice value, struct map_node *n_r, char *why_r);
int map_json_live(struct slice value, struct map_live *l_r, char *why_r);
int map_json_pool(struct slice value, struct map_pool *p_r, char *why_r);
int map_json_shard(struct slice value, struct map_shard *s_r, char *why_r);
int map_json_meta(struct slice value, struct map_meta *m_r, char *why_r);
int map_json_leader(struct slice value, char node_r[NODE_NAME_MAX], char *why_r);

/* map.c: a map to be filled in: nodes, pools and shards have room for so many and are zero; NULL: no memory. */
struct cmap *cmap_new(size_t nodes, size_t pools, size_t shards);
/* Sorts the storages for cmap_storage: the map is done. */
const struct cmap *cmap_finish(struct cmap *m);
/* By name, as the lookups need them. */
void cmap_sort_pools(struct map_pool *pools, uint32_t pools_n);
/* Sets first, in the order in which the pools were made; returns the number of shards. */
uint32_t cmap_lay_out(struct map_pool *pools, uint32_t pools_n);

/* cmap_decode that takes shards over from an earlier map of the same store where their revisions are the same; before
 * may be NULL. */
int cmap_decode_after(const struct coord_kv *kvs, size_t n, int64_t rev, const struct cmap *before,
                      const struct cmap **map_r, char *why_r);

/* XXH3-64. */
uint64_t cmap_hash(struct slice s, uint64_t seed);
