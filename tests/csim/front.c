/* front.c - letters on their way in. */
#include "tests/csim/front.h"

#include <assert.h>
#include <stdlib.h>

#include "spool/base/err.h"
#include "spool/base/wire.h"
#include "tests/csim/checks.h"

#define META_MAX 512

/* One record with all that it borrows. */
struct request {
    struct copy_request req;
    struct front_job *job;
    struct slice parts[2];
    uint8_t meta[META_MAX];
    uint8_t body[LETTER_CHUNK_BYTES];
};

struct front_job {
    struct front_job *next;
    struct front *front;
    struct letter *letter;
    simnode_said *said;
    void *arg;
    uint32_t sent, settled, under_way; /* chunks */
    bool msg_sent, failed, aborted, over;
};

static void job_say(struct front_job *j, bool taken)
{
    if (!j->said || j->front->over)
        return;
    simnode_said *said = j->said;
    j->said = NULL;
    said(j->arg, j->letter, taken);
}

static void on_settled(struct copy_request *req, int res)
{
    struct request *q = (struct request *)req;
    struct front_job *j = q->job;
    uint8_t type = q->req.rec.type;
    trace("n%u settles type %u letter %u: %d", j->front->node, type, j->letter->number, res);
    free(q);
    j->under_way--;
    if (type == REC_CHUNK && res == 0)
        j->settled++;
    if (type == REC_CHUNK && res != 0)
        j->failed = true;
    if (type != REC_MSG || j->front->over)
        return;
    if (res == 0)
        check_ack(j->front->w, j->front->w->nodes[j->front->node], j->letter);
    j->over = true;
    job_say(j, res == 0);
    simnode_wake(j->front->w->nodes[j->front->node], 0);
}

static struct request *request_new(struct front_job *j, enum rec_type type)
{
    struct request *q = calloc(1, sizeof *q);
    assert(q);
    q->job = j;
    q->req.domain = world_domain(j->front->w, j->letter->domain);
    q->req.settled = on_settled;
    q->req.rec = (struct record){.type = (uint8_t)type, .id = j->letter->id};
    if (type != REC_ABORT)
        q->req.rec.arrival_us = j->letter->arrival_us;
    q->req.rec.body_sum = record_body_sum((struct slice){0});
    return q;
}

static void request_body(struct request *q, uint64_t off, size_t n)
{
    assert(n <= sizeof q->body);
    letter_body(q->job->letter, off, q->body, n);
    q->req.rec.body = slice_of(q->body, n);
    q->req.rec.body_sum = record_body_sum(q->req.rec.body);
    if (q->job->letter->number % 2)
        return;
    q->parts[0] = slice_of(q->body, n / 3);
    q->parts[1] = slice_of(q->body + n / 3, n - n / 3);
    q->req.body_parts = q->parts;
    q->req.body_parts_n = 2;
}

static void request_send(struct request *q, struct node *n)
{
    q->job->under_way++;
    node_request(n, &q->req);
}

static void send_chunk(struct front_job *j, struct node *n)
{
    struct request *q = request_new(j, REC_CHUNK);
    struct wire_wr w = wire_wr(q->meta, sizeof q->meta);
    uint8_t value[4];
    struct wire_wr v = wire_wr(value, sizeof value);
    wire_put_u32(&v, j->sent);
    meta_put(&w, RT_DOMAIN, q->req.domain);
    meta_put(&w, RT_CHUNK_INDEX, slice_of(value, sizeof value));
    q->req.rec.meta = slice_of(q->meta, wire_len(&w));
    request_body(q, (uint64_t)j->sent * LETTER_CHUNK_BYTES, letter_chunk_bytes(j->letter, j->sent));
    j->sent++;
    request_send(q, n);
}

static void send_message(struct front_job *j, struct node *n)
{
    struct request *q = request_new(j, REC_MSG);
    q->req.rec.meta = slice_of(q->meta, letter_meta(j->letter, q->req.domain, q->meta, sizeof q->meta));
    q->req.rec.flags = j->letter->chunks ? REC_F_CHUNKED : 0;
    if (j->letter->chunks == 0)
        request_body(q, 0, j->letter->body_bytes);
    j->msg_sent = true;
    request_send(q, n);
}

static void send_abort(struct front_job *j, struct node *n)
{
    struct request *q = request_new(j, REC_ABORT);
    struct wire_wr w = wire_wr(q->meta, sizeof q->meta);
    meta_put(&w, RT_DOMAIN, q->req.domain);
    q->req.rec.meta = slice_of(q->meta, wire_len(&w));
    request_send(q, n);
}

static void job_go_on(struct front_job *j, struct node *n)
{
    if (j->over)
        return;
    if (j->failed && !j->aborted) {
        j->aborted = true;
        send_abort(j, n);
        job_say(j, false);
        j->over = true;
        return;
    }
    while (!j->failed && j->sent < j->letter->chunks)
        send_chunk(j, n);
    if (!j->failed && !j->msg_sent && j->settled == j->letter->chunks)
        send_message(j, n);
}

static void sweep(struct front *f)
{
    for (struct front_job **at = &f->jobs; *at;) {
        struct front_job *j = *at;
        if (j->over && j->under_way == 0) {
            *at = j->next;
            free(j);
        } else {
            at = &j->next;
        }
    }
}

void front_turn(struct front *f, struct node *n)
{
    for (struct front_job *j = f->jobs; j; j = j->next)
        job_go_on(j, n);
    sweep(f);
}

void front_submit(struct front *f, struct letter *l, simnode_said *said, void *arg)
{
    struct front_job *j = calloc(1, sizeof *j), **at = &f->jobs;
    assert(j);
    *j = (struct front_job){.front = f, .letter = l, .said = said, .arg = arg};
    while (*at)
        at = &(*at)->next;
    *at = j;
}

bool front_busy(const struct front *f)
{
    return f->jobs != NULL;
}

void front_open(struct front *f, struct world *w, uint32_t node)
{
    *f = (struct front){.w = w, .node = node};
}

void front_drop(struct front *f)
{
    for (struct front_job *j = f->jobs, *next; j; j = next) {
        next = j->next;
        if (j->under_way != 0)
            history_fail("n%u ends with %u requests that were never settled", f->node, j->under_way);
        free(j);
    }
    f->jobs = NULL;
}
