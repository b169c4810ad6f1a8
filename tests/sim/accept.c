/* accept.c - the way in: chunks, then the message, or an abort. */
#include <assert.h>
#include <stdlib.h>

#include "spool/base/err.h"
#include "spool/base/wire.h"
#include "tests/sim/trace.h"
#include "tests/sim/work.h"

#define CHUNK_BYTES 12000u

/* One record with all that it borrows. */
struct piece {
    struct seglog_entry entry;
    struct work *work;
    struct sim_msg *msg;
    struct slice parts[3];
    uint8_t *memory, *body; /* the body stands in memory where it likes */
    size_t body_n;
    uint8_t meta[2048];
};

static struct work_accept *accept_of(struct work *w, const struct sim_msg *m)
{
    for (uint32_t i = 0; i < WORK_ACCEPTS; i++)
        if (w->accepts[i].msg == m)
            return &w->accepts[i];
    return NULL;
}

/* What was borrowed is gone with done: a disk that still writes it writes rubbish. */
static void piece_free(struct piece *p)
{
    if (p->memory)
        memset(p->body, 0xdb, p->body_n);
    free(p->memory);
    free(p);
}

static void piece_done(struct seglog_entry *e, int res)
{
    struct piece *p = (struct piece *)e;
    struct work_accept *a = accept_of(p->work, p->msg);
    if (a && res != 0)
        a->failed = true;
    if (a && res == 0 && e->rec.type == REC_CHUNK)
        a->stored++;
    if (e->rec.type == REC_MSG) {
        if (res == -SATCHEL_EFULL)
            p->msg->abandoned = true;
        if (a)
            *a = (struct work_accept){0};
    }
    piece_free(p);
}

static struct piece *piece_new(struct work *w, struct sim_msg *m, enum rec_type type)
{
    struct piece *p = calloc(1, sizeof *p);
    assert(p);
    p->work = w;
    p->msg = m;
    p->entry = (struct seglog_entry){.done = piece_done};
    p->entry.rec = (struct record){.type = (uint8_t)type, .id = m->id, .arrival_us = m->arrival_us};
    p->entry.rec.body_sum = record_body_sum((struct slice){0});
    return p;
}

/* Bytes of the first part: a long body's others then lie on sectors, as the intake's blocks do, and may be borrowed. */
static size_t piece_place(struct piece *p, size_t n)
{
    struct rng *rng = p->work->rng;
    size_t a = rng_below(rng, (n < DISK_ALIGN ? n : DISK_ALIGN) + 1);
    if (n >= SEGLOG_BORROW_MIN && rng_below(rng, 8))
        a -= a % REC_ALIGN;
    p->memory = aligned_alloc(DISK_ALIGN, (n / DISK_ALIGN + 3) * DISK_ALIGN);
    assert(p->memory);
    p->body = p->memory + DISK_ALIGN - a;
    p->body_n = n;
    return n < SEGLOG_BORROW_MIN ? rng_below(rng, n + 1) : a;
}

/* The body goes in up to three parts, as it comes from a session's windows. */
static void piece_body(struct piece *p, uint64_t off, size_t n)
{
    struct rng *rng = p->work->rng;
    size_t a = piece_place(p, n), b = a + rng_below(rng, n - a + 1);
    if (n >= SEGLOG_BORROW_MIN && rng_below(rng, 4))
        b -= (b - a) % DISK_ALIGN;
    sim_body(p->msg, off, p->body, n);
    p->entry.rec.body = slice_of(p->body, n);
    p->entry.rec.body_sum = record_body_sum(p->entry.rec.body);
    p->entry.flags |= rng_below(rng, 8) ? ENTRY_BORROW : 0;
    p->parts[0] = slice_of(p->body, a);
    p->parts[1] = slice_of(p->body + a, b - a);
    p->parts[2] = slice_of(p->body + b, n - b);
    if (n >= SEGLOG_BORROW_MIN || rng_below(rng, 2)) {
        p->entry.body_parts = p->parts;
        p->entry.body_parts_n = 3;
    }
}

static int piece_send(struct work *w, struct piece *p)
{
    uint8_t type = p->entry.rec.type;
    uint32_t number = p->msg->number;
    int res = house_append(&w->h, &p->entry);
    trace("accept msg %u: append type %u: %d", number, type, res);
    if (res != 0)
        piece_free(p);
    return res;
}

static void message_meta(struct piece *p)
{
    static const char *locals[] = {"a", "root", "someone.with.a.longer.name", "x+tag"};
    const struct sim_msg *m = p->msg;
    struct wire_wr w = wire_wr(p->meta, sizeof p->meta);
    meta_put(&w, RT_DOMAIN, sim_domain(m->domain));
    meta_put(&w, RT_SENDER, m->number % 7 ? SLICE_LIT("sender@example.org") : SLICE_LIT(""));
    for (uint32_t i = 0; i < m->items_n; i++)
        meta_put(&w, RT_RCPT, slice_str(locals[i % 4]));
    meta_put(&w, RT_HELO, SLICE_LIT("client.example.org"));
    meta_put(&w, RT_TRACE, SLICE_LIT("Received: from client.example.org by mx\r\n"));
    if (m->chunks > 0) {
        uint8_t value[12];
        struct wire_wr v = wire_wr(value, sizeof value);
        wire_put_u32(&v, m->chunks);
        wire_put_u64(&v, m->body_bytes);
        meta_put(&w, RT_CHUNKS, slice_of(value, sizeof value));
    } else if (m->body_bytes >= SEGLOG_BORROW_MIN) {
        meta_fill(&w);
    }
    assert(!w.bad);
    p->entry.rec.meta = slice_of(p->meta, wire_len(&w));
}

static int send_message(struct work *w, struct sim_msg *m)
{
    struct piece *p = piece_new(w, m, REC_MSG);
    message_meta(p);
    p->entry.rec.flags = m->chunks > 0 ? REC_F_CHUNKED : 0;
    if (m->chunks == 0)
        piece_body(p, 0, m->body_bytes);
    return piece_send(w, p);
}

static int send_chunk(struct work *w, struct sim_msg *m, uint32_t index)
{
    struct piece *p = piece_new(w, m, REC_CHUNK);
    uint64_t off = (uint64_t)index * CHUNK_BYTES, left = m->body_bytes - off;
    struct wire_wr meta = wire_wr(p->meta, sizeof p->meta);
    uint8_t value[4];
    struct wire_wr v = wire_wr(value, sizeof value);
    wire_put_u32(&v, index);
    meta_put(&meta, RT_CHUNK_INDEX, slice_of(value, sizeof value));
    p->entry.rec.meta = slice_of(p->meta, wire_len(&meta));
    piece_body(p, off, left < CHUNK_BYTES ? left : CHUNK_BYTES);
    return piece_send(w, p);
}

static void abandon(struct work *w, struct work_accept *a)
{
    struct sim_msg *m = a->msg;
    m->abandoned = true;
    if (a->sent > 0) {
        struct piece *p = piece_new(w, m, REC_ABORT);
        p->entry.flags = ENTRY_RESERVE | ENTRY_LAZY;
        piece_send(w, p);
    }
    *a = (struct work_accept){0};
}

void work_accept_begin(struct work *w)
{
    struct work_accept *a = accept_of(w, NULL);
    struct sim_msg *m = a ? ledger_new(w->ledger, clock_wall_us(simdisk_clock(w->sd))) : NULL;
    if (!m)
        return;
    bool chunked = rng_below(w->rng, 5) == 0;
    m->domain = (uint32_t)rng_below(w->rng, SIM_DOMAINS);
    m->items_n =
        rng_below(w->rng, 3) ? 1 + (uint32_t)rng_below(w->rng, 3) : 1 + (uint32_t)rng_below(w->rng, SIM_ITEMS_MAX);
    m->chunks = chunked ? 1 + (uint32_t)rng_below(w->rng, 3) : 0;
    m->body_bytes = chunked ? (m->chunks - 1) * CHUNK_BYTES + 1 + rng_below(w->rng, CHUNK_BYTES)
                            : rng_below(w->rng, rng_below(w->rng, 3) ? 900 : 9000);
    if (!chunked && rng_below(w->rng, 16) == 0)
        m->body_bytes = SEGLOG_BORROW_MIN + rng_below(w->rng, 60000);
    *a = (struct work_accept){.msg = m, .chunks = m->chunks};
    work_accept_go_on(w);
}

/* The message is handed over once its chunks are durable, as the intake does.  Its place in the bag was given when it
 * began, so that a large one turns up in front of others that are stored already. */
static void accept_commit(struct work *w, struct work_accept *a)
{
    a->committed = true;
    if (send_message(w, a->msg) != 0) {
        a->msg->abandoned = true;
        abandon(w, a);
    }
}

static void accept_step(struct work *w, struct work_accept *a)
{
    if (a->committed)
        return;
    if (a->failed || (a->chunks > 0 && rng_below(w->rng, 12) == 0)) {
        abandon(w, a);
    } else if (a->sent < a->chunks) {
        if (send_chunk(w, a->msg, a->sent) == 0)
            a->sent++;
        else
            a->failed = true;
    } else if (a->stored == a->chunks) {
        accept_commit(w, a);
    }
}

void work_accept_go_on(struct work *w)
{
    for (uint32_t i = 0; i < WORK_ACCEPTS; i++)
        if (w->accepts[i].msg)
            accept_step(w, &w->accepts[i]);
}
