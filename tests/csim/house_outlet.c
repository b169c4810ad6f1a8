/* house_outlet.c - the outlet door of a storage on a simulated disk: spool/door_out.c without its threads. */
#include "tests/csim/house_impl.h"

#define UUIDS_MAX 8

struct house_outlet {
    struct outlet outlet;
    struct house_depot *d;
    struct record rec; /* held for read */
};

struct house_msg {
    struct outlet_msg msg;
    struct slice rcpts[LETTER_ITEMS_MAX];
    struct claim claim;
    uint8_t copyset[REC_COPYSET_MAX * 16];
    size_t copyset_n;
};

static struct house_depot *of_outlet(struct outlet *o)
{
    return ((struct house_outlet *)o)->d;
}

/* NULL: its record cannot be read; the claim is given back. */
static struct outlet_msg *msg_new(struct house_depot *d, struct slice domain, const struct claim *c)
{
    struct record rec;
    if (segread_record(d->h.reader, c->pos, c->size, &rec) != 0) {
        history_fail("invariant 1: a claimed message of %.*s cannot be read", SLICE_FMT(domain));
        return NULL;
    }
    struct house_msg *x = calloc(1, sizeof *x);
    assert(x);
    x->claim = *c;
    x->copyset_n = rec.copyset.n;
    if (rec.copyset.n)
        memcpy(x->copyset, rec.copyset.p, rec.copyset.n);
    x->msg = (struct outlet_msg){.id = c->id,
                                 .arrival_us = c->arrival_us,
                                 .domain = world_domain(house_world(d), house_domain(d, domain)),
                                 .rcpts = x->rcpts,
                                 .rcpts_n = c->state.items,
                                 .bytes = c->body_bytes,
                                 .state = c->state,
                                 .impl = x};
    return &x->msg;
}

static size_t out_claim(struct outlet *o, struct slice domain, enum claim_mode mode, uint64_t before_us,
                        struct outlet_msg **msgs_r, size_t cap)
{
    struct house_depot *d = of_outlet(o);
    struct claim claims[4];
    size_t n = queue_claim(d->h.q, domain, mode, before_us, claims, cap < 4 ? cap : 4), kept = 0;
    for (size_t i = 0; i < n; i++)
        if ((msgs_r[kept] = msg_new(d, domain, &claims[i])))
            kept++;
    return kept;
}

static int out_claim_id(struct outlet *o, const struct msgid *id, struct outlet_msg **msg_r)
{
    struct house_depot *d = of_outlet(o);
    struct claim c;
    char domain[256];
    int res = queue_claim_id(d->h.q, id, &c, domain);
    if (res == 0)
        *msg_r = msg_new(d, slice_str(domain), &c);
    return res ? res : *msg_r ? 0 : -SATCHEL_EIO;
}

static int out_read(struct outlet *o, struct outlet_msg *msg, uint64_t off, size_t n, struct slice *data_r)
{
    struct house_depot *d = of_outlet(o);
    struct house_msg *x = msg->impl;
    struct record *rec = &((struct house_outlet *)o)->rec;
    uint64_t pos = x->claim.pos, at = off;
    uint32_t size = x->claim.size;
    int res = 0;
    if (x->claim.chunks) {
        uint32_t i = (uint32_t)(off / LETTER_CHUNK_BYTES);
        at = off % LETTER_CHUNK_BYTES;
        res = i < x->claim.chunks ? queue_chunk(d->h.q, &msg->id, i, &pos, &size) : -SATCHEL_ENOENT;
    }
    res = res ? res : segread_record(d->h.reader, pos, size, rec);
    if (res != 0 || at >= rec->body.n)
        return 0;
    *data_r = slice_of(rec->body.p + at, rec->body.n - at < n ? rec->body.n - at : n);
    return (int)data_r->n;
}

static void out_release(struct outlet *o, struct outlet_msg *msg)
{
    struct house_depot *d = of_outlet(o);
    if (d->h.q)
        queue_unclaim(d->h.q, &msg->id);
    free(msg->impl);
}

/* As door_out.c gathers them: who may hold copies now, then the copyset. */
static void owed_add(struct house_depot *d, struct finish_copies *c, uint8_t *uuids, const uint8_t *uuid)
{
    if (memcmp(uuid, d->id.b, 16) == 0 || c->owed.n == UUIDS_MAX * 16)
        return;
    for (size_t i = 0; i < c->owed.n; i += 16)
        if (memcmp(uuids + i, uuid, 16) == 0)
            return;
    memcpy(uuids + c->owed.n, uuid, 16);
    c->owed.n += 16;
}

static int out_finish(struct outlet *o, struct outlet_msg *msg, const struct item_result *results, size_t n,
                      uint64_t due_us, bool held, const struct outlet_dsn *dsn)
{
    struct house_depot *d = of_outlet(o);
    struct house_msg *x = msg->impl;
    uint8_t uuids[UUIDS_MAX * 16], holders[UUIDS_MAX * 16];
    struct finish_copies c = {.owed = slice_of(uuids, 0)};
    size_t holders_n = d->env.holders(d->env.arg, msg->domain, holders, sizeof holders);
    (void)dsn;
    for (size_t i = 0; i < holders_n; i += 16)
        owed_add(d, &c, uuids, holders + i);
    for (size_t i = 0; i < x->copyset_n; i += 16)
        owed_add(d, &c, uuids, x->copyset + i);
    house_disk_follow(d);
    int res = queue_finish(d->h.q, msg->domain, &x->claim, results, n, due_us, held, &c);
    free(x);
    house_wake(d, 0);
    return res;
}

static bool out_may(struct outlet *o, const struct outlet_msg *msg)
{
    (void)o;
    return !*((const struct house_msg *)msg->impl)->claim.over;
}

static bool out_ready(struct outlet *o, struct slice *domain_r)
{
    struct house_depot *d = of_outlet(o);
    for (uint32_t i = 0; i < WORLD_DOMAINS; i++)
        if (d->hot & 1u << i) {
            d->hot &= ~(1u << i);
            *domain_r = world_domain(house_world(d), i);
            return true;
        }
    return false;
}

static uint64_t out_next_due(struct outlet *o, struct slice domain)
{
    return queue_next_due(of_outlet(o)->h.q, domain);
}

static void out_stat(struct outlet *o, struct slice domain, struct bag_stat *st_r)
{
    queue_bag_stat(of_outlet(o)->h.q, domain, st_r);
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

struct outlet *house_outlet_open(struct house_depot *d)
{
    struct house_outlet *o = calloc(1, sizeof *o);
    assert(o);
    o->outlet = (struct outlet){&outlet_ops, -1};
    o->d = d;
    return &o->outlet;
}
