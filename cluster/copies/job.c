/* job.c - what we asked of a peer that ends with its SYNC_END: messages that we want, messages that we offered.
 *
 * A job is over when SYNC_END came and all that came with its token is durable here.  The link's end, or silence, is
 * its end too, with an error. */
#include "cluster/copies/copies_impl.h"

static struct job *job_new(struct copies *c, struct cpeer *p, enum job_kind what, job_done *done, uint64_t arg)
{
    struct job *j = p->up ? calloc(1, sizeof *j) : NULL;
    if (!j)
        return NULL;
    *j = (struct job){.kind = OBJ_JOB, .what = what, .peer = p, .heard_us = copies_now(c), .done = done, .arg = arg};
    j->token = slots_add(&c->slots, j);
    dlist_add(&c->jobs, &j->link);
    return j;
}

static void job_free(struct copies *c, struct job *j)
{
    slots_del(&c->slots, j->token);
    dlist_del(&j->link);
    free(j);
}

static void job_over(struct copies *c, struct job *j)
{
    struct job was = *j;
    if (was.repair && was.res == 0 && was.got == 0)
        was.res = -SATCHEL_ENOENT;
    job_free(c, j);
    if (was.done)
        was.done(c, was.arg, was.res);
}

/* The job, or NULL where its question could not be sent. */
static struct job *job_ask(struct copies *c, struct job *j, struct fbuf *f)
{
    if (peer_send(c, j->peer, f) == 0)
        return j;
    job_free(c, j);
    return NULL;
}

struct job *job_want(struct copies *c, struct cpeer *p, const struct msgid *ids, size_t n, bool repair, job_done *done,
                     uint64_t arg)
{
    struct job *j = job_new(c, p, JOB_WANT, done, arg);
    if (!j)
        return NULL;
    j->repair = repair;
    j->ended = n == 0;
    if (n == 0)
        return j;
    return job_ask(c, j, wire_ids_frame(FRAME_WANT, FRAME_WANT_VERSION, &j->token, ids, n));
}

static struct fbuf *offer_frame(struct copies *c, uint64_t token, enum ids_kind kind, struct slice domain,
                                const struct offer_entry *entries, size_t n)
{
    struct queue_entry e;
    char name[256];
    struct fbuf *f = fbuf_new(FRAME_IDS, FRAME_IDS_VERSION, 300 + n * (WIRE_ID_BYTES + 10 + WIRE_STATE_MAX));
    if (!f)
        return NULL;
    struct wire_wr w = fbuf_writer(f);
    wire_put_u8(&w, (uint8_t)kind);
    wire_put_u64(&w, token);
    wire_put_name(&w, domain);
    uint8_t *count = w.p;
    uint32_t told = 0;
    wire_put_u32(&w, 0);
    for (size_t i = 0; i < n; i++)
        if (c->env.storage->ops->find(c->env.storage, &entries[i].id, &e, name) == 0) {
            wire_put_entry(&w, &entries[i].id, entries[i].arrival_us, &e.state);
            told++;
        }
    if (fbuf_end(f, &w) < 0) {
        fbuf_unref(f);
        return NULL;
    }
    memcpy(count, &told, sizeof told);
    return f;
}

struct job *job_offer(struct copies *c, struct cpeer *p, enum ids_kind kind, struct slice domain,
                      const struct offer_entry *entries, size_t n, job_done *done, uint64_t arg)
{
    struct job *j = job_new(c, p, JOB_OFFER, done, arg);
    return j ? job_ask(c, j, offer_frame(c, j->token, kind, domain, entries, n)) : NULL;
}

struct job *job_of(struct copies *c, const struct cpeer *from, uint64_t token)
{
    struct job *j = slots_get(&c->slots, token);
    return j && j->kind == OBJ_JOB && j->peer == from ? j : NULL;
}

void job_step(struct copies *c, struct job *j)
{
    j->heard_us = copies_now(c);
    if (j->ended && j->pending == 0)
        job_over(c, j);
}

void job_end(struct copies *c, struct cpeer *from, struct slice payload)
{
    struct wire_rd r = wire_rd(payload);
    uint64_t token = wire_u64(&r);
    int res = (int)wire_u32(&r);
    struct job *j = job_of(c, from, token);
    if (r.bad)
        frame_bad(c, from, "SYNC_END");
    if (r.bad || !j)
        return;
    j->ended = true;
    if (res < 0 && j->res == 0)
        j->res = res;
    job_step(c, j);
}

void jobs_down(struct copies *c, struct cpeer *p)
{
    for (struct dlist *it = c->jobs.next; it != &c->jobs;) {
        struct job *j = dlist_of(it, struct job, link);
        it = it->next;
        if (j->peer != p)
            continue;
        j->res = -SATCHEL_ENOENT;
        job_over(c, j);
        it = c->jobs.next; /* its end may have ended or begun others */
    }
}

void jobs_tick(struct copies *c, uint64_t now)
{
    for (struct dlist *it = c->jobs.next; it != &c->jobs;) {
        struct job *j = dlist_of(it, struct job, link);
        it = it->next;
        uint64_t heard_us = j->what == JOB_OFFER && j->peer->fed_us > j->heard_us ? j->peer->fed_us : j->heard_us;
        if (now - heard_us < JOB_SILENCE_US)
            continue;
        j->res = -SATCHEL_EAGAIN;
        job_over(c, j);
        it = c->jobs.next;
    }
}

void jobs_close(struct copies *c)
{
    while (!dlist_empty(&c->jobs))
        job_free(c, dlist_of(c->jobs.next, struct job, link));
}
