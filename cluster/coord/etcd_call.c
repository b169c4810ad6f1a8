/* etcd_call.c - one call to etcd, from waiting to done.
 *
 *   waiting -> flying           etcd_calls_run: it may leave (etcd_int.h)
 *   flying  -> done             etcd answered, or nobody may be asked again
 *   flying  -> waiting          the next page of a list; a new token is needed; another endpoint is asked
 *
 * Asked again is only what does no harm twice, and what never left (see etcd_http.h: sent). */
#include "cluster/coord/etcd_int.h"
#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/metrics.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    FLYING_MAX = 32,  /* beside those that are urgent */
    PAGE_KEYS = 5000, /* of one answer */
    PAGE_SHRINK = 8,  /* by so much, after an answer that was too big */
    RENEWALS_MAX = 2, /* of the token, for one call */
    RESTARTS_MAX = 5, /* of a list whose revision is gone */
};

static const struct {
    const char *name, *path;
    bool again;
} kinds[] = {
#define X(kind, name, path, again) [kind] = {name, path, again},
    ETCD_KINDS(X)
#undef X
};

/* A lease must not wait behind other calls. */
static bool call_is_urgent(const struct etcd_call *c)
{
    return c->kind == ETCD_GRANT || c->kind == ETCD_KEEPALIVE || c->kind == ETCD_REVOKE || c->kind == ETCD_AUTH;
}

static uint32_t call_timeout_ms(const struct etcd_call *c)
{
    return c->kind == ETCD_KEEPALIVE ? c->e->keepalive_ms : c->e->timeout_ms;
}

static uint64_t call_deadline(const struct etcd_call *c)
{
    return clock_boot_us(c->e->clock) + call_timeout_ms(c) * UINT64_C(1000);
}

struct etcd_call *etcd_call_new(struct etcd *e, enum etcd_kind kind, void *arg)
{
    if (e->closing)
        return NULL;
    struct etcd_call *c = calloc(1, sizeof *c);
    if (!c)
        abort();
    c->e = e;
    c->kind = kind;
    c->arg = arg;
    c->deadline_us = call_deadline(c);
    etcd_kvs_init(&c->kvs);
    TAILQ_INSERT_TAIL(&e->waiting, c, link);
    return c;
}

static void call_free(struct etcd_call *c)
{
    etcd_kvs_reset(&c->kvs);
    free((void *)c->below.p);
    free((void *)c->from.p);
    free((void *)c->to.p);
    free(c->body);
    free(c);
}

static void list_body(struct etcd_call *c)
{
    free(c->body);
    c->body = etcd_json_range(c->from, c->to, c->rev, c->since, c->limit);
    c->tries = 0;
    c->deadline_us = call_deadline(c);
}

/* From the first page on. */
static void list_restart(struct etcd_call *c)
{
    etcd_kvs_reset(&c->kvs);
    free((void *)c->from.p);
    free((void *)c->to.p);
    etcd_range_of(c->e, c->below, &c->from, &c->to);
    c->rev = 0;
    list_body(c);
}

void etcd_call_list_start(struct etcd_call *c, struct slice prefix)
{
    uint8_t *below = malloc(prefix.n + 1);
    if (!below)
        abort();
    if (prefix.n)
        memcpy(below, prefix.p, prefix.n);
    c->below = slice_of(below, prefix.n);
    c->limit = PAGE_KEYS;
    list_restart(c);
}

/* The page after: from the last key, and the smallest byte behind it, at the revision of the first page. */
static void list_continue(struct etcd_call *c)
{
    struct slice prefix = c->e->prefix, last = c->kvs.kvs[c->kvs.n - 1].key;
    uint8_t *from = malloc(prefix.n + last.n + 1);
    if (!from)
        abort();
    memcpy(from, prefix.p, prefix.n);
    memcpy(from + prefix.n, last.p, last.n);
    from[prefix.n + last.n] = 0;
    free((void *)c->from.p);
    c->from = slice_of(from, prefix.n + last.n + 1);
    list_body(c);
}

static void call_report(struct etcd_call *c, int res, const struct etcd_reply *r)
{
    if (c->kind == ETCD_LIST)
        c->done.list(c->arg, res, c->rev, res ? NULL : c->kvs.kvs, res ? 0 : c->kvs.n);
    else if (c->kind == ETCD_TXN)
        c->done.txn(c->arg, res, r->succeeded, r->rev);
    else if (c->kind != ETCD_AUTH)
        c->done.lease(c->arg, res, c->kind == ETCD_GRANT ? r->lease : c->lease, r->ttl_s, c->sent_us);
}

static void call_count(struct etcd_call *c, int res, const struct etcd_reply *r)
{
    bool failed = res == -SATCHEL_EAGAIN || res == -SATCHEL_EINVAL || res == -SATCHEL_EBUSY;
    if (c->kind == ETCD_AUTH)
        return;
    etcd_reachable_set(c->e, !failed || r->outcome == ETCD_REFUSED, failed ? r->why : "");
    c->e->info.calls++;
    c->e->info.failures += failed;
    metric_add(M_COORD_CALLS, 1);
    metric_add(M_COORD_FAILURES, failed);
}

/* c is out of its queue. */
static void call_end(struct etcd_call *c, int res, const struct etcd_reply *r)
{
    char why[ETCD_WHY_MAX * 2];
    if (res == -SATCHEL_EINVAL)
        log_error("coord.refused", "call=%s endpoint=%s why=%s", kinds[c->kind].name, c->e->endpoints[c->endpoint],
                  log_quote(slice_str(r->why), why, sizeof why));
    call_count(c, res, r);
    call_report(c, res, r);
    call_free(c);
}

static void call_wait(struct etcd_call *c)
{
    TAILQ_INSERT_TAIL(&c->e->waiting, c, link);
}

static bool call_may_repeat(const struct etcd_call *c, bool sent)
{
    return c->tries <= c->e->endpoints_n && (kinds[c->kind].again || !sent) &&
           clock_boot_us(c->e->clock) < c->deadline_us;
}

static void call_failed(struct etcd_call *c, const struct etcd_reply *r, bool sent)
{
    if (call_may_repeat(c, sent))
        call_wait(c);
    else
        call_end(c, r->outcome == ETCD_NONSENSE ? -SATCHEL_EINVAL : -SATCHEL_EAGAIN, r);
}

static void call_token(struct etcd_call *c, struct etcd_reply *r)
{
    struct etcd *e = c->e;
    if (e->user && c->renewals++ < RENEWALS_MAX) {
        etcd_auth_lost(e, c->token_gen);
        call_wait(c);
        return;
    }
    if (!e->user)
        snprintf(r->why, sizeof r->why, "etcd asks for a user: configure user and password for it");
    call_end(c, -SATCHEL_EBUSY, r);
}

static void call_ok(struct etcd_call *c, const struct etcd_reply *r)
{
    if (c->kind == ETCD_LIST && c->rev == 0)
        c->rev = r->rev;
    if (c->kind != ETCD_LIST || !r->more) {
        call_end(c, 0, r);
        return;
    }
    list_continue(c);
    call_wait(c);
}

static void call_compacted(struct etcd_call *c, const struct etcd_reply *r)
{
    if (c->kind != ETCD_LIST || c->restarts++ >= RESTARTS_MAX) {
        call_end(c, -SATCHEL_EAGAIN, r);
        return;
    }
    list_restart(c);
    call_wait(c);
}

static void call_denied(struct etcd_call *c, struct etcd_reply *r)
{
    struct etcd_reply told = *r;
    snprintf(told.why, sizeof told.why, "%.100s: let user %.40s read and write keys below %.60s", r->why,
             c->e->user ? c->e->user : "(none)", (const char *)c->e->prefix.p);
    call_end(c, -SATCHEL_EBUSY, &told);
}

static void call_decide(struct etcd_call *c, struct etcd_reply *r, bool sent)
{
    switch (r->outcome) {
    case ETCD_OK:
        call_ok(c, r);
        break;
    case ETCD_UNAVAILABLE:
    case ETCD_NONSENSE:
        call_failed(c, r, sent);
        break;
    case ETCD_TOKEN:
        call_token(c, r);
        break;
    case ETCD_COMPACTED:
        call_compacted(c, r);
        break;
    case ETCD_DENIED:
        call_denied(c, r);
        break;
    case ETCD_NO_LEASE:
        call_end(c, -SATCHEL_ENOENT, r);
        break;
    case ETCD_REFUSED:
    case ETCD_NO_AUTH:
        call_end(c, -SATCHEL_EINVAL, r);
    }
}

/* True: the page is asked for again with fewer keys. */
static bool call_shrink(struct etcd_call *c)
{
    if (c->kind != ETCD_LIST || c->limit < PAGE_SHRINK)
        return false;
    c->limit /= PAGE_SHRINK;
    list_body(c);
    call_wait(c);
    return true;
}

/* What a half-read page left behind goes: it may be read again. */
static void call_read(struct etcd_call *c, const struct etcd_http_answer *a, struct etcd_reply *r_r)
{
    size_t had = c->kvs.n;
    *r_r = (struct etcd_reply){.outcome = a->end == ETCD_HTTP_UNREACHABLE ? ETCD_UNAVAILABLE : ETCD_NONSENSE};
    if (a->end == ETCD_HTTP_ANSWERED)
        etcd_json_reply(c->kind, a->status, a->body, c->lease, c->e->prefix, &c->kvs, r_r);
    else
        snprintf(r_r->why, sizeof r_r->why, "%s: %s", c->e->endpoints[c->endpoint], a->why);
    if (r_r->outcome != ETCD_OK)
        c->kvs.n = had;
}

/* etcd_http_done */
static void call_answered(void *arg, const struct etcd_http_answer *a)
{
    struct etcd_call *c = arg;
    struct etcd *e = c->e;
    struct etcd_reply r;
    TAILQ_REMOVE(&e->flying, c, link);
    e->flying_n -= !call_is_urgent(c);
    c->req = NULL;
    if (a->end == ETCD_HTTP_TOO_BIG && call_shrink(c))
        return;
    call_read(c, a, &r);
    if (r.outcome == ETCD_UNAVAILABLE || r.outcome == ETCD_NONSENSE)
        etcd_endpoint_failed(e, c->turn, r.why);
    else
        etcd_endpoint_ok(e);
    if (c->kind != ETCD_AUTH) {
        call_decide(c, &r, a->sent);
        return;
    }
    call_free(c);
    etcd_auth_done(e, &r);
}

static bool call_may_leave(const struct etcd_call *c)
{
    const struct etcd *e = c->e;
    if (c->kind == ETCD_AUTH)
        return true;
    return etcd_auth_ready(e) && (call_is_urgent(c) || e->flying_n < FLYING_MAX);
}

/* The first endpoint doesn't get all of the time when another may be asked after it. */
static uint32_t call_attempt_ms(const struct etcd_call *c, uint64_t now)
{
    uint32_t left_ms = (uint32_t)((c->deadline_us - now + 999) / 1000);
    bool another = c->tries == 1 && c->e->endpoints_n > 1 && kinds[c->kind].again;
    return another ? left_ms - left_ms / 3 : left_ms;
}

static void call_leave(struct etcd_call *c, uint64_t now)
{
    struct etcd *e = c->e;
    TAILQ_REMOVE(&e->waiting, c, link);
    TAILQ_INSERT_TAIL(&e->flying, c, link);
    e->flying_n += !call_is_urgent(c);
    c->tries++;
    c->endpoint = e->current;
    c->turn = e->turn;
    c->token_gen = e->token_gen;
    c->sent_us = clock_boot_us(e->clock);
    c->req = etcd_http_post(e->http, &(struct etcd_http_ask){.endpoint = e->endpoints[c->endpoint],
                                                             .path = kinds[c->kind].path,
                                                             .token = c->kind == ETCD_AUTH ? NULL : e->token,
                                                             .body = slice_str(c->body),
                                                             .connect_ms = call_timeout_ms(c) / ETCD_CONNECT_SHARE,
                                                             .timeout_ms = call_attempt_ms(c, now),
                                                             .done = call_answered,
                                                             .arg = c});
}

/* Waited in vain: all endpoints failed, or the token did not come. */
static void call_expire(struct etcd_call *c)
{
    struct etcd *e = c->e;
    struct etcd_reply r = {.outcome = ETCD_UNAVAILABLE};
    snprintf(r.why, sizeof r.why, "%s", e->failed_why[0] ? e->failed_why : "too many calls wait for etcd");
    TAILQ_REMOVE(&e->waiting, c, link);
    if (c->kind == ETCD_AUTH) {
        call_free(c);
        etcd_auth_done(e, &r);
        return;
    }
    call_end(c, -SATCHEL_EAGAIN, &r);
}

void etcd_calls_run(struct etcd *e)
{
    uint64_t now = clock_boot_us(e->clock);
    for (struct etcd_call *c = TAILQ_FIRST(&e->waiting), *next; c; c = next) {
        next = TAILQ_NEXT(c, link);
        if (c->deadline_us <= now)
            call_expire(c);
    }
    etcd_auth_run(e, now);
    if (now < e->retry_us)
        return;
    for (struct etcd_call *c = TAILQ_FIRST(&e->waiting), *next; c; c = next) {
        next = TAILQ_NEXT(c, link);
        if (c->deadline_us > now && call_may_leave(c))
            call_leave(c, now);
    }
}

uint64_t etcd_calls_next_us(const struct etcd *e)
{
    const struct etcd_call *c;
    uint64_t next = etcd_auth_next_us(e);
    TAILQ_FOREACH(c, &e->waiting, link)
    {
        uint64_t at = call_may_leave(c) && e->retry_us < c->deadline_us ? e->retry_us : c->deadline_us;
        next = at < next ? at : next;
    }
    return next;
}

void etcd_calls_deny(struct etcd *e, const char *why)
{
    struct etcd_reply r = {.outcome = ETCD_DENIED};
    struct etcd_calls denied = TAILQ_HEAD_INITIALIZER(denied);
    snprintf(r.why, sizeof r.why, "%.180s: check the user and password for etcd", why);
    TAILQ_CONCAT(&denied, &e->waiting, link);
    for (struct etcd_call *c = TAILQ_FIRST(&denied), *next; c; c = next) {
        next = TAILQ_NEXT(c, link);
        call_end(c, -SATCHEL_EBUSY, &r);
    }
}

void etcd_calls_shut(struct etcd *e)
{
    struct etcd_reply r = {.outcome = ETCD_UNAVAILABLE};
    struct etcd_calls shut = TAILQ_HEAD_INITIALIZER(shut);
    TAILQ_CONCAT(&shut, &e->flying, link);
    TAILQ_CONCAT(&shut, &e->waiting, link);
    for (struct etcd_call *c = TAILQ_FIRST(&shut), *next; c; c = next) {
        next = TAILQ_NEXT(c, link);
        etcd_http_cancel(e->http, &c->req);
        call_report(c, -SATCHEL_ESHUT, &r);
        call_free(c);
    }
}
