/* body.c - from DATA to the answer: bytes into the intake door, and the one place where a 250 is promised.
 *
 * What is wrong with a message is told after its final dot, and is the same however the bytes were cut into pieces:
 * each defect is looked for to the end, and the gravest is named. */
#include "dataplane/smtp/inner.h"
#include "dataplane/smtp/trace.h"
#include "spool/base/err.h"
#include "spool/base/metrics.h"

#include <stdio.h>

static struct intake *door_of(const struct smtp_session *s)
{
    return s->site->intake;
}

static size_t body_trace(void *arg, const struct envelope *env, const struct msgid *id, char *out_r, size_t cap)
{
    const struct smtp_session *s = arg;
    struct smtp_trace t = {
        .hostname = slice_str(s->site->hostname), .protocol = s->esmtp ? "ESMTP" : "SMTP", .date = s->site->date};
    return smtp_trace_format(&t, env, id, out_r, cap);
}

void smtp_body_begin(struct smtp_session *s)
{
    struct smtp_txn *t = s->txn;
    int err = -SATCHEL_ENOMEM;
    if (smtp_txn_seal(t, &s->arena, slice_str(s->helo), slice_str(s->client)))
        err = door_of(s)->ops->begin(door_of(s), t->envs, t->groups_n, body_trace, s, &t->door);
    if (err) {
        t->door = NULL;
        smtp_say(s, smtp_reply_of(err));
        return;
    }
    smtp_hops_init(&t->hops, slice_str(s->site->hostname));
    smtp_enter(s, STATE_DATA);
    smtp_say(s, R_GO);
}

/* What the final dot will be answered with, as far as is known; R_NONE: nothing is wrong yet. */
static enum smtp_reply body_defect(const struct smtp_session *s)
{
    const struct smtp_txn *t = s->txn;
    if (t->data.bare)
        return R_BARE_BODY;
    if (t->bytes > t->max_bytes)
        return R_TOO_BIG;
    if (t->hops.received > s->site->limits.hops || t->hops.own > s->site->limits.own_hops)
        return R_LOOP;
    return t->failed;
}

static void body_give_up(struct smtp_session *s)
{
    if (s->txn->door)
        door_of(s)->ops->abort(s->txn->door);
    s->txn->door = NULL;
}

static void body_room(void *arg)
{
    struct smtp_session *s = arg;
    s->wait = WAIT_NOTHING;
    s->active_us = s->site->boot_us;
    s->out->resume(s->out_arg);
}

/* Stores a run of the body. false: there is no room now, and nothing happened. */
static bool body_store(struct smtp_session *s, struct slice run, bool bare)
{
    struct smtp_txn *t = s->txn;
    if (t->door && run.n && !bare && t->bytes + run.n <= t->max_bytes) {
        int err = door_of(s)->ops->append(t->door, run, body_room, s);
        if (err == -SATCHEL_EAGAIN) {
            s->wait = WAIT_ROOM;
            return false;
        }
        t->failed = smtp_reply_of(err);
    }
    t->bytes += run.n;
    smtp_hops_feed(&t->hops, run);
    return true;
}

/* The transaction is over: its answer was just given. */
static void body_over(struct smtp_session *s, enum smtp_reply r)
{
    if (r == R_LOOP)
        metric_add(M_SMTP_LOOPS, 1);
    smtp_txn_drop(s);
    smtp_enter(s, STATE_READY);
    if (r != R_NONE)
        smtp_say(s, r);
    if (s->shutting && s->state != STATE_CLOSED)
        smtp_say(s, R_SHUT);
}

static void body_accepted(struct smtp_session *s, const struct msgid *ids)
{
    const struct smtp_txn *t = s->txn;
    const struct smtp_policy *p = &s->site->policy;
    for (uint32_t i = 0; p->accepted && i < t->groups_n; i++)
        p->accepted(p->ctx, s, &t->envs[i], &ids[i], t->bytes);
    metric_add(M_SMTP_ACCEPTED, 1);
    metric_add(M_SMTP_ACCEPTED_BYTES, t->bytes);
    char id[MSGID_TEXT_MAX], line[MSGID_TEXT_MAX + 32];
    msgid_format(&ids[0], id);
    int n = snprintf(line, sizeof line, "250 2.0.0 Ok: queued as %s\r\n", id);
    smtp_say_line(s, slice_of(line, (size_t)n));
}

static void body_done(void *arg, int res, const struct msgid *ids, size_t n)
{
    struct smtp_session *s = arg;
    (void)n;
    s->wait = WAIT_NOTHING;
    s->active_us = s->site->boot_us;
    s->txn->door = NULL;
    if (res == 0)
        body_accepted(s, ids);
    body_over(s, smtp_reply_of(res));
    if (s->state != STATE_CLOSED)
        s->out->resume(s->out_arg);
}

static void body_end(struct smtp_session *s)
{
    struct smtp_txn *t = s->txn;
    enum smtp_reply r = body_defect(s);
    if (r == R_NONE) {
        s->messages++;
        int err = door_of(s)->ops->commit(t->door, body_done, s);
        if (err == 0)
            s->wait = WAIT_COMMIT;
        r = smtp_reply_of(err);
    }
    if (r != R_NONE)
        body_over(s, r);
}

size_t smtp_body_feed(struct smtp_session *s, struct slice in)
{
    struct smtp_txn *t = s->txn;
    size_t at = 0;
    s->active_us = s->site->boot_us;
    while (at < in.n) {
        struct smtp_data next = t->data;
        struct slice run;
        size_t n = smtp_data_next(&next, slice_of(in.p + at, in.n - at), &run);
        if (!body_store(s, run, next.bare))
            break;
        t->data = next;
        at += n;
        if (t->door && body_defect(s) != R_NONE)
            body_give_up(s);
        if (next.state == DATA_END) {
            body_end(s);
            break;
        }
    }
    return at;
}
