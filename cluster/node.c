/* node.c - the cores of one node joined: who hears of what. */
#include "cluster/node.h"

#include "spool/base/err.h"
#include "spool/base/log.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    SKEW_MAX_US = 60 * 1000000,   /* peers' clocks further off than this: nothing expires */
    SKEW_PERIOD_US = 5 * 1000000, /* how often that is looked at */
    SKEWS_MAX = 64,               /* peers asked */
    LEAVE_LEASELESS_US = 2 * 1000000,
};

struct node {
    struct node_config cfg;
    struct node_env env;
    struct peers *peers;
    struct member *member;
    struct mapper *mapper;
    struct leader *leader;
    struct copies *copies;
    struct owner *owner;
    struct adopt *adopt;    /* NULL: none */
    const struct cmap *map; /* the cores borrow it */
    uint64_t skew_at_us;
    bool doubt;
    void (*left)(void *arg);
    void *left_arg;
};

void node_config_init(struct node_config *cfg)
{
    *cfg = (struct node_config){
        .member = {.ttl_s = 10, .margin_us = 1000000},
        .mapper = {.relist_us = 5 * 1000000},
        .leader = {.period_us = 1000000, .changes = 64},
        .copies = copies_config_default,
        .owner = owner_config_default,
    };
    adopt_config_init(&cfg->adopt);
    struct map_pool *pool = &cfg->member.pool_default;
    *pool = (struct map_pool){.copies = 3, .acks = 2, .shards = 64};
    memcpy(pool->name, POOL_SHARED, sizeof POOL_SHARED);
}

/* ---- the map, to everybody */

/* Not who has our name with another storage, either: that is the disk that we had before, and its address is ours. */
static size_t peer_list(const struct node *n, const struct cmap *map, struct peer_addr *addrs_r)
{
    size_t count = 0;
    for (uint32_t i = 0; i < map->nodes_n; i++) {
        const struct map_node *m = &map->nodes[i];
        if (storage_id_eq(&m->storage, &n->cfg.member.self.storage) || strcmp(m->name, n->cfg.member.self.name) == 0)
            continue;
        struct peer_addr *a = &addrs_r[count++];
        a->storage = m->storage;
        memcpy(a->name, m->name, sizeof a->name);
        memcpy(a->address, m->address, sizeof a->address);
    }
    return count;
}

static void map_peers(struct node *n, const struct cmap *map)
{
    struct peer_addr *addrs = calloc(map->nodes_n + 1, sizeof *addrs);
    n->peers->ops->join(n->peers, &map->cluster);
    if (addrs)
        n->peers->ops->want(n->peers, addrs, peer_list(n, map, addrs));
    free(addrs);
}

static void node_map_set(struct node *n, const struct cmap *now)
{
    const struct cmap *before = n->map;
    n->map = cmap_ref(now);
    map_peers(n, now);
    member_map(n->member, now);
    copies_map(n->copies, now);
    if (n->adopt)
        adopt_map(n->adopt, now);
    owner_map(n->owner, now); /* closes what is not ours any more, before others count by the new map */
    leader_map(n->leader, now);
    if (n->env.mapped)
        n->env.mapped(n->env.arg, now);
    cmap_unref(before);
}

static void on_map(void *arg, const struct cmap *now, const struct cmap *before)
{
    (void)before;
    node_map_set(arg, now);
}

/* ---- member */

static void on_deadline(void *arg, uint64_t boot_us)
{
    struct node *n = arg;
    gate_deadline(n->env.gate, boot_us);
}

static void on_lease(void *arg, int64_t lease)
{
    struct node *n = arg;
    leader_lease(n->leader, lease);
    owner_lease(n->owner, lease != 0);
    mapper_refresh(n->mapper);
}

static void on_refused(void *arg, const char *why)
{
    struct node *n = arg;
    if (n->env.refused)
        n->env.refused(n->env.arg, why);
}

/* ---- copies and owner */

static uint32_t on_shard_of(void *arg, const struct cmap *map, struct slice domain)
{
    struct node *n = arg;
    struct slice pool = n->env.pool_of ? n->env.pool_of(n->env.arg, domain) : slice_of(NULL, 0);
    return cmap_shard_of(map, pool, domain);
}

static void on_emptied(void *arg, uint32_t shard)
{
    owner_emptied(((struct node *)arg)->owner, shard);
}

static void on_synced(void *arg, uint32_t shard)
{
    owner_synced(((struct node *)arg)->owner, shard);
}

static void on_report(void *arg, uint32_t shard, uint64_t epoch, uint32_t members_hash, uint32_t synced)
{
    leader_report(((struct node *)arg)->leader, shard, epoch, members_hash, synced);
}

static void on_changed(void *arg)
{
    mapper_refresh(((struct node *)arg)->mapper);
}

static void on_adopted(void *arg)
{
    owner_again(((struct node *)arg)->owner);
}

static bool on_may(void *arg, uint32_t shard)
{
    struct node *n = arg;
    return !n->adopt || adopt_may(n->adopt, shard);
}

/* ---- peers */

static void on_up(void *arg, const struct peer_info *peer)
{
    struct node *n = arg;
    log_info("cluster.peer", "name=%s up=1 rtt_us=%llu", peer->hello.name, (unsigned long long)peer->rtt_us);
    copies_up(n->copies, &peer->hello.storage);
}

static void on_down(void *arg, const struct storage_id *peer)
{
    struct node *n = arg;
    const struct map_node *m = n->map ? cmap_storage(n->map, peer) : NULL;
    log_warning("cluster.peer", "name=%s up=0", m ? m->name : "-");
    copies_down(n->copies, peer);
}

static void on_frame(void *arg, const struct storage_id *from, uint16_t type, uint16_t version, struct slice payload)
{
    struct node *n = arg;
    switch (type) {
    case FRAME_HANDED:
    case FRAME_REPORT:
        owner_frame(n->owner, from, type, payload);
        break;
    case FRAME_NOTICE:
    case FRAME_BLOB_PUT:
    case FRAME_BLOB_ACK:
    case FRAME_BLOB_WANT:
    case FRAME_ASK:
    case FRAME_ANSWER:
        if (n->env.frame)
            n->env.frame(n->env.arg, from, type, payload);
        break;
    default:
        copies_frame(n->copies, from, type, version, payload);
        break;
    }
}

static void on_room(void *arg, const struct storage_id *peer)
{
    copies_room(((struct node *)arg)->copies, peer);
}

struct peers_app node_peers_app(struct node *n)
{
    return (struct peers_app){.up = on_up, .down = on_down, .frame = on_frame, .room = on_room, .arg = n};
}

/* ---- clocks */

static int by_skew(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* The wall clock is in doubt when most peers disagree with it: half of them or more are further off than the limit. */
static bool clock_in_doubt(const struct node *n)
{
    int64_t skews[SKEWS_MAX];
    size_t count = 0;
    for (uint32_t i = 0; n->map && i < n->map->nodes_n && count < SKEWS_MAX; i++) {
        struct peer_info info;
        if (n->peers->ops->info(n->peers, &n->map->nodes[i].storage, &info) && info.up)
            skews[count++] = info.skew_us;
    }
    if (count == 0)
        return false;
    qsort(skews, count, sizeof skews[0], by_skew);
    int64_t median = skews[count / 2];
    return median > SKEW_MAX_US || median < -SKEW_MAX_US;
}

static void node_look_at_clocks(struct node *n, uint64_t now)
{
    if (now < n->skew_at_us)
        return;
    n->skew_at_us = now + SKEW_PERIOD_US;
    bool doubt = clock_in_doubt(n);
    if (doubt && !n->doubt)
        log_error("cluster.clock", "in_doubt=1 action=\"nothing expires\" remedy=\"set this machine's clock (NTP)\"");
    else if (!doubt && n->doubt)
        log_info("cluster.clock", "in_doubt=0");
    n->doubt = doubt;
    gate_clock_doubt(n->env.gate, doubt);
}

/* ---- life */

static int open_cores(struct node *n)
{
    const struct node_env *e = &n->env;
    struct member_app app = {on_deadline, on_lease, on_refused, n};
    if (n->cfg.cached && !n->cfg.member.in_memory)
        n->cfg.mapper.cluster = n->cfg.cached->cluster;
    int rc = member_open(&n->member, &n->cfg.member, &app, e->coord, e->rng, e->clock);
    if (rc == 0)
        rc = mapper_open(&n->mapper, &n->cfg.mapper, e->coord, e->clock, on_map, n);
    if (rc == 0)
        rc = leader_open(&n->leader, &n->cfg.leader, e->coord, e->clock);
    if (rc == 0)
        leader_on_change(n->leader, on_changed, n);
    return rc;
}

int node_open(struct node **n_r, const struct node_config *cfg, const struct node_env *env)
{
    struct node *n = calloc(1, sizeof *n);
    if (!n)
        return -SATCHEL_ENOMEM;
    n->cfg = *cfg;
    n->env = *env;
    n->cfg.leader.node = n->cfg.member.self.name;
    n->cfg.leader.self = n->cfg.copies.self = n->cfg.owner.self = n->cfg.member.self.storage;
    memcpy(n->cfg.owner.node, n->cfg.member.self.name, sizeof n->cfg.owner.node);
    n->map = cfg->cached ? cmap_ref(cfg->cached) : NULL;
    int rc = open_cores(n);
    if (rc < 0)
        node_close(&n);
    *n_r = n;
    return rc;
}

static int open_adopt(struct node *n)
{
    const struct node_env *e = &n->env;
    struct adopt_env adopt = {
        .clock = e->clock, .storage = e->storage, .shard_of = on_shard_of, .ready = on_adopted, .arg = n};
    if (!n->cfg.adopt.dir)
        return 0;
    n->cfg.adopt.self = n->cfg.member.self.storage;
    n->cfg.adopt.mount = n->cfg.member.self.shared;
    return adopt_open(&n->adopt, &n->cfg.adopt, &adopt);
}

int node_attach(struct node *n, struct peers *peers)
{
    const struct node_env *e = &n->env;
    n->peers = peers;
    struct copies_env copies = {.clock = e->clock,
                                .rng = e->rng,
                                .storage = e->storage,
                                .peers = peers,
                                .shard_of = on_shard_of,
                                .emptied = on_emptied,
                                .synced = on_synced,
                                .arg = n};
    int rc = copies_open(&n->copies, &n->cfg.copies, &copies);
    if (rc < 0)
        return rc;
    struct owner_env owner = {.clock = e->clock,
                              .coord = e->coord,
                              .peers = peers,
                              .copies = n->copies,
                              .storage = e->storage,
                              .gate = e->gate,
                              .report = on_report,
                              .changed = on_changed,
                              .may = on_may,
                              .arg = n};
    rc = owner_open(&n->owner, &n->cfg.owner, &owner);
    rc = rc ? rc : open_adopt(n);
    if (rc == 0 && n->map) {
        const struct cmap *cached = n->map;
        n->map = NULL;
        node_map_set(n, cached);
        cmap_unref(cached);
    }
    return rc;
}

void node_close(struct node **np)
{
    struct node *n = *np;
    if (!n)
        return;
    adopt_close(&n->adopt);
    owner_close(&n->owner);
    copies_close(&n->copies);
    leader_close(&n->leader);
    mapper_close(&n->mapper);
    member_close(&n->member);
    cmap_unref(n->map);
    free(n);
    *np = NULL;
}

void node_request(struct node *n, struct copy_request *r)
{
    copies_request(n->copies, r);
}

void node_tick(struct node *n)
{
    member_tick(n->member);
    mapper_tick(n->mapper);
    copies_tick(n->copies);
    if (n->adopt)
        adopt_tick(n->adopt);
    owner_tick(n->owner);
    leader_tick(n->leader);
    node_look_at_clocks(n, clock_boot_us(n->env.clock));
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t node_next_us(const struct node *n)
{
    uint64_t next = least(member_next_us(n->member), mapper_next_us(n->mapper));
    next = least(next, least(leader_next_us(n->leader), copies_next_us(n->copies)));
    next = least(next, n->adopt ? adopt_next_us(n->adopt) : UINT64_MAX);
    return least(n->skew_at_us, least(next, owner_next_us(n->owner)));
}

int node_fd(const struct node *n)
{
    return n->adopt ? adopt_fd(n->adopt) : -1;
}

bool node_sleep(struct node *n)
{
    return !n->adopt || adopt_sleep(n->adopt);
}

static void on_handed_over(void *arg)
{
    struct node *n = arg;
    member_leave(n->member, n->left, n->left_arg);
}

/* Once the lease is over shards are no more ours to hand over, and coordination that is away may stay so. */
static uint64_t leave_wait_us(const struct node *n, uint64_t wait_us)
{
    struct member_info info;
    member_info(n->member, &info);
    bool over = info.deadline_us <= clock_boot_us(n->env.clock);
    return over && wait_us > LEAVE_LEASELESS_US ? LEAVE_LEASELESS_US : wait_us;
}

void node_leave(struct node *n, uint64_t wait_us, void (*done)(void *arg), void *arg)
{
    n->left = done;
    n->left_arg = arg;
    owner_leave(n->owner, leave_wait_us(n, wait_us), on_handed_over, n);
}

const struct cmap *node_map(const struct node *n)
{
    return n->map;
}

void node_refresh(struct node *n)
{
    mapper_refresh(n->mapper);
}

enum owner_state node_shard(const struct node *n, uint32_t shard)
{
    return owner_shard(n->owner, shard);
}

uint32_t node_synced(struct node *n, uint32_t shard)
{
    return copies_synced(n->copies, shard);
}

void node_holds(struct node *n, uint32_t shard, uint64_t *messages_r, uint64_t *bytes_r)
{
    copies_holds(n->copies, shard, messages_r, bytes_r);
}

void node_info(struct node *n, struct node_info *info_r)
{
    *info_r = (struct node_info){.map_rev = n->map ? n->map->rev : 0};
    member_info(n->member, &info_r->member);
    leader_info(n->leader, &info_r->leader);
    owner_info(n->owner, &info_r->owner);
    copies_info(n->copies, &info_r->copies);
    if (n->adopt)
        adopt_info(n->adopt, &info_r->adopt);
    n->env.coord->ops->info(n->env.coord, &info_r->coord);
    n->env.storage->ops->stat(n->env.storage, &info_r->storage);
    snprintf(info_r->map_refused, sizeof info_r->map_refused, "%s", mapper_refused(n->mapper));
}
