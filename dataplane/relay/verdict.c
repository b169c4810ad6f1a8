/* verdict.c - what the primary said of a message -> how its items end, who is told, what is logged.
 *
 *   2xx                          delivered
 *   5xx                          bounced, and the sender is told (DSN); put off while the domain's canary is suspicious
 *   4xx                          put off: due again after retry_min, doubled each attempt, up to retry_max
 *   lost before the final dot    nothing: released as it was (conn.c)
 *   lost after the final dot     released, and counted as in doubt: delivering it again may make a duplicate */
#include "dataplane/relay/dsn.h"
#include "dataplane/relay/relay_impl.h"

#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/metrics.h"

#include <stdlib.h>

static const struct {
    const char *event;
    enum metric metric;
} item_ends[] = {
    [ITEM_LIVE] = {"relay.deferred", M_RELAY_DEFERRED},  [ITEM_DELIVERED] = {"relay.delivered", M_RELAY_DELIVERED},
    [ITEM_BOUNCED] = {"relay.bounced", M_RELAY_BOUNCED}, [ITEM_EXPIRED] = {"relay.expired", M_RELAY_EXPIRED},
    [ITEM_DELETED] = {"relay.deleted", M_RELAY_DELETED},
};

static void log_item(const struct bag *b, const struct outlet_msg *m, const char *id, const struct item_result *it,
                     const char *remote)
{
    char status[SMTP_STATUS_TEXT_MAX + 32], quoted[700], rcpt[340];
    if (LOG_LEVEL_INFO > log_level_now)
        return;
    status_format(&it->status, status, sizeof status);
    log_info(item_ends[it->end].event, "id=%s domain=%s rcpt=%s remote=%s attempt=%u status=%s", id, b->name,
             log_quote(m->rcpts[it->item], rcpt, sizeof rcpt), remote[0] ? remote : "-", m->state.attempts + 1,
             log_quote(slice_str(status), quoted, sizeof quoted));
}

static void count(struct bag *b, const struct outlet_msg *m, const struct item_result *res, size_t n,
                  const char *remote)
{
    uint32_t sums[ITEM_DELETED + 1] = {0};
    char id[MSGID_TEXT_MAX];
    msgid_format(&m->id, id);
    for (size_t i = 0; i < n; i++) {
        sums[res[i].end]++;
        log_item(b, m, id, &res[i], remote);
    }
    for (int e = 0; e <= ITEM_DELETED; e++)
        if (sums[e])
            metric_add(item_ends[e].metric, sums[e]);
    pthread_mutex_lock(&b->r->lock);
    b->pub.delivered += sums[ITEM_DELIVERED];
    b->pub.deferred += sums[ITEM_LIVE];
    b->pub.bounced += sums[ITEM_BOUNCED];
    pthread_mutex_unlock(&b->r->lock);
}

/* ---- telling the sender */

static size_t failures_of(const struct outlet_msg *m, const struct item_result *res, size_t n, struct dsn_failure *f_r,
                          bool *expired_r)
{
    size_t k = 0;
    *expired_r = false;
    for (size_t i = 0; i < n; i++) {
        if (res[i].end != ITEM_BOUNCED && res[i].end != ITEM_EXPIRED)
            continue;
        f_r[k++] = (struct dsn_failure){m->rcpts[res[i].item], &res[i].status};
        *expired_r |= res[i].end == ITEM_EXPIRED;
    }
    return k;
}

/* Content is malloc'd; NULL: nobody is to be told. */
static char *make_dsn(struct bag *b, struct outlet_msg *m, const struct item_result *res, size_t n, const char *remote,
                      char domain_r[256], struct outlet_dsn *dsn_r)
{
    struct relay *r = b->r;
    struct dsn_failure failures[RELAY_RCPTS_MAX];
    struct slice head = {0};
    char *content = NULL;
    bool expired, eight_bit;
    size_t k = failures_of(m, res, n, failures, &expired);
    if (k == 0 || !r->cfg.dsn || !dsn_wanted(m->sender, domain_r))
        return NULL;
    if (m->bytes && r->outlet->ops->read(r->outlet, m, 0, DSN_HEADER_MAX, &head) < 0)
        head.n = 0; /* better a report without the header than none */
    struct dsn_request q = {
        .hostname = r->cfg.hostname,
        .remote = remote,
        .id = m->id,
        .sender = m->sender,
        .arrival_us = m->arrival_us,
        .now_us = clock_wall_us(r->clock),
        .original = head,
        .failures = failures,
        .failures_n = k,
        .expired = expired,
    };
    size_t content_n;
    if (dsn_build(&q, &content, &content_n, &eight_bit) < 0)
        return NULL;
    dsn_r->content = slice_of(content, content_n);
    dsn_r->env = (struct envelope){
        .domain = slice_str(domain_r),
        .rcpts = &m->sender,
        .rcpts_n = 1,
        .helo = slice_str(r->cfg.hostname),
        .flags = eight_bit ? REC_F_8BIT : 0,
    };
    return content;
}

static size_t only_delivered(struct item_result *results, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        if (results[i].end == ITEM_DELIVERED)
            results[k++] = results[i];
    return k;
}

int verdict_finish(struct bag *b, struct outlet_msg *m, struct item_result *results, size_t n, uint64_t due_us,
                   bool held, const char *remote)
{
    struct outlet *o = b->r->outlet;
    struct outlet_dsn dsn = {0};
    char domain[256];
    if (!o->ops->may(o, m) && (n = only_delivered(results, n)) == 0) {
        o->ops->release(o, m);
        return -SATCHEL_EAGAIN;
    }
    count(b, m, results, n, remote);
    char *content = make_dsn(b, m, results, n, remote, domain, &dsn);
    int rc = o->ops->finish(o, m, results, n, due_us, held, content ? &dsn : NULL);
    free(content);
    if (rc < 0 && rc != -SATCHEL_EAGAIN)
        relay_pause(b->r, rc);
    else if (rc == 0 && content)
        metric_add(M_RELAY_DSNS, 1);
    return rc;
}

/* ---- deciding */

static uint64_t retry_at(struct bag *b, uint32_t attempts)
{
    const struct relay_config *cfg = &b->r->cfg;
    uint64_t d = cfg->retry_min_us;
    for (uint32_t i = 0; i < attempts && d < cfg->retry_max_us; i++)
        d *= 2;
    if (d > cfg->retry_max_us)
        d = cfg->retry_max_us;
    return clock_wall_us(b->r->clock) + d - rng_below(&b->r->rng, d / 4 + 1);
}

struct tally {
    uint32_t taken, refused, deferred;
};

static struct tally decide(struct bag *b, const struct relay_msg *x, const struct client_result *res)
{
    bool believe = bagstate_believes(&b->st, &b->r->state_cfg, x->m->state.attempts);
    struct tally t = {0};
    for (uint32_t i = 0; i < x->items_n; i++) {
        struct item_result *it = &b->r->results[i];
        const struct smtp_status *st = &res->rcpts[i];
        it->item = x->items[i];
        it->status = *st;
        it->end = st->class == 2 ? ITEM_DELIVERED : st->class == 5 && believe ? ITEM_BOUNCED : ITEM_LIVE;
        t.taken += st->class == 2;
        t.refused += st->class == 5;
        t.deferred += st->class != 2 && st->class != 5;
    }
    return t;
}

static void tell_state(struct bag *b, const struct relay_msg *x, const struct tally *t, const struct smtp_status *st)
{
    if (t->taken)
        bag_event(b, BAG_TAKEN, clock_boot_us(b->r->clock) - x->begun_us, NULL);
    else if (t->deferred)
        bag_event(b, BAG_DEFERRED, 0, st);
    else
        bag_event(b, BAG_REFUSED, 0, st);
}

static bool some_wait(const struct item_result *it, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (it[i].end == ITEM_LIVE)
            return true;
    return false;
}

void verdict_take(struct bag *b, struct relay_msg *x, const struct client_result *res, const char *remote)
{
    struct item_result *results = b->r->results;
    struct tally t = decide(b, x, res);
    /* Recipients that did not fit into this transaction are due at once. */
    uint64_t due = some_wait(results, x->items_n) ? retry_at(b, x->m->state.attempts) : 0;
    verdict_finish(b, x->m, results, x->items_n, due, false, remote);
    if (t.taken)
        b->culprit_n = 0;
    tell_state(b, x, &t, &res->rcpts[0]);
    bag_msg_over(b, x);
    bag_msg_free(b->r, x);
}

static bool all_taken(const struct client_result *res)
{
    return res->stage == CLIENT_AT_DOT && res->accepted == res->rcpts_n && res->rcpts[0].class == 2;
}

bool verdict_taken(struct bag *b, struct relay_msg *x, const struct client_result *res)
{
    struct relay *r = b->r;
    if (!all_taken(res))
        return false;
    x->bag = b;
    x->status = res->rcpts[0];
    b->culprit_n = 0;
    bag_event(b, BAG_TAKEN, clock_boot_us(r->clock) - x->begun_us, NULL);
    bag_msg_over(b, x);
    *(r->taken ? r->taken_tail : &r->taken) = x;
    r->taken_tail = &x->next;
    return true;
}

void verdict_settle(struct relay *r)
{
    while (r->taken) {
        struct relay_msg *x = r->taken;
        r->taken = x->next;
        for (uint32_t i = 0; i < x->items_n; i++)
            r->results[i] = (struct item_result){x->items[i], ITEM_DELIVERED, x->status};
        verdict_finish(x->bag, x->m, r->results, x->items_n, 0, false, x->bag->pub.address);
        bag_msg_free(r, x);
    }
}

void verdict_put_off(struct bag *b, struct relay_msg *x, const struct smtp_status *st, bool held)
{
    struct item_result *results = b->r->results;
    for (uint32_t i = 0; i < x->items_n; i++)
        results[i] = (struct item_result){x->items[i], ITEM_LIVE, *st};
    verdict_finish(b, x->m, results, x->items_n, retry_at(b, x->m->state.attempts), held, "");
    bag_msg_over(b, x);
    bag_msg_free(b->r, x);
}
