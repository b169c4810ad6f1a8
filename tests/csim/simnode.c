/* simnode.c - a process of the simulated world: made of cores, a gate, a relay and a front-end; killed, stopped,
 * started again. */
#include "tests/csim/simnode.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "spool/base/err.h"
#include "tests/csim/checks.h"
#include "tests/csim/front.h"
#include "tests/csim/relay.h"

#define WALL_START_US 1700000000000000u
#define LEAVE_US      (20 * SECOND_US)
#define STRANGE_TYPE  900 /* a frame type of a later version */
#define PROTO_NEWER   2

struct simnode {
    struct world *w;
    uint32_t index, store, life, lives;
    enum simnode_state state;
    uint64_t since_us; /* it is in that state */
    char name[NODE_NAME_MAX];
    struct clock clock;
    int64_t wall_off_us;
    struct actor *actor;
    struct rng rng;
    bool leaving, left, resumed;
    char refused[256];
    const struct cmap *cached; /* the file that the map is kept in */
    /* of the process */
    struct coord *coord;
    struct peers *peers;
    struct gate *gate;
    struct outlet *outlet;
    struct node *node;
    struct relay relay;
    struct front front;
};

/* ---- clocks */

static uint64_t boot_us(void *ctx)
{
    return ((struct simnode *)ctx)->w->now_us;
}

uint64_t simnode_wall_us(const struct simnode *n)
{
    return (uint64_t)((int64_t)(WALL_START_US + n->w->now_us) + n->wall_off_us);
}

static uint64_t wall_us(void *ctx)
{
    return simnode_wall_us(ctx);
}

void simnode_set_clock(struct simnode *n, int64_t off_us)
{
    trace("%s: the clock is set %+lld us off", n->name, (long long)off_us);
    n->wall_off_us = off_us;
}

/* ---- what the cores ask of the node */

static struct depot *depot_of(const struct simnode *n)
{
    return n->w->stores[n->store].depot;
}

static struct slice on_pool_of(void *arg, struct slice domain)
{
    return world_pool_of(((struct simnode *)arg)->w, domain);
}

static uint32_t shard_of(struct simnode *n, struct slice domain)
{
    const struct cmap *m = n->node ? node_map(n->node) : NULL;
    return m ? cmap_shard_of(m, world_pool_of(n->w, domain), domain) : UINT32_MAX;
}

static uint32_t on_shard_of(void *arg, struct slice domain)
{
    return shard_of(arg, domain);
}

/* As the daemon keeps it in a file. */
static void on_mapped(void *arg, const struct cmap *map)
{
    struct simnode *n = arg;
    cmap_unref(n->cached);
    n->cached = cmap_ref(map);
}

static void on_refused(void *arg, const char *why)
{
    struct simnode *n = arg;
    snprintf(n->refused, sizeof n->refused, "%s", why);
    trace("%s is refused: %s", n->name, why);
}

/* As cluster/copier.c: members and former members of the domain's shard. */
static size_t on_holders(void *arg, struct slice domain, uint8_t *uuids_r, size_t cap)
{
    struct simnode *n = arg;
    uint32_t i = shard_of(n, domain);
    size_t at = 0;
    if (i == UINT32_MAX)
        return 0;
    const struct map_shard *s = &node_map(n->node)->shards[i];
    for (uint32_t k = 0; k < s->members_n && at + 16 <= cap; k++, at += 16)
        memcpy(uuids_r + at, s->members[k].b, 16);
    for (uint32_t k = 0; k < s->former_n && at + 16 <= cap; k++, at += 16)
        memcpy(uuids_r + at, s->former[k].b, 16);
    return at;
}

/* ---- a life */

static void configure(struct simnode *n, struct node_config *cfg)
{
    const struct plan *p = &n->w->plan;
    struct map_node *self = &cfg->member.self;
    node_config_init(cfg);
    memcpy(self->name, n->name, sizeof self->name);
    self->storage = *simnode_storage(n);
    snprintf(self->address, sizeof self->address, "%s:7400", n->name);
    snprintf(self->pool, sizeof self->pool, "%s", n->index + p->dedicated >= p->nodes ? "dedicated" : POOL_SHARED);
    self->weight = 100;
    self->proto = p->newer && n->index == 0 ? PROTO_NEWER : PROTO_VERSION;
    if (p->prepared)
        cfg->member.cluster = n->w->cluster;
    cfg->member.ttl_s = p->ttl_s;
    cfg->member.pool_default.shards = p->shards;
    cfg->member.pool_default.copies = p->copies;
    cfg->member.pool_default.acks = p->acks;
    cfg->cached = n->cached;
}

static struct peer_hello hello_of(struct simnode *n)
{
    struct peer_hello h = {.storage = *simnode_storage(n),
                           .proto = n->w->plan.newer && n->index == 0 ? PROTO_NEWER : PROTO_VERSION,
                           .proto_min = PROTO_VERSION_MIN,
                           .boot = rng_u64(&n->rng)};
    memcpy(h.name, n->name, sizeof h.name);
    return h;
}

static void open_cores(struct simnode *n)
{
    struct node_config cfg;
    struct node_env env = {.clock = &n->clock,
                           .rng = &n->rng,
                           .coord = n->coord,
                           .storage = depot_of(n)->storage,
                           .gate = n->gate,
                           .pool_of = on_pool_of,
                           .mapped = on_mapped,
                           .refused = on_refused,
                           .arg = n};
    struct peer_hello hello = hello_of(n);
    configure(n, &cfg);
    int res = node_open(&n->node, &cfg, &env);
    assert(res == 0);
    struct peers_app app = node_peers_app(n->node);
    n->peers = simnet_port(n->w->net, n->index, &hello, &app);
    res = node_attach(n->node, n->peers);
    assert(res == 0);
}

void simnode_start(struct simnode *n)
{
    struct depot_env env = {.clock = &n->clock, .holders = on_holders, .arg = n};
    if (n->state != SIMNODE_OFF)
        return;
    trace("---- %s starts with s%u", n->name, n->store);
    n->state = SIMNODE_RUNNING;
    n->since_us = n->w->now_us;
    n->lives++;
    n->leaving = n->left = n->resumed = false;
    n->refused[0] = 0;
    n->life = letters_life(&n->w->letters);
    simnet_mute(n->w->net, n->index, false);
    int res = depot_of(n)->ops->boot(depot_of(n), &env);
    assert(res == 0);
    n->coord = simcoord_view(n->w->coord, n->index);
    res = gate_open(&n->gate, &n->clock, on_shard_of, n);
    assert(res == 0);
    res = gate_outlet(n->gate, depot_of(n)->outlet, &n->outlet);
    assert(res == 0);
    open_cores(n);
    relay_open(&n->relay, n->w, n->index, n->outlet, &n->clock);
    front_open(&n->front, n->w, n->index);
    simnode_wake(n, n->w->now_us + between(&n->rng, 100, 100000));
}

/* The order of a crash: what is durable is settled first; then the memory is given back, and nothing that the cores say
 * meanwhile leaves the process. */
static void close_process(struct simnode *n, bool power)
{
    struct coord *coord = n->coord; /* the cores may still ask it, and are refused */
    n->front.over = true;
    depot_of(n)->ops->crash(depot_of(n), power);
    relay_drop(&n->relay);
    n->coord->ops->close(&coord);
    node_close(&n->node);
    depot_of(n)->ops->crash(depot_of(n), power);
    front_drop(&n->front);
    n->outlet->ops->close(&n->outlet);
    gate_close(&n->gate);
    n->peers->ops->close(&n->peers);
    n->coord = NULL;
    depot_of(n)->storage = NULL;
    depot_of(n)->outlet = NULL;
    n->state = SIMNODE_OFF;
    n->since_us = n->w->now_us;
}

void simnode_crash(struct simnode *n, bool power)
{
    if (n->state == SIMNODE_OFF)
        return;
    trace("---- %s %s", n->name, power ? "loses its power" : "is killed");
    simnet_died(n->w->net, n->index, power);
    if (power)
        simnet_mute(n->w->net, n->index, true);
    close_process(n, power);
}

void simnode_pause(struct simnode *n, bool pause)
{
    if (n->state == SIMNODE_OFF || pause == (n->state == SIMNODE_PAUSED))
        return;
    trace("---- %s %s", n->name, pause ? "is stopped" : "goes on");
    n->state = pause ? SIMNODE_PAUSED : SIMNODE_RUNNING;
    n->since_us = n->w->now_us;
    n->resumed = !pause;
    simnet_mute(n->w->net, n->index, pause);
    simnode_wake(n, n->w->now_us);
}

static void on_left(void *arg)
{
    struct simnode *n = arg;
    n->left = true;
}

void simnode_leave(struct simnode *n)
{
    if (n->state != SIMNODE_RUNNING || n->leaving)
        return;
    trace("---- %s leaves in order", n->name);
    n->leaving = true;
    node_leave(n->node, LEAVE_US, on_left, n);
    simnode_wake(n, n->w->now_us);
}

void simnode_new_disk(struct simnode *n)
{
    struct world *w = n->w;
    assert(n->state == SIMNODE_OFF && w->stores_n < LETTER_STORES_MAX);
    struct world_store *s = &w->stores[w->stores_n];
    *s = (struct world_store){.node = n->index};
    for (int i = 0; i < 16; i++)
        s->id.b[i] = (uint8_t)rng_u64(&w->rng);
    s->depot = w->plan.house ? depot_house_open(w, w->stores_n, &s->id) : depot_model_open(w, w->stores_n, &s->id);
    s->disk_us = between(&w->rng, 0, w->plan.disk_us);
    s->depot->ops->slow(s->depot, s->disk_us);
    n->store = w->stores_n++;
    cmap_unref(n->cached);
    n->cached = NULL;
}

/* ---- turns */

/* A node of a later version says things that nobody here understands. */
static void speak_strangely(struct simnode *n)
{
    uint32_t other = (uint32_t)rng_below(&n->rng, n->w->plan.nodes);
    struct fbuf *f = fbuf_new(STRANGE_TYPE, 1, 16);
    assert(f);
    struct wire_wr w = fbuf_writer(f);
    wire_put_u64(&w, rng_u64(&n->rng));
    fbuf_end(f, &w);
    if (other != n->index)
        n->peers->ops->send(n->peers, simnode_storage(n->w->nodes[other]), f);
    fbuf_unref(f);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t next_turn(struct simnode *n)
{
    uint64_t next = least(node_next_us(n->node), relay_next_us(&n->relay));
    next = least(next, n->coord->ops->next_us(n->coord));
    next = least(next, n->peers->ops->next_us(n->peers));
    next = least(next, depot_of(n)->ops->next_us(depot_of(n)));
    uint64_t soonest = n->w->now_us + between(&n->rng, 20, 200);
    return next < soonest ? soonest : next;
}

static void leave_over(struct simnode *n)
{
    if (front_busy(&n->front) || simnode_claims(n) > 0)
        return;
    trace("---- %s is off, in order", n->name);
    simnet_died(n->w->net, n->index, false);
    close_process(n, false);
}

static void node_run(void *arg)
{
    struct simnode *n = arg;
    if (n->state != SIMNODE_RUNNING)
        return;
    n->w->turns++;
    history.who = n->name;
    if (n->resumed && chance(&n->rng, 50)) /* the relay's thread may be the first to run again */
        relay_turn(&n->relay);
    n->resumed = false;
    n->coord->ops->poll(n->coord);
    n->peers->ops->poll(n->peers);
    struct storage *s = depot_of(n)->storage;
    s->ops->poll(s);
    front_turn(&n->front, n->node);
    node_tick(n->node);
    relay_turn(&n->relay);
    if (n->w->plan.newer && n->index == 0 && chance(&n->rng, 1))
        speak_strangely(n);
    if (n->left)
        leave_over(n);
    if (n->state == SIMNODE_RUNNING)
        actor_wake(n->actor, next_turn(n));
    history.who = "";
}

void simnode_wake(struct simnode *n, uint64_t at_us)
{
    actor_wake(n->actor, at_us > n->w->now_us ? at_us : n->w->now_us);
}

/* ---- mail */

struct letter *simnode_letter(struct simnode *n, uint32_t domain)
{
    struct letter *l = letters_new(&n->w->letters, n->life);
    if (!l)
        return NULL;
    uint64_t wall = simnode_wall_us(n), *last = &depot_of(n)->arrival_us;
    *last = wall > *last ? wall : *last + 1;
    l->arrival_us = *last;
    l->domain = domain;
    l->sent_us = n->w->now_us;
    return l;
}

bool simnode_submit(struct simnode *n, struct letter *l, simnode_said *said, void *arg)
{
    if (n->state == SIMNODE_OFF || !node_map(n->node))
        return false;
    front_submit(&n->front, l, said, arg);
    simnode_wake(n, n->w->now_us);
    return true;
}

/* ---- looking */

enum simnode_state simnode_state(const struct simnode *n)
{
    return n->state;
}

uint64_t simnode_since_us(const struct simnode *n)
{
    return n->since_us;
}

bool simnode_leaving(const struct simnode *n)
{
    return n->leaving;
}

const char *simnode_name(const struct simnode *n)
{
    return n->name;
}

const struct storage_id *simnode_storage(const struct simnode *n)
{
    return &n->w->stores[n->store].id;
}

uint32_t simnode_store(const struct simnode *n)
{
    return n->store;
}

uint32_t simnode_lives(const struct simnode *n)
{
    return n->lives;
}

const char *simnode_refused(const struct simnode *n)
{
    return n->refused;
}

void simnode_info(struct simnode *n, struct node_info *info_r)
{
    node_info(n->node, info_r);
}

bool simnode_may(struct simnode *n, uint32_t domain)
{
    uint32_t shard = n->node ? shard_of(n, world_domain(n->w, domain)) : UINT32_MAX;
    return shard != UINT32_MAX && gate_may(n->gate, shard);
}

uint32_t simnode_claims(const struct simnode *n)
{
    uint32_t claims = 0;
    for (uint32_t d = 0; d < WORLD_DOMAINS; d++)
        claims += n->relay.lanes[d].msg != NULL;
    return claims;
}

struct simnode *simnode_new(struct world *w, uint32_t index)
{
    struct simnode *n = calloc(1, sizeof *n);
    assert(n);
    n->w = w;
    n->index = index;
    snprintf(n->name, sizeof n->name, "n%u", index);
    n->clock = (struct clock){boot_us, wall_us, n};
    rng_seed(&n->rng, rng_u64(&w->rng));
    n->actor = world_actor(w, node_run, n);
    simnode_new_disk(n);
    return n;
}

void simnode_free(struct simnode **np)
{
    struct simnode *n = *np;
    if (n->state != SIMNODE_OFF)
        close_process(n, false);
    cmap_unref(n->cached);
    free(n);
    *np = NULL;
}
