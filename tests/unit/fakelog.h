/* fakelog.h - a segment log in memory for tests of the queue: records by position, an appending end, crashes.
 * It stands in for the reader too: a test that includes it defines segread_record, segread_head and segread_segment. */
#pragma once
#include "spool/base/err.h"
#include "spool/base/rng.h"
#include "spool/base/wire.h"
#include "spool/queue/queue.h"
#include "tests/unit/meta_rig.h"
#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct fakerec {
    struct record rec; /* slices point into bytes */
    uint64_t pos;
    uint32_t size;
    uint8_t *bytes;
};

struct fakeseg {
    uint64_t seg;
    bool gone;
    struct fakerec *recs;
    size_t n, cap;
    uint32_t end;
};

struct fakelog {
    struct fakeseg *segs;
    size_t segs_n, segs_cap;
    uint32_t seg_bytes;
    struct seglog_entry *pending[65536];
    size_t pending_n;
    uint64_t frees[1024];
    size_t frees_n;
    int refuse; /* error that append answers with; 0: takes */
    uint64_t now_us;
    struct queue *q;
    struct index *ix;
    char ready[64][64];
    size_t ready_n;
};

static struct fakelog fakelog;

static inline struct fakeseg *fake_tail(struct fakelog *l)
{
    return &l->segs[l->segs_n - 1];
}

static inline void fake_roll(struct fakelog *l)
{
    if (l->segs_n == l->segs_cap) {
        l->segs_cap = l->segs_cap ? l->segs_cap * 2 : 64;
        l->segs = realloc(l->segs, l->segs_cap * sizeof *l->segs);
    }
    l->segs[l->segs_n] = (struct fakeseg){.seg = l->segs_n + 1, .end = 4096};
    l->segs_n++;
}

static inline struct fakeseg *fake_seg(struct fakelog *l, uint64_t seg)
{
    return seg >= 1 && seg <= l->segs_n && !l->segs[seg - 1].gone ? &l->segs[seg - 1] : NULL;
}

static inline struct slice fake_dup(uint8_t **p, struct slice s)
{
    struct slice copy = slice_of(*p, s.n);
    if (s.n)
        memcpy(*p, s.p, s.n);
    *p += s.n;
    return copy;
}

/* Writes the record at the tail; it is durable then. */
static inline struct fakerec *fake_write(struct fakelog *l, const struct record *rec)
{
    uint32_t size = (uint32_t)record_size(rec);
    if (fake_tail(l)->end + size > l->seg_bytes)
        fake_roll(l);
    struct fakeseg *s = fake_tail(l);
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 16;
        s->recs = realloc(s->recs, s->cap * sizeof *s->recs);
    }
    struct fakerec *r = &s->recs[s->n++];
    uint8_t *p = malloc(rec->copyset.n + rec->meta.n + rec->body.n + 1);
    *r = (struct fakerec){.rec = *rec, .pos = logpos(s->seg, s->end), .size = size, .bytes = p};
    r->rec.copyset = fake_dup(&p, rec->copyset);
    r->rec.meta = fake_dup(&p, rec->meta);
    r->rec.body = fake_dup(&p, rec->body);
    s->end += size;
    return r;
}

static inline void fake_seg_free(struct fakeseg *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->recs[i].bytes);
    free(s->recs);
    s->recs = NULL;
    s->n = 0;
    s->gone = true;
}

/* ---- the port */

static inline int fake_append(void *ctx, struct seglog_entry *e)
{
    struct fakelog *l = ctx;
    if (l->refuse)
        return l->refuse;
    assert_true(l->pending_n < 65536);
    l->pending[l->pending_n++] = e;
    return 0;
}

static inline void fake_free_segment(void *ctx, uint64_t seg)
{
    struct fakelog *l = ctx;
    assert_non_null(fake_seg(l, seg));
    assert_true(l->frees_n < 1024);
    l->frees[l->frees_n++] = seg;
}

static inline void fake_ready(void *ctx, struct slice domain)
{
    struct fakelog *l = ctx;
    if (l->ready_n < 64)
        snprintf(l->ready[l->ready_n++], 64, "%.*s", SLICE_FMT(domain));
}

static inline uint64_t fake_now(void *ctx)
{
    return ((struct fakelog *)ctx)->now_us;
}

/* ---- turning */

/* Makes the first n pending entries durable, applies them and runs their done. */
static inline void fake_turn_some(struct fakelog *l, size_t n)
{
    struct seglog_entry *batch[256];
    while (n) {
        size_t take = n < 256 ? n : 256;
        memcpy(batch, l->pending, take * sizeof *batch);
        l->pending_n -= take;
        memmove(l->pending, l->pending + take, l->pending_n * sizeof *l->pending);
        for (size_t i = 0; i < take; i++) {
            struct fakerec *r = fake_write(l, &batch[i]->rec);
            batch[i]->pos = r->pos;
            batch[i]->size = r->size;
            assert_int_equal(queue_apply(l->q, &r->rec, r->pos, r->size), 0);
            batch[i]->done(batch[i], 0);
        }
        assert_int_equal(queue_commit(l->q, queue_applied(l->q)), 0);
        n -= take;
    }
}

static inline void fake_turn(struct fakelog *l)
{
    while (l->pending_n)
        fake_turn_some(l, l->pending_n);
}

/* A record of somebody else (intake): durable and applied at once. */
static inline uint64_t fake_put(struct fakelog *l, const struct record *rec)
{
    fake_turn(l);
    struct fakerec *r = fake_write(l, rec);
    assert_int_equal(queue_apply(l->q, &r->rec, r->pos, r->size), 0);
    assert_int_equal(queue_commit(l->q, r->pos + r->size), 0);
    return r->pos;
}

static inline size_t fake_segs(const struct fakelog *l, uint64_t *segs_r, bool tail)
{
    size_t n = 0;
    for (size_t i = 0; i + (tail ? 0 : 1) < l->segs_n; i++)
        if (!l->segs[i].gone)
            segs_r[n++] = l->segs[i].seg;
    return n;
}

static inline void fake_run_frees(struct fakelog *l, size_t n)
{
    while (n--) {
        uint64_t seg = l->frees[0];
        l->frees_n--;
        memmove(l->frees, l->frees + 1, l->frees_n * sizeof *l->frees);
        fake_seg_free(&l->segs[seg - 1]);
        queue_freed(l->q, seg, 0);
    }
}

/* Reclaims until there is nothing left to do. */
static inline void fake_reclaim_all(struct fakelog *l, bool pressure)
{
    static uint64_t segs[65536];
    for (int idle = 0; idle < 3;) {
        size_t n = fake_segs(l, segs, false);
        bool more = queue_reclaim(l->q, segs, n, pressure) || l->pending_n || l->frees_n;
        fake_turn(l);
        fake_run_frees(l, l->frees_n);
        idle = more ? 0 : idle + 1;
    }
}

/* ---- opening */

static inline struct queue *fake_queue(struct fakelog *l, struct index *ix, const struct queue_config *cfg)
{
    static struct clock clock;
    clock = (struct clock){fake_now, fake_now, l};
    struct queue_port port = {fake_append, fake_free_segment, fake_ready, l, NULL};
    struct queue *q;
    assert_int_equal(queue_open(&q, cfg, ix, &clock, (struct segread *)l, &port), 0);
    return q;
}

/* Replays what lies at or above `from` of the queue, committing every `batch` records. */
static inline void fake_replay(struct fakelog *l, struct queue *q, size_t batch)
{
    static uint64_t segs[65536];
    uint64_t from = queue_applied(q), n = 0;
    for (size_t i = 0; i < l->segs_n; i++)
        for (size_t k = 0; k < l->segs[i].n; k++) {
            const struct fakerec *r = &l->segs[i].recs[k];
            if (r->pos < from)
                continue;
            assert_int_equal(queue_apply(q, &r->rec, r->pos, r->size), 0);
            if (++n % batch == 0)
                assert_int_equal(queue_commit(q, r->pos + r->size), 0);
        }
    assert_int_equal(queue_recovered(q, segs, fake_segs(l, segs, true)), 0);
}

static inline void fake_start(struct fakelog *l, const struct queue_config *cfg, uint32_t seg_bytes)
{
    *l = (struct fakelog){.seg_bytes = seg_bytes, .now_us = 1000000000};
    fake_roll(l);
    assert_int_equal(index_ram_open(&l->ix), 0);
    l->q = fake_queue(l, l->ix, cfg);
    fake_replay(l, l->q, 1);
}

static inline void fake_stop(struct fakelog *l)
{
    queue_close(&l->q);
    if (l->ix)
        l->ix->ops->close(&l->ix);
    for (size_t i = 0; i < l->segs_n; i++)
        fake_seg_free(&l->segs[i]);
    free(l->segs);
    *l = (struct fakelog){0};
}

/* ---- digests */

struct text {
    char *p;
    size_t n, cap;
};

static inline void text_line(void *arg, const char *line)
{
    struct text *t = arg;
    size_t n = strlen(line);
    if (t->n + n + 2 > t->cap) {
        t->cap = (t->n + n + 2) * 2;
        t->p = realloc(t->p, t->cap);
    }
    memcpy(t->p + t->n, line, n);
    t->n += n;
    t->p[t->n++] = '\n';
    t->p[t->n] = 0;
}

static inline char *fake_digest(struct queue *q)
{
    struct text t = {0};
    assert_int_equal(queue_digest(q, text_line, &t), 0);
    return t.p ? t.p : strdup("");
}

/* What a full scan of the log says. */
static inline char *fake_scan_digest(struct fakelog *l, const struct queue_config *cfg, size_t batch)
{
    struct index *ix;
    assert_int_equal(index_ram_open(&ix), 0);
    struct queue *q = fake_queue(l, ix, cfg);
    fake_replay(l, q, batch);
    char *d = fake_digest(q);
    queue_close(&q);
    ix->ops->close(&ix);
    return d;
}

static inline void fake_check_scan(struct fakelog *l, const struct queue_config *cfg)
{
    char *now = fake_digest(l->q), *scan = fake_scan_digest(l, cfg, 7);
    assert_string_equal(now, scan);
    free(now);
    free(scan);
}

/* ---- records of the intake */

static inline struct msgid fake_id(uint64_t counter)
{
    return (struct msgid){.incarnation = {7, 7, 7}, .counter = counter};
}

/* meta_r: 4 KiB. */
static inline struct record fake_msg(uint64_t counter, const char *domain, uint64_t arrival_us, uint32_t rcpts,
                                     struct slice body, uint32_t chunks, uint8_t *meta_r)
{
    struct wire_wr w = wire_wr(meta_r, 4096);
    meta_put(&w, RT_DOMAIN, slice_str(domain));
    meta_put(&w, RT_SENDER, slice_str("sender@example.net"));
    for (uint32_t i = 0; i < rcpts; i++)
        meta_put(&w, RT_RCPT, slice_str("rcpt@example.com"));
    rig_put_chunks(&w, chunks, (uint64_t)chunks * 100);
    assert_false(w.bad);
    return (struct record){.type = REC_MSG,
                           .flags = chunks ? REC_F_CHUNKED : 0,
                           .id = fake_id(counter),
                           .arrival_us = arrival_us,
                           .meta = slice_of(meta_r, wire_len(&w)),
                           .body = chunks ? (struct slice){0} : body};
}

static inline struct record fake_chunk(uint64_t counter, uint32_t index, struct slice body, uint8_t *meta_r)
{
    uint8_t v[4];
    struct wire_wr c = wire_wr(v, sizeof v), w = wire_wr(meta_r, 4096);
    wire_put_u32(&c, index);
    meta_put(&w, RT_CHUNK_INDEX, slice_of(v, sizeof v));
    return (struct record){
        .type = REC_CHUNK, .id = fake_id(counter), .meta = slice_of(meta_r, wire_len(&w)), .body = body};
}

static inline struct record fake_abort(uint64_t counter)
{
    return (struct record){.type = REC_ABORT, .id = fake_id(counter)};
}

/* ---- the reader */

int segread_record(struct segread *r, uint64_t pos, uint32_t size, struct record *rec_r)
{
    struct fakelog *l = (struct fakelog *)r;
    const struct fakeseg *s = fake_seg(l, logpos_seg(pos));
    for (size_t i = 0; s && i < s->n; i++)
        if (s->recs[i].pos == pos && s->recs[i].size == size) {
            *rec_r = s->recs[i].rec;
            return 0;
        }
    return -SATCHEL_ENOENT;
}

int segread_head(struct segread *r, uint64_t pos, uint32_t size, struct record *rec_r)
{
    int res = segread_record(r, pos, size, rec_r);
    rec_r->body.p = NULL;
    return res;
}

int segread_segment(struct segread *r, uint64_t seg,
                    int (*each)(void *arg, const struct record *rec, uint64_t pos, uint32_t size), void *arg)
{
    const struct fakeseg *s = fake_seg((struct fakelog *)r, seg);
    for (size_t i = 0; s && i < s->n; i++) {
        int res = each(arg, &s->recs[i].rec, s->recs[i].pos, s->recs[i].size);
        if (res)
            return res;
    }
    return s ? 0 : -SATCHEL_ENOENT;
}
