/* door_put.c - records of other storages become durable here. */
#include "spool/base/wire.h"
#include "spool/door_copy.h"

#include <assert.h>
#include <stdlib.h>

static bool put_fits(const struct record *rec)
{
    return rec->meta.n <= REC_META_MAX && rec->body.n <= REC_BODY_MAX && rec->copyset.n % 16 == 0 &&
           rec->copyset.n / 16 <= REC_COPYSET_MAX && rec->id.counter != 0;
}

static uint32_t meta_u32(struct slice meta, enum rec_tag tag)
{
    struct slice v = meta_find(meta, (uint16_t)tag);
    struct wire_rd r = wire_rd(v);
    return v.p ? wire_u32(&r) : 0;
}

static uint32_t put_chunks(const struct record *rec)
{
    return rec->type == REC_MSG && rec->flags & REC_F_CHUNKED ? meta_u32(rec->meta, RT_CHUNKS) : 0;
}

static bool put_is_whole(struct spool *s, const struct record *rec)
{
    uint64_t pos;
    uint32_t size;
    for (uint32_t i = put_chunks(rec); i-- > 0;)
        if (queue_chunk(s->queue, &rec->id, i, &pos, &size) != 0)
            return false;
    return true;
}

static bool put_is_here(struct spool *s, const struct storage_put *p, enum queue_known known)
{
    uint64_t pos;
    uint32_t size;
    if (p->flags & PUT_REPAIR)
        return false;
    if (p->rec.type == REC_CHUNK)
        return queue_chunk(s->queue, &p->rec.id, meta_u32(p->rec.meta, RT_CHUNK_INDEX), &pos, &size) == 0;
    return known == QUEUE_LIVE && put_is_whole(s, &p->rec);
}

/* 1: to be written; else the answer. new_r: nothing is known of the message. */
static int put_judge(struct copy_door *d, const struct storage_put *p, bool *new_r)
{
    struct spool *s = d->s;
    if (!put_fits(&p->rec))
        return -SATCHEL_EINVAL;
    if (atomic_load_explicit(&s->broken, memory_order_relaxed))
        return -SATCHEL_EFENCED;
    if (p->rec.type != REC_MSG && p->rec.type != REC_CHUNK)
        return 1;
    /* What storages hand on to each other may also be a DSN of our own, which never came through this door. */
    if (fresh_take(d->fresh, &p->rec.id) && !(p->flags & (PUT_LAZY | PUT_REPAIR))) {
        *new_r = true;
        return 1;
    }
    enum queue_known known = queue_known(s->queue, &p->rec.id);
    *new_r = known == QUEUE_UNKNOWN;
    if (known == QUEUE_TOMB)
        return -SATCHEL_EEXIST;
    return put_is_here(s, p, known) ? 0 : 1;
}

/* On the committer.  The body is not read any more. */
static void put_settled(struct spool_append *a)
{
    struct storage_put *p = a->owner;
    struct copy_door *d = p->impl;
    if (a->applied && a->res == 0)
        return;
    a->applied = NULL;
    d->bell.committer = true;
    p->post.kind = MAIL_PUT;
    p->post.res = a->res;
    mailbox_post(&d->box, &p->post.mail);
}

/* On the indexer: the message is in its bag, but is all of it? */
static void put_applied(struct spool_append *a)
{
    struct storage_put *p = a->owner;
    struct copy_door *d = p->impl;
    bool whole = queue_is_whole(a->spool->queue, &a->e.rec.id, put_chunks(&a->e.rec));
    door_stage(d, &p->post, MAIL_PUT, whole ? 0 : -SATCHEL_ENOENT);
}

/* Its chunks came to a process that died since, and nobody missed them there: it must not count as a copy. */
static void put_applied_new(struct spool_append *a)
{
    const struct msgid *id = &a->e.rec.id;
    if (a->res == 0 && !queue_is_whole(a->spool->queue, id, put_chunks(&a->e.rec)))
        queue_forget(a->spool->queue, id);
    put_applied(a);
}

/* What compaction wrote into the record speaks of another log. */
static void put_meta(struct wire_wr *w, const struct record *rec)
{
    struct wire_rd r = wire_rd(rec->meta);
    struct meta_tlv t;
    if (rec->type != REC_MSG && rec->type != REC_ABORT) {
        wire_put(w, rec->meta.p, rec->meta.n);
        return;
    }
    while (meta_next(&r, &t))
        if (t.tag != RT_KILLS && t.tag != RT_UPTO)
            meta_put(w, t.tag, t.value);
}

static struct spool_append *put_append(struct copy_door *d, struct storage_put *p, bool is_new)
{
    size_t cap = p->rec.copyset.n + p->rec.meta.n;
    struct spool_append *a = append_new(d->s, p->rec.type, cap);
    if (!a)
        return NULL;
    struct wire_wr w = wire_wr(a->meta, cap);
    struct record *rec = &a->e.rec;
    *rec = p->rec;
    rec->flags &= (uint16_t)~REC_F_MOVED;
    wire_put(&w, p->rec.copyset.p, p->rec.copyset.n);
    rec->copyset.p = a->meta;
    rec->meta.p = w.p;
    put_meta(&w, &p->rec);
    rec->meta.n = (size_t)(w.p - rec->meta.p);
    assert(!w.bad);
    a->e.body_parts = p->body_parts;
    a->e.body_parts_n = p->body_parts_n;
    a->e.flags = (p->flags & PUT_LAZY ? ENTRY_LAZY : 0) | (rec->type == REC_ABORT ? ENTRY_LAZY | ENTRY_RESERVE : 0);
    a->settled = put_settled;
    if (put_chunks(rec))
        a->applied = is_new ? put_applied_new : put_applied;
    a->owner = p;
    return a;
}

/* On the indexer. */
static void repair_done(void *arg, int res)
{
    struct storage_put *p = arg;
    struct copy_door *d = p->impl;
    door_stage(d, &p->post, MAIL_PUT, res);
}

/* The record takes the place of the one that is here, with the state known here.  1: is not here, an ordinary put. */
static int put_repair(struct copy_door *d, struct storage_put *p)
{
    struct record rec = p->rec;
    uint8_t *bytes = malloc(rec.meta.n + rec.body.n + 1);
    if (!bytes)
        return -SATCHEL_ENOMEM;
    struct wire_wr w = wire_wr(bytes, rec.meta.n + rec.body.n);
    put_meta(&w, &p->rec);
    rec.meta = slice_of(bytes, wire_len(&w));
    rec.body.p = w.p;
    for (uint32_t i = 0; i < p->body_parts_n; i++)
        wire_put(&w, p->body_parts[i].p, p->body_parts[i].n);
    if (!p->body_parts)
        wire_put(&w, p->rec.body.p, p->rec.body.n);
    spool_lock(d->s);
    int res = w.bad ? -SATCHEL_EINVAL : queue_repair(d->s->queue, &rec, repair_done, p);
    spool_unlock(d->s);
    free(bytes);
    return res == -SATCHEL_ENOENT ? 1 : res;
}

void door_put(struct storage *st, struct storage_put *p)
{
    struct copy_door *d = door_of(st);
    bool is_new = false;
    int res = put_judge(d, p, &is_new);
    p->impl = d;
    if (res == 1 && p->rec.type == REC_MSG && p->flags & PUT_REPAIR && (res = put_repair(d, p)) == 0) {
        d->under_way++;
        d->posted = true;
        return;
    }
    struct spool_append *a = res == 1 ? put_append(d, p, is_new) : NULL;
    d->under_way++;
    if (!a) {
        door_answer(d, &p->post, MAIL_PUT, res == 1 ? -SATCHEL_ENOMEM : res);
        return;
    }
    d->posted = true;
    d->posted_bytes += p->flags & PUT_LAZY ? 0 : p->rec.body.n;
    append_post(d->s, a);
}
