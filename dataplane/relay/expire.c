/* expire.c - mail that was kept as long as its domain keeps mail: its items end, and the sender is told.
 *
 * A look once a minute at the age of the oldest message costs nothing; only where it is too old are messages claimed,
 * oldest first, deferred and held ones too.  Mail of a domain that is served no more is never expired. */
#include "dataplane/relay/relay_impl.h"

#include "spool/base/metrics.h"

#define EXPIRE_EVERY_US 60000000ull

static void expire_message(struct bag *b, struct outlet_msg *m)
{
    struct item_result *results = b->r->results;
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->rcpts_n && n < RELAY_RCPTS_MAX; i++) {
        if (state_end(&m->state, i) != ITEM_LIVE)
            continue;
        results[n] = (struct item_result){.item = i, .end = ITEM_EXPIRED};
        status_set(&results[n++].status, 0, 4, 4, 7, "kept for %llu s, and the server of %s could not take it",
                   (unsigned long long)b->keep_s, b->name);
    }
    if (n == 0)
        b->r->outlet->ops->release(b->r->outlet, m);
    else
        verdict_finish(b, m, results, n, 0, false, ""); /* more recipients than that: at the next look */
}

/* Returns whether there may be more. */
static bool expire_some(struct bag *b, uint64_t before_us)
{
    struct outlet *o = b->r->outlet;
    struct outlet_msg *got[RELAY_BATCH];
    size_t n = o->ops->claim(o, bag_name(b), CLAIM_OLDER, before_us, got, RELAY_BATCH);
    bool foreign = false;
    for (size_t i = 0; i < n; i++) {
        bool keep = !b->served && got[i]->client.n > 0;
        foreign |= keep;
        if (keep)
            o->ops->release(o, got[i]);
        else
            expire_message(b, got[i]);
    }
    return n == RELAY_BATCH && !foreign;
}

void expire_bag(struct bag *b)
{
    struct relay *r = b->r;
    struct bag_stat s;
    uint64_t wall = clock_wall_us(r->clock), keep_us = b->keep_s * 1000000;
    if (b->gone || r->now_us < r->paused_until_us)
        return;
    if (b->expired_us && r->now_us - b->expired_us < EXPIRE_EVERY_US)
        return;
    b->expired_us = r->now_us;
    r->outlet->ops->stat(r->outlet, bag_name(b), &s);
    if (s.messages == 0 || wall < keep_us || s.oldest_us >= wall - keep_us)
        return;
    if (expire_some(b, wall - keep_us)) {
        b->expired_us = 0; /* again at the next turn: others have theirs between */
        bag_soon(b);
    }
}
