/* door_out.c - the outlet door on the spool: claims under the queue's lock, reads on its own reader. */
#include "spool/base/log.h"
#include "spool/base/wire.h"
#include "spool/copier.h"
#include "spool/spool_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <time.h>

enum { CLAIM_BATCH = 64, APPLIED_MS = 100, DAMAGED_RETRY_S = 3600, PREFETCH_GAP = 8192, PREFETCH_MAX = 1 << 20 };

struct ready_name {
    struct ready_name *next;
    size_t n;
    uint8_t name[];
};

struct outlet_door {
    struct outlet out;
    struct spool *s;
    struct segread *heads, *bodies; /* of their own: a batch is claimed while the one before is being read */
    struct outlet_door *next;
    struct bell bell;
    bool armed, listening;
    pthread_mutex_t ready_lock;
    struct ready_name *ready, **ready_tail, *shown;
    /* the record that `bodies` holds now: reads of one message decode it once */
    struct out_msg *held;
    struct record held_rec;
};

/* A claimed message with its envelope, in one allocation. */
struct out_msg {
    struct outlet_msg m;
    struct claim claim;
    struct slice trace;
    uint32_t chunk;     /* the chunk that chunk_off is the start of */
    uint64_t chunk_off; /* offset in the body */
    bool chunk_held;    /* held_rec is that chunk */
    struct slice copyset;
    struct slice rcpts[];
};

/* ---- ready bags */

static void ready_add(struct outlet_door *d, struct slice domain)
{
    struct ready_name *r = malloc(sizeof *r + domain.n);
    if (!r)
        return;
    r->next = NULL;
    r->n = domain.n;
    memcpy(r->name, domain.p, domain.n);
    pthread_mutex_lock(&d->ready_lock);
    *d->ready_tail = r;
    d->ready_tail = &r->next;
    pthread_mutex_unlock(&d->ready_lock);
    bell_ring(&d->bell);
}

void outlet_bag_ready(struct spool *s, struct slice domain)
{
    pthread_mutex_lock(&s->doors_lock);
    for (struct outlet_door *d = s->outlets; d; d = d->next)
        ready_add(d, domain);
    pthread_mutex_unlock(&s->doors_lock);
}

static void ready_seed(void *arg, struct slice domain, const struct bag_stat *st)
{
    (void)st;
    ready_add(arg, domain);
}

/* From the first call on the door hears of bags; it starts with all that have mail. */
static void door_listen(struct outlet_door *d)
{
    struct spool *s = d->s;
    spool_lock(s);
    pthread_mutex_lock(&s->doors_lock);
    d->next = s->outlets;
    s->outlets = d;
    pthread_mutex_unlock(&s->doors_lock);
    queue_bags(s->queue, ready_seed, d);
    spool_unlock(s);
    d->listening = true;
}

static bool out_ready(struct outlet *o, struct slice *domain_r)
{
    struct outlet_door *d = (struct outlet_door *)o;
    if (!d->listening)
        door_listen(d);
    free(d->shown);
    pthread_mutex_lock(&d->ready_lock);
    d->shown = d->ready;
    if (d->ready && !(d->ready = d->ready->next))
        d->ready_tail = &d->ready;
    pthread_mutex_unlock(&d->ready_lock);
    if (d->shown)
        *domain_r = slice_of(d->shown->name, d->shown->n);
    return d->shown != NULL;
}

static bool out_sleep(struct outlet *o)
{
    struct outlet_door *d = (struct outlet_door *)o;
    committer_ring_soon(d->s);
    if (d->armed)
        bell_disarm(&d->bell);
    bell_arm(&d->bell);
    d->armed = true;
    pthread_mutex_lock(&d->ready_lock);
    bool empty = d->ready == NULL;
    pthread_mutex_unlock(&d->ready_lock);
    return empty;
}

/* ---- claiming */

static size_t msg_text_bytes(const struct record *rec, uint32_t rcpts)
{
    return rec->meta.n + rec->copyset.n + rcpts * sizeof(struct slice);
}

/* Meta and copyset are copied whole behind the message; the slices point into the copy. */
static struct out_msg *msg_new(const struct claim *c, const struct record *rec)
{
    uint32_t rcpts = meta_rcpts(rec->meta), n = 0;
    struct out_msg *m = calloc(1, sizeof *m + msg_text_bytes(rec, rcpts));
    if (!m)
        return NULL;
    uint8_t *meta = (uint8_t *)(m->rcpts + rcpts);
    memcpy(meta, rec->meta.p, rec->meta.n);
    m->copyset = slice_of(meta + rec->meta.n, rec->copyset.n);
    if (rec->copyset.n)
        memcpy(meta + rec->meta.n, rec->copyset.p, rec->copyset.n);
    struct wire_rd r = wire_rd(slice_of(meta, rec->meta.n));
    struct meta_tlv t;
    while (meta_next(&r, &t)) {
        if (t.tag == RT_DOMAIN)
            m->m.domain = t.value;
        else if (t.tag == RT_SENDER)
            m->m.sender = t.value;
        else if (t.tag == RT_HELO)
            m->m.helo = t.value;
        else if (t.tag == RT_CLIENT)
            m->m.client = t.value;
        else if (t.tag == RT_TRACE)
            m->trace = t.value;
        else if (t.tag == RT_RCPT && n < rcpts)
            m->rcpts[n++] = t.value;
    }
    m->claim = *c;
    m->m.id = c->id;
    m->m.arrival_us = c->arrival_us;
    m->m.rcpts = m->rcpts;
    m->m.rcpts_n = rcpts;
    m->m.flags = rec->flags & (REC_F_8BIT | REC_F_UTF8);
    m->m.bytes = m->trace.n + c->body_bytes;
    m->m.state = c->state;
    m->m.impl = m;
    return m;
}

/* A record that cannot be read stays in its bag, put off: a copy or a repair may bring it back. Only its own message
 * waits. */
static void claim_damaged(struct outlet_door *d, struct slice domain, const struct claim *c, int rc)
{
    char id[MSGID_TEXT_MAX];
    msgid_format(&c->id, id);
    log_error("spool.unreadable",
              "id=%s domain=%.*s pos=%llx error=\"%s\" remedy=\"satchelctl spool check; satchelctl queue delete\"", id,
              SLICE_FMT(domain), (unsigned long long)c->pos, satchel_strerror(rc));
    struct item_result res = {.item = 0, .end = ITEM_LIVE};
    for (uint32_t i = 0; i < c->state.items; i++)
        if (state_end(&c->state, i) == ITEM_LIVE) {
            res.item = i;
            break;
        }
    status_set(&res.status, 0, 4, 3, 0, "stored copy cannot be read: %s", satchel_strerror(rc));
    spool_lock(d->s);
    queue_finish(d->s->queue, domain, c, &res, 1, clock_wall_us(d->s->clock) + DAMAGED_RETRY_S * 1000000ull, false,
                 NULL);
    spool_unlock(d->s);
}

static struct out_msg *claim_read(struct outlet_door *d, struct slice domain, const struct claim *c)
{
    struct record rec;
    int rc = segread_head(d->heads, c->pos, c->size, &rec);
    struct out_msg *m = rc == 0 ? msg_new(c, &rec) : NULL;
    if (rc < 0) {
        claim_damaged(d, domain, c, rc);
    } else if (!m) {
        spool_lock(d->s);
        queue_unclaim(d->s->queue, &c->id);
        spool_unlock(d->s);
    }
    return m;
}

/* Messages of a bag often lie side by side: one read then serves the heads of all. */
static void claim_prefetch(struct outlet_door *d, const struct claim *c, size_t n)
{
    uint64_t end = c[0].pos + c[0].size;
    for (size_t i = 1; i < n && c[i].pos >= end && c[i].pos - end <= PREFETCH_GAP; i++)
        end = c[i].pos + c[i].size;
    if (end - c[0].pos > c[0].size && end - c[0].pos <= PREFETCH_MAX)
        segread_prefetch(d->heads, c[0].pos, (uint32_t)(end - c[0].pos));
}

static size_t out_claim(struct outlet *o, struct slice domain, enum claim_mode mode, uint64_t before_us,
                        struct outlet_msg **msgs_r, size_t cap)
{
    struct outlet_door *d = (struct outlet_door *)o;
    struct claim *claims = malloc(CLAIM_BATCH * sizeof *claims);
    if (!claims)
        return 0;
    spool_lock(d->s);
    size_t n = queue_claim(d->s->queue, domain, mode, before_us, claims, cap < CLAIM_BATCH ? cap : CLAIM_BATCH);
    spool_unlock(d->s);
    size_t out = 0;
    if (n > 1)
        claim_prefetch(d, claims, n);
    for (size_t i = 0; i < n; i++) {
        struct out_msg *m = claim_read(d, domain, &claims[i]);
        if (m)
            msgs_r[out++] = &m->m;
    }
    free(claims);
    return out;
}

/* What the index knows of a message whose record is damaged. */
static struct out_msg *msg_unreadable(const struct claim *c, struct slice domain)
{
    struct out_msg *m = calloc(1, sizeof *m + c->state.items * sizeof *m->rcpts + domain.n);
    if (!m)
        return NULL;
    uint8_t *name = (uint8_t *)(m->rcpts + c->state.items);
    memcpy(name, domain.p, domain.n);
    m->claim = *c;
    m->m = (struct outlet_msg){.id = c->id,
                               .arrival_us = c->arrival_us,
                               .domain = slice_of(name, domain.n),
                               .rcpts = m->rcpts,
                               .rcpts_n = c->state.items,
                               .bytes = c->body_bytes,
                               .state = c->state,
                               .impl = m,
                               .unreadable = true};
    return m;
}

/* What was answered with 250 moments ago may be on its way to the index still: it is not "not there". */
static int claim_when_applied(struct spool *s, const struct msgid *id, struct claim *c_r, char domain_r[256])
{
    for (int ms = 0;; ms++) {
        bool all = atomic_load(&s->unapplied) == 0;
        spool_lock(s);
        int rc = queue_claim_id(s->queue, id, c_r, domain_r);
        spool_unlock(s);
        if (rc != -SATCHEL_ENOENT || all || ms == APPLIED_MS)
            return rc;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

static int out_claim_id(struct outlet *o, const struct msgid *id, struct outlet_msg **msg_r)
{
    struct outlet_door *d = (struct outlet_door *)o;
    struct claim c;
    struct record rec;
    char domain[256];
    int rc = claim_when_applied(d->s, id, &c, domain);
    if (rc < 0)
        return rc;
    rc = segread_head(d->heads, c.pos, c.size, &rec);
    struct out_msg *m = rc == 0 ? msg_new(&c, &rec) : msg_unreadable(&c, slice_str(domain));
    if (m) {
        *msg_r = &m->m;
        return 0;
    }
    spool_lock(d->s);
    queue_unclaim(d->s->queue, &c.id);
    spool_unlock(d->s);
    return -SATCHEL_ENOMEM;
}

/* ---- reading */

static int load(struct outlet_door *d, struct out_msg *m, uint64_t pos, uint32_t size)
{
    d->held = NULL;
    int rc = segread_record(d->bodies, pos, size, &d->held_rec);
    if (rc == 0)
        d->held = m;
    return rc;
}

static int load_chunk(struct outlet_door *d, struct out_msg *m, uint32_t chunk)
{
    uint64_t pos;
    uint32_t size;
    int rc = queue_chunk(d->s->queue, &m->m.id, chunk, &pos, &size);
    if (rc == 0)
        rc = load(d, m, pos, size);
    return rc;
}

/* Makes the reader hold the chunk in which body offset `off` lies. Chunks differ in size, so they are walked in order.
 */
static int seek_chunk(struct outlet_door *d, struct out_msg *m, uint64_t off)
{
    if (off < m->chunk_off) {
        m->chunk = 0;
        m->chunk_off = 0;
        d->held = NULL;
    }
    for (;;) {
        int rc = d->held == m ? 0 : load_chunk(d, m, m->chunk);
        if (rc < 0)
            return rc;
        if (off - m->chunk_off < d->held_rec.body.n || m->chunk + 1 == m->claim.chunks)
            return 0;
        m->chunk_off += d->held_rec.body.n;
        m->chunk++;
        d->held = NULL;
    }
}

static int out_read(struct outlet *o, struct outlet_msg *msg, uint64_t off, size_t n, struct slice *data_r)
{
    struct outlet_door *d = (struct outlet_door *)o;
    struct out_msg *m = msg->impl;
    if (off < m->trace.n) {
        data_r->p = m->trace.p + off;
        data_r->n = m->trace.n - off < n ? m->trace.n - off : n;
        return (int)data_r->n;
    }
    off -= m->trace.n;
    if (off >= m->claim.body_bytes) {
        *data_r = (struct slice){0};
        return 0;
    }
    int rc = 0;
    if (m->claim.chunks)
        rc = seek_chunk(d, m, off);
    else if (d->held != m)
        rc = load(d, m, m->claim.pos, m->claim.size);
    if (rc < 0)
        return rc;
    uint64_t at = off - m->chunk_off;
    if (at >= d->held_rec.body.n)
        return -SATCHEL_EDAMAGED;
    data_r->p = d->held_rec.body.p + at;
    data_r->n = d->held_rec.body.n - at < n ? d->held_rec.body.n - at : n;
    return (int)data_r->n;
}

/* ---- ending */

static void msg_free(struct outlet_door *d, struct out_msg *m)
{
    if (d->held == m)
        d->held = NULL;
    free(m);
}

static void out_release(struct outlet *o, struct outlet_msg *msg)
{
    struct outlet_door *d = (struct outlet_door *)o;
    spool_lock(d->s);
    queue_unclaim(d->s->queue, &msg->id);
    spool_unlock(d->s);
    msg_free(d, msg->impl);
}

static void dsn_settled(struct spool_append *a)
{
    free((void *)a->e.rec.body.p);
    a->e.rec.body.p = NULL;
}

/* The DSN's records go to the log right before the end of the message it is about: it is never lost with that message
 * gone. */
static int post_dsn(struct spool *s, const struct outlet_dsn *dsn, const struct msgid *about, struct msgid *id_r)
{
    struct msgid id;
    spool_next_id(s, &id);
    uint8_t *body = malloc(dsn->content.n + 1);
    struct spool_append *a = append_msg(s, &dsn->env, &id, (struct slice){0}, 0, 0);
    struct spool_append *link = append_new(s, REC_DSN, 64);
    if (!body || !a || !link) {
        free(body);
        append_free(a);
        append_free(link);
        return -SATCHEL_ENOMEM;
    }
    memcpy(body, dsn->content.p, dsn->content.n);
    a->e.rec.body = slice_of(body, dsn->content.n);
    a->e.rec.body_sum = record_body_sum(a->e.rec.body);
    a->e.flags = ENTRY_RESERVE | ENTRY_LAZY;
    a->settled = dsn_settled;
    uint8_t origin[MSGID_KEY_BYTES];
    msgid_key(about, origin);
    struct wire_wr w = wire_wr(link->meta, 64);
    meta_put(&w, RT_ORIGIN, slice_of(origin, sizeof origin));
    link->e.rec.meta.n = wire_len(&w);
    link->e.rec.id = id;
    link->e.flags = ENTRY_RESERVE | ENTRY_LAZY;
    append_post(s, a);
    append_post(s, link);
    *id_r = id;
    return 0;
}

/* Those who are told how the message ended: its copyset, and who may hold copies of the bag now. */
struct owed {
    struct finish_copies copies;
    uint8_t uuids[REC_COPYSET_MAX * sizeof(struct storage_id)];
};

static void owed_add(struct owed *o, const struct storage_id *self, const uint8_t *uuid)
{
    struct storage_id id;
    memcpy(id.b, uuid, sizeof id.b);
    if (storage_id_eq(&id, self) || o->copies.owed.n == sizeof o->uuids)
        return;
    for (size_t i = 0; i < o->copies.owed.n; i += sizeof id.b)
        if (memcmp(o->uuids + i, uuid, sizeof id.b) == 0)
            return;
    memcpy(o->uuids + o->copies.owed.n, uuid, sizeof id.b);
    o->copies.owed.n += sizeof id.b;
}

static const struct finish_copies *owed_gather(struct spool *s, const struct out_msg *m, struct owed *o)
{
    struct storage_id self;
    uint8_t holders[sizeof o->uuids];
    if (!s->copier)
        return NULL;
    spool_storage_id(s, &self);
    o->copies.owed = slice_of(o->uuids, 0);
    size_t n = s->copier->ops->holders(s->copier, m->m.domain, holders, sizeof holders);
    for (size_t i = 0; i + sizeof self.b <= n; i += sizeof self.b)
        owed_add(o, &self, holders + i);
    for (size_t i = 0; i + sizeof self.b <= m->copyset.n; i += sizeof self.b)
        owed_add(o, &self, m->copyset.p + i);
    return &o->copies;
}

static int out_finish(struct outlet *o, struct outlet_msg *msg, const struct item_result *results, size_t n,
                      uint64_t due_us, bool held, const struct outlet_dsn *dsn)
{
    struct outlet_door *d = (struct outlet_door *)o;
    struct spool *s = d->s;
    struct out_msg *m = msg->impl;
    struct owed owed = {.copies = {.dsn = {.counter = 0}}};
    const struct finish_copies *copies = owed_gather(s, m, &owed);
    int rc = dsn ? post_dsn(s, dsn, &msg->id, &owed.copies.dsn) : 0;
    spool_lock(s);
    if (rc == 0)
        rc = queue_finish(s->queue, msg->domain, &m->claim, results, n, due_us, held, copies);
    else
        queue_unclaim(s->queue, &msg->id);
    spool_unlock(s);
    if (!d->listening)
        bell_ring(&s->to_committer.bell); /* one that listens rings when it sleeps */
    msg_free(d, m);
    return rc;
}

/* ---- looking */

/* Withdrawn by what became of the message elsewhere. */
static bool out_may(struct outlet *o, const struct outlet_msg *m)
{
    (void)o;
    return !atomic_load_explicit(((const struct out_msg *)m->impl)->claim.over, memory_order_acquire);
}

static uint64_t out_next_due(struct outlet *o, struct slice domain)
{
    struct spool *s = ((struct outlet_door *)o)->s;
    spool_lock(s);
    uint64_t due = queue_next_due(s->queue, domain);
    spool_unlock(s);
    return due;
}

static void out_stat(struct outlet *o, struct slice domain, struct bag_stat *st_r)
{
    spool_bag_stat(((struct outlet_door *)o)->s, domain, st_r);
}

static void out_close(struct outlet **o)
{
    struct outlet_door *d = (struct outlet_door *)*o;
    pthread_mutex_lock(&d->s->doors_lock);
    for (struct outlet_door **p = &d->s->outlets; *p; p = &(*p)->next)
        if (*p == d) {
            *p = d->next;
            break;
        }
    pthread_mutex_unlock(&d->s->doors_lock);
    bell_ring(&d->s->to_committer.bell);
    free(d->shown);
    while (d->ready) {
        struct ready_name *next = d->ready->next;
        free(d->ready);
        d->ready = next;
    }
    segread_close(&d->heads);
    segread_close(&d->bodies);
    bell_destroy(&d->bell);
    pthread_mutex_destroy(&d->ready_lock);
    free(d);
    *o = NULL;
}

static const struct outlet_ops out_ops = {out_claim, out_claim_id, out_read, out_finish, out_release, out_may,
                                          out_ready, out_next_due, out_stat, out_sleep,  out_close};

int spool_outlet(struct spool *s, struct outlet **o_r)
{
    struct outlet_door *d = calloc(1, sizeof *d);
    if (!d)
        return -SATCHEL_ENOMEM;
    int rc = segread_open(&d->heads, s->disk);
    if (rc == 0)
        rc = segread_open(&d->bodies, s->disk);
    if (rc == 0)
        rc = bell_init(&d->bell);
    if (rc < 0) {
        segread_close(&d->heads);
        segread_close(&d->bodies);
        free(d);
        return rc;
    }
    pthread_mutex_init(&d->ready_lock, NULL);
    d->ready_tail = &d->ready;
    d->s = s;
    d->out.ops = &out_ops;
    d->out.fd = d->bell.fd;
    *o_r = &d->out;
    return 0;
}
