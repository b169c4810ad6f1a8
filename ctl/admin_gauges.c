/* admin_gauges.c - what is measured when somebody looks: the spool's gauges, and this node's part in the cluster. */
#include "ctl/admin_impl.h"

static void cluster_counters(const struct owner_info *o)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* both listeners may look at once */
    pthread_mutex_lock(&lock);
    uint64_t adopted = metric_read(M_CLUSTER_ADOPTIONS), handed = metric_read(M_CLUSTER_HAND_OVERS);
    metric_add(M_CLUSTER_ADOPTIONS, o->adopted > adopted ? o->adopted - adopted : 0);
    metric_add(M_CLUSTER_HAND_OVERS, o->handed > handed ? o->handed - handed : 0);
    pthread_mutex_unlock(&lock);
}

static double lease_left_s(const struct cluster_status *st)
{
    const struct member_info *m = &st->node.member;
    return m->leased && m->deadline_us > st->now_us ? (double)(m->deadline_us - st->now_us) / 1e6 : 0;
}

static void cluster_gauges(const struct cluster_status *st)
{
    const struct node_info *n = &st->node;
    metric_set(M_CLUSTER_LEASE_SECONDS, (uint64_t)lease_left_s(st));
    metric_set(M_CLUSTER_LEADER, n->leader.leading);
    metric_set(M_CLUSTER_OWNED, n->owner.owned);
    metric_set(M_CLUSTER_MERGING, n->owner.merging);
    metric_set(M_CLUSTER_HANDING, n->owner.handing);
    metric_set(M_CLUSTER_OWNERLESS, n->leader.leading ? n->leader.shards_ownerless : 0);
    metric_set(M_CLUSTER_UNDER_REPLICATED, n->copies.under_replicated);
    metric_set(M_CLUSTER_UNOWNED, n->copies.unowned);
    metric_set(M_CLUSTER_UNACCOUNTED, n->copies.unaccounted);
    metric_set(M_CLUSTER_MAP_REVISION, (uint64_t)n->map_rev);
    cluster_counters(&n->owner);
}

static json_t *part_json(struct admin *a, const struct cluster_status *st)
{
    const struct node_info *n = &st->node;
    const struct cmap *map = cluster_map(a->deps.cluster);
    json_t *leader = admin_leader_json(map, n);
    cmap_unref(map);
    return json_pack("{ss so sb sI sI sI sb sf sb ss ss}", "node", cluster_node_name(a->deps.cluster), "leader", leader,
                     "leading", n->leader.leading, "owned", (json_int_t)n->owner.owned, "adopting",
                     (json_int_t)n->owner.merging, "handing_over", (json_int_t)n->owner.handing, "leased",
                     n->member.leased, "lease_s", lease_left_s(st), "coordination_reachable", n->coord.reachable,
                     "coordination_refused", n->map_refused, "refused", n->member.refused);
}

json_t *admin_gauges(struct admin *a)
{
    struct cluster_status st;
    spool_gauges(a->deps.spool);
    if (!a->deps.cluster || cluster_status(a->deps.cluster, &st) < 0)
        return json_null();
    cluster_gauges(&st);
    return part_json(a, &st);
}
