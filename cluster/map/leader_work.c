/* leader_work.c - changes of shards on their way to coordination: up to BATCH_MAX in a txn, several txns at once.
 *
 * Who takes a shard from the dead also compares that live/NAME of its owner is not there: an owner whose lease is back
 * since we read the map has confirmed the shard for itself and delivers.
 *
 * A txn fails as a whole when one shard changed meanwhile; the next ones are then half as large, down to one shard, and
 * grow again with each success.  A shard whose change is decided waits for a map that shows it; one whose change has an
 * unknown outcome waits, too: repeating it compares the same revision, so it can do no harm. */
#include <stdio.h>
#include <stdlib.h>

#include "cluster/map/leader_impl.h"
#include "spool/base/err.h"
#include "spool/base/log.h"

#define BATCHES_MAX 8

/* A report of fewer members holds for those when others joined behind them. */
static bool report_fits(const struct map_shard *s, const struct shard_note *n)
{
    struct map_shard first = {.members_n = s->members_n};
    memcpy(first.members, s->members, sizeof first.members);
    if (!n->report_synced || n->report_epoch != s->epoch)
        return false;
    for (; first.members_n; first.members_n--)
        if (leader_members_hash(&first) == n->report_hash)
            return true;
    return false;
}

struct step_input leader_input(const struct leader *l, uint32_t i)
{
    const struct map_shard *s = &l->map->shards[i];
    bool fits = report_fits(s, &l->notes[i]);
    return (struct step_input){l->map, s, &l->want[i], fits ? l->notes[i].report_synced : 0};
}

/* ---- answers */

static void batch_end(struct leader *l, struct batch *b)
{
    struct batch **at = &l->batches;
    while (*at != b)
        at = &(*at)->next;
    *at = b->next;
    l->batches_n--;
    free(b);
}

static void shard_settle(struct leader *l, const struct batch *b, uint32_t i, int res, bool succeeded, int64_t rev)
{
    struct shard_note *n = &l->notes[b->shards[i]];
    n->busy = false;
    n->hold_rev = res == 0 ? rev : INT64_MAX;
    n->hold_until_us = clock_boot_us(l->clock) + (res == 0 && succeeded ? 5 : 1) * l->cfg.period_us;
    if (res < 0 || !succeeded)
        return;
    n->joining |= b->steps[i] == STEP_JOIN;
}

static void step_say(const struct leader *l, const struct batch *b, enum leader_step step)
{
    char key[CMAP_KEY_MAX] = "";
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        if (b->steps[i] != step)
            continue;
        if (n++ == 0 && b->layout == l->layout)
            cmap_shard_key(l->map, &l->map->shards[b->shards[i]], key);
    }
    if (n == 0)
        return;
    enum log_level level = step == STEP_START_ANEW  ? LOG_LEVEL_ERROR
                           : step == STEP_FALL_BACK ? LOG_LEVEL_WARNING
                                                    : LOG_LEVEL_INFO;
    log_at(level, "leader.changed", "shards=%u first=%s what=\"%s\"", n, key, leader_step_text(step));
}

static void on_batch(void *arg, int res, bool succeeded, int64_t rev)
{
    struct batch *b = arg;
    struct leader *l = b->l;
    bool done = res == 0 && succeeded;
    for (uint32_t i = 0; b->layout == l->layout && i < b->n; i++)
        shard_settle(l, b, i, res, succeeded, rev);
    for (int step = STEP_NONE + 1; done && step < STEPS_N; step++)
        step_say(l, b, (enum leader_step)step);
    if (done)
        l->batch_max = l->batch_max * 2 < BATCH_MAX ? l->batch_max * 2 : BATCH_MAX;
    else if (res == 0)
        l->batch_max = l->batch_max > 1 ? l->batch_max / 2 : 1;
    batch_end(l, b);
    if (l->leading)
        l->look_us = 0;
    if (l->changed)
        l->changed(l->changed_arg);
}

/* ---- sending */

struct send {
    struct coord_cmp cmps[COORD_TXN_OPS_MAX];
    struct coord_op ops[BATCH_MAX];
    char keys[BATCH_MAX][CMAP_KEY_MAX];
    char *values[BATCH_MAX];
    char dead[DEAD_MAX][CMAP_KEY_MAX]; /* keys that must not be there */
    uint32_t dead_n;
    struct batch *batch; /* being filled; NULL: none */
};

static void send_flush(struct leader *l, struct send *s)
{
    struct batch *b = s->batch;
    uint32_t dead_n = s->dead_n;
    s->batch = NULL;
    s->dead_n = 0;
    if (!b)
        return;
    s->cmps[b->n] = (struct coord_cmp){SLICE_LIT("leader"), l->office_rev};
    for (uint32_t i = 0; i < dead_n; i++)
        s->cmps[b->n + 1 + i] = (struct coord_cmp){slice_str(s->dead[i]), 0};
    b->next = l->batches;
    l->batches = b;
    l->batches_n++;
    int res = l->coord->ops->txn(l->coord, s->cmps, b->n + 1 + dead_n, s->ops, b->n, on_batch, b);
    for (uint32_t i = 0; i < b->n; i++)
        free(s->values[i]);
    if (res == 0)
        return;
    for (uint32_t i = 0; i < b->n; i++)
        shard_settle(l, b, i, res, false, 0);
    batch_end(l, b);
}

static bool batch_ready(struct leader *l, struct send *s)
{
    if (s->batch)
        return true;
    if (l->batches_n >= BATCHES_MAX)
        return false;
    s->batch = calloc(1, sizeof *s->batch);
    if (!s->batch)
        return false;
    s->batch->l = l;
    s->batch->layout = l->layout;
    return true;
}

/* The owner of the shard is dead, and must be so still when the txn is done. */
static void send_dead(struct leader *l, struct send *s, uint32_t shard)
{
    char key[CMAP_KEY_MAX];
    const struct map_node *owner = cmap_storage(l->map, &l->map->shards[shard].owner);
    if (!owner || owner->live)
        return;
    snprintf(key, sizeof key, "live/%s", owner->name);
    for (uint32_t i = 0; i < s->dead_n; i++)
        if (strcmp(s->dead[i], key) == 0)
            return;
    if (s->dead_n == DEAD_MAX)
        send_flush(l, s);
    memcpy(s->dead[s->dead_n++], key, sizeof key);
}

static void send_add(struct leader *l, struct send *s, uint32_t shard, const struct map_shard *after,
                     enum leader_step step)
{
    char *value = cmap_shard_encode(after);
    send_dead(l, s, shard);
    if (!value || !batch_ready(l, s)) {
        free(value);
        return;
    }
    uint32_t at = s->batch->n++;
    struct slice key = slice_of(s->keys[at], cmap_shard_key(l->map, after, s->keys[at]));
    s->values[at] = value;
    s->cmps[at] = (struct coord_cmp){key, after->mod_rev};
    s->ops[at] = (struct coord_op){.kind = COORD_PUT, .key = key, .value = slice_str(value)};
    s->batch->shards[at] = shard;
    s->batch->steps[at] = step;
    l->notes[shard].busy = true;
    if (after->epoch != l->map->shards[shard].epoch)
        l->notes[shard].our_epoch = after->epoch;
    if (s->batch->n >= l->batch_max)
        send_flush(l, s);
}

/* ---- looking */

static bool held(const struct leader *l, const struct shard_note *n, uint64_t now)
{
    return n->busy || (l->map->rev < n->hold_rev && now < n->hold_until_us);
}

/* Counts, so that the bound on moves is known before the first is started. */
static void count(struct leader *l)
{
    l->moves_planned = l->moves_under_way = l->shards_ownerless = 0;
    for (uint32_t i = 0; i < l->map->shards_n; i++) {
        struct step_input in = leader_input(l, i);
        bool owned = leader_step_owned(&in);
        if (l->notes[i].joining && leader_step_synced(&in))
            l->notes[i].joining = false;
        l->shards_ownerless += !owned;
        l->moves_planned += !leader_step_settled(&in);
        l->moves_under_way += owned && (l->notes[i].joining || leader_step_under_way(&in));
    }
}

static void shard_look(struct leader *l, struct send *s, uint32_t i, bool urgent, uint64_t now)
{
    struct map_shard after;
    struct step_input in = leader_input(l, i);
    if (held(l, &l->notes[i], now) || leader_step_owned(&in) == urgent)
        return;
    enum leader_step step = leader_step(&in, &after);
    if (step == STEP_NONE)
        return;
    if (leader_step_starts(step) && !l->notes[i].joining && !leader_step_under_way(&in)) {
        if (l->moves_under_way >= l->cfg.changes)
            return;
        l->moves_under_way++;
    }
    send_add(l, s, i, &after, step);
}

/* Shards without a live owner first. */
void leader_work(struct leader *l, uint64_t now_us)
{
    struct send *s = calloc(1, sizeof *s);
    if (!s)
        return;
    uint32_t ownerless = l->shards_ownerless;
    count(l);
    if (l->shards_ownerless != ownerless)
        log_info("leader.ownerless", "shards=%u", l->shards_ownerless);
    for (int urgent = 1; urgent >= 0; urgent--)
        for (uint32_t i = 0; i < l->map->shards_n; i++)
            shard_look(l, s, i, urgent, now_us);
    send_flush(l, s);
    free(s);
}
