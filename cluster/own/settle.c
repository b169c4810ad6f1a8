/* settle.c - shards that are QUIET and whose claims the relay gave back: has the queue applied the ends of these?
 *
 * One walk over all bags names those with claims; from then on only these are looked at, every LOOK_US: there may be a
 * million others. */
#include "cluster/own/owner_impl.h"

enum {
    LOOK_US = 2000,
    WALK_GAP_US = 5000,
    WALK_SHARE = 4,          /* walks take a quarter of the time at most */
    SETTLE_MAX_US = 2000000, /* claims that are still there then are compaction's, not ends on their way */
};

static bool waits(const struct own_shard *s)
{
    return s->state == OWNER_QUIET && s->idle_us && !s->settled;
}

/* Counted for its shard, if that waits. */
static bool is_busy(struct owner *o, struct slice domain, const struct bag_stat *st)
{
    uint32_t i = st->claimed ? gate_shard_of(o->env.gate, domain) : UINT32_MAX;
    if (i >= o->shards_n || !waits(&o->shards[i]))
        return false;
    o->shards[i].busy++;
    return true;
}

static void keep_busy(void *arg, struct slice domain, const struct bag_stat *st)
{
    struct owner *o = arg;
    if (is_busy(o, domain, st))
        names_add(&o->busy, domain);
}

static void walk(struct owner *o, uint64_t now)
{
    o->busy.n = 0;
    o->env.storage->ops->bags(o->env.storage, keep_busy, o);
    o->walk_us = owner_now(o) + WALK_GAP_US + WALK_SHARE * (owner_now(o) - now);
}

static void look_again(struct owner *o)
{
    struct own_names *l = &o->busy;
    size_t kept = 0;
    for (size_t at = 0, n; at < l->n; at += n) {
        struct slice domain = slice_of(l->bytes + at + 1, l->bytes[at]);
        struct bag_stat st;
        n = 1 + domain.n;
        o->env.storage->ops->bag(o->env.storage, domain, &st);
        if (!is_busy(o, domain, &st))
            continue;
        memmove(l->bytes + kept, l->bytes + at, n);
        kept += n;
    }
    l->n = kept;
}

/* Shards that were looked at; the others wait for the next walk. */
static void judge(struct owner *o, uint64_t now)
{
    for (uint32_t k = 0; k < o->work_n; k++) {
        struct own_shard *s = &o->shards[o->work[k]];
        if (!waits(s))
            continue;
        s->settled = (s->looked && s->busy == 0) || now - s->idle_us >= SETTLE_MAX_US;
        owner_wake(o, s->settled ? 0 : s->looked ? now + LOOK_US : o->walk_us);
    }
}

void settle_tick(struct owner *o, uint64_t now)
{
    uint32_t n = 0, news = 0;
    for (uint32_t k = 0; k < o->work_n; k++) {
        struct own_shard *s = &o->shards[o->work[k]];
        s->busy = 0;
        n += waits(s);
        news += waits(s) && !s->looked;
    }
    if (n == 0)
        return;
    if (news == 0 || now < o->walk_us) {
        look_again(o);
    } else {
        walk(o, now);
        for (uint32_t k = 0; k < o->work_n; k++)
            o->shards[o->work[k]].looked |= waits(&o->shards[o->work[k]]);
    }
    judge(o, now);
}
