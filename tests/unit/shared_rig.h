/* shared_rig.h - nodes of a test that share a directory: each a spool with its log below it, and a map that says who is
 * alive. */
#pragma once
#include "cluster/shared/adopt.h"
#include "cluster/shared/mount.h"
#include "spool/base/err.h"
#include "spool/base/wire.h"
#include "spool/spool.h"
#include "spool/storage.h"
#include "tests/unit/map_rig.h"
#include "tests/unit/meta_rig.h"
#include "tests/unit/scratch.h"

#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define DOMAIN "a.test"
enum { NODES = 3, WAIT_TURNS = 4000 };

struct snode {
    char name[2], data[300], log[PATH_MAX];
    struct spool *s;
    struct storage *st;
    struct storage_id id;
};

static char dir[SCRATCH_MAX];
static struct storage_id mount_is;
static struct snode nodes[NODES];

/* Runs a command of the shell; what cannot be done is a failure. */
__attribute__((format(printf, 1, 2))) static inline void sh(const char *fmt, ...)
{
    static char cmd[4 * PATH_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(cmd, sizeof cmd, fmt, ap);
    va_end(ap);
    assert_int_equal(system(cmd), 0);
}

static inline int snode_try(struct snode *n, char why[MOUNT_WHY_MAX])
{
    struct spool_config cfg;
    char shared[300];
    snprintf(shared, sizeof shared, "%s/shared", dir);
    int rc = mount_open(shared, n->name, n->data, &mount_is, n->log, why);
    spool_config_init(&cfg, n->data);
    cfg.log_dir = n->log;
    cfg.log.segment_bytes = 1 << 20;
    cfg.log.spare_segments = 0;
    cfg.log.reserve_segments = 1;
    cfg.chunk_bytes = 16 << 10;
    return rc ? rc : spool_open(&n->s, &cfg, why, MOUNT_WHY_MAX);
}

static inline void snode_open(int i)
{
    struct snode *n = &nodes[i];
    char why[MOUNT_WHY_MAX] = "";
    n->name[0] = (char)('a' + i);
    snprintf(n->data, sizeof n->data, "%s/%c", dir, 'a' + i);
    if (snode_try(n, why) < 0)
        fail_msg("%s", why);
    assert_int_equal(spool_storage(n->s, &n->st), 0);
    spool_storage_id(n->s, &n->id);
}

static inline void snode_close(int i)
{
    if (!nodes[i].s)
        return;
    if (nodes[i].st)
        nodes[i].st->ops->close(&nodes[i].st);
    spool_close(&nodes[i].s);
}

static inline void snode_turn(int i)
{
    struct storage *st = nodes[i].st;
    st->ops->poll(st);
    if (st->ops->sleep(st)) {
        struct pollfd p = {st->fd, POLLIN, 0};
        poll(&p, 1, 2);
    }
    st->ops->poll(st);
}

/* ---- requests that are waited for */

static inline void put_done(struct storage_put *p, int res)
{
    *(int *)p->arg = res;
}

static inline void merge_done(struct storage_merge *m, int res)
{
    *(int *)m->arg = res;
}

static inline struct msgid id_of(uint64_t n)
{
    return (struct msgid){.incarnation = "front-end", .counter = n};
}

static inline void put_wait(int i, const struct record *rec)
{
    int res = 1;
    struct storage_put p = {.rec = *rec, .done = put_done, .arg = &res};
    nodes[i].st->ops->put(nodes[i].st, &p);
    for (int k = 0; res == 1 && k < WAIT_TURNS; k++)
        snode_turn(i);
    assert_int_equal(res, 0);
}

/* A message with two recipients, accepted at 1000 + n. */
static inline void put_msg(int i, uint64_t n, uint32_t chunks)
{
    uint8_t meta[1024], body[3000];
    struct wire_wr w = wire_wr(meta, sizeof meta);
    memset(body, 'a' + (int)(n % 26), sizeof body);
    meta_put(&w, RT_DOMAIN, slice_str(DOMAIN));
    meta_put(&w, RT_SENDER, SLICE_LIT("s@example.net"));
    meta_put(&w, RT_RCPT, SLICE_LIT("u@a.test"));
    meta_put(&w, RT_RCPT, SLICE_LIT("v@a.test"));
    rig_put_chunks(&w, chunks, (uint64_t)chunks * 10);
    struct slice b = slice_of(body, chunks ? 0 : sizeof body);
    struct record rec = {.type = REC_MSG,
                         .flags = chunks ? REC_F_CHUNKED : 0,
                         .id = id_of(n),
                         .arrival_us = 1000 + n,
                         .copyset = slice_of(&nodes[i].id, 16),
                         .meta = slice_of(meta, wire_len(&w)),
                         .body = b,
                         .body_sum = record_body_sum(b)};
    for (uint32_t k = 0; k < chunks; k++) {
        struct slice part = SLICE_LIT("0123456789");
        struct record chunk = {.type = REC_CHUNK, .id = id_of(n), .body = part, .body_sum = record_body_sum(part)};
        uint8_t tag[16];
        struct wire_wr t = wire_wr(tag, sizeof tag);
        meta_put(&t, RT_CHUNK_INDEX, slice_of(&k, sizeof k));
        chunk.meta = slice_of(tag, wire_len(&t));
        put_wait(i, &chunk);
    }
    put_wait(i, &rec);
}

/* ends: one letter an item, L live, D delivered. */
static inline void end_msg(int i, uint64_t n, const char *ends, uint32_t seq)
{
    int res = -SATCHEL_EBUSY;
    struct storage_merge m = {.done = merge_done, .arg = &res};
    m.st = (struct storage_state){.id = id_of(n),
                                  .arrival_us = 1000 + n,
                                  .domain = slice_str(DOMAIN),
                                  .state = {.items = 2, .live = 2, .seq = seq}};
    for (uint32_t k = 0; k < 2; k++)
        state_finish(&m.st.state, k, ends[k] == 'D' ? ITEM_DELIVERED : ITEM_LIVE);
    for (int t = 0; t < WAIT_TURNS && res == -SATCHEL_EBUSY; t++) {
        res = 1;
        nodes[i].st->ops->merge(nodes[i].st, &m);
        for (int k = 0; res == 1 && k < WAIT_TURNS; k++)
            snode_turn(i);
    }
    assert_int_equal(res, 0);
}

static inline bool is_live(int i, uint64_t n, struct queue_entry *e_r)
{
    char domain[256];
    struct msgid id = id_of(n);
    return nodes[i].st->ops->find(nodes[i].st, &id, e_r, domain) == 0;
}

static inline bool has_tomb(int i, uint64_t n, struct storage_state *st_r)
{
    struct msgid id = id_of(n);
    return nodes[i].st->ops->tomb(nodes[i].st, &id, st_r) == 0;
}

struct listing {
    uint64_t ids[4096];
    size_t n;
};

static inline bool list_each(void *arg, const struct queue_entry *e)
{
    struct listing *l = arg;
    l->ids[l->n++] = e->id.counter;
    return l->n < 4096;
}

/* In the order in which they would be delivered. */
static inline void list_live(int i, struct listing *l_r)
{
    l_r->n = 0;
    nodes[i].st->ops->list(nodes[i].st, slice_str(DOMAIN), (struct slice){0}, list_each, l_r, NULL, NULL);
}

/* ---- the map: one pool, one shard, owned by `owner` */

static inline const struct cmap *map_of(int owner, const char *live, const char *members, const char *former)
{
    static int64_t rev;
    static struct map_node n[NODES];
    struct map_pool pool = {.name = "shared", .copies = 1, .acks = 1, .shards = 1};
    struct map_shard shard = {.owner = nodes[owner].id, .epoch = 1, .mod_rev = 1};
    struct cmap draft = {.rev = ++rev, .nodes = n, .pools = &pool, .shards = &shard, .pools_n = 1, .shards_n = 1};
    for (int i = 0; i < NODES; i++) {
        if (storage_id_zero(&nodes[i].id))
            continue;
        n[draft.nodes_n] = rig_node((uint32_t)i, "", "shared");
        n[draft.nodes_n].storage = nodes[i].id;
        n[draft.nodes_n].shared = mount_is;
        n[draft.nodes_n].live = strchr(live, 'a' + i) != NULL;
        snprintf(n[draft.nodes_n++].name, NODE_NAME_MAX, "%c", 'a' + i);
    }
    for (; *members; members++)
        shard.members[shard.members_n++] = nodes[*members - 'a'].id;
    for (; *former; former++)
        shard.former[shard.former_n++] = nodes[*former - 'a'].id;
    return cmap_copy(&draft);
}
