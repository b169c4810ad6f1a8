/* handover.c - a shard's way to another owner, and the word of one that came to us.
 *
 *   OWNED    flush, while the relay goes on: what is left for HANDING is what became of messages since
 *   QUIET    gate closed -> the relay's claims are 0 -> the queue has applied their ends (settle.c; then one more turn
 *            of the loop: by then copies have heard of all of them)
 *   HANDING  flush -> CAS (shardcas.c) -> HANDED
 *
 * Interrupts relaying from QUIET here to OWNED there: some round trips. */
#include "cluster/own/owner_impl.h"

#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/wire.h"

enum {
    CLAIMS_POLL_US = 2000,
    WARM_AGAIN_US = 2000000,
    REMEMBER_US = 10000000,
};

/* ---- to whom */

static bool is_live(const struct owner *o, const struct storage_id *id)
{
    const struct map_node *n = cmap_storage(o->map, id);
    return n && n->live;
}

static bool in_sync(const struct owner *o, uint32_t shard, const struct storage_id *id)
{
    const struct map_shard *m = owner_mapped(o, shard);
    uint32_t bits = copies_synced(o->env.copies, shard);
    for (uint8_t k = 0; k < m->members_n; k++)
        if (storage_id_eq(&m->members[k], id))
            return bits >> k & 1;
    return false;
}

static bool planned(const struct owner *o, const struct map_shard *m)
{
    return !storage_id_zero(&m->next) && !storage_id_eq(&m->next, &o->cfg.self);
}

/* A member that could own it; in an orderly stop those come first that stay. */
static bool fits(const struct owner *o, const struct storage_id *id, bool staying)
{
    const struct map_node *n = cmap_storage(o->map, id);
    if (storage_id_eq(id, &o->cfg.self) || !n || !n->live)
        return false;
    return !staying || n->state == NODE_ACTIVE || n->state == NODE_CORDONED;
}

/* Shards go to their members in turn, so that one stop does not load one node. */
static bool leave_heir(const struct owner *o, uint32_t shard, bool staying, struct storage_id *to_r)
{
    const struct map_shard *m = owner_mapped(o, shard);
    for (uint32_t k = 0; k < m->members_n; k++) {
        const struct storage_id *id = &m->members[(m->number + k) % m->members_n];
        if (!fits(o, id, staying) || !in_sync(o, shard, id))
            continue;
        *to_r = *id;
        return true;
    }
    return false;
}

bool handover_heir(const struct owner *o, uint32_t shard, struct storage_id *to_r)
{
    const struct map_shard *m = owner_mapped(o, shard);
    if (planned(o, m) && is_live(o, &m->next) && in_sync(o, shard, &m->next)) {
        *to_r = m->next;
        return true;
    }
    return o->leaving && (leave_heir(o, shard, true, to_r) || leave_heir(o, shard, false, to_r));
}

bool handover_possible(const struct owner *o, uint32_t shard)
{
    const struct map_shard *m = owner_mapped(o, shard);
    if (planned(o, m) && is_live(o, &m->next))
        return true;
    for (uint32_t k = 0; o->leaving && k < m->members_n; k++)
        if (fits(o, &m->members[k], false))
            return true;
    return false;
}

/* ---- away from here */

/* Is it still to go where it is going? */
static bool still_meant(const struct owner *o, uint32_t shard)
{
    const struct own_shard *s = &o->shards[shard];
    const struct map_shard *m = owner_mapped(o, shard);
    if (!is_live(o, &s->to) || !cmap_is_member(m, &s->to))
        return false;
    return o->leaving || storage_id_eq(&m->next, &s->to);
}

static void on_warm(void *arg, uint32_t shard, int res)
{
    struct owner *o;
    struct own_shard *s = owner_ticket_end(arg, shard, &o);
    if (!s || s->state != OWNER_OWNED)
        return;
    s->warming = false;
    s->warm = res == 0;
    if (res < 0)
        s->retry_us = owner_now(o) + WARM_AGAIN_US;
}

void handover_begin(struct owner *o, uint32_t shard, const struct storage_id *to)
{
    struct own_shard *s = &o->shards[shard];
    if (s->warming)
        return;
    bool warm = s->state == OWNER_MERGING || (s->warm && storage_id_eq(&s->to, to)); /* or nothing is interrupted */
    s->to = *to;
    if (warm) {
        owner_enter(o, shard, OWNER_QUIET);
        return;
    }
    s->warming = true;
    copies_flush(o->env.copies, shard, to, o->cfg.flush_us, on_warm, owner_ticket(o, s));
}

static void on_flushed(void *arg, uint32_t shard, int res)
{
    struct owner *o;
    struct own_shard *s = owner_ticket_end(arg, shard, &o);
    if (!s || s->state != OWNER_HANDING)
        return;
    s->hand_us[3] = owner_now(o);
    if (res == 0)
        s->flushed = true;
    else
        owner_back(o, shard, "the next owner did not confirm what became of messages here");
}

static void quiet_step(struct owner *o, uint32_t shard, uint64_t now)
{
    struct own_shard *s = &o->shards[shard];
    if (now - s->since_us >= o->cfg.quiet_us) {
        owner_back(o, shard, "a primary keeps us waiting for its answer");
        return;
    }
    if (s->settled) {
        s->hand_us[0] = s->since_us;
        s->hand_us[1] = s->idle_us;
        s->hand_us[2] = now;
        owner_enter(o, shard, OWNER_HANDING);
        copies_flush(o->env.copies, shard, &s->to, o->cfg.flush_us, on_flushed, owner_ticket(o, s));
        return;
    }
    if (gate_claims(o->env.gate, shard) > 0)
        owner_wake(o, now + CLAIMS_POLL_US);
    else if (!s->idle_us)
        s->idle_us = now;
}

void handover_step(struct owner *o, uint32_t shard, uint64_t now)
{
    struct own_shard *s = &o->shards[shard];
    /* A CAS that was asked may still be done: its answer, or the map, decides. */
    bool asked = s->asked || owner_in_doubt(o, shard) || s->stale_rev == owner_mapped(o, shard)->mod_rev;
    if (!asked && !still_meant(o, shard))
        owner_back(o, shard, "the next owner is gone, or another one is wanted");
    else if (s->state == OWNER_QUIET)
        quiet_step(o, shard, now);
}

static void send_handed(struct owner *o, const struct own_shard *s, const struct map_shard *m, int64_t rev)
{
    struct slice pool = slice_str(cmap_shard_pool(o->map, m)->name);
    struct fbuf *f = fbuf_new(FRAME_HANDED, FRAME_HANDED_VERSION, 2 + pool.n + 4 + 8 + 8);
    if (!f)
        return; /* it merges instead */
    struct wire_wr w = fbuf_writer(f);
    wire_put_u16(&w, (uint16_t)pool.n);
    wire_put(&w, pool.p, pool.n);
    wire_put_u32(&w, m->number);
    wire_put_u64(&w, s->epoch + 1);
    wire_put_u64(&w, (uint64_t)rev);
    if (fbuf_end(f, &w) == 0)
        o->env.peers->ops->send(o->env.peers, &s->to, f);
    fbuf_unref(f);
}

void handover_done(struct owner *o, uint32_t shard, int64_t rev)
{
    struct own_shard *s = &o->shards[shard];
    const struct map_node *n = cmap_storage(o->map, &s->to);
    o->handed_over++;
    uint64_t now = owner_now(o), *t = s->hand_us;
    o->hand_us_last = now - t[0];
    send_handed(o, s, owner_mapped(o, shard), rev);
    log_info("owner.handed", "shard=%u to=%s epoch=%llu claims_us=%llu applied_us=%llu flushed_us=%llu agreed_us=%llu",
             shard, n ? n->name : "-", (unsigned long long)s->epoch + 1, (unsigned long long)(t[1] - t[0]),
             (unsigned long long)(t[2] - t[1]), (unsigned long long)(t[3] - t[2]), (unsigned long long)(now - t[3]));
    s->asked = false;
    s->doubt_rev = 0;
    owner_enter(o, shard, OWNER_NOT_OURS);
}

/* ---- to here */

bool handover_was_told(struct owner *o, const struct map_shard *m)
{
    const char *pool = cmap_shard_pool(o->map, m)->name;
    uint64_t now = owner_now(o);
    for (uint32_t k = 0; k < OWNER_HANDED; k++) {
        struct own_handed *h = &o->handed[k];
        if (h->until_us < now || h->number != m->number || h->epoch != m->epoch || strcmp(h->pool, pool) != 0)
            continue;
        h->until_us = 0;
        return true;
    }
    return false;
}

static void remember(struct owner *o, struct slice pool, uint32_t number, uint64_t epoch)
{
    struct own_handed *h = &o->handed[o->handed_at++ % OWNER_HANDED];
    *h = (struct own_handed){.number = number, .epoch = epoch, .until_us = owner_now(o) + REMEMBER_US};
    memcpy(h->pool, pool.p, pool.n);
}

/* Only the CAS of an owner that hands over makes this epoch and says so; a leader's take-over says nothing. */
void handover_frame(struct owner *o, const struct storage_id *from, struct slice payload)
{
    struct wire_rd r = wire_rd(payload);
    struct slice pool = wire_get(&r, wire_u16(&r));
    uint32_t number = wire_u32(&r);
    uint64_t epoch = wire_u64(&r);
    wire_u64(&r); /* the revision */
    char text[STORAGE_ID_TEXT_MAX];
    storage_id_format(from, text);
    if (r.bad || pool.n == 0 || pool.n >= POOL_NAME_MAX) {
        log_warning("owner.frame", "from=%s type=HANDED err=\"malformed\"", text);
        return;
    }
    const struct map_pool *p = o->map ? cmap_pool(o->map, pool) : NULL;
    uint32_t shard = p && number < p->shards ? p->first + number : UINT32_MAX;
    struct own_shard *s = shard < o->shards_n ? &o->shards[shard] : NULL;
    if (s && s->state == OWNER_MERGING && s->epoch == epoch) {
        s->merged = s->handed = true;
        owner_work(o, shard);
        return;
    }
    if (s && owner_mapped(o, shard)->epoch > epoch)
        return; /* it is older than what we know */
    remember(o, pool, number, epoch);
    o->env.changed(o->env.arg);
}
