/* cluster.c - the thread around a node's cores: etcd, links, the spool's third door and the doors' requests in one
 * loop.
 *
 * A turn polls everything that has work, lets the cores act, writes what they queued, rings the doors whose mail was
 * settled, and sleeps until something is readable or the cores want to be called. */
#include "cluster/cluster_impl.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { LEAVE_POLL_US = 100000, LEAVE_MORE_US = 10 * 1000000 };

/* ---- the map, for other threads */

const struct cmap *cluster_map(struct cluster *c)
{
    pthread_mutex_lock(&c->map_lock);
    const struct cmap *map = c->map ? cmap_ref(c->map) : NULL;
    pthread_mutex_unlock(&c->map_lock);
    return map;
}

const char *cluster_node_name(const struct cluster *c)
{
    return c->cfg.node;
}

/* The pool's name is copied, since the snapshot it lies in is given back. */
static struct slice pool_of(struct cluster *c, struct slice domain, char pool_r[DOMAIN_POOL_MAX])
{
    const struct domains_snapshot *snap = domains_get(c->domains);
    const struct domain *dom = domains_find(snap, domain);
    memcpy(pool_r, dom ? dom->pool : "", dom ? DOMAIN_POOL_MAX : 1);
    domains_put(snap);
    return slice_str(pool_r);
}

uint32_t cluster_shard_of(struct cluster *c, const struct cmap *map, struct slice domain)
{
    char pool[DOMAIN_POOL_MAX];
    return cmap_shard_of(map, pool_of(c, domain, pool), domain);
}

static uint32_t domain_shard(void *arg, struct slice domain)
{
    struct cluster *c = arg;
    const struct cmap *map = cluster_map(c);
    uint32_t shard = map ? cluster_shard_of(c, map, domain) : UINT32_MAX;
    cmap_unref(map);
    return shard;
}

bool cluster_owns(struct cluster *c, struct slice domain)
{
    return gate_may(c->gate, domain_shard(c, domain));
}

/* ---- what the cores tell */

static struct slice on_pool_of(void *arg, struct slice domain)
{
    static _Thread_local char pool[DOMAIN_POOL_MAX];
    return pool_of(arg, domain, pool);
}

static void on_mapped(void *arg, const struct cmap *map)
{
    struct cluster *c = arg;
    pthread_mutex_lock(&c->map_lock);
    const struct cmap *old = c->map;
    c->map = cmap_ref(map);
    pthread_mutex_unlock(&c->map_lock);
    cmap_unref(old);
    changes_tick(c, true);
}

static void on_refused(void *arg, const char *why)
{
    (void)arg;
    if (why[0])
        log_error("cluster.refused", "reason=\"%s\"", why);
}

static void on_frame(void *arg, const struct storage_id *from, uint16_t type, struct slice payload)
{
    struct cluster *c = arg;
    if (type == FRAME_NOTICE)
        directory_refresh(c->directory);
    else if (type == FRAME_BLOB_PUT || type == FRAME_BLOB_ACK || type == FRAME_BLOB_WANT)
        blobs_frame(c, from, type, payload);
    else
        asks_frame(c, from, type, payload);
}

/* Others look at the domains at once instead of at their next turn. */
static void on_domains_changed(void *arg)
{
    struct cluster *c = arg;
    const struct cmap *map = node_map(c->node);
    struct fbuf *f = fbuf_new(FRAME_NOTICE, FRAME_NOTICE_VERSION, 0);
    struct wire_wr w = f ? fbuf_writer(f) : (struct wire_wr){0};
    if (f && fbuf_end(f, &w) == 0)
        for (uint32_t i = 0; map && i < map->nodes_n; i++)
            c->peers->ops->send(c->peers, &map->nodes[i].storage, f);
    fbuf_unref(f);
}

/* ---- time */

static uint64_t turn_boot_us(void *ctx)
{
    return atomic_load_explicit(&((struct cluster *)ctx)->turn_us, memory_order_relaxed);
}

static uint64_t turn_wall_us(void *ctx)
{
    return clock_wall_us(((struct cluster *)ctx)->clock);
}

static void time_goes_on(struct cluster *c)
{
    atomic_store_explicit(&c->turn_us, clock_boot_us(c->clock), memory_order_relaxed);
}

/* ---- opening */

static char *read_secret(const char *path)
{
    char line[256] = "";
    FILE *f = path && *path ? fopen(path, "re") : NULL;
    if (f && !fgets(line, sizeof line, f))
        line[0] = 0;
    if (f)
        fclose(f);
    line[strcspn(line, "\r\n")] = 0;
    return *line ? strdup(line) : NULL;
}

static const char *or_null(const char *s)
{
    return s && *s ? s : NULL;
}

static int open_coord(struct cluster *c, char *why_r)
{
    const struct cluster_config *cfg = &c->cfg;
    if (!cfg->etcd || !cfg->etcd[0])
        return coord_standalone_open(&c->coord, c->clock);
    char prefix[160];
    snprintf(prefix, sizeof prefix, "/satchel/%s/", cfg->name);
    char *password = read_secret(cfg->etcd_password_file);
    struct coord_etcd_config etcd = {.endpoints = cfg->etcd,
                                     .prefix = prefix,
                                     .ca = or_null(cfg->etcd_ca),
                                     .cert = or_null(cfg->etcd_cert),
                                     .key = or_null(cfg->etcd_key),
                                     .user = or_null(cfg->etcd_user),
                                     .password = password,
                                     .timeout_ms = 3000,
                                     .keepalive_ms = cfg->lease_s * 1000 / 3};
    int rc = coord_etcd_open(&c->coord, &etcd, c->clock, why_r);
    free(password);
    return rc;
}

static uint64_t draw_u64(void)
{
    uint64_t v;
    rng_bytes(&v, sizeof v);
    return v ? v : 1;
}

static void put_name(char *out, size_t cap, const char *name)
{
    snprintf(out, cap, "%s", name ? name : "");
}

static void self_node(const struct cluster *c, struct map_node *self)
{
    const struct cluster_config *cfg = &c->cfg;
    *self = (struct map_node){
        .storage = c->self, .weight = cfg->weight, .boot = draw_u64(), .proto = PROTO_VERSION, .state = NODE_ACTIVE};
    put_name(self->name, sizeof self->name, cfg->node);
    put_name(self->address, sizeof self->address, cfg->address);
    put_name(self->zone, sizeof self->zone, cfg->zone);
    self->shared = or_null(cfg->shared_dir) ? cfg->mount : (struct storage_id){{0}};
    put_name(self->pool, sizeof self->pool, cfg->pool && *cfg->pool ? cfg->pool : POOL_SHARED);
}

static int open_node(struct cluster *c, const struct cmap *cached, struct node_config *node)
{
    node_config_init(node);
    self_node(c, &node->member.self);
    node->member.ttl_s = c->cfg.lease_s;
    node->member.in_memory = !c->cfg.etcd || !c->cfg.etcd[0];
    node->member.cluster = cached ? cached->cluster : (struct storage_id){{0}};
    node->member.pool_default.copies = c->cfg.copies;
    node->member.pool_default.acks = c->cfg.acks;
    node->member.pool_default.shards = c->cfg.shards;
    put_name(node->member.pool_default.name, sizeof node->member.pool_default.name, node->member.self.pool);
    node->mapper.cache_path = c->cache_path;
    node->cached = cached;
    node->adopt.dir = or_null(c->cfg.shared_dir);
    struct node_env env = {.clock = &c->turn,
                           .rng = &c->rng,
                           .coord = c->coord,
                           .storage = c->storage,
                           .gate = c->gate,
                           .pool_of = on_pool_of,
                           .mapped = on_mapped,
                           .refused = on_refused,
                           .frame = on_frame,
                           .arg = c};
    return node_open(&c->node, node, &env);
}

static int open_links(struct cluster *c, const struct cmap *cached, const struct map_node *self, char *why_r)
{
    struct peers_app app = node_peers_app(c->node);
    struct peers_tls_config cfg = {.listen = c->cfg.listen,
                                   .ca = c->cfg.ca,
                                   .cert = c->cfg.cert,
                                   .key = c->cfg.key,
                                   .hello = {.cluster = cached ? cached->cluster : (struct storage_id){{0}},
                                             .storage = c->self,
                                             .proto = PROTO_VERSION,
                                             .proto_min = PROTO_VERSION_MIN,
                                             .boot = self->boot},
                                   .buffer_bytes = 32u << 20,
                                   .ping_us = 1000000,
                                   .silence_us = 4000000};
    put_name(cfg.hello.name, sizeof cfg.hello.name, c->cfg.node);
    int rc = peers_tls_open(&c->peers, &cfg, &app, c->clock, why_r);
    return rc ? rc : node_attach(c->node, c->peers);
}

static int watch_fd(struct cluster *c, int fd)
{
    struct epoll_event ev = {.events = EPOLLIN};
    return epoll_ctl(c->epoll, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

static int open_loop(struct cluster *c)
{
    c->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (c->epoll < 0)
        return -errno;
    int rc = watch_fd(c, c->requests.bell.fd);
    rc = rc ? rc : watch_fd(c, c->coord->fd);
    rc = rc ? rc : watch_fd(c, c->peers->fd);
    rc = rc || node_fd(c->node) < 0 ? rc : watch_fd(c, node_fd(c->node));
    return rc ? rc : watch_fd(c, c->storage->fd);
}

static int open_cached(struct cluster *c, const struct cmap **cached_r, char *why_r)
{
    if (asprintf(&c->cache_path, "%s/cluster.map", c->cfg.data_dir) < 0)
        return -SATCHEL_ENOMEM;
    int rc = cmap_load(c->cache_path, cached_r, why_r);
    c->import = rc == -SATCHEL_ENOENT;
    return rc == -SATCHEL_ENOENT ? 0 : rc;
}

/* As of the mapper: an empty coordination is not ours where we remember a cluster. */
static bool coord_is_ours(void *arg, int64_t rev, const struct coord_kv *kvs, size_t n)
{
    struct cluster *c = arg;
    const struct cmap *meta = NULL;
    char why[256];
    if (cmap_decode(kvs, n, rev, &meta, why) < 0)
        return false;
    struct storage_id found = meta->cluster;
    cmap_unref(meta);
    if (storage_id_zero(&c->known))
        c->known = found;
    return storage_id_eq(&c->known, &found);
}

static int open_parts(struct cluster *c, char *why_r)
{
    const struct cmap *cached = NULL;
    struct node_config node;
    struct directory_config directory = {
        .relist_us = 10 * 1000000, .keep_s = KEEP_PRESET_S, .ours = coord_is_ours, .ours_arg = c};
    int rc = open_cached(c, &cached, why_r);
    if (cached && c->cfg.etcd && c->cfg.etcd[0])
        c->known = cached->cluster;
    rc = rc ? rc : open_coord(c, why_r);
    rc = rc ? rc : spool_storage(c->spool, &c->storage);
    rc = rc ? rc : gate_open(&c->gate, c->clock, domain_shard, c);
    rc = rc ? rc : open_node(c, cached, &node);
    rc = rc ? rc : open_links(c, cached, &node.member.self, why_r);
    rc = rc ? rc : directory_open(&c->directory, &directory, c->coord, c->domains, c->clock, on_domains_changed, c);
    rc = rc ? rc : asks_open(c);
    rc = rc ? rc : blobs_open(c);
    cmap_unref(cached);
    return rc ? rc : open_loop(c);
}

int cluster_open(struct cluster **c_r, const struct cluster_config *cfg, struct spool *spool, struct domains *domains,
                 const struct clock *clock, char *why_r)
{
    struct spool_info info;
    struct cluster *c = calloc(1, sizeof *c);
    if (!c)
        return -SATCHEL_ENOMEM;
    *why_r = 0;
    spool_info(spool, &info);
    memcpy(c->self.b, info.log.storage_uuid, sizeof c->self.b);
    c->cfg = *cfg;
    c->spool = spool;
    c->domains = domains;
    c->clock = clock;
    c->turn = (struct clock){turn_boot_us, turn_wall_us, c};
    time_goes_on(c);
    c->epoll = -1;
    rng_seed(&c->rng, draw_u64());
    pthread_mutex_init(&c->map_lock, NULL);
    copier_init(c);
    int rc = mailbox_init(&c->requests);
    rc = rc ? rc : mailbox_init(&c->calls);
    rc = rc ? rc : open_parts(c, why_r);
    if (rc < 0) {
        if (!*why_r)
            snprintf(why_r, CLUSTER_WHY_MAX, "%s", satchel_strerror(rc));
        cluster_close(&c);
        return rc;
    }
    spool_set_copier(spool, &c->copier);
    *c_r = c;
    return 0;
}

int cluster_outlet(struct cluster *c, struct outlet *inner, struct outlet **o_r)
{
    return gate_outlet(c->gate, inner, o_r);
}

/* ---- the thread */

static uint64_t cluster_next_us(struct cluster *c)
{
    uint64_t next = node_next_us(c->node), more[] = {c->coord->ops->next_us(c->coord), c->peers->ops->next_us(c->peers),
                                                     directory_next_us(c->directory), blobs_next_us(c)};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        next = more[i] < next ? more[i] : next;
    return next;
}

static void cluster_sleep(struct cluster *c)
{
    struct epoll_event events[8];
    uint64_t now = clock_boot_us(c->clock), next = cluster_next_us(c), wait = next > now ? next - now : 0;
    wait = wait > LEAVE_POLL_US ? LEAVE_POLL_US : wait;
    bell_arm(&c->requests.bell);
    bool idle = mailbox_empty(&c->requests) && mailbox_empty(&c->calls);
    if (!c->storage->ops->sleep(c->storage) || !node_sleep(c->node) || !idle)
        wait = 0;
    struct timespec ts = {(time_t)(wait / 1000000), (long)(wait % 1000000 * 1000)};
    epoll_pwait2(c->epoll, events, 8, &ts, NULL);
    bell_disarm(&c->requests.bell);
}

static void cluster_turn(struct cluster *c)
{
    time_goes_on(c);
    c->coord->ops->poll(c->coord);
    time_goes_on(c);
    c->peers->ops->poll(c->peers);
    time_goes_on(c);
    c->storage->ops->poll(c->storage);
    copier_take(c);
    calls_take(c);
    time_goes_on(c);
    node_tick(c->node);
    directory_tick(c->directory);
    changes_tick(c, false);
    asks_tick(c);
    blobs_tick(c);
    if (c->import && node_map(c->node)) {
        c->import = false;
        directory_import(c->directory);
    }
    spool_doors_ring(c->spool);
    time_goes_on(c);
    c->peers->ops->poll(c->peers);
}

static void *cluster_main(void *arg)
{
    struct cluster *c = arg;
    while (!atomic_load(&c->stopping)) {
        cluster_turn(c);
        cluster_sleep(c);
    }
    return NULL;
}

int cluster_start(struct cluster *c, char *why_r)
{
    int rc = -pthread_create(&c->thread, NULL, cluster_main, c);
    if (rc < 0) {
        snprintf(why_r, CLUSTER_WHY_MAX, "cannot start a thread: %s", satchel_strerror(rc));
        return rc;
    }
    c->running = true;
    pthread_setname_np(c->thread, "cluster");
    return 0;
}

/* ---- the orderly stop */

struct leave {
    struct call call;
    uint64_t wait_us;
};

static void leave_done(void *arg)
{
    call_end(arg, 0, NULL);
}

static void leave_run(struct cluster *c, struct call *call)
{
    node_leave(c->node, ((struct leave *)call)->wait_us, leave_done, call);
}

void cluster_leave(struct cluster *c, uint64_t wait_us)
{
    struct leave *l = c->running && !c->left ? call_new(sizeof *l, leave_run) : NULL;
    if (!l)
        return;
    c->left = true;
    l->wait_us = wait_us;
    if (call_wait(c, &l->call, wait_us + LEAVE_MORE_US) < 0)
        log_warning("cluster.leave", "done=0 action=\"peers take over when the lease ends\"");
    call_unref(&l->call);
}

void cluster_close(struct cluster **cp)
{
    struct cluster *c = *cp;
    if (!c)
        return;
    atomic_store(&c->stopping, true);
    if (c->running) {
        bell_ring(&c->requests.bell);
        pthread_join(c->thread, NULL);
    }
    changes_close(c);
    if (c->coord)
        c->coord->ops->close(&c->coord);
    directory_close(&c->directory);
    asks_close(c);
    blobs_close(c);
    node_close(&c->node);
    if (c->peers)
        c->peers->ops->close(&c->peers);
    if (c->storage)
        c->storage->ops->close(&c->storage);
    gate_close(&c->gate);
    cmap_unref(c->map);
    if (c->epoll >= 0)
        close(c->epoll);
    mailbox_destroy(&c->requests);
    mailbox_destroy(&c->calls);
    pthread_mutex_destroy(&c->map_lock);
    free(c->cache_path);
    free(c);
    *cp = NULL;
}
