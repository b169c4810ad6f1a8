/* user_evict.c - who must go when the pages for received bytes run short.
 *
 * Bytes wait for two reasons: the app paused (its answer is owed, and it will take them), or something before them is
 * missing.  Only the second kind is looked at, and those whose peer does not take our replies.  Of these go first the
 * ones that made least of what they hold: bytes taken by the app a second and byte held. */
#include "dataplane/net/user_impl.h"

#include "spool/base/log.h"

struct evict {
    struct user *u;
    struct {
        struct uconn *c;
        uint64_t worth;
    } v[USER_EVICT_N];
    uint32_t n, now_s;
};

static bool evictable(const struct uconn *c)
{
    return c->state == UCONN_OPEN ? !c->paused || c->choked : c->state == UCONN_SILENT;
}

static uint64_t worth(const struct evict *e, const struct uconn *c, uint32_t held)
{
    uint64_t age_s = e->now_s - c->since_s + 1;
    return ((uint64_t)c->taken << 20) / age_s / held;
}

/* Keeps the least worthy, in ascending order. */
static void evict_note(struct evict *e, struct uconn *c, uint64_t w)
{
    uint32_t at = e->n;
    if (at == USER_EVICT_N && w >= e->v[at - 1].worth)
        return;
    if (at == USER_EVICT_N)
        at--;
    else
        e->n++;
    for (; at > 0 && e->v[at - 1].worth > w; at--)
        e->v[at] = e->v[at - 1];
    e->v[at].c = c;
    e->v[at].worth = w;
}

static bool evict_visit(void *ctx, struct tcp_conn *tc)
{
    struct evict *e = ctx;
    struct uconn *c = uconn_of(e->u, tc);
    uint32_t held = evictable(c) ? tcp_conn_pages_held(e->u->tcp, tc) : 0; /* others free no page */
    if (held > 0)
        evict_note(e, c, worth(e, c, held));
    c->taken /= 2;
    return true;
}

static bool user_short(const struct user *u)
{
    uint64_t max = u->cfg.stack.tcp.pages_max;
    return stat_get(u->stats, STAT_PAGES_USED) * 100 > max * USER_EVICT_PCT;
}

void user_evict(struct user *u)
{
    if (!user_short(u) || u->now_us < u->evict_us)
        return;
    struct evict e = {.u = u, .now_s = (uint32_t)(u->now_us / 1000000)};
    tcp_conns(u->tcp, evict_visit, &e);
    u->evict_us = u->now_us + (e.n > 0 ? USER_EVICT_US : USER_EVICT_NONE_US);
    for (uint32_t i = 0; i < e.n; i++) {
        stat_add(u->stats, STAT_CONN_EVICTED, 1);
        uconn_kill(e.v[i].c, CONN_END_ERROR);
    }
    if (e.n > 0)
        log_warning("net.evicted", "connections=%u pages=%llu of=%u", e.n,
                    (unsigned long long)stat_get(u->stats, STAT_PAGES_USED), u->cfg.stack.tcp.pages_max);
}
