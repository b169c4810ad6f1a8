/* append.c - records on their way to the log: made at a door, handed to the committer. */
#include "spool/base/wire.h"
#include "spool/spool_impl.h"

#include <assert.h>
#include <stdlib.h>

enum { TLV_HEAD = 8 }; /* tag, length, long length */

struct spool_append *append_alloc(struct spool *s, enum append_kind kind, size_t meta_cap)
{
    struct spool_append *a = malloc(sizeof *a + meta_cap);
    if (!a)
        return NULL;
    memset(a, 0, sizeof *a);
    a->kind = kind;
    a->spool = s;
    return a;
}

struct spool_append *append_new(struct spool *s, enum rec_type type, size_t meta_cap)
{
    struct spool_append *a = append_alloc(s, APPEND_RECORD, meta_cap + copied_bytes(s));
    if (!a)
        return NULL;
    a->e.rec.type = (uint8_t)type;
    a->e.rec.meta.p = a->meta;
    return a;
}

void append_free(struct spool_append *a)
{
    free(a);
}

void append_post(struct spool *s, struct spool_append *a)
{
    atomic_fetch_add_explicit(&s->unapplied, 1, memory_order_relaxed);
    mailbox_post(&s->to_committer, &a->mail);
}

void spool_next_id(struct spool *s, struct msgid *id_r)
{
    memcpy(id_r->incarnation, s->incarnation, sizeof id_r->incarnation);
    id_r->counter = atomic_fetch_add_explicit(&s->counter, 1, memory_order_relaxed) + 1;
}

uint64_t spool_stamp_us(struct spool *s)
{
    uint64_t now = clock_wall_us(s->clock), last = atomic_load_explicit(&s->arrival_us, memory_order_relaxed), next;
    do
        next = now > last ? now : last + 1;
    while (!atomic_compare_exchange_weak_explicit(&s->arrival_us, &last, next, memory_order_relaxed,
                                                  memory_order_relaxed));
    return next;
}

void spool_observe(struct spool *s, uint64_t arrival_us)
{
    uint64_t last = atomic_load_explicit(&s->arrival_us, memory_order_relaxed);
    while (last < arrival_us && !atomic_compare_exchange_weak_explicit(&s->arrival_us, &last, arrival_us,
                                                                       memory_order_relaxed, memory_order_relaxed))
        ;
}

static size_t envelope_meta_cap(const struct envelope *env, struct slice trace)
{
    size_t n =
        env->domain.n + env->sender.n + env->helo.n + env->client.n + trace.n + 6 * TLV_HEAD + 16 + META_FILL_MAX;
    for (size_t i = 0; i < env->rcpts_n; i++)
        n += env->rcpts[i].n + TLV_HEAD;
    return n;
}

struct spool_append *append_msg(struct spool *s, const struct envelope *env, const struct msgid *id, struct slice trace,
                                uint32_t chunks, uint64_t body_bytes)
{
    size_t cap = envelope_meta_cap(env, trace);
    if (cap > REC_META_MAX)
        return NULL;
    struct spool_append *a = append_new(s, REC_MSG, cap);
    if (!a)
        return NULL;
    struct wire_wr w = wire_wr(a->meta, cap);
    meta_put(&w, RT_DOMAIN, env->domain);
    meta_put(&w, RT_SENDER, env->sender);
    for (size_t i = 0; i < env->rcpts_n; i++)
        meta_put(&w, RT_RCPT, env->rcpts[i]);
    meta_put(&w, RT_HELO, env->helo);
    meta_put(&w, RT_CLIENT, env->client);
    meta_put(&w, RT_TRACE, trace);
    if (chunks) {
        uint8_t v[12];
        struct wire_wr c = wire_wr(v, sizeof v);
        wire_put_u32(&c, chunks);
        wire_put_u64(&c, body_bytes);
        meta_put(&w, RT_CHUNKS, slice_of(v, sizeof v));
    }
    if (!chunks && body_bytes >= SEGLOG_BORROW_MIN)
        meta_fill(&w);
    assert(!w.bad);
    a->e.rec.meta.n = wire_len(&w);
    a->e.rec.id = *id;
    a->e.rec.flags = (uint16_t)(env->flags | (chunks ? REC_F_CHUNKED : 0));
    return a;
}
