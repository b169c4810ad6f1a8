/* copier.c - what the intake doors hand over, on its way to the copies core. */
#include "cluster/cluster_impl.h"

static struct cluster *cluster_of(struct copier *copier)
{
    return (struct cluster *)((char *)copier - offsetof(struct cluster, copier));
}

static int copier_admit(struct copier *copier, uint64_t size_hint)
{
    struct cluster *c = cluster_of(copier);
    (void)size_hint;
    pthread_mutex_lock(&c->map_lock);
    bool ready = c->map != NULL;
    pthread_mutex_unlock(&c->map_lock);
    return ready ? 0 : -SATCHEL_EAGAIN;
}

static void copier_post(struct copier *copier, struct copy_request *r)
{
    mailbox_post(&cluster_of(copier)->requests, &r->mail);
}

static void copier_ring(struct copier *copier)
{
    bell_ring(&cluster_of(copier)->requests.bell);
}

/* bytes used */
static size_t add_others(const struct cluster *c, const struct storage_id *ids, size_t n, uint8_t *out, size_t cap)
{
    size_t used = 0;
    for (size_t i = 0; i < n && used + sizeof ids->b <= cap; i++) {
        if (storage_id_eq(&ids[i], &c->self))
            continue;
        memcpy(out + used, ids[i].b, sizeof ids->b);
        used += sizeof ids->b;
    }
    return used;
}

static size_t copier_holders(struct copier *copier, struct slice domain, uint8_t *uuids_r, size_t cap)
{
    struct cluster *c = cluster_of(copier);
    const struct cmap *map = cluster_map(c);
    uint32_t at = map ? cluster_shard_of(c, map, domain) : UINT32_MAX;
    size_t used = 0;
    if (at != UINT32_MAX) {
        const struct map_shard *s = &map->shards[at];
        used = add_others(c, s->members, s->members_n, uuids_r, cap);
        used += add_others(c, s->former, s->former_n, uuids_r + used, cap - used);
    }
    cmap_unref(map);
    return used;
}

static const struct copier_ops copier_ops = {copier_admit, copier_post, copier_ring, copier_holders};

void copier_init(struct cluster *c)
{
    c->copier.ops = &copier_ops;
}

void copier_take(struct cluster *c)
{
    for (struct mail *m = mailbox_take(&c->requests), *next; m; m = next) {
        next = m->next;
        node_request(c->node, (struct copy_request *)((char *)m - offsetof(struct copy_request, mail)));
    }
}
