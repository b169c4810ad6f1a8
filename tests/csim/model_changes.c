/* model_changes.c - changes of a model of a storage: handed in, durable after a while, in order; then they are in the
 * table. */
#include "tests/csim/model_impl.h"
#include "tests/csim/simnode.h"

/* ---- at the moment they become durable */

static void note_stored(struct model *m, struct letter *l, const struct copy *c)
{
    if (c->what == COPY_LIVE && model_copy_whole(c) && !(l->stored & 1u << m->depot.number)) {
        l->stored |= 1u << m->depot.number;
        trace("letter %u is durable on s%u", l->number, m->depot.number);
    }
}

static int put_chunk(struct storage_put *p, struct copy *c)
{
    uint32_t i = model_u32(meta_find(p->rec.meta, RT_CHUNK_INDEX));
    if (c->what == COPY_TOMB)
        return -SATCHEL_EEXIST;
    assert(i < CHUNKS_MAX);
    if (c->chunks[i] && !(p->flags & PUT_REPAIR))
        return 0;
    free(c->chunks[i]);
    c->chunks[i] = model_blob(p);
    return 0;
}

static int put_message(struct model *m, struct storage_put *p, const struct letter *l, struct copy *c)
{
    if (c->what == COPY_TOMB)
        return -SATCHEL_EEXIST;
    if (c->what == COPY_LIVE && !(p->flags & PUT_REPAIR))
        return model_copy_whole(c) ? 0 : -SATCHEL_ENOENT;
    free(c->msg);
    c->msg = model_blob(p);
    c->damaged = false;
    m->hot |= 1u << l->domain;
    if (c->what == COPY_LIVE)
        return model_copy_whole(c) ? 0 : -SATCHEL_ENOENT;
    c->what = COPY_LIVE;
    c->owed_n = 0;
    struct slice state = meta_find(p->rec.meta, RT_STATE);
    c->state = (struct msg_state){.items = l->items_n, .live = l->items_n};
    if (state.p && state_decode(state, &c->state) != 0)
        history_fail("a record of letter %u came with a state that cannot be read", l->number);
    struct slice chunks = meta_find(p->rec.meta, RT_CHUNKS);
    c->chunks_n = chunks.p ? model_u32(chunks) : 0;
    model_order_add(m, l);
    if (c->state.live == 0)
        model_bury(m, l, c);
    if (model_copy_whole(c))
        return 0;
    model_copy_abort(m, l, c);
    return -SATCHEL_ENOENT;
}

static void check_record(struct model *m, const struct letter *l, const struct storage_put *p)
{
    struct slice domain = meta_find(p->rec.meta, RT_DOMAIN);
    if (p->rec.type == REC_MSG &&
        (p->rec.arrival_us != l->arrival_us || !slice_eq(domain, world_domain(model_world(m), l->domain))))
        history_fail("letter %u changed on its way: arrival %llu, was %llu", l->number,
                     (unsigned long long)p->rec.arrival_us, (unsigned long long)l->arrival_us);
}

static int do_put(struct model *m, struct storage_put *p)
{
    struct letter *l = model_letter(m, &p->rec.id);
    if (!l)
        return -SATCHEL_EINVAL;
    struct copy *c = model_copy_need(m, l);
    int res = 0;
    check_record(m, l, p);
    if (p->rec.type == REC_CHUNK)
        res = put_chunk(p, c);
    else if (p->rec.type == REC_MSG)
        res = put_message(m, p, l, c);
    else if (p->rec.type == REC_ABORT)
        model_copy_abort(m, l, c);
    note_stored(m, l, c);
    trace("s%u put type %u letter %u: %d", m->depot.number, p->rec.type, l->number, res);
    return res;
}

static void state_union(struct msg_state *ours, const struct msg_state *theirs)
{
    for (uint32_t i = 0; i < theirs->items && i < ours->items; i++)
        state_finish(ours, i, state_end(theirs, i));
    if (theirs->seq <= ours->seq)
        return;
    ours->seq = theirs->seq;
    ours->attempts = theirs->attempts;
    ours->due_us = theirs->due_us;
    ours->held = theirs->held;
}

void model_late_keep(struct copy *c, const struct storage_state *st)
{
    struct msg_state after = c->over ? c->late : c->state;
    uint32_t live = after.live;
    state_union(&after, &st->state);
    if (after.live == live)
        return;
    c->late_tell = st->tell || (c->over && c->late_tell);
    c->over = true;
    c->late = after;
    c->late_owed_n = st->owed.n < sizeof c->late_owed ? st->owed.n : sizeof c->late_owed;
    if (c->late_owed_n)
        memcpy(c->late_owed, st->owed.p, c->late_owed_n);
}

static void tell(struct model *m, const struct letter *l, const struct copy *c)
{
    struct storage_state st = model_state(m, l, c);
    if (m->tap && !m->dying)
        m->tap(m->tap_arg, &st);
}

/* What became of it elsewhere becomes true here. */
static void take_in(struct model *m, const struct letter *l, struct copy *c, const struct msg_state *state,
                    struct slice owed, bool pass_on)
{
    bool known = c->what != COPY_NONE;
    uint32_t live = c->state.live, seq = c->state.seq;
    if (known)
        state_union(&c->state, state);
    else
        c->state = *state;
    trace("s%u merge letter %u: live %u", m->depot.number, l->number, c->state.live);
    if (c->what == COPY_TOMB)
        return;
    c->owed_n = 0;
    model_owed_add(m, c, owed);
    if (c->state.live == 0)
        model_bury(m, l, c);
    else
        m->hot |= 1u << l->domain;
    if (pass_on && (!known || c->state.live != live || c->state.seq != seq))
        tell(m, l, c);
    if (c->what == COPY_LIVE)
        c->owed_n = 0;
}

void model_late_end(struct model *m, const struct letter *l)
{
    struct copy *c = m->copies[l->number];
    if (!c->over)
        return;
    c->over = false;
    if (!m->dying && c->what == COPY_LIVE)
        take_in(m, l, c, &c->late, slice_of(c->late_owed, c->late_owed_n), c->late_tell);
}

static int do_merge(struct model *m, const struct op *o)
{
    const struct storage_merge *g = o->merge;
    const struct letter *l = model_letter(m, &g->st.id);
    if (!l)
        return -SATCHEL_EINVAL;
    struct copy *c = model_copy_need(m, l);
    if (c->what == COPY_NONE && g->st.state.live > 0)
        return -SATCHEL_ENOENT;
    if (c->what == COPY_LIVE && c->claimed && !o->holds) {
        model_late_keep(c, &g->st);
        return -SATCHEL_EBUSY;
    }
    if (o->holds)
        c->claimed = false;
    take_in(m, l, c, &g->st.state, g->st.owed, g->st.tell);
    return 0;
}

static void do_finish(struct model *m, const struct op *o)
{
    struct letter *l = model_letter(m, &o->ids[0]);
    struct copy *c = m->copies[l->number];
    uint8_t uuids[OWED_MAX * 16];
    assert(c && c->what == COPY_LIVE);
    c->claimed = false;
    c->state = o->state;
    c->owed_n = 0;
    model_owed_add(m, c, c->msg->rec.copyset);
    if (!m->dying)
        model_owed_add(
            m, c,
            slice_of(uuids, m->env.holders(m->env.arg, world_domain(model_world(m), l->domain), uuids, sizeof uuids)));
    if (c->state.live == 0)
        model_bury(m, l, c);
    else
        m->hot |= 1u << l->domain;
    trace("s%u finish letter %u: live %u, owed %u", m->depot.number, l->number, c->state.live, c->owed_n);
    tell(m, l, c);
    if (c->what == COPY_LIVE)
        c->owed_n = 0;
    model_late_end(m, l);
}

static void do_retire(struct model *m, const struct storage_id *gone)
{
    for (uint32_t i = 0; i < model_world(m)->letters.n; i++)
        if (m->copies[i] && m->copies[i]->what == COPY_TOMB)
            model_owed_remove(m, m->copies[i], gone);
}

static void do_ids(struct model *m, const struct op *o)
{
    for (size_t i = 0; i < o->ids_n; i++) {
        const struct letter *l = model_letter(m, &o->ids[i]);
        struct copy *c = l ? m->copies[l->number] : NULL;
        if (!c)
            continue;
        if (o->kind == OP_FORGET && c->what != COPY_TOMB) {
            trace("s%u forgets letter %u", m->depot.number, l->number);
            c->claimed = false;
            model_copy_abort(m, l, c);
        } else if (o->kind == OP_CONFIRM && c->what == COPY_TOMB) {
            model_owed_remove(m, c, &o->who);
        } else if (o->kind == OP_SETTLED && c->what == COPY_TOMB) {
            c->owed_n = 0;
            c->clear_us = c->clear_us ? c->clear_us : model_world(m)->now_us;
        }
    }
}

int model_do(struct model *m, struct op *o)
{
    if (o->res != 0)
        return o->res;
    switch (o->kind) {
    case OP_PUT:
        return do_put(m, o->put);
    case OP_MERGE:
        return do_merge(m, o);
    case OP_FINISH:
        do_finish(m, o);
        return 0;
    case OP_RETIRE:
        do_retire(m, &o->who);
        return 0;
    case OP_FORGET:
    case OP_CONFIRM:
    case OP_SETTLED:
        do_ids(m, o);
        return 0;
    }
    return 0;
}

void model_op_end(struct op *o, int res)
{
    struct storage_put *put = o->put;
    struct storage_merge *merge = o->merge;
    free(o->ids);
    free(o);
    if (put)
        put->done(put, res);
    if (merge)
        merge->done(merge, res);
}

struct op *model_op_pop(struct model *m)
{
    struct op *o = m->ops;
    m->ops = o->next;
    if (!m->ops)
        m->ops_tail = &m->ops;
    return o;
}

/* ---- handing in */

/* One sync carries all that was handed in before: nobody waits longer than those behind him. */
void model_push(struct model *m, struct op *o, bool lazy)
{
    uint64_t now = model_world(m)->now_us, due = now + between(&m->rng, 120, 900) + m->slow_us;
    if (chance(&m->rng, 2))
        due += between(&m->rng, 1000, 30000);
    if (lazy)
        due += between(&m->rng, 0, LAZY_US);
    if (!lazy) {
        due = due > m->last_due_us ? due : m->last_due_us;
        m->last_due_us = due;
        for (struct op *k = m->ops; k; k = k->next)
            k->due_us = k->due_us > due ? due : k->due_us;
    }
    o->due_us = due;
    *m->ops_tail = o;
    m->ops_tail = &o->next;
    simnode_wake(model_world(m)->nodes[model_world(m)->stores[m->depot.number].node], due);
}

struct op *model_op(enum op_kind kind)
{
    struct op *o = calloc(1, sizeof *o);
    assert(o);
    o->kind = kind;
    return o;
}

void model_op_ids(struct op *o, const struct msgid *ids, size_t n)
{
    o->ids = calloc(n + 1, sizeof *ids);
    assert(o->ids);
    if (n)
        memcpy(o->ids, ids, n * sizeof *ids);
    o->ids_n = n;
}
