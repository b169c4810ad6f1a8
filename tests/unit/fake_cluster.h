/* fake_cluster.h - a few nodes in one thread under virtual time: storages in memory, a network that delays, loses and
 * resets, and the real cluster/copies on top.
 *
 * A message is a number: its ID's counter.  Its arrival grows with it, so a bag in order is the numbers in order. */
#pragma once
#include "cluster/copies/copies.h"
#include "cluster/copies/copies_wire.h"
#include "spool/base/err.h"
#include "spool/base/log.h"

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
    bool full, dead, silent; /* silent: its disk does not answer */
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

/* ---- storage */

static struct fnode *fnode_of(struct storage *s)
{
    return (struct fnode *)s;
}

static struct fmsg *fmsg_of(struct fnode *f, const struct msgid *id)
{
    return id->counter && id->counter < MSGS_MAX ? &f->msgs[id->counter] : &f->msgs[0];
}

static struct fop *fop_add(struct fnode *f)
{
    struct fop *o = calloc(1, sizeof *o);
    o->due_us = f->silent ? UINT64_MAX : net.now_us + DISK_US;
    *f->ops_tail = o;
    f->ops_tail = &o->next;
    return o;
}

static void fs_put(struct storage *s, struct storage_put *p)
{
    fop_add(fnode_of(s))->put = p;
}

static void fs_merge(struct storage *s, struct storage_merge *m)
{
    fop_add(fnode_of(s))->merge = m;
}

static void fput(struct fnode *f, uint64_t n, uint32_t d, uint8_t items)
{
    f->msgs[n] = (struct fmsg){.what = 1, .domain = (uint8_t)d, .items = items, .live = items};
    f->top = f->top > n ? f->top : (uint32_t)n;
}

static int fput_apply(struct fnode *f, const struct storage_put *p)
{
    const struct record *r = &p->rec;
    struct fmsg *m = fmsg_of(f, &r->id);
    f->puts++;
    if (r->type == REC_ABORT) {
        if (m->what == 1)
            m->what = 0;
        m->chunks = 0;
        return 0;
    }
    if (f->full)
        return -SATCHEL_EFULL;
    if (m->what == 2)
        return -SATCHEL_EEXIST;
    if (r->type == REC_CHUNK) {
        m->chunks++;
        return 0;
    }
    if (p->flags & PUT_REPAIR)
        m->damaged = false;
    if (m->what == 1)
        return 0;
    uint8_t chunks = m->chunks;
    fput(f, r->id.counter, (uint32_t)fdomain_of(meta_find(r->meta, RT_DOMAIN)), (uint8_t)meta_rcpts(r->meta));
    struct msg_state st;
    if (meta_find(r->meta, RT_STATE).p && state_decode(meta_find(r->meta, RT_STATE), &st) == 0) {
        m->live = (uint8_t)st.live;
        m->ends = st.ends[0];
        m->seq = st.seq;
    }
    m->chunks = chunks;
    return 0;
}

static uint8_t fowed_mask(struct slice owed, const struct fnode *self)
{
    uint8_t mask = 0;
    for (size_t i = 0; i + 16 <= owed.n; i += 16)
        for (uint32_t k = 0; k < net.n; k++)
            if (memcmp(owed.p + i, net.nodes[k].id.b, 16) == 0 && &net.nodes[k] != self)
                mask |= (uint8_t)(1 << k);
    return mask;
}

static int fmerge_apply(struct fnode *f, const struct storage_state *st)
{
    struct fmsg *m = fmsg_of(f, &st->id);
    if (m->claimed)
        return -SATCHEL_EBUSY;
    if (m->what == 0 && st->state.live)
        return -SATCHEL_ENOENT;
    if (m->what == 0)
        fput(f, st->id.counter, (uint32_t)fdomain_of(st->domain), (uint8_t)st->state.items);
    if (m->what == 2)
        return 0;
    struct msg_state mine = fstate(m);
    for (uint32_t i = 0; i < mine.items; i++)
        state_finish(&mine, i, state_end(&st->state, i));
    m->live = (uint8_t)mine.live;
    m->ends = mine.ends[0];
    m->seq = st->state.seq > m->seq ? st->state.seq : m->seq;
    if (m->live == 0) {
        m->what = 2;
        m->owed = fowed_mask(st->owed, f);
    }
    return 0;
}

static size_t fs_forget(struct storage *s, const struct msgid *ids, size_t n)
{
    struct fnode *f = fnode_of(s);
    size_t taken = 0;
    for (size_t i = 0; i < n; i++) {
        struct fmsg *m = fmsg_of(f, &ids[i]);
        if (m->what == 1 && !m->claimed) {
            m->what = 0;
            taken++;
        }
    }
    f->forgets += taken;
    return taken;
}

static int fs_find(struct storage *s, const struct msgid *id, struct queue_entry *e_r, char domain_r[256])
{
    struct fmsg *m = fmsg_of(fnode_of(s), id);
    if (m->what != 1)
        return -SATCHEL_ENOENT;
    struct slice d = fdomain(m->domain);
    memcpy(domain_r, d.p, d.n + 1);
    *e_r = (struct queue_entry){.domain = slice_str(domain_r),
                                .id = *id,
                                .arrival_us = farrival(id->counter),
                                .chunks = m->chunks,
                                .state = fstate(m)};
    return 0;
}

static void ftomb_state(struct fnode *f, uint64_t n, struct storage_state *st_r, uint8_t *owed)
{
    const struct fmsg *m = &f->msgs[n];
    size_t at = 0;
    for (uint32_t k = 0; k < net.n; k++)
        if (m->owed >> k & 1) {
            memcpy(owed + at, net.nodes[k].id.b, 16);
            at += 16;
        }
    *st_r = (struct storage_state){.id = fid(n),
                                   .arrival_us = farrival(n),
                                   .domain = fdomain(m->domain),
                                   .owed = slice_of(owed, at),
                                   .state = fstate(m)};
}

static int fs_tomb(struct storage *s, const struct msgid *id, struct storage_state *st_r)
{
    struct fnode *f = fnode_of(s);
    if (fmsg_of(f, id)->what != 2)
        return -SATCHEL_ENOENT;
    ftomb_state(f, id->counter, st_r, f->buf[0]);
    return 0;
}

static void fs_bag(struct storage *s, struct slice domain, struct bag_stat *st_r)
{
    struct fnode *f = fnode_of(s);
    int d = fdomain_of(domain);
    *st_r = (struct bag_stat){.messages = 0};
    for (uint32_t n = 1; n <= f->top; n++)
        if (f->msgs[n].what == 1 && f->msgs[n].domain == d) {
            struct msg_state state = fstate(&f->msgs[n]);
            struct msgid id = fid(n);
            st_r->messages++;
            st_r->bytes += 100;
            st_r->digest += queue_entry_digest(&id, &state);
        }
}

static void fs_bags(struct storage *s, void (*each)(void *arg, struct slice domain, const struct bag_stat *st),
                    void *arg)
{
    for (uint32_t d = 0; d < DOMAINS; d++) {
        struct bag_stat st;
        fs_bag(s, fdomain(d), &st);
        if (st.messages)
            each(arg, fdomain(d), &st);
    }
}

static int fs_list(struct storage *s, struct slice domain, struct slice after,
                   bool (*each)(void *arg, const struct queue_entry *e), void *arg, uint8_t *cursor_r,
                   size_t *cursor_n_r)
{
    struct fnode *f = fnode_of(s);
    uint64_t n = 0;
    if (after.n && after.n != 8)
        return -SATCHEL_EINVAL;
    if (after.n)
        memcpy(&n, after.p, 8);
    for (n++; n <= f->top; n++) {
        struct queue_entry e;
        char name[256];
        struct msgid id = fid(n);
        if ((domain.n && f->msgs[n].domain != fdomain_of(domain)) || fs_find(s, &id, &e, name) < 0)
            continue;
        bool more = each(arg, &e);
        if (cursor_r) {
            memcpy(cursor_r, &n, 8);
            *cursor_n_r = 8;
        }
        if (!more)
            break;
    }
    return 0;
}

static size_t fmeta(uint8_t *out, size_t cap, uint32_t d, uint32_t items, uint32_t chunks)
{
    uint8_t v[12];
    struct wire_wr w = wire_wr(out, cap), c = wire_wr(v, sizeof v);
    meta_put(&w, RT_DOMAIN, fdomain(d));
    for (uint32_t i = 0; i < items; i++)
        meta_put(&w, RT_RCPT, SLICE_LIT("someone"));
    wire_put_u32(&c, chunks);
    wire_put_u64(&c, chunks * 100);
    if (chunks)
        meta_put(&w, RT_CHUNKS, slice_of(v, sizeof v));
    return wire_len(&w);
}

static size_t fmeta_chunk(uint8_t *out, size_t cap, uint32_t index)
{
    uint8_t v[4];
    struct wire_wr w = wire_wr(out, cap), c = wire_wr(v, sizeof v);
    wire_put_u32(&c, index);
    meta_put(&w, RT_CHUNK_INDEX, slice_of(v, sizeof v));
    return wire_len(&w);
}

static int fs_read(struct storage *s, const struct msgid *id, uint32_t part, struct record *rec_r)
{
    struct fnode *f = fnode_of(s);
    struct fmsg *m = fmsg_of(f, id);
    if (m->what != 1)
        return -SATCHEL_ENOENT;
    if (m->damaged)
        return -SATCHEL_EDAMAGED;
    size_t n = part ? fmeta_chunk(f->buf[1], 1000, part - 1) : fmeta(f->buf[1], 1000, m->domain, m->items, m->chunks);
    *rec_r = (struct record){.type = part ? REC_CHUNK : REC_MSG,
                             .flags = !part && m->chunks ? REC_F_CHUNKED : 0,
                             .id = *id,
                             .arrival_us = farrival(id->counter),
                             .meta = slice_of(f->buf[1], n),
                             .body = m->chunks && !part ? (struct slice){0} : SLICE_LIT("a body")};
    rec_r->body_sum = record_body_sum(rec_r->body);
    return 0;
}

static uint32_t fnode_index(const struct storage_id *id)
{
    for (uint32_t k = 0; k < net.n; k++)
        if (storage_id_eq(&net.nodes[k].id, id))
            return k;
    return FNODES_MAX;
}

static void fs_owed(struct storage *s, const struct storage_id *to, const struct msgid *after,
                    bool (*each)(void *arg, const struct storage_state *st), void *arg)
{
    struct fnode *f = fnode_of(s);
    uint32_t k = fnode_index(to);
    for (uint64_t n = after ? after->counter + 1 : 1; n <= f->top; n++) {
        struct storage_state st;
        if (f->msgs[n].what != 2 || !(f->msgs[n].owed >> k & 1))
            continue;
        ftomb_state(f, n, &st, f->buf[1]);
        if (!each(arg, &st))
            return;
    }
}

static void fs_confirm(struct storage *s, const struct storage_id *to, const struct msgid *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        fmsg_of(fnode_of(s), &ids[i])->owed &= (uint8_t) ~(1u << fnode_index(to));
}

static void fs_settled(struct storage *s, const struct msgid *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        fmsg_of(fnode_of(s), &ids[i])->owed = 0;
}

static void fs_retire(struct storage *s, const struct storage_id *gone)
{
    for (uint32_t n = 1; n <= fnode_of(s)->top; n++)
        fnode_of(s)->msgs[n].owed &= (uint8_t) ~(1u << fnode_index(gone));
}

static void fs_tap(struct storage *s, void (*each)(void *arg, const struct storage_state *st), void *arg)
{
    fnode_of(s)->tap = each;
    fnode_of(s)->tap_arg = arg;
}

static void fs_observe(struct storage *s, uint64_t arrival_us)
{
    fnode_of(s)->observed_us = arrival_us;
}

static void fs_ready(struct storage *s, struct slice domain)
{
    (void)s;
    (void)domain;
}

static void fs_stat(struct storage *s, struct storage_stat *st_r)
{
    struct fnode *f = fnode_of(s);
    *st_r = (struct storage_stat){.self = f->id};
    for (uint32_t n = 1; n <= f->top; n++) {
        st_r->messages += f->msgs[n].what == 1;
        st_r->tombs += f->msgs[n].what == 2;
        st_r->tombs_owed += f->msgs[n].what == 2 && f->msgs[n].owed;
    }
}

static void fs_poll(struct storage *s)
{
    struct fnode *f = fnode_of(s);
    while (f->ops && f->ops->due_us <= net.now_us) {
        struct fop *o = f->ops;
        f->ops = o->next;
        if (!f->ops)
            f->ops_tail = &f->ops;
        if (o->put)
            o->put->done(o->put, fput_apply(f, o->put));
        else if (o->merge)
            o->merge->done(o->merge, fmerge_apply(f, &o->merge->st));
        else if (f->tap) {
            struct storage_state st;
            ftomb_state(f, o->tap, &st, f->buf[0]);
            st.dsn = o->dsn;
            f->tap(f->tap_arg, &st);
        }
        free(o);
    }
}

static const struct storage_ops fs_ops = {.put = fs_put,
                                          .merge = fs_merge,
                                          .forget = fs_forget,
                                          .find = fs_find,
                                          .tomb = fs_tomb,
                                          .bags = fs_bags,
                                          .bag = fs_bag,
                                          .list = fs_list,
                                          .read = fs_read,
                                          .owed = fs_owed,
                                          .confirm = fs_confirm,
                                          .settled = fs_settled,
                                          .retire = fs_retire,
                                          .tap = fs_tap,
                                          .observe = fs_observe,
                                          .ready = fs_ready,
                                          .stat = fs_stat,
                                          .poll = fs_poll};

/* What the relay does: all items delivered, these nodes (bits) are owed it. */
static void fdeliver(uint32_t node, uint64_t n, uint8_t owed, uint64_t dsn)
{
    struct fnode *f = &net.nodes[node];
    struct fmsg *m = &f->msgs[n];
    assert_int_equal(m->what, 1);
    m->what = 2;
    m->live = 0;
    m->ends = m->items == 2 ? 0x11 : 1;
    m->seq++;
    m->owed = owed & (uint8_t) ~(1u << node);
    struct fop *o = fop_add(f);
    o->tap = n;
    if (dsn)
        o->dsn = fid(dsn);
}

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
