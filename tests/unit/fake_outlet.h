/* fake_outlet.h - an outlet door over an array in memory, for tests of the relay.
 *
 * It keeps the contract on purpose to the letter: a bag is announced only when it had no live message before, claims
 * are exclusive, nothing is heard of before ready() was called once, and results are written down for the test to read.
 * The test's thread adds and looks, the relay's claims.  fake_shut withdraws all claims, as a lost lease does; fake_end
 * one, as the end of a message does that comes from elsewhere. */
#pragma once
#include "spool/base/clock.h"
#include "spool/base/err.h"
#include "spool/outlet.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define FAKE_MSGS_MAX 4096

struct fake_msg {
    char domain[64], sender[64], client[32], rcpt_text[4][64], body[256];
    size_t big; /* the body is repeated up to this many bytes */
    struct slice rcpts[4];
    uint32_t rcpts_n;
    struct outlet_msg m;
    bool claimed, over;
    uint32_t releases, era; /* era: of the claim */
    char *big_body;
    struct smtp_status last;
};

struct fake_outlet {
    struct outlet o;
    pthread_mutex_t lock;
    struct fake_msg *msgs[FAKE_MSGS_MAX];
    uint32_t n, first;
    char announced[8][64];
    uint32_t announced_n;
    int finish_error, read_error;
    uint32_t dsns;
    char dsn[32768], dsn_domain[256];
    bool closed, asked;
    atomic_uint era;        /* odd: shut */
    atomic_bool due_passes; /* once: the time that next_due would have said is over before it returns */
    atomic_int shut_asks;   /* that many more questions are answered yes, then it shuts by itself; 0: never */
};

static struct fake_outlet *fake_of(struct outlet *o)
{
    return (struct fake_outlet *)o;
}

static bool fake_is(const struct fake_msg *x, struct slice domain)
{
    return x->m.state.live > 0 && slice_eq(slice_str(x->domain), domain);
}

static bool fake_has_live(struct fake_outlet *f, const char *domain)
{
    for (uint32_t i = 0; i < f->n; i++)
        if (fake_is(f->msgs[i], slice_str(domain)))
            return true;
    return false;
}

static void fake_announce(struct fake_outlet *f, const char *domain)
{
    snprintf(f->announced[f->announced_n++ % 8], 64, "%s", domain);
    if (f->asked)
        eventfd_write(f->o.fd, 1);
}

/* rcpts: up to four, separated by blanks. Returns the message's number. */
static inline uint32_t fake_add(struct fake_outlet *f, const char *domain, const char *sender, const char *rcpts,
                                const char *body, size_t big)
{
    struct fake_msg *x = calloc(1, sizeof *x);
    char list[256], *save;
    pthread_mutex_lock(&f->lock);
    bool empty = !fake_has_live(f, domain);
    snprintf(x->domain, sizeof x->domain, "%s", domain);
    snprintf(x->sender, sizeof x->sender, "%s", sender);
    snprintf(x->client, sizeof x->client, "192.0.2.9");
    snprintf(x->body, sizeof x->body, "Received: by test\r\nSubject: %u\r\n\r\n%s\r\n", f->n, body);
    snprintf(list, sizeof list, "%s", rcpts);
    for (char *r = strtok_r(list, " ", &save); r; r = strtok_r(NULL, " ", &save)) {
        snprintf(x->rcpt_text[x->rcpts_n], 64, "%s", r);
        x->rcpts[x->rcpts_n] = slice_str(x->rcpt_text[x->rcpts_n]);
        x->rcpts_n++;
    }
    size_t n = strlen(x->body);
    x->big = big > n ? big / n * n : n;
    x->big_body = malloc(x->big);
    for (size_t at = 0; at < x->big; at += n)
        memcpy(x->big_body + at, x->body, n);
    x->m = (struct outlet_msg){
        .id = {.counter = f->n + 1},
        .arrival_us = clock_wall_us(clock_system()),
        .domain = slice_str(x->domain),
        .sender = slice_str(x->sender),
        .client = slice_str(x->client),
        .rcpts = x->rcpts,
        .rcpts_n = x->rcpts_n,
        .bytes = x->big,
        .state = {.items = x->rcpts_n, .live = x->rcpts_n},
        .impl = x,
    };
    f->msgs[f->n] = x;
    uint32_t number = f->n++;
    if (empty)
        fake_announce(f, domain);
    pthread_mutex_unlock(&f->lock);
    return number;
}

static size_t fake_claim(struct outlet *o, struct slice domain, enum claim_mode mode, uint64_t before_us,
                         struct outlet_msg **msgs_r, size_t cap)
{
    struct fake_outlet *f = fake_of(o);
    uint64_t now = clock_wall_us(clock_system());
    size_t n = 0;
    if (atomic_load(&f->era) & 1)
        return 0;
    pthread_mutex_lock(&f->lock);
    while (f->first < f->n && f->msgs[f->first]->m.state.live == 0)
        f->first++;
    for (uint32_t i = f->first; i < f->n && n < cap; i++) {
        struct fake_msg *x = f->msgs[i];
        if (!fake_is(x, domain) || x->claimed)
            continue;
        if (mode == CLAIM_DUE ? x->m.state.held || x->m.state.due_us > now : x->m.arrival_us >= before_us)
            continue;
        x->claimed = true;
        x->era = atomic_load(&f->era);
        msgs_r[n++] = &x->m;
    }
    pthread_mutex_unlock(&f->lock);
    return n;
}

static int fake_claim_id(struct outlet *o, const struct msgid *id, struct outlet_msg **msg_r)
{
    (void)o;
    (void)id;
    (void)msg_r;
    return -SATCHEL_ENOENT;
}

static int fake_read(struct outlet *o, struct outlet_msg *m, uint64_t off, size_t n, struct slice *data_r)
{
    struct fake_outlet *f = fake_of(o);
    const struct fake_msg *x = m->impl;
    if (f->read_error)
        return f->read_error;
    size_t left = x->big - off;
    if (n > left)
        n = left;
    if (n > 65536)
        n = 65536;
    *data_r = slice_of(x->big_body + off, n);
    return (int)n;
}

static int fake_finish(struct outlet *o, struct outlet_msg *m, const struct item_result *results, size_t n,
                       uint64_t due_us, bool held, const struct outlet_dsn *dsn)
{
    struct fake_outlet *f = fake_of(o);
    struct fake_msg *x = m->impl;
    pthread_mutex_lock(&f->lock);
    assert(x->claimed);
    x->claimed = false;
    int rc = f->finish_error;
    if (rc == 0) {
        for (size_t i = 0; i < n; i++) {
            if (results[i].end != ITEM_LIVE)
                state_finish(&m->state, results[i].item, results[i].end);
            x->last = results[i].status;
        }
        m->state.attempts++;
        m->state.due_us = due_us;
        m->state.held = held;
        if (dsn) {
            f->dsns++;
            snprintf(f->dsn, sizeof f->dsn, "%.*s", SLICE_FMT(dsn->content));
            snprintf(f->dsn_domain, sizeof f->dsn_domain, "%.*s", SLICE_FMT(dsn->env.domain));
        }
    }
    pthread_mutex_unlock(&f->lock);
    return rc;
}

static void fake_finish_all(struct fake_msg *x)
{
    for (uint32_t i = 0; i < x->rcpts_n; i++)
        state_finish(&x->m.state, i, ITEM_DELIVERED);
}

static void fake_release(struct outlet *o, struct outlet_msg *m)
{
    struct fake_outlet *f = fake_of(o);
    struct fake_msg *x = m->impl;
    pthread_mutex_lock(&f->lock);
    assert(x->claimed);
    x->claimed = false;
    x->releases++;
    if (x->over)
        fake_finish_all(x);
    pthread_mutex_unlock(&f->lock);
}

static bool fake_may(struct outlet *o, const struct outlet_msg *m)
{
    struct fake_outlet *f = fake_of(o);
    const struct fake_msg *x = m->impl;
    if (atomic_load(&f->shut_asks) > 0 && atomic_fetch_sub(&f->shut_asks, 1) == 1)
        atomic_fetch_or(&f->era, 1);
    pthread_mutex_lock(&f->lock);
    bool over = x->over;
    pthread_mutex_unlock(&f->lock);
    return !over && x->era == atomic_load(&f->era);
}

/* The message was delivered elsewhere; where it is claimed, the claim is withdrawn. */
static inline void fake_end(struct fake_outlet *f, uint32_t i)
{
    pthread_mutex_lock(&f->lock);
    struct fake_msg *x = f->msgs[i];
    x->over = true;
    if (!x->claimed)
        fake_finish_all(x);
    else
        fake_announce(f, x->domain);
    pthread_mutex_unlock(&f->lock);
}

/* Withdraws all claims, and says so for this domain. */
static inline void fake_shut(struct fake_outlet *f, const char *domain)
{
    pthread_mutex_lock(&f->lock);
    atomic_fetch_or(&f->era, 1);
    fake_announce(f, domain);
    pthread_mutex_unlock(&f->lock);
}

static inline void fake_unshut(struct fake_outlet *f, const char *domain)
{
    pthread_mutex_lock(&f->lock);
    atomic_store(&f->era, (atomic_load(&f->era) | 1) + 1);
    fake_announce(f, domain);
    pthread_mutex_unlock(&f->lock);
}

static bool fake_ready(struct outlet *o, struct slice *domain_r)
{
    struct fake_outlet *f = fake_of(o);
    static __thread char name[64];
    eventfd_t v;
    pthread_mutex_lock(&f->lock);
    bool any = f->announced_n > 0;
    f->asked = true;
    if (any)
        memcpy(name, f->announced[--f->announced_n], sizeof name);
    else
        eventfd_read(o->fd, &v);
    pthread_mutex_unlock(&f->lock);
    *domain_r = slice_str(name);
    return any;
}

static uint64_t fake_next_due(struct outlet *o, struct slice domain)
{
    struct fake_outlet *f = fake_of(o);
    uint64_t due = UINT64_MAX, now = clock_wall_us(clock_system());
    pthread_mutex_lock(&f->lock);
    for (uint32_t i = 0; i < f->n; i++) {
        const struct fake_msg *x = f->msgs[i];
        if (fake_is(x, domain) && !x->claimed && x->m.state.due_us && x->m.state.due_us < due)
            due = x->m.state.due_us;
    }
    pthread_mutex_unlock(&f->lock);
    if (due != UINT64_MAX && due > now && atomic_exchange(&f->due_passes, false)) {
        usleep((useconds_t)(due - now));
        return 0;
    }
    return due != UINT64_MAX && due <= now ? 0 : due;
}

static void fake_stat(struct outlet *o, struct slice domain, struct bag_stat *st_r)
{
    struct fake_outlet *f = fake_of(o);
    *st_r = (struct bag_stat){0};
    pthread_mutex_lock(&f->lock);
    for (uint32_t i = f->first; i < f->n; i++) {
        const struct fake_msg *x = f->msgs[i];
        if (!fake_is(x, domain))
            continue;
        if (st_r->messages++ == 0)
            st_r->oldest_us = x->m.arrival_us;
        st_r->held += x->m.state.held;
        st_r->deferred += !x->m.state.held && x->m.state.due_us > 0;
        st_r->claimed += x->claimed;
    }
    pthread_mutex_unlock(&f->lock);
}

static bool fake_sleep(struct outlet *o)
{
    struct fake_outlet *f = fake_of(o);
    pthread_mutex_lock(&f->lock);
    bool quiet = !f->asked || f->announced_n == 0;
    pthread_mutex_unlock(&f->lock);
    return quiet;
}

static void fake_close(struct outlet **o)
{
    fake_of(*o)->closed = true;
    *o = NULL;
}

static const struct outlet_ops fake_ops = {
    fake_claim, fake_claim_id, fake_read, fake_finish, fake_release, fake_may,
    fake_ready, fake_next_due, fake_stat, fake_sleep,  fake_close,
};

static struct fake_outlet *fake_open(void)
{
    struct fake_outlet *f = calloc(1, sizeof *f);
    f->o = (struct outlet){&fake_ops, eventfd(0, EFD_NONBLOCK)};
    pthread_mutex_init(&f->lock, NULL);
    return f;
}

static void fake_free(struct fake_outlet *f)
{
    for (uint32_t i = 0; i < f->n; i++) {
        free(f->msgs[i]->big_body);
        free(f->msgs[i]);
    }
    close(f->o.fd);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

/* How many items of the domain ended like this (ITEM_LIVE: are still there). */
static inline uint32_t fake_count(struct fake_outlet *f, const char *domain, enum item_end end)
{
    uint32_t n = 0;
    pthread_mutex_lock(&f->lock);
    for (uint32_t i = 0; i < f->n; i++)
        for (uint32_t k = 0; k < f->msgs[i]->rcpts_n; k++)
            n += strcmp(f->msgs[i]->domain, domain) == 0 && state_end(&f->msgs[i]->m.state, k) == end;
    pthread_mutex_unlock(&f->lock);
    return n;
}

static inline struct fake_msg fake_look(struct fake_outlet *f, uint32_t i)
{
    pthread_mutex_lock(&f->lock);
    struct fake_msg x = *f->msgs[i];
    pthread_mutex_unlock(&f->lock);
    return x;
}
