/* model_outlet.c - the outlet door of a model of a storage. */
#include "tests/csim/model_impl.h"

struct model_outlet {
    struct outlet outlet;
    struct model *m;
};

struct model_msg {
    struct outlet_msg msg;
    struct slice rcpts[LETTER_ITEMS_MAX];
    uint32_t number;
};

static struct model *of_outlet(struct outlet *o)
{
    return ((struct model_outlet *)o)->m;
}

static struct outlet_msg *msg_new(struct model *m, const struct letter *l)
{
    struct copy *c = m->copies[l->number];
    struct model_msg *x = calloc(1, sizeof *x);
    assert(x);
    x->number = l->number;
    x->msg = (struct outlet_msg){.id = l->id,
                                 .arrival_us = l->arrival_us,
                                 .domain = world_domain(model_world(m), l->domain),
                                 .rcpts = x->rcpts,
                                 .rcpts_n = l->items_n,
                                 .bytes = l->body_bytes,
                                 .state = c->state,
                                 .impl = x};
    c->claimed = true;
    return &x->msg;
}

static bool claimable(const struct model *m, const struct copy *c, enum claim_mode mode)
{
    if (c->claimed || c->damaged)
        return false;
    return mode == CLAIM_OLDER || (!c->state.held && c->state.due_us <= clock_wall_us(m->env.clock));
}

static size_t out_claim(struct outlet *o, struct slice domain, enum claim_mode mode, uint64_t before_us,
                        struct outlet_msg **msgs_r, size_t cap)
{
    struct model *m = of_outlet(o);
    uint32_t d = model_domain(m, domain);
    size_t n = 0;
    for (uint32_t i = 0; i < m->order_n && n < cap; i++) {
        const struct letter *l = model_letter_at(m, m->order[i]);
        if (l->domain != d || !claimable(m, m->copies[l->number], mode))
            continue;
        if (mode == CLAIM_OLDER && l->arrival_us >= before_us)
            continue;
        msgs_r[n++] = msg_new(m, l);
    }
    return n;
}

static int out_claim_id(struct outlet *o, const struct msgid *id, struct outlet_msg **msg_r)
{
    struct model *m = of_outlet(o);
    struct copy *c = model_copy(m, id);
    if (!c || c->what != COPY_LIVE)
        return -SATCHEL_ENOENT;
    if (c->claimed)
        return -SATCHEL_EBUSY;
    *msg_r = msg_new(m, model_letter(m, id));
    return 0;
}

static int out_read(struct outlet *o, struct outlet_msg *msg, uint64_t off, size_t n, struct slice *data_r)
{
    const struct copy *c = of_outlet(o)->copies[((struct model_msg *)msg->impl)->number];
    if (c->chunks_n == 0) {
        struct slice body = c->msg->rec.body;
        *data_r = slice_of(body.p + off, off >= body.n ? 0 : body.n - off < n ? body.n - off : n);
        return (int)data_r->n;
    }
    uint64_t i = off / LETTER_CHUNK_BYTES, at = off % LETTER_CHUNK_BYTES;
    if (i < c->chunks_n && !c->chunks[i])
        return -SATCHEL_EIO;
    struct slice body = i < c->chunks_n ? c->chunks[i]->rec.body : slice_of("", 0);
    *data_r = slice_of(body.p + at, at >= body.n ? 0 : body.n - at < n ? body.n - at : n);
    return (int)data_r->n;
}

static void out_release(struct outlet *o, struct outlet_msg *msg)
{
    struct model *m = of_outlet(o);
    struct model_msg *x = msg->impl;
    if (m->copies[x->number]) {
        m->copies[x->number]->claimed = false;
        model_late_end(m, model_letter_at(m, x->number));
    }
    free(x);
}

static int out_finish(struct outlet *o, struct outlet_msg *msg, const struct item_result *results, size_t n,
                      uint64_t due_us, bool held, const struct outlet_dsn *dsn)
{
    struct model *m = of_outlet(o);
    struct model_msg *x = msg->impl;
    struct op *p = model_op(OP_FINISH);
    (void)dsn;
    model_op_ids(p, &msg->id, 1);
    p->state = m->copies[x->number]->state;
    for (size_t i = 0; i < n; i++)
        state_finish(&p->state, results[i].item, results[i].end);
    p->state.seq++;
    p->state.attempts++;
    p->state.due_us = due_us;
    p->state.held = held && p->state.live > 0;
    model_push(m, p, true);
    free(x);
    return 0;
}

static bool out_may(struct outlet *o, const struct outlet_msg *msg)
{
    const struct copy *c = of_outlet(o)->copies[((const struct model_msg *)msg->impl)->number];
    return !c->over;
}

static bool out_ready(struct outlet *o, struct slice *domain_r)
{
    struct model *m = of_outlet(o);
    for (uint32_t d = 0; d < WORLD_DOMAINS; d++)
        if (m->hot & 1u << d) {
            m->hot &= ~(1u << d);
            *domain_r = world_domain(model_world(m), d);
            return true;
        }
    return false;
}

static uint64_t out_next_due(struct outlet *o, struct slice domain)
{
    struct model *m = of_outlet(o);
    uint32_t d = model_domain(m, domain);
    uint64_t next = UINT64_MAX, now = clock_wall_us(m->env.clock);
    for (uint32_t i = 0; i < m->order_n; i++) {
        const struct copy *c = m->copies[m->order[i]];
        if (model_letter_at(m, m->order[i])->domain != d || c->state.held || c->claimed || c->damaged)
            continue;
        uint64_t due = c->state.due_us <= now ? 0 : c->state.due_us;
        next = due < next ? due : next;
    }
    return next;
}

static void out_stat(struct outlet *o, struct slice domain, struct bag_stat *st_r)
{
    model_bag_stat(of_outlet(o), model_domain(of_outlet(o), domain), st_r);
}

static bool out_sleep(struct outlet *o)
{
    return of_outlet(o)->hot == 0;
}

static void out_close(struct outlet **o)
{
    free(*o);
    *o = NULL;
}

static const struct outlet_ops outlet_ops = {
    .claim = out_claim,
    .claim_id = out_claim_id,
    .read = out_read,
    .finish = out_finish,
    .release = out_release,
    .may = out_may,
    .ready = out_ready,
    .next_due = out_next_due,
    .stat = out_stat,
    .sleep = out_sleep,
    .close = out_close,
};

struct outlet *model_outlet_open(struct model *m)
{
    struct model_outlet *o = calloc(1, sizeof *o);
    assert(o);
    o->outlet = (struct outlet){&outlet_ops, -1};
    o->m = m;
    return &o->outlet;
}
