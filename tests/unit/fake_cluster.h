/* fake_cluster.h - a few nodes in one thread under virtual time: storages in memory, a network that delays, loses and
 * resets, and the real cluster/copies on top.
 *
 * A message is a number: its ID's counter.  Its arrival grows with it, so a bag in order is the numbers in order. */
#pragma once
#include "cluster/copies/copies.h"
#include "cluster/copies/copies_wire.h"
#include "spool/base/err.h"
#include "spool/base/log.h"
#include "tests/unit/meta_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* after the ones above */
#include <cmocka.h>

enum { FNODES_MAX = 5, MSGS_MAX = 120000, DOMAINS = 6, SHARDS = 3, LINK_US = 200, DISK_US = 300 };
#define ARRIVAL_BASE 1700000000000000ull

struct fmsg {
    uint8_t what; /* 0: not here, 1: live, 2: final */
    uint8_t domain, items, live, ends, owed, chunks;
    bool damaged, claimed;
    uint32_t seq;
};

struct fop {
    struct fop *next;
    uint64_t due_us;
    struct storage_put *put;
    struct storage_merge *merge;
    uint64_t tap; /* number of a message */
    struct msgid dsn;
};

struct fnode {
    struct storage st;
    struct peers peers;
    struct storage_id id;
    struct copies *copies;
    struct fmsg *msgs;
    uint32_t top; /* no number above it is here */
    struct fop *ops, **ops_tail;
    void (*tap)(void *arg, const struct storage_state *st);
    void *tap_arg;
    bool full, full_chunks, dead, silent; /* silent: its disk does not answer */
    bool holds;                           /* what is being merged is not handed out */
    uint64_t observed_us, puts, forgets;
    uint32_t emptied[SHARDS], synced_calls;
    uint8_t buf[2][70000];
};

struct fframe {
    struct fframe *next;
    uint64_t due_us;
    struct fbuf *f;
    uint32_t from, to, epoch;
};

struct fnet {
    uint64_t now_us, bytes, frames[256];
    uint32_t n;
    struct rng rng;
    struct fnode nodes[FNODES_MAX];
    bool up[FNODES_MAX][FNODES_MAX];
    uint32_t epoch[FNODES_MAX][FNODES_MAX];
    struct fframe *queue[FNODES_MAX][FNODES_MAX];
    uint32_t loss;                                           /* one frame in so many takes its link down */
    bool (*drop)(uint32_t from, uint32_t to, uint16_t type); /* swallows a frame */
    struct cmap map;
    struct map_node map_nodes[FNODES_MAX];
    struct map_pool pool;
    struct map_shard shards[SHARDS];
};

static struct fnet net;

static uint64_t fclock_boot(void *ctx)
{
    (void)ctx;
    return net.now_us;
}

static uint64_t fclock_wall(void *ctx)
{
    (void)ctx;
    return ARRIVAL_BASE + net.now_us;
}

static const struct clock fclock = {fclock_boot, fclock_wall, NULL};

static struct msgid fid(uint64_t n)
{
    return (struct msgid){.incarnation = "incarnation-one", .counter = n};
}

static char fdomain_text[DOMAINS][16];
static struct slice fdomain(uint32_t d)
{
    sprintf(fdomain_text[d], "d%u.example", d);
    return slice_str(fdomain_text[d]);
}

static int fdomain_of(struct slice name)
{
    int d = name.n > 1 && name.p[0] == 'd' ? name.p[1] - '0' : -1;
    return d >= 0 && d < DOMAINS ? d : -1;
}

static uint32_t fshard_of(void *arg, const struct cmap *map, struct slice domain)
{
    (void)arg;
    int d = fdomain_of(domain);
    return d < 0 ? UINT32_MAX : (uint32_t)d % map->shards_n;
}

static uint64_t farrival(uint64_t n)
{
    return ARRIVAL_BASE + n;
}

static struct msg_state fstate(const struct fmsg *m)
{
    struct msg_state s = {.seq = m->seq, .items = m->items, .live = m->live};
    s.ends[0] = m->ends;
    return s;
}

#include "tests/unit/fake_storage.h"

/* ---- peers */

static uint32_t fpeer_index(const struct peers *p)
{
    for (uint32_t k = 0; k < net.n; k++)
        if (&net.nodes[k].peers == p)
            return k;
    abort();
}

static void flink(uint32_t a, uint32_t b, bool up);

static int fp_send(struct peers *p, const struct storage_id *to, struct fbuf *f)
{
    uint32_t from = fpeer_index(p), dst = fnode_index(to);
    struct wire_rd r = wire_rd(slice_of(f->data, f->n));
    wire_u32(&r);
    uint16_t type = wire_u16(&r);
    if (dst >= net.n || !net.up[from][dst])
        return -SATCHEL_ENOENT;
    net.bytes += f->n;
    net.frames[type & 255]++;
    if (net.drop && net.drop(from, dst, type))
        return 0;
    struct fframe *x = calloc(1, sizeof *x), **at = &net.queue[from][dst];
    *x = (struct fframe){.due_us = net.now_us + LINK_US, .f = fbuf_ref(f), .from = from, .to = dst};
    x->epoch = net.epoch[from][dst];
    while (*at)
        at = &(*at)->next;
    *at = x;
    return 0;
}

static const struct peers_ops fp_ops = {.send = fp_send};

static void fframes_drop(uint32_t a, uint32_t b)
{
    while (net.queue[a][b]) {
        struct fframe *x = net.queue[a][b];
        net.queue[a][b] = x->next;
        fbuf_unref(x->f);
        free(x);
    }
}

static void flink(uint32_t a, uint32_t b, bool up)
{
    if (net.up[a][b] == up || net.nodes[a].dead || net.nodes[b].dead)
        return;
    net.up[a][b] = net.up[b][a] = up;
    fframes_drop(a, b);
    fframes_drop(b, a);
    if (up) {
        copies_up(net.nodes[a].copies, &net.nodes[b].id);
        copies_up(net.nodes[b].copies, &net.nodes[a].id);
    } else {
        copies_down(net.nodes[a].copies, &net.nodes[b].id);
        copies_down(net.nodes[b].copies, &net.nodes[a].id);
    }
}

static void fisolate(uint32_t a, bool cut)
{
    for (uint32_t b = 0; b < net.n; b++)
        if (b != a)
            flink(a, b, !cut);
}

/* ---- time */

static bool fframe_deliver(uint32_t a, uint32_t b)
{
    struct fframe *x = net.queue[a][b];
    if (!x || x->due_us > net.now_us)
        return false;
    if (net.loss && rng_below(&net.rng, net.loss) == 0) {
        flink(a, b, false);
        return true;
    }
    net.queue[a][b] = x->next;
    struct wire_rd r = wire_rd(slice_of(x->f->data, x->f->n));
    wire_u32(&r);
    uint16_t type = wire_u16(&r), version = wire_u16(&r);
    /* A copy of its own, so that reading past the payload is seen. */
    size_t n = wire_left(&r);
    uint8_t *bytes = malloc(n ? n : 1);
    memcpy(bytes, r.p, n);
    copies_frame(net.nodes[b].copies, &net.nodes[a].id, type, version, slice_of(bytes, n));
    free(bytes);
    fbuf_unref(x->f);
    free(x);
    return true;
}

static uint64_t fnext(void)
{
    uint64_t next = UINT64_MAX;
    for (uint32_t a = 0; a < net.n; a++) {
        if (net.nodes[a].ops && net.nodes[a].ops->due_us < next)
            next = net.nodes[a].ops->due_us;
        if (copies_next_us(net.nodes[a].copies) < next)
            next = copies_next_us(net.nodes[a].copies);
        for (uint32_t b = 0; b < net.n; b++)
            if (net.queue[a][b] && net.queue[a][b]->due_us < next)
                next = net.queue[a][b]->due_us;
    }
    return next;
}

static void fturn(void)
{
    for (uint32_t a = 0; a < net.n; a++) {
        for (uint32_t b = 0; b < net.n; b++)
            while (fframe_deliver(a, b))
                ;
        fs_poll(&net.nodes[a].st);
        if (copies_next_us(net.nodes[a].copies) <= net.now_us)
            copies_tick(net.nodes[a].copies);
    }
}

/* Lets so much time pass, or until the condition holds; returns whether it does. */
static bool frun(uint64_t us, bool (*until)(void))
{
    uint64_t end = net.now_us + us, turns = 0;
    while (!until || !until()) {
        uint64_t next = fnext();
        if (next > end) {
            net.now_us = end;
            return until && until();
        }
        turns = next <= net.now_us ? turns + 1 : 0;
        if (turns > 10000)
            fail_msg("time stands still");
        net.now_us = next > net.now_us ? next : net.now_us;
        fturn();
    }
    return true;
}

/* ---- the cluster */

static void fmembers(uint32_t shard, const char *members, const char *former)
{
    struct map_shard *s = &net.shards[shard];
    s->members_n = s->former_n = 0;
    for (; *members; members++)
        s->members[s->members_n++] = net.nodes[*members - '0'].id;
    for (; *former; former++)
        s->former[s->former_n++] = net.nodes[*former - '0'].id;
    s->owner = s->members_n ? s->members[0] : (struct storage_id){{0}};
    s->mod_rev++;
}

/* A map that was changed is told as a new one. */
static struct cmap fmaps[2];
static struct map_shard fmap_shards[2][SHARDS];
static uint32_t fmap_turn;

static void fmap_tell(void)
{
    fmap_turn ^= 1;
    struct cmap *m = &fmaps[fmap_turn];
    net.map.rev++;
    *m = net.map;
    memcpy(fmap_shards[fmap_turn], net.shards, sizeof net.shards);
    m->shards = fmap_shards[fmap_turn];
    for (uint32_t i = 0; i < net.n; i++)
        copies_map(net.nodes[i].copies, m);
}

static void fon_emptied(void *arg, uint32_t shard)
{
    ((struct fnode *)arg)->emptied[shard]++;
}

static void fon_synced(void *arg, uint32_t shard)
{
    (void)shard;
    ((struct fnode *)arg)->synced_calls++;
}

static void fnode_open(uint32_t i, const struct copies_config *cfg)
{
    struct fnode *f = &net.nodes[i];
    f->st.ops = &fs_ops;
    f->peers.ops = &fp_ops;
    f->ops_tail = &f->ops;
    f->msgs = calloc(MSGS_MAX, sizeof *f->msgs);
    struct copies_config c = *cfg;
    c.self = f->id;
    struct copies_env env = {.clock = &fclock,
                             .rng = &net.rng,
                             .storage = &f->st,
                             .peers = &f->peers,
                             .shard_of = fshard_of,
                             .emptied = fon_emptied,
                             .synced = fon_synced,
                             .arg = f};
    assert_int_equal(copies_open(&f->copies, &c, &env), 0);
}

/* n nodes, all of them linked; shard s: members n of them, owner node s mod n. */
static void fstart(uint32_t n, uint32_t copies, uint32_t acks, uint64_t seed, const struct copies_config *cfg)
{
    memset(&net, 0, sizeof net);
    log_level_now = LOG_LEVEL_ERROR;
    net.n = n;
    net.now_us = 1000000;
    rng_seed(&net.rng, seed);
    net.pool = (struct map_pool){.name = POOL_SHARED, .copies = copies, .acks = acks, .shards = SHARDS};
    net.map = (struct cmap){.rev = 1, .nodes = net.map_nodes, .pools = &net.pool, .nodes_n = n, .pools_n = 1};
    net.map.shards_n = SHARDS;
    for (uint32_t i = 0; i < n; i++) {
        memset(net.nodes[i].id.b, 'a' + (int)i, 16);
        struct map_node *m = &net.map_nodes[i];
        *m = (struct map_node){.storage = net.nodes[i].id, .pool = POOL_SHARED, .weight = 100, .live = true};
        snprintf(m->name, sizeof m->name, "n%u", i);
    }
    for (uint32_t s = 0; s < SHARDS; s++) {
        net.shards[s].number = s;
        net.shards[s].epoch = 1;
        for (uint32_t k = 0; k < copies && k < n; k++)
            net.shards[s].members[net.shards[s].members_n++] = net.nodes[(s + k) % n].id;
        net.shards[s].owner = net.shards[s].members[0];
    }
    for (uint32_t i = 0; i < n; i++)
        fnode_open(i, cfg);
    fmap_tell();
    for (uint32_t a = 0; a < n; a++)
        for (uint32_t b = a + 1; b < n; b++)
            flink(a, b, true);
}

static void fstop(void)
{
    for (uint32_t i = 0; i < net.n; i++)
        copies_close(&net.nodes[i].copies);
    for (uint32_t i = 0; i < net.n; i++) {
        struct fnode *f = &net.nodes[i];
        for (uint32_t b = 0; b < net.n; b++)
            fframes_drop(i, b);
        for (struct fop *o = f->ops; o; o = o->next)
            o->due_us = 0;
        fs_poll(&f->st);
        free(f->msgs);
    }
}
