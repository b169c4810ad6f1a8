/* owner.c - the shards this node owns: states, map, lease, tick. */
#include "cluster/own/owner_impl.h"

#include "spool/base/err.h"
#include "spool/base/log.h"

#include <assert.h>
#include <stdlib.h>

enum { BACK_US = 2000000, WORK_AGAIN_US = 500000, LEAVE_IDLE_US = 200000 };

const struct owner_config owner_config_default = {
    .merge_us = 2000000,
    .quiet_us = 30000000,
    .flush_us = 5000000,
    .report_us = 500000,
};

const char *owner_state_name(enum owner_state s)
{
    static const char *const names[] = {"not ours", "merging", "owned", "quiet", "handing"};
    return names[s];
}

uint64_t owner_now(const struct owner *o)
{
    return clock_boot_us(o->env.clock);
}

void owner_wake(struct owner *o, uint64_t at_us)
{
    if (at_us < o->next_us)
        o->next_us = at_us;
}

/* ---- work */

void owner_work(struct owner *o, uint32_t shard)
{
    struct own_shard *s = &o->shards[shard];
    owner_wake(o, 0);
    if (s->in_work)
        return;
    assert(o->work_n < o->work_cap); /* one place for each shard */
    s->in_work = true;
    o->work[o->work_n++] = shard;
}

/* ---- tickets */

struct own_ticket *owner_ticket(struct owner *o, const struct own_shard *s)
{
    struct own_ticket *t = calloc(1, sizeof *t);
    if (!t)
        abort(); /* a few words: there is nothing to say this with */
    t->o = o;
    t->turn = s->turn;
    t->next = o->tickets;
    if (t->next)
        t->next->prev = t;
    o->tickets = t;
    return t;
}

struct own_shard *owner_ticket_end(struct own_ticket *t, uint32_t shard, struct owner **o_r)
{
    struct owner *o = *o_r = t->o;
    uint32_t turn = t->turn;
    *(t->prev ? &t->prev->next : &o->tickets) = t->next;
    if (t->next)
        t->next->prev = t->prev;
    free(t);
    bool ours = shard < o->shards_n && o->shards[shard].turn == turn;
    if (ours)
        owner_work(o, shard);
    return ours ? &o->shards[shard] : NULL;
}

/* ---- states */

static void on_merged(void *arg, uint32_t shard, int res)
{
    struct owner *o;
    struct own_shard *s = owner_ticket_end(arg, shard, &o);
    if (!s || s->state != OWNER_MERGING)
        return;
    if (res < 0)
        log_info("owner.merge", "shard=%u err=\"some holders are not reached\" action=\"delivered all the same\"",
                 shard);
    s->merged = true;
}

static void start_merging(struct owner *o, uint32_t shard)
{
    struct own_shard *s = &o->shards[shard];
    const struct map_shard *m = owner_mapped(o, shard);
    s->epoch = m->epoch;
    s->confirmed = false;
    s->merged = s->handed = handover_was_told(o, m);
    s->stale_rev = 0;
    s->retry_us = 0;
    if (!s->merged)
        copies_merge(o->env.copies, shard, o->cfg.merge_us, on_merged, owner_ticket(o, s));
}

static void start_owning(struct owner *o, uint32_t shard, enum owner_state old, uint64_t took_us)
{
    struct own_shard *s = &o->shards[shard];
    gate_grant(o->env.gate, shard, true);
    s->announce = o->announcing = true;
    if (old != OWNER_MERGING)
        return;
    o->adopt_us_last = took_us;
    o->adopted += !s->handed;
    log_info("owner.owned", "shard=%u epoch=%llu after_us=%llu handed=%d", shard, (unsigned long long)s->epoch,
             (unsigned long long)took_us, s->handed);
}

void owner_enter(struct owner *o, uint32_t shard, enum owner_state state)
{
    struct own_shard *s = &o->shards[shard];
    enum owner_state old = s->state;
    uint64_t now = owner_now(o), took = now - s->since_us;
    log_debug("owner.state", "shard=%u old=\"%s\" new=\"%s\"", shard, owner_state_name(old), owner_state_name(state));
    if (state != OWNER_OWNED)
        gate_grant(o->env.gate, shard, false);
    if (old == OWNER_HANDING && s->asked)
        s->doubt_rev = owner_mapped(o, shard)->mod_rev;
    s->state = state;
    s->since_us = now;
    s->turn = ++o->turns;
    s->solo = s->settled = s->flushed = s->asked = s->looked = s->warming = s->warm = false;
    s->idle_us = 0;
    if (state == OWNER_MERGING)
        start_merging(o, shard);
    if (state == OWNER_OWNED)
        start_owning(o, shard, old, took);
    report_dirty(o, shard);
    owner_work(o, shard);
}

void owner_back(struct owner *o, uint32_t shard, const char *why)
{
    struct own_shard *s = &o->shards[shard];
    log_warning("owner.kept", "shard=%u state=\"%s\" why=\"%s\"", shard, owner_state_name(s->state), why);
    owner_enter(o, shard, OWNER_OWNED);
    s->retry_us = owner_now(o) + BACK_US;
}

/* ---- the map */

/* Does every shard that there was have its old number? */
static bool keeps_layout(const struct cmap *before, const struct cmap *now)
{
    if (!before || before->shards_n > now->shards_n)
        return false;
    for (uint32_t i = 0; i < before->pools_n; i++) {
        const struct map_pool *old = &before->pools[i], *new = cmap_pool(now, slice_str(old->name));
        if (!new || new->first != old->first || new->shards != old->shards)
            return false;
    }
    return true;
}

static void close_all(struct owner *o)
{
    for (uint32_t i = 0; i < o->shards_n; i++)
        if (o->shards[i].state != OWNER_NOT_OURS)
            owner_enter(o, i, OWNER_NOT_OURS);
}

/* What is known of a shard beyond its state moves to its new number. */
static void carry_over(struct owner *o, const struct cmap *map, struct own_shard *shards)
{
    for (uint32_t p = 0; o->map && p < o->map->pools_n; p++) {
        const struct map_pool *old = &o->map->pools[p], *now = cmap_pool(map, slice_str(old->name));
        uint32_t n = !now ? 0 : now->shards < old->shards ? now->shards : old->shards;
        for (uint32_t i = 0; i < n; i++) {
            shards[now->first + i].emptied = o->shards[old->first + i].emptied;
            shards[now->first + i].doubt_rev = o->shards[old->first + i].doubt_rev;
        }
    }
}

/* Room for the map's shards.  Where they have other numbers than before, all gates are closed, and those that are ours
 * begin anew. */
static bool lay_out(struct owner *o, const struct cmap *map, bool same)
{
    uint32_t n = map->shards_n, kept = same ? o->shards_n : 0;
    struct own_shard *shards = calloc(n + 1, sizeof *shards);
    uint32_t *work = calloc(n + 1, sizeof *work);
    if (!same)
        close_all(o);
    if (!shards || !work) {
        free(shards);
        free(work);
        log_error("owner.map", "shards=%u err=\"no memory\" action=\"this map is not used\"", n);
        return false;
    }
    if (same && kept)
        memcpy(shards, o->shards, kept * sizeof *shards);
    else
        carry_over(o, map, shards);
    o->work_n = same ? o->work_n : 0;
    if (o->work_n)
        memcpy(work, o->work, o->work_n * sizeof *work);
    free(o->shards);
    free(o->work);
    o->shards = shards;
    o->work = work;
    o->shards_n = o->work_cap = n;
    for (uint32_t i = kept; i < n; i++)
        shards[i].turn = ++o->turns;
    return true;
}

static bool owned_by_map(const struct owner *o, const struct map_shard *m)
{
    return m->mod_rev && storage_id_eq(&m->owner, &o->cfg.self);
}

/* We gave it away and did not hear that it worked. */
static bool gave_away(const struct own_shard *s, const struct map_shard *m)
{
    return s->state == OWNER_HANDING && s->flushed && m->epoch == s->epoch + 1 && storage_id_eq(&m->owner, &s->to);
}

static void shard_mapped(struct owner *o, uint32_t i, const struct map_shard *before)
{
    struct own_shard *s = &o->shards[i];
    const struct map_shard *m = owner_mapped(o, i);
    bool ours = owned_by_map(o, m);
    if (s->state != OWNER_NOT_OURS && gave_away(s, m))
        handover_done(o, i, m->mod_rev);
    else if (s->state != OWNER_NOT_OURS && (!ours || m->epoch != s->epoch))
        owner_enter(o, i, OWNER_NOT_OURS);
    if (s->state == OWNER_NOT_OURS && ours && o->leased && !o->leaving)
        owner_enter(o, i, OWNER_MERGING);
    if (before && before->mod_rev == m->mod_rev)
        return;
    s->emptied &= cmap_is_former(m, &o->cfg.self);
    s->solo = false;
    s->retry_us = 0;
    report_dirty(o, i);
    owner_work(o, i);
}

void owner_map(struct owner *o, const struct cmap *map)
{
    const struct cmap *before = o->map;
    bool same = keeps_layout(before, map);
    uint32_t known = same ? o->shards_n : 0;
    if ((!same || map->shards_n > known) && !lay_out(o, map, same))
        return;
    o->map = cmap_ref(map);
    for (uint32_t i = 0; i < map->shards_n; i++)
        shard_mapped(o, i, i < known ? &before->shards[i] : NULL);
    cmap_unref(before);
    report_map(o);
    owner_wake(o, 0);
}

void owner_lease(struct owner *o, bool leased)
{
    if (o->leased == leased)
        return;
    o->leased = leased;
    if (!leased)
        close_all(o);
    for (uint32_t i = 0; leased && !o->leaving && i < o->shards_n; i++)
        if (owned_by_map(o, owner_mapped(o, i)))
            owner_enter(o, i, OWNER_MERGING);
    owner_wake(o, 0);
}

/* ---- news */

void owner_frame(struct owner *o, const struct storage_id *from, uint16_t type, struct slice payload)
{
    if (type == FRAME_HANDED)
        handover_frame(o, from, payload);
    else if (type == FRAME_REPORT)
        report_frame(o, payload);
}

void owner_emptied(struct owner *o, uint32_t shard)
{
    if (shard >= o->shards_n)
        return;
    o->shards[shard].emptied = cmap_is_former(owner_mapped(o, shard), &o->cfg.self);
    owner_work(o, shard);
}

void owner_synced(struct owner *o, uint32_t shard)
{
    if (shard >= o->shards_n || o->shards[shard].state == OWNER_NOT_OURS)
        return;
    report_dirty(o, shard);
    owner_work(o, shard);
}

void owner_again(struct owner *o)
{
    owner_wake(o, 0);
}

/* ---- the tick */

static void shard_step(struct owner *o, uint32_t i, uint64_t now)
{
    struct own_shard *s = &o->shards[i];
    struct storage_id to;
    if (s->state == OWNER_MERGING && s->merged && s->confirmed && (!o->env.may || o->env.may(o->env.arg, i)))
        owner_enter(o, i, OWNER_OWNED);
    bool mine = s->state == OWNER_OWNED || (s->state == OWNER_MERGING && o->leaving);
    if (!mine || !handover_heir(o, i, &to))
        s->warm = false;
    else if (now >= s->retry_us)
        handover_begin(o, i, &to);
    if (s->state == OWNER_QUIET || s->state == OWNER_HANDING)
        handover_step(o, i, now);
}

/* Is there anything that the next tick may do? An owned shard whose heir is not in sync is looked at again when that
 * changes (owner_synced, the map). */
static bool has_work(const struct owner *o, uint32_t i)
{
    const struct own_shard *s = &o->shards[i];
    bool moving = s->state == OWNER_MERGING || s->state == OWNER_QUIET || s->state == OWNER_HANDING;
    return moving || s->emptied || (s->state == OWNER_OWNED && handover_possible(o, i));
}

static void work_tick(struct owner *o, uint64_t now)
{
    for (uint32_t k = 0; k < o->work_n; k++)
        shard_step(o, o->work[k], now);
    settle_tick(o, now);
    shardcas_tick(o, now);
    uint32_t kept = 0;
    for (uint32_t k = 0; k < o->work_n; k++) {
        uint32_t i = o->work[k];
        o->shards[i].in_work = has_work(o, i);
        if (o->shards[i].in_work)
            o->work[kept++] = i;
    }
    o->work_n = kept;
    if (kept)
        owner_wake(o, now + WORK_AGAIN_US);
}

/* Nobody can take the shard from us.  Others take it when our lease is given back: until then what the relay holds of
 * it comes to its end, and is told. */
static bool leave_closed(struct owner *o, uint32_t i)
{
    gate_grant(o->env.gate, i, false);
    return gate_claims(o->env.gate, i) == 0;
}

static bool leave_over(struct owner *o, uint64_t now)
{
    bool over = true;
    if (!o->map || !o->leased || now >= o->leave_until_us)
        return true;
    for (uint32_t i = 0; i < o->shards_n; i++)
        if (o->shards[i].state != OWNER_NOT_OURS)
            over = (handover_possible(o, i) ? false : leave_closed(o, i)) && over;
    if (!over || !o->leave_idle_us)
        o->leave_idle_us = now;
    return over && now - o->leave_idle_us >= LEAVE_IDLE_US;
}

static void leave_tick(struct owner *o, uint64_t now)
{
    void (*left)(void *arg) = o->left;
    if (!left)
        return;
    if (!leave_over(o, now)) {
        owner_wake(o, now + 100000);
        return;
    }
    o->left = NULL;
    left(o->left_arg);
}

void owner_tick(struct owner *o)
{
    uint64_t now = owner_now(o);
    if (now < o->next_us)
        return;
    o->next_us = UINT64_MAX;
    if (o->map) {
        work_tick(o, now);
        announce_tick(o, now);
        report_tick(o, now);
        drain_tick(o, now);
    }
    leave_tick(o, now);
}

uint64_t owner_next_us(const struct owner *o)
{
    return o->next_us;
}

void owner_leave(struct owner *o, uint64_t wait_us, void (*done)(void *arg), void *arg)
{
    o->leaving = true;
    o->leave_until_us = owner_now(o) + wait_us;
    o->left = done;
    o->left_arg = arg;
    for (uint32_t i = 0; i < o->shards_n; i++)
        if (o->shards[i].state != OWNER_NOT_OURS) {
            o->shards[i].retry_us = 0;
            owner_work(o, i);
        }
    owner_wake(o, 0);
}

/* ---- looking */

enum owner_state owner_shard(const struct owner *o, uint32_t shard)
{
    return shard < o->shards_n ? o->shards[shard].state : OWNER_NOT_OURS;
}

void owner_info(const struct owner *o, struct owner_info *info_r)
{
    *info_r = (struct owner_info){
        .adopted = o->adopted,
        .handed = o->handed_over,
        .adopt_us_last = o->adopt_us_last,
        .hand_us_last = o->hand_us_last,
    };
    for (uint32_t i = 0; i < o->shards_n; i++) {
        info_r->owned += o->shards[i].state == OWNER_OWNED;
        info_r->merging += o->shards[i].state == OWNER_MERGING;
        info_r->handing += o->shards[i].state == OWNER_QUIET || o->shards[i].state == OWNER_HANDING;
    }
    const struct map_node *n = o->map ? cmap_storage(o->map, &o->cfg.self) : NULL;
    info_r->drained = n && n->state == NODE_DRAINED;
}

/* ---- opening and closing */

int owner_open(struct owner **o_r, const struct owner_config *cfg, const struct owner_env *env)
{
    struct owner *o = calloc(1, sizeof *o);
    if (!o)
        return -SATCHEL_ENOMEM;
    o->cfg = *cfg;
    o->env = *env;
    *o_r = o;
    return 0;
}

void owner_close(struct owner **op)
{
    struct owner *o = *op;
    if (!o)
        return;
    close_all(o);
    shardcas_close(o);
    while (o->tickets) {
        struct own_ticket *t = o->tickets;
        o->tickets = t->next;
        free(t);
    }
    cmap_unref(o->map);
    free(o->shards);
    free(o->work);
    free(o->names.bytes);
    free(o->busy.bytes);
    free(o);
    *op = NULL;
}
