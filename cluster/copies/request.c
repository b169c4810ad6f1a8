/* request.c - a front-end's record on its way to enough storages.
 *
 * Each leg: WAIT -> SENT -> ACKED, or LOST from anywhere.  WAIT: the link's buffer is full, or (the MSG record of a
 * chunked message) a chunk is not acked by that storage yet.  The door hears as soon as `acks` distinct storages have
 * the record; the other legs go on, and what never comes of them is found by comparison.
 *
 * Diagnostics: copies.refused (too few storages in time, with how many there were). */
#include "cluster/copies/copies_impl.h"

#include <assert.h>

enum { REQ_LOOK_US = 50000 };

struct req {
    enum obj_kind kind;
    uint64_t id;
    struct dlist link;
    struct copy_request *cr; /* NULL: settled */
    struct plan *plan;       /* NULL: a message of one record */
    struct fbuf *frame;
    struct record rec; /* in the frame */
    uint32_t shard, need, acked, n;
    uint64_t t0_us, size;
    int refusal;  /* the disk's word of the last leg that was refused */
    bool silence; /* a leg was lost without a word */
    bool aborted;
    struct leg legs[LEGS_MAX];
};

/* ---- ends of a request */

static void req_settle(struct copies *c, struct req *r, int res)
{
    struct copy_request *cr = r->cr;
    r->cr = NULL;
    c->info.requests--;
    c->info.request_bytes -= r->size;
    cr->settled(cr, res);
}

static void req_free(struct copies *c, struct req *r)
{
    assert(!r->cr);
    slots_del(&c->slots, r->id);
    dlist_del(&r->link);
    fbuf_unref(r->frame);
    if (r->plan)
        plan_unref(c, r->plan);
    free(r);
}

static void leg_lose(struct copies *c, struct req *r, struct leg *l)
{
    l->state = LEG_LOST;
    int at = r->plan ? plan_index(r->plan, &l->to) : -1;
    if (at >= 0)
        r->plan->out[at] = true;
    if (!copies_is_self(c, &l->to))
        compare_missed(c, r->shard, &l->to);
}

static void forget_at(struct copies *c, const struct storage_id *to, const struct msgid *id)
{
    struct cpeer *p = peer_find(c, to);
    if (copies_is_self(c, to))
        forget_here(c, id);
    else if (p && p->up)
        peer_send(c, p, wire_ids_frame(FRAME_FORGET, FRAME_FORGET_VERSION, NULL, id, 1));
}

static void req_forget(struct copies *c, const struct req *r)
{
    for (uint32_t i = 0; i < r->n; i++)
        if (r->legs[i].state != LEG_WAIT)
            forget_at(c, &r->legs[i].to, &r->rec.id);
    for (uint32_t i = 0; r->plan && i < r->plan->n; i++)
        forget_at(c, &r->plan->to[i], &r->rec.id);
}

static void req_refuse(struct copies *c, struct req *r)
{
    char id[MSGID_TEXT_MAX];
    int res = r->silence || !r->refusal ? -SATCHEL_EAGAIN : r->refusal;
    msgid_format(&r->rec.id, id);
    log_warning("copies.refused", "id=%s acks=%u of=%u legs=%u reason=\"%s\"", id, r->acked, r->need, r->n,
                satchel_strerror(res));
    c->info.aborted++;
    metric_add(M_COPIES_ABORTED, 1);
    req_forget(c, r);
    for (uint32_t i = 0; r->plan && i < r->plan->n; i++)
        r->plan->out[i] = true; /* what follows of this message would have a hole */
    req_settle(c, r, res);
    req_free(c, r);
}

/* ---- legs */

static bool leg_may_go(const struct req *r, const struct leg *l)
{
    if (!r->plan || r->rec.type != REC_MSG)
        return true;
    int at = plan_index(r->plan, &l->to);
    return at >= 0 && r->plan->unacked[at] == 0;
}

static void leg_send(struct copies *c, struct req *r, struct leg *l)
{
    int rc;
    if (!leg_may_go(r, l))
        return;
    if (copies_is_self(c, &l->to)) {
        rc = holder_local(c, r->frame, &r->rec, r->id);
    } else {
        struct cpeer *p = peer_find(c, &l->to);
        rc = p && p->up ? peer_send(c, p, fbuf_ref(r->frame)) : -SATCHEL_ENOENT;
    }
    if (rc == 0) {
        l->state = LEG_SENT;
    } else if (rc != -SATCHEL_EAGAIN) {
        r->silence = true;
        leg_lose(c, r, l);
    }
}

static void leg_add(struct copies *c, struct req *r, const struct storage_id *to)
{
    struct leg *l = &r->legs[r->n++];
    *l = (struct leg){.to = *to, .state = LEG_WAIT, .since_us = copies_now(c)};
    int at = r->plan ? plan_index(r->plan, to) : -1;
    if (at >= 0 && r->rec.type == REC_CHUNK)
        r->plan->unacked[at]++;
}

/* Someone else for a leg that is lost or late.  A message that has records elsewhere already stays where it is. */
static void leg_replace(struct copies *c, struct req *r, struct leg *l)
{
    struct storage_id used[LEGS_MAX], to;
    if (l->replaced || !r->cr || r->n == LEGS_MAX || (r->plan && (r->plan->started || r->plan->over)))
        return;
    for (uint32_t i = 0; i < r->n; i++)
        used[i] = r->legs[i].to;
    if (!plan_standin(c, r->shard, used, r->n, &to))
        return;
    l->replaced = true;
    c->info.standins++;
    metric_add(M_COPIES_STANDINS, 1);
    if (r->plan && r->plan->n < LEGS_MAX)
        r->plan->to[r->plan->n++] = to;
    leg_add(c, r, &to);
    leg_send(c, r, &r->legs[r->n - 1]);
}

static uint32_t legs_open(const struct req *r)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->n; i++)
        n += r->legs[i].state == LEG_WAIT || r->legs[i].state == LEG_SENT;
    return n;
}

/* A storage that missed an earlier record of the message is out for the rest of it. */
static void legs_drop_out(struct copies *c, struct req *r)
{
    for (uint32_t i = 0; r->plan && i < r->n; i++) {
        struct leg *l = &r->legs[i];
        int at = plan_index(r->plan, &l->to);
        if (l->state == LEG_WAIT && (r->aborted || (at >= 0 && r->plan->out[at])))
            leg_lose(c, r, l);
    }
}

/* After each change: sends what may go, replaces what is lost, settles, frees. Returns false when it is gone. */
static bool req_step(struct copies *c, struct req *r)
{
    legs_drop_out(c, r);
    for (uint32_t i = 0; i < r->n; i++)
        if (r->legs[i].state == LEG_WAIT)
            leg_send(c, r, &r->legs[i]);
    for (uint32_t i = 0; i < r->n && r->cr; i++)
        if (r->legs[i].state == LEG_LOST)
            leg_replace(c, r, &r->legs[i]);
    if (r->cr && r->acked >= r->need)
        req_settle(c, r, 0);
    if (r->cr && r->acked + legs_open(r) < r->need) {
        req_refuse(c, r);
        return false;
    }
    if (!r->cr && legs_open(r) == 0) {
        req_free(c, r);
        return false;
    }
    return true;
}

static struct req *req_find(struct copies *c, uint64_t request)
{
    struct req *r = slots_get(&c->slots, request);
    return r && r->kind == OBJ_REQUEST ? r : NULL;
}

/* The other records of its message: their turn may have come. */
static void plan_wake(struct copies *c, struct plan *p)
{
    struct dlist *it, *tmp;
    p->refs++;
    dlist_each(it, tmp, &c->reqs)
    {
        struct req *r = dlist_of(it, struct req, link);
        if (r->plan == p)
            req_step(c, r);
    }
    plan_unref(c, p);
}

void request_acked(struct copies *c, uint64_t request, const struct storage_id *from, const struct msgid *id, int res)
{
    struct req *r = req_find(c, request);
    struct leg *l = NULL;
    for (uint32_t i = 0; r && i < r->n; i++)
        if (storage_id_eq(&r->legs[i].to, from) && r->legs[i].state == LEG_SENT)
            l = &r->legs[i];
    if (!l || !msgid_eq(&r->rec.id, id))
        return;
    struct plan *p = r->plan;
    int at = p ? plan_index(p, from) : -1;
    if (res == 0 || res == -SATCHEL_EEXIST) { /* final there: as safe as it gets */
        l->state = LEG_ACKED;
        r->acked++;
        if (at >= 0 && r->rec.type == REC_CHUNK)
            p->unacked[at]--;
    } else {
        r->refusal = res;
        leg_lose(c, r, l);
    }
    bool chunk = r->rec.type == REC_CHUNK;
    if (p)
        p->refs++;
    req_step(c, r);
    if (p && chunk)
        plan_wake(c, p);
    if (p)
        plan_unref(c, p);
}

/* ---- a new request */

static void answer_later(struct copies *c, struct mail **list, struct copy_request *cr)
{
    cr->mail.next = *list;
    *list = &cr->mail;
    copies_wake(c, 0);
}

static bool req_encode(struct req *r, const struct copy_request *cr, const struct storage_id *to, uint32_t n)
{
    struct wire_put p = {.request = r->id, .copies = (uint16_t)n, .rec = cr->rec};
    uint32_t copyset = n < REC_COPYSET_MAX ? n : REC_COPYSET_MAX;
    p.rec.copyset = slice_of(to, copyset * sizeof *to);
    r->frame = wire_put_frame(&p, cr->body_parts, cr->body_parts_n, &r->rec);
    return r->frame != NULL;
}

static struct req *req_new(struct copies *c, struct copy_request *cr, uint32_t shard, struct plan *plan)
{
    struct storage_id to[LEGS_MAX];
    struct req *r = shard == UINT32_MAX ? NULL : calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->kind = OBJ_REQUEST;
    r->shard = shard;
    r->need = cmap_shard_pool(c->map, c->shards[shard].map)->acks;
    r->t0_us = copies_now(c);
    uint32_t n = 0;
    for (uint32_t i = 0; plan && i < plan->n; i++)
        if (!plan->out[i])
            to[n++] = plan->to[i];
    if (!plan)
        n = plan_choose(c, shard, to);
    r->id = slots_add(&c->slots, r);
    if (n < r->need || !r->id || !req_encode(r, cr, to, n)) {
        slots_del(&c->slots, r->id);
        free(r);
        return NULL;
    }
    r->plan = plan;
    if (plan)
        plan->refs++;
    r->cr = cr;
    r->size = r->rec.body.n;
    for (uint32_t i = 0; i < n; i++)
        leg_add(c, r, &to[i]);
    dlist_add(&c->reqs, &r->link);
    c->info.requests++;
    c->info.request_bytes += r->size;
    return r;
}

/* Who may have something of a message that is to be forgotten. */
static void request_abort(struct copies *c, struct copy_request *cr)
{
    struct storage_id to[LEGS_MAX];
    struct plan *p = plan_find(c, &cr->rec.id);
    uint32_t shard = shard_of(c, cr->domain), n = p ? p->n : 0;
    if (p)
        memcpy(to, p->to, sizeof to);
    else if (shard != UINT32_MAX)
        n = plan_choose(c, shard, to);
    struct dlist *it, *tmp;
    dlist_each(it, tmp, &c->reqs)
    {
        struct req *r = dlist_of(it, struct req, link);
        r->aborted |= msgid_eq(&r->rec.id, &cr->rec.id);
    }
    for (uint32_t i = 0; i < n; i++)
        forget_at(c, &to[i], &cr->rec.id);
    if (p && !p->over) {
        p->over = true;
        plan_unref(c, p);
    }
    answer_later(c, &c->done, cr);
}

static bool is_first(const struct record *rec)
{
    struct slice v = meta_find(rec->meta, RT_CHUNK_INDEX);
    struct wire_rd r = wire_rd(v);
    return rec->type == REC_CHUNK && v.p && wire_u32(&r) == 0 && !r.bad;
}

/* NULL: its first record is not known (any more), so nobody knows who has it. */
static struct plan *plan_for(struct copies *c, const struct copy_request *cr, uint32_t shard)
{
    struct plan *p = plan_find(c, &cr->rec.id);
    if (p)
        p->started = true;
    else if (is_first(&cr->rec))
        p = plan_new(c, &cr->rec.id, shard);
    if (p)
        p->touched_us = copies_now(c);
    return p;
}

void copies_request(struct copies *c, struct copy_request *cr)
{
    if (cr->rec.type == REC_ABORT) {
        request_abort(c, cr);
        return;
    }
    bool parts = cr->rec.type == REC_CHUNK || (cr->rec.flags & REC_F_CHUNKED);
    uint32_t shard = shard_of(c, cr->domain);
    struct plan *plan = parts && shard != UINT32_MAX ? plan_for(c, cr, shard) : NULL;
    struct req *r = shard != UINT32_MAX && (plan || !parts) ? req_new(c, cr, plan ? plan->shard : shard, plan) : NULL;
    copies_heard(c, cr->rec.arrival_us);
    if (!r)
        answer_later(c, &c->refused, cr);
    if (plan && cr->rec.type == REC_MSG && !plan->over) {
        plan->over = true;
        plan_unref(c, plan);
    }
    if (!r)
        return;
    /* Legs are sent here; whatever settles it at once waits for the tick, so that the door is not called back from
     * within its own call. */
    for (uint32_t i = 0; i < r->n; i++)
        leg_send(c, r, &r->legs[i]);
    if (legs_open(r) < r->n)
        c->req_look_us = 0;
    copies_wake(c, c->req_look_us);
}

/* ---- links and time */

/* A process that starts again has forgotten the chunks that it had without their message. */
static void plans_down(struct copies *c, const struct storage_id *peer)
{
    struct dlist *it, *tmp;
    for (int i = 0; i < 256; i++)
        dlist_each(it, tmp, &c->plans[i])
        {
            struct plan *p = dlist_of(it, struct plan, link);
            int at = plan_index(p, peer);
            if (at >= 0)
                p->out[at] = true;
        }
}

void request_down(struct copies *c, const struct storage_id *peer)
{
    struct dlist *it, *tmp;
    plans_down(c, peer);
    dlist_each(it, tmp, &c->reqs)
    {
        struct req *r = dlist_of(it, struct req, link);
        bool lost = false;
        for (uint32_t i = 0; i < r->n; i++) {
            struct leg *l = &r->legs[i];
            if (!storage_id_eq(&l->to, peer) || l->state > LEG_SENT)
                continue;
            c->info.unaccounted += l->state == LEG_SENT;
            r->silence = lost = true;
            leg_lose(c, r, l);
        }
        if (lost)
            req_step(c, r);
    }
}

void request_room(struct copies *c)
{
    struct dlist *it, *tmp;
    dlist_each(it, tmp, &c->reqs) req_step(c, dlist_of(it, struct req, link));
}

static void req_late(struct copies *c, struct req *r, uint64_t now)
{
    for (uint32_t i = 0, n = r->n; i < n; i++) {
        struct leg *l = &r->legs[i];
        if ((l->state == LEG_SENT || l->state == LEG_WAIT) && now - l->since_us >= c->cfg.standin_us) {
            r->silence = true;
            leg_replace(c, r, l);
        }
    }
}

static void req_give_up(struct copies *c, struct req *r)
{
    if (r->cr) {
        req_refuse(c, r);
        return;
    }
    for (uint32_t i = 0; i < r->n; i++)
        if (r->legs[i].state <= LEG_SENT)
            leg_lose(c, r, &r->legs[i]);
    req_free(c, r);
}

static void settle_list(struct mail **list, int res)
{
    while (*list) {
        struct copy_request *cr = (struct copy_request *)((char *)*list - offsetof(struct copy_request, mail));
        *list = cr->mail.next;
        cr->settled(cr, res);
    }
}

void request_tick(struct copies *c, uint64_t now)
{
    struct dlist *it, *tmp;
    settle_list(&c->refused, -SATCHEL_EAGAIN);
    settle_list(&c->done, 0);
    if (now < c->req_look_us) {
        if (!dlist_empty(&c->reqs))
            copies_wake(c, c->req_look_us);
        return;
    }
    c->req_look_us = now + REQ_LOOK_US;
    dlist_each(it, tmp, &c->reqs)
    {
        struct req *r = dlist_of(it, struct req, link);
        if (r->cr && now - r->t0_us >= c->cfg.standin_us)
            req_late(c, r, now);
        if (req_step(c, r) && now - r->t0_us >= c->cfg.giveup_us)
            req_give_up(c, r);
    }
    if (!dlist_empty(&c->reqs))
        copies_wake(c, c->req_look_us);
    plans_tick(c, now);
}

/* A shard that is gone takes no stand-ins; what is under way goes on. */
void requests_map(struct copies *c, const uint32_t *remap)
{
    struct dlist *it, *tmp;
    dlist_each(it, tmp, &c->reqs)
    {
        struct req *r = dlist_of(it, struct req, link);
        r->shard = r->shard == UINT32_MAX ? UINT32_MAX : remap[r->shard];
    }
    for (int i = 0; i < 256; i++)
        dlist_each(it, tmp, &c->plans[i])
        {
            struct plan *p = dlist_of(it, struct plan, link);
            p->shard = p->shard == UINT32_MAX ? UINT32_MAX : remap[p->shard];
        }
}

void request_close(struct copies *c)
{
    struct dlist *it, *tmp;
    settle_list(&c->refused, -SATCHEL_ESHUT);
    settle_list(&c->done, 0);
    dlist_each(it, tmp, &c->reqs)
    {
        struct req *r = dlist_of(it, struct req, link);
        if (r->cr)
            req_settle(c, r, -SATCHEL_ESHUT);
        req_free(c, r);
    }
    plans_close(c);
}
