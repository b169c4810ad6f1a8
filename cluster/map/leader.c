/* leader.c - who leads, and when something is looked at.
 *
 * The office is the key "leader" under our lease.  We lead while the map shows it with the revision of our own txn; the
 * txns of our changes compare it, so that a leader that was replaced without knowing changes nothing.
 * Files: leader_plan.c (what should be), leader_work.c (changes on their way), leader_step.c (the next change of one
 * shard). */
#include "cluster/map/leader.h"

#include <stdlib.h>

#include "cluster/map/leader_impl.h"
#include "cluster/map/map_impl.h"
#include "spool/base/err.h"
#include "spool/base/log.h"

#define REPORT_WAIT_US 50000 /* reports are taken together */
#define STAGGER_US     50000 /* the live nodes stand for a free office one after the other */
#define STAGGERS_MAX   20
#define MEMBERS_SEED   0x6d656d62657273ULL

int leader_open(struct leader **l_r, const struct leader_config *cfg, struct coord *coord, const struct clock *clock)
{
    struct leader *l = calloc(1, sizeof *l);
    if (!l)
        return -SATCHEL_ENOMEM;
    l->cfg = *cfg;
    l->coord = coord;
    l->clock = clock;
    l->batch_max = BATCH_MAX;
    l->campaign_us = UINT64_MAX;
    l->look_us = UINT64_MAX;
    *l_r = l;
    return 0;
}

void leader_close(struct leader **lp)
{
    struct leader *l = *lp;
    *lp = NULL;
    if (!l)
        return;
    for (struct batch *b = l->batches, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    cmap_unref(l->map);
    free(l->dead);
    free(l->lost);
    free(l->want);
    free(l->notes);
    free(l);
}

void leader_on_change(struct leader *l, void (*changed)(void *arg), void *arg)
{
    l->changed = changed;
    l->changed_arg = arg;
}

uint32_t leader_members_hash(const struct map_shard *s)
{
    return (uint32_t)cmap_hash(slice_of(s->members, s->members_n * sizeof *s->members), MEMBERS_SEED);
}

/* ---- the office */

static void lead(struct leader *l, bool leading)
{
    if (l->leading == leading)
        return;
    l->leading = leading;
    l->since_us = clock_boot_us(l->clock);
    l->look_us = leading ? 0 : UINT64_MAX;
    if (leading)
        log_info("leader.elected", "node=%s rev=%lld", l->cfg.node, (long long)l->office_rev);
    else
        log_info("leader.left", "node=%s", l->cfg.node);
}

/* Live nodes before us by name: they stand first. */
static uint64_t stagger_us(const struct leader *l)
{
    uint64_t before = 0;
    for (uint32_t i = 0; i < l->map->nodes_n && strcmp(l->map->nodes[i].name, l->cfg.node) < 0; i++)
        before += l->map->nodes[i].live;
    return (before < STAGGERS_MAX ? before : STAGGERS_MAX) * STAGGER_US;
}

static void office_look(struct leader *l)
{
    bool ours = l->map && strcmp(l->map->leader, l->cfg.node) == 0;
    bool holds = ours && l->lease && l->office_lease == l->lease && l->map->leader_mod_rev == l->office_rev;
    bool open = l->map && l->lease && !holds && (ours || !l->map->leader[0]);
    lead(l, holds);
    if (!open)
        l->campaign_us = UINT64_MAX;
    else if (l->campaign_us == UINT64_MAX)
        l->campaign_us = clock_boot_us(l->clock) + (ours ? 0 : stagger_us(l));
}

static void on_campaign(void *arg, int res, bool succeeded, int64_t rev)
{
    struct leader *l = arg;
    l->campaigning = false;
    l->campaign_us = clock_boot_us(l->clock) + l->cfg.period_us;
    if (res == 0 && succeeded)
        l->office_rev = rev;
    if (l->changed)
        l->changed(l->changed_arg);
}

static void campaign(struct leader *l)
{
    char *value = cmap_leader_encode(l->cfg.node, &l->cfg.self);
    if (!value)
        return;
    struct slice key = SLICE_LIT("leader");
    struct coord_cmp cmp = {key, l->map->leader_mod_rev};
    struct coord_op op = {.kind = COORD_PUT, .key = key, .value = slice_str(value), .lease = l->lease};
    l->office_lease = l->lease;
    l->office_rev = 0;
    l->campaigning = l->coord->ops->txn(l->coord, &cmp, 1, &op, 1, on_campaign, l) == 0;
    l->campaign_us = clock_boot_us(l->clock) + l->cfg.period_us;
    free(value);
}

void leader_lease(struct leader *l, int64_t lease)
{
    if (l->lease == lease)
        return;
    l->lease = lease;
    office_look(l);
}

/* ---- what comes in */

void leader_map(struct leader *l, const struct cmap *map)
{
    if (leader_plan_map(l, map) < 0) {
        log_error("leader.no_memory", "shards=%u remedy=\"more memory; this node does not lead\"", map->shards_n);
        lead(l, false);
        return;
    }
    office_look(l);
    if (l->leading)
        l->look_us = 0;
}

void leader_report(struct leader *l, uint32_t shard, uint64_t epoch, uint32_t members_hash, uint32_t synced)
{
    if (!l->map || shard >= l->map->shards_n)
        return;
    struct shard_note *n = &l->notes[shard];
    if (n->report_epoch == epoch && n->report_hash == members_hash && n->report_synced == synced)
        return;
    n->report_epoch = epoch;
    n->report_hash = members_hash;
    n->report_synced = synced;
    uint64_t soon = clock_boot_us(l->clock) + REPORT_WAIT_US;
    if (l->leading && soon < l->look_us)
        l->look_us = soon;
}

void leader_tick(struct leader *l)
{
    uint64_t now = clock_boot_us(l->clock);
    if (!l->campaigning && now >= l->campaign_us)
        campaign(l);
    if (!l->leading || now < l->look_us)
        return;
    l->look_us = now + l->cfg.period_us;
    if (leader_plan_now(l, now) == 0)
        leader_work(l, now);
}

uint64_t leader_next_us(const struct leader *l)
{
    uint64_t next = l->leading ? l->look_us : UINT64_MAX;
    if (!l->campaigning && l->campaign_us < next)
        next = l->campaign_us;
    return next;
}

void leader_info(const struct leader *l, struct leader_info *info_r)
{
    *info_r = (struct leader_info){.leading = l->leading, .since_us = l->since_us};
    if (!l->leading)
        return;
    info_r->moves_planned = l->moves_planned;
    info_r->moves_under_way = l->moves_under_way;
    info_r->shards_ownerless = l->shards_ownerless;
    info_r->copies_short = (uint32_t)l->stat.copies_short;
}
