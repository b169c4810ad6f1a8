/* depot_model.c - the model of a storage: a table of copies, and a queue of changes that are not durable yet.
 *
 * A change is visible when it is durable, in the order in which it was handed in, as with the log and the queue of the
 * product.  A crash keeps a seeded prefix of what was under way. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "spool/base/err.h"
#include "tests/csim/depot.h"
#include "tests/csim/simnode.h"

#define CHUNKS_MAX 8
#define OWED_MAX   LETTER_STORES_MAX
#define LAZY_US    10000u

/* A record with all that it borrows. */
struct blob {
    struct record rec;
    uint8_t data[];
};

enum copy_what { COPY_NONE, COPY_LIVE, COPY_TOMB };

struct copy {
    enum copy_what what;
    bool claimed, damaged;
    struct blob *msg, *chunks[CHUNKS_MAX];
    uint32_t chunks_n; /* that the MSG speaks of */
    struct msg_state state;
    struct storage_id owed[OWED_MAX];
    uint32_t owed_n;
    uint64_t clear_us; /* a tombstone: owed is empty since */
};

enum op_kind { OP_PUT, OP_MERGE, OP_FORGET, OP_FINISH, OP_CONFIRM, OP_SETTLED, OP_RETIRE };

struct op {
    struct op *next;
    enum op_kind kind;
    uint64_t due_us;
    int res; /* known when it was handed in: refused */
    struct storage_put *put;
    struct storage_merge *merge;
    struct storage_id who;
    struct msg_state state; /* FINISH */
    struct msgid *ids;
    size_t ids_n;
};

struct model {
    struct depot depot;
    struct storage storage;
    struct storage_id id;
    struct rng rng;
    struct depot_env env;
    struct copy *copies[LETTERS_MAX];     /* by letter */
    uint32_t order[LETTERS_MAX], order_n; /* live ones: by domain, arrival, ID */
    struct op *ops, **ops_tail;
    uint64_t last_due_us, slow_us, tomb_us;
    bool full, running, dying;
    uint32_t hot; /* bit d: domain d has mail that its outlet has not heard of */
    void (*tap)(void *arg, const struct storage_state *st);
    void *tap_arg;
    uint8_t owed_bytes[OWED_MAX * 16];
};

struct model_outlet {
    struct outlet outlet;
    struct model *m;
};

struct model_msg {
    struct outlet_msg msg;
    struct slice rcpts[LETTER_ITEMS_MAX];
    uint32_t number;
};

static struct model *of(struct depot *d)
{
    return (struct model *)d;
}

static struct model *of_storage(struct storage *s)
{
    return (struct model *)((char *)s - offsetof(struct model, storage));
}

static struct world *world_of(const struct model *m)
{
    return m->depot.w;
}

static struct letter *letter_of(struct model *m, const struct msgid *id)
{
    struct letter *l = letters_find(&world_of(m)->letters, id);
    if (!l)
        history_fail("invariant 3: a record or an end names a message that there never was");
    return l;
}

static struct letter *letter_at(const struct model *m, uint32_t number)
{
    return &world_of(m)->letters.all[number];
}

static struct copy *copy_of(struct model *m, const struct msgid *id)
{
    const struct letter *l = letter_of(m, id);
    return l ? m->copies[l->number] : NULL;
}

static struct copy *copy_need(struct model *m, const struct letter *l)
{
    if (!m->copies[l->number])
        m->copies[l->number] = calloc(1, sizeof(struct copy));
    assert(m->copies[l->number]);
    return m->copies[l->number];
}

/* ---- order */

static int letter_order(const struct letter *a, const struct letter *b)
{
    if (a->domain != b->domain)
        return a->domain < b->domain ? -1 : 1;
    if (a->arrival_us != b->arrival_us)
        return a->arrival_us < b->arrival_us ? -1 : 1;
    int c = memcmp(a->id.incarnation, b->id.incarnation, 16);
    return c ? c : (a->id.counter > b->id.counter) - (a->id.counter < b->id.counter);
}

static uint32_t order_place(const struct model *m, const struct letter *l)
{
    uint32_t lo = 0, hi = m->order_n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (letter_order(letter_at(m, m->order[mid]), l) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static void order_add(struct model *m, const struct letter *l)
{
    uint32_t at = order_place(m, l);
    memmove(&m->order[at + 1], &m->order[at], (m->order_n++ - at) * sizeof m->order[0]);
    m->order[at] = l->number;
}

static void order_remove(struct model *m, const struct letter *l)
{
    uint32_t at = order_place(m, l);
    assert(at < m->order_n && m->order[at] == l->number);
    memmove(&m->order[at], &m->order[at + 1], (--m->order_n - at) * sizeof m->order[0]);
}

/* ---- blobs */

static uint8_t *blob_copy(uint8_t *at, struct slice s, struct slice *s_r)
{
    if (s.n)
        memcpy(at, s.p, s.n);
    *s_r = slice_of(at, s.n);
    return at + s.n;
}

static struct blob *blob_new(const struct storage_put *p)
{
    const struct record *r = &p->rec;
    size_t body = p->body_parts ? 0 : r->body.n;
    for (uint32_t i = 0; p->body_parts && i < p->body_parts_n; i++)
        body += p->body_parts[i].n;
    struct blob *b = calloc(1, sizeof *b + r->copyset.n + r->meta.n + body + 1);
    assert(b);
    b->rec = *r;
    uint8_t *at = blob_copy(b->data, r->copyset, &b->rec.copyset);
    at = blob_copy(at, r->meta, &b->rec.meta);
    uint8_t *start = at;
    struct slice ignored;
    if (!p->body_parts)
        at = blob_copy(at, r->body, &ignored);
    for (uint32_t i = 0; p->body_parts && i < p->body_parts_n; i++)
        at = blob_copy(at, p->body_parts[i], &ignored);
    b->rec.body = slice_of(start, body);
    return b;
}

static void copy_empty(struct copy *c)
{
    free(c->msg);
    c->msg = NULL;
    for (uint32_t i = 0; i < CHUNKS_MAX; i++) {
        free(c->chunks[i]);
        c->chunks[i] = NULL;
    }
    c->claimed = c->damaged = false;
}

/* ---- owed */

static void owed_add(struct model *m, struct copy *c, const uint8_t *uuid)
{
    if (memcmp(uuid, m->id.b, 16) == 0)
        return;
    for (uint32_t i = 0; i < c->owed_n; i++)
        if (memcmp(c->owed[i].b, uuid, 16) == 0)
            return;
    assert(c->owed_n < OWED_MAX);
    memcpy(c->owed[c->owed_n++].b, uuid, 16);
}

static void owed_add_all(struct model *m, struct copy *c, struct slice uuids)
{
    for (size_t i = 0; i + 16 <= uuids.n; i += 16)
        owed_add(m, c, uuids.p + i);
}

static void owed_remove(struct model *m, struct copy *c, const struct storage_id *who)
{
    for (uint32_t i = 0; i < c->owed_n; i++)
        if (storage_id_eq(&c->owed[i], who))
            c->owed[i--] = c->owed[--c->owed_n];
    if (c->what == COPY_TOMB && c->owed_n == 0 && c->clear_us == 0)
        c->clear_us = world_of(m)->now_us;
}

static struct slice owed_slice(struct model *m, const struct copy *c)
{
    for (uint32_t i = 0; i < c->owed_n; i++)
        memcpy(m->owed_bytes + i * 16, c->owed[i].b, 16);
    return slice_of(m->owed_bytes, c->owed_n * 16);
}

static struct storage_state state_of(struct model *m, const struct letter *l, const struct copy *c)
{
    return (struct storage_state){.id = l->id,
                                  .arrival_us = l->arrival_us,
                                  .domain = world_domain(world_of(m), l->domain),
                                  .owed = owed_slice(m, c),
                                  .state = c->state};
}

static void copy_bury(struct model *m, const struct letter *l, struct copy *c)
{
    if (c->what == COPY_LIVE)
        order_remove(m, l);
    copy_empty(c);
    c->what = COPY_TOMB;
    c->clear_us = c->owed_n == 0 ? world_of(m)->now_us : 0;
}

/* ---- changes, at the moment they become durable */

static bool copy_whole(const struct copy *c)
{
    for (uint32_t i = 0; i < c->chunks_n; i++)
        if (!c->chunks[i])
            return false;
    return c->msg != NULL;
}

static void note_stored(struct model *m, struct letter *l, const struct copy *c)
{
    if (c->what == COPY_LIVE && copy_whole(c) && !(l->stored & 1u << m->depot.number)) {
        l->stored |= 1u << m->depot.number;
        trace("letter %u is durable on s%u", l->number, m->depot.number);
    }
}

static uint32_t u32_at(struct slice v)
{
    struct wire_rd r = wire_rd(v);
    return wire_u32(&r);
}

static int put_chunk(struct storage_put *p, struct copy *c)
{
    uint32_t i = u32_at(meta_find(p->rec.meta, RT_CHUNK_INDEX));
    if (c->what == COPY_TOMB)
        return -SATCHEL_EEXIST;
    assert(i < CHUNKS_MAX);
    if (c->chunks[i] && !(p->flags & PUT_REPAIR))
        return 0;
    free(c->chunks[i]);
    c->chunks[i] = blob_new(p);
    return 0;
}

static int put_message(struct model *m, struct storage_put *p, const struct letter *l, struct copy *c)
{
    if (c->what == COPY_TOMB)
        return -SATCHEL_EEXIST;
    if (c->what == COPY_LIVE && !(p->flags & PUT_REPAIR))
        return copy_whole(c) ? 0 : -SATCHEL_ENOENT;
    free(c->msg);
    c->msg = blob_new(p);
    c->damaged = false;
    m->hot |= 1u << l->domain;
    if (c->what == COPY_LIVE)
        return copy_whole(c) ? 0 : -SATCHEL_ENOENT;
    c->what = COPY_LIVE;
    c->owed_n = 0;
    struct slice state = meta_find(p->rec.meta, RT_STATE);
    c->state = (struct msg_state){.items = l->items_n, .live = l->items_n};
    if (state.p && state_decode(state, &c->state) != 0)
        history_fail("a record of letter %u came with a state that cannot be read", l->number);
    struct slice chunks = meta_find(p->rec.meta, RT_CHUNKS);
    c->chunks_n = chunks.p ? u32_at(chunks) : 0;
    order_add(m, l);
    if (c->state.live == 0)
        copy_bury(m, l, c);
    return copy_whole(c) ? 0 : -SATCHEL_ENOENT;
}

static void check_record(struct model *m, const struct letter *l, const struct storage_put *p)
{
    struct slice domain = meta_find(p->rec.meta, RT_DOMAIN);
    if (p->rec.type == REC_MSG &&
        (p->rec.arrival_us != l->arrival_us || !slice_eq(domain, world_domain(world_of(m), l->domain))))
        history_fail("letter %u changed on its way: arrival %llu, was %llu", l->number,
                     (unsigned long long)p->rec.arrival_us, (unsigned long long)l->arrival_us);
}

static void copy_abort(struct model *m, const struct letter *l, struct copy *c)
{
    if (c->what == COPY_TOMB || c->claimed)
        return;
    if (c->what == COPY_LIVE)
        order_remove(m, l);
    copy_empty(c);
    c->what = COPY_NONE;
}

static int do_put(struct model *m, struct storage_put *p)
{
    struct letter *l = letter_of(m, &p->rec.id);
    if (!l)
        return -SATCHEL_EINVAL;
    struct copy *c = copy_need(m, l);
    int res = 0;
    check_record(m, l, p);
    if (p->rec.type == REC_CHUNK)
        res = put_chunk(p, c);
    else if (p->rec.type == REC_MSG)
        res = put_message(m, p, l, c);
    else if (p->rec.type == REC_ABORT)
        copy_abort(m, l, c);
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

static int do_merge(struct model *m, struct storage_merge *g)
{
    const struct letter *l = letter_of(m, &g->st.id);
    if (!l)
        return -SATCHEL_EINVAL;
    struct copy *c = copy_need(m, l);
    bool known = c->what != COPY_NONE;
    if (!known && g->st.state.live > 0)
        return -SATCHEL_ENOENT;
    if (c->what == COPY_LIVE && c->claimed)
        return -SATCHEL_EBUSY;
    if (!known)
        c->state = g->st.state;
    else
        state_union(&c->state, &g->st.state);
    trace("s%u merge letter %u: live %u", m->depot.number, l->number, c->state.live);
    if (c->state.live > 0) {
        m->hot |= 1u << l->domain;
        return 0;
    }
    if (c->what != COPY_TOMB) {
        c->owed_n = 0;
        owed_add_all(m, c, g->st.owed);
        copy_bury(m, l, c);
    }
    return 0;
}

static void do_finish(struct model *m, const struct op *o)
{
    struct letter *l = letter_of(m, &o->ids[0]);
    struct copy *c = m->copies[l->number];
    uint8_t uuids[OWED_MAX * 16];
    assert(c && c->what == COPY_LIVE);
    c->claimed = false;
    c->state = o->state;
    c->owed_n = 0;
    owed_add_all(m, c, c->msg->rec.copyset);
    if (!m->dying)
        owed_add_all(
            m, c,
            slice_of(uuids, m->env.holders(m->env.arg, world_domain(world_of(m), l->domain), uuids, sizeof uuids)));
    if (c->state.live == 0)
        copy_bury(m, l, c);
    else
        m->hot |= 1u << l->domain;
    trace("s%u finish letter %u: live %u, owed %u", m->depot.number, l->number, c->state.live, c->owed_n);
    if (m->tap && !m->dying) {
        struct storage_state st = state_of(m, l, c);
        m->tap(m->tap_arg, &st);
    }
    if (c->what == COPY_LIVE)
        c->owed_n = 0;
}

static void do_retire(struct model *m, const struct storage_id *gone)
{
    for (uint32_t i = 0; i < world_of(m)->letters.n; i++)
        if (m->copies[i] && m->copies[i]->what == COPY_TOMB)
            owed_remove(m, m->copies[i], gone);
}

static void do_ids(struct model *m, const struct op *o)
{
    for (size_t i = 0; i < o->ids_n; i++) {
        const struct letter *l = letter_of(m, &o->ids[i]);
        struct copy *c = l ? m->copies[l->number] : NULL;
        if (!c)
            continue;
        if (o->kind == OP_FORGET && c->what != COPY_TOMB) {
            trace("s%u forgets letter %u", m->depot.number, l->number);
            c->claimed = false;
            copy_abort(m, l, c);
        } else if (o->kind == OP_CONFIRM && c->what == COPY_TOMB) {
            owed_remove(m, c, &o->who);
        } else if (o->kind == OP_SETTLED && c->what == COPY_TOMB) {
            c->owed_n = 0;
            c->clear_us = c->clear_us ? c->clear_us : world_of(m)->now_us;
        }
    }
}

static int op_do(struct model *m, struct op *o)
{
    if (o->res != 0)
        return o->res;
    switch (o->kind) {
    case OP_PUT:
        return do_put(m, o->put);
    case OP_MERGE:
        return do_merge(m, o->merge);
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

static void op_end(struct op *o, int res)
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

static struct op *op_pop(struct model *m)
{
    struct op *o = m->ops;
    m->ops = o->next;
    if (!m->ops)
        m->ops_tail = &m->ops;
    return o;
}

/* ---- handing in */

/* One sync carries all that was handed in before: nobody waits longer than those behind him. */
static void op_push(struct model *m, struct op *o, bool lazy)
{
    uint64_t now = world_of(m)->now_us, due = now + between(&m->rng, 120, 900) + m->slow_us;
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
    simnode_wake(world_of(m)->nodes[world_of(m)->stores[m->depot.number].node], due);
}

static struct op *op_new(enum op_kind kind)
{
    struct op *o = calloc(1, sizeof *o);
    assert(o);
    o->kind = kind;
    return o;
}

static void op_ids(struct op *o, const struct msgid *ids, size_t n)
{
    o->ids = calloc(n + 1, sizeof *ids);
    assert(o->ids);
    if (n)
        memcpy(o->ids, ids, n * sizeof *ids);
    o->ids_n = n;
}

/* ---- the storage door */

static void st_put(struct storage *s, struct storage_put *p)
{
    struct model *m = of_storage(s);
    struct op *o = op_new(OP_PUT);
    o->put = p;
    if (m->full && p->rec.type != REC_ABORT)
        o->res = -SATCHEL_EFULL;
    op_push(m, o, p->flags & PUT_LAZY);
}

static void st_merge(struct storage *s, struct storage_merge *g)
{
    struct op *o = op_new(OP_MERGE);
    o->merge = g;
    op_push(of_storage(s), o, true);
}

/* Taken out of the bag at once, as by a claim; gone when that is durable. */
static size_t st_forget(struct storage *s, const struct msgid *ids, size_t n)
{
    struct model *m = of_storage(s);
    struct op *o = op_new(OP_FORGET);
    size_t taken = 0;
    op_ids(o, ids, n);
    o->ids_n = 0;
    for (size_t i = 0; i < n; i++) {
        struct copy *c = copy_of(m, &ids[i]);
        if (!c || c->what == COPY_TOMB || c->claimed)
            continue;
        c->claimed = true;
        o->ids[o->ids_n++] = ids[i];
        taken++;
    }
    op_push(m, o, true);
    return taken;
}

static void entry_of(const struct model *m, const struct letter *l, const struct copy *c, struct queue_entry *e_r)
{
    *e_r = (struct queue_entry){.domain = world_domain(world_of(m), l->domain),
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
    const struct copy *c = copy_of(m, id);
    if (!c || c->what != COPY_LIVE)
        return -SATCHEL_ENOENT;
    entry_of(m, letter_of(m, id), c, e_r);
    snprintf(domain_r, 256, "%.*s", SLICE_FMT(e_r->domain));
    return 0;
}

static int st_tomb(struct storage *s, const struct msgid *id, struct storage_state *st_r)
{
    struct model *m = of_storage(s);
    const struct copy *c = copy_of(m, id);
    if (!c || c->what != COPY_TOMB)
        return -SATCHEL_ENOENT;
    *st_r = state_of(m, letter_of(m, id), c);
    return 0;
}

static void bag_stat_of(struct model *m, uint32_t domain, struct bag_stat *st_r)
{
    *st_r = (struct bag_stat){0};
    for (uint32_t i = 0; i < m->order_n; i++) {
        const struct letter *l = letter_at(m, m->order[i]);
        const struct copy *c = m->copies[l->number];
        if (l->domain != domain)
            continue;
        if (st_r->messages++ == 0)
            st_r->oldest_us = l->arrival_us;
        st_r->bytes += record_size(&c->msg->rec) + (c->chunks_n ? l->body_bytes : 0);
        st_r->claimed += c->claimed;
        st_r->held += c->state.held;
        st_r->deferred += !c->state.held && c->state.due_us > 0;
        st_r->digest += queue_entry_digest(&l->id, &c->state);
    }
}

static void st_bags(struct storage *s, void (*each)(void *arg, struct slice domain, const struct bag_stat *st),
                    void *arg)
{
    struct model *m = of_storage(s);
    for (uint32_t d = 0; d < WORLD_DOMAINS; d++) {
        struct bag_stat st;
        bag_stat_of(m, d, &st);
        if (st.messages)
            each(arg, world_domain(world_of(m), d), &st);
    }
}

static uint32_t domain_of(const struct model *m, struct slice name)
{
    for (uint32_t d = 0; d < WORLD_DOMAINS; d++)
        if (slice_eq(name, world_domain(world_of(m), d)))
            return d;
    return UINT32_MAX;
}

static void st_bag(struct storage *s, struct slice domain, struct bag_stat *st_r)
{
    bag_stat_of(of_storage(s), domain_of(of_storage(s), domain), st_r);
}

/* The cursor is the number of the last letter shown: where it lies in the order never changes. */
static int st_list(struct storage *s, struct slice domain, struct slice after,
                   bool (*each)(void *arg, const struct queue_entry *e), void *arg, uint8_t *cursor_r,
                   size_t *cursor_n_r)
{
    struct model *m = of_storage(s);
    uint32_t at = 0, d = domain.n ? domain_of(m, domain) : UINT32_MAX, last = after.n ? u32_at(after) : 0;
    if (after.n) {
        at = order_place(m, letter_at(m, last));
        at += at < m->order_n && m->order[at] == last;
    }
    if (cursor_n_r)
        *cursor_n_r = after.n;
    if (cursor_r && after.n)
        memmove(cursor_r, after.p, after.n);
    for (; at < m->order_n; at++) {
        const struct letter *l = letter_at(m, m->order[at]);
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
    const struct copy *c = copy_of(m, id);
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
    struct letters *ls = &world_of(m)->letters;
    const struct letter *from = after ? letter_of(m, after) : NULL;
    uint32_t at = 0;
    while (from && at < ls->n && ls->by_key[at] != from->number)
        at++;
    for (at += from != NULL; at < ls->n; at++) {
        const struct copy *c = m->copies[ls->by_key[at]];
        if (!c || c->what != COPY_TOMB || !owes(c, to))
            continue;
        struct storage_state st = state_of(m, letter_at(m, ls->by_key[at]), c);
        if (!each(arg, &st))
            return;
    }
}

static void st_confirm(struct storage *s, const struct storage_id *to, const struct msgid *ids, size_t n)
{
    struct op *o = op_new(OP_CONFIRM);
    o->who = *to;
    op_ids(o, ids, n);
    op_push(of_storage(s), o, true);
}

static void st_settled(struct storage *s, const struct msgid *ids, size_t n)
{
    struct op *o = op_new(OP_SETTLED);
    op_ids(o, ids, n);
    op_push(of_storage(s), o, true);
}

static void st_retire(struct storage *s, const struct storage_id *gone)
{
    struct op *o = op_new(OP_RETIRE);
    o->who = *gone;
    op_push(of_storage(s), o, true);
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
    uint32_t d = domain_of(m, domain);
    if (d < WORLD_DOMAINS)
        m->hot |= 1u << d;
}

static void st_stat(struct storage *s, struct storage_stat *st_r)
{
    struct model *m = of_storage(s);
    *st_r = (struct storage_stat){.self = m->id, .messages = m->order_n, .room_bytes = m->full ? 0 : 1u << 30};
    for (uint32_t i = 0; i < world_of(m)->letters.n; i++) {
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
    const struct world *w = world_of(m);
    for (uint32_t s = 0; s < w->stores_n; s++)
        if (!w->stores[s].gone && w->stores[s].depot->ops->has(w->stores[s].depot, l) == DEPOT_LIVE &&
            cmap_storage(simcoord_truth(w->coord), &w->stores[s].id))
            history_fail("invariant 6: s%u drops its tombstone of letter %u, and s%u still has a copy", m->depot.number,
                         l->number, s);
}

/* Only a tombstone that everybody knows of, and only after a time in which no late copy can be under way. */
static void expire_tombs(struct model *m)
{
    for (uint32_t i = 0; i < world_of(m)->letters.n; i++) {
        struct copy *c = m->copies[i];
        if (!c || c->what != COPY_TOMB || c->owed_n > 0 || world_of(m)->now_us < c->clear_us + m->tomb_us)
            continue;
        check_tomb(m, letter_at(m, i));
        c->what = COPY_NONE;
    }
}

static void st_poll(struct storage *s)
{
    struct model *m = of_storage(s);
    while (m->ops && m->ops->due_us <= world_of(m)->now_us) {
        struct op *o = op_pop(m);
        op_end(o, op_do(m, o));
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

static const struct storage_ops storage_ops = {
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

/* ---- the outlet door */

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
                                 .domain = world_domain(world_of(m), l->domain),
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
    uint32_t d = domain_of(m, domain);
    size_t n = 0;
    for (uint32_t i = 0; i < m->order_n && n < cap; i++) {
        const struct letter *l = letter_at(m, m->order[i]);
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
    struct copy *c = copy_of(m, id);
    if (!c || c->what != COPY_LIVE)
        return -SATCHEL_ENOENT;
    if (c->claimed)
        return -SATCHEL_EBUSY;
    *msg_r = msg_new(m, letter_of(m, id));
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
    if (m->copies[x->number])
        m->copies[x->number]->claimed = false;
    free(x);
}

static int out_finish(struct outlet *o, struct outlet_msg *msg, const struct item_result *results, size_t n,
                      uint64_t due_us, bool held, const struct outlet_dsn *dsn)
{
    struct model *m = of_outlet(o);
    struct model_msg *x = msg->impl;
    struct op *p = op_new(OP_FINISH);
    (void)dsn;
    op_ids(p, &msg->id, 1);
    p->state = m->copies[x->number]->state;
    for (size_t i = 0; i < n; i++)
        state_finish(&p->state, results[i].item, results[i].end);
    p->state.seq++;
    p->state.attempts++;
    p->state.due_us = due_us;
    p->state.held = held && p->state.live > 0;
    op_push(m, p, true);
    free(x);
    return 0;
}

static bool out_may(struct outlet *o, const struct outlet_msg *msg)
{
    (void)o;
    (void)msg;
    return true;
}

static bool out_ready(struct outlet *o, struct slice *domain_r)
{
    struct model *m = of_outlet(o);
    for (uint32_t d = 0; d < WORLD_DOMAINS; d++)
        if (m->hot & 1u << d) {
            m->hot &= ~(1u << d);
            *domain_r = world_domain(world_of(m), d);
            return true;
        }
    return false;
}

static uint64_t out_next_due(struct outlet *o, struct slice domain)
{
    struct model *m = of_outlet(o);
    uint32_t d = domain_of(m, domain);
    uint64_t next = UINT64_MAX, now = clock_wall_us(m->env.clock);
    for (uint32_t i = 0; i < m->order_n; i++) {
        const struct copy *c = m->copies[m->order[i]];
        if (letter_at(m, m->order[i])->domain != d || c->state.held || c->claimed || c->damaged)
            continue;
        uint64_t due = c->state.due_us <= now ? 0 : c->state.due_us;
        next = due < next ? due : next;
    }
    return next;
}

static void out_stat(struct outlet *o, struct slice domain, struct bag_stat *st_r)
{
    bag_stat_of(of_outlet(o), domain_of(of_outlet(o), domain), st_r);
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

/* ---- the depot */

static int model_boot(struct depot *d, const struct depot_env *env)
{
    struct model *m = of(d);
    struct model_outlet *o = calloc(1, sizeof *o);
    assert(o && !m->running);
    o->outlet = (struct outlet){&outlet_ops, -1};
    o->m = m;
    d->outlet = &o->outlet;
    d->storage = &m->storage;
    m->env = *env;
    m->running = true;
    m->hot = (1u << WORLD_DOMAINS) - 1;
    for (uint32_t i = 0; i < m->order_n; i++)
        st_observe(&m->storage, letter_at(m, m->order[i])->arrival_us);
    return 0;
}

static void model_crash(struct depot *d, bool power)
{
    struct model *m = of(d);
    size_t n = 0, kept;
    m->dying = true;
    for (struct op *o = m->ops; o; o = o->next)
        n++;
    kept = power ? rng_below(&m->rng, n + 1) : chance(&m->rng, 60) ? n : rng_below(&m->rng, n + 1);
    for (size_t i = 0; m->ops; i++) {
        struct op *o = op_pop(m);
        if (i < kept)
            op_do(m, o);
        op_end(o, -SATCHEL_ESHUT);
    }
    for (uint32_t i = 0; i < world_of(m)->letters.n; i++)
        if (m->copies[i])
            m->copies[i]->claimed = false;
    m->dying = m->running = false;
    m->tap = NULL;
    m->last_due_us = 0;
    d->arrival_us = 0;
}

static enum depot_has model_has(struct depot *d, const struct letter *l)
{
    const struct copy *c = of(d)->copies[l->number];
    if (!c || c->what == COPY_NONE || (c->what == COPY_LIVE && !copy_whole(c)))
        return DEPOT_NONE;
    return c->what == COPY_LIVE ? DEPOT_LIVE : DEPOT_FINAL;
}

static bool model_damage(struct depot *d, const struct letter *l)
{
    struct copy *c = of(d)->copies[l->number];
    if (!c || c->what != COPY_LIVE || c->claimed)
        return false;
    c->damaged = true;
    return true;
}

static bool model_damaged(struct depot *d, const struct letter *l)
{
    const struct copy *c = of(d)->copies[l->number];
    return c && c->damaged;
}

static void model_slow(struct depot *d, uint64_t us)
{
    of(d)->slow_us = us;
}

static void model_full(struct depot *d, bool full)
{
    of(d)->full = full;
}

static uint64_t model_next(struct depot *d)
{
    return of(d)->ops ? of(d)->ops->due_us : UINT64_MAX;
}

static void model_destroy(struct depot **dp)
{
    struct model *m = of(*dp);
    assert(!m->ops);
    for (uint32_t i = 0; i < LETTERS_MAX; i++)
        if (m->copies[i]) {
            copy_empty(m->copies[i]);
            free(m->copies[i]);
        }
    free(m);
    *dp = NULL;
}

static const struct depot_ops depot_ops = {
    .boot = model_boot,
    .crash = model_crash,
    .has = model_has,
    .damage = model_damage,
    .damaged = model_damaged,
    .slow = model_slow,
    .full = model_full,
    .next_us = model_next,
    .destroy = model_destroy,
};

struct depot *depot_model_open(struct world *w, uint32_t number, const struct storage_id *id)
{
    struct model *m = calloc(1, sizeof *m);
    assert(m);
    m->depot = (struct depot){.ops = &depot_ops, .w = w, .number = number};
    m->storage = (struct storage){&storage_ops, -1};
    m->id = *id;
    m->ops_tail = &m->ops;
    rng_seed(&m->rng, rng_u64(&w->rng));
    m->depot.tombs_go = chance(&m->rng, 30);
    m->tomb_us = between(&m->rng, 30, 90) * SECOND_US;
    return &m->depot;
}
