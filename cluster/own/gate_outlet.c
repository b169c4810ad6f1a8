/* gate_outlet.c - an outlet door behind the gate: each claim in a wrapper that knows its shard and its grant. */
#include "cluster/own/gate_impl.h"

#include "spool/base/err.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct gate_msg {
    struct outlet_msg m; /* as the inner door's, but impl */
    struct outlet_msg *inner;
    struct gate_msg *prev, *next;
    struct gate_shard *shard;
    uint32_t state; /* of the shard when it was claimed */
};

struct gate_door {
    struct outlet out;
    struct gate *g;
    struct outlet *inner;
    struct gate_door *next; /* of the gate, under its lock */
    int bell;               /* eventfd */
    atomic_bool rung;
    struct gate_msg *claims, *scan, *spare; /* scan: the next claim to look at for ready() */
    uint32_t seen;                          /* closings that were looked at */
};

static struct gate_door *door_of(struct outlet *o)
{
    return (struct gate_door *)o;
}

void gate_door_ring(struct gate_door *d)
{
    if (d->bell >= 0 && !atomic_exchange(&d->rung, true))
        eventfd_write(d->bell, 1);
}

struct gate_door *gate_door_next(const struct gate_door *d)
{
    return d->next;
}

/* ---- claims */

static bool stands(const struct gate_msg *x)
{
    return atomic_load(&x->shard->state) == x->state;
}

static struct gate_msg *msg_wrap(struct gate_door *d, struct outlet_msg *inner, struct gate_shard *s, uint32_t state)
{
    struct gate_msg *x = d->spare;
    if (x)
        d->spare = x->next;
    else if (!(x = malloc(sizeof *x)))
        return NULL;
    x->m = *inner;
    x->m.impl = x;
    x->inner = inner;
    x->shard = s;
    x->state = state;
    x->prev = NULL;
    x->next = d->claims;
    if (x->next)
        x->next->prev = x;
    d->claims = x;
    atomic_fetch_add(&s->claims, 1);
    return x;
}

/* Returns the inner claim; the count goes down when that has ended. */
static struct outlet_msg *msg_unlink(struct gate_door *d, struct gate_msg *x)
{
    if (d->scan == x)
        d->scan = x->next;
    *(x->prev ? &x->prev->next : &d->claims) = x->next;
    if (x->next)
        x->next->prev = x->prev;
    x->next = d->spare;
    d->spare = x;
    return x->inner;
}

static size_t wrap_all(struct gate_door *d, struct outlet_msg **msgs, size_t n, struct gate_shard *s, uint32_t state)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        struct gate_msg *x = msg_wrap(d, msgs[i], s, state);
        if (x)
            msgs[k++] = &x->m;
        else
            d->inner->ops->release(d->inner, msgs[i]);
    }
    return k;
}

static size_t door_claim(struct outlet *o, struct slice domain, enum claim_mode mode, uint64_t before_us,
                         struct outlet_msg **msgs_r, size_t cap)
{
    struct gate_door *d = door_of(o);
    struct gate *g = d->g;
    struct gate_shard *s = gate_at(g, g->shard_of(g->arg, domain));
    size_t n = 0;
    if (!s || (mode == CLAIM_OLDER && atomic_load(&g->doubt)))
        return 0;
    atomic_fetch_add(&s->claims, 1); /* see gate_impl.h */
    uint32_t state = atomic_load(&s->state);
    if ((state & 1) && gate_in_time(g))
        n = wrap_all(d, msgs_r, d->inner->ops->claim(d->inner, domain, mode, before_us, msgs_r, cap), s, state);
    atomic_fetch_sub(&s->claims, 1);
    return n;
}

static int door_claim_id(struct outlet *o, const struct msgid *id, struct outlet_msg **msg_r)
{
    struct gate_door *d = door_of(o);
    struct gate *g = d->g;
    struct outlet_msg *inner;
    int rc = d->inner->ops->claim_id(d->inner, id, &inner);
    if (rc < 0)
        return rc;
    struct gate_shard *s = gate_at(g, g->shard_of(g->arg, inner->domain));
    rc = -SATCHEL_EAGAIN;
    if (s) {
        atomic_fetch_add(&s->claims, 1);
        uint32_t state = atomic_load(&s->state);
        struct gate_msg *x = (state & 1) && gate_in_time(g) ? msg_wrap(d, inner, s, state) : NULL;
        atomic_fetch_sub(&s->claims, 1);
        if (x) {
            *msg_r = &x->m;
            return 0;
        }
    }
    d->inner->ops->release(d->inner, inner);
    return rc;
}

static int door_read(struct outlet *o, struct outlet_msg *m, uint64_t off, size_t n, struct slice *data_r)
{
    struct gate_msg *x = m->impl;
    struct outlet *inner = door_of(o)->inner;
    return inner->ops->read(inner, x->inner, off, n, data_r);
}

static bool door_may(struct outlet *o, const struct outlet_msg *m)
{
    const struct gate_msg *x = m->impl;
    struct outlet *inner = door_of(o)->inner;
    return stands(x) && gate_in_time(door_of(o)->g) && inner->ops->may(inner, x->inner);
}

static void door_release(struct outlet *o, struct outlet_msg *m)
{
    struct gate_door *d = door_of(o);
    struct gate_msg *x = m->impl;
    struct gate_shard *s = x->shard;
    d->inner->ops->release(d->inner, msg_unlink(d, x));
    atomic_fetch_sub(&s->claims, 1);
}

static bool any_delivered(const struct item_result *results, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (results[i].end == ITEM_DELIVERED)
            return true;
    return false;
}

static int door_finish(struct outlet *o, struct outlet_msg *m, const struct item_result *results, size_t n,
                       uint64_t due_us, bool held, const struct outlet_dsn *dsn)
{
    struct gate_door *d = door_of(o);
    struct gate_msg *x = m->impl;
    struct gate_shard *s = x->shard;
    if (!door_may(o, m) && !any_delivered(results, n)) {
        door_release(o, m);
        return -SATCHEL_EAGAIN;
    }
    int rc = d->inner->ops->finish(d->inner, msg_unlink(d, x), results, n, due_us, held, dsn);
    atomic_fetch_sub(&s->claims, 1);
    return rc;
}

/* ---- news */

/* Under the lock, as the ringing is: a ring is either read whole or not seen yet. */
static void bell_drain(struct gate_door *d)
{
    eventfd_t v;
    pthread_mutex_lock(&d->g->lock);
    eventfd_read(d->bell, &v);
    atomic_store(&d->rung, false);
    pthread_mutex_unlock(&d->g->lock);
}

static void look_at_closings(struct gate_door *d)
{
    if (atomic_load(&d->rung))
        bell_drain(d);
    uint32_t closings = atomic_load(&d->g->closings);
    if (closings == d->seen)
        return;
    d->seen = closings;
    d->scan = d->claims;
}

static bool door_ready(struct outlet *o, struct slice *domain_r)
{
    struct gate_door *d = door_of(o);
    look_at_closings(d);
    while (d->scan) {
        struct gate_msg *x = d->scan;
        d->scan = x->next;
        *domain_r = x->m.domain;
        if (!stands(x))
            return true;
    }
    while (d->inner->ops->ready(d->inner, domain_r))
        if (gate_granted(d->g, d->g->shard_of(d->g->arg, *domain_r)))
            return true;
    return false;
}

static bool door_sleep(struct outlet *o)
{
    struct gate_door *d = door_of(o);
    return d->inner->ops->sleep(d->inner) && !d->scan && atomic_load(&d->g->closings) == d->seen;
}

/* What is not ours does not keep the relay awake. */
static bool ours(const struct gate_door *d, struct slice domain)
{
    return gate_granted(d->g, d->g->shard_of(d->g->arg, domain));
}

static uint64_t door_next_due(struct outlet *o, struct slice domain)
{
    struct gate_door *d = door_of(o);
    return ours(d, domain) ? d->inner->ops->next_due(d->inner, domain) : UINT64_MAX;
}

static void door_stat(struct outlet *o, struct slice domain, struct bag_stat *st_r)
{
    struct gate_door *d = door_of(o);
    *st_r = (struct bag_stat){0};
    if (ours(d, domain))
        d->inner->ops->stat(d->inner, domain, st_r);
}

/* ---- opening and closing */

static void door_free(struct gate_door *d)
{
    while (d->spare) {
        struct gate_msg *x = d->spare;
        d->spare = x->next;
        free(x);
    }
    if (d->bell >= 0)
        close(d->bell);
    if (d->out.fd >= 0)
        close(d->out.fd);
    free(d);
}

static void door_close(struct outlet **o)
{
    struct gate_door *d = door_of(*o);
    assert(!d->claims);
    pthread_mutex_lock(&d->g->lock);
    struct gate_door **at = &d->g->doors;
    while (*at != d)
        at = &(*at)->next;
    *at = d->next;
    pthread_mutex_unlock(&d->g->lock);
    d->inner->ops->close(&d->inner);
    door_free(d);
    *o = NULL;
}

static const struct outlet_ops door_ops = {door_claim, door_claim_id, door_read, door_finish, door_release, door_may,
                                           door_ready, door_next_due, door_stat, door_sleep,  door_close};

/* One descriptor for two sources of news. */
static int open_bell(struct gate_door *d)
{
    struct epoll_event in = {.events = EPOLLIN};
    if (d->inner->fd < 0)
        return 0;
    d->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    d->out.fd = epoll_create1(EPOLL_CLOEXEC);
    if (d->bell < 0 || d->out.fd < 0 || epoll_ctl(d->out.fd, EPOLL_CTL_ADD, d->bell, &in) < 0 ||
        epoll_ctl(d->out.fd, EPOLL_CTL_ADD, d->inner->fd, &in) < 0)
        return -errno;
    return 0;
}

int gate_outlet(struct gate *g, struct outlet *inner, struct outlet **o_r)
{
    struct gate_door *d = calloc(1, sizeof *d);
    if (!d)
        return -SATCHEL_ENOMEM;
    d->g = g;
    d->inner = inner;
    d->out = (struct outlet){&door_ops, -1};
    d->bell = -1;
    int rc = open_bell(d);
    if (rc < 0) {
        door_free(d);
        return rc;
    }
    pthread_mutex_lock(&g->lock);
    d->seen = atomic_load(&g->closings);
    d->next = g->doors;
    g->doors = d;
    pthread_mutex_unlock(&g->lock);
    *o_r = &d->out;
    return 0;
}
