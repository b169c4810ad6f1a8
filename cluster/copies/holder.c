/* holder.c - records that become durable on this storage: from peers, and the leg of our own requests.
 *
 * A PUT is never refused for what a map says.  It is copied once, since its payload is the link's, and answered when
 * the storage says so, on the link that it came by: an answer by a later link might meet another question.  A FORGET
 * that overtakes its PUT in the storage waits for it. */
#include "cluster/copies/copies_impl.h"

#include <string.h>

static void putop_free(struct putop *o)
{
    dlist_del(&o->link);
    fbuf_unref(o->frame);
    free(o);
}

static void put_ack(struct copies *c, struct cpeer *p, uint64_t request, const struct msgid *id, int res)
{
    struct fbuf *f = fbuf_new(FRAME_PUT_ACK, FRAME_PUT_ACK_VERSION, 8 + 4 + 8 + WIRE_ID_BYTES);
    if (!f)
        return;
    struct wire_wr w = fbuf_writer(f);
    wire_put_u64(&w, request);
    wire_put_u32(&w, (uint32_t)res);
    wire_put_u64(&w, c->newest_us);
    wire_put_id(&w, id);
    fbuf_end(f, &w);
    peer_send(c, p, f);
}

/* The sender has it live and should learn what became of it. */
static void tell_end(struct copies *c, struct cpeer *p, const struct msgid *id)
{
    struct storage_state st;
    if (c->env.storage->ops->tomb(c->env.storage, id, &st) == 0)
        ends_queue(c, p, &st);
}

static void put_answer(struct copies *c, struct putop *o, int res)
{
    struct cpeer *p = o->from;
    const struct msgid *id = &o->put.rec.id;
    struct job *j = o->epoch == p->epoch && o->token ? job_of(c, p, o->token) : NULL;
    p->put_bytes -= o->bytes;
    if (j) {
        j->pending--;
        c->info.repaired += res == 0;
        j->got += res == 0;
        if (res == 0 && o->put.rec.type == REC_MSG)
            compare_brought(c, &p->id, meta_find(o->put.rec.meta, RT_DOMAIN));
        if (res < 0 && res != -SATCHEL_EEXIST)
            j->res = res;
    }
    if (p->up && o->epoch == p->epoch) {
        put_ack(c, p, o->request, id, res);
        if (res == -SATCHEL_EEXIST)
            tell_end(c, p, id);
    }
    if (j)
        job_step(c, j);
}

/* As owner: a front-end whose map is older did not send it to all that are members now.  Who was left out is out of
 * sync, and no shard is handed to it before a comparison: it would deliver later mail first. */
static void left_out(struct copies *c, const struct record *rec)
{
    uint32_t shard = shard_of(c, meta_find(rec->meta, RT_DOMAIN));
    const struct cshard *s = shard == UINT32_MAX ? NULL : &c->shards[shard];
    for (uint32_t i = 0; s && s->sync && i < s->members_n; i++) {
        const struct storage_id *id = &s->sync[i].id;
        bool has = copies_is_self(c, id);
        for (size_t k = 0; !has && k + sizeof id->b <= rec->copyset.n; k += sizeof id->b)
            has = memcmp(rec->copyset.p + k, id->b, sizeof id->b) == 0;
        if (!has)
            compare_missed(c, shard, id);
    }
}

static void put_done(struct storage_put *put, int res)
{
    struct putop *o = put->arg;
    struct copies *c = o->c;
    if (c) {
        sums_dirty(c);
        if (res == 0 && o->request && o->token == 0 && put->rec.type == REC_MSG)
            left_out(c, &put->rec);
        if (o->from)
            put_answer(c, o, res);
        else if (o->request)
            request_acked(c, o->request, &c->cfg.self, &o->put.rec.id, res);
        if (o->forget) {
            struct msgid id = o->put.rec.id;
            putop_free(o);
            forget_here(c, &id);
            return;
        }
    }
    putop_free(o);
}

static struct putop *putop_new(struct copies *c)
{
    struct putop *o = calloc(1, sizeof *o);
    if (!o)
        return NULL;
    o->c = c;
    o->put.done = put_done;
    o->put.arg = o;
    dlist_add(&c->putops, &o->link);
    return o;
}

static void put_start(struct copies *c, struct putop *o)
{
    c->env.storage->ops->put(c->env.storage, &o->put);
}

int holder_local(struct copies *c, struct fbuf *frame, const struct record *rec, uint64_t request)
{
    struct putop *o = putop_new(c);
    if (!o)
        return -SATCHEL_ENOMEM;
    o->frame = fbuf_ref(frame);
    o->put.rec = *rec;
    o->request = request;
    put_start(c, o);
    return 0;
}

/* ---- from peers */

static struct fbuf *payload_copy(struct slice payload)
{
    struct fbuf *f = fbuf_new(FRAME_PUT, FRAME_PUT_VERSION, payload.n);
    if (!f)
        return NULL;
    struct wire_wr w = fbuf_writer(f);
    wire_put(&w, payload.p, payload.n);
    if (fbuf_end(f, &w) == 0)
        return f;
    fbuf_unref(f);
    return NULL;
}

static void put_take(struct copies *c, struct cpeer *from, struct putop *o, const struct wire_put *in)
{
    struct job *j = in->token ? job_of(c, from, in->token) : NULL;
    o->from = from;
    o->epoch = from->epoch;
    o->request = in->request;
    o->token = j ? in->token : 0;
    o->bytes = o->frame->n;
    o->put.rec = in->rec;
    o->put.flags = (in->token ? (uint32_t)PUT_LAZY : 0u) | (j && j->repair ? (uint32_t)PUT_REPAIR : 0u);
    from->put_bytes += o->bytes;
    if (j) {
        j->pending++;
        j->heard_us = copies_now(c);
    }
    copies_heard(c, in->rec.arrival_us);
    put_start(c, o);
}

static void put_refuse(struct copies *c, struct cpeer *from, const struct wire_put *in, int rc)
{
    struct job *j = in->token ? job_of(c, from, in->token) : NULL;
    put_ack(c, from, in->request, &in->rec.id, rc);
    if (j)
        j->res = rc;
}

void holder_put(struct copies *c, struct cpeer *from, struct slice payload)
{
    struct wire_put in = {.request = 0};
    struct fbuf *f = payload_copy(payload);
    if (!f)
        return; /* no memory; the sender finds somebody else */
    int rc = wire_put_parse(slice_of(f->data + FRAME_HEAD_BYTES, f->n - FRAME_HEAD_BYTES), &in);
    if (rc < 0)
        frame_bad(c, from, "PUT");
    else if (from->put_bytes + f->n > HOLDER_BYTES_MAX)
        rc = -SATCHEL_EAGAIN;
    struct putop *o = rc == 0 ? putop_new(c) : NULL;
    if (!o) {
        put_refuse(c, from, &in, rc ? rc : -SATCHEL_ENOMEM);
        fbuf_unref(f);
        return;
    }
    o->frame = f;
    put_take(c, from, o, &in);
}

/* ---- forgetting */

static struct putop *putop_find(struct copies *c, const struct msgid *id)
{
    struct dlist *it, *tmp;
    dlist_each(it, tmp, &c->putops)
    {
        struct putop *o = dlist_of(it, struct putop, link);
        if (o->put.rec.type != REC_ABORT && msgid_eq(&o->put.rec.id, id))
            return o;
    }
    return NULL;
}

void forget_here(struct copies *c, const struct msgid *id)
{
    struct queue_entry e;
    char domain[256];
    struct storage *s = c->env.storage;
    struct putop *o = putop_find(c, id);
    if (o) {
        o->forget = true;
        return;
    }
    sums_dirty(c);
    if (s->ops->find(s, id, &e, domain) == 0) {
        s->ops->forget(s, id, 1);
        return;
    }
    /* Its MSG is not here, chunks may be. */
    o = putop_new(c);
    if (!o)
        return;
    o->put.rec = (struct record){.type = REC_ABORT, .id = *id};
    o->put.flags = PUT_LAZY;
    put_start(c, o);
}

void holder_forget(struct copies *c, struct cpeer *from, struct slice payload)
{
    struct wire_rd r = wire_rd(payload);
    uint32_t n = wire_count(&r, WIRE_IDS_MAX, WIRE_ID_BYTES);
    if (r.bad)
        frame_bad(c, from, "FORGET");
    for (uint32_t i = 0; i < n; i++) {
        struct msgid id = wire_id(&r);
        forget_here(c, &id);
    }
}

/* What the storage still has is freed when it answers. */
void holder_close(struct copies *c)
{
    struct dlist *it, *tmp;
    dlist_each(it, tmp, &c->putops)
    {
        dlist_of(it, struct putop, link)->c = NULL;
        dlist_del(it);
    }
}
