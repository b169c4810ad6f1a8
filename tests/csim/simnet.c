/* simnet.c - links, and how they end. */
#include "tests/csim/simnet.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "spool/base/err.h"
#include "tests/csim/simnode.h"

#define SILENCE_US    4000000u
#define BUFFER_BYTES  (256u * 1024)
#define BANDWIDTH_BPS 100000000u /* bytes a second */

struct item {
    struct item *next;
    struct fbuf *f;
    uint64_t arrive_us;
};

/* What one end has to read. */
struct lane {
    struct item *head, **tail;
    uint64_t queued, last_us;
    bool starved; /* the sender was told to wait for room */
};

/* DOWN -> OPENING (up() is due) -> UP -> CLOSING (down() is due, after what had arrived) -> DOWN */
enum end_state { END_DOWN, END_OPENING, END_UP, END_CLOSING };

struct end {
    enum end_state state;
    uint64_t due_us, since_us; /* of the next up() or down(); of the state */
    struct storage_id peer;    /* who the link was made with */
    bool room_due;
    struct lane in;
    uint64_t sent, received;
};

struct link {
    struct simnet *net;
    uint32_t node[2];
    struct end end[2];  /* end[i] is at node[i] */
    uint64_t cut_us[2]; /* [i]: what node[i] sends is held up since then; 0: not */
    uint64_t retry_us;
    struct actor *actor;
};

struct port {
    struct peers peers;
    struct simnet *net;
    uint32_t node;
    struct peer_hello hello;
    struct peers_app app;
    struct peer_addr *want;
    size_t want_n;
};

struct simnet {
    struct world *w;
    struct rng rng;
    struct port *ports[WORLD_NODES_MAX]; /* NULL: no process */
    uint64_t mute_us[WORLD_NODES_MAX];   /* since; 0: not */
    struct link links[WORLD_NODES_MAX * WORLD_NODES_MAX];
    uint32_t links_n;
};

/* ---- lanes */

static void lane_free(struct lane *l, uint64_t keep_until_us)
{
    struct item **at = &l->head;
    while (*at && (*at)->arrive_us <= keep_until_us)
        at = &(*at)->next;
    struct item *rest = *at;
    *at = NULL;
    l->tail = at;
    while (rest) {
        struct item *next = rest->next;
        l->queued -= rest->f->n;
        fbuf_unref(rest->f);
        free(rest);
        rest = next;
    }
}

static uint64_t latency(struct simnet *n)
{
    return chance(&n->rng, 97) ? between(&n->rng, 100, 1500) : between(&n->rng, 1500, 150000);
}

/* ---- who may be linked */

static bool wants(const struct port *p, const struct port *other)
{
    for (size_t i = 0; i < p->want_n; i++)
        if (storage_id_eq(&p->want[i].storage, &other->hello.storage) &&
            strcmp(p->want[i].name, other->hello.name) == 0)
            return true;
    return false;
}

static bool hello_ok(const struct peer_hello *a, const struct peer_hello *b)
{
    return !storage_id_zero(&a->cluster) && storage_id_eq(&a->cluster, &b->cluster) && a->proto >= b->proto_min &&
           b->proto >= a->proto_min;
}

static bool linkable(const struct link *l)
{
    struct simnet *n = l->net;
    const struct port *a = n->ports[l->node[0]], *b = n->ports[l->node[1]];
    if (!a || !b || n->mute_us[a->node] || n->mute_us[b->node] || l->cut_us[0] || l->cut_us[1])
        return false;
    return wants(a, b) && wants(b, a) && hello_ok(&a->hello, &b->hello);
}

/* ---- coming and going */

static void end_wake(struct link *l, int i)
{
    simnode_wake(l->net->w->nodes[l->node[i]], l->end[i].due_us);
}

static void end_enter(struct link *l, int i, enum end_state state, uint64_t due_us)
{
    struct end *e = &l->end[i];
    e->state = state;
    e->due_us = due_us;
    e->since_us = l->net->w->now_us;
    if (state == END_OPENING || state == END_CLOSING)
        end_wake(l, i);
}

static void link_open(struct link *l)
{
    uint64_t now = l->net->w->now_us;
    trace("net: link n%u-n%u", l->node[0], l->node[1]);
    for (int i = 0; i < 2; i++) {
        lane_free(&l->end[i].in, 0);
        l->end[i].in.last_us = 0;
        l->end[i].in.starved = l->end[i].room_due = false;
        l->end[i].peer = l->net->ports[l->node[1 - i]]->hello.storage;
        end_enter(l, i, END_OPENING, now + latency(l->net));
    }
}

/* One end learns that the link is over; what had arrived before it reads first, or finds discarded. */
static void end_over(struct link *l, int i, uint64_t due_us)
{
    struct end *e = &l->end[i];
    struct simnet *n = l->net;
    if (e->state != END_UP && e->state != END_OPENING)
        return;
    lane_free(&e->in, chance(&n->rng, 60) ? n->w->now_us : 0);
    if (e->state == END_OPENING)
        end_enter(l, i, END_DOWN, 0);
    else
        end_enter(l, i, END_CLOSING, due_us);
    if (e->state == END_DOWN)
        lane_free(&e->in, 0);
}

static void link_over(struct link *l, const char *why)
{
    struct simnet *n = l->net;
    trace("net: link n%u-n%u is over: %s", l->node[0], l->node[1], why);
    for (int i = 0; i < 2; i++)
        end_over(l, i, n->w->now_us + between(&n->rng, 50, 3000));
    l->retry_us = n->w->now_us + between(&n->rng, 50000, 1000000);
    actor_wake(l->actor, l->retry_us);
}

static bool link_stands(const struct link *l)
{
    return l->end[0].state == END_UP || l->end[0].state == END_OPENING || l->end[1].state == END_UP ||
           l->end[1].state == END_OPENING;
}

static bool end_silent(const struct link *l, int i)
{
    const struct simnet *n = l->net;
    uint64_t since = l->cut_us[i], mute = n->mute_us[l->node[i]];
    if (mute && (!since || mute < since))
        since = mute;
    return since && n->w->now_us >= since + SILENCE_US;
}

/* One end is a process that was started after the link was made: its machine resets what belongs to the old one. */
static bool half_stands(const struct link *l)
{
    for (int i = 0; i < 2; i++)
        if (l->end[i].state == END_DOWN && l->net->ports[l->node[i]] && !l->net->mute_us[l->node[i]] && !l->cut_us[i])
            return true;
    return false;
}

static void link_run(void *arg)
{
    struct link *l = arg;
    struct simnet *n = l->net;
    if (link_stands(l)) {
        const struct port *a = n->ports[l->node[0]], *b = n->ports[l->node[1]];
        if (end_silent(l, 0) || end_silent(l, 1))
            link_over(l, "silence");
        else if (half_stands(l))
            link_over(l, "the other end knows of no link");
        else if (a && b && (!wants(a, b) || !wants(b, a)))
            link_over(l, "not wanted");
    } else if (l->end[0].state == END_DOWN && l->end[1].state == END_DOWN && linkable(l) &&
               n->w->now_us >= l->retry_us) {
        link_open(l);
    }
    actor_wake(l->actor, n->w->now_us + between(&n->rng, 100000, 300000));
}

/* ---- the table */

static struct port *of(struct peers *p)
{
    return (struct port *)p;
}

/* The link between two nodes; *i_r: which end is the first one's. */
static struct link *link_of(struct simnet *n, uint32_t node, uint32_t other, int *i_r)
{
    for (uint32_t k = 0; k < n->links_n; k++)
        for (int i = 0; i < 2; i++)
            if (n->links[k].node[i] == node && n->links[k].node[1 - i] == other) {
                *i_r = i;
                return &n->links[k];
            }
    return NULL;
}

static struct link *link_to(struct port *p, const struct storage_id *to, int *i_r)
{
    struct simnet *n = p->net;
    for (uint32_t k = 0; k < n->links_n; k++)
        for (int i = 0; i < 2; i++) {
            struct link *l = &n->links[k];
            const struct port *other = n->ports[l->node[1 - i]];
            if (l->node[i] == p->node && other && storage_id_eq(&other->hello.storage, to)) {
                *i_r = i;
                return l;
            }
        }
    return NULL;
}

static void send_item(struct link *l, int i, struct fbuf *f)
{
    struct simnet *n = l->net;
    struct lane *in = &l->end[1 - i].in;
    struct item *x = calloc(1, sizeof *x);
    assert(x);
    uint64_t start = n->w->now_us > in->last_us ? n->w->now_us : in->last_us;
    x->f = fbuf_ref(f);
    x->arrive_us = start + (uint64_t)f->n * 1000000 / BANDWIDTH_BPS;
    uint64_t soonest = n->w->now_us + latency(n);
    if (x->arrive_us < soonest)
        x->arrive_us = soonest;
    in->last_us = x->arrive_us;
    in->queued += f->n;
    *in->tail = x;
    in->tail = &x->next;
    if (!l->cut_us[i])
        simnode_wake(n->w->nodes[l->node[1 - i]], x->arrive_us);
}

static int op_send(struct peers *p, const struct storage_id *to, struct fbuf *f)
{
    int i;
    struct link *l = link_to(of(p), to, &i);
    if (!l || l->end[i].state != END_UP)
        return -SATCHEL_ENOENT;
    if (l->end[1 - i].in.queued + f->n > BUFFER_BYTES && l->end[1 - i].in.head) {
        l->end[1 - i].in.starved = true;
        return -SATCHEL_EAGAIN;
    }
    l->end[i].sent += f->n;
    if (l->end[1 - i].state == END_UP || l->end[1 - i].state == END_OPENING)
        send_item(l, i, f);
    return 0;
}

static void op_want(struct peers *p, const struct peer_addr *addrs, size_t n)
{
    struct port *q = of(p);
    free(q->want);
    q->want = calloc(n + 1, sizeof *addrs);
    assert(q->want);
    if (n)
        memcpy(q->want, addrs, n * sizeof *addrs);
    q->want_n = n;
    for (uint32_t k = 0; k < q->net->links_n; k++)
        if (q->net->links[k].node[0] == q->node || q->net->links[k].node[1] == q->node)
            actor_wake(q->net->links[k].actor, q->net->w->now_us + between(&q->net->rng, 100, 20000));
}

static void op_join(struct peers *p, const struct storage_id *cluster)
{
    of(p)->hello.cluster = *cluster;
}

static void info_of(const struct link *l, int i, struct peer_info *info_r)
{
    const struct simnet *n = l->net;
    const struct port *other = n->ports[l->node[1 - i]];
    const struct end *e = &l->end[i];
    *info_r = (struct peer_info){.up = e->state == END_UP,
                                 .since_us = e->since_us,
                                 .queued = l->end[1 - i].in.queued,
                                 .sent = e->sent,
                                 .received = e->received,
                                 .rtt_us = 1000};
    if (other)
        info_r->hello = other->hello;
    info_r->skew_us =
        (int64_t)simnode_wall_us(n->w->nodes[l->node[1 - i]]) - (int64_t)simnode_wall_us(n->w->nodes[l->node[i]]);
    if (!info_r->up)
        snprintf(info_r->why, sizeof info_r->why, "no link");
}

static bool op_info(struct peers *p, const struct storage_id *id, struct peer_info *info_r)
{
    int i;
    struct link *l = link_to(of(p), id, &i);
    if (!l)
        return false;
    info_of(l, i, info_r);
    return true;
}

/* The next item that may be read now: a cut holds up what had not arrived when it began. */
static struct item *lane_take(struct link *l, int i, uint64_t *next_us_r)
{
    struct lane *in = &l->end[i].in;
    struct item *x = in->head;
    uint64_t cut = l->cut_us[1 - i];
    *next_us_r = UINT64_MAX;
    if (!x || (cut && x->arrive_us > cut))
        return NULL;
    if (x->arrive_us > l->net->w->now_us) {
        *next_us_r = x->arrive_us;
        return NULL;
    }
    in->head = x->next;
    if (!in->head)
        in->tail = &in->head;
    in->queued -= x->f->n;
    return x;
}

static void room_made(struct link *l, int i)
{
    struct lane *in = &l->end[i].in;
    if (!in->starved || in->queued > BUFFER_BYTES / 2)
        return;
    in->starved = false;
    l->end[1 - i].room_due = true;
    simnode_wake(l->net->w->nodes[l->node[1 - i]], l->net->w->now_us + latency(l->net));
}

static void read_frames(struct link *l, int i, struct port *p)
{
    const struct storage_id from = l->end[i].peer;
    uint64_t next;
    for (struct item *x; (x = lane_take(l, i, &next));) {
        struct wire_rd r = wire_rd(slice_of(x->f->data, x->f->n));
        uint32_t n = wire_u32(&r);
        uint16_t type = wire_u16(&r), version = wire_u16(&r);
        if (r.bad || n != wire_left(&r))
            history_fail("a frame of type %u says %u bytes and has %zu", type, n, wire_left(&r));
        l->end[i].received += x->f->n;
        p->app.frame(p->app.arg, &from, type, version, slice_of(r.p, wire_left(&r)));
        fbuf_unref(x->f);
        free(x);
        room_made(l, i);
    }
}

static void poll_end(struct link *l, int i, struct port *p)
{
    struct end *e = &l->end[i];
    struct peer_info info;
    uint64_t now = l->net->w->now_us;
    if (e->state == END_OPENING && now >= e->due_us) {
        end_enter(l, i, END_UP, 0);
        info_of(l, i, &info);
        p->app.up(p->app.arg, &info);
    }
    if (e->state == END_UP || e->state == END_CLOSING)
        read_frames(l, i, p);
    if (e->state == END_UP && e->room_due) {
        e->room_due = false;
        p->app.room(p->app.arg, &e->peer);
    }
}

static void poll_closing(struct link *l, int i, struct port *p)
{
    struct end *e = &l->end[i];
    if (e->state != END_CLOSING || l->net->w->now_us < e->due_us)
        return;
    lane_free(&e->in, 0);
    end_enter(l, i, END_DOWN, 0);
    p->app.down(p->app.arg, &e->peer);
}

static void op_poll(struct peers *p)
{
    struct port *q = of(p);
    struct simnet *n = q->net;
    for (uint32_t k = 0; k < n->links_n; k++)
        for (int i = 0; i < 2; i++) {
            struct link *l = &n->links[k];
            if (l->node[i] != q->node)
                continue;
            poll_end(l, i, q);
            poll_closing(l, i, q);
        }
}

static uint64_t end_next(struct link *l, int i)
{
    const struct end *e = &l->end[i];
    const struct item *x = e->in.head;
    uint64_t cut = l->cut_us[1 - i];
    uint64_t next = e->state == END_OPENING || e->state == END_CLOSING ? e->due_us : UINT64_MAX;
    if (x && !(cut && x->arrive_us > cut) && x->arrive_us < next)
        next = x->arrive_us;
    return e->room_due && l->net->w->now_us < next ? l->net->w->now_us : next;
}

static uint64_t op_next(struct peers *p)
{
    struct port *q = of(p);
    uint64_t next = UINT64_MAX;
    for (uint32_t k = 0; k < q->net->links_n; k++)
        for (int i = 0; i < 2; i++) {
            struct link *l = &q->net->links[k];
            uint64_t due = l->node[i] == q->node ? end_next(l, i) : UINT64_MAX;
            next = due < next ? due : next;
        }
    return next;
}

static void op_close(struct peers **pp)
{
    struct port *p = of(*pp);
    struct simnet *n = p->net;
    for (uint32_t k = 0; k < n->links_n; k++)
        for (int i = 0; i < 2; i++) {
            struct link *l = &n->links[k];
            if (l->node[i] != p->node)
                continue;
            lane_free(&l->end[i].in, 0);
            end_enter(l, i, END_DOWN, 0);
        }
    n->ports[p->node] = NULL;
    free(p->want);
    free(p);
    *pp = NULL;
}

static const struct peers_ops sim_ops = {
    .send = op_send,
    .want = op_want,
    .join = op_join,
    .info = op_info,
    .poll = op_poll,
    .next_us = op_next,
    .close = op_close,
};

struct peers *simnet_port(struct simnet *n, uint32_t node, const struct peer_hello *hello, const struct peers_app *app)
{
    struct port *p = calloc(1, sizeof *p);
    assert(p && !n->ports[node]);
    p->peers = (struct peers){&sim_ops, -1};
    p->net = n;
    p->node = node;
    p->hello = *hello;
    p->app = *app;
    n->ports[node] = p;
    return &p->peers;
}

uint64_t simnet_linked_us(struct simnet *n, uint32_t a, uint32_t b)
{
    int i = 0;
    const struct link *l = link_of(n, a, b, &i);
    if (l->end[0].state != END_UP || l->end[1].state != END_UP || l->cut_us[0] || l->cut_us[1] || n->mute_us[a] ||
        n->mute_us[b])
        return UINT64_MAX;
    return l->end[0].since_us > l->end[1].since_us ? l->end[0].since_us : l->end[1].since_us;
}

/* ---- faults */

void simnet_cut(struct simnet *n, uint32_t from, uint32_t to, bool cut)
{
    int i = 0;
    struct link *l = link_of(n, from, to, &i);
    uint64_t now = n->w->now_us, at = now;
    if (cut == (l->cut_us[i] != 0))
        return;
    if (!cut) { /* TCP sends again what was held up, in order */
        for (struct item *x = l->end[1 - i].in.head; x; x = x->next) {
            at = at + latency(n);
            if (x->arrive_us > l->cut_us[i] && x->arrive_us < at)
                x->arrive_us = l->end[1 - i].in.last_us = at;
        }
        simnode_wake(n->w->nodes[to], now);
    }
    l->cut_us[i] = cut ? now : 0;
    actor_wake(l->actor, now + SILENCE_US);
}

void simnet_reset(struct simnet *n, uint32_t a, uint32_t b)
{
    int i = 0;
    struct link *l = link_of(n, a, b, &i);
    if (link_stands(l))
        link_over(l, "reset");
}

void simnet_mute(struct simnet *n, uint32_t node, bool mute)
{
    n->mute_us[node] = mute ? n->w->now_us : 0;
}

void simnet_died(struct simnet *n, uint32_t node, bool silent)
{
    for (uint32_t k = 0; k < n->links_n; k++) {
        struct link *l = &n->links[k];
        if ((l->node[0] == node || l->node[1] == node) && link_stands(l) && !silent)
            link_over(l, "the process died");
    }
}

void simnet_open(struct simnet **n_r, struct world *w)
{
    struct simnet *n = calloc(1, sizeof *n);
    assert(n);
    n->w = w;
    rng_seed(&n->rng, rng_u64(&w->rng));
    for (uint32_t a = 0; a < w->plan.nodes; a++)
        for (uint32_t b = a + 1; b < w->plan.nodes; b++) {
            struct link *l = &n->links[n->links_n++];
            l->net = n;
            l->node[0] = a;
            l->node[1] = b;
            for (int i = 0; i < 2; i++)
                l->end[i].in.tail = &l->end[i].in.head;
            l->actor = world_actor(w, link_run, l);
            actor_wake(l->actor, w->now_us + between(&n->rng, 100, 1000));
        }
    *n_r = n;
}

void simnet_close(struct simnet **np)
{
    struct simnet *n = *np;
    for (uint32_t k = 0; k < n->links_n; k++)
        for (int i = 0; i < 2; i++)
            lane_free(&n->links[k].end[i].in, 0);
    free(n);
    *np = NULL;
}
