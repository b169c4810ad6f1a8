/* depot_house.c - a storage made of the product's log, index and queue on a simulated disk (tests/sim/house.h): the
 * doors of spool/door_copy.c and door_out.c without their threads.
 *
 * The disk has a clock of its own, which waits inside recovery and reclaim; each turn brings it up to the world's.
 *
 *   house_storage.c  the storage door      house_outlet.c  the outlet door */
#include "spool/queue/queue_impl.h"
#include "tests/csim/house_impl.h"
#include "tests/csim/simnode.h"

#define SEGMENT_BYTES (256u * 1024)

uint32_t house_domain(const struct house_depot *d, struct slice name)
{
    for (uint32_t i = 0; i < WORLD_DOMAINS; i++)
        if (slice_eq(name, world_domain(house_world(d), i)))
            return i;
    return UINT32_MAX;
}

void house_disk_follow(struct house_depot *d)
{
    uint64_t disk = clock_boot_us(simdisk_clock(d->disk)), now = house_world(d)->now_us;
    if (disk < now)
        simdisk_sleep(d->disk, now - disk);
}

void house_wake(struct house_depot *d, uint64_t at_us)
{
    simnode_wake(house_world(d)->nodes[house_world(d)->stores[d->depot.number].node], at_us);
}

static bool note_newest(void *arg, const struct queue_entry *e)
{
    struct house_depot *d = arg;
    d->storage.ops->observe(&d->storage, e->arrival_us);
    return true;
}

static bool any_from(void *depot, const struct msgid *from)
{
    return queue_any_from(((struct house_depot *)depot)->h.q, from);
}

static int house_depot_boot(struct depot *dp, const struct depot_env *env)
{
    struct house_depot *d = of(dp);
    assert(!d->running);
    d->env = *env;
    d->h.clock = env->clock;
    d->running = true;
    d->dying = false;
    d->hot = (1u << WORLD_DOMAINS) - 1;
    house_disk_follow(d);
    int res = house_boot(&d->h);
    if (res != 0) {
        history_fail("s%u does not open: %d", dp->number, res);
        return res;
    }
    d->fresh = fresh_new(any_from, d);
    assert(d->fresh);
    dp->outlet = house_outlet_open(d);
    dp->storage = &d->storage;
    queue_list(d->h.q, (struct slice){0}, (struct slice){0}, note_newest, d, NULL, NULL);
    return 0;
}

static enum depot_has has_now(struct house_depot *d, const struct letter *l)
{
    switch (queue_known(d->h.q, &l->id)) {
    case QUEUE_LIVE:
        return queue_is_whole(d->h.q, &l->id, l->chunks) ? DEPOT_LIVE : DEPOT_NONE;
    case QUEUE_TOMB:
        return DEPOT_FINAL;
    default:
        return DEPOT_NONE;
    }
}

static void house_depot_crash(struct depot *dp, bool power)
{
    struct house_depot *d = of(dp);
    if (!d->dying) {
        for (uint32_t i = 0; i < house_world(d)->letters.n; i++)
            d->has[i] = (uint8_t)has_now(d, &house_world(d)->letters.all[i]);
        d->dying = true;
        simdisk_crash(d->disk, power ? SIMDISK_POWER : SIMDISK_KILL);
        house_drop(&d->h);
    }
    while (d->answers)
        house_answers_tell(d);
    d->running = false;
    fresh_free(&d->fresh);
    d->tap = NULL;
    dp->arrival_us = 0;
}

static enum depot_has house_depot_has(struct depot *dp, const struct letter *l)
{
    struct house_depot *d = of(dp);
    return d->running && d->h.q ? has_now(d, l) : (enum depot_has)d->has[l->number];
}

static bool house_depot_over(struct depot *dp, const struct letter *l)
{
    struct house_depot *d = of(dp);
    const struct hold *h = d->running && d->h.q ? hold_find(d->h.q, &l->id) : NULL;
    return h && h->over;
}

static bool house_depot_damage(struct depot *dp, const struct letter *l)
{
    (void)dp;
    (void)l;
    return false;
}

static void house_depot_slow(struct depot *dp, uint64_t us)
{
    simdisk_slow(of(dp)->disk, us);
}

static void house_depot_full(struct depot *dp, bool full)
{
    of(dp)->full = full;
}

static uint64_t house_depot_next(struct depot *dp)
{
    struct house_depot *d = of(dp);
    uint64_t next = seglog_next_us(d->h.log), landing = simdisk_next_us(d->disk);
    next = landing < next ? landing : next;
    return d->answers || (!house_idle(&d->h) && next == UINT64_MAX) ? house_world(d)->now_us : next;
}

static void house_depot_destroy(struct depot **dp)
{
    struct house_depot *d = of(*dp);
    house_destroy(&d->h);
    simdisk_close(&d->disk);
    free(d);
    *dp = NULL;
}

static const struct depot_ops depot_ops = {
    .boot = house_depot_boot,
    .crash = house_depot_crash,
    .has = house_depot_has,
    .over = house_depot_over,
    .damage = house_depot_damage,
    .damaged = house_depot_damage,
    .slow = house_depot_slow,
    .full = house_depot_full,
    .next_us = house_depot_next,
    .destroy = house_depot_destroy,
};

static void configure(struct house_depot *d)
{
    struct seglog_config *c = &d->h.log_config;
    c->segment_bytes = SEGMENT_BYTES;
    c->spare_segments = (uint32_t)rng_below(&d->rng, 2);
    c->reserve_segments = 1;
    c->group_bytes = (uint32_t)(32u * 1024 << rng_below(&d->rng, 3));
    c->inflight_groups = (uint32_t)between(&d->rng, 1, 4);
    d->h.queue_config.flush_bytes = 16384 << rng_below(&d->rng, 8);
    d->h.queue_config.compact_live_pct = (uint32_t)between(&d->rng, 20, 90);
    d->h.queue_config.tomb_min_us = between(&d->rng, 30, 600) * SECOND_US;
    d->h.lag_percent = chance(&d->rng, 50) ? 0 : (uint32_t)rng_below(&d->rng, 60);
    d->h.ready = house_ready;
    d->h.changed = house_changed;
    d->h.arg = d;
}

struct depot *depot_house_open(struct world *w, uint32_t number, const struct storage_id *id)
{
    struct house_depot *d = calloc(1, sizeof *d);
    assert(d);
    d->depot = (struct depot){.ops = &depot_ops, .w = w, .number = number};
    d->storage = (struct storage){&house_storage_ops, -1};
    d->id = *id;
    d->answers_tail = &d->answers;
    rng_seed(&d->rng, rng_u64(&w->rng));
    simdisk_open(&d->disk, rng_u64(&w->rng), CAPACITY_BYTES);
    house_init(&d->h, NULL, d->disk, &d->rng);
    configure(d);
    return &d->depot;
}
