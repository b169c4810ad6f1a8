/* census.c - messages of a log by their IDs. */
#include "cluster/shared/census.h"

#include "spool/base/err.h"
#include "spool/base/status.h"
#include "spool/base/wire.h"
#include "spool/base/xxh.h"

#include <stdlib.h>

enum { STATE_BYTES = 64 + STATE_ITEMS_MAX / 2, NO_NAME = UINT32_MAX };

struct part {
    uint64_t pos;
    uint32_t size, index, before; /* the chunk seen before, counted from 1 */
};

struct name {
    uint8_t n, text[255];
};

/* Places of things by hash, counted from 1; 0: free. */
struct places {
    uint32_t *at;
    uint32_t cap, n;
};

struct census {
    struct census_entry *entries;
    struct part *parts;
    struct name *names;
    uint32_t *live, *ends;
    uint32_t entries_n, entries_cap, parts_n, parts_cap, names_n, names_cap, live_n, live_cap, ends_n, ends_cap;
    struct places by_id, by_name;
};

int census_open(struct census **c_r)
{
    *c_r = calloc(1, sizeof **c_r);
    return *c_r ? 0 : -SATCHEL_ENOMEM;
}

void census_close(struct census **cp)
{
    struct census *c = *cp;
    if (!c)
        return;
    for (uint32_t i = 0; i < c->entries_n; i++)
        free(c->entries[i].state);
    free(c->entries);
    free(c->parts);
    free(c->names);
    free(c->live);
    free(c->ends);
    free(c->by_id.at);
    free(c->by_name.at);
    free(c);
    *cp = NULL;
}

/* ---- growing */

static bool grow(void **v, uint32_t n, uint32_t *cap, size_t size)
{
    if (n < *cap)
        return true;
    uint32_t more = *cap ? *cap * 2 : 1024;
    void *now = realloc(*v, more * size);
    if (!now)
        return false;
    *v = now;
    *cap = more;
    return true;
}

static uint64_t hash_of(struct slice s)
{
    return XXH3_64bits(s.p, s.n);
}

static uint64_t id_hash(const struct msgid *id)
{
    return hash_of(slice_of(id, sizeof *id));
}

static void places_put(struct places *p, uint64_t hash, uint32_t place)
{
    uint64_t i = hash & (p->cap - 1);
    while (p->at[i])
        i = (i + 1) & (p->cap - 1);
    p->at[i] = place;
}

static uint64_t entry_hash(const struct census *c, uint32_t place)
{
    return id_hash(&c->entries[place - 1].id);
}

static uint64_t name_hash(const struct census *c, uint32_t place)
{
    return hash_of(slice_of(c->names[place - 1].text, c->names[place - 1].n));
}

/* Half full at most. */
static bool places_room(const struct census *c, struct places *p,
                        uint64_t (*hash)(const struct census *c, uint32_t place))
{
    if ((p->n + 1) * 2 <= p->cap)
        return true;
    struct places bigger = {.cap = p->cap ? p->cap * 2 : 2048, .n = p->n};
    bigger.at = calloc(bigger.cap, sizeof *bigger.at);
    if (!bigger.at)
        return false;
    for (uint32_t i = 0; i < p->cap; i++)
        if (p->at[i])
            places_put(&bigger, hash(c, p->at[i]), p->at[i]);
    free(p->at);
    *p = bigger;
    return true;
}

/* ---- entries and names */

struct census_entry *census_find(struct census *c, const struct msgid *id)
{
    if (c->by_id.cap == 0)
        return NULL;
    for (uint64_t i = id_hash(id) & (c->by_id.cap - 1); c->by_id.at[i]; i = (i + 1) & (c->by_id.cap - 1))
        if (msgid_eq(&c->entries[c->by_id.at[i] - 1].id, id))
            return &c->entries[c->by_id.at[i] - 1];
    return NULL;
}

static struct census_entry *entry_need(struct census *c, const struct msgid *id)
{
    struct census_entry *e = census_find(c, id);
    if (e)
        return e;
    if (!grow((void **)&c->entries, c->entries_n, &c->entries_cap, sizeof *c->entries) ||
        !places_room(c, &c->by_id, entry_hash))
        return NULL;
    e = &c->entries[c->entries_n++];
    *e = (struct census_entry){.id = *id, .domain = NO_NAME};
    c->by_id.n++;
    places_put(&c->by_id, id_hash(id), c->entries_n);
    return e;
}

static uint32_t name_need(struct census *c, struct slice domain)
{
    if (domain.n == 0 || domain.n > 255)
        return NO_NAME;
    uint64_t hash = hash_of(domain);
    for (uint64_t i = hash; c->by_name.cap && c->by_name.at[i & (c->by_name.cap - 1)]; i++) {
        uint32_t at = c->by_name.at[i & (c->by_name.cap - 1)] - 1;
        if (slice_eq(slice_of(c->names[at].text, c->names[at].n), domain))
            return at;
    }
    if (!grow((void **)&c->names, c->names_n, &c->names_cap, sizeof *c->names) ||
        !places_room(c, &c->by_name, name_hash))
        return NO_NAME;
    struct name *n = &c->names[c->names_n++];
    n->n = (uint8_t)domain.n;
    memcpy(n->text, domain.p, domain.n);
    c->by_name.n++;
    places_put(&c->by_name, hash, c->names_n);
    return c->names_n - 1;
}

static int end_note(struct census *c, const struct census_entry *e)
{
    if (!grow((void **)&c->ends, c->ends_n, &c->ends_cap, sizeof *c->ends))
        return -SATCHEL_ENOMEM;
    c->ends[c->ends_n++] = (uint32_t)(e - c->entries);
    return 0;
}

/* ---- states */

bool census_state(const struct census_entry *e, struct msg_state *s_r)
{
    uint16_t n;
    if (!e->state)
        return false;
    memcpy(&n, e->state, sizeof n);
    return state_decode(slice_of(e->state + sizeof n, n), s_r) == 0;
}

static int state_keep(struct census_entry *e, const struct msg_state *s)
{
    uint8_t text[STATE_BYTES];
    uint16_t n = (uint16_t)state_encode(s, text, sizeof text);
    uint8_t *p = n ? malloc(sizeof n + n) : NULL;
    if (!p)
        return -SATCHEL_ENOMEM;
    memcpy(p, &n, sizeof n);
    memcpy(p + sizeof n, text, n);
    free(e->state);
    e->state = p;
    return 0;
}

static bool untried(const struct msg_state *s)
{
    return s->seq == 0 && s->live == s->items && s->due_us == 0 && !s->held;
}

/* Final items stay final; for the rest the later state counts. */
static int state_learn(struct census_entry *e, const struct msg_state *news)
{
    struct msg_state known, both = *news;
    if (census_state(e, &known) && known.items == news->items) {
        both = news->seq >= known.seq ? *news : known;
        for (uint32_t i = 0; i < both.items; i++) {
            state_finish(&both, i, state_end(&known, i));
            state_finish(&both, i, state_end(news, i));
        }
    }
    return untried(&both) ? 0 : state_keep(e, &both);
}

static int learn_meta(struct census_entry *e, struct slice meta)
{
    struct msg_state s;
    struct slice v = meta_find(meta, RT_STATE);
    return v.p && state_decode(v, &s) == 0 ? state_learn(e, &s) : 0;
}

/* ---- records */

static uint32_t meta_u32(struct slice meta, uint16_t tag)
{
    struct slice v = meta_find(meta, tag);
    struct wire_rd r = wire_rd(v);
    return v.p ? wire_u32(&r) : 0;
}

static int take_msg(struct census *c, const struct record *rec, uint64_t pos, uint32_t size)
{
    struct census_entry *e = entry_need(c, &rec->id);
    uint32_t domain = name_need(c, meta_find(rec->meta, RT_DOMAIN));
    if (!e)
        return -SATCHEL_ENOMEM;
    uint32_t items = meta_rcpts(rec->meta);
    if (e->flags & CENSUS_FINAL || domain == NO_NAME || items == 0 || items > STATE_ITEMS_MAX)
        return 0;
    e->flags = (uint8_t)((e->flags | CENSUS_MSG) & ~CENSUS_BAD);
    e->arrival_us = rec->arrival_us;
    e->pos = pos;
    e->size = size;
    e->domain = domain;
    e->items = (uint16_t)items;
    e->chunks = rec->flags & REC_F_CHUNKED ? meta_u32(rec->meta, RT_CHUNKS) : 0;
    return learn_meta(e, rec->meta);
}

static int take_chunk(struct census *c, const struct record *rec, uint64_t pos, uint32_t size)
{
    struct census_entry *e = entry_need(c, &rec->id);
    if (!e || !grow((void **)&c->parts, c->parts_n, &c->parts_cap, sizeof *c->parts))
        return -SATCHEL_ENOMEM;
    c->parts[c->parts_n++] = (struct part){pos, size, meta_u32(rec->meta, RT_CHUNK_INDEX), e->chunk};
    e->chunk = c->parts_n;
    return 0;
}

static int take_final(struct census *c, struct census_entry *e, const struct record *rec, uint64_t pos, uint32_t size)
{
    struct slice domain = meta_find(rec->meta, RT_DOMAIN);
    if (e->flags & CENSUS_FINAL)
        return 0;
    e->flags = (uint8_t)((e->flags | CENSUS_FINAL) & ~CENSUS_MSG);
    e->arrival_us = rec->arrival_us ? rec->arrival_us : e->arrival_us;
    e->domain = domain.p ? name_need(c, domain) : e->domain;
    e->pos = pos;
    e->size = size;
    e->chunk = e->chunks = 0;
    return end_note(c, e);
}

/* Some recipients.  Where the DEFER behind it was lost, what it says is known all the same. */
static int take_results(struct census *c, struct census_entry *e, const struct record *rec)
{
    struct msg_state s = {0};
    struct wire_rd r = wire_rd(rec->meta);
    struct meta_tlv t;
    struct smtp_status unused;
    uint32_t item;
    enum item_end end;
    if (!census_state(e, &s))
        s.items = s.live = e->items;
    while (meta_next(&r, &t))
        if (t.tag == RT_RESULT && result_parse(t.value, &item, &end, &unused) == 0 && item < s.items)
            state_finish(&s, item, end);
    int rc = state_keep(e, &s);
    return rc ? rc : end_note(c, e);
}

static int take_done(struct census *c, const struct record *rec, uint64_t pos, uint32_t size)
{
    struct census_entry *e = entry_need(c, &rec->id);
    if (!e)
        return -SATCHEL_ENOMEM;
    return rec->flags & REC_F_FINAL ? take_final(c, e, rec, pos, size) : take_results(c, e, rec);
}

static int take_defer(struct census *c, const struct record *rec)
{
    struct census_entry *e = entry_need(c, &rec->id);
    if (!e)
        return -SATCHEL_ENOMEM;
    if (e->flags & CENSUS_FINAL)
        return 0;
    int rc = learn_meta(e, rec->meta);
    return rc ? rc : end_note(c, e);
}

static int take_abort(struct census *c, const struct record *rec, uint64_t pos)
{
    struct census_entry *e = census_find(c, &rec->id);
    struct slice v = meta_find(rec->meta, RT_UPTO);
    struct wire_rd r = wire_rd(v);
    uint64_t upto = v.p ? wire_u64(&r) : pos;
    if (!e || e->flags & CENSUS_FINAL)
        return 0;
    if (e->flags & CENSUS_MSG && e->pos >= upto)
        return 0;
    e->flags &= (uint8_t)~CENSUS_MSG;
    while (e->chunk && c->parts[e->chunk - 1].pos < upto)
        e->chunk = c->parts[e->chunk - 1].before;
    return 0;
}

int census_record(struct census *c, const struct record *rec, uint64_t pos, uint32_t size)
{
    switch (rec->type) {
    case REC_MSG:
        return take_msg(c, rec, pos, size);
    case REC_CHUNK:
        return take_chunk(c, rec, pos, size);
    case REC_DONE:
        return take_done(c, rec, pos, size);
    case REC_DEFER:
        return take_defer(c, rec);
    case REC_ABORT:
        return take_abort(c, rec, pos);
    default:
        return 0;
    }
}

/* ---- looking */

static int by_arrival(const void *a, const void *b, void *arg)
{
    const struct census_entry *entries = arg, *x = &entries[*(const uint32_t *)a], *y = &entries[*(const uint32_t *)b];
    if (x->arrival_us != y->arrival_us)
        return x->arrival_us < y->arrival_us ? -1 : 1;
    return (x->id.counter > y->id.counter) - (x->id.counter < y->id.counter);
}

int census_sort(struct census *c)
{
    c->live_n = 0;
    for (uint32_t i = 0; i < c->entries_n; i++) {
        if (!(c->entries[i].flags & CENSUS_MSG))
            continue;
        if (!grow((void **)&c->live, c->live_n, &c->live_cap, sizeof *c->live))
            return -SATCHEL_ENOMEM;
        c->live[c->live_n++] = i;
    }
    if (c->live_n)
        qsort_r(c->live, c->live_n, sizeof *c->live, by_arrival, c->entries);
    return 0;
}

uint32_t census_n(const struct census *c)
{
    return c->entries_n;
}

struct census_entry *census_at(struct census *c, uint32_t i)
{
    return &c->entries[i];
}

uint32_t census_live_n(const struct census *c)
{
    return c->live_n;
}

struct census_entry *census_live(struct census *c, uint32_t i)
{
    return &c->entries[c->live[i]];
}

uint32_t census_ends_n(const struct census *c)
{
    return c->ends_n;
}

struct census_entry *census_end(struct census *c, uint32_t i)
{
    return &c->entries[c->ends[i]];
}

uint32_t census_names_n(const struct census *c)
{
    return c->names_n;
}

struct slice census_name(const struct census *c, uint32_t i)
{
    return slice_of(c->names[i].text, c->names[i].n);
}

bool census_chunk(const struct census *c, const struct census_entry *e, uint32_t index, uint64_t *pos_r,
                  uint32_t *size_r)
{
    for (uint32_t at = e->chunk; at; at = c->parts[at - 1].before) {
        const struct part *p = &c->parts[at - 1];
        if (p->index != index)
            continue;
        *pos_r = p->pos;
        *size_r = p->size;
        return true;
    }
    return false;
}
