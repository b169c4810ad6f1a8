/* fake.c - the world around one session. */
#include "tests/smtp/fake.h"
#include "spool/base/err.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { PATIENCE_US = 10000000 }; /* a wire that still owes something then is broken */

void text_add(struct text *t, const void *p, size_t n)
{
    t->p = realloc(t->p, t->n + n + 1);
    if (n)
        memcpy(t->p + t->n, p, n);
    t->n += n;
    t->p[t->n] = 0;
}

static struct text text_of(struct slice s)
{
    struct text t = {0};
    text_add(&t, s.p, s.n);
    return t;
}

static struct fake *fake_now; /* the door's functions get a transaction only */

/* ---- the door */

static int door_admit(struct intake *in, uint64_t size_hint)
{
    (void)in;
    (void)size_hint;
    return fake_now->fail[FAIL_ADMIT];
}

static void env_copy(struct fake_env *e, const struct envelope *env)
{
    *e = (struct fake_env){.domain = text_of(env->domain),
                           .sender = text_of(env->sender),
                           .helo = text_of(env->helo),
                           .flags = env->flags};
    for (size_t i = 0; i < env->rcpts_n; i++) {
        text_add(&e->rcpts, i ? " <" : "<", i ? 2 : 1);
        text_add(&e->rcpts, env->rcpts[i].p, env->rcpts[i].n);
        text_add(&e->rcpts, ">", 1);
    }
}

static int door_begin(struct intake *in, const struct envelope *envs, size_t n, intake_trace *trace, void *trace_arg,
                      struct intake_txn **txn_r)
{
    struct fake *f = fake_now;
    (void)in;
    if (f->fail[FAIL_BEGIN])
        return f->fail[FAIL_BEGIN];
    struct intake_txn *t = calloc(1, sizeof *t);
    t->msg = calloc(1, sizeof *t->msg);
    t->msg->envs = calloc(n, sizeof *t->msg->envs);
    t->msg->envs_n = n;
    for (size_t i = 0; i < n; i++) {
        char field[1024];
        struct msgid id = {.counter = f->counter + i + 1};
        assert(envs[i].rcpts_n > 0);
        env_copy(&t->msg->envs[i], &envs[i]);
        text_add(&t->msg->envs[i].trace, field, trace(trace_arg, &envs[i], &id, field, sizeof field));
    }
    f->txns_open++;
    *txn_r = t;
    return 0;
}

static int door_append(struct intake_txn *t, struct slice data, intake_room *room, void *arg)
{
    struct fake *f = fake_now;
    assert(!t->committed && data.n > 0);
    if (f->hold_room) {
        f->room = room;
        f->room_arg = arg;
        return -SATCHEL_EAGAIN;
    }
    if (f->fail[FAIL_APPEND])
        return f->fail[FAIL_APPEND];
    text_add(&t->msg->body, data.p, data.n);
    return 0;
}

static int door_commit(struct intake_txn *t, intake_done *done, void *arg)
{
    struct fake *f = fake_now;
    assert(!t->committed);
    if (f->fail[FAIL_COMMIT])
        return f->fail[FAIL_COMMIT];
    t->committed = true;
    t->done = done;
    t->arg = arg;
    struct intake_txn **at = &f->committed;
    while (*at)
        at = &(*at)->next;
    *at = t;
    return 0;
}

static void msg_free(struct fake_msg *m)
{
    for (size_t i = 0; i < m->envs_n; i++) {
        free(m->envs[i].domain.p);
        free(m->envs[i].sender.p);
        free(m->envs[i].trace.p);
        free(m->envs[i].helo.p);
        free(m->envs[i].rcpts.p);
    }
    free(m->envs);
    free(m->body.p);
    free(m);
}

static void door_abort(struct intake_txn *t)
{
    struct fake *f = fake_now;
    assert(!t->dead);
    if (t->committed) { /* stays accepted, without done */
        t->dead = true;
        return;
    }
    f->aborted++;
    f->txns_open--;
    msg_free(t->msg);
    free(t);
}

static void door_store(struct fake *f, struct intake_txn *t)
{
    struct msgid ids[8] = {{{0}, 0}};
    int res = f->fail[FAIL_DONE];
    for (size_t i = 0; i < t->msg->envs_n && i < 8; i++)
        ids[i].counter = f->counter + i + 1;
    if (res == 0) {
        f->counter += t->msg->envs_n;
        f->stored++;
        t->msg->next = f->last;
        f->last = t->msg;
    }
    f->txns_open--;
    if (!t->dead)
        t->done(t->arg, res, ids, t->msg->envs_n);
    if (res)
        msg_free(t->msg);
    free(t);
}

static void door_poll(struct intake *in)
{
    struct fake *f = fake_now;
    (void)in;
    if (f->room && !f->hold_room) {
        intake_room *room = f->room;
        f->room = NULL;
        if (f->open)
            room(f->room_arg);
    }
    while (f->committed && !f->hold_commits) {
        struct intake_txn *t = f->committed;
        f->committed = t->next;
        door_store(f, t);
    }
}

static const struct intake_ops door_ops = {.admit = door_admit,
                                           .begin = door_begin,
                                           .append = door_append,
                                           .commit = door_commit,
                                           .abort = door_abort,
                                           .poll = door_poll};

/* ---- the policy */

static void rcpt_verdict(struct fake *f, const struct smtp_path *path, struct smtp_verdict *v_r)
{
    v_r->kind = VERDICT_REFUSED;
    status_set(&v_r->status, 550, 5, 7, 1, "Relaying denied");
    for (size_t i = 0; i < f->domains_n; i++) {
        struct fake_domain *d = &f->domains[i];
        if (!slice_eq(path->domain, slice_str(d->name)))
            continue;
        v_r->kind = d->pending ? VERDICT_REFUSED : VERDICT_OK;
        v_r->max_message_bytes = d->max_bytes;
        status_set(&v_r->status, 550, 5, 7, 1, "not open yet");
        if (*d->list && !fake_listed(d->name, d->list, path->local)) {
            v_r->kind = VERDICT_REFUSED;
            status_set(&v_r->status, 550, 5, 1, 1, "No such recipient");
        }
    }
}

static void fake_ask(void *ctx, struct smtp_session *s, enum smtp_question q, const struct smtp_path *path,
                     struct smtp_verdict *v_r)
{
    struct fake *f = ctx;
    (void)s;
    assert(!f->asked);
    if (f->later[q]) {
        f->asked = true;
        v_r->kind = VERDICT_PENDING;
    } else if (f->refusing[q]) {
        *v_r = f->refuse;
    } else if (q == ASK_RCPT) {
        rcpt_verdict(f, path, v_r);
    }
}

static void fake_forget(void *ctx, struct smtp_session *s)
{
    struct fake *f = ctx;
    (void)s;
    assert(f->asked);
    f->asked = false;
}

static void fake_accepted(void *ctx, const struct smtp_session *s, const struct envelope *env, const struct msgid *id,
                          uint64_t bytes)
{
    struct fake *f = ctx;
    (void)s;
    (void)env;
    assert(id->counter && bytes == f->last->body.n);
    f->accepted++;
}

/* ---- the wire */

static void out_send(void *arg, struct slice bytes)
{
    struct fake *f = arg;
    f->said += bytes.n;
    f->wire->say(f, bytes);
}

static void out_resume(void *arg)
{
    struct fake *f = arg;
    f->paused = false;
    f->wire->resume(f);
}

static void out_close(void *arg)
{
    struct fake *f = arg;
    f->closed = true;
    f->wire->hang_up(f);
}

static const struct smtp_out out = {out_send, out_resume, out_close};

void fake_accepted_conn(struct fake *f)
{
    f->open = true;
    smtp_session_open(&f->s, &f->site, &out, f, SLICE_LIT("192.0.2.7"));
    smtp_session_greet(&f->s);
}

size_t fake_receive(struct fake *f, struct slice in)
{
    /* a copy of the exact size: a read past the end is seen by the sanitizer */
    uint8_t *copy = malloc(in.n);
    memcpy(copy, in.p, in.n);
    f->paused = true; /* a resume from inside counts */
    size_t n = smtp_session_feed(&f->s, slice_of(copy, in.n));
    free(copy);
    f->taken += n;
    f->paused = f->paused && n < in.n && !f->closed;
    assert(!f->paused || f->s.wait != WAIT_NOTHING);
    return n;
}

bool fake_waits(const struct fake *f)
{
    return f->s.wait != WAIT_NOTHING;
}

void fake_closed_conn(struct fake *f)
{
    if (!f->open)
        return;
    f->open = false;
    smtp_session_close(&f->s);
    assert(!f->asked);
}

void fake_heard(struct fake *f, struct slice bytes)
{
    text_add(&f->out, bytes.p, bytes.n);
}

/* What is still under way; NULL: nothing. */
static const char *under_way(const struct fake *f)
{
    if (!f->open && !f->closed)
        return f->gone ? NULL : "the connection";
    if (!f->closed && !f->gone && !f->paused && f->taken < f->sent)
        return "what the client sent";
    if (f->gone)
        return f->open && !f->closed && !fake_waits(f) ? "the client's end" : NULL;
    if (f->out.n < f->said)
        return "what the session said";
    return f->closed && !f->heard_end ? "the session's end" : NULL;
}

void fake_settle(struct fake *f)
{
    uint64_t until_us = clock_boot_us(clock_system()) + PATIENCE_US;
    do {
        f->wire->turn(f);
        door_poll(&f->door);
        f->stuck = under_way(f);
    } while (f->stuck && clock_boot_us(clock_system()) < until_us);
}

void fake_connect(struct fake *f)
{
    if (f->open || f->gone || f->closed)
        return;
    f->wire->connect(f);
    fake_settle(f);
}

void fake_send(struct fake *f, const uint8_t *p, size_t n)
{
    if (!f->closed)
        f->wire->send(f, p, n);
    f->sent += n;
    fake_settle(f);
}

void fake_answer(struct fake *f, const struct smtp_verdict *v)
{
    assert(f->asked);
    f->asked = false;
    smtp_session_verdict(&f->s, v);
    fake_settle(f);
}

/* A session that has left bytes does not read, and hears of the client's end when it goes on. */
void fake_disconnect(struct fake *f)
{
    if (!f->open || f->gone)
        return;
    f->gone = true;
    f->wire->cut(f);
    if (f->paused)
        f->hold_room = false;
    fake_settle(f);
}

void fake_wait(struct fake *f, uint64_t us)
{
    f->site.boot_us += us;
    smtp_session_tick(&f->s);
    fake_settle(f);
}

/* ---- what is stored */

static void text_part(struct text *t, const char *name, const struct text *value)
{
    text_add(t, name, strlen(name));
    text_add(t, value->p ? value->p : "", value->n);
    text_add(t, "\n", 1);
}

static void spool_message(struct text *t, const struct fake_msg *m)
{
    for (size_t i = 0; i < m->envs_n; i++) {
        const struct fake_env *e = &m->envs[i];
        char flags[32];
        struct text text = {flags, (size_t)snprintf(flags, sizeof flags, "%u", e->flags)};
        text_part(t, "domain ", &e->domain);
        text_part(t, "sender ", &e->sender);
        text_part(t, "rcpts ", &e->rcpts);
        text_part(t, "helo ", &e->helo);
        text_part(t, "flags ", &text);
        text_part(t, "trace ", &e->trace);
    }
    text_part(t, "body ", &m->body);
}

struct text fake_spool(const struct fake *f)
{
    struct text t = {0};
    text_add(&t, "", 0);
    for (const struct fake_msg *m = f->last; m; m = m->next)
        spool_message(&t, m);
    return t;
}

/* ---- life */

void fake_init(struct fake *f, const struct wire *w)
{
    *f = (struct fake){.door = {.ops = &door_ops, .fd = -1}, .wire = w};
    fake_now = f;
    strcpy(f->site.hostname, "mx.satchel.example");
    f->site.limits = smtp_limits_default;
    f->site.intake = &f->door;
    f->site.policy = (struct smtp_policy){.ask = fake_ask, .forget = fake_forget, .accepted = fake_accepted, .ctx = f};
    smtp_site_now(&f->site, 1000000, 1763940100000000);
    text_add(&f->out, "", 0);
}

void fake_free(struct fake *f)
{
    f->wire->end(f);
    f->hold_commits = f->hold_room = false;
    door_poll(&f->door);
    assert(!f->open);
    assert(f->txns_open == 0);
    while (f->last) {
        struct fake_msg *m = f->last;
        f->last = m->next;
        msg_free(m);
    }
    free(f->out.p);
}
