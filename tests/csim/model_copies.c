/* model_copies.c - the table of copies of a model of a storage, and the order of its bags. */
#include "tests/csim/model_impl.h"

struct letter *model_letter(struct model *m, const struct msgid *id)
{
    struct letter *l = letters_find(&model_world(m)->letters, id);
    if (!l)
        history_fail("invariant 3: a record or an end names a message that there never was");
    return l;
}

struct copy *model_copy(struct model *m, const struct msgid *id)
{
    const struct letter *l = model_letter(m, id);
    return l ? m->copies[l->number] : NULL;
}

struct copy *model_copy_need(struct model *m, const struct letter *l)
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

uint32_t model_place(const struct model *m, const struct letter *l)
{
    uint32_t lo = 0, hi = m->order_n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (letter_order(model_letter_at(m, m->order[mid]), l) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

void model_order_add(struct model *m, const struct letter *l)
{
    uint32_t at = model_place(m, l);
    memmove(&m->order[at + 1], &m->order[at], (m->order_n++ - at) * sizeof m->order[0]);
    m->order[at] = l->number;
}

void model_order_remove(struct model *m, const struct letter *l)
{
    uint32_t at = model_place(m, l);
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

struct blob *model_blob(const struct storage_put *p)
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

void model_copy_empty(struct copy *c)
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

void model_owed_add(struct model *m, struct copy *c, struct slice uuids)
{
    for (size_t i = 0; i + 16 <= uuids.n; i += 16)
        owed_add(m, c, uuids.p + i);
}

void model_owed_remove(struct model *m, struct copy *c, const struct storage_id *who)
{
    for (uint32_t i = 0; i < c->owed_n; i++)
        if (storage_id_eq(&c->owed[i], who))
            c->owed[i--] = c->owed[--c->owed_n];
    if (c->what == COPY_TOMB && c->owed_n == 0 && c->clear_us == 0)
        c->clear_us = model_world(m)->now_us;
}

static struct slice owed_slice(struct model *m, const struct copy *c)
{
    for (uint32_t i = 0; i < c->owed_n; i++)
        memcpy(m->owed_bytes + i * 16, c->owed[i].b, 16);
    return slice_of(m->owed_bytes, c->owed_n * 16);
}

struct storage_state model_state(struct model *m, const struct letter *l, const struct copy *c)
{
    return (struct storage_state){.id = l->id,
                                  .arrival_us = l->arrival_us,
                                  .domain = world_domain(model_world(m), l->domain),
                                  .owed = owed_slice(m, c),
                                  .state = c->state};
}

void model_bury(struct model *m, const struct letter *l, struct copy *c)
{
    if (c->what == COPY_LIVE)
        model_order_remove(m, l);
    model_copy_empty(c);
    c->what = COPY_TOMB;
    c->clear_us = c->owed_n == 0 ? model_world(m)->now_us : 0;
}

bool model_copy_whole(const struct copy *c)
{
    for (uint32_t i = 0; i < c->chunks_n; i++)
        if (!c->chunks[i])
            return false;
    return c->msg != NULL;
}

void model_copy_abort(struct model *m, const struct letter *l, struct copy *c)
{
    if (c->what == COPY_TOMB || c->claimed)
        return;
    if (c->what == COPY_LIVE)
        model_order_remove(m, l);
    model_copy_empty(c);
    c->what = COPY_NONE;
}

/* ---- bags */

uint32_t model_domain(const struct model *m, struct slice name)
{
    for (uint32_t d = 0; d < WORLD_DOMAINS; d++)
        if (slice_eq(name, world_domain(model_world(m), d)))
            return d;
    return UINT32_MAX;
}

void model_bag_stat(struct model *m, uint32_t domain, struct bag_stat *st_r)
{
    *st_r = (struct bag_stat){0};
    for (uint32_t i = 0; i < m->order_n; i++) {
        const struct letter *l = model_letter_at(m, m->order[i]);
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
