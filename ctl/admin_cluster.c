/* admin_cluster.c - /v1/cluster, /v1/nodes, /v1/shards: the cluster as this node sees it, and what operators change. */
#include "ctl/admin_impl.h"

#include <stdlib.h>
#include <string.h>

enum { SHARDS_PAGE = 1000, SHARDS_PAGE_MOST = 20000, PEERS_CAP = 1024, TEXT_MAX = 256 };

/* ---- small parts */

static json_t *id_json(const struct storage_id *id)
{
    char text[STORAGE_ID_TEXT_MAX];
    if (storage_id_zero(id))
        return json_null();
    storage_id_format(id, text);
    return json_string(text);
}

/* The name of the node that has this storage, or its UUID where none has. */
static json_t *holder_json(const struct cmap *map, const struct storage_id *id)
{
    const struct map_node *n = cmap_storage(map, id);
    return n ? json_string(n->name) : id_json(id);
}

/* false: this node is in no cluster; it is answered. */
static bool in_cluster(struct admin_request *r, const struct cmap **map_r, enum MHD_Result *answered_r)
{
    *map_r = r->a->deps.cluster ? cluster_map(r->a->deps.cluster) : NULL;
    if (*map_r)
        return true;
    *answered_r = r->a->deps.cluster
                      ? admin_reply_error(r, MHD_HTTP_SERVICE_UNAVAILABLE, "this node has no map of the cluster yet",
                                          "see `satchelctl cluster status`: can it reach etcd?")
                      : admin_reply_error(r, MHD_HTTP_NOT_FOUND, "this node is in no cluster",
                                          "set cluster.node and cluster.etcd: docs/operations.md");
    return false;
}

static enum MHD_Result change_reply(struct admin_request *r, int res, const char *why, json_t *ok)
{
    if (res == 0)
        return admin_reply_json(r, MHD_HTTP_OK, ok);
    json_decref(ok);
    unsigned status = res == -SATCHEL_ENOENT   ? MHD_HTTP_NOT_FOUND
                      : res == -SATCHEL_EBUSY  ? MHD_HTTP_CONFLICT
                      : res == -SATCHEL_EINVAL ? MHD_HTTP_BAD_REQUEST
                                               : MHD_HTTP_SERVICE_UNAVAILABLE;
    return admin_reply_json(r, status, json_pack("{ss}", "error", why));
}

/* ---- /v1/cluster */

static json_t *coord_json(const struct node_info *n, uint64_t now_us)
{
    const struct coord_info *i = &n->coord;
    return json_pack("{sb sf ss ss ss sI sI}", "reachable", i->reachable, "for_s", (double)(now_us - i->since_us) / 1e6,
                     "endpoint", i->endpoint, "why", i->why, "refused", n->map_refused, "calls", (json_int_t)i->calls,
                     "failures", (json_int_t)i->failures);
}

/* "": as admin_leader_json's null. */
static const char *leader_name(const struct cmap *map, const struct node_info *n)
{
    return n->coord.reachable && !n->map_refused[0] && map ? map->leader : "";
}

json_t *admin_leader_json(const struct cmap *map, const struct node_info *n)
{
    const char *name = leader_name(map, n);
    return *name ? json_string(name) : json_null();
}

static json_t *copies_json(const struct copies_info *i)
{
    return json_pack("{sI sI sI sI sI sI sI sI sI sI sI}", "under_way", (json_int_t)i->requests, "under_way_bytes",
                     (json_int_t)i->request_bytes, "under_replicated", (json_int_t)i->under_replicated, "unowned",
                     (json_int_t)i->unowned, "ends_unpushed", (json_int_t)i->states_unpushed, "repaired",
                     (json_int_t)i->repaired, "standins", (json_int_t)i->standins, "aborted", (json_int_t)i->aborted,
                     "scrubbed_bytes", (json_int_t)i->scrubbed_bytes, "scrub_repaired", (json_int_t)i->scrub_repaired,
                     "unaccounted", (json_int_t)i->unaccounted);
}

static json_t *owner_json(const struct owner_info *i)
{
    return json_pack("{sI sI sI sI sI sf sf sb}", "owned", (json_int_t)i->owned, "merging", (json_int_t)i->merging,
                     "handing", (json_int_t)i->handing, "adopted", (json_int_t)i->adopted, "handed",
                     (json_int_t)i->handed, "last_adoption_s", (double)i->adopt_us_last / 1e6, "last_hand_over_s",
                     (double)i->hand_us_last / 1e6, "drained", i->drained);
}

static json_t *leader_json(const struct leader_info *i)
{
    return json_pack("{sb sI sI sI sI}", "leading", i->leading, "moves_planned", (json_int_t)i->moves_planned,
                     "moves_under_way", (json_int_t)i->moves_under_way, "shards_ownerless",
                     (json_int_t)i->shards_ownerless, "copies_short", (json_int_t)i->copies_short);
}

static json_t *storage_json(const struct storage_stat *s)
{
    return json_pack("{so sI sI sI sI sI sb}", "id", id_json(&s->self), "messages", (json_int_t)s->messages, "bytes",
                     (json_int_t)s->bytes, "ends_kept", (json_int_t)s->tombs, "ends_owed", (json_int_t)s->tombs_owed,
                     "room_bytes", (json_int_t)s->room_bytes, "fenced", s->fenced);
}

static json_t *lease_json(const struct member_info *m, uint64_t now_us)
{
    double left = m->deadline_us > now_us ? (double)(m->deadline_us - now_us) / 1e6 : 0;
    return json_pack("{sb sf sI}", "held", m->leased, "left_s", left, "lost", (json_int_t)m->losses);
}

static uint64_t highest_epoch(const struct cmap *map)
{
    uint64_t epoch = 0;
    for (uint32_t i = 0; map && i < map->shards_n; i++)
        epoch = map->shards[i].epoch > epoch ? map->shards[i].epoch : epoch;
    return epoch;
}

/* This node's own view. */
static json_t *self_json(struct admin *a, const struct cmap *map)
{
    struct cluster_status st;
    struct spool_info spool;
    if (cluster_status(a->deps.cluster, &st) < 0)
        return NULL;
    spool_info(a->deps.spool, &spool);
    return json_pack("{ss so so sI sI ss so so so so so so sI sI}", "node", cluster_node_name(a->deps.cluster),
                     "cluster", map ? id_json(&map->cluster) : json_null(), "leader", admin_leader_json(map, &st.node),
                     "map_rev", (json_int_t)st.node.map_rev, "epoch", (json_int_t)highest_epoch(map), "refused",
                     st.node.member.refused, "lease", lease_json(&st.node.member, st.now_us), "coordination",
                     coord_json(&st.node, st.now_us), "copies", copies_json(&st.node.copies), "ownership",
                     owner_json(&st.node.owner), "leadership", leader_json(&st.node.leader), "storage",
                     storage_json(&st.node.storage), "in_doubt", (json_int_t)metric_read(M_RELAY_IN_DOUBT),
                     "quarantined", (json_int_t)spool.opened.damaged_ranges);
}

/* What another node says of itself; null where it does not answer. */
static json_t *other_json(struct admin *a, const char *node)
{
    struct cluster_answer an = {0};
    char why[CLUSTER_WHY_MAX];
    if (cluster_ask(a->deps.cluster, node, "GET", "/v1/cluster?local=1", NULL, &an, why) < 0)
        return json_null();
    json_t *j = an.status == MHD_HTTP_OK ? json_loadb(an.body, an.n, 0, NULL) : NULL;
    free(an.body);
    free(an.type);
    return j ? j : json_null();
}

static json_t *everybody_json(struct admin *a, const struct cmap *map, json_t *self)
{
    json_t *all = json_object();
    for (uint32_t i = 0; map && i < map->nodes_n; i++) {
        const char *name = map->nodes[i].name;
        bool us = strcmp(name, cluster_node_name(a->deps.cluster)) == 0;
        json_object_set_new(all, name, us ? json_incref(self) : map->nodes[i].live ? other_json(a, name) : json_null());
    }
    return all;
}

enum MHD_Result admin_cluster_get(struct admin_request *r)
{
    struct admin *a = r->a;
    if (!a->deps.cluster)
        return admin_reply_json(r, MHD_HTTP_OK, json_pack("{sn ss}", "cluster", "node", a->hostname));
    const struct cmap *map = cluster_map(a->deps.cluster);
    json_t *self = self_json(a, map);
    if (self && !admin_arg(r, "local")) {
        json_t *ours = json_copy(self);
        json_object_set_new(self, "nodes", everybody_json(a, map, ours));
        json_decref(ours);
    }
    cmap_unref(map);
    if (!self)
        return admin_reply_error(r, MHD_HTTP_SERVICE_UNAVAILABLE, "the cluster's thread does not answer",
                                 "see the log; restart this node if it stays so");
    return admin_reply_json(r, MHD_HTTP_OK, self);
}

/* ---- /v1/nodes */

struct node_counts {
    uint32_t owned, stored, former;
};

static struct node_counts count_shards(const struct cmap *map, const struct storage_id *id)
{
    struct node_counts n = {0};
    for (uint32_t i = 0; i < map->shards_n; i++) {
        n.owned += storage_id_eq(&map->shards[i].owner, id);
        n.stored += cmap_is_member(&map->shards[i], id);
        n.former += cmap_is_former(&map->shards[i], id);
    }
    return n;
}

static json_t *link_json(const struct peer_info *p)
{
    return json_pack("{sb sf sf sI ss}", "up", p->up, "rtt_ms", (double)p->rtt_us / 1e3, "skew_s",
                     (double)p->skew_us / 1e6, "queued_bytes", (json_int_t)p->queued, "why", p->why);
}

/* What this node knows of all of them beside the map. */
struct around {
    const char *leader; /* of the map */
    struct cluster_peer_status peers[PEERS_CAP];
    size_t peers_n;
};

/* Until this thread's next call. */
static const struct around *look_around(struct admin *a, const struct cmap *map)
{
    static _Thread_local struct around at;
    struct cluster_status st;
    at.leader = cluster_status(a->deps.cluster, &st) == 0 ? leader_name(map, &st.node) : "";
    at.peers_n = cluster_peers(a->deps.cluster, at.peers, PEERS_CAP);
    return &at;
}

static json_t *node_json(struct admin *a, const struct cmap *map, const struct map_node *n, const struct around *at)
{
    struct node_counts c = count_shards(map, &n->storage);
    json_t *j =
        json_pack("{ss so ss ss ss sI ss sb sb sI sI sI}", "name", n->name, "storage", id_json(&n->storage), "address",
                  n->address, "zone", n->zone, "pool", n->pool, "weight", (json_int_t)n->weight, "state",
                  node_state_name(n->state), "live", n->live, "leader", strcmp(at->leader, n->name) == 0, "owned",
                  (json_int_t)c.owned, "stored", (json_int_t)c.stored, "former", (json_int_t)c.former);
    json_object_set_new(j, "self", json_boolean(strcmp(n->name, cluster_node_name(a->deps.cluster)) == 0));
    for (size_t i = 0; i < at->peers_n; i++)
        if (strcmp(at->peers[i].name, n->name) == 0)
            json_object_set_new(j, "link", link_json(&at->peers[i].info));
    return j;
}

/* With what the node says of its own storage. */
static void node_add_load(struct admin *a, const struct map_node *n, json_t *j)
{
    bool us = strcmp(n->name, cluster_node_name(a->deps.cluster)) == 0;
    if (!n->live)
        return;
    const struct cmap *map = us ? cluster_map(a->deps.cluster) : NULL;
    json_t *said = us ? self_json(a, map) : other_json(a, n->name);
    cmap_unref(map);
    if (json_is_object(said)) {
        json_object_set(j, "load", json_object_get(said, "storage"));
        json_object_set(j, "ownership", json_object_get(said, "ownership"));
        json_object_set(j, "copies", json_object_get(said, "copies"));
    }
    json_decref(said);
}

enum MHD_Result admin_nodes_get(struct admin_request *r)
{
    const struct cmap *map;
    enum MHD_Result answered;
    if (!in_cluster(r, &map, &answered))
        return answered;
    const struct around *at = look_around(r->a, map);
    json_t *list = json_array();
    for (uint32_t i = 0; i < map->nodes_n; i++) {
        json_t *j = node_json(r->a, map, &map->nodes[i], at);
        if (!admin_arg(r, "local"))
            node_add_load(r->a, &map->nodes[i], j);
        json_array_append_new(list, j);
    }
    cmap_unref(map);
    return admin_reply_json(r, MHD_HTTP_OK, json_pack("{so}", "nodes", list));
}

enum MHD_Result admin_node_get(struct admin_request *r)
{
    const struct cmap *map;
    enum MHD_Result answered;
    if (!in_cluster(r, &map, &answered))
        return answered;
    const struct map_node *n = cmap_node(map, r->name);
    json_t *j = n ? node_json(r->a, map, n, look_around(r->a, map)) : NULL;
    if (j)
        node_add_load(r->a, n, j);
    cmap_unref(map);
    return j ? admin_reply_json(r, MHD_HTTP_OK, j)
             : admin_reply_error(r, MHD_HTTP_NOT_FOUND, "there is no such node", "see `satchelctl node list`");
}

static enum MHD_Result node_set(struct admin_request *r, enum node_state state)
{
    const struct cmap *map;
    enum MHD_Result answered;
    char why[CLUSTER_WHY_MAX];
    if (!in_cluster(r, &map, &answered))
        return answered;
    cmap_unref(map);
    int res = cluster_node_set(r->a->deps.cluster, r->name, state, why);
    return change_reply(r, res, why, json_pack("{ss ss}", "node", r->name, "state", node_state_name(state)));
}

enum MHD_Result admin_node_cordon(struct admin_request *r)
{
    return node_set(r, NODE_CORDONED);
}

enum MHD_Result admin_node_drain(struct admin_request *r)
{
    return node_set(r, NODE_DRAINING);
}

enum MHD_Result admin_node_undrain(struct admin_request *r)
{
    return node_set(r, NODE_ACTIVE);
}

enum MHD_Result admin_node_delete(struct admin_request *r)
{
    const struct cmap *map;
    enum MHD_Result answered;
    char why[CLUSTER_WHY_MAX];
    if (!in_cluster(r, &map, &answered))
        return answered;
    cmap_unref(map);
    int res = cluster_node_remove(r->a->deps.cluster, r->name, admin_arg(r, "lost") != NULL, why);
    return change_reply(r, res, why, json_pack("{ss}", "removed", r->name));
}

/* ---- /v1/shards */

static json_t *holders_json(const struct cmap *map, const struct storage_id *ids, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, holder_json(map, &ids[i]));
    return list;
}

static json_t *synced_json(const struct cmap *map, const struct map_shard *s, uint32_t bits)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->members_n; i++)
        if (bits & 1u << i)
            json_array_append_new(list, holder_json(map, &s->members[i]));
    return list;
}

static json_t *shard_json(struct admin *a, const struct cmap *map, uint32_t at, const struct cluster_shard_status *st)
{
    const struct map_shard *s = &map->shards[at];
    char name[TEXT_MAX];
    snprintf(name, sizeof name, "%s.%u", cmap_shard_pool(map, s)->name, s->number);
    json_t *j =
        json_pack("{ss so so so so sI}", "name", name, "owner", holder_json(map, &s->owner), "members",
                  holders_json(map, s->members, s->members_n), "former", holders_json(map, s->former, s->former_n),
                  "next", holder_json(map, &s->next), "epoch", (json_int_t)s->epoch);
    const struct map_node *owner = cmap_storage(map, &s->owner);
    if (owner && strcmp(owner->name, cluster_node_name(a->deps.cluster)) == 0) {
        json_object_set_new(j, "state", json_string(owner_state_name(st->state)));
        json_object_set_new(j, "synced", synced_json(map, s, st->synced));
    }
    json_object_set_new(j, "messages", json_integer((json_int_t)st->messages));
    json_object_set_new(j, "bytes", json_integer((json_int_t)st->bytes));
    return j;
}

enum MHD_Result admin_shards_get(struct admin_request *r)
{
    const struct cmap *map;
    enum MHD_Result answered;
    uint64_t limit, first = 0;
    if (!admin_arg_number(r, "limit", SHARDS_PAGE, SHARDS_PAGE_MOST, &limit, &answered))
        return answered;
    if (admin_arg(r, "after") && !admin_arg_number(r, "after", 0, UINT32_MAX, &first, &answered))
        return answered;
    if (!in_cluster(r, &map, &answered))
        return answered;
    uint32_t n = first < map->shards_n ? map->shards_n - (uint32_t)first : 0;
    n = n > limit ? (uint32_t)limit : n;
    struct cluster_shard_status *st = calloc(n + 1, sizeof *st);
    json_t *list = json_array();
    int res = st ? cluster_shards(r->a->deps.cluster, (uint32_t)first, n, st) : -SATCHEL_ENOMEM;
    for (uint32_t i = 0; res == 0 && i < n; i++)
        json_array_append_new(list, shard_json(r->a, map, (uint32_t)first + i, &st[i]));
    json_t *next = first + n < map->shards_n ? json_integer((json_int_t)first + n) : json_null();
    free(st);
    cmap_unref(map);
    return admin_reply_json(r, MHD_HTTP_OK, json_pack("{so so}", "shards", list, "next", next));
}

/* "shared.12"; UINT32_MAX: no such shard. */
static uint32_t shard_parse(const struct cmap *map, const char *name)
{
    const char *dot = strrchr(name, '.');
    char *end;
    const struct map_pool *p = dot ? cmap_pool(map, slice_of(name, (size_t)(dot - name))) : NULL;
    unsigned long number = p ? strtoul(dot + 1, &end, 10) : 0;
    return p && dot[1] && *end == 0 && number < p->shards ? p->first + (uint32_t)number : UINT32_MAX;
}

/* By its name, or the shard of a domain. */
static uint32_t shard_named(struct admin_request *r, const struct cmap *map)
{
    uint32_t at = shard_parse(map, r->name);
    return at != UINT32_MAX ? at : cluster_shard_of(r->a->deps.cluster, map, slice_str(r->name));
}

static enum MHD_Result no_shard(struct admin_request *r)
{
    return admin_reply_error(r, MHD_HTTP_NOT_FOUND, "there is no such shard",
                             "name it as `satchelctl shard list` does (shared.12), or give a domain");
}

enum MHD_Result admin_shard_get(struct admin_request *r)
{
    const struct cmap *map;
    enum MHD_Result answered;
    struct cluster_shard_status st = {0};
    if (!in_cluster(r, &map, &answered))
        return answered;
    uint32_t at = shard_named(r, map);
    json_t *j = NULL;
    if (at != UINT32_MAX && cluster_shards(r->a->deps.cluster, at, 1, &st) == 0)
        j = shard_json(r->a, map, at, &st);
    cmap_unref(map);
    return j ? admin_reply_json(r, MHD_HTTP_OK, j) : no_shard(r);
}

enum MHD_Result admin_shard_move(struct admin_request *r)
{
    const struct cmap *map;
    enum MHD_Result answered;
    char why[CLUSTER_WHY_MAX];
    const char *to = admin_arg(r, "to");
    if (!to)
        return admin_reply_error(r, MHD_HTTP_BAD_REQUEST, "to: not given", "name the node that should own the shard");
    if (!in_cluster(r, &map, &answered))
        return answered;
    uint32_t at = shard_named(r, map);
    cmap_unref(map);
    if (at == UINT32_MAX)
        return no_shard(r);
    int res = cluster_shard_move(r->a->deps.cluster, at, to, why);
    return change_reply(r, res, why, json_pack("{ss ss}", "shard", r->name, "next", to));
}

/* ---- /v1/cluster/settings */

static json_t *settings_json(const struct cmap *map)
{
    json_t *pools = json_array();
    for (uint32_t i = 0; i < map->pools_n; i++) {
        const struct map_pool *p = &map->pools[i];
        json_array_append_new(pools,
                              json_pack("{ss sI sI sI ss}", "name", p->name, "copies", (json_int_t)p->copies, "acks",
                                        (json_int_t)p->acks, "shards", (json_int_t)p->shards, "fallback", p->fallback));
    }
    return json_pack("{so sI sI}", "pools", pools, "repair_delay_s", (json_int_t)map->repair_delay_s, "version",
                     (json_int_t)map->version);
}

enum MHD_Result admin_settings_get(struct admin_request *r)
{
    const struct cmap *map;
    enum MHD_Result answered;
    if (!in_cluster(r, &map, &answered))
        return answered;
    json_t *j = settings_json(map);
    cmap_unref(map);
    return admin_reply_json(r, MHD_HTTP_OK, j);
}

/* One number of the query, 0 where it is not given; false: it is answered. */
static bool setting(struct admin_request *r, const char *name, uint64_t most, uint32_t *v_r,
                    enum MHD_Result *answered_r)
{
    uint64_t v;
    bool ok = admin_arg_number(r, name, 0, most, &v, answered_r);
    *v_r = (uint32_t)v;
    return ok;
}

enum MHD_Result admin_settings_put(struct admin_request *r)
{
    const struct cmap *map;
    enum MHD_Result answered;
    char why[CLUSTER_WHY_MAX] = "";
    uint32_t copies, acks, shards, delay;
    const char *pool = admin_arg(r, "pool"), *fallback = admin_arg(r, "fallback");
    if (!setting(r, "copies", POOL_COPIES_MAX, &copies, &answered) ||
        !setting(r, "acks", POOL_COPIES_MAX, &acks, &answered) ||
        !setting(r, "shards", SHARDS_MAX, &shards, &answered) ||
        !setting(r, "repair_delay_s", 86400, &delay, &answered) || !in_cluster(r, &map, &answered))
        return answered;
    cmap_unref(map);
    int res = 0;
    if (pool || copies || acks || shards || fallback)
        res = cluster_pool_set(r->a->deps.cluster, pool, copies, acks, shards, fallback, why);
    if (res == 0 && delay)
        res = cluster_repair_delay(r->a->deps.cluster, delay, why);
    return change_reply(r, res, why, json_pack("{sb}", "done", true));
}
