/* report.c - an owner tells the leader which members of its shards are in sync.
 *
 *   REPORT payload: entries until its end: u16 n, pool name (n bytes), u32 shard, u64 epoch, u32 hash of the members,
 *                   u32 synced (bit i: members[i])
 *
 * What changed is told within report_us; everything ten times as seldom, and at once to a new leader. */
#include "cluster/own/owner_impl.h"

#include "cluster/map/leader.h"
#include "spool/base/log.h"
#include "spool/base/wire.h"

enum { ENTRY_MAX = 2 + POOL_NAME_MAX + 4 + 8 + 4 + 4, FRAME_ENTRIES = 2000, ALL_FACTOR = 10 };

void report_dirty(struct owner *o, uint32_t shard)
{
    uint64_t at = owner_now(o) + o->cfg.report_us;
    o->shards[shard].dirty = true;
    if (o->report_us == 0 || at < o->report_us)
        o->report_us = at;
    owner_wake(o, o->report_us);
}

void report_map(struct owner *o)
{
    const struct map_node *n = o->map->leader[0] ? cmap_node(o->map, o->map->leader) : NULL;
    struct storage_id leader = n ? n->storage : (struct storage_id){0};
    if (storage_id_eq(&leader, &o->leader))
        return;
    o->leader = leader;
    o->report_all_us = 0;
}

static void put_entry(struct owner *o, struct wire_wr *w, uint32_t shard, uint32_t synced)
{
    const struct map_shard *m = owner_mapped(o, shard);
    struct slice pool = slice_str(cmap_shard_pool(o->map, m)->name);
    wire_put_u16(w, (uint16_t)pool.n);
    wire_put(w, pool.p, pool.n);
    wire_put_u32(w, m->number);
    wire_put_u64(w, o->shards[shard].epoch);
    wire_put_u32(w, leader_members_hash(m));
    wire_put_u32(w, synced);
}

/* Up to FRAME_ENTRIES shards from *i on; false: it could not be sent. */
static bool send_some(struct owner *o, uint32_t *i)
{
    struct fbuf *f = fbuf_new(FRAME_REPORT, FRAME_REPORT_VERSION, (size_t)FRAME_ENTRIES * ENTRY_MAX);
    uint32_t n = 0;
    if (!f)
        return false;
    struct wire_wr w = fbuf_writer(f);
    for (; *i < o->shards_n && n < FRAME_ENTRIES; ++*i) {
        if (!o->shards[*i].dirty || o->shards[*i].state == OWNER_NOT_OURS)
            continue;
        put_entry(o, &w, *i, copies_synced(o->env.copies, *i));
        n++;
    }
    bool sent = n == 0 || (fbuf_end(f, &w) == 0 && o->env.peers->ops->send(o->env.peers, &o->leader, f) == 0);
    fbuf_unref(f);
    return sent;
}

static void tell_ourselves(struct owner *o)
{
    for (uint32_t i = 0; i < o->shards_n; i++)
        if (o->shards[i].dirty && o->shards[i].state != OWNER_NOT_OURS)
            o->env.report(o->env.arg, i, o->shards[i].epoch, leader_members_hash(owner_mapped(o, i)),
                          copies_synced(o->env.copies, i));
}

static bool tell_leader(struct owner *o)
{
    uint32_t i = 0;
    bool sent = true;
    if (storage_id_zero(&o->leader))
        return false;
    if (storage_id_eq(&o->leader, &o->cfg.self))
        tell_ourselves(o);
    else
        while (sent && i < o->shards_n)
            sent = send_some(o, &i);
    return sent;
}

void report_tick(struct owner *o, uint64_t now)
{
    bool all = now >= o->report_all_us;
    if (all || (o->report_us && now >= o->report_us)) {
        for (uint32_t i = 0; i < o->shards_n; i++)
            o->shards[i].dirty |= all;
        bool told = tell_leader(o);
        for (uint32_t i = 0; told && i < o->shards_n; i++)
            o->shards[i].dirty = false;
        o->report_us = told ? 0 : now + o->cfg.report_us;
        if (all)
            o->report_all_us = now + ALL_FACTOR * o->cfg.report_us;
    }
    owner_wake(o, o->report_us && o->report_us < o->report_all_us ? o->report_us : o->report_all_us);
}

void report_frame(struct owner *o, struct slice payload)
{
    struct wire_rd r = wire_rd(payload);
    while (o->map && !r.bad && wire_left(&r) > 0) {
        const struct map_pool *p = cmap_pool(o->map, wire_get(&r, wire_u16(&r)));
        uint32_t number = wire_u32(&r);
        uint64_t epoch = wire_u64(&r);
        uint32_t hash = wire_u32(&r), synced = wire_u32(&r);
        if (!r.bad && p && number < p->shards)
            o->env.report(o->env.arg, p->first + number, epoch, hash, synced);
    }
    if (r.bad)
        log_warning("owner.frame", "type=REPORT err=\"malformed\"");
}
