/* registry.c - may this node take part, and what has to be written first? */
#include "cluster/own/registry.h"

#include "cluster/link/peers.h"
#include "spool/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const char *const registry_prefixes[REGISTRY_PREFIXES] = {"live/", "meta", "nodes/", "pools/"};

__attribute__((format(printf, 2, 3))) static int refuse(char *why_r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why_r, REGISTRY_WHY_MAX, fmt, ap);
    va_end(ap);
    return -SATCHEL_EINVAL;
}

/* ---- judging */

static int check_cluster(const struct member_config *cfg, const struct cmap *map, char *why_r)
{
    char there[STORAGE_ID_TEXT_MAX], ours[STORAGE_ID_TEXT_MAX];
    storage_id_format(&map->cluster, there);
    storage_id_format(&cfg->cluster, ours);
    if (storage_id_zero(&cfg->cluster) || storage_id_eq(&map->cluster, &cfg->cluster))
        return 0;
    if (!storage_id_zero(&map->cluster))
        return refuse(why_r,
                      "coordination holds cluster %s, this node belongs to %s: set cluster.etcd and cluster.name "
                      "right, or give it an empty data directory to join the other one",
                      there, ours);
    if (cfg->in_memory)
        return 0;
    return refuse(
        why_r,
        "coordination is empty, but this node belongs to cluster %s: set cluster.etcd and cluster.name right, "
        "or restore etcd from a snapshot",
        ours);
}

static int check_version(const struct cmap *map, char *why_r)
{
    if (!map->meta_mod_rev)
        return 0;
    if (map->version > PROTO_VERSION)
        return refuse(why_r, "the cluster speaks version %u, this Satchel %u: upgrade this node", map->version,
                      PROTO_VERSION);
    if (map->version < PROTO_VERSION_MIN)
        return refuse(why_r,
                      "the cluster still speaks version %u, this Satchel %u or later: upgrade all nodes to a Satchel "
                      "in between first",
                      map->version, PROTO_VERSION_MIN);
    return 0;
}

static int check_name(const struct member_config *cfg, const struct cmap *map, char *why_r)
{
    const struct map_node *n = cmap_node(map, cfg->self.name), *other = cmap_storage(map, &cfg->self.storage);
    char id[STORAGE_ID_TEXT_MAX];
    if (n && !storage_id_eq(&n->storage, &cfg->self.storage)) {
        storage_id_format(&n->storage, id);
        return refuse(why_r,
                      "node name %.63s belongs to storage %s. If its disk was replaced: satchelctl node replace %.63s; "
                      "else give this node another name",
                      n->name, id, n->name);
    }
    if (!n && other)
        return refuse(why_r,
                      "this node's disk is registered as node %.63s: set cluster.node to that, or satchelctl node "
                      "remove %.63s first",
                      other->name, other->name);
    return 0;
}

static int check_presence(const struct member_config *cfg, const struct cmap *map, bool was_there, char *why_r)
{
    if (!was_there || cmap_node(map, cfg->self.name))
        return 0;
    return refuse(why_r, "node %.63s was removed from the cluster: stop it, or restart it to join as a new member",
                  cfg->self.name);
}

int registry_still(const struct member_config *cfg, const struct cmap *map, char why_r[REGISTRY_WHY_MAX])
{
    int rc = check_cluster(cfg, map, why_r);
    if (rc == 0)
        rc = check_version(map, why_r);
    if (rc == 0)
        rc = check_presence(cfg, map, true, why_r);
    return rc == 0 ? check_name(cfg, map, why_r) : rc;
}

/* Somebody else's lease on our name; it ends by itself once that process is gone. */
static int check_live(const struct member_config *cfg, const struct kvbag *found, const struct cmap *map,
                      struct registry_plan *plan, char *why_r)
{
    char key[CMAP_KEY_MAX];
    snprintf(key, sizeof key, "live/%s", cfg->self.name);
    const struct coord_kv *kv = kvbag_find(found, slice_str(key));
    const struct map_node *n = cmap_node(map, cfg->self.name);
    plan->live_rev = kv ? kv->mod_rev : 0;
    if (kv && !(n && n->live))
        return refuse(why_r,
                      "another process with another disk still runs under the node name %.63s: stop it, or give this "
                      "node another name",
                      cfg->self.name);
    return 0;
}

/* ---- what is missing */

static int plan_put(struct registry_plan *plan, const char *key, int64_t mod_rev, char *value)
{
    if (!value)
        return -SATCHEL_ENOMEM;
    size_t i = plan->ops_n++;
    snprintf(plan->keys[i], CMAP_KEY_MAX, "%s", key);
    plan->values[i] = value;
    plan->ops[i] = (struct coord_op){.kind = COORD_PUT, .key = slice_str(plan->keys[i]), .value = slice_str(value)};
    plan->cmps[plan->cmps_n++] = (struct coord_cmp){slice_str(plan->keys[i]), mod_rev};
    return 0;
}

static int plan_meta(const struct member_config *cfg, const struct cmap *map, const struct storage_id *fresh,
                     struct registry_plan *plan)
{
    struct cmap meta = {.version = PROTO_VERSION_MIN, .repair_delay_s = 60, .cluster = cfg->cluster};
    plan->cluster = map->cluster;
    if (map->meta_mod_rev)
        return 0;
    if (storage_id_zero(&meta.cluster))
        meta.cluster = *fresh;
    plan->cluster = meta.cluster;
    return plan_put(plan, "meta", 0, cmap_meta_encode(&meta));
}

static int plan_pool(const struct member_config *cfg, const struct cmap *map, const char *name,
                     struct registry_plan *plan)
{
    struct map_pool p = cfg->pool_default;
    char key[CMAP_KEY_MAX];
    if (cmap_pool(map, slice_str(name)))
        return 0;
    bool shared = strcmp(name, POOL_SHARED) == 0;
    snprintf(p.name, sizeof p.name, "%s", name);
    if (shared)
        p.fallback[0] = 0;
    else if (!p.fallback[0])
        snprintf(p.fallback, sizeof p.fallback, "%s", POOL_SHARED);
    snprintf(key, sizeof key, "pools/%s", name);
    return plan_put(plan, key, 0, cmap_pool_encode(&p));
}

static bool same_place(const struct map_node *a, const struct map_node *b)
{
    return strcmp(a->address, b->address) == 0 && strcmp(a->admin, b->admin) == 0 && strcmp(a->zone, b->zone) == 0 &&
           strcmp(a->pool, b->pool) == 0 && a->weight == b->weight && storage_id_eq(&a->shared, &b->shared);
}

/* The state is the operator's: it stays. */
static int plan_node(const struct member_config *cfg, const struct cmap *map, struct registry_plan *plan)
{
    const struct map_node *there = cmap_node(map, cfg->self.name);
    struct map_node n = cfg->self;
    char key[CMAP_KEY_MAX];
    n.state = there ? there->state : NODE_ACTIVE;
    if (there && same_place(there, &n))
        return 0;
    snprintf(key, sizeof key, "nodes/%s", n.name);
    return plan_put(plan, key, there ? there->mod_rev : 0, cmap_node_encode(&n));
}

static int plan_all(const struct member_config *cfg, const struct cmap *map, const struct storage_id *fresh,
                    struct registry_plan *plan)
{
    int rc = plan_meta(cfg, map, fresh, plan);
    if (rc == 0)
        rc = plan_pool(cfg, map, POOL_SHARED, plan);
    if (rc == 0 && strcmp(cfg->self.pool, POOL_SHARED) != 0)
        rc = plan_pool(cfg, map, cfg->self.pool, plan);
    return rc == 0 ? plan_node(cfg, map, plan) : rc;
}

int registry_judge(const struct member_config *cfg, const struct kvbag *found, int64_t rev, bool was_there,
                   const struct storage_id *fresh, struct registry_plan *plan_r, char why_r[REGISTRY_WHY_MAX])
{
    const struct cmap *map;
    char what[256];
    *plan_r = (struct registry_plan){0};
    int rc = cmap_decode(found->kvs, found->n, rev, &map, what);
    if (rc < 0)
        return refuse(why_r, "coordination holds what makes no sense: %.160s; mend or delete that key", what);
    rc = check_cluster(cfg, map, why_r);
    if (rc == 0)
        rc = check_version(map, why_r);
    if (rc == 0)
        rc = check_presence(cfg, map, was_there, why_r);
    if (rc == 0)
        rc = check_name(cfg, map, why_r);
    if (rc == 0)
        rc = check_live(cfg, found, map, plan_r, why_r);
    if (rc == 0)
        rc = plan_all(cfg, map, fresh, plan_r);
    cmap_unref(map);
    return rc;
}

void registry_plan_clear(struct registry_plan *plan)
{
    for (size_t i = 0; i < plan->ops_n; i++)
        free(plan->values[i]);
    *plan = (struct registry_plan){0};
}
