/* feed.c - messages sent because they were asked for (WANT).
 *
 * A feed sends one message after the other, at most sync_bytes to one peer that are not acked, then SYNC_END.  A
 * message in chunks has its MSG sent only when all chunks are acked.  What is final here is said instead of sent.  The
 * record goes with the state as it is now, so that a copy does not start from the beginning. */
#include "cluster/copies/copies_impl.h"

struct feed {
    struct dlist link;
    uint64_t token;
    uint32_t n, pos;
    uint32_t part;    /* next chunk of ids[pos] to send is part, counted from 1; 0: not begun */
    uint32_t unacked; /* chunks of ids[pos] */
    bool hole;        /* one of them was refused */
    int res;
    struct msgid ids[];
};

struct feed_put {
    enum obj_kind kind;
    uint64_t id, bytes;
    struct cpeer *peer;
    uint64_t feed; /* its token */
    uint32_t epoch, pos;
    bool chunk;
};

void send_end(struct copies *c, struct cpeer *p, uint64_t token, int res)
{
    struct fbuf *f = fbuf_new(FRAME_SYNC_END, FRAME_SYNC_END_VERSION, 12);
    if (!f)
        return;
    struct wire_wr w = fbuf_writer(f);
    wire_put_u64(&w, token);
    wire_put_u32(&w, (uint32_t)res);
    fbuf_end(f, &w);
    peer_send(c, p, f);
}

static int send_state(struct copies *c, struct cpeer *p, uint64_t token, const struct storage_state *st)
{
    struct fbuf *f = fbuf_new(FRAME_STATE, FRAME_STATE_VERSION, 20 + WIRE_STATE_REC_MAX);
    if (!f)
        return -SATCHEL_ENOMEM;
    struct wire_wr w = fbuf_writer(f);
    wire_put_u64(&w, 0);
    wire_put_u64(&w, token);
    wire_put_u32(&w, 1);
    wire_put_state(&w, st);
    if (fbuf_end(f, &w) < 0) {
        fbuf_unref(f);
        return -SATCHEL_ETOOBIG;
    }
    return peer_send(c, p, f);
}

/* ---- one record */

/* The meta with the state of the message now; malloc'ed. */
static uint8_t *meta_now(const struct record *rec, const struct msg_state *s, struct slice *meta_r)
{
    size_t cap = rec->meta.n + WIRE_STATE_MAX + 8;
    uint8_t *out = malloc(cap), state[WIRE_STATE_MAX];
    if (!out)
        return NULL;
    struct wire_wr w = wire_wr(out, cap);
    struct wire_rd r = wire_rd(rec->meta);
    struct meta_tlv t;
    while (meta_next(&r, &t))
        if (t.tag != RT_STATE && t.tag != RT_KILLS)
            meta_put(&w, t.tag, t.value);
    meta_put(&w, RT_STATE, slice_of(state, state_encode(s, state, sizeof state)));
    *meta_r = slice_of(out, wire_len(&w));
    return out;
}

static struct fbuf *put_frame(struct wire_put *put, const struct queue_entry *e)
{
    uint8_t *meta = NULL;
    put->rec.flags &= (uint16_t)~REC_F_MOVED;
    if (put->rec.type == REC_MSG) {
        meta = meta_now(&put->rec, &e->state, &put->rec.meta);
        if (!meta)
            return NULL;
    }
    struct fbuf *f = wire_put_frame(put, NULL, 0, NULL);
    free(meta);
    return f;
}

/* 0, or why it cannot go (now: -SATCHEL_EAGAIN; with this link: -SATCHEL_ENOENT). */
static int put_send(struct copies *c, struct cpeer *p, struct feed *f, struct record *rec, const struct queue_entry *e)
{
    struct feed_put *fp = calloc(1, sizeof *fp);
    if (!fp)
        return -SATCHEL_EAGAIN;
    *fp = (struct feed_put){.kind = OBJ_FEED_PUT, .peer = p, .epoch = p->epoch, .feed = f->token};
    fp->pos = f->pos;
    fp->chunk = rec->type == REC_CHUNK;
    fp->id = slots_add(&c->slots, fp);
    struct wire_put put = {.request = fp->id, .token = f->token, .rec = *rec};
    struct fbuf *frame = fp->id ? put_frame(&put, e) : NULL;
    fp->bytes = frame ? frame->n : 0;
    int rc = peer_send(c, p, frame);
    if (rc == 0) {
        p->feed_bytes += fp->bytes;
        return 0;
    }
    slots_del(&c->slots, fp->id);
    free(fp);
    return rc == -SATCHEL_ENOMEM ? -SATCHEL_EAGAIN : rc;
}

/* ---- one message */

static void feed_next(struct feed *f)
{
    f->pos++;
    f->part = f->unacked = 0;
    f->hole = false;
}

static int feed_final(struct copies *c, struct cpeer *p, struct feed *f, const struct msgid *id)
{
    struct storage_state st;
    if (c->env.storage->ops->tomb(c->env.storage, id, &st) == 0) {
        int rc = send_state(c, p, f->token, &st);
        if (rc == -SATCHEL_EAGAIN)
            return rc;
    }
    feed_next(f);
    return 0;
}

static int feed_part(struct copies *c, struct cpeer *p, struct feed *f, const struct queue_entry *e, uint32_t part)
{
    struct record rec;
    int rc = c->env.storage->ops->read(c->env.storage, &e->id, part, &rec);
    if (rc == 0)
        return put_send(c, p, f, &rec, e);
    if (rc == -SATCHEL_EDAMAGED)
        scrub_repair(c, &e->id, e->domain);
    if (rc != -SATCHEL_ENOENT && (f->res == 0 || f->res == -SATCHEL_EDAMAGED))
        f->res = rc;
    feed_next(f);
    return 1;
}

/* 0: something was sent or is over; -SATCHEL_EAGAIN: waits for acks or room. */
static int feed_message(struct copies *c, struct cpeer *p, struct feed *f)
{
    struct queue_entry e;
    char domain[256];
    const struct msgid *id = &f->ids[f->pos];
    if (c->env.storage->ops->find(c->env.storage, id, &e, domain) < 0)
        return feed_final(c, p, f, id);
    e.domain = slice_str(domain);
    e.id = *id;
    f->part = f->part ? f->part : 1;
    if (f->part <= e.chunks) {
        int rc = feed_part(c, p, f, &e, f->part);
        f->part += rc == 0;
        f->unacked += rc == 0;
        return rc > 0 ? 0 : rc;
    }
    if (f->unacked)
        return -SATCHEL_EAGAIN;
    if (f->hole) {
        feed_next(f);
        return 0;
    }
    int rc = feed_part(c, p, f, &e, 0);
    if (rc == 0)
        feed_next(f);
    return rc > 0 ? 0 : rc;
}

static void feed_free(struct cpeer *p, struct feed *f)
{
    dlist_del(&f->link);
    p->feeds_n--;
    free(f);
}

void feed_run(struct copies *c, struct cpeer *p)
{
    while (p->up && !dlist_empty(&p->feeds) && p->feed_bytes < c->cfg.sync_bytes) {
        struct feed *f = dlist_of(p->feeds.next, struct feed, link);
        if (f->pos == f->n) { /* NOLINT(clang-analyzer-unix.Malloc): feed_free has taken the one before off the list */
            send_end(c, p, f->token, f->res);
            feed_free(p, f);
        } else if (feed_message(c, p, f) < 0) {
            return;
        }
    }
}

void feed_want(struct copies *c, struct cpeer *from, struct slice payload)
{
    struct wire_rd r = wire_rd(payload);
    uint64_t token = wire_u64(&r);
    uint32_t n = wire_count(&r, WIRE_IDS_MAX, WIRE_ID_BYTES);
    if (r.bad) {
        frame_bad(c, from, "WANT");
        return;
    }
    struct feed *f = from->feeds_n < FEEDS_MAX ? calloc(1, sizeof *f + n * sizeof *f->ids) : NULL;
    if (!f) {
        send_end(c, from, token, -SATCHEL_EAGAIN);
        return;
    }
    f->token = token;
    f->n = n;
    for (uint32_t i = 0; i < n; i++)
        f->ids[i] = wire_id(&r);
    dlist_add(&from->feeds, &f->link);
    from->feeds_n++;
    feed_run(c, from);
}

void feed_acked(struct copies *c, struct cpeer *from, void *obj, int res)
{
    struct feed_put *fp = obj;
    if (fp->peer != from)
        return;
    slots_del(&c->slots, fp->id);
    if (fp->epoch == from->epoch) {
        from->feed_bytes -= fp->bytes;
        struct feed *f = dlist_empty(&from->feeds) ? NULL : dlist_of(from->feeds.next, struct feed, link);
        from->fed_us = copies_now(c);
        if (fp->chunk && f && f->token == fp->feed && f->pos == fp->pos && f->unacked) {
            f->unacked--;
            f->hole |= res < 0 && res != -SATCHEL_EEXIST;
        }
    }
    free(fp);
    feed_run(c, from);
}

void feed_down(struct copies *c, struct cpeer *p)
{
    while (!dlist_empty(&p->feeds))
        feed_free(p, dlist_of(p->feeds.next, struct feed, link)); /* NOLINT(clang-analyzer-unix.Malloc): as above */
    p->feed_bytes = 0;
    for (uint32_t i = 0; i < c->slots.cap; i++) {
        struct feed_put *fp = c->slots.at[i];
        if (fp && fp->kind == OBJ_FEED_PUT && fp->peer == p) {
            slots_del(&c->slots, fp->id);
            free(fp);
        }
    }
}
