/* model_storage.c - the storage door of a model of a storage. */
#include "tests/csim/model_impl.h"
#include "tests/csim/simnode.h"

#include <stdio.h>

static void st_put(struct storage *s, struct storage_put *p)
{
    struct model *m = of_storage(s);
    struct op *o = model_op(OP_PUT);
    o->put = p;
    if (m->full && p->rec.type != REC_ABORT)
        o->res = -SATCHEL_EFULL;
    model_push(m, o, p->flags & PUT_LAZY);
}

static bool st_merge(struct storage *s, struct storage_merge *g)
{
    struct model *m = of_storage(s);
    struct copy *c = model_copy(m, &g->st.id);
    struct op *o = model_op(OP_MERGE);
    o->merge = g;
    o->holds = c && c->what == COPY_LIVE && !c->claimed;
    if (o->holds)
        c->claimed = true;
    else if (c && c->what == COPY_LIVE)
        model_late_keep(c, &g->st);
    model_push(m, o, true);
    return o->holds || (c && c->what == COPY_TOMB);
}

/* Taken out of the bag at once, as by a claim; gone when that is durable. */
static size_t st_forget(struct storage *s, const struct msgid *ids, size_t n)
{
    struct model *m = of_storage(s);
    struct op *o = model_op(OP_FORGET);
    size_t taken = 0;
    model_op_ids(o, ids, n);
    o->ids_n = 0;
    for (size_t i = 0; i < n; i++) {
        struct copy *c = model_copy(m, &ids[i]);
        if (!c || c->what == COPY_TOMB || c->claimed)
            continue;
        c->claimed = true;
        o->ids[o->ids_n++] = ids[i];
        taken++;
    }
    model_push(m, o, true);
    return taken;
}

static void entry_of(const struct model *m, const struct letter *l, const struct copy *c, struct queue_entry *e_r)
{
    *e_r = (struct queue_entry){.domain = world_domain(model_world(m), l->domain),
                                .id = l->id,
                                .arrival_us = l->arrival_us,
                                .pos = l->number + 1,
                                .size = (uint32_t)record_size(&c->msg->rec),
                                .chunks = c->chunks_n,
                                .body_bytes = l->body_bytes,
                                .state = c->state};
}

static int st_find(struct storage *s, const struct msgid *id, struct queue_entry *e_r, char domain_r[256])
{
    struct model *m = of_storage(s);
    const struct copy *c = model_copy(m, id);
    if (!c || c->what != COPY_LIVE)
        return -SATCHEL_ENOENT;
    entry_of(m, model_letter(m, id), c, e_r);
    snprintf(domain_r, 256, "%.*s", SLICE_FMT(e_r->domain));
    return 0;
}

static int st_tomb(struct storage *s, const struct msgid *id, struct storage_state *st_r)
{
    struct model *m = of_storage(s);
    const struct copy *c = model_copy(m, id);
    if (!c || c->what != COPY_TOMB)
        return -SATCHEL_ENOENT;
    *st_r = model_state(m, model_letter(m, id), c);
    return 0;
}

static void st_bags(struct storage *s, void (*each)(void *arg, struct slice domain, const struct bag_stat *st),
                    void *arg)
{
    struct model *m = of_storage(s);
    for (uint32_t d = 0; d < WORLD_DOMAINS; d++) {
        struct bag_stat st;
        model_bag_stat(m, d, &st);
        if (st.messages)
            each(arg, world_domain(model_world(m), d), &st);
    }
}

static void st_bag(struct storage *s, struct slice domain, struct bag_stat *st_r)
{
    model_bag_stat(of_storage(s), model_domain(of_storage(s), domain), st_r);
}

/* The cursor is the number of the last letter shown: where it lies in the order never changes. */
static int st_list(struct storage *s, struct slice domain, struct slice after,
                   bool (*each)(void *arg, const struct queue_entry *e), void *arg, uint8_t *cursor_r,
                   size_t *cursor_n_r)
{
    struct model *m = of_storage(s);
    uint32_t at = 0, d = domain.n ? model_domain(m, domain) : UINT32_MAX, last = after.n ? model_u32(after) : 0;
    if (after.n) {
        at = model_place(m, model_letter_at(m, last));
        at += at < m->order_n && m->order[at] == last;
    }
    if (cursor_n_r)
        *cursor_n_r = after.n;
    if (cursor_r && after.n)
        memmove(cursor_r, after.p, after.n);
    for (; at < m->order_n; at++) {
        const struct letter *l = model_letter_at(m, m->order[at]);
        struct queue_entry e;
        if (domain.n && l->domain != d)
            continue;
        entry_of(m, l, m->copies[l->number], &e);
        if (cursor_r && cursor_n_r) {
            memcpy(cursor_r, &l->number, 4);
            *cursor_n_r = 4;
        }
        if (!each(arg, &e))
            return 0;
    }
    return 0;
}

static int st_read(struct storage *s, const struct msgid *id, uint32_t part, struct record *rec_r)
{
    struct model *m = of_storage(s);
    const struct copy *c = model_copy(m, id);
    if (!c || c->what != COPY_LIVE || part > c->chunks_n || (part > 0 && !c->chunks[part - 1]))
        return -SATCHEL_ENOENT;
    if (c->damaged && part == 0)
        return -SATCHEL_EDAMAGED;
    *rec_r = part == 0 ? c->msg->rec : c->chunks[part - 1]->rec;
    return 0;
}

static bool owes(const struct copy *c, const struct storage_id *to)
{
    for (uint32_t i = 0; to && i < c->owed_n; i++)
        if (storage_id_eq(&c->owed[i], to))
            return true;
    return !to && c->owed_n > 0;
}

static void st_owed(struct storage *s, const struct storage_id *to, const struct msgid *after,
                    bool (*each)(void *arg, const struct storage_state *st), void *arg)
{
    struct model *m = of_storage(s);
    struct letters *ls = &model_world(m)->letters;
    const struct letter *from = after ? model_letter(m, after) : NULL;
    uint32_t at = 0;
    while (from && at < ls->n && ls->by_key[at] != from->number)
        at++;
    for (at += from != NULL; at < ls->n; at++) {
        const struct copy *c = m->copies[ls->by_key[at]];
        if (!c || c->what != COPY_TOMB || !owes(c, to))
            continue;
        struct storage_state st = model_state(m, model_letter_at(m, ls->by_key[at]), c);
        if (!each(arg, &st))
            return;
    }
}

static void st_confirm(struct storage *s, const struct storage_id *to, const struct msgid *ids, size_t n)
{
    struct op *o = model_op(OP_CONFIRM);
    o->who = *to;
    model_op_ids(o, ids, n);
    model_push(of_storage(s), o, true);
}

static void st_settled(struct storage *s, const struct msgid *ids, size_t n)
{
    struct op *o = model_op(OP_SETTLED);
    model_op_ids(o, ids, n);
    model_push(of_storage(s), o, true);
}

static void st_retire(struct storage *s, const struct storage_id *gone)
{
    struct op *o = model_op(OP_RETIRE);
    o->who = *gone;
    model_push(of_storage(s), o, true);
}

static void st_tap(struct storage *s, void (*each)(void *arg, const struct storage_state *st), void *arg)
{
    struct model *m = of_storage(s);
    m->tap = each;
    m->tap_arg = arg;
}

static void st_observe(struct storage *s, uint64_t arrival_us)
{
    struct model *m = of_storage(s);
    if (arrival_us > m->depot.arrival_us)
        m->depot.arrival_us = arrival_us;
}

static void st_ready(struct storage *s, struct slice domain)
{
    struct model *m = of_storage(s);
    uint32_t d = model_domain(m, domain);
    if (d < WORLD_DOMAINS)
        m->hot |= 1u << d;
}

static void st_stat(struct storage *s, struct storage_stat *st_r)
{
    struct model *m = of_storage(s);
    *st_r = (struct storage_stat){.self = m->id, .messages = m->order_n, .room_bytes = m->full ? 0 : 1u << 30};
    for (uint32_t i = 0; i < model_world(m)->letters.n; i++) {
        const struct copy *c = m->copies[i];
        if (c && c->what == COPY_LIVE)
            st_r->bytes += record_size(&c->msg->rec);
        if (c && c->what == COPY_TOMB) {
            st_r->tombs++;
            st_r->tombs_owed += c->owed_n > 0;
        }
    }
}

/* Invariant 6: by then no storage may hold a live copy of what this tombstone kills. */
static void check_tomb(struct model *m, const struct letter *l)
{
    const struct world *w = model_world(m);
    for (uint32_t s = 0; s < w->stores_n; s++)
        if (!w->stores[s].gone && w->stores[s].depot->ops->has(w->stores[s].depot, l) == DEPOT_LIVE &&
            cmap_storage(simcoord_truth(w->coord), &w->stores[s].id))
            history_fail("invariant 6: s%u drops its tombstone of letter %u, and s%u still has a copy", m->depot.number,
                         l->number, s);
}

/* Only a tombstone that everybody knows of, and only after a time in which no late copy can be under way. */
static void expire_tombs(struct model *m)
{
    for (uint32_t i = 0; i < model_world(m)->letters.n; i++) {
        struct copy *c = m->copies[i];
        if (!c || c->what != COPY_TOMB || c->owed_n > 0 || model_world(m)->now_us < c->clear_us + m->tomb_us)
            continue;
        check_tomb(m, model_letter_at(m, i));
        c->what = COPY_NONE;
    }
}

static void st_poll(struct storage *s)
{
    struct model *m = of_storage(s);
    while (m->ops && m->ops->due_us <= model_world(m)->now_us) {
        struct op *o = model_op_pop(m);
        model_op_end(o, model_do(m, o));
    }
    if (m->depot.tombs_go)
        expire_tombs(m);
}

static bool st_sleep(struct storage *s)
{
    (void)s;
    return true;
}

static void st_close(struct storage **s)
{
    *s = NULL;
}

const struct storage_ops model_storage_ops = {
    .put = st_put,
    .merge = st_merge,
    .forget = st_forget,
    .find = st_find,
    .tomb = st_tomb,
    .bags = st_bags,
    .bag = st_bag,
    .list = st_list,
    .read = st_read,
    .owed = st_owed,
    .confirm = st_confirm,
    .settled = st_settled,
    .retire = st_retire,
    .tap = st_tap,
    .observe = st_observe,
    .ready = st_ready,
    .stat = st_stat,
    .poll = st_poll,
    .sleep = st_sleep,
    .close = st_close,
};
